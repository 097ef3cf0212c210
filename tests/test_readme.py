"""Everything that README and presets name exists. check-repro checks that README shows the committed figures."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ffdi.params.reading import read_params
from ffdi.tails.augment_operations import resolve_augment

HERE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def readme() -> str:
    return (HERE / "README.md").read_text(encoding="utf-8")


def test_linked_files_exist(readme: str) -> None:
    for target in re.findall(r"\]\(((?!http)[^)#]+)", readme):
        assert (HERE / target).exists(), target


@pytest.mark.parametrize("preset", sorted((HERE / "presets").glob("*.yaml")), ids=lambda file: file.stem)
def test_presets_are_valid_params(preset: Path) -> None:
    params = read_params(preset)
    for name in params.recipes:
        resolve_augment(params.recipe(name).augment)
        params.backbone(params.recipe(name).backbone)
