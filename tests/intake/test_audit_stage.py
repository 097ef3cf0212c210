"""The stage audit stops the pipeline on a leak and passes a clean set."""

import json
import runpy
from pathlib import Path

import pandas as pd
from click.testing import CliRunner, Result
from conftest import Tiny, make_tiny

from ffdi.evaluation.headline import OF_AUDIT
from ffdi.intake.tables import tables_digest, write_table

AUDIT = Path(__file__).parents[2] / "stages" / "audit.py"


PARAMS = """
data: {{root: {root}}}
split: {{embedding: b}}
audit: {{fail: {fail}, phash_bits: 2}}
evaluate: {{bootstrap: 100}}
backbones: {{b: {{network: "torchvision:mobilenet_v2", weights: random, cut: features.16}}}}
recipes: {{r: {{backbone: b}}}}
ladder: {{recipe: r, backbone: b}}
"""


def audit(folder: Path, data: Tiny, fail: str = "true") -> Result:
    """Run the stage on the tables of `folder`; its outputs go to folder/out."""
    (folder / "params.yaml").write_text(PARAMS.format(root=data.root, fail=fail))
    options = {
        "params": "params.yaml",
        "images": "images.csv",
        "folds": "folds.csv",
        "out": "out/audit.json",
        "findings": "out/findings.csv",
        "ok": "out/audit.ok",
    }
    command = runpy.run_path(str(AUDIT))["main"]
    return CliRunner().invoke(command, [word for k, v in options.items() for word in (f"--{k}", str(folder / v))])


def test_the_stage_passes_a_clean_set_and_stops_a_leak(tmp_path: Path) -> None:
    data = make_tiny(tmp_path, count=24, groups=8, folds=2, size=32)
    out = tmp_path / "out"
    done = audit(tmp_path, data)
    assert done.exit_code == 0, done.stderr
    metrics = json.loads((out / "details" / "audit.json").read_text())
    assert json.loads((out / "audit.json").read_text()) == {key: metrics[key] for key in OF_AUDIT}
    assert metrics["leaks"] == 0 and metrics["images"] == 24 and 0 <= metrics["probe_thumbnail_auc"] <= 1
    assert all(value is None or isinstance(value, int | float | str) for value in metrics.values())  # flat
    assert (out / "audit.ok").read_text() == tables_digest(data.images_file, data.folds_file)
    assert (out / "findings.csv").read_text() == "check,path_a,path_b,detail\n"

    folds = pd.read_csv(data.folds_file, dtype=str, keep_default_na=False)
    test, train = folds.index[folds["role"] == "test"][0], folds.index[folds["role"] == "train"][0]
    folds.loc[test, "group"] = folds["group"][train]  # one test image is of a person of the training set
    write_table(data.folds_file, folds)
    done = audit(tmp_path, data)
    assert done.exit_code == 1
    last = done.stderr.strip().splitlines()[-1]
    assert "1 leaks, the first: group_across_border" in last and str(out / "findings.csv") in last
    metrics = json.loads((out / "details" / "audit.json").read_text())
    assert (metrics["leaks"], metrics["group_across_border"]) == (1, 1)
    found = pd.read_csv(out / "findings.csv")
    paths = data.images.set_index("image_id")["path"][folds["image_id"][[test, train]]]
    assert list(found["check"]) == ["group_across_border"]
    assert {found["path_a"][0], found["path_b"][0]} & set(paths)
    assert not (out / "audit.ok").exists()  # the former one is gone

    done = audit(tmp_path, data, fail="false")  # on the user's own word
    assert done.exit_code == 0 and (out / "audit.ok").exists()


def test_the_stage_says_what_no_leak_is_worth_and_skips_dropped_images(tmp_path: Path) -> None:
    data = make_tiny(tmp_path, count=24, groups=8, folds=2, size=32)
    done = audit(tmp_path, data)
    assert done.stderr.strip().endswith(
        "0 leaks in 24 images and 8 groups; 24 images have a group of their own, 0 groups have one image"
    )
    write_table(data.images_file, data.images.assign(group=""))
    folds = pd.read_csv(data.folds_file, dtype=str, keep_default_na=False)
    folds.loc[0, ["role", "fold"]] = "dropped", ""
    write_table(data.folds_file, folds)
    done = audit(tmp_path, data)
    assert "0 leaks in 23 images and 8 groups; but no image has a group of its own" in done.stderr
    metrics = json.loads((tmp_path / "out" / "details" / "audit.json").read_text())
    assert (metrics["images"], metrics["images_dropped"], metrics["images_with_group"]) == (23, 1, 0)
    assert metrics["warnings"] >= 1


def test_the_stage_leaves_no_ok_when_tables_do_not_fit(tmp_path: Path, tiny: Tiny) -> None:
    (tmp_path / "images.csv").write_bytes(tiny.images_file.read_bytes())
    (tmp_path / "folds.csv").write_text("\n".join(tiny.folds_file.read_text().splitlines()[:-1]) + "\n")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "audit.ok").write_text("of a former run")
    done = audit(tmp_path, tiny)
    assert done.exit_code == 1 and "differ in 1 images" in done.stderr
    assert not list((tmp_path / "out").iterdir())
