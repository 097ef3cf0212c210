"""However a set of shards was changed or killed before, it ends with the bytes of a run from nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shard_building import PLAN, SHARD_ROWS, SPEC, Killed, contents, feature, from_nothing, run

from ffdi.errors import FfdiError, ShardError
from ffdi.features import shard_set
from ffdi.features.feature_spec import Row
from ffdi.features.shard_index import read_index
from ffdi.features.store import FeatureStore


def test_a_run_from_nothing_holds_the_plan(tmp_path: Path) -> None:
    computer = run(tmp_path / "f")
    store = FeatureStore(tmp_path / "f")
    store.verify()
    assert computer.rows == PLAN
    assert np.array_equal(store.read(PLAN), np.stack([feature(SPEC, row) for row in PLAN]))
    assert sorted(contents(tmp_path / "f")) == ["index.json", *(f"shard-0000{n}.h5" for n in range(5))]


def test_a_second_run_does_nothing(tmp_path: Path) -> None:
    run(tmp_path / "f")
    stamps = {p.name: p.stat().st_mtime_ns for p in (tmp_path / "f").iterdir()}
    assert run(tmp_path / "f").rows == []
    assert {p.name: p.stat().st_mtime_ns for p in (tmp_path / "f").iterdir()} == stamps


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(PLAN[:10] + PLAN[14:], PLAN, id="images added in the middle"),
        pytest.param([r for r in PLAN if r[1] == 0], PLAN, id="a view added"),
        pytest.param(PLAN, [r for r in PLAN if r[1] == 0], id="a view dropped"),
        pytest.param(PLAN, PLAN[3:17], id="images dropped"),
        pytest.param(PLAN[:12], PLAN[12:], id="all exchanged"),
    ],
)
def test_a_changed_plan_computes_only_its_new_rows(before: list[Row], after: list[Row], tmp_path: Path) -> None:
    run(tmp_path / "f", before)
    assert run(tmp_path / "f", after).rows == [row for row in after if row not in before]
    assert contents(tmp_path / "f") == from_nothing(tmp_path, after)


def test_another_shard_size_reuses_every_row(tmp_path: Path) -> None:
    run(tmp_path / "f", shard_rows=7)
    assert run(tmp_path / "f").rows == []
    assert contents(tmp_path / "f") == from_nothing(tmp_path)


def test_another_compression_reuses_every_row(tmp_path: Path) -> None:
    run(tmp_path / "f")
    assert run(tmp_path / "f", compression="bitshuffle-lz4").rows == []
    packed = contents(tmp_path / "f")
    run(tmp_path / "packed", compression="bitshuffle-lz4")
    assert packed == contents(tmp_path / "packed") != from_nothing(tmp_path)
    assert np.array_equal(FeatureStore(tmp_path / "f").read(PLAN), np.stack([feature(SPEC, row) for row in PLAN]))
    assert run(tmp_path / "f").rows == []
    assert contents(tmp_path / "f") == contents(tmp_path / "from-nothing")


def test_a_killed_run_of_another_compression_loses_no_row(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "f", fuse=12, compression="bitshuffle-lz4")
    assert run(tmp_path / "f").rows == PLAN[10:]
    assert contents(tmp_path / "f") == from_nothing(tmp_path)


def test_the_index_says_what_computed_its_rows(tmp_path: Path) -> None:
    def makers(plan: Sequence[Row], **facts: Any) -> list[Any]:
        run(tmp_path / "f", plan, made_by=lambda: (facts,))
        return list(read_index(tmp_path / "f").made_by)

    old, new = {"batch": 64}, {"batch": 32}
    assert makers(PLAN[:8], **old) == [old]
    assert makers(PLAN[:8], **new) == [old]  # nothing was computed
    assert makers(PLAN[:6], **new) == [old]
    assert makers(PLAN[:10], **new) == [new, old]
    assert makers(PLAN[:12], **old) == [new, old]
    assert makers(PLAN[12:], **new) == [new]  # no old row is left


@pytest.mark.parametrize("after", ["a lost index", "a kill"])
def test_reused_rows_that_no_index_names_a_maker_of_get_this_one(after: str, tmp_path: Path) -> None:
    if after == "a lost index":
        run(tmp_path / "f", PLAN[:10])
        (tmp_path / "f" / "index.json").unlink()
    else:
        with pytest.raises(Killed):
            run(tmp_path / "f", fuse=10)  # two shards are written
    assert run(tmp_path / "f", PLAN[:10], made_by=lambda: ({"batch": 64},)).rows == []
    assert read_index(tmp_path / "f").made_by == ({"batch": 64},)


def test_features_of_another_fingerprint_are_rebuilt_never_mixed(tmp_path: Path) -> None:
    run(tmp_path / "f")
    other = replace(SPEC, policy={"mean": [0.4]})
    assert run(tmp_path / "f", spec=other).rows == PLAN
    assert contents(tmp_path / "f") == from_nothing(tmp_path, spec=other)


@pytest.mark.parametrize("fuse", [0, 4, 5, 6, 12, 22])
def test_a_killed_run_loses_at_most_the_shard_in_hand(fuse: int, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "f", fuse=fuse)
    with pytest.raises(ShardError, match=r"index\.json: missing"):
        FeatureStore(tmp_path / "f")
    computed = len(range(0, fuse, 2)) * 2
    assert run(tmp_path / "f").rows == PLAN[computed - computed % SHARD_ROWS :]
    assert contents(tmp_path / "f") == from_nothing(tmp_path)


def test_a_killed_change_leaves_the_old_generation_whole(tmp_path: Path) -> None:
    run(tmp_path / "f", PLAN[:16])
    old = FeatureStore(tmp_path / "f").read(PLAN[:16])
    with pytest.raises(Killed):
        run(tmp_path / "f", fuse=4)
    store = FeatureStore(tmp_path / "f")
    store.verify()
    assert np.array_equal(store.read(PLAN[:16]), old)


def test_rows_of_a_killed_run_outlive_a_change_of_the_plan(tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "f", fuse=20)  # four shards are whole
    assert run(tmp_path / "f", PLAN[1:]).rows == PLAN[20:]
    assert contents(tmp_path / "f") == from_nothing(tmp_path, PLAN[1:])


@pytest.mark.parametrize("survive", range(6))
def test_a_swap_that_was_cut_off_is_finished(survive: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(tmp_path / "f", PLAN[:16])
    calls, replace_file, swapping = [0], os.replace, shard_set.finish_swap

    def cut_off(source: Any, target: Any) -> None:
        if calls[0] == survive:
            raise Killed
        calls[0] += 1
        replace_file(source, target)

    def swap(folder: Path, following: Path) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(os, "replace", cut_off)
            swapping(folder, following)

    with monkeypatch.context() as patch:
        patch.setattr(shard_set, "finish_swap", swap)
        with pytest.raises(Killed):
            run(tmp_path / "f")
    with pytest.raises(ShardError):  # never a mixture that looks whole
        FeatureStore(tmp_path / "f")
    assert run(tmp_path / "f").rows == []
    assert contents(tmp_path / "f") == from_nothing(tmp_path)


plans = st.lists(st.sampled_from(PLAN), min_size=1, unique=True).map(sorted)


@given(
    history=st.lists(st.tuples(plans, st.none() | st.integers(0, 24), st.sampled_from([3, 5])), max_size=4), last=plans
)
@settings(deadline=None, max_examples=40)
def test_any_history_of_plans_and_kills_ends_in_the_same_bytes(
    history: list[tuple[list[Row], int | None, int]], last: list[Row], tmp_path_factory: pytest.TempPathFactory
) -> None:
    tmp = tmp_path_factory.mktemp("history")
    for plan, fuse, shard_rows in history:
        try:
            run(tmp / "f", plan, fuse=fuse, shard_rows=shard_rows)
        except Killed:
            pass
    run(tmp / "f", last)
    assert contents(tmp / "f") == from_nothing(tmp, last)


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-50])


def flip_a_feature(file: Path) -> None:
    data = bytearray(file.read_bytes())
    at = data.find(feature(SPEC, PLAN[5]).tobytes())
    assert at > 0
    data[at] ^= 4
    file.write_bytes(data)


def remove(file: Path) -> None:
    file.unlink()


def scribble(file: Path) -> None:
    file.write_text("no HDF5")


@pytest.mark.parametrize("damage", [truncate, flip_a_feature, remove, scribble])
def test_a_damaged_shard_is_rebuilt_alone(damage: Callable[[Path], None], tmp_path: Path) -> None:
    run(tmp_path / "f")
    damage(tmp_path / "f" / "shard-00001.h5")
    assert run(tmp_path / "f").rows == PLAN[5:10]
    assert contents(tmp_path / "f") == from_nothing(tmp_path)


def test_a_missing_index_costs_no_row(tmp_path: Path) -> None:
    run(tmp_path / "f")
    (tmp_path / "f" / "index.json").unlink()
    assert run(tmp_path / "f").rows == []
    assert contents(tmp_path / "f") == from_nothing(tmp_path)


def test_files_that_the_index_does_not_name_are_deleted(tmp_path: Path) -> None:
    run(tmp_path / "f")
    (tmp_path / "f" / "shard-00009.h5").write_text("stale")
    (tmp_path / "f" / ".shard-00000.h5.123.tmp").write_text("half-written")
    (tmp_path / "f" / "next").mkdir()
    (tmp_path / "f" / "next" / "shard-00000.h5").write_text("stale")
    run(tmp_path / "f")
    assert contents(tmp_path / "f") == from_nothing(tmp_path)
    assert [p.name for p in (tmp_path / "f").iterdir() if p.is_dir()] == []


def test_a_full_disk_is_a_clear_error_and_the_rerun_resumes(tmp_path: Path) -> None:
    full = OSError(28, "No space left on device")
    with pytest.raises(FfdiError, match=r"shard-00002\.h5: cannot be written: No space left on device"):
        run(tmp_path / "f", fuse=12, error=full)
    assert [p.name for p in (tmp_path / "f").rglob("*.tmp")] == []
    assert run(tmp_path / "f").rows == PLAN[10:]
    assert contents(tmp_path / "f") == from_nothing(tmp_path)


def test_only_what_is_yet_to_be_written_must_fit_on_the_disk(tmp_path: Path) -> None:
    asked: list[int] = []
    with pytest.raises(Killed):
        run(tmp_path / "f", fuse=10, reserve=asked.append)
    run(tmp_path / "f", reserve=asked.append)
    run(tmp_path / "f", reserve=asked.append)  # nothing to do
    assert asked == [24 * 16, 14 * 16]  # rows x bytes of a row
