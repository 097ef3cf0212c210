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


def commands_of_use_it() -> list[str]:
    """The commands of README's section "Use it"; tests/test_pipeline.py runs them."""
    block = re.search(r"<!-- use -->\n```\n(.+?)```", (HERE / "README.md").read_text(encoding="utf-8"), re.S)
    assert block
    return block[1].splitlines()


def test_the_commands_of_use_it_are_of_the_kinds_that_it_promises() -> None:
    commands = [" ".join(command.split()[:2]) for command in commands_of_use_it()[1:]]
    assert commands == ["ffdi predict", "ffdi explain", "ffdi export", "ffdi export", "ffdi app"]


def test_linked_files_exist(readme: str) -> None:
    for target in re.findall(r"\]\(((?!http)[^)#]+)", readme):
        assert (HERE / target).exists(), target


@pytest.mark.parametrize("preset", sorted((HERE / "presets").glob("*.yaml")), ids=lambda file: file.stem)
def test_presets_are_valid_params(preset: Path) -> None:
    params = read_params(preset)
    for name in params.recipes:
        resolve_augment(params.recipe(name).augment)
        params.backbone(params.recipe(name).backbone)
