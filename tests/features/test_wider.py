"""Shards that hold less are derived from shards that hold more, in the bytes of a run that computes them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Tiny
from shard_building import PLAN, Computer, Killed, build, contents
from tiny_extraction import TinyExtraction

from ffdi.console import Console
from ffdi.errors import ParamsError, ShardError
from ffdi.features import shard_task
from ffdi.features.backbone import Backbone
from ffdi.features.compute import kept_features
from ffdi.features.extractor import load_extractor
from ffdi.features.feature_spec import Features, FeatureSpec, Row
from ffdi.features.keep import TokenGrid
from ffdi.features.shard_index import read_index
from ffdi.features.shard_set import Goal, Plan, ShardSet
from ffdi.features.shards import Shard
from ffdi.features.store import FeatureStore

MAP, TOKENS, GRID = (4, 6, 6), (38, 5), TokenGrid(2, 6, 6)
LARGE, SMALL = {"rows": [1, 6], "columns": [0, 4]}, {"rows": [2, 4], "columns": [1, 4]}
MAKER = {"runtime": "onnxruntime-cpu", "batch": 1}


def spec_of(keep: Any = "all", dtype: str = "float16", shape: tuple[int, ...] = TOKENS, **changes: Any) -> FeatureSpec:
    policy = {"mean": [0.5]} | ({} if keep == "all" else {"keep": keep})
    spec = FeatureSpec("tiny", "timm:x", "blocks.1", "ab" * 32, 64, (), dtype, policy)
    return replace(spec.of_cut(shape, GRID if len(shape) == 2 else None), **changes)


class Prefix(Computer):
    """Random features that their row decides, as a prefix would give them, and what is kept of them."""

    def __init__(self, spec: FeatureSpec, shape: tuple[int, ...], fuse: int | None = None) -> None:
        super().__init__(spec, fuse)
        self.shape = shape

    def __call__(self, missing: Sequence[Row]) -> Any:
        for at in range(0, len(missing), 2):
            if self.fuse is not None and at >= self.fuse:
                raise self.error
            self.rows += missing[at : at + 2]
            yield kept_features(np.stack([self.raw(row) for row in missing[at : at + 2]]), self.spec)

    def raw(self, row: Row) -> Features:
        seed = int.from_bytes(hashlib.sha256(str(row).encode()).digest()[:8])
        return np.random.default_rng(seed).normal(size=self.shape).astype(np.float32)


def fill(folder: Path, spec: FeatureSpec, plan: Sequence[Row] = PLAN, **options: Any) -> list[Row]:
    """Bring a folder to hold `plan`; the rows that had to be computed."""
    shape = options.pop("shape", TOKENS)
    computer = Prefix(spec, shape, options.pop("fuse", None))
    goal = Goal(spec, plan, options.pop("shard_rows", 5), {"weights": "random"}, options.pop("compression", "none"))
    build(folder, goal, computer, made_by=lambda: [MAKER] if computer.rows else [])
    return computer.rows


def direct(tmp: Path, spec: FeatureSpec, **options: Any) -> dict[str, bytes]:
    """The bytes of a run that has nothing to derive from."""
    assert fill(tmp / "alone" / "direct", spec, **options) == PLAN
    return contents(tmp / "alone" / "direct")


VECTORS = [
    (TOKENS, "all", "cls"),
    (TOKENS, "all", "cls+mean"),
    (TOKENS, "patches", "mean"),
    (TOKENS, "cls+mean", "mean"),
    (MAP, "all", "mean"),
]
OTHERS = [
    (TOKENS, "all", SMALL),
    (TOKENS, "patches", {"grid": 4}),
    (TOKENS, LARGE, SMALL),
    (MAP, "all", {"grid": 4}),
    (MAP, LARGE, SMALL),
]


@pytest.mark.parametrize("place", ["same folder", "another backbone's"])
@pytest.mark.parametrize(
    ("shape", "wide", "narrow", "dtype"),
    [(*case, dtype) for dtype in ("float16", "float32") for case in VECTORS + OTHERS]
    + [(*case, "int8") for case in OTHERS],
)
def test_less_is_derived_in_the_bytes_of_a_direct_run(
    shape: tuple[int, ...], wide: Any, narrow: Any, place: str, dtype: str, tmp_path: Path
) -> None:
    holds = not (dtype == "int8" and shape == MAP and wide != "all")  # a region's channels have scales of their own
    spec = spec_of(narrow, dtype, shape)
    folder = tmp_path / ("narrow" if place != "same folder" else "wide")
    fill(tmp_path / "wide", spec_of(wide, dtype, shape, backbone="other"), shape=shape, shard_rows=7)
    assert fill(folder, spec, shape=shape) == ([] if holds else PLAN)
    assert contents(folder) == direct(tmp_path, spec, shape=shape)
    assert fill(folder, spec, shape=shape) == []


def test_a_kill_loses_nothing_that_is_derived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "f", spec_of())
    read, left = Shard.read, [3]

    def dying(shard: Shard, at: slice) -> Features:
        left[0] -= 1
        if left[0] < 0:
            raise Killed
        return read(shard, at)

    monkeypatch.setattr(Shard, "read", dying)
    with pytest.raises(Killed):
        fill(tmp_path / "f", spec_of("cls"))
    monkeypatch.undo()
    assert read_index(tmp_path / "f").spec == spec_of()  # the wider set is still the set
    assert len(list((tmp_path / "f" / "next").glob("shard-*.h5"))) == 3
    assert fill(tmp_path / "f", spec_of("cls")) == []
    assert FeatureStore(tmp_path / "f").read(PLAN).shape == (len(PLAN), 5)
    written = contents(tmp_path / "f")
    due = direct(tmp_path, spec_of("cls"))
    assert {name: data for name, data in written.items() if name != "index.json"} == {
        name: data for name, data in due.items() if name != "index.json"
    }


def test_rows_that_the_wider_shards_lack_are_computed(tmp_path: Path) -> None:
    fill(tmp_path / "wide", spec_of(), PLAN[4:9] + PLAN[12:])
    assert fill(tmp_path / "narrow", spec_of("cls")) == PLAN[:4] + PLAN[9:12]
    assert contents(tmp_path / "narrow") == direct(tmp_path, spec_of("cls"))


def test_a_damaged_shard_is_not_derived_from(tmp_path: Path) -> None:
    fill(tmp_path / "wide", spec_of())
    file = tmp_path / "wide" / "shard-00001.h5"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    assert fill(tmp_path / "narrow", spec_of("cls")) == PLAN[5:10]
    assert contents(tmp_path / "narrow") == direct(tmp_path, spec_of("cls"))


def test_the_smallest_set_that_holds_the_rows_is_read(tmp_path: Path) -> None:
    for name, keep in [("a", "all"), ("b", LARGE), ("c", "patches")]:
        fill(tmp_path / name, spec_of(keep), PLAN[2:] if name == "b" else PLAN)
    assert plan_of(tmp_path / "narrow", spec_of(SMALL)).derived == {tmp_path / "b": len(PLAN) - 2, tmp_path / "c": 2}


def plan_of(folder: Path, spec: FeatureSpec) -> Plan:
    plan = ShardSet(folder, Goal(spec, PLAN, 5, {})).plan()
    assert plan is not None
    return plan


@pytest.mark.parametrize(
    "other",
    [
        spec_of("cls"),
        spec_of("mean"),
        spec_of(dtype="float32"),
        replace(spec_of(), weights_sha256="cd" * 32),
        replace(spec_of(), cut="blocks.2"),
        replace(spec_of(), policy={"mean": [0.6]}),
        replace(spec_of(), cut_grid=None),  # of an older ffdi: which tokens are patches is not known
    ],
)
def test_other_features_are_not_derived_from(other: FeatureSpec, tmp_path: Path) -> None:
    fill(tmp_path / "other", other)
    assert plan_of(tmp_path / "narrow", spec_of("cls")).derived == {}


def test_a_set_that_changes_while_it_is_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(tmp_path / "wide", spec_of())
    shards = ShardSet(tmp_path / "narrow", Goal(spec_of("cls"), PLAN, 5, {}))
    plan = shards.plan()
    fill(tmp_path / "wide", spec_of(), PLAN[1:])
    assert plan is not None and not plan.missing
    with pytest.raises(ShardError, match=r"shard-00000\.h5: was changed while features were derived from it"):
        shard_task.write_task(plan.tasks[0], shard_task.BlockReader([]))


def test_an_index_without_the_grid_of_its_tokens_gets_it(tmp_path: Path) -> None:
    fill(tmp_path / "f", replace(spec_of(), cut_grid=None))
    without = contents(tmp_path / "f")
    assert b"cut_grid" not in without["index.json"]
    assert fill(tmp_path / "f", spec_of()) == [] and read_index(tmp_path / "f").spec.cut_grid == GRID
    assert contents(tmp_path / "f") | {"index.json": b""} == without | {"index.json": b""}


@pytest.fixture
def run(tiny: Tiny, backbone: Callable[..., Backbone], weights: Path, tmp_path: Path) -> TinyExtraction:
    return TinyExtraction(tiny, backbone, weights, tmp_path / "features" / "tiny")


@pytest.mark.parametrize("place", ["same folder", "beside"])
def test_neither_an_image_nor_the_prefix_is_needed(
    place: str, run: TinyExtraction, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = tmp_path / "alone" / "mean"
    run(out=alone, keep="mean")
    wide = tmp_path / "features" / "wide"
    out = wide if place == "same folder" else tmp_path / "features" / "narrow"
    run(out=wide, name="wide")
    monkeypatch.setattr("ffdi.features.extractor.PrefixFile.__call__", None)
    said: list[str] = []

    def load(backbone: Backbone, weights: Path) -> Any:
        return load_extractor(backbone, weights, out)

    done = run(out=out, keep="mean", root=tmp_path / "no images", load=load, console=Console(said.append))
    assert (done.computed, done.reused, done.derived) == (0, 0, 22)
    assert f"22 rows derived from {wide}" in said and done.lines == ["0 rows computed, 0 reused, 22 derived"]
    assert {p.name: p.read_bytes() for p in out.iterdir()} == {p.name: p.read_bytes() for p in alone.iterdir()}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"keep": "cls"}, r"^keep: cls: at this cut there is a map \(160, 2, 2\): choose mean, "),
        ({"keep": {"grid": 3}}, r"^keep: \{grid: 3\}: at this cut the grid has 2 x 2 places only$"),
        ({"keep": "mean", "dtype": "int8"}, r"^dtype: int8 has a scale for each channel, so a vector of 160"),
    ],
)
def test_what_cannot_be_kept_is_said_before_anything_is_read(
    changes: dict[str, Any], message: str, run: TinyExtraction
) -> None:
    with pytest.raises(ParamsError) as caught:
        run(**changes)
    place, says = str(caught.value).split(" pixels: ")
    assert place == "backbones.tiny: torchvision:mobilenet_v2 cut at features.16, 64" and re.search(message, says)
