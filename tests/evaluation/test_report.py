"""The page: self-contained, escaped, the same bytes twice, and clear about random prefixes and leaks."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Tiny, Trained, make_tiny

from ffdi.bootstrap import Bootstrap
from ffdi.errors import InputError
from ffdi.evaluation.attributes import COLUMNS
from ffdi.evaluation.compare import compare, read_scores
from ffdi.evaluation.cost import cost
from ffdi.evaluation.evaluate import Evaluation, evaluate_scores_by_fold
from ffdi.evaluation.ladder import RUNGS
from ffdi.evaluation.report import render_page
from ffdi.evaluation.results import Results, read_results, results_table, times_table
from ffdi.evaluation.verdict import caveats, verdict
from ffdi.evaluation.wrong_images import heat_maps, most_wrong_images
from ffdi.features.store import FeatureStore
from ffdi.features.views import parse_level
from ffdi.files import write_json
from ffdi.intake.auditing.findings import CHECKS
from ffdi.intake.auditing.shortcuts import PROBES
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.tables import write_table
from ffdi.tails.bundle import load_bundle

EVIL = "<script>alert(1)</script>"


def write_results(
    folder: Path,
    tiny: Tiny,
    trained: Trained,
    recipes: dict[str, bool],
    *,
    leaks: int = 0,
    levels: tuple[str, ...] = (),
) -> Path:
    """metrics/ and data/ as the stages write them for recipes (name -> pretrained); scores are drawn from a seed."""
    metrics = folder / "metrics"
    test = tiny.rows[tiny.rows["role"] == "test"]
    labels, bundle = test["label"].to_numpy(), load_bundle(trained.model)
    spec, sweep = (
        FeatureStore(trained.features).spec,
        [[level, *parse_level(level)[:2], 0.6, 0.5, 0.7, 0.6] for level in levels],
    )
    for number, (name, pretrained) in enumerate(recipes.items()):
        rng = np.random.default_rng(number)
        by_fold = {f: np.clip(0.4 + 0.2 * labels + rng.normal(0, 0.2, len(labels)), 0, 1) for f in (0, 1)}
        facts = dict(bundle.facts)
        facts["provenance"] = facts["provenance"] | {"pretrained": pretrained, "weights": "file:w.safetensors"}
        judged = evaluate_scores_by_fold(replace(bundle, facts=facts), test, by_fold, bootstrap=Bootstrap(200))
        columns = ["level", "kind", "strength", "auc", "auc_low", "auc_high", "accuracy"]
        plots = {**judged.plots, "robustness": pd.DataFrame(sweep if number == 0 else [], columns=columns)}
        Evaluation(judged.metrics, plots).write_plots(metrics / "plots" / name / "test")
        write_json(metrics / "details" / f"{name}.json", judged.metrics | cost(bundle, spec))
        history = pd.DataFrame({"fold": [0, 0, 1, 1], "epoch": [0, 1, 0, 1], "val_auc": [0.6, 0.7, 0.55, 0.65]})
        write_table(metrics / "plots" / name / "train" / "history.csv", history)
    pairs = compare(*read_scores(metrics / "plots", list(recipes), tiny.folds), bootstrap=Bootstrap(200))
    write_table(folder / "data" / "comparisons.csv", pairs)
    audit: dict[str, Any] = {"leaks": leaks, "images": 48, "fakes": 24, "groups": 12} | dict.fromkeys(CHECKS, 0)
    audit[CHECKS[0]] = leaks
    audit |= {"source_overlap": 0, "source_overlap_test_share": 0.0}
    audit |= {"images_with_group": 48, "groups_of_one": 0, "images_dropped": 0}
    for probe in PROBES:
        audit |= {f"probe_{probe}_auc{end}": 0.5 for end in ("", "_low", "_high")}
    write_json(metrics / "details" / "audit.json", audit)
    figures = (
        "reported_auc",
        "true_auc",
        "true_auc_low",
        "true_auc_high",
        "gap_auc",
        "gap_auc_low",
        "gap_auc_high",
        "reported_accuracy",
        "true_accuracy",
    )
    ladder = {f"rung_{n}_{key}": 0.5 for n in range(len(RUNGS)) for key in figures}
    ladder |= {"folds": 2, "seeds": 1, "n_test": len(test)}
    ladder |= {f"rung_{n}_name": rung.name for n, rung in enumerate(RUNGS)}
    write_json(metrics / "details" / "ladder.json", ladder)
    return metrics


def results_of(metrics: Path, recipes: Iterable[str]) -> Results:
    return read_results(metrics, dict.fromkeys(recipes, "tiny"), metrics.parent / "data")


@pytest.fixture
def metrics(tmp_path: Path, tiny: Tiny, trained: Trained) -> Path:
    return write_results(tmp_path, tiny, trained, {"plain": False, "good": True})


def page_of(metrics: Path, tiny: Tiny, recipes: Iterable[str], findings: Path | None = None, **more: Any) -> str:
    return render_page(results_of(metrics, recipes), tiny.rows, ImageSource(tiny.root), findings=findings, **more)


def test_page_asks_no_host_and_repeats(metrics: Path, tiny: Tiny) -> None:
    page = page_of(metrics, tiny, ["plain", "good"])
    bare = re.sub(r'xmlns(:\w+)?="[^"]*"|<metadata>.*?</metadata>', "", page, flags=re.S)
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", bare.replace("xlink:href", "href"))
    assert page == page_of(metrics, tiny, ["plain", "good"])


def test_ids_are_of_one_element_each(metrics: Path, tiny: Tiny) -> None:
    ids = re.findall(r'\bid="([^"]+)"', page_of(metrics, tiny, ["plain", "good"]))
    repeated = {i for i in ids if ids.count(i) > 1}
    assert not repeated


def test_every_colour_is_one_of_the_page(metrics: Path, tiny: Tiny) -> None:
    """A figure must be readable on white and on black: its colours are variables, never fixed ones."""
    page = page_of(metrics, tiny, ["plain", "good"])
    drawings = re.findall(r"<svg.*?</svg>", page, flags=re.S)
    assert len(drawings) >= 8
    assert not {c for d in drawings for c in re.findall(r"(?:fill|stroke): ?(#\w+)", d)} - {"#ffffff"}


def test_random_prefixes_are_marked_and_ranked_last(metrics: Path, tiny: Tiny) -> None:
    results = results_of(metrics, ["plain", "good"])
    assert [name for name, _ in results.ranked] == ["good", "plain"]
    better = {name: dict(m) | {"pretrained": True, "auc": 0.9} for name, m in results.recipes.items()}
    better["plain"] |= {"auc": 0.6, "val_auc_mean": 0.99}
    assert [name for name, _ in replace(results, recipes=better).ranked] == ["plain", "good"]  # not by the test set
    assert verdict(results).startswith("good, on an ImageNet-pretrained prefix")
    assert re.search(r'<tr class="random">\s*<td>.*?plain</td>', page_of(metrics, tiny, ["plain", "good"]))
    assert "*random prefix" in results_table(results).splitlines()[3]


def test_a_leak_is_the_verdict(tmp_path: Path, tiny: Tiny, trained: Trained) -> None:
    metrics = write_results(tmp_path, tiny, trained, {"good": True}, leaks=3)
    assert "3 leaks: no figure here can be trusted" in verdict(results_of(metrics, ["good"]))
    assert "audit failed: 3 leaks" in page_of(metrics, tiny, ["good"])


def test_the_catch_is_said(tmp_path: Path, tiny: Tiny, trained: Trained) -> None:
    """Each caveat where it holds, and gone where it does not; how many are wrong is always said."""
    metrics = write_results(tmp_path, tiny, trained, {"good": True, "same": True}, levels=("jpeg-30", "blur-2"))
    results = results_of(metrics, ["good", "same"])
    best = dict(results.recipes["good"]) | {"auc": 0.9, "auc_low": 0.8, "auc_high": 0.95, "val_auc_mean": 0.7}
    best |= {"accuracy": 0.9, "ece": 0.2, "ece_if_calibrated": 0.1, "val_auc_std": 0.03}
    found = " ".join(caveats(replace(results, recipes={"good": best, "same": dict(best) | {"auc": 0.8}})))
    for said in (
        f"{best['n_groups']} groups",
        "On the folds its AUC is lower, 0.700 ± 0.030",
        "No difference is shown between good and same",
        "off by 0.200 on average (ECE; good ones are below 0.100)",
        "false-alarm rate of 1 % and 0.1 %",
        "AUC 0.600 at blur-2",
        "accuracy falls from 0.900 to 0.600 at blur-2",
        "not judged on any other data set",
    ):
        assert said in found
    for key in ("tpr_at_fpr_1e_2", "tpr_at_fpr_1e_3"):
        best[key] = 0.5
    sure = dict(best) | {"n_groups": 500, "ece": 0.01, "ece_if_calibrated": 0.02, "accuracy": 0.62}
    sure |= {"auc": 0.62, "auc_low": 0.6, "auc_high": 0.64, "val_auc_mean": 0.61}
    away = dict(sure) | {"recipe": "good", "tested_on": "wild", "auc": 0.55, "auc_low": 0.5}
    calm = replace(results, recipes={"good": sure}, pairs=results.pairs.assign(verdict="good is better"), cross=[away])
    wrong = pd.read_csv(metrics / "plots" / "good" / "test" / "confusion.csv").value_counts(["actual", "predicted"])
    assert caveats(calm) == [
        f"At its threshold it calls {wrong.get(('real', 'fake'), 0)} of 6 real test images fake, and "
        f"{wrong.get(('fake', 'real'), 0)} of 6 fakes real.",
        "On other data its AUC is 0.550 (0.500 to 0.640) on wild.",
    ]
    at_home = replace(calm, cross=[away | {"tested_on": away["trained_on"]}])
    assert caveats(at_home)[-1] == "It was not judged on any other data set."
    audit = dict(results.audit) | {"probe_thumbnail_auc_low": 0.7, "source_overlap": 4}
    warned = caveats(replace(calm, audit=audit))
    assert ["thumbnail alone" in warned[1], warned[2].startswith("4 forgeries")] == [True, True]
    blind = replace(calm, audit=dict(results.audit) | {"images_with_group": 0, "images_dropped": 3})
    assert caveats(blind)[0].startswith("No image has a group of its own") and "3 images" in caveats(blind)[1]
    assert verdict(blind).endswith("the audit found no leak of copies, and without groups it could find no other.")
    few = dict(sure) | {"ece": 0.1, "ece_if_calibrated": 0.15, "val_auc_mean": 0.7}
    said = " ".join(caveats(replace(calm, recipes={"good": few})))
    assert "too few to judge its calibration: ECE 0.100, good ones reach 0.150" in said
    assert "On the folds its AUC is higher, 0.700" in said


def test_labels_that_are_most_likely_turned_round_come_first(metrics: Path, tiny: Tiny) -> None:
    results = results_of(metrics, ["plain", "good"])
    low: dict[str, Any] = {"auc": 0.2, "auc_low": 0.1, "auc_high": 0.3}
    turned = replace(results, recipes=dict(results.recipes) | {"good": dict(results.recipes["good"]) | low})
    assert "the whole interval lies below .5: labels are most likely turned round" in verdict(turned)
    assert caveats(turned)[0].startswith("good: AUC 0.200 [0.100, 0.300] on the test set: the whole interval")
    away = {"recipe": "good", "trained_on": "here", "tested_on": "wild", **low, "accuracy": 0.3, "n_test": 9}
    there = replace(results, cross=[away | {"n_groups": 3}])
    assert caveats(there)[0].startswith("good: AUC 0.200 [0.100, 0.300] on wild: the whole interval")
    page = render_page(there, tiny.rows, ImageSource(tiny.root), findings=None)
    assert "on wild: the whole interval lies below .5" in page


def test_a_check_that_was_not_run_does_not_pass(metrics: Path, tiny: Tiny) -> None:
    page = page_of(metrics, tiny, ["good"], unchecked={CHECKS[4]: "audit.use_embedding is off"})
    assert page.count("not run: audit.use_embedding is off") == 1
    audit = json.loads((metrics / "details" / "audit.json").read_text())
    audit |= {f"probe_nearest_neighbour_auc{end}": None for end in ("", "_low", "_high")}
    audit["probe_nearest_neighbour_auc_reason"] = "undefined: off"
    write_json(metrics / "details" / "audit.json", audit)
    assert "not run: undefined: off" in page_of(metrics, tiny, ["good"])


def test_the_most_wrong_come_first(metrics: Path, tiny: Tiny) -> None:
    """Wrong is what lies on the wrong side of the recipe's own threshold: by how far orders them."""
    results = results_of(metrics, ["good"])
    threshold = results.recipes["good"]["threshold"]
    assert isinstance(threshold, float)
    worst = most_wrong_images(results, tiny.rows)
    wrong = (worst["label"] != worst["called"]).to_numpy()
    assert 0 < wrong.sum() < len(wrong) and not wrong[wrong.sum() :].any()
    apart = (worst["score"] - threshold).abs().to_numpy()
    assert (np.diff(apart[wrong]) <= 0).all() and (np.diff(apart[~wrong]) >= 0).all()


def test_heat_maps_come_from_the_cache_or_say_why_not(metrics: Path, tiny: Tiny, trained: Trained) -> None:
    worst = most_wrong_images(results_of(metrics, ["good"]), tiny.rows)
    heat = heat_maps(trained.model, trained.features, worst)
    assert set(heat.maps) == set(worst["image_id"]) and heat.missing_reason == ""
    assert all(m.shape == (2, 2) and 0 <= m.min() <= m.max() <= 1 for m in heat.maps.values())
    page = page_of(metrics, tiny, ["good"], heat=heat)
    assert page.count("what spoke for") == len(worst)
    none = heat_maps(metrics / "absent", trained.features, worst)
    assert none.maps == {} and "run the train stage first" in none.missing_reason
    assert "There are no heat maps: its model and features are not here" in page_of(metrics, tiny, ["good"], heat=none)


def test_other_data_make_a_matrix(metrics: Path, tiny: Tiny) -> None:
    home = json.loads((metrics / "details" / "good.json").read_text())
    away = home | {
        "recipe": "good",
        "tested_on": "<b>wild",
        "n_seen": 2,
        "auc": 0.512,
        "auc_low": 0.5,
        "auc_high": 0.53,
    }
    write_json(metrics / "cross" / "good-on-wild.json", away)
    page = page_of(metrics, tiny, ["good", "plain"])
    matrix = re.search(r'<h2 id="cross">.*?</table>', page, re.S)
    assert matrix and "&lt;b&gt;wild" in matrix[0] and "0.512" in matrix[0]
    assert f"<b>{home['auc']:.3f}</b>" in matrix[0] and "plain" not in matrix[0]
    models = metrics.parent / "models"
    write_json(models / "good" / "bundle.json", {"facts_sha256": "new", "provenance": {"data": home["trained_on"]}})
    stale = read_results(metrics, {"good": "tiny"}, metrics.parent / "data", models)
    assert not stale.cross and stale.leftovers == ["plain", "cross/good-on-wild"]
    (metrics / "gone.json").write_text("{}")  # its headline alone is left
    assert read_results(metrics, {"good": "tiny"}, metrics.parent / "data", models).leftovers[0] == "gone"
    write_json(models / "good" / "bundle.json", {"facts_sha256": "new", "provenance": {"data": "elsewhere"}})
    assert len(read_results(metrics, {"good": "tiny"}, metrics.parent / "data", models).cross) == 1
    (metrics / "cross" / "other.json").write_text("{}")
    with pytest.raises(InputError, match=r"other\.json: has no accuracy"):
        page_of(metrics, tiny, ["good"])


def test_an_attribute_may_be_called_na(metrics: Path, tiny: Tiny) -> None:
    row = {"attribute": "maker", "value": "NA", "reals": 1, "fakes": 1, "against": "", "auc": 0.625}
    row |= dict.fromkeys(COLUMNS[6:])
    for value in ("NA", "01"):
        write_table(metrics / "plots" / "good" / "test" / "attributes.csv", pd.DataFrame([row | {"value": value}]))
        page = page_of(metrics, tiny, ["good"])
        assert f'<td>maker</td><td class="text">{value}</td><td>1</td><td>1</td><td>0.625</td><td>–</td>' in page


def test_times_stand_beside_the_page_where_they_were_measured(metrics: Path, tiny: Tiny) -> None:
    before = page_of(metrics, tiny, ["good", "plain"])
    timings = metrics.parent / "data" / "timings"
    write_json(timings / "extract-tiny.json", {"seconds": 9.0, "work": 5.0, "computed": 1000})
    write_json(timings / "train-good.json", {"seconds": 240.0})
    assert page_of(metrics, tiny, ["good", "plain"]) == before  # the same bytes at every run
    table = times_table(results_of(metrics, ["good", "plain"]))
    assert "| good | 5 ms | – | 4 min |\n| plain | 5 ms | – | – |" in table


def test_text_from_data_is_escaped(tmp_path: Path, trained: Trained) -> None:
    tiny = make_tiny(tmp_path / "data")
    metrics = write_results(tmp_path, tiny, trained, {"good": True}, leaks=1)
    findings = tmp_path / "findings.csv"
    findings.write_text(f"check,path_a,path_b,detail\n{CHECKS[0]},{EVIL},b.jpg,x\n")
    path = tiny.rows.loc[tiny.rows["role"] == "test", "path"].iloc[0]
    (tiny.root / path).rename(tiny.root / "a<b>&.jpg")
    tiny.rows["path"] = tiny.rows["path"].replace(path, "a<b>&.jpg")
    page = page_of(metrics, tiny, ["good"], findings, params_text=f"root: {EVIL}")
    assert EVIL not in page
    assert page.count("&lt;script&gt;alert(1)") == 2
    assert "a<b>" not in page and "a&lt;b&gt;&amp;.jpg" in page


def test_removed_recipes_are_named_not_shown(metrics: Path, tiny: Tiny) -> None:
    page = page_of(metrics, tiny, ["good"])
    assert "or of a model that is here no more: plain." in page
    assert "random weights" not in page


def test_missing_metrics_name_the_stage(metrics: Path) -> None:
    with pytest.raises(InputError, match=r"absent\.json: missing: run the stage"):
        results_of(metrics, ["absent"])
