"""An archive is unpacked once; an unsafe, damaged or too large one leaves nothing behind."""

import gzip
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest
from archive_cases import FACES, TARS, contents, member, packed, refused, tarred, zipped

from ffdi import files
from ffdi.errors import FfdiError
from ffdi.intake import archives
from ffdi.intake.archives import unpacked
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.settings import DataSettings


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "archives"


@pytest.mark.parametrize("name", ["faces.zip", *TARS])
def test_an_archive_becomes_its_top_folder(tmp_path: Path, name: str) -> None:
    archive = packed(tmp_path, name, FACES)
    folder = unpacked(archive)
    assert contents(folder) == {path.removeprefix("faces/"): data for path, data in FACES.items()}
    rows = read_layout(folder, DataSettings(".", "imagefolder")).rows
    assert list(rows["label"]) == [1, 1, 0]


@pytest.mark.parametrize("name", ["faces.zip", *TARS])
def test_the_kind_is_told_by_content(tmp_path: Path, name: str) -> None:
    archive = packed(tmp_path, name, FACES).rename(tmp_path / "x.dat")
    assert unpacked(archive).name == "faces"


def test_a_tar_that_ends_with_a_zip_is_a_tar(tmp_path: Path) -> None:
    inner = zipped(tmp_path / "inner.zip", {"a.jpg": b"a"}).read_bytes()
    archive = tarred(tmp_path / "x.tar", [member("a/x.jpg", b"x"), member("b/inner.zip", inner)])
    assert zipfile.is_zipfile(archive)
    assert contents(unpacked(archive)) == {"a/x.jpg": b"x", "b/inner.zip": inner}


@pytest.mark.parametrize(
    ("names", "top"),
    [
        (["d/a", "__MACOSX/d/._a", ".DS_Store", ".hidden/x"], "d"),
        (["d/a", "Thumbs.db", "desktop.ini", "$RECYCLE.BIN/x"], "d"),
        (["./d/./a", "d//b"], "d"),
        (["d/a", "b"], ""),
        (["d/a", "e/a"], ""),
        (["a"], ""),
        ([".d/a"], ""),
        (["d/e/a"], "d"),
        ([], ""),
    ],
)
def test_which_folder_is_the_root(tmp_path: Path, cache: Path, names: list[str], top: str) -> None:
    for folder in (
        unpacked(zipped(tmp_path / "x.zip", dict.fromkeys(names, b"x"))),
        unpacked(tarred(tmp_path / "x.tar", [member(name, b"x") for name in names])),
    ):
        assert folder.relative_to(cache).parts[1:] == ((top,) if top else ())
        assert "__MACOSX/d/._a" not in names or (folder.parent / "__MACOSX/d/._a").is_file()


def test_a_folder_is_itself(tmp_path: Path, cache: Path) -> None:
    assert unpacked(tmp_path) == tmp_path and not cache.exists()


def test_folders_may_stand_there_twice_and_rights_are_not_restored(tmp_path: Path) -> None:
    info, data = member("d/a.jpg", b"a")
    info.mode, info.mtime, info.uid = 0o4777, 5, 12345
    archive = tarred(
        tmp_path / "x.tar", [*[member("d", kind=tarfile.DIRTYPE)] * 2, member(".", kind=b"5"), (info, data)]
    )
    file = unpacked(archive) / "a.jpg"
    assert stat.S_IMODE(file.stat().st_mode) & 0o7111 == 0
    assert file.stat().st_uid == os.getuid() and file.stat().st_mtime > 10**9


def test_names_in_a_zip_are_read_as_zipfile_does(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "x.zip", {"d/ae.jpg": b"x"})
    archive.write_bytes(archive.read_bytes().replace(b"d/ae", b"d/\x84e"))  # cp437's ä, no UTF-8 flag
    assert list(contents(unpacked(archive))) == ["äe.jpg"]


def test_unpacked_once(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path / "x.zip", {"d/a.jpg": b"old"})
    folder = unpacked(archive)
    monkeypatch.setattr(archives, "unpack_once", lambda *_: pytest.fail("unpacked twice"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("x.zip")
    assert unpacked(archive) == unpacked(Path("x.zip")) == unpacked(Path("link")) == folder
    monkeypatch.undo()
    monkeypatch.setenv("FFDI_CACHE", str(cache.parent))
    before = archive.stat()
    zipped(archive, {"d/a.jpg": b"new"})
    os.utime(archive, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert contents(unpacked(archive)) == {"a.jpg": b"new"}  # the same size, another time


def test_two_at_once_unpack_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = zipped(tmp_path / "x.zip", FACES)
    started, go, found = threading.Event(), threading.Event(), []
    members, runs = archives._zip_members, []

    def slow(file: Path, folder: Path) -> Iterable[archives._Member]:
        runs.append(file)
        started.set()
        assert go.wait(20)
        return members(file, folder)

    monkeypatch.setattr(archives, "_zip_members", slow)
    threads = [threading.Thread(target=lambda: found.append(unpacked(archive))) for _ in range(2)]
    threads[0].start()
    assert started.wait(20)
    threads[1].start()
    threads[1].join(0.3)
    assert threads[1].is_alive()  # it waits, and does not fail
    go.set()
    for thread in threads:
        thread.join(20)
    assert len(runs) == 1 and found[0] == found[1] and contents(found[0])


def test_a_killed_run_leaves_no_folder_that_looks_whole(tmp_path: Path, cache: Path) -> None:
    archive = tarred(tmp_path / "x.tar", [member(f"d/{i}.jpg", b"x") for i in range(50)])
    program = (
        "import os, pathlib, ffdi.intake.archives as a\n"
        "write, count = a._write, []\n"
        "def dies(*args):\n"
        "    count.append(1)\n"
        "    return os.kill(os.getpid(), 9) if len(count) > 20 else write(*args)\n"
        "a._write = dies\n"
        f"a.unpacked(pathlib.Path({str(archive)!r}))\n"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == -9
    assert [p for p in cache.iterdir() if not p.name.endswith(".lock") and not p.name.startswith(".")] == []
    assert len(contents(unpacked(archive))) == 50
    assert sorted(p.name[:1] == "." for p in cache.iterdir()) == [False, False]  # folder and lock: no leftovers


def test_what_is_skipped_is_no_more_than_what_is_read(tmp_path: Path) -> None:
    archive = tarred(tmp_path / "x.tar.gz", [member("a.jpg", b"x")], "gz")
    with archives._TarBytes(archive) as stream, pytest.raises(archives._TooMuch):
        stream.seek(10**12)


@pytest.mark.parametrize("name", ["faces.zip", "faces.tar"])
def test_a_disk_too_small(tmp_path: Path, cache: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    archive = packed(tmp_path, name, FACES)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=4000))
    refused(archive, r"5 kB more .* 4 kB free: set FFDI_CACHE", cache, FfdiError)


def test_a_disk_that_cannot_be_written(tmp_path: Path, cache: Path) -> None:
    archive = zipped(tmp_path / "x.zip", {"a" * 300: b"x"})  # no file system takes such a name
    refused(archive, "cannot be unpacked to .*: File name too long", cache, FfdiError)


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(files, "_temporary", [])
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "x.zip" / "cache"))  # below a file: root cannot write there either
    archive = zipped(tmp_path / "x.zip", FACES)
    folder = unpacked(archive)
    assert contents(folder) == {path.removeprefix("faces/"): data for path, data in FACES.items()}
    assert unpacked(archive) == folder  # once for the process
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and "set FFDI_CACHE" in said and str(tmp_path / "x.zip" / "cache") in said


@pytest.mark.parametrize(
    "data", [b"", b"text", b"PK", b"\x1f\x8b", gzip.compress(b"text", mtime=0), bytes(100), b"BZh9 text"]
)
def test_what_is_no_archive(tmp_path: Path, cache: Path, data: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    refused(tmp_path / "x.zip", "is neither a folder nor a zip or tar archive|damaged", cache)


def test_what_is_no_file(tmp_path: Path, cache: Path) -> None:
    refused(tmp_path / "none.zip", "no such folder or archive", cache)
    os.mkfifo(tmp_path / "fifo.tar")
    refused(tmp_path / "fifo.tar", "is neither a folder nor a zip or tar archive", cache)
