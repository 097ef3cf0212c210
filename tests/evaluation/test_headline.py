"""The headline that DVC shows is short, and the details contain all of it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from ffdi.evaluation.headline import OF_RECIPE, of_ladder, of_pairs, of_recipe, write_metrics
from ffdi.metrics import Metrics

HERE = Path(__file__).parents[2]


def recipe_metrics(auc: float = 0.75) -> Metrics:
    """As evaluate writes them, in another order and with more than the headline."""
    figures: Metrics = dict.fromkeys(reversed(OF_RECIPE), auc)
    reason = "48 reals cannot resolve a false-positive rate of 0.01"
    figures |= {"tpr_at_fpr_1e_2": None, "tpr_at_fpr_1e_2_reason": reason, "n_test": 96, "pretrained": True}
    return figures | {"brier": 0.2, "fold_0_auc": 0.7, "robustness_jpeg_50_auc": 0.6}


def test_a_headline_has_these_keys_in_this_order(tmp_path: Path) -> None:
    metrics = recipe_metrics()
    write_metrics(metrics, tmp_path / "metrics" / "one.json", headline=of_recipe)
    short = json.loads((tmp_path / "metrics" / "one.json").read_text())
    assert " ".join(short) == (
        "auc auc_low auc_high accuracy balanced_accuracy ap tpr_at_fpr_1e_2 eer ece threshold val_auc_mean val_auc_std "
        "n_test pretrained"
    )
    details = json.loads((tmp_path / "metrics" / "details" / "one.json").read_text())
    assert details == metrics and short.items() <= details.items()
    assert short["tpr_at_fpr_1e_2"] is None and "48 reals" in details["tpr_at_fpr_1e_2_reason"]
    write_metrics(metrics, tmp_path / "here.json", tmp_path / "there.json", headline=of_recipe)
    assert json.loads((tmp_path / "there.json").read_text()) == details


def test_of_the_ladder_the_last_rung_and_of_pairs_one_figure() -> None:
    rungs = {
        f"rung_{n}_{key}": n / 10 for n in range(6) for key in ("reported_auc", "true_auc", "gap_auc", "gap_auc_low")
    }
    names: Metrics = {f"rung_{n}_name": f"mistake {n}" for n in range(6)}
    assert of_ladder({"folds": 2} | rungs | names) == {
        "rung_5_name": "mistake 5",
        "rung_5_reported_auc": 0.5,
        "rung_5_true_auc": 0.5,
        "rung_5_gap_auc": 0.5,
    }
    pair: Metrics = {"evaluations": 1, "one_on_wild_auc": 0.6, "one_on_wild_auc_low": 0.5, "one_on_wild_accuracy": 0.55}
    assert of_pairs(pair) == {"one_on_wild_auc": 0.6}
    assert of_pairs({"evaluations": 0}) == {}


def test_every_metrics_file_of_the_pipeline_has_its_details() -> None:
    """An output of the same stage, in git, and no metric of DVC's."""
    stages = YAML(typ="safe", pure=True).load((HERE / "dvc.yaml").read_text())["stages"]
    found = 0
    for stage in stages.values():
        stage = stage.get("do", stage)
        for metric in stage.get("metrics", []):
            ((file, options),) = metric.items()
            details = file.replace("metrics/", "metrics/details/")
            assert {details: {"cache": False}} in stage["outs"] and options == {"cache": False}, file
            command = " ".join(stage["cmd"].split()).replace("--metrics-out", "--out")  # the --out of fuse is a model
            assert f"--out {file} --details {details}" in command
            found += 1
    assert found == 7


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with figures as many and keys as long as the demo's, committed; then every figure of one recipe changes."""
    pytest.importorskip("dvc", reason="dvc is not installed")
    folder = tmp_path_factory.mktemp("repo")
    (folder / ".dvc").mkdir()
    for name in ("config", ".gitignore"):
        shutil.copy(HERE / ".dvc" / name, folder / ".dvc" / name)
    names = ["efficientnet_lite0", "late_cut", "mobilenet_v2", "wide_resnet50_2"]
    files = "".join(f"  - metrics/{name}.json\n" for name in [*names, "summary", "cross"])
    (folder / "dvc.yaml").write_text(f"metrics:\n{files}")

    def write(changed: float) -> None:
        auc = dict.fromkeys(names, 0.75) | {"efficientnet_lite0": changed}
        for name in names:
            write_metrics(recipe_metrics(auc[name]), folder / "metrics" / f"{name}.json", headline=of_recipe)
        pairs = {f"{a}_minus_{b}_auc": auc[a] - auc[b] for i, a in enumerate(names) for b in names[i + 1 :]}
        write_metrics(pairs, folder / "metrics" / "summary.json", headline=of_pairs)
        cross = {f"{name}_on_foreign_auc": auc[name] / 2 for name in names[:2]}
        write_metrics(cross, folder / "metrics" / "cross.json", headline=of_pairs)

    write(0.75)
    run(folder, "git", "init", "-q")
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=test", "-c", "user.email=test@example.org", "commit", "-q", "-m", "figures")
    write(0.81234567890123)
    return folder


def run(folder: Path, *command: str) -> str:
    environment = os.environ | {"DVC_GLOBAL_CONFIG_DIR": str(folder / "none"), "DVC_NO_ANALYTICS": "true"}
    done = subprocess.run(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout


def test_a_changed_recipe_fits_a_screen(repo: Path) -> None:
    lines = run(repo, sys.executable, "-m", "dvc", "metrics", "diff").splitlines()
    assert len(lines) <= 40 and max(map(len, lines)) <= 120
    changed = [line.split()[:2] for line in lines[1:]]
    assert [file for file, _ in changed].count("metrics/efficientnet_lite0.json") == 11  # of 14; three did not change
    assert [file for file, _ in changed].count("metrics/summary.json") == 3  # its pairs
    assert [file for file, _ in changed].count("metrics/cross.json") == 1


def test_details_are_not_shown(repo: Path) -> None:
    assert "brier" not in run(repo, sys.executable, "-m", "dvc", "metrics", "show")
