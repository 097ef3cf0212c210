"""Archives as macOS and Windows pack them: names in either form, in other encodings, with backslashes, beside droppings."""

import struct
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from unicodedata import normalize

import pytest
from archive_cases import refused, zipped
from layout_cases import records

from ffdi.intake.archives import unpacked
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.settings import DataSettings

NFC, NFD = (normalize(form, "fake/Jos\xe9.jpg") for form in ("NFC", "NFD"))
UNIX, WINDOWS = 3, 0


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "archives"


def packed(file: Path, names: Sequence[bytes], system: int = UNIX, extra: bytes = b"") -> Path:
    """A zip of members with these bytes for names, and no flag of an encoding."""
    plain = [b"%03d" % number + b"x" * (len(name) - 3) for number, name in enumerate(names)]
    members = []
    for name in plain:
        info = zipfile.ZipInfo(name.decode())
        info.create_system, info.extra = system, extra
        members.append((info, b"" if names[plain.index(name)].endswith((b"/", b"\\")) else b"x"))
    data = zipped(file, members).read_bytes()
    for ascii_name, name in zip(plain, names, strict=True):
        data = data.replace(ascii_name, name)
    file.write_bytes(data)
    return file


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_a_mac_packs_decomposed_names_in_utf8_without_a_flag(tmp_path: Path) -> None:
    names = ["set/real/a.jpg", f"set/{NFD}", "set/labels.csv", "__MACOSX/set/fake/._a.jpg", "set/.DS_Store"]
    folder = unpacked(packed(tmp_path / "mac.zip", [name.encode() for name in names]))
    assert files(folder) == [".DS_Store", NFD, "labels.csv", "real/a.jpg"]
    (folder / "labels.csv").write_text(f"path,label\n{NFC},1\nreal/a.jpg,0\n", encoding="utf-8")
    listing = read_layout(folder, DataSettings(".", "csv"))
    assert [row["path"] for row in records(listing.rows)] == [NFD, "real/a.jpg"]
    assert "spelt otherwise on disk (Unicode normal form)" in listing.messages[0]
    assert dict(listing.skipped)[".DS_Store"] == "system file"


@pytest.mark.parametrize(
    ("name", "read"),
    [
        (NFC.encode("cp437"), NFC),  # Windows
        (NFC.encode(), NFC),
        ("fake/\u9854.jpg".encode(), "fake/\u9854.jpg"),
        (b"fake/\x81\x82\x83.jpg", "fake/\xfc\xe9\xe2.jpg"),  # no UTF-8
    ],
)
def test_a_name_without_a_flag(tmp_path: Path, name: bytes, read: str) -> None:
    assert files(unpacked(packed(tmp_path / "x.zip", [name, b"real/a.jpg"]))) == [read, "real/a.jpg"]


def test_a_name_in_the_field_for_it(tmp_path: Path) -> None:
    name = b"real/J\x94rg.jpg"  # cp850, as Info-ZIP packs on Windows
    field = b"\1" + struct.pack("<L", zlib.crc32(name)) + "real/J\xf6rg \u9854.jpg".encode()
    extra = struct.pack("<HH", 0x7075, len(field)) + field
    assert files(unpacked(packed(tmp_path / "x.zip", [name, b"fake/a.jpg"], extra=extra))) == [
        "fake/a.jpg",
        "real/J\xf6rg \u9854.jpg",
    ]


def test_backslashes_of_windows_are_slashes_where_no_name_has_one(tmp_path: Path, cache: Path) -> None:
    names = [b"set\\real\\", b"set\\real\\a.jpg", b"set\\fake\\b.jpg", b"Thumbs.db"]
    folder = unpacked(packed(tmp_path / "x.zip", names, WINDOWS))
    assert folder.name == "set" and files(folder) == ["fake/b.jpg", "real/a.jpg"]


@pytest.mark.parametrize("names", [[b"..\\a.jpg"], [b"C:\\a.jpg"], [b"\\a.jpg"], [b"a\\..\\..\\b.jpg"]])
def test_backslashes_of_windows_lead_nowhere_else(tmp_path: Path, cache: Path, names: list[bytes]) -> None:
    refused(packed(tmp_path / "x.zip", names, WINDOWS), "leads out", cache)


@pytest.mark.parametrize(("names", "system"), [([b"real\\a.jpg"], UNIX), ([b"real\\a.jpg", b"fake/b.jpg"], WINDOWS)])
def test_backslashes_that_may_be_part_of_a_name(tmp_path: Path, cache: Path, names: list[bytes], system: int) -> None:
    refused(packed(tmp_path / "x.zip", names, system), "has a backslash where archives have slashes", cache)
