"""docs/params.md: its table is generated from the declarations."""

import re
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Ge, Gt, Le, Lt
from conftest import HERE

from ffdi.evaluation.settings import Robustness
from ffdi.features.backbone import Views
from ffdi.features.levels import LEVELS
from ffdi.features.views import OPERATIONS, PRESETS
from ffdi.params.document import DOCUMENT, document, meanings, table, values
from ffdi.tails.augment_operations import OPTIONS
from ffdi.tails.recipe import Recipe


def test_the_table_is_that_of_the_declarations() -> None:
    text = (HERE / DOCUMENT).read_text(encoding="utf-8")
    assert document(text) == text, "run python -m ffdi.params.document"


def test_every_row_has_four_cells() -> None:
    """A | in a pattern would begin another one."""
    assert {len(re.split(r"(?<!\\)\|", row)) for row in table().splitlines()} == {6}
    assert r"easy\|mid" in table()


@pytest.mark.parametrize(
    ("hint", "words"),
    [
        (bool, "`true` or `false`"),
        (Annotated[int, Ge(1)] | None, "integer ≥ 1 or `null`"),
        (Annotated[float, Gt(0.0), Lt(1.0)], "number > 0 and < 1"),
        (Annotated[int, Ge(0), Le(32)], "integer 0 to 32"),
        (Literal["all"] | Annotated[int, Ge(1)], "`all` or integer ≥ 1"),
        (tuple[float, float, float], "3 numbers"),
        (tuple[Annotated[int, Ge(1)], ...], "list of integers ≥ 1"),
        (str | tuple[str | dict[str, Any], ...], "text or list of texts or mappings"),
        (dict[str, Annotated[int, Ge(0), Le(1)]], "mapping of names to integers 0 to 1"),
    ],
)
def test_types_in_words(hint: Any, words: str) -> None:
    assert values(hint) == words


def test_a_row_has_key_default_values_and_meaning() -> None:
    rows = table().splitlines()
    row = "| `recipes.NAME.head.hidden` | `[512, 256]` | list of integers ≥ 1 | Kind mlp: the widths of its hidden layers. |"
    assert row in rows
    assert sum(row.startswith("| `evaluate.cross.NAME.") for row in rows) == 1  # the others are those of `data`
    assert not any(row.startswith(("| `recipes.NAME.name`", "| `backbones.NAME.name`")) for row in rows)


@pytest.mark.parametrize(
    ("section", "key", "names"),
    [
        (Views, "policy", (*PRESETS, *OPERATIONS)),
        (Recipe, "augment", tuple(OPTIONS)),
        (Robustness, "levels", tuple(LEVELS)),
    ],
    ids=["policy", "augment", "levels"],
)
def test_a_meaning_names_every_choice_that_is_no_type(section: type, key: str, names: tuple[str, ...]) -> None:
    assert not [name for name in names if f"`{name}" not in meanings(section)[key]]
