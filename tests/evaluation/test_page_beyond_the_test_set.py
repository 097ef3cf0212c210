"""The page's sections on what carries over: what they show, in which order, and that older metrics need none of it."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest
from beyond_the_test_set import (
    EVIL,
    add_ensemble,
    add_held_out,
    add_levels,
    add_long_attribute,
    add_policy,
    add_protocol,
    change,
    with_interval,
)
from conftest import Tiny, Trained
from results_on_disk import page_of, results_of, write_results

from ffdi.evaluation.attributes import COLUMNS, MOST_VALUES
from ffdi.evaluation.page_data import attribute_tables, held_out
from ffdi.evaluation.verdict import caveats, verdict
from ffdi.intake.tables import write_table


@pytest.fixture
def metrics(tmp_path: Path, tiny: Tiny, trained: Trained) -> Path:
    return write_results(tmp_path, tiny, trained, {"plain": False, "good": True})


def section(page: str, name: str) -> str:
    found = re.search(rf'<h2 id="{name}">(.*?)(?=<h2 |</main>)', page, re.S)
    assert found, name
    return found[1]


def words(html: str) -> str:
    return " ".join(re.sub(r"<[^>]*>", " ", html).split())


def test_without_any_of_it_the_page_says_how_to_measure(metrics: Path, tiny: Tiny) -> None:
    page = page_of(metrics, tiny, ["good", "plain"])
    assert "split.method: leave_one_out" in section(page, "held-out")
    assert (
        "harder than random" not in page
        and "Ensembles" not in page
        and "Refit on" not in page
        and "On perturbed images" not in page
    )
    assert not [line for line in caveats(results_of(metrics, ["good", "plain"])) if "Trained without" in line]


def test_held_out_values_come_worst_first_with_their_matrix(metrics: Path, tiny: Tiny) -> None:
    add_held_out(metrics, "good")
    found = held_out(results_of(metrics, ["good", "plain"]))
    assert list(found) == ["good"]
    assert [row["without"] for row in found["good"]["values"]] == ["swap+blend", EVIL, "gan"]
    assert found["good"]["columns"] == ["swap", "blend", EVIL, "gan"]
    own = {row["without"]: [cell["own"] for cell in row["cells"]] for row in found["good"]["matrix"]}
    assert own == {"swap+blend": [1, 1, 0, 0], EVIL: [0, 0, 1, 0], "gan": [0, 0, 0, 1]}
    part = section(page_of(metrics, tiny, ["good", "plain"]), "held-out")
    assert "good swap+blend 0.550 0.450 – 0.700 0.725 0.600 – 0.800" in words(part)
    assert part.count('class="own"') == 4 and EVIL not in part and "&lt;b&gt;evil" in part


def test_harder_folds_are_compared_with_random_ones(metrics: Path, tiny: Tiny) -> None:
    add_protocol(metrics, "good")
    add_protocol(metrics, "gone")
    page = page_of(metrics, tiny, ["good", "plain"])
    assert "good clustered 5 384 0.780 0.840 +0.060 +0.030 to +0.090" in words(section(page, "held-out"))
    assert results_of(metrics, ["good", "plain"]).leftovers == ["protocol/gone"]
    assert any(
        line.startswith("Random folds of the same images flatter") for line in caveats(results_of(metrics, ["good"]))
    )
    add_protocol(metrics, "good", harder_by=0.01)  # and its interval holds 0
    assert not any(line.startswith("Random folds") for line in caveats(results_of(metrics, ["good"])))


def test_levels_say_where_they_act_and_whether_they_were_seen(metrics: Path, tiny: Tiny) -> None:
    add_levels(metrics, "good")
    part = section(page_of(metrics, tiny, ["good", "plain"]), "robustness")
    text = words(part)
    assert "0.711 0.700 – 0.800 0.612 0.500 – 0.700 fog-3 0.600 0.500 – 0.700" in text
    assert "jpeg-50@square square 0.750 0.700 – 0.900 0.700 – jpeg" in text and "fog-3 file 0.600" in text
    assert "JPEG quality (file)" in part and "JPEG quality (square)" in part  # a panel each


def test_a_policy_shows_its_rate_and_its_band(metrics: Path, tiny: Tiny) -> None:
    add_policy(metrics, "good")
    text = words(section(page_of(metrics, tiny, ["good", "plain"]), "threshold"))
    assert "good fpr at most 0.05" in text
    assert "0.050 0.020 – 0.080 0.140 0.090 – 0.200" in text
    assert "good 0.312 – 0.664 0.744 0.710 0.050 0.049 – 0.091 0.060 – 0.130" in text
    assert "28 images are between 0.312 and 0.664, undecided" in text


def test_an_ensemble_leads_the_board_and_names_its_members(metrics: Path, tiny: Tiny) -> None:
    add_ensemble(metrics, "both", {"good": 0.75, "plain": 0.25}, like="good")
    page = page_of(metrics, tiny, ["good", "plain", "both"])
    assert results_of(metrics, ["good", "plain", "both"]).best_name == "both"
    joined = "both, which joins good and plain on ImageNet-pretrained prefixes, tells fake from real"
    assert verdict(results_of(metrics, ["good", "plain", "both"])).startswith(joined)
    board = words(section(page, "recipes"))
    assert "both fitted good 0.750" in board and "plain 0.250" in board


def test_a_refit_tail_stands_beside_the_folds(metrics: Path, tiny: Tiny) -> None:
    figures = with_interval("refit_minus_folds_auc", -0.012, -0.03, 0.006)
    cost = {"flops_per_image": 2 * 10**9, "flops_per_image_of_folds": 3 * 10**9}
    change(
        metrics,
        "good",
        refit=True,
        refit_epochs=4,
        auc=0.9,
        folds_auc=0.912,
        ece=0.05,
        folds_ece=0.08,
        **figures,
        **cost,
    )
    part = words(page_of(metrics, tiny, ["good", "plain"]))
    assert "good 4 0.900 0.912 −0.012 −0.030 to +0.006 0.050 0.080 2 G 3 G" in part


def test_differences_on_perturbed_images_have_a_table_of_their_own(metrics: Path, tiny: Tiny) -> None:
    file = metrics.parent / "data" / "comparisons.csv"
    old = pd.read_csv(file)
    robust = old.assign(figure="robust_auc", difference=0.0816, verdict="good is better")
    write_table(file, pd.concat([old.assign(figure="auc", verdict="good is better"), robust]))
    part = section(page_of(metrics, tiny, ["good", "plain"]), "differences")
    assert part.index("On perturbed images") < part.index("+0.082") and part.count("<table>") == 2
    write_table(
        file,
        pd.concat([old.assign(figure="auc", verdict="good is better"), robust.assign(verdict="no difference shown")]),
    )
    assert not any("which of them leads" in line for line in caveats(results_of(metrics, ["good", "plain"])))


def test_an_attribute_of_many_values_is_folded_whole_and_worst_first(metrics: Path, tiny: Tiny) -> None:
    few = {"attribute": "light", "reals": 0, "fakes": 2, "against": "all reals"} | dict.fromkeys(COLUMNS[5:], 0.5)
    table = pd.DataFrame([few | {"value": f"v{n}", "auc": 0.9 - n / 100} for n in range(MOST_VALUES)])
    write_table(metrics / "plots" / "good" / "test" / "attributes.csv", table[COLUMNS])
    add_long_attribute(metrics, "good")
    short, long = attribute_tables(results_of(metrics, ["good"]), "good")
    assert [r["value"] for r in short["rows"]] == [f"v{n}" for n in range(MOST_VALUES)] and not short["long"]
    aucs = [r["auc"] for r in long["rows"]]
    assert long["name"] == "method" and len(aucs) == 40 and aucs == sorted(aucs)
    part = section(page_of(metrics, tiny, ["good"]), "attributes")
    assert "method: 40 values, the worst first" in part and part.count('<table class="sorts">') == 1
