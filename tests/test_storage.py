"""Files at a URL: faults that pass, faults that stay, conditions on writing, and no credential anywhere."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from s3_server import SECRET, S3Server

from ffdi.errors import LostRaceError, NoFileError, StorageError
from ffdi.storage import Remote, _filesystem
from ffdi.store_faults import Patience
from ffdi.urls import checked_url, local_path, shown

QUICK = Patience(attempts=3, first=0.01)


@pytest.fixture
def remote(s3: S3Server) -> Remote:
    s3.put("set/a.jpg", b"first")
    s3.put("set/deep/b.jpg", b"second")
    return Remote(f"{s3.url}/set/", QUICK)


@pytest.mark.s3
def test_files_are_listed_read_and_downloaded(remote: Remote, tmp_path: Path) -> None:
    listed = list(remote.files())
    assert [(file.path, file.size) for file in listed] == [("a.jpg", 5), ("deep/b.jpg", 6)]
    assert listed[0] == remote.file("a.jpg") and listed[0].etag == "8b04d5e3775d298e78455efc5ca404d5"  # its MD5
    assert [file.path for file in remote.files("deep")] == ["deep/b.jpg"]
    assert remote.read("a.jpg") == b"first"
    remote.get("deep/b.jpg", tmp_path / "b")
    assert (tmp_path / "b").read_bytes() == b"second"
    assert pickle.loads(pickle.dumps(remote)).read("a.jpg") == b"first"


@pytest.mark.s3
def test_what_is_put_is_there_until_it_is_deleted(remote: Remote, tmp_path: Path) -> None:
    (tmp_path / "c").write_bytes(b"c" * 1000)
    assert remote.put(tmp_path / "c", "new/c").size == 1000
    assert remote.put_bytes(b"d", "new/d e#?%.txt") == remote.file("new/d e#?%.txt")
    assert [file.path for file in remote.files("new")] == ["new/c", "new/d e#?%.txt"]
    assert remote.read("new/d e#?%.txt") == b"d"
    for _ in range(2):
        remote.delete("new/c")
    assert not remote.exists("new/c") and remote.exists("new/d e#?%.txt")
    assert not remote.exists("new")  # a folder is no file


@pytest.mark.s3
def test_a_listing_comes_page_by_page(remote: Remote, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        s3.put(f"set/many/{number}", b"x")
    call = remote._files.call_s3
    monkeypatch.setattr(remote._files, "call_s3", lambda method, **asked: call(method, MaxKeys=2, **asked))
    s3.fail("503", method="GET", part="continuation")
    assert [file.path for file in remote.files("many")] == [f"many/{number}" for number in range(5)]


@pytest.mark.s3
@pytest.mark.parametrize("kind", ["500", "503", "drop", "truncate", "short"])
def test_a_fault_that_passes_is_tried_again(remote: Remote, s3: S3Server, tmp_path: Path, kind: str) -> None:
    s3.fail(kind, 2, method="GET", part="a.jpg")
    assert remote.read("a.jpg", size=5) == b"first"
    assert s3.asked("GET", "a.jpg") == 3
    s3.fail(kind, 2, method="GET", part="b.jpg")
    remote.get("deep/b.jpg", tmp_path / "b", size=6)
    assert (tmp_path / "b").read_bytes() == b"second"


@pytest.mark.s3
@pytest.mark.parametrize("kind", ["500", "503", "drop", "late"])
def test_a_write_is_tried_again_and_arrives_once(remote: Remote, s3: S3Server, tmp_path: Path, kind: str) -> None:
    s3.fail(kind, 2, method="PUT")
    assert remote.put_bytes(b"index", "index.json", if_absent=True).size == 5
    (tmp_path / "shard").write_bytes(b"shard")
    s3.fail(kind, 2, method="PUT")
    assert remote.put(tmp_path / "shard", "shard").size == 5
    assert s3.asked("PUT", "index.json") >= (1 if kind == "late" else 3)


@pytest.mark.s3
@pytest.mark.parametrize(
    ("kind", "reason"),
    [("500", "InternalError"), ("503", "SlowDown"), ("drop", "connection failed"), ("short", "2 bytes of 5 arrived")],
)
def test_the_attempts_end_with_the_reason(remote: Remote, s3: S3Server, kind: str, reason: str) -> None:
    s3.fail(kind, 100)
    with pytest.raises(StorageError, match=f"set/a.jpg: .*{reason}.*, 3 attempts.*: try again later") as raised:
        remote.read("a.jpg", size=5)
    assert raised.value.__context__ is None and SECRET not in repr(raised.value)
    assert s3.asked("GET", "a.jpg") == 3 or kind == "drop"  # of which the client itself repeats some at once


@pytest.mark.s3
def test_what_stays_wrong_is_told_apart_at_once(remote: Remote, s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoFileError, match=r"set/none.jpg: no such file"):
        remote.read("none.jpg")
    with pytest.raises(NoFileError, match="s3://nowhere-at-all/set: no such bucket"):
        list(Remote("s3://nowhere-at-all/set", QUICK).files())
    with pytest.raises(NoFileError, match="s3://nowhere-at-all/set: no such bucket"):
        Remote("s3://nowhere-at-all/set", QUICK).read("a.jpg")
    with pytest.raises(NoFileError, match="no such bucket"):
        Remote("s3://nowhere-at-all/set", QUICK).put_bytes(b"", "a")
    s3.fail("403", 100, method="GET")
    with pytest.raises(StorageError, match=r"set/a.jpg: access denied.*AccessDenied.*AWS_ACCESS_KEY_ID"):
        remote.read("a.jpg")
    assert s3.asked("GET", f"{s3.bucket}/set/a.jpg") == 1
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setattr("ffdi.storage._filesystem", _filesystem.__wrapped__)  # whose connections know the keys
    with pytest.raises(StorageError, match=r"no credentials.*AWS_ACCESS_KEY_ID"):
        Remote(s3.url, QUICK).read("set/a.jpg")


@pytest.mark.s3
def test_the_second_writer_loses(remote: Remote) -> None:
    first = remote.put_bytes(b"one", "index.json", if_absent=True)
    with pytest.raises(LostRaceError, match=r"index.json: another process has written it"):
        remote.put_bytes(b"two", "index.json", if_absent=True)
    second = remote.put_bytes(b"three", "index.json", if_etag=first.etag)
    with pytest.raises(LostRaceError):
        remote.put_bytes(b"four", "index.json", if_etag=first.etag)
    assert remote.read("index.json") == b"three" and second.etag != first.etag


@pytest.mark.s3
@pytest.mark.parametrize("first", [None, b"old"])
def test_of_writers_at_the_same_moment_one_wins(
    remote: Remote, monkeypatch: pytest.MonkeyPatch, first: bytes | None
) -> None:
    """The store decides, not the look before: both have seen what was there when they write."""
    etag = remote.put_bytes(first, "index.json").etag if first else None
    monkeypatch.setattr(Remote, "_etag_of", lambda self, path: etag)
    lost = []

    def write(data: bytes) -> None:
        try:
            remote.put_bytes(data, "index.json", if_absent=not first, if_etag=etag)
        except LostRaceError:
            lost.append(data)

    writers = [threading.Thread(target=write, args=(bytes([65 + number]),)) for number in range(4)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join()
    assert len(lost) == 3 and remote.read("index.json") not in lost


@pytest.mark.s3
def test_a_file_is_there_before_a_listing_says_so(remote: Remote, s3: S3Server) -> None:
    s3.fail("lag", key="b.jpg")
    assert [file.path for file in remote.files()] == ["a.jpg"]
    assert remote.exists("deep/b.jpg")
    assert len(list(remote.files())) == 2


@pytest.mark.parametrize("kind", ["memory", "file"])
def test_a_store_without_conditions_of_its_own_is_looked_at_first(kind: str, tmp_path: Path) -> None:
    """What holds of every kind of store that fsspec reaches, as gs:// and az:// are."""
    remote = Remote(f"{kind}://{tmp_path}/lake/set", QUICK)
    (tmp_path / "shard").write_bytes(b"shard")
    assert remote.put(tmp_path / "shard", "deep/shard").size == 5
    first = remote.put_bytes(b"1", "index.json", if_absent=True)
    with pytest.raises(LostRaceError):
        remote.put_bytes(b"2", "index.json", if_absent=True)
    with pytest.raises(LostRaceError):
        remote.put_bytes(b"22", "index.json", if_etag="another")
    remote.put_bytes(b"22", "index.json", if_etag=first.etag)
    assert [(file.path, file.size) for file in remote.files()] == [("deep/shard", 5), ("index.json", 2)]
    assert [file.path for file in remote.files("deep")] == ["deep/shard"]
    remote.get("deep/shard", tmp_path / "back", 5)
    assert (tmp_path / "back").read_bytes() == remote.read("deep/shard") == b"shard"
    for _ in range(2):
        remote.delete("deep/shard")
    assert not remote.exists("deep/shard") and not remote.exists("deep")
    with pytest.raises(NoFileError, match="deep/shard: no such file"):
        remote.read("deep/shard")


def test_a_write_that_is_cut_off_leaves_no_file_where_files_grow(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    remote = Remote(f"file://{tmp_path}/lake", QUICK)
    (tmp_path / "shard").write_bytes(b"shard")

    def cut_off(place: str, *_: Any, **__: Any) -> None:
        Path(place.removeprefix("file://")).write_bytes(b"sh")
        raise KeyboardInterrupt

    remote.put_bytes(b"1", "index.json")
    monkeypatch.setattr(remote._files, "put_file", lambda file, place, **_: cut_off(place))
    monkeypatch.setattr(remote._files, "pipe_file", cut_off)
    with pytest.raises(KeyboardInterrupt):
        remote.put(tmp_path / "shard", "shard")
    with pytest.raises(KeyboardInterrupt):
        remote.put_bytes(b"2", "index.json")
    assert remote.read("index.json") == b"1" and [file.path for file in remote.files()] == ["index.json"]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        (f"s3://key:{SECRET}@bucket/set", "holds a user name or a key"),
        (f"s3://{SECRET}@bucket/set", "holds a user name or a key"),
        (f"https://user:{SECRET}@example.org/set", "holds a user name or a key"),
        (f"https://example.org/set?X-Amz-Signature={SECRET}", "holds a query"),
        ("s3://", "names no bucket"),
    ],
)
def test_no_url_holds_a_credential(url: str, reason: str) -> None:
    with pytest.raises(StorageError, match=reason) as raised:
        Remote(url)
    assert SECRET not in str(raised.value)


def test_a_message_shows_no_credential() -> None:
    assert shown(f"s3://key:{SECRET}@bucket/set") == "s3://...bucket/set"
    assert shown(f"['https://e.org/a?sig={SECRET}', 2]") == "['https://e.org/a...', 2]"
    assert shown("a?b@c") == "a?b@c"


def test_a_container_of_azure_is_no_credential() -> None:
    assert (
        checked_url("abfss://images@account.dfs.core.windows.net/set/")
        == "abfss://images@account.dfs.core.windows.net/set"
    )


def test_a_package_that_is_missing_is_named() -> None:
    with pytest.raises(StorageError, match=r"gs://: needs a package that is not installed: pip install 'ffdi\[gcs\]'"):
        Remote("gs://bucket/set").read("a.jpg")
    with pytest.raises(StorageError, match="take s3, gs, az or https"):
        Remote("nothing://bucket/set").read("a.jpg")


def test_no_package_of_a_store_is_loaded_before_it_is_used() -> None:
    code = "import sys, ffdi.storage; ffdi.storage.Remote('s3://b/c'); print({'fsspec', 's3fs', 'botocore'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"


def test_the_path_of_this_machine_that_a_setting_names() -> None:
    assert local_path("data/a set") == "data/a set"
    assert local_path("file:///data/a%20set/") == "/data/a set"
    assert local_path("s3://bucket/set") is None
