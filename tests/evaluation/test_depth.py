"""A linear probe at every named cut: in one pass, out of fold, without a test image."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Tiny, tiny_backbone

from ffdi.bootstrap import Bootstrap
from ffdi.errors import FfdiError, InputError, ParamsError
from ffdi.evaluation import depth
from ffdi.evaluation.depth import fold_auc_interval, named_cuts, parts_of, probe_cuts, spread_cuts
from ffdi.features import compute
from ffdi.features.compute import compute_rows
from ffdi.features.cuts import Cut
from ffdi.features.extractor import load_extractor
from ffdi.features.image_views import locate_images
from ffdi.features.keep import TokenGrid
from ffdi.intake.decoding.images import ImageSource
from ffdi.metrics import auc
from ffdi.tails.probe import ProbeSettings, probe_out_of_fold

GRID = TokenGrid(1, 2, 2)
AT = ("features.16", "features.4")


SETTINGS = ProbeSettings(sweep=3, norm="standardise")


def probed(tiny: Tiny, weights: Path, rows: pd.DataFrame) -> pd.DataFrame:
    source = ImageSource(tiny.root, 10**6)
    return probe_cuts(rows, tiny_backbone(), weights, source, at=AT, bootstrap=Bootstrap(100))


def test_a_cut_has_the_auc_of_a_probe_on_its_pooled_features_and_no_test_image_is_read(
    tiny: Tiny, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(depth, "PROBE", SETTINGS)
    read: list[str] = []

    def counting(rows: Any, *arguments: Any, **options: Any) -> Any:
        read.extend(image for image, _ in rows)
        return compute_rows(rows, *arguments, **options)

    monkeypatch.setattr(compute, "compute_rows", counting)
    is_test = tiny.rows["role"] == "test"
    table = probed(tiny, weights, tiny.rows.assign(label=tiny.rows["label"].where(~is_test, 1 - tiny.rows["label"])))
    train = tiny.rows[~is_test]
    assert sorted(read) == sorted(train["image_id"])  # each once
    assert table[["cut", "keep", "width"]].values.tolist() == [["features.4", "mean", 24], ["features.16", "mean", 160]]
    assert (table["flops_before"] > 0).all() and table["flops_before"].is_monotonic_increasing
    labels, folds = train["label"].to_numpy(), train["fold"].to_numpy(np.int64)
    images = locate_images(train, ImageSource(tiny.root, 10**6))
    for name, found in zip(table["cut"], table["auc"], strict=True):
        extractor = load_extractor(tiny_backbone(cut=name, keep="mean", dtype="float32"), weights)
        features = np.concatenate(list(compute_rows([(i, 0) for i in train["image_id"]], extractor, images)))
        logits = probe_out_of_fold(features, labels, folds, train["group"].to_numpy(str), SETTINGS).logits
        due = np.mean([auc(labels[folds == fold], logits[folds == fold]) for fold in np.unique(folds)])
        assert found == pytest.approx(due, abs=0.02)  # the means of float32 are added in another order


def test_the_auc_is_the_mean_of_the_folds_and_compares_no_two_of_them() -> None:
    """Fold 0: of 2 x 2 pairs 3 are right; fold 1, whose scores are all higher: 1 of 1. Pooled it would be 6 of 9."""
    labels, scores = np.array([0, 1, 0, 1, 0, 1]), np.array([1.0, 2, 3, 4, 10, 11])
    folds, groups = np.array([0, 0, 0, 0, 1, 1]), np.array(list("abcdef"))
    found, low, high = fold_auc_interval(labels, scores, folds, groups, bootstrap=Bootstrap(500))
    assert found == pytest.approx((0.75 + 1) / 2) and 0 <= low < found < high <= 1
    one_class = np.where(folds == 1, 1, labels)  # a fold without both classes does not count
    assert fold_auc_interval(one_class, scores, folds, groups, bootstrap=Bootstrap(500))[0] == pytest.approx(0.75)


def cut(name: str, share: float, shape: tuple[int, ...] = (8, 2, 2), tokens: TokenGrid | None = None) -> Cut:
    return Cut(name, shape, share, tokens)


def test_the_default_cuts_are_spread_over_the_work_and_outermost_first() -> None:
    listed = [cut(f"blocks.{n}.{part}", (n + k / 2) / 8) for n in range(8) for k, part in enumerate(("norm1", "norm2"))]
    listed += [cut(f"blocks.{n}", n / 8) for n in range(8)] + [cut("norm", 1.0), cut("head.norm", 1.0)]
    listed.sort(key=lambda c: c.flops_before)
    assert [c.name for c in spread_cuts(listed, 4)] == ["blocks.2", "blocks.4", "blocks.6", "norm"]
    blind = [replace(c, shape=(5, 8)) if c.name == "norm" else c for c in listed]  # tokens of which no grid is known
    assert [c.name for c in spread_cuts(blind, 4)][-1] == "head.norm"
    with pytest.raises(ParamsError, match="not two cuts whose features can be pooled"):
        spread_cuts(listed[-2:])


def test_named_cuts_are_probed_in_the_order_of_depth() -> None:
    listed = [cut(f"layer{n}", n / 8) for n in range(1, 5)]
    assert [c.name for c in named_cuts(listed, ["layer3", "layer1"])] == ["layer1", "layer3"]
    with pytest.raises(ParamsError, match=r"^cut 'layer9' is not one that can be probed; close ones: layer4, "):
        named_cuts(listed, ["layer9"])
    with pytest.raises(ParamsError, match="two cuts or more are compared"):
        named_cuts(listed, ["layer3"])


def test_class_tokens_are_probed_where_every_cut_has_one() -> None:
    tokens, pooled = cut("blocks.1", 0.5, (5, 3), GRID), cut("head", 1.0, (7,))
    kinds = [(part.cut.name, part.keep, part.at) for part in parts_of([tokens, pooled])]
    assert kinds == [
        ("blocks.1", "cls", slice(0, 3)),
        ("blocks.1", "mean", slice(3, 6)),
        ("head", "all", slice(6, 13)),
    ]
    without = replace(tokens, tokens=TokenGrid(1, 2, 2, class_token=False))
    assert [part.keep for part in parts_of([tokens, without])] == ["mean", "mean"]
    assert [part.keep for part in parts_of([cut("stem", 0.1), tokens])] == ["mean", "mean"]


def test_what_cannot_be_done_is_said(tiny: Tiny, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train = tiny.rows[tiny.rows["role"] == "train"]
    with pytest.raises(InputError, match="less than two folds"):
        probed(tiny, weights, train[train["fold"] == 0])
    monkeypatch.setattr(depth, "memory_limit", lambda: 1000)
    with pytest.raises(FfdiError, match=rf"{len(train)} images x 184 pooled features take .* name fewer cuts"):
        probed(tiny, weights, tiny.rows)
