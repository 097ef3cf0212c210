"""The mean and the worst over the levels, and which levels the recipe has seen in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from ffdi.bootstrap import Bootstrap
from ffdi.evaluation.robust_figures import (
    ALL_SEEN,
    AUC_COLUMNS,
    LEVEL_COLUMNS,
    operations_in_training,
    robust_aucs,
    robustness_metrics,
)
from ffdi.features.backbone import Backbone, Views
from ffdi.features.degradations import DEGRADATIONS, MIXED
from ffdi.features.levels import LEVELS, parse_level, seen_in_training
from ffdi.files import canonical_json
from ffdi.metrics import auc
from ffdi.tails.recipe import Head, Recipe

EVERY = {"jpeg": 50, "resize": 0.5, "webp": 50, "double_jpeg": 50, "crop": 0.75, "screenshot": 0.75}


def record(policy: Any = (), count: int = 1, **recipe: Any) -> dict[str, Any]:
    """bundle.json, as far as it says what the training saw; as JSON has it."""
    import json

    backbone = Backbone("b", "timm:test_vit", "random", "input", views=Views(count, policy))
    made = Recipe("r", "b", **recipe)
    entries = {"backbone": backbone.to_dict(), "recipe": made.to_dict(), "head": made.head.to_dict()}
    return dict(json.loads(canonical_json(entries)))


def seen(level: str, *args: Any, **recipe: Any) -> tuple[str, ...]:
    return seen_in_training(parse_level(level), operations_in_training([record(*args, **recipe)]))


@pytest.mark.parametrize("kind", LEVELS)
def test_a_level_that_was_trained_on_is_seen(kind: str) -> None:
    """In views or in `augment`, at any strength and place, under the name of the level's own operation."""
    level = f"{kind}-{EVERY.get(kind, 2)}"
    (operation,) = parse_level(level).operations
    name = operation["name"]
    for place in (level, f"{level}@file", f"{level}@square"):
        assert seen(place, (name,)) == seen(place, (), augment=(name,)) == (name,)
        assert seen(place, ("hflip", {name: {"at": "file", "p": 0.1}})) == (name,)
        assert seen(place, "light") == seen(place, (), augment=("hflip", "vflip")) == ()
        assert seen(place, ({name: {"p": 0.0}},)) == seen(place, (name,), 0) == ()  # never applied, no augmented view


@pytest.mark.parametrize("name", MIXED)
def test_a_mix_counts_its_parts_both_ways(name: str) -> None:
    assert seen("mix-1", (name,))
    kind = "resize" if name == "downscale" else name
    assert seen(f"{kind}-{EVERY.get(kind, 2)}", (), augment=({"mix": {"strength": 1}},)) == (name,)
    assert seen("mix-5", ({"mix": {"strength": 1}},)) == ("mix",)


def test_what_does_the_same_under_another_name_is_seen() -> None:
    assert seen("jpeg-50", ("double_jpeg",)) == ("jpeg",) == seen("double_jpeg-50", ("jpeg",))
    assert seen("crop-0.5", ("screenshot",)) == ("crop",)
    assert seen("brightness-0.5", "seeds") == ("brightness",) and seen("contrast-2", "seeds") == ("contrast",)
    assert seen("brightness-0.5", ("jitter",)) == ("brightness",)
    assert seen("tint-20", ("jitter",)) == () and seen("tint-20", ({"jitter": {"hue": 0.1}},)) == ("tint",)
    assert seen("brightness-2", (), augment=({"jitter": {"contrast": 0.5}},)) == ()  # `augment` has no other default
    assert seen("hflip", "light") == ("hflip",) and seen("hflip", ("noise",)) == ()


def test_an_ensemble_has_seen_what_any_of_its_members_has() -> None:
    trained = operations_in_training([record("light"), record((), augment=("webp",)), record(("blur",))])
    assert [seen_in_training(parse_level(level), trained) for level in ("webp-50", "blur-2", "noise-5")] == [
        ("webp",),
        ("blur",),
        (),
    ]


def test_a_fitted_head_sees_the_views_that_it_takes() -> None:
    head = Head("knn")
    assert seen("jpeg-50", ("jpeg",), head=head) == () and seen("jpeg-50", ("jpeg",), head=head, views="all") != ()


def sweep_of(aucs: dict[str, float], seen_at: str = "") -> pd.DataFrame:
    rows = [
        [
            (level := parse_level(name)).name,
            level.kind,
            level.strength,
            level.at,
            "jpeg" if name == seen_at else "",
            *[at] * 4,
        ]
        for name, at in aucs.items()
    ]
    return pd.DataFrame(rows, columns=[*LEVEL_COLUMNS, *AUC_COLUMNS])


@pytest.fixture
def judged() -> tuple[pd.DataFrame, dict[str, Any]]:
    rng = np.random.default_rng(0)
    labels = np.arange(120) % 2
    test = pd.DataFrame({"label": labels, "group": [f"g{i // 4}" for i in range(120)]})
    quality = {"jpeg-50": 2.0, "blur-2": 1.0, "mix-5": 0.3}
    return test, {name: labels * of + rng.normal(size=120) for name, of in quality.items()}


def test_the_mean_and_the_worst_by_hand(judged: Any) -> None:
    test, by_level = judged
    aucs = {level: auc(test["label"].to_numpy(), scores) for level, scores in by_level.items()}
    m = robust_aucs(test, by_level, sweep_of(aucs, "jpeg-50"), Bootstrap(400))
    assert m["robust_auc"] == pytest.approx(np.mean(list(aucs.values())))
    assert m["worst_auc"] == min(aucs.values()) == aucs["mix-5"] and m["worst_level"] == "mix-5"
    assert m["robust_unseen_auc"] == pytest.approx((aucs["blur-2"] + aucs["mix-5"]) / 2)
    assert (m["robust_levels"], m["robust_unseen_levels"]) == (3, 2)
    for key in ("robust_auc", "worst_auc", "robust_unseen_auc"):
        assert m[f"{key}_low"] < m[key] < m[f"{key}_high"]
    alone = robust_aucs(test, {"a": by_level["mix-5"]}, sweep_of({"mix-5": 0.5}), Bootstrap(400))
    assert alone["robust_auc_high"] - alone["robust_auc_low"] > m["robust_auc_high"] - m["robust_auc_low"]
    assert [alone[f"worst_auc{end}"] for end in ("", "_low", "_high")] == [
        alone[f"robust_auc{end}"] for end in ("", "_low", "_high")
    ]


def test_levels_share_their_draws_of_groups(judged: Any) -> None:
    """The same scores twice have the interval of once: draws of their own would halve the variance."""
    test, by_level = judged
    one = by_level["blur-2"]
    once, twice = (
        robust_aucs(test, dict.fromkeys(names, one), sweep_of(dict.fromkeys(names, 0.5)), Bootstrap(300))
        for names in (["blur-2"], ["blur-2", "noise-2"])
    )
    assert [once[f"robust_auc{end}"] for end in ("_low", "_high")] == pytest.approx(
        [twice[f"robust_auc{end}"] for end in ("_low", "_high")]
    )


def test_without_an_unseen_level_its_figure_is_null_with_a_reason(judged: Any) -> None:
    test, by_level = judged
    m = robust_aucs(test, {"jpeg-50": by_level["jpeg-50"]}, sweep_of({"jpeg-50": 0.9}, "jpeg-50"), Bootstrap(100))
    assert m["robust_unseen_auc"] is None and m["robust_unseen_auc_reason"] == ALL_SEEN and m["robust_auc"] is not None
    assert robust_aucs(test, {}, sweep_of({}), Bootstrap(100)) == {}


def test_one_class_has_no_worst_level(judged: Any) -> None:
    test, by_level = judged
    m = robust_aucs(test.assign(label=1), by_level, sweep_of(dict.fromkeys(by_level, 0.5)), Bootstrap(100))
    assert np.isnan(m["robust_auc"]) and np.isnan(m["worst_auc_low"]) and m["worst_level"] is None


def test_keys_name_the_place_and_what_was_seen() -> None:
    keys = robustness_metrics(sweep_of({"jpeg-50@square": 0.5, "jpeg-50@file": 0.5, "hflip": 0.5}, "jpeg-50@file"))
    assert {key.removesuffix("_seen") for key in keys if key.endswith("_seen")} == {
        "robustness_jpeg_50_at_square",
        "robustness_jpeg_50",
        "robustness_hflip",
    }
    assert keys["robustness_jpeg_50_seen"] is True and keys["robustness_jpeg_50_at_square_seen"] is False


def test_every_degradation_has_a_level() -> None:
    names = {parse_level(f"{kind}-{EVERY.get(kind, 2)}").operations[0]["name"] for kind in LEVELS}
    assert names == set(DEGRADATIONS)
