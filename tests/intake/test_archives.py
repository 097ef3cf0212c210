"""An archive is unpacked once; an unsafe, damaged or too large one leaves nothing behind."""

import bz2
import gzip
import io
import os
import shutil
import stat
import struct
import subprocess
import sys
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from types import SimpleNamespace

import pytest

from ffdi import files
from ffdi.errors import FfdiError, InputError
from ffdi.intake import archives
from ffdi.intake.archives import unpacked
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.settings import DataSettings

FACES = {"faces/real/a.jpg": b"a", "faces/fake/ä 人, 'b'.jpg": b"b" * 5000, "faces/fake/deep/c.jpg": b""}
TARS = {"faces.tar": "", "faces.tar.gz": "gz", "faces.tar.bz2": "bz2", "faces.tar.xz": "xz"}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "archives"


def zipped(file: Path, members: dict[str, bytes] | Iterable[tuple[zipfile.ZipInfo | str, bytes]]) -> Path:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items() if isinstance(members, dict) else members:
            archive.writestr(name, data)
    return file


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(data)
    return info, data


def tarred(file: Path, members: Iterable[tuple[tarfile.TarInfo, bytes]], packing: str = "") -> Path:
    with tarfile.open(file, f"w:{packing}") as archive:  # type: ignore[call-overload]
        for info, data in members:
            archive.addfile(info, io.BytesIO(data))
    return file


def packed(folder: Path, name: str, members: dict[str, bytes]) -> Path:
    if name.endswith(".zip"):
        return zipped(folder / name, members)
    return tarred(folder / name, (member(*pair) for pair in members.items()), TARS[name])


def contents(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def refused(archive: Path, says: str, cache: Path, error: type[FfdiError] = InputError) -> None:
    with pytest.raises(error, match=says) as caught:
        unpacked(archive)
    assert str(archive) in str(caught.value) and "\n" not in str(caught.value)
    assert type(caught.value) is error
    assert [p.name for p in cache.glob("*") if not p.name.endswith(".lock")] == []


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
    monkeypatch.setattr(archives, "_unpack_once", lambda *_: pytest.fail("unpacked twice"))
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


BAD_NAMES = [
    "../a",
    "d/../../a",
    "d/..",
    "/etc/a",
    "//host/a",
    "C:\\a",
    "C:a",
    "\\a",
    "..\\a",
    "d\\a",
    "d/" * 101 + "a",
]


@pytest.mark.parametrize("name", BAD_NAMES)
def test_names_that_lead_out(tmp_path: Path, cache: Path, name: str) -> None:
    says = r"member '.*(leads out|has a backslash|1 to 100 parts)"
    refused(zipped(tmp_path / "x.zip", [("good.jpg", b"x"), (name, b"x")]), says, cache)
    refused(tarred(tmp_path / "x.tar", [member("good.jpg", b"x"), member(name, b"x")]), says, cache)
    refused(tarred(tmp_path / "y.tar", [member(name, kind=tarfile.DIRTYPE)]), says, cache)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["cache", "x.tar", "x.zip", "y.tar"]


def test_a_backslash_is_named_for_what_it_is(tmp_path: Path, cache: Path) -> None:
    says = r"x\.zip: member 'real\\\\a\.jpg' has a backslash where archives have slashes, .*: unpack it yourself"
    refused(zipped(tmp_path / "x.zip", [("real\\a.jpg", b"x")]), says, cache)


def test_a_name_with_a_nul(tmp_path: Path, cache: Path) -> None:
    info, data = member("x", b"x")
    info.pax_headers = {"path": "a\0b.jpg"}
    with tarfile.open(tmp_path / "x.tar", "w", format=tarfile.PAX_FORMAT) as archive:
        archive.addfile(info, io.BytesIO(data))
    refused(tmp_path / "x.tar", r"member 'a\\x00b.jpg' leads out", cache)


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE, tarfile.BLKTYPE, b"Z"]
)
def test_links_and_devices_in_a_tar(tmp_path: Path, cache: Path, kind: bytes) -> None:
    archive = tarred(tmp_path / "x.tar", [member("a.jpg", b"x"), member("bad.jpg", kind=kind, link="a.jpg")])
    refused(archive, "member 'bad.jpg' is a link or a device", cache)


@pytest.mark.parametrize("mode", [stat.S_IFLNK, stat.S_IFIFO, stat.S_IFCHR])
def test_links_and_devices_in_a_zip(tmp_path: Path, cache: Path, mode: int) -> None:
    info = zipfile.ZipInfo("bad.jpg")
    info.external_attr = (mode | 0o777) << 16
    refused(zipped(tmp_path / "x.zip", [(info, b"/etc/passwd")]), "member 'bad.jpg' is a link or a device", cache)


@pytest.mark.parametrize(
    "names", [("a.jpg", "a.jpg"), ("d/a.jpg", "./d//a.jpg"), ("d", "d/a.jpg"), ("d/a.jpg", "d"), ("d", "d/e/a.jpg")]
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_two_members_of_one_name(tmp_path: Path, cache: Path, names: tuple[str, str]) -> None:
    says = rf"member '{names[1]}': another member has that name"
    refused(zipped(tmp_path / "x.zip", [(name, b"x") for name in names]), says, cache)
    refused(tarred(tmp_path / "x.tar", [member(name, b"x") for name in names]), says, cache)


def patched(archive: Path, old: bytes, new: bytes) -> Path:
    data = archive.read_bytes()
    assert old in data
    archive.write_bytes(data.replace(old, new))
    return archive


def test_an_encrypted_member(tmp_path: Path, cache: Path) -> None:
    archive = zipped(tmp_path / "x.zip", {"a.jpg": b"x"})
    data = bytearray(archive.read_bytes())
    data[6] |= 1
    data[data.index(b"PK\1\2") + 8] |= 1
    archive.write_bytes(data)
    refused(archive, "member 'a.jpg' is encrypted", cache)


def stored(file: Path, name: str, data: bytes) -> Path:
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr(name, data)
    return file


def test_damaged_zips(tmp_path: Path, cache: Path) -> None:
    flipped = patched(stored(tmp_path / "crc.zip", "a.jpg", b"abcdefgh"), b"abcdefgh", b"abcdefgX")
    refused(flipped, r"member 'a\.jpg': damaged: .*CRC", cache)
    whole = zipped(tmp_path / "x.zip", {"a.jpg": os.urandom(5000), "b.jpg": b""}).read_bytes()
    (tmp_path / "head.zip").write_bytes(whole[2000:])  # its end alone: the offsets are wrong
    refused(tmp_path / "head.zip", "damaged", cache)
    (tmp_path / "tail.zip").write_bytes(whole[:-40])
    refused(tmp_path / "tail.zip", "is neither a folder nor a zip or tar archive", cache)
    unknown = patched(stored(tmp_path / "kind.zip", "a.jpg", b"x"), b"\0\0\0\0", b"\0\0\x63\0")
    refused(unknown, "damaged", cache)


def lying(file: Path, data: bytes, declared: int) -> Path:
    """A zip of one member that declares another size, CRC kept."""
    return patched(zipped(file, {"a.jpg": data}), struct.pack("<I", len(data)), struct.pack("<I", declared))


def test_a_zip_member_that_is_shorter_than_it_says(tmp_path: Path, cache: Path) -> None:
    refused(lying(tmp_path / "x.zip", b"xyz" * 1111, 3334), r"member 'a\.jpg': damaged: 3333 bytes.* says 3334", cache)


def test_a_zip_member_that_is_longer_than_it_says(tmp_path: Path, cache: Path) -> None:
    refused(lying(tmp_path / "x.zip", b"x" * 70001, 4000), r"member 'a\.jpg': damaged", cache)


@pytest.mark.parametrize("name", TARS)
@pytest.mark.parametrize("keep", [0.3, 0.6, 0.95])
def test_truncated_tars(tmp_path: Path, cache: Path, name: str, keep: float) -> None:
    archive = packed(tmp_path, name, {f"d/{i}.jpg": os.urandom(3000) for i in range(20)})
    data = archive.read_bytes()
    archive.write_bytes(data[: int(keep * len(data.rstrip(b"\0")))])
    refused(archive, "damaged", cache)


def test_damaged_tars(tmp_path: Path, cache: Path) -> None:
    whole = tarred(tmp_path / "x.tar", [member(f"{i}.jpg", b"x" * 512) for i in range(3)]).read_bytes()
    for name, data, says in (
        ("boundary", whole[:2048], r"after member '1\.jpg': damaged: neither another member nor the end mark"),
        ("header", whole[:2048] + b"!" + whole[2049:], r"after member '1\.jpg': damaged: neither another"),
        ("body", whole[:1500], r"'0\.jpg': damaged"),
        ("two", whole + whole, r"after member '2\.jpg': damaged: more follows the end mark"),
    ):
        (tmp_path / name).write_bytes(data)
        refused(tmp_path / name, says, cache)


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress])
def test_a_checksum_after_the_last_member(tmp_path: Path, cache: Path, pack: Callable[[bytes], bytes]) -> None:
    whole = tarred(tmp_path / "x.tar", [member("a.jpg", b"x")]).read_bytes()
    data = bytearray(pack(whole))
    data[-6] ^= 1
    (tmp_path / "x.tgz").write_bytes(data)
    refused(tmp_path / "x.tgz", "damaged", cache)


def test_bombs(tmp_path: Path, cache: Path) -> None:
    zeros = bytes(3_000_000)
    refused(zipped(tmp_path / "one.zip", {"a": b"a", "b": zeros}), "member 'b': unpacks to more than 100 x", cache)
    below = bytes(990_000)  # each one is small enough, all together are not
    refused(zipped(tmp_path / "all.zip", {f"{i}": below for i in range(9)}), r"member '\d': unpacks to more", cache)
    with zipfile.ZipFile(tmp_path / "mixed.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("photo", os.urandom(100_000))  # all together are no more than 100 x
        archive.writestr("bomb", zeros)
    refused(tmp_path / "mixed.zip", "member 'bomb': unpacks to more than 100 x", cache)
    for name, packing in TARS.items():
        if packing:
            refused(tarred(tmp_path / name, [member("b", zeros)], packing), "member 'b': unpacks to more", cache)
    many = (member(f"{i:07d}") for i in range(9000))
    refused(tarred(tmp_path / "many.tar.xz", many, "xz"), "unpacks to more", cache)  # nothing in them but headers


def test_a_small_archive_may_grow_by_a_megabyte(tmp_path: Path) -> None:
    assert len(contents(unpacked(zipped(tmp_path / "x.zip", {"a": bytes(990_000)})))["a"]) == 990_000
    tarred(tmp_path / "x.tar.gz", [member("a", bytes(990_000))], "gz")
    assert len(contents(unpacked(tmp_path / "x.tar.gz"))["a"]) == 990_000


def test_a_sparse_file_of_a_tar_is_counted_as_written(tmp_path: Path, cache: Path) -> None:
    info = tarfile.TarInfo("sparse.jpg")
    info.type = tarfile.GNUTYPE_SPARSE
    header = bytearray(info.tobuf(tarfile.GNU_FORMAT))
    header[483:495] = b"%011o\0" % 10**9  # its size unpacked; no byte of it is there
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header)
    (tmp_path / "x.tar").write_bytes(bytes(header) + bytes(10240))
    refused(tmp_path / "x.tar", r"member 'sparse\.jpg': unpacks to more", cache)


@pytest.mark.parametrize("kind", [tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE])
@pytest.mark.parametrize(("size", "says"), [(5000, "a header of 5120 bytes"), (-512, "a header of -512 bytes")])
def test_headers_that_would_fill_the_memory(
    tmp_path: Path, cache: Path, kind: bytes, size: int, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archives, "_LONGEST_HEADER", 5000)
    info = tarfile.TarInfo("x.jpg")
    info.type, info.size = kind, size
    bad = info.tobuf(tarfile.GNU_FORMAT) + bytes(10240)
    good = tarred(tmp_path / "x.tar", [member("a.jpg", b"x")]).read_bytes()[:1024]
    (tmp_path / "x.tar").write_bytes(gzip.compress(good + bad))
    refused(tmp_path / "x.tar", rf"after member 'a\.jpg': damaged: {says}", cache)
    (tmp_path / "x.tar").write_bytes(gzip.compress(bad))
    refused(tmp_path / "x.tar", f"damaged: {says}", cache)


def test_a_member_of_negative_size(tmp_path: Path, cache: Path) -> None:
    info = tarfile.TarInfo("x.jpg")
    info.size = -512
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    refused(tmp_path / "x.tar", r"member 'x\.jpg': damaged: 0 bytes, the archive says -512", cache)


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


@pytest.mark.parametrize("data", [b"", b"text", b"PK", b"\x1f\x8b", gzip.compress(b"text"), bytes(100), b"BZh9 text"])
def test_what_is_no_archive(tmp_path: Path, cache: Path, data: bytes) -> None:
    (tmp_path / "x.zip").write_bytes(data)
    refused(tmp_path / "x.zip", "is neither a folder nor a zip or tar archive|damaged", cache)


def test_what_is_no_file(tmp_path: Path, cache: Path) -> None:
    refused(tmp_path / "none.zip", "no such folder or archive", cache)
    os.mkfifo(tmp_path / "fifo.tar")
    refused(tmp_path / "fifo.tar", "is neither a folder nor a zip or tar archive", cache)
