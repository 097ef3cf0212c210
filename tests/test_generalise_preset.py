"""presets/generalise.yaml: the demo under the protocols that ask what carries over, each of them in use."""

from __future__ import annotations

from pathlib import Path

from ffdi.features.views import as_written, resolve_policy
from ffdi.params.reading import read_params
from ffdi.tails.policy_settings import Abstain

PRESET = Path(__file__).parents[1] / "presets" / "generalise.yaml"
PARAMS = read_params(PRESET)


def test_every_protocol_is_in_use() -> None:
    assert (PARAMS.split.method, PARAMS.split.by) == ("leave_one_out", "attr_forgery")
    late_cut = PARAMS.recipe("late_cut")
    assert late_cut.tta == ("hflip",) and late_cut.threshold.rule == "fpr" and isinstance(late_cut.abstain, Abstain)
    assert {name: asked.backbone for name, asked in PARAMS.protocol.items()} == {"late_cut": late_cut.backbone}
    assert {"late_cut", "hardened"} <= set(PARAMS.evaluate.robustness.recipes)


def test_what_hardens_is_a_level_that_is_judged() -> None:
    (mix,) = [o for o in resolve_policy(PARAMS.backbone("hardened").views.policy) if o["name"] == "mix"]
    assert (mix["strength"], as_written([mix])[0]["mix"]["at"]) == (3, "file")
    assert {f"mix-{strength}" for strength in range(1, 6)} <= set(PARAMS.evaluate.robustness.levels)
    plain, hard = PARAMS.recipe("late_cut"), PARAMS.recipe("hardened")
    assert (plain.head, plain.epochs, plain.lr) == (hard.head, hard.epochs, hard.lr)  # the views alone differ
