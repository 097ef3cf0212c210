"""The page: self-contained, escaped, the same bytes twice, and clear about random prefixes and leaks."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import Tiny, Trained, make_tiny
from results_on_disk import page_of, results_of, write_results

from ffdi.errors import InputError
from ffdi.evaluation.attributes import COLUMNS
from ffdi.evaluation.report import render_page
from ffdi.evaluation.results import read_results, results_table, times_table
from ffdi.evaluation.verdict import verdict
from ffdi.evaluation.wrong_images import heat_maps, most_wrong_images
from ffdi.files import write_json
from ffdi.intake.auditing.findings import CHECKS
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.tables import write_table

EVIL = "<script>alert(1)</script>"


@pytest.fixture
def metrics(tmp_path: Path, tiny: Tiny, trained: Trained) -> Path:
    return write_results(tmp_path, tiny, trained, {"plain": False, "good": True})


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


def test_a_check_that_was_not_run_does_not_pass(metrics: Path, tiny: Tiny) -> None:
    page = page_of(metrics, tiny, ["good"], unchecked={CHECKS[4]: "audit.use_embedding is off"})
    assert page.count("not run: audit.use_embedding is off") == 1
    audit = json.loads((metrics / "details" / "audit.json").read_text())
    del audit[CHECKS[3]]
    audit |= {f"probe_nearest_neighbour_auc{end}": None for end in ("", "_low", "_high")}
    audit["probe_nearest_neighbour_auc_reason"] = "undefined: off"
    write_json(metrics / "details" / "audit.json", audit)
    page = page_of(metrics, tiny, ["good"])
    assert "not run: undefined: off" in page and page.count("not run: this audit is of an older version") == 1


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


def test_a_crop_is_called_after_its_video(metrics: Path, tiny: Tiny) -> None:
    place = {
        "source": "a/b.mp4",
        "video": "a/b.mp4",
        "frame": "7",
        "seconds": "0.280",
        "track": "1",
        "box": "",
        "score": "",
    }
    crops = tiny.rows.assign(**{f"attr_{name}": value for name, value in place.items()})
    results = results_of(metrics, ["good"])
    assert set(most_wrong_images(results, crops)["name"]) == {"a/b.mp4, 0.280 s, person 1"}
    photos = crops.assign(attr_source="c.jpg", attr_video="")
    assert set(most_wrong_images(results, photos)["name"]) == {"c.jpg"}
    plain = most_wrong_images(results, tiny.rows)
    assert list(plain["name"]) == list(plain["path"])


def test_heat_maps_come_from_the_cache_or_say_why_not(metrics: Path, tiny: Tiny, trained: Trained) -> None:
    worst = most_wrong_images(results_of(metrics, ["good"]), tiny.rows)
    heat = heat_maps(trained.model, trained.features, worst)
    assert set(heat.maps) == set(worst["image_id"]) and heat.missing_reason == ""
    assert all(m.shape == (2, 2) and 0 <= m.min() <= m.max() <= 1 for m in heat.maps.values())
    page = page_of(metrics, tiny, ["good"], heat=heat)
    assert page.count("places that support") == len(worst)
    none = heat_maps(metrics / "absent", trained.features, worst)
    assert none.maps == {} and "`dvc repro train@NAME` writes" in none.missing_reason
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


def test_the_page_says_what_each_network_sees(metrics: Path, tiny: Tiny, trained: Trained) -> None:
    models = metrics.parent / "models"
    shutil.copytree(trained.model, models / "good")
    results = read_results(metrics, {"good": "tiny", "plain": "tiny"}, metrics.parent / "data", models)
    assert results.pixels == {"good": "64 x 64 pixels (squash, bilinear), mean 0.5, std 0.5"}
    page = render_page(results, tiny.rows, ImageSource(tiny.root), findings=None)
    assert page.count(f'<td class="text">{results.pixels["good"]}</td>') == 1
    bundle = models / "good" / "bundle.json"
    record = json.loads(bundle.read_text())
    write_json(bundle, record | {"recipe": record["recipe"] | {"tta": ["hflip", "crop-0.9"]}})
    seen = read_results(metrics, {"good": "tiny"}, metrics.parent / "data", models).pixels["good"]
    assert seen.endswith("std 0.5; the mean with hflip, crop-0.9")


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
    assert "or to a model that is no longer here: plain." in page
    assert "random weights" not in page
