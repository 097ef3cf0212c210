"""An archive that is unsafe or damaged is refused with its member named, and leaves nothing behind."""

import bz2
import gzip
import io
import os
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from archive_cases import TARS, contents, member, packed, refused, tarred, zipped

from ffdi.intake import archives
from ffdi.intake.archives import unpacked


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "archives"


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
