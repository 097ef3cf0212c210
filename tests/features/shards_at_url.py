"""Sets of shards in a bucket, for the tests of several files."""

from __future__ import annotations

from pathlib import Path

import pytest
from s3_server import S3Server
from shard_building import IDS, PLAN, SPEC, feature

from ffdi import store_faults
from ffdi.features.feature_spec import Row
from ffdi.features.store import FeatureStore
from ffdi.storage import Remote

FEWER = [row for row in PLAN if row[0] not in IDS[3:6]]


def place_of(s3: S3Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A place in the bucket; with a cache of this test, and no pauses between attempts."""
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store_faults.time, "sleep", lambda seconds: None)
    return f"{s3.url}/features/tiny"


def body(s3: S3Server, key: str) -> bytes:
    return Remote(s3.url).read(key)


def shards_in(s3: S3Server) -> list[str]:
    return [key for key in sorted(s3.stored()) if key.endswith(".h5")]


def assert_whole(folder: Path | str, plan: list[Row]) -> None:
    store = FeatureStore(folder)
    assert store.rows == plan
    for row, read in zip(plan, store.read(plan), strict=True):
        assert read.tobytes() == feature(SPEC, row).tobytes()
