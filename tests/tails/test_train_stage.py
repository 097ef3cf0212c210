"""Stage train as DVC runs it: killed and run again, without test rows, and with features larger than memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
import pytest
from conftest import Tiny, Trained

from ffdi.intake.tables import write_table

pytestmark = pytest.mark.slow
STAGE = Path(__file__).parents[2] / "stages" / "train.py"
PARAMS = """
data: {{root: {root}}}
backbones:
  tiny: {{network: "torchvision:mobilenet_v2", weights: random, cut: features.16, image_size: 64, views: {{count: 1, policy: seeds}},
          mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5], runtime: torch}}
recipes:
  tiny: {{backbone: tiny, epochs: 3, batch_size: 12, ema: 0.9, head: {{kind: mlp, hidden: [16], dropout: 0.2}}}}
split: {{embedding: tiny}}
ladder: {{recipe: tiny, backbone: tiny}}
train: {{memory_gb: {memory_gb}}}
"""


def contents(*folders: Path) -> dict[str, bytes]:
    """Every file's bytes, but times and locks."""
    return {
        f"{folder.name}/{p.relative_to(folder)}": p.read_bytes()
        for folder in folders
        for p in folder.rglob("*")
        if p.is_file()
    }


class Stage:
    environment: Mapping[str, str] = {}

    def __init__(self, folder: Path, tiny: Tiny, trained: Trained, weights: Path, memory_gb: float = 1) -> None:
        self.model, self.plots = folder / "models" / "tiny", folder / "plots"
        folder.mkdir(exist_ok=True)
        params = folder / "params.yaml"
        params.write_text(PARAMS.format(root=tiny.root, memory_gb=memory_gb))
        self.images = folder / "images.csv"
        write_table(self.images, tiny.images)
        self.command = [sys.executable, str(STAGE), "--params", str(params), "--recipe", "tiny"]
        self.command += ["--images", str(self.images), "--folds", str(tiny.folds_file)]
        self.command += ["--features", str(trained.features), "--weights", str(weights)]
        self.command += ["--out", str(self.model), "--plots", str(self.plots)]
        self.command += ["--timings", str(folder / "timings")]

    def run(self) -> str:
        done = self.start()
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stderr

    def start(self) -> subprocess.CompletedProcess[str]:
        command = ["python", *self.command[1:]]
        return subprocess.run(command, env=self.environment, capture_output=True, text=True)

    def run_and_kill(self, at: str) -> None:
        """SIGKILL as soon as the line that begins with `at` is seen."""
        with subprocess.Popen(self.command, stderr=subprocess.PIPE, text=True) as started:
            assert started.stderr is not None
            for line in started.stderr:
                if at in line:
                    started.kill()
                    return
        pytest.fail(f"the stage ended before it said {at!r}")

    @property
    def made(self) -> dict[str, bytes]:
        return contents(self.model, self.plots)


@pytest.fixture(scope="module", autouse=True)
def _start_stages_in_warm_python(warm_environment: dict[str, str]) -> None:
    Stage.environment = os.environ | warm_environment


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, tiny: Tiny, trained: Trained, weights: Path) -> Stage:
    made = Stage(tmp_path_factory.mktemp("whole"), tiny, trained, weights)
    made.run()
    return made


def test_a_finished_bundle_has_no_checkpoints(whole: Stage) -> None:
    tensors = ("prefix", "index", *(f"fold-{f}" for f in range(3)))
    files = {"bundle.json", "oof.csv", "seen.csv", *(f"{name}.safetensors" for name in tensors)}
    assert {f.name for f in whole.model.iterdir()} == files


def test_it_says_a_line_an_epoch_with_the_time_left(whole: Stage) -> None:
    lines = [line for line in whole.run().splitlines() if "fold" in line and "epoch" in line and "loss" in line]
    assert len(lines) == 9
    assert all("train AUC" in line and "val AUC" in line and line.endswith("left") for line in lines)
    history = pd.read_csv(whole.plots / "history.csv")
    assert history[["fold", "epoch"]].to_numpy().tolist() == [[f, e] for f in range(3) for e in range(3)]
    curve = pd.read_csv(whole.plots / "live" / "plots" / "metrics" / "fold-2" / "val_auc.tsv", sep="\t")
    assert curve["val_auc"].tolist() == pytest.approx(history[history["fold"] == 2]["val_auc"].tolist())


@pytest.mark.parametrize(
    "at",
    ["fold 1 epoch 1", *(pytest.param(at, marks=pytest.mark.long) for at in ("fold 0 epoch 0", "fold 2 epoch 2"))],
)
def test_a_killed_stage_goes_on_to_the_same_bytes(
    at: str, whole: Stage, tmp_path: Path, tiny: Tiny, trained: Trained, weights: Path
) -> None:
    broken = Stage(tmp_path / "broken", tiny, trained, weights)
    broken.run_and_kill(at)
    assert list(broken.model.glob("checkpoint-*")) and not (broken.model / "bundle.json").exists()
    broken.run()
    assert broken.made == whole.made


# Invariant 4: nothing is learned or chosen from test rows


def test_labels_of_test_rows_play_no_part(
    whole: Stage, tmp_path: Path, tiny: Tiny, trained: Trained, weights: Path
) -> None:
    blind = Stage(tmp_path / "blind", tiny, trained, weights)
    test = tiny.folds.set_index("image_id")["role"].loc[tiny.images["image_id"]].to_numpy() == "test"
    write_table(blind.images, tiny.images.assign(label=tiny.images["label"].where(~test, 1 - tiny.images["label"])))
    blind.run()
    assert blind.made == whole.made
    train = tiny.images["label"].where(test, 1 - tiny.images["label"])
    write_table(blind.images, tiny.images.assign(label=train))
    blind.run()
    assert blind.made != whole.made


def test_features_beyond_the_memory_are_streamed_and_said(
    whole: Stage, tmp_path: Path, tiny: Tiny, trained: Trained, weights: Path
) -> None:
    stage = Stage(tmp_path / "streamed", tiny, trained, weights, memory_gb=3e-5)
    assert "exceed train.memory_gb" in stage.run()
    streamed, kept = (json.loads((s.model / "bundle.json").read_text()) for s in (stage, whole))
    assert streamed["val_auc"].keys() == kept["val_auc"].keys()
    first = stage.made
    stage.run()
    assert stage.made == first


def test_synthesised_fakes_are_trained_on_and_never_validated(
    tiny: Tiny, trained: Trained, weights: Path, tmp_path: Path
) -> None:
    """The stages' own way: extract makes their features, train learns from them, the bundle's figures are without them."""
    stage = Stage(tmp_path / "with", tiny, trained, weights)
    params = tmp_path / "with" / "params.yaml"
    params.write_text(params.read_text().replace("root:", "synthesise: 2, root:"))
    features = tmp_path / "data" / "features" / "tiny"
    extract = ["python", str(STAGE.with_name("extract.py")), "--params", str(params), "--backbone", "tiny"]
    extract += ["--images", str(stage.images), "--folds", str(tiny.folds_file), "--weights", str(weights)]
    extract += ["--timings", str(tmp_path / "timings")]
    refused = stage.start()
    assert refused.returncode == 1 and "run extract again" in refused.stderr and "Traceback" not in refused.stderr
    subprocess.run([*extract, "--out", str(features)], env=stage.environment, check=True, capture_output=True)
    stage.command[stage.command.index("--features") + 1] = str(features)
    stage.run()
    bundle = json.loads((stage.model / "bundle.json").read_text())
    train = tiny.rows[tiny.rows["role"] == "train"]
    assert bundle["provenance"]["synthesised"] == 2 * int((train["label"] == 0).sum())
    assert bundle["prior"] == train["label"].mean()
    oof = (stage.model / "oof.csv").read_text().splitlines()[1:]
    assert sorted(line.split(",")[0] for line in oof) == sorted(train["image_id"])
    plain = Stage(tmp_path / "without", tiny, trained, weights)
    plain.run()
    assert plain.made["tiny/fold-0.safetensors"] != stage.made["tiny/fold-0.safetensors"]  # they were learned from
