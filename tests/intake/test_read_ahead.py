"""Files are fetched ahead of who asks for them: all of them, bounded in number, with their errors."""

from __future__ import annotations

import errno
import hashlib
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from ffdi.errors import StorageError
from ffdi.intake.decoding import image_source
from ffdi.intake.decoding.formats import UnreadableImage
from ffdi.intake.decoding.image_source import ImageSource
from ffdi.intake.decoding.read_ahead import File, ReadAhead
from ffdi.parallel import ordered_map
from ffdi.storage import Remote


@dataclass(frozen=True)
class Slow(ImageSource):
    """Answers after a while with the path itself, and fails for the path "bad"."""

    root: Remote = field(default_factory=lambda: Remote("s3://bucket/set"))
    lock: threading.Lock = field(default_factory=threading.Lock, compare=False)
    seen: list[str] = field(default_factory=list, compare=False)
    busy: list[int] = field(default_factory=lambda: [0, 0], compare=False)  # now, and at most

    def read(self, path: str, image_id: str = "") -> bytes:
        with self.lock:
            self.seen.append(path)
            self.busy[0] += 1
            self.busy[1] = max(self.busy)
        time.sleep(0.002)
        with self.lock:
            self.busy[0] -= 1
        if path == "bad":
            raise StorageError("bad")
        return path.encode()


def one(path: str) -> list[File]:
    return [(path, "")]


def test_each_file_is_fetched_once_and_many_at_a_time() -> None:
    source, paths = Slow(), [str(number) for number in range(200)]
    ahead = ReadAhead(source, readers=16, most=32)
    found = list(ordered_map(lambda path: ahead.read(path), ahead.over(paths, one), 2))
    assert found == [path.encode() for path in paths]
    assert sorted(source.seen) == sorted(paths) and source.busy[1] > 4


def test_what_nobody_has_asked_for_is_bounded() -> None:
    source = Slow()
    ahead = ReadAhead(source, readers=8, most=10)
    items = ahead.over(map(str, range(1000)), one)
    next(items)
    time.sleep(0.1)
    assert len(source.seen) == 10
    items.close()
    time.sleep(0.1)
    assert len(source.seen) == 10 and not [t for t in threading.enumerate() if t.name.startswith("ffdi-fetch")]


def test_where_the_items_end_in_an_error_nothing_more_is_fetched() -> None:
    def broken() -> Iterator[str]:
        yield from map(str, range(100))
        raise KeyError

    source = Slow()
    with pytest.raises(KeyError):
        list(ReadAhead(source, readers=8, most=200).over(broken(), one))
    time.sleep(0.1)
    assert len(source.seen) < 100 and not [t for t in threading.enumerate() if t.name.startswith("ffdi-fetch")]


def test_an_error_comes_to_who_asks_for_its_file() -> None:
    ahead = ReadAhead(Slow(), readers=4)
    asked = ordered_map(lambda path: ahead.read(path), ahead.over(["a", "bad", "b"], one), 1)
    assert next(asked) == b"a"
    with pytest.raises(StorageError, match="bad"):
        next(asked)


def test_files_out_of_order_twice_or_never_asked_for_stop_nothing() -> None:
    source = Slow()
    ahead = ReadAhead(source, readers=2, most=4)
    blocks = [[f"{block}-{at}" for at in range(6)] for block in range(8)]  # each larger than `most`
    read = [
        ahead.read(path) for block in ahead.over(blocks, lambda b: [(p, "") for p in b]) for path in reversed(block)
    ]
    assert len(read) == 48
    assert ahead.read("never announced") == b"never announced"
    assert [ahead.read(path) for path in ahead.over(["x", "x", "y"], one)] == [b"x", b"x", b"y"]


def test_a_cache_without_room_costs_downloads_and_ends_no_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: Path, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setenv("FFDI_CACHE", str(tmp_path))
    monkeypatch.setattr(image_source, "_write", full)
    source, image_id = ImageSource(Remote(f"memory://{tmp_path}")), hashlib.sha256(b"pixels").hexdigest()
    assert isinstance(source.root, Remote)
    source.root.put_bytes(b"pixels", "a.jpg")
    source.keep(b"pixels", image_id)
    assert [source.read("a.jpg", image_id) for _ in range(2)] == [b"pixels"] * 2
    with pytest.raises(UnreadableImage, match="changed since"):
        source.read("a.jpg", "0" * 64)


def test_a_folder_is_read_by_who_asks() -> None:
    before = threading.active_count()
    assert list(ReadAhead(ImageSource(Path())).over(["a"], one)) == ["a"] and threading.active_count() == before
