"""The README shows what the committed run made: its table, and the two commands."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ffdi.evaluation.results import read_results, results_table, verdict
from ffdi.params import read_params

HERE = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def readme() -> str:
    return (HERE / "README.md").read_text(encoding="utf-8")


def test_results_table_is_that_of_the_committed_metrics(readme: str) -> None:
    results = read_results(HERE / "metrics", dict.fromkeys(read_params(HERE / "params.yaml").recipes, ""))
    shown = re.search(r"<!-- results -->\n(.*?)<!-- /results -->", readme, re.S)
    assert shown
    assert shown[1] == results_table(results)
    assert verdict(results) in " ".join(readme.split())


def test_linked_files_exist(readme: str) -> None:
    for target in re.findall(r"\]\(((?!http)[^)#]+)", readme):
        assert (HERE / target).exists(), target


@pytest.mark.parametrize("preset", sorted((HERE / "presets").glob("*.yaml")), ids=lambda file: file.stem)
def test_presets_are_valid_params(preset: Path) -> None:
    params = read_params(preset)
    for name in params.recipes:
        params.recipe(name).training()
        params.backbone(params.recipe(name).backbone)
