"""Archives of faces for tests, and the error of a refused one."""

import io
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

import pytest

from ffdi.errors import FfdiError, InputError
from ffdi.intake.archives import unpacked


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "archives"


FACES = {"faces/real/a.jpg": b"a", "faces/fake/ä 人, 'b'.jpg": b"b" * 5000, "faces/fake/deep/c.jpg": b""}


TARS = {"faces.tar": "", "faces.tar.gz": "gz", "faces.tar.bz2": "bz2", "faces.tar.xz": "xz"}


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
