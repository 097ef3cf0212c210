"""What goes wrong at a store: what passes is tried again, what is damaged is named and made again."""

from __future__ import annotations

from pathlib import Path

import pytest
from s3_server import SECRET, S3Server
from shard_building import PLAN, SPEC, Computer, run
from shards_at_url import FEWER, assert_whole, body, place_of, shards_in

from ffdi.errors import ShardError, StorageError
from ffdi.features.engines.local import write_shards
from ffdi.features.remote_shard_set import RemoteShardSet
from ffdi.features.shard_set import Goal
from ffdi.features.shard_task import find_shard
from ffdi.features.store import FeatureStore
from ffdi.storage import Remote

pytestmark = pytest.mark.s3


@pytest.fixture
def url(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    return place_of(s3, tmp_path, monkeypatch)


@pytest.mark.parametrize("kind", [pytest.param("500", marks=pytest.mark.long), "503", "drop", "late"])
def test_what_passes_is_tried_again(s3: S3Server, url: str, tmp_path: Path, kind: str) -> None:
    for plan in (FEWER, PLAN):
        for method in ("GET", "PUT", "HEAD", "DELETE"):
            s3.fail(kind, 2, method=method)
        run(tmp_path / "f", plan, url=url, shard_rows=12)
    for method in ("GET", "HEAD"):
        s3.fail(kind, 2, method=method)
    assert_whole(tmp_path / "f", PLAN)
    assert not any(fault.times for fault in s3.faults) and len(shards_in(s3)) == 2


@pytest.mark.parametrize("kind", ["truncate", "short"])
def test_a_body_that_is_cut_off_is_read_again(s3: S3Server, url: str, tmp_path: Path, kind: str) -> None:
    run(tmp_path / "f", url=url)
    for part in (".npy", ".h5", "index.json"):
        s3.fail(kind, 2, method="GET", part=part)
    assert_whole(url, PLAN)


def test_a_listing_that_lags_hides_no_shard(s3: S3Server, url: str, tmp_path: Path) -> None:
    s3.fail("lag", 1000, key=".h5")
    run(tmp_path / "f", url=url)
    assert_whole(tmp_path / "f", PLAN)
    assert run(tmp_path / "f", url=url).rows == []


def test_what_does_not_pass_ends_in_one_line_without_a_secret(s3: S3Server, url: str, tmp_path: Path) -> None:
    run(tmp_path / "f", url=url)
    s3.fail("503", 1000, method="GET", part=".h5")
    with pytest.raises(StorageError, match=r"\.h5: the store is busy or failing \(SlowDown\), \d+ attempts") as raised:
        FeatureStore(tmp_path / "f").read(PLAN)
    assert SECRET not in str(raised.value) and "\n" not in str(raised.value)
    assert not list((tmp_path / "cache/objects").rglob("*.h5")) and not list((tmp_path / "cache/objects").rglob(".*"))


@pytest.mark.parametrize("damage", ["torn", "other bytes", "gone"])
def test_a_shard_that_changed_is_named_and_made_again(s3: S3Server, url: str, tmp_path: Path, damage: str) -> None:
    run(tmp_path / "f", url=url)
    key = shards_in(s3)[2]
    data = body(s3, key)
    if damage == "gone":
        Remote(s3.url).delete(key)
    else:
        Remote(s3.url).put_bytes(data[:-9] if damage == "torn" else data[:-9] + bytes(9), key)
    said = "missing" if damage == "gone" else "sha256 differs from the index"
    with pytest.raises(ShardError, match=rf"^{s3.url}/{key}: {said}: run extract again$"):
        FeatureStore(tmp_path / "f").verify_bytes()
    with pytest.raises(ShardError, match=rf"^{s3.url}/{key}: {said}: run extract again$"):
        FeatureStore(tmp_path / "f").read(PLAN)
    assert len(run(tmp_path / "f", url=url).rows) == 5
    assert body(s3, key) == data


def test_a_worker_takes_no_damaged_shard_for_one_that_is_done(s3: S3Server, url: str, tmp_path: Path) -> None:
    run(tmp_path / "f", url=url)
    key = shards_in(s3)[2]
    Remote(s3.url).put_bytes(body(s3, key)[:-9] + bytes(9), key)
    plan = RemoteShardSet(tmp_path / "f", Goal(SPEC, PLAN, 5, {"weights": "random"}), url).plan()
    [damaged] = [task for task in plan.tasks if task.missing] if plan else []
    assert find_shard(damaged) is None
    [entry] = write_shards([damaged], Computer()(damaged.missing))
    assert find_shard(damaged) == entry


@pytest.mark.parametrize("damage", [b"{", *(pytest.param(odd, marks=pytest.mark.long) for odd in (b"{}", b"null"))])
def test_a_damaged_index_at_the_url_is_said_and_replaced(s3: S3Server, url: str, tmp_path: Path, damage: bytes) -> None:
    run(tmp_path / "f", url=url)
    Remote(url).put_bytes(damage, "index.json")
    with pytest.raises(ShardError, match=rf"^{url}/index\.json: .*run extract again"):
        FeatureStore(url)
    assert_whole(tmp_path / "f", PLAN)  # the folder knows its files
    assert run(tmp_path / "g", url=url).rows == []
    assert_whole(url, PLAN)
