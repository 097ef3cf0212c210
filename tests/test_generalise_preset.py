"""presets/generalise.yaml: the demo under the protocols that ask what carries over, each of them in use."""

from __future__ import annotations

from pathlib import Path

import pytest
from project import Project
from ruamel.yaml import YAML

from ffdi.features.views import as_written, resolve_policy
from ffdi.params.reading import read_params
from ffdi.tails.policy_settings import Abstain

PRESET = Path(__file__).parents[1] / "presets" / "generalise.yaml"
PARAMS = read_params(PRESET)


def test_every_protocol_is_in_use() -> None:
    assert (PARAMS.split.method, PARAMS.split.by) == ("leave_one_out", "attr_forgery")
    late_cut = PARAMS.recipe("late_cut")
    assert (late_cut.tta, late_cut.calibration) == (("hflip",), "pair")
    assert late_cut.threshold.rule == "fpr" and isinstance(late_cut.abstain, Abstain)
    (stack,) = PARAMS.ensembles.values()
    assert (stack.weights, set(stack.recipes)) == ("fitted", set(PARAMS.recipes))
    assert {name: asked.backbone for name, asked in PARAMS.protocol.items()} == {"late_cut": late_cut.backbone}
    assert {"late_cut", "hardened", "stack"} == set(PARAMS.evaluate.robustness.recipes)


def test_what_hardens_is_a_level_that_is_judged() -> None:
    (mix,) = [o for o in resolve_policy(PARAMS.backbone("hardened").views.policy) if o["name"] == "mix"]
    assert (mix["strength"], as_written([mix])[0]["mix"]["at"]) == (3, "file")
    assert {f"mix-{strength}" for strength in range(1, 6)} <= set(PARAMS.evaluate.robustness.levels)
    plain, hard = PARAMS.recipe("late_cut"), PARAMS.recipe("hardened")
    assert (plain.head, plain.epochs, plain.lr) == (hard.head, hard.epochs, hard.lr)  # the views alone differ


@pytest.mark.slow
@pytest.mark.long
def test_the_preset_runs_from_pictures_to_the_report(tmp_path: Path, warm_environment: dict[str, str]) -> None:
    """The preset itself, but for fewer people, random weights, 64 pixels, one epoch and a rate that so few can resolve."""
    params = YAML(typ="safe", pure=True).load(PRESET.read_text())
    params["demo"]["identities"] = 36
    params["split"]["min_fakes"] = 8
    for backbone in params["backbones"].values():
        backbone |= {"weights": "random", "image_size": 64}
    for recipe in params["recipes"].values():
        recipe["epochs"] = 1
    params["recipes"]["late_cut"] |= {"threshold": {"rule": "fpr", "at": 0.4}, "abstain": {"error": 0.49}}
    params["ladder"]["epochs"] = 1
    params["evaluate"]["bootstrap"] = 100
    project = Project(tmp_path / "ffdi", params, warm_environment)
    project.run("git", "init", "-q")
    project.commit("start")
    project.run("dvc", "repro")
    late_cut, stack = project.metrics("late_cut"), project.metrics("stack")
    assert isinstance(late_cut["held_out_worst"], str) and late_cut["threshold_rule"] == "fpr"
    assert 0 <= float(str(late_cut["coverage"])) <= 1 and late_cut["robustness_mix_3_seen"] is False
    assert project.metrics("hardened")["robustness_mix_3_seen"] is True
    assert all(float(str(stack[f"weight_{name}"])) >= 0 for name in params["recipes"])
    assert isinstance(project.metrics("late_cut", "metrics/protocol")["harder_by"], float)
    page = (project.folder / "data" / "report" / "index.html").read_text(encoding="utf-8")
    assert "stack" in page and str(late_cut["held_out_worst"]) in page
