"""The section `ensembles` of params.yaml."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from params_files import changed

from ffdi.errors import ParamsError
from ffdi.params.reading import read_params


@pytest.mark.parametrize(
    ("name", "entry", "says"),
    [
        ("late_cut", {"recipes": ["late_cut", "mobilenet_v2"]}, "ensemble 'late_cut': is the name of a recipe"),
        ("ladder", {"recipes": ["late_cut", "mobilenet_v2"]}, "ensemble 'ladder': .* are no ensemble names"),
        ("e", {"recipes": ["late_cut"]}, r"ensembles\.e\.recipes: name two recipes or more"),
        ("e", {"recipes": ["late_cut", "late_cut"]}, r"ensembles\.e\.recipes: name two .* each once"),
        ("e", {"recipes": ["late_cut", "vgg"]}, r"ensembles\.e\.recipes: 'vgg' is not one of efficientnet_lite0"),
        ("e", {"recipes": ["late_cut", "wide_resnet50_2"], "weights": "fitted"}, "recipe wide_resnet50_2 trains one"),
        ("e", {"recipes": ["late_cut", "mobilenet_v2"], "threshold": {"at": 0.1}}, r"e\.threshold: at has no effect"),
        ("e", {"recipes": ["late_cut", "mobilenet_v2"], "name": "x"}, r"unknown key ensembles\.e\.name"),
    ],
)
def test_what_an_ensemble_may_not_be(tmp_path: Path, name: str, entry: dict[str, Any], says: str) -> None:
    with pytest.raises(ParamsError, match=says):
        read_params(changed(tmp_path, ensembles={name: entry}))


def test_an_ensemble_is_read_and_may_be_swept(tmp_path: Path) -> None:
    entry = {"recipes": ["late_cut", "mobilenet_v2"], "weights": "fitted", "abstain": {"error": 0.1}}
    sweep = {"evaluate.robustness.recipes": ["e"]}
    read = read_params(changed(tmp_path, ensembles={"e": entry}, **sweep)).ensemble("e")
    assert (read.name, read.recipes, read.weights) == ("e", ("late_cut", "mobilenet_v2"), "fitted")
    assert read.policy.abstain and read.policy.abstain.error == 0.1
