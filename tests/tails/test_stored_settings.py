"""How bundle.json stores a recipe: a setting that was added later changes no file that does without it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Annotated, Any, get_type_hints

import pytest

from ffdi.bounds import LATER
from ffdi.features.stored_settings import stored_settings
from ffdi.tails.recipe import Head, Recipe

# As the first bundles of format 4 have it
FIRST = {
    "name": "n",
    "backbone": "b",
    "head": {
        "kind": "mlp",
        "hidden": [512, 256],
        "dropout": 0.0,
        "depth": 2,
        "heads": 4,
        "width": 128,
        "drop_path": 0.0,
    },
    "folds": "all",
    "views": "sample",
    "epochs": 10,
    "patience": None,
    "batch_size": 64,
    "optimizer": {"name": "adam", "weight_decay": 0.0, "momentum": None},
    "lr": 1e-4,
    "schedule": {"name": "none", "size": 1, "gamma": 0.1, "warmup": 0},
    "l1": 0.0,
    "label_smoothing": 0.0,
    "class_weights": None,
    "clip_grad": None,
    "ema": None,
    "mix": {"mixup": 0.0, "cutmix": 0.0},
    "augment": [],
    "precision": "float32",
    "seed": 0,
}


@dataclass(frozen=True)
class _Inner:
    first: int = 1
    added: Annotated[int, LATER] = 0


@dataclass(frozen=True)
class _Outer:
    first: _Inner = _Inner()
    added: Annotated[_Inner, LATER] = _Inner()


@pytest.mark.parametrize(
    ("settings", "due"),
    [
        (_Outer(), {"first": {"first": 1}}),
        (_Outer(first=_Inner(added=2)), {"first": {"first": 1, "added": 2}}),
        (_Outer(added=_Inner(added=2)), {"first": {"first": 1}, "added": {"first": 1, "added": 2}}),
    ],
)
def test_what_was_added_later_is_stored_where_it_is_set(settings: _Outer, due: dict[str, Any]) -> None:
    assert stored_settings(settings) == due


def test_a_recipe_without_later_settings_keeps_its_bytes() -> None:
    assert json.dumps(Recipe("n", "b").to_dict()) == json.dumps(FIRST)  # the order, too
    assert json.dumps(Head().to_dict()) == json.dumps(FIRST["head"])


def test_every_later_setting_has_a_default_and_the_others_are_the_first_ones() -> None:
    def check(section: type, first: dict[str, Any]) -> None:
        hints = get_type_hints(section, include_extras=True)
        assert {f.name for f in fields(section) if LATER not in getattr(hints[f.name], "__metadata__", ())} == set(
            first
        )
        for field in fields(section):
            if is_dataclass(field.default) and field.name in first:
                check(type(field.default), first[field.name])

    check(Recipe, FIRST)


@pytest.mark.parametrize("head", [Head(), Head("linear", (), 0.5), Head("transformer", (3,), 0.1, 1, 2, 8, 0.1)])
def test_a_head_is_read_as_it_was_stored(head: Head) -> None:
    assert Head.from_dict(json.loads(json.dumps(head.to_dict()))) == head
    assert Head.from_dict(json.loads(json.dumps(asdict(head)))) == head  # with every field written, too


def test_a_field_that_no_head_has_is_refused() -> None:
    with pytest.raises(TypeError, match="unheard"):
        Head.from_dict({"kind": "mlp", "unheard": 1})
