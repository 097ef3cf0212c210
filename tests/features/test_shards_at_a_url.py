"""Shards at a URL: the same set as in a folder, committed by its index, found torn where it is, never lost."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from s3_server import S3Server
from shard_building import IDS, PLAN, SPEC, Computer, Killed, contents, run
from shards_at_url import FEWER, assert_whole, body, place_of, shards_in
from torch.utils.data import DataLoader

from ffdi.errors import LockedError, ShardError, StorageError
from ffdi.features import shard_task
from ffdi.features.engines.local import write_shards
from ffdi.features.feature_spec import Row
from ffdi.features.remote_place import RemotePlace
from ffdi.features.remote_shard_set import RemoteShardSet
from ffdi.features.shard_dataset import ShardDataset
from ffdi.features.shard_set import Goal
from ffdi.features.store import FeatureStore
from ffdi.storage import Remote, RemoteFile

pytestmark = pytest.mark.s3


@pytest.fixture
def url(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return place_of(s3, tmp_path, monkeypatch)


def test_a_set_at_a_url_has_the_index_and_the_shards_of_one_in_a_folder(s3: S3Server, url: str, tmp_path: Path) -> None:
    run(tmp_path / "f", url=url)
    local = run(tmp_path / "local") and contents(tmp_path / "local")
    assert contents(tmp_path / "f").keys() == {"index.json", "store.json"}
    assert (tmp_path / "f/index.json").read_bytes() == local.pop("index.json")
    there = [body(s3, key) for key in shards_in(s3)]
    assert sorted(there) == sorted(local.values())
    assert json.loads((tmp_path / "f/store.json").read_text())["url"] == url
    for place in (tmp_path / "f", url):  # by the folder, or without one
        assert_whole(place, PLAN)
    assert run(tmp_path / "f", url=url).rows == [] and run(tmp_path / "elsewhere", url=url).rows == []
    assert contents(tmp_path / "elsewhere") == contents(tmp_path / "f")


def test_to_look_at_a_set_no_shard_is_downloaded_and_each_is_once_to_read_it(
    s3: S3Server, url: str, tmp_path: Path
) -> None:
    run(tmp_path / "f", url=url)
    s3.requests.clear()
    store = FeatureStore(tmp_path / "f")
    assert store.views(IDS[0]) == [0, 1] and run(tmp_path / "f", url=url).rows == []
    assert s3.asked("GET", ".h5") == 0
    for _ in range(3):
        store.read(PLAN)
        FeatureStore(tmp_path / "f").read(PLAN[:3])
    assert s3.asked("GET", ".h5") == len(store.index.shards)


def test_the_cache_stays_below_its_bound(
    s3: S3Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "f", url=url)
    size = len(body(s3, shards_in(s3)[0]))
    monkeypatch.setenv("FFDI_CACHE_GB", str(2.5 * size / 1e9))
    for keep_open in (False, True):
        store = FeatureStore(tmp_path / "f", keep_open=keep_open)
        for _ in range(2):
            assert store.read(PLAN).shape == (len(PLAN), 2, 2, 2)
            cached = [file.stat().st_size for file in (tmp_path / "cache/objects").rglob("*") if file.is_file()]
            assert sum(cached) <= 2.5 * size
        assert len(store._open) <= 2


@pytest.mark.parametrize("plan", [FEWER, pytest.param([*PLAN[:2], *PLAN[4:]], marks=pytest.mark.long)])
def test_a_changed_plan_computes_its_new_rows_and_the_former_shards_go(
    s3: S3Server, url: str, tmp_path: Path, plan: list[Row]
) -> None:
    run(tmp_path / "f", plan, url=url)
    there = {key: s3.asked("PUT", key) for key in shards_in(s3)}
    assert run(tmp_path / "f", url=url).rows == [row for row in PLAN if row not in plan]
    assert contents(tmp_path / "f")["index.json"] == (run(tmp_path / "n") and contents(tmp_path / "n")["index.json"])
    assert_whole(tmp_path / "f", PLAN)
    assert len(shards_in(s3)) == len(FeatureStore(url).index.shards)
    assert sum("/keys/" in key for key in set(s3.stored())) == 1
    for key in set(there) & set(shards_in(s3)):  # a shard that stays as it is
        assert s3.asked("PUT", key) == there[key]


def test_a_killed_run_loses_at_most_the_shard_in_hand(s3: S3Server, url: str, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "f", url=url, fuse=16)
    assert len(shards_in(s3)) == 3 and not (tmp_path / "f/index.json").exists()
    with pytest.raises(ShardError, match=r"index\.json: missing: run the extract stage first"):
        FeatureStore(url)
    assert len(run(tmp_path / "on another machine", url=url).rows) == len(PLAN) - 15
    assert_whole(url, PLAN)


def test_what_a_killed_run_uploaded_outlives_a_change_of_the_plan(s3: S3Server, url: str, tmp_path: Path) -> None:
    with pytest.raises(Killed):
        run(tmp_path / "f", url=url, fuse=16)
    done = run(tmp_path / "f", FEWER, url=url)
    assert done.rows == [row for row in FEWER if row not in PLAN[:15]]
    assert_whole(url, FEWER)
    assert len(shards_in(s3)) == len(FeatureStore(url).index.shards)


def test_shards_move_from_a_folder_to_a_url_to_another_and_back(url: str, tmp_path: Path) -> None:
    run(tmp_path / "f")
    before = contents(tmp_path / "f")
    for there in (url, f"{url}-2"):
        assert run(tmp_path / "f", url=there).rows == []
        assert contents(tmp_path / "f").keys() == {"index.json", "store.json"}
        assert_whole(tmp_path / "f", PLAN)
    assert run(tmp_path / "f").rows == [] and contents(tmp_path / "f") == before


def test_a_run_that_is_killed_between_upload_and_index_ends_in_the_same_set(
    s3: S3Server, url: str, tmp_path: Path
) -> None:
    run(tmp_path / "f", FEWER, url=url)
    for plan in (PLAN[:-4], PLAN):
        s3.fail("403", method="PUT", part="index.json")
        with pytest.raises(StorageError, match="access denied"):
            run(tmp_path / "f", plan, url=url)
    assert_whole(tmp_path / "f", FEWER)  # the former set is the set
    assert_whole(url, FEWER)
    assert run(tmp_path / "f", url=url).rows == []
    assert_whole(tmp_path / "f", PLAN)
    assert sum("/keys/" in key for key in set(s3.stored())) == 1


def test_an_index_that_was_written_before_the_kill_is_the_set(
    s3: S3Server, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "f", FEWER, url=url)
    with monkeypatch.context() as patched:
        patched.setattr(RemoteShardSet, "_point", lambda *_: (_ for _ in ()).throw(Killed()))
        with pytest.raises(Killed):
            run(tmp_path / "f", url=url)
    assert run(tmp_path / "f", url=url).rows == []
    assert_whole(tmp_path / "f", PLAN)


def test_a_set_of_another_project_is_not_replaced(s3: S3Server, url: str, tmp_path: Path) -> None:
    run(tmp_path / "f", url=url)
    there = s3.stored()
    for plan, spec in ((FEWER, SPEC), (PLAN, replace(SPEC, weights_sha256="cd" * 32))):
        with pytest.raises(
            ShardError, match=rf"^{url}: holds features that .*/other does not point to.*: name another"
        ):
            run(tmp_path / "other", plan, spec, url=url)
        assert s3.stored() == there
    shutil.copytree(tmp_path / "f", tmp_path / "other", dirs_exist_ok=True)  # what dvc pull does
    run(tmp_path / "other", FEWER, url=url)
    assert_whole(url, FEWER)
    assert run(tmp_path / "third", url=url).rows == [row for row in PLAN if row not in FEWER]  # only more


def test_nothing_can_be_stored_too(url: str, tmp_path: Path) -> None:
    for _ in range(2):
        run(tmp_path / "f", [], url=url)
        assert len(FeatureStore(url)) == 0 == len(FeatureStore(tmp_path / "f"))


def test_a_second_writer_loses_to_the_first_and_then_goes_on_from_there(s3: S3Server, url: str, tmp_path: Path) -> None:
    goal = Goal(SPEC, PLAN, 5, {"weights": "random"})
    first, second = (RemoteShardSet(tmp_path / name, goal, url) for name in ("one", "two"))
    plan, _ = second.plan(), first
    assert plan
    run(tmp_path / "one", FEWER, url=url)
    entries = write_shards(plan.tasks, Computer()(plan.missing))
    with pytest.raises(LockedError, match=rf"^{url}: another run has written its set there .* run extract again$"):
        second.commit(plan, entries, ())
    assert_whole(url, FEWER)
    assert run(tmp_path / "two", url=url).rows == []
    assert_whole(url, PLAN)
    with pytest.raises(ShardError, match=r"\.h5: missing, and the URL holds another set by now: run extract again"):
        FeatureStore(tmp_path / "one")


def test_what_another_run_took_into_its_set_is_not_deleted(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "one", url=url)
    point = RemoteShardSet._point

    def then_another_runs(*args: Any) -> None:
        monkeypatch.setattr(RemoteShardSet, "_point", point)
        point(*args)
        assert run(tmp_path / "two", url=url).rows == []  # the former shards are not yet deleted

    monkeypatch.setattr(RemoteShardSet, "_point", then_another_runs)
    run(tmp_path / "one", FEWER, url=url)
    assert_whole(url, PLAN)


def test_two_who_write_the_same_do_not_disturb_each_other(url: str, tmp_path: Path) -> None:
    goal = Goal(SPEC, PLAN, 5, {"weights": "random"})
    other = RemoteShardSet(tmp_path / "two", goal, url)
    plan = other.plan()
    run(tmp_path / "one", url=url)
    assert plan
    other.commit(plan, write_shards(plan.tasks, Computer()(plan.missing)), ())
    assert contents(tmp_path / "one") == contents(tmp_path / "two")
    assert_whole(tmp_path / "one", PLAN)


def test_drafts_do_not_stay_and_few_wait_for_their_upload(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    staging, most, write = RemotePlace(url).draft("x").parent, [0], shard_task.write_shard

    def slowly(remote: Remote, file: Path, path: str) -> RemoteFile:
        time.sleep(0.02)
        return put(remote, file, path)

    def counted(*args: Any, **options: Any) -> None:
        write(*args, **options)
        most[0] = max(most[0], len(list(staging.iterdir())))

    put = Remote.put
    monkeypatch.setattr(Remote, "put", slowly)
    monkeypatch.setattr(shard_task, "write_shard", counted)
    run(tmp_path / "f", url=url, shard_rows=2)
    assert len(FeatureStore(url).index.shards) == 12 and 1 < most[0] <= 5 and not list(staging.iterdir())


DIES = """
import os, signal, sys
from ffdi.features.remote_place import RemotePlace
draft = RemotePlace("s3://nowhere").draft("shard-00000.h5")
draft.parent.mkdir(parents=True)
draft.write_bytes(b"half")
print(draft)
sys.stdout.flush()
if sys.argv[1] == "killed":
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_drafts_of_a_process_go_with_it_or_with_the_next(tmp_path: Path) -> None:
    def drafts(end: str) -> Path:
        environment = {**os.environ, "TMPDIR": str(tmp_path)}
        return Path(
            subprocess.run([sys.executable, "-c", DIES, end], env=environment, stdout=-1).stdout.decode().strip()
        )

    killed = drafts("killed")
    assert killed.exists()
    ended = drafts("ends")
    assert not killed.exists() and not ended.exists() and {p.name for p in ended.parents[2].iterdir()} == {"lock"}


def test_the_workers_of_a_loader_download_for_themselves(s3: S3Server, url: str, tmp_path: Path) -> None:
    run(tmp_path / "f", url=url)
    data = ShardDataset(url, dict.fromkeys(IDS, 1), views="all")  # this process has connections of its own
    loaded = list(DataLoader(data, batch_size=6, num_workers=2, multiprocessing_context="fork", timeout=60))
    assert np.array_equal(torch.cat([features for features, _ in loaded]), FeatureStore(url).read(PLAN))
    assert s3.asked("GET", ".h5") == len(data.store.index.shards)
