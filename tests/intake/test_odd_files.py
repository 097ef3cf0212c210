"""Every kind of odd_files.py in open_image and ingest, its table in docs/data.md, and formats that are not listed."""

import importlib
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import HERE
from odd_bytes import Odd, encoded, jpeg, many_scans, png_with, scene
from odd_files import DOCS, FILES, in_docs
from PIL import Image

from ffdi.intake.auditing.file_facts import file_facts
from ffdi.intake.decoding.formats import FORMATS, SUFFIXES, format_of
from ffdi.intake.decoding.images import ImageSource, UnreadableImage, open_header, open_image
from ffdi.intake.ingest import ingest

MAX_PIXELS = 10**6


@pytest.fixture(params=FILES, ids=[odd.given for odd in FILES])
def odd(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Odd:
    """A kind of file, with the plugin that it is read by, or without that whose absence is the matter."""
    found: Odd = request.param
    if found.needs.startswith("no "):
        monkeypatch.setitem(sys.modules, found.needs.removeprefix("no "), None)
    elif found.needs:
        pytest.importorskip(found.needs)
        importlib.import_module({"pillow_heif": "pillow_heif.HeifImagePlugin"}.get(found.needs, found.needs))
    return found


def test_what_becomes_of_it(odd: Odd) -> None:
    assert odd.becomes.startswith("rejected") == (odd.due is None) == bool(odd.reason)
    for number, make in enumerate((odd.make, *odd.also)):
        if odd.due is None:
            with pytest.raises(UnreadableImage) as caught:
                open_image(make(), max_pixels=MAX_PIXELS)
            assert str(caught.value).startswith(odd.reason), number
            continue
        found, due = np.asarray(open_image(make(), max_pixels=MAX_PIXELS), float), np.asarray(odd.due(), float)
        assert found.shape == due.shape, number
        assert np.abs(found - due).mean() <= odd.off, number


def test_ingest_lists_each_as_read_or_rejected(tmp_path: Path) -> None:
    here = [odd for odd in FILES if not odd.needs]
    for i, odd in enumerate(here):
        (tmp_path / f"{i:02d}").write_bytes(odd.make())
    listed = pd.DataFrame({"path": [f"{i:02d}" for i in range(len(here))], "label": 0, "group": "", "given_split": ""})
    found = ingest(listed, ImageSource(tmp_path, MAX_PIXELS), max_rejected=1)
    refused = {path: here[int(path)].reason for path, _ in found.rejected.itertuples(index=False)}
    assert set(refused) == {f"{i:02d}" for i, odd in enumerate(here) if odd.due is None}
    assert all(reason.startswith(refused[path]) for path, reason in found.rejected.itertuples(index=False))
    assert len(found.images) + found.duplicates == len(here) - len(refused)


def test_the_docs_have_the_table() -> None:
    text = DOCS.read_text(encoding="utf-8")
    assert in_docs(text) == text, "python tests/odd_files.py writes it anew"


STRANGERS = {
    **{name: encoded(name) for name in ("EPS", "PDF", "ICO", "PCX", "SGI", "TGA", "DDS", "ICNS")},
    **{name: encoded(name) for name in ("IM", "QOI", "DIB")},
    "SPIDER": encoded("SPIDER", scene().convert("F")),
    "MSP": encoded("MSP", scene().convert("1")),
    "XBM": encoded("XBM", scene().convert("1")),
    "PSD": b"8BPS\0\1" + bytes(60),
    "FITS": b"SIMPLE  =                    T".ljust(2880),
    "CUR": b"\0\0\2\0" + bytes(60),
    "XPM": b"/* XPM */\nstatic char *x[] = {};",
    "WMF": b"\xd7\xcd\xc6\x9a" + bytes(60),
    "SUN raster": b"\x59\xa6\x6a\x95" + bytes(60),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(60),
    "MPEG video": b"\0\0\1\xb3" + bytes(60),
    "MPEG transport stream": (b"\x47" + bytes(187)) * 3,
    "MP4 video": b"\0\0\0\x18ftypisom\0\0\2\0isomiso2" + bytes(60),
    "QuickTime video": b"\0\0\0\x08wide\0\0\1\0mdat" + bytes(60),
    "AVI video": b"RIFF\x40\0\0\0AVI LIST" + bytes(60),
    "Matroska video": b"\x1a\x45\xdf\xa3\xa3\x42\x86\x81\1" + bytes(60),
    "FLV video": b"FLV\1\1" + bytes(60),
    "WMV video": b"\x30\x26\xb2\x75\x8e\x66\xcf\x11" + bytes(60),
    "Ogg video": b"OggS" + bytes(60),
    "IVF video": b"DKIF\0\0\x20\0VP90" + bytes(60),
    "H.264 video": b"\0\0\0\1\x67" + bytes(60),
    "HEVC video": b"\0\0\0\1\x40\1" + bytes(60),
    "playlist": b"#EXTM3U\nhttp://example.org/a.ts\n",
    "HTML": b"<!DOCTYPE html><html>not found</html>",
    "Git LFS pointer": b"version https://git-lfs.github.com/spec/v1\noid sha256:00",
    "ZIP": b"PK\3\4" + bytes(60),
}
NAMELESS = ("IM", "DIB", "SPIDER", "MSP", "XBM")


@pytest.mark.parametrize("name", STRANGERS)
def test_formats_that_are_not_listed_reach_no_plugin(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reached = []
    Image.init()  # all of Pillow's are there: still none is to be tried
    for other in set(Image.OPEN) - set(FORMATS):
        monkeypatch.setitem(Image.OPEN, other, (reached.append, lambda _, other=other: reached.append(other)))
    for damaged in (b"\x89PNG\r\n\x1a\n", b"BM", b"GIF89a", b"II*\0", b"P5", b"\xff\xd8\xff"):  # no one else's either
        with pytest.raises(UnreadableImage):
            open_image(damaged + STRANGERS[name], max_pixels=MAX_PIXELS)
    expected = "not an image format that Pillow knows" if name in NAMELESS else f"{name} is not on the list of formats"
    expected += ": stage faces takes its frames" * name.endswith(" video")
    for read in (open_header, lambda data: open_image(data, max_pixels=MAX_PIXELS), file_facts):
        with pytest.raises(UnreadableImage) as caught:
            read(STRANGERS[name])
        assert str(caught.value) == expected
    assert reached == []


def test_no_program_is_started_and_no_other_plugin_loaded(tmp_path: Path) -> None:
    """In a process of its own, for here all plugins are loaded: with a Ghostscript that tells that it was called."""
    (gs := tmp_path / "gs").write_text('#!/bin/sh\necho called > "$(dirname "$0")/called"\n')
    gs.chmod(0o755)
    (tmp_path / "photo.jpg").write_bytes(encoded("EPS"))
    (tmp_path / "whole.png").write_bytes(encoded("PNG"))
    code = """
import sys
from ffdi.intake.decoding.images import UnreadableImage, open_image
for name in ("whole.png", "photo.jpg"):
    try:
        open_image(open(name, "rb").read(), max_pixels=10**6)
    except UnreadableImage as error:
        print(error)
print(*sorted(name for name in sys.modules if name.startswith("PIL.") and name.endswith("Plugin")))
"""
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(HERE)}
    said = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    assert said[0] == "EPS is not on the list of formats"
    allowed = ("Avif", "Bmp", "Gif", "Jpeg", "Jpeg2K", "Mpo", "Png", "Ppm", "Tiff", "WebP")
    assert set(said[1].split()) == {f"PIL.{name}ImagePlugin" for name in allowed}
    assert not (tmp_path / "called").exists()


def test_every_file_is_opened_in_one_place() -> None:
    opening = [file.name for file in (HERE / "ffdi").rglob("*.py") if "Image.open(" in file.read_text(encoding="utf-8")]
    assert opening == ["images.py"]
    assert (HERE / "ffdi/intake/decoding/images.py").read_text(encoding="utf-8").count("Image.open(") == 1


def test_a_format_is_told_by_the_bytes_alone() -> None:
    for name in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "TIFF", "PPM", "JPEG2000", "AVIF"):
        assert format_of(encoded(name)) == name and open_header(encoded(name)).format == name
    for brands, due in ((b"heic\0\0\0\0mif1", "HEIF"), (b"mif1\0\0\0\0avif", "AVIF"), (b"mif1\0\0\0\0heic", "HEIF")):
        assert format_of(b"\0\0\0\x14ftyp" + brands + bytes(40)) == due
    assert format_of(b"\0\0\0\x14ftypqt  \0\0\0\0qt  ") == "MP4 video"
    assert {".jfif", ".jpe", ".mpo", ".avif", ".heic", ".heif", ".jxl", ".jpg", ".tiff"} < set(SUFFIXES)


def test_without_its_plugin_a_format_is_refused_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setitem(sys.modules, "pillow_jxl", None)
    for data, said in (
        (b"\0\0\0\x18ftypheic\0\0\0\0mif1heic", "HEIF is read with pillow-heif: pip install 'ffdi[formats]'"),
        (b"\xff\x0a" + bytes(20), "JXL is read with pillow-jxl-plugin: pip install 'ffdi[formats]'"),
    ):
        with pytest.raises(UnreadableImage) as caught:
            open_header(data)
        assert str(caught.value) == said


@pytest.mark.parametrize("size", [(1, 1), (7, 5), (256, 256), (640, 480), (1000, 3), (3000, 10), (16, 9)])
def test_a_large_jpeg_xl_is_refused_before_its_plugin_decodes_it(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    pillow_jxl = pytest.importorskip("pillow_jxl")
    data = encoded("JXL", Image.new("RGB", size))
    assert open_image(data, max_pixels=size[0] * size[1]).size == size
    monkeypatch.setattr(pillow_jxl.JpegXLImagePlugin, "Decoder", None)
    with pytest.raises(UnreadableImage, match=f"^{size[0]}x{size[1]} is more than data.max_pixels"):
        open_image(data, max_pixels=size[0] * size[1] - 1)


def test_a_damaged_jpeg_xl_is_said_without_advice_to_who_builds_its_decoder() -> None:
    pytest.importorskip("pillow_jxl")
    with pytest.raises(UnreadableImage, match=r"^damaged: [^.]*$"):
        open_image(b"\xff\x0a" + bytes(30), max_pixels=100)


def test_a_jpeg_of_many_scans_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    def decoded(_: Any) -> None:
        raise AssertionError("decoded")

    monkeypatch.setattr(Image.core, "jpeg_decoder", decoded)
    for data in (many_scans(65), many_scans(300)):
        with pytest.raises(UnreadableImage, match=r"a JPEG of (65|300) scans"):
            open_image(data, max_pixels=MAX_PIXELS)
    with pytest.raises(UnreadableImage, match="decoded"):  # thumbnails, of which applications keep some, are no scans
        open_image(jpeg(comment=b"\xff\xda" * 100), max_pixels=MAX_PIXELS)


def test_facts_are_told_of_a_png_that_pillow_stumbles_over() -> None:
    spoilt = next(odd for odd in FILES if odd.given.startswith("PNG with more than 1 MB")).make()
    assert file_facts(spoilt)["mode"] == "RGB" and file_facts(png_with())["marks"] == ""
