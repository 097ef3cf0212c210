"""The cache of files that lie elsewhere: bounded, whole, made once, and shared by processes."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from ffdi import byte_cache as module
from ffdi.byte_cache import ByteCache, byte_cache
from ffdi.errors import FfdiError, InputError
from ffdi.files import sha256_file

SIZE = 1000


def content(number: int) -> bytes:
    return hashlib.sha256(bytes([number])).digest() * (SIZE // 32) + bytes(SIZE % 32)


def key(number: int) -> str:
    return hashlib.sha256(content(number)).hexdigest()


class Maker:
    """Writes the content of a number; counts how often."""

    def __init__(self) -> None:
        self.made: list[int] = []

    def __call__(self, number: int) -> Callable[[Path], None]:
        def make(file: Path) -> None:
            self.made.append(number)
            file.write_bytes(content(number))

        return make


def is_whole(file: Path) -> bool:
    return sha256_file(file) == file.name


def test_a_file_is_made_once_and_the_one_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache, make = ByteCache(tmp_path, 3 * SIZE + SIZE // 2), Maker()
    for number in (0, 1, 2, 0, 3):  # 3 is too much: 1 was used longest ago
        assert cache.get(key(number), make(number)).read_bytes() == content(number)
        time.sleep(0.01)
    assert make.made == [0, 1, 2, 3] and cache.held() == 3 * SIZE
    for number in (0, 2, 3, 1):
        cache.get(key(number), make(number))
    assert make.made == [0, 1, 2, 3, 1] and cache.held() <= cache.bound


def test_the_newest_file_stays_whatever_the_bound_and_an_open_one_can_be_read_to_its_end(tmp_path: Path) -> None:
    cache, make = ByteCache(tmp_path, 0), Maker()
    with open(cache.get(key(0), make(0)), "rb") as opened:
        assert cache.get(key(1), make(1)).read_bytes() == content(1)
        assert not (tmp_path / key(0)[:2] / key(0)).exists() and opened.read() == content(0)


def test_the_files_of_an_earlier_process_count(tmp_path: Path) -> None:
    for number in range(6):
        ByteCache(tmp_path, 3 * SIZE).get(key(number), Maker()(number))
    assert ByteCache(tmp_path, 3 * SIZE).held() <= 3 * SIZE


def test_a_damaged_file_is_made_again_and_a_whole_one_is_not_hashed_twice(tmp_path: Path) -> None:
    cache, make, asked = ByteCache(tmp_path, 10 * SIZE), Maker(), list[Path]()

    def counted(file: Path) -> bool:
        asked.append(file)
        return is_whole(file)

    file = cache.get(key(0), make(0), counted)
    assert asked == []  # its maker has checked it
    for _ in range(3):
        cache.get(key(0), make(0), counted)
    assert len(asked) == 1 and make.made == [0]
    file.write_bytes(b"torn")
    assert cache.get(key(0), make(0), counted).read_bytes() == content(0) and make.made == [0, 0]


def test_what_fails_leaves_nothing_and_is_tried_again(tmp_path: Path) -> None:
    cache = ByteCache(tmp_path, 10 * SIZE)

    def half(file: Path) -> None:
        file.write_bytes(b"half")
        raise InputError("the connection broke")

    with pytest.raises(InputError, match="the connection broke"):
        cache.get(key(0), half)
    assert cache.held() == 0 and cache.get(key(0), Maker()(0)).read_bytes() == content(0)


def test_an_unfinished_file_of_a_killed_process_goes_after_an_hour(tmp_path: Path) -> None:
    cache = ByteCache(tmp_path, 0)
    cache.get(key(0), Maker()(0))
    left, young = ((tmp_path / key(0)[:2] / f".{name}.1.tmp") for name in ("left", "young"))
    for file in (left, young):
        file.write_bytes(b"half")
    os.utime(left, (0, time.time() - 4000))
    cache.get(key(1), Maker()(1))
    assert young.exists() and not left.exists()


def test_threads_that_want_the_same_file_wait_for_one_of_them(tmp_path: Path) -> None:
    cache, make, read = ByteCache(tmp_path, 10 * SIZE), Maker(), list[bytes]()

    def slowly(file: Path) -> None:
        time.sleep(0.1)
        make(0)(file)

    threads = [threading.Thread(target=lambda: read.append(cache.get(key(0), slowly).read_bytes())) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert make.made == [0] and read == [content(0)] * 4


READER = """
import random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_byte_cache import SIZE, ByteCache, Maker, content, is_whole, key
cache, draw = ByteCache(Path(sys.argv[1]), 4 * SIZE), random.Random(int(sys.argv[3]))
for _ in range(150):
    number = draw.randrange(10)
    while True:
        try:
            read = cache.get(key(number), Maker()(number), is_whole).read_bytes()
            break
        except FileNotFoundError:  # another process has deleted it before it was open
            pass
    assert read == content(number)
"""


def test_processes_share_it(tmp_path: Path) -> None:
    here = str(Path(__file__).parent)
    run = [sys.executable, "-c", READER, str(tmp_path), here]
    readers = [subprocess.Popen([*run, str(seed)], stderr=subprocess.PIPE) for seed in range(2)]
    for reader in readers:
        _, said = reader.communicate()
        assert reader.returncode == 0, said.decode()
    assert ByteCache(tmp_path, 4 * SIZE).held() <= 4 * SIZE


def test_it_leaves_room_on_a_disk_that_fills(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, usage = ByteCache(tmp_path, 1 << 40), shutil.disk_usage(tmp_path)
    cache.get(key(0), Maker()(0))
    monkeypatch.setattr(module.shutil, "disk_usage", lambda folder: usage._replace(free=module._SPARE - 1))
    again = ByteCache(tmp_path, 1 << 40)
    again.get(key(1), Maker()(1))
    assert again.held() == SIZE


def test_the_environment_names_folder_and_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path))
    assert byte_cache().bound == 20 * 10**9 and byte_cache().folder == tmp_path / "objects"
    monkeypatch.setenv("FFDI_CACHE_GB", "0.5")
    assert byte_cache().bound == 5 * 10**8 and byte_cache() is byte_cache()
    for wrong in ("a lot", "-1", "nan", "inf"):
        monkeypatch.setenv("FFDI_CACHE_GB", wrong)
        with pytest.raises(FfdiError, match=rf"^FFDI_CACHE_GB={wrong}: is no number of gigabytes"):
            byte_cache()
