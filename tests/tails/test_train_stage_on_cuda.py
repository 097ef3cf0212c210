"""The stages train and evaluate where there is a GPU: what they say, and what a checkpoint and a bundle record of it."""

from __future__ import annotations

import json
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from conftest import HERE, Tiny, Trained
from fake_cuda import FakeCuda, faking

from ffdi.tails import checkpoint
from ffdi.tails import train as training_module


class Stages:
    """The train and evaluate stages on the tiny set, in this process; `keys` has the facts of each training's key."""

    def __init__(self, trained: Trained, tiny: Tiny, weights: Path, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.trained, self.tiny, self.weights, self.folder = trained, tiny, weights, folder
        self.keys: list[dict[str, Any]] = []
        true_key = checkpoint.training_key

        def key(facts: dict[str, Any]) -> str:
            self.keys.append(facts)
            return str(true_key(facts))

        patch.setattr(checkpoint, "training_key", key)

    def run(self, name: str, *, train: str = "{}") -> str:
        backbone = '{network: "torchvision:mobilenet_v2", weights: random, cut: features.16, image_size: 64}'
        (self.folder / "params.yaml").write_text(
            f"data: {{root: {self.tiny.root}}}\nbackbones: {{tiny: {backbone}}}\nsplit: {{embedding: tiny}}\n"
            "recipes: {tiny: {backbone: tiny, folds: 1, epochs: 1, head: {hidden: [4]}}}\ntrain: " + train + "\n"
            "ladder: {recipe: tiny, backbone: tiny}\nevaluate: {bootstrap: 100}\n"
        )
        paths = {
            "params": self.folder / "params.yaml",
            "images": self.tiny.images_file,
            "folds": self.tiny.folds_file,
            "features": self.trained.features,
            "timings": self.folder / "timings",
        }
        model = self.folder / "models/tiny"
        own = (
            {"weights": self.weights, "out": model}
            if name == "train"
            else {"model": model, "out": self.folder / "m.json"}
        )
        arguments = ["--recipe", "tiny", *(part for k, path in (paths | own).items() for part in (f"--{k}", str(path)))]
        result = CliRunner().invoke(runpy.run_path(str(HERE / f"stages/{name}.py"))["main"], arguments)
        assert result.exit_code == 0, result.output
        return result.output


@pytest.fixture
def stages(
    no_cuda: None, trained: Trained, tiny: Tiny, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stages]:
    threads = torch.get_num_threads()
    yield Stages(trained, tiny, weights, tmp_path, monkeypatch)
    torch.set_num_threads(threads)


def test_a_stage_says_its_device_and_its_checkpoints_are_of_that_gpu(stages: Stages) -> None:
    on_cpu = stages.run("train")
    bundle = (stages.folder / "models/tiny/bundle.json").read_bytes()
    assert "train tiny: cpu: " in on_cpu
    with faking():
        assert "train tiny: cuda: NVIDIA Fake, driver 570.86.15\n" in stages.run("train")
        assert "evaluate tiny: cuda: NVIDIA Fake, driver 570.86.15\n" in stages.run("evaluate")
    cpu, cuda = stages.keys
    assert set(cpu) == {"recipe", "train", "features", "images", "device"} and "deterministic" not in cpu["train"]
    assert cuda["machine"] == {"gpu": "NVIDIA Fake", "cuda": str(torch.version.cuda), "cudnn": "92600"}
    assert set(cuda) - set(cpu) == {"machine"}
    stages.run("train", train="{deterministic: false}")  # changes nothing on a CPU
    assert stages.keys[-1] == cpu and (stages.folder / "models/tiny/bundle.json").read_bytes() == bundle


def test_bytes_that_need_not_repeat_are_known_by_key_and_bundle(
    stages: Stages, fake_cuda: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[bool] = []
    true_epoch = training_module.train_epoch

    def epoch(*rest: Any) -> Any:
        seen.append(torch.are_deterministic_algorithms_enabled())
        return true_epoch(*rest)

    monkeypatch.setattr(training_module, "train_epoch", epoch)
    for switch, due in (("{}", None), ("{deterministic: false}", False)):
        stages.run("train", train=switch)
        facts = json.loads((stages.folder / "models/tiny/bundle.json").read_text())
        assert facts["provenance"].get("deterministic") is due and stages.keys[-1].get("deterministic") is due
        assert torch.are_deterministic_algorithms_enabled()
    assert seen == [True, False]
