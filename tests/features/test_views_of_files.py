"""Operations of `at: file` act on the decoded original, before it is made the square of the network."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import picture, tiny_backbone
from PIL import Image, ImageFilter

from ffdi.errors import InputError
from ffdi.features.backbone import Views
from ffdi.features.decoders import Decoder
from ffdi.features.image_views import ImageFile, ImageFiles, ViewReader
from ffdi.features.self_blending import synthesise
from ffdi.files import sha256_file
from ffdi.intake.decoding.images import ImageSource


@pytest.fixture
def original(tmp_path: Path) -> tuple[ImageFiles, str, Image.Image]:
    """A JPEG of 200 x 150 pixels, upright only after its EXIF turn."""
    picture(3, 200, fake=True).resize((150, 200)).transpose(Image.Transpose.ROTATE_90).save(
        tmp_path / "a.jpg", quality=97, exif=_turned()
    )
    image_id = sha256_file(tmp_path / "a.jpg")
    upright = Image.open(tmp_path / "a.jpg").convert("RGB").transpose(Image.Transpose.ROTATE_270)
    return ImageFiles(ImageSource(tmp_path, 10**6), {image_id: ImageFile("a.jpg", "")}), image_id, upright


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6
    return exif


def read(files: ImageFiles, rows: list[tuple[str, int]], *policy: Any, **changes: Any) -> Any:
    return ViewReader(files, tiny_backbone(views=Views(2, policy), **changes))(rows).astype(int)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def test_the_original_is_degraded_and_then_resized(original: Any) -> None:
    files, image_id, upright = original
    square = tiny_backbone().pixels.square
    fixed: dict[str, Any] = {"jpeg": {"low": 10, "high": 10, "p": 1.0}, "blur": {"low": 4.0, "sigma": 4.0, "p": 1.0}}
    due = {
        "jpeg": square(jpeg(upright, 10)),
        "blur": square(upright.filter(ImageFilter.GaussianBlur(4))),
    }
    for name, by_hand in due.items():
        found = read(files, [(image_id, 1)], {name: fixed[name] | {"at": "file"}})[0]
        assert np.array_equal(found, np.asarray(by_hand))
        at_square = read(files, [(image_id, 1)], {name: fixed[name]})[0]
        assert np.abs(at_square - found).mean() > 2  # ten pixels of the square are 31 of the file
    both = read(files, [(image_id, 1)], {"blur": fixed["blur"]}, {"jpeg": fixed["jpeg"] | {"at": "file"}})[0]
    assert np.array_equal(both, np.asarray(due["jpeg"].filter(ImageFilter.GaussianBlur(4))))  # the file comes first


def test_view_0_and_a_view_that_draws_nothing_are_those_of_the_bytes(original: Any) -> None:
    files, image_id, _ = original
    clean = read(files, [(image_id, 0)])[0]
    rows = [(image_id, 0), (image_id, 1), (image_id, 2)]
    assert all(np.array_equal(view, clean) for view in read(files, rows, {"mix": {"p": 0.0, "at": "file"}}))
    mixed = read(files, rows, {"mix": {"strength": 5, "p": 1.0, "at": "file"}})
    assert np.array_equal(mixed[0], clean)
    assert len({view.tobytes() for view in mixed}) == 3
    alone = read(files, [rows[2]], {"mix": {"strength": 5, "p": 1.0, "at": "file"}})
    assert np.array_equal(alone[0], mixed[2])  # whatever else is read with it


def test_a_synthesised_fake_is_made_of_the_degraded_file(original: Any) -> None:
    """Real and synthesised images are degraded alike: how strongly must not tell the one from the other."""
    files, image_id, upright = original
    fake = "ab" * 32
    blended = ImageFiles(files.source, {fake: ImageFile("a.jpg", image_id)})
    found = read(blended, [(fake, 1)], {"jpeg": {"low": 10, "high": 10, "p": 1.0, "at": "file"}})[0]
    due = synthesise(tiny_backbone().pixels.square(jpeg(upright, 10)), fake)
    assert np.array_equal(found, np.asarray(due))


def test_a_changed_file_is_named(original: Any) -> None:
    files, image_id, upright = original
    upright.save(files.source.root / "a.jpg")
    with pytest.raises(InputError, match="changed since it was ingested"):
        read(files, [(image_id, 1)], {"jpeg": {"at": "file"}})


def test_nvjpeg_leaves_a_degraded_original_to_pillow(original: Any) -> None:
    _, _, upright = original
    backbone = tiny_backbone(decoder="nvjpeg")
    decoder = Decoder(backbone, max_pixels=10**6, device="cpu")
    (found,) = decoder([("a.jpg", lambda: upright)])
    assert np.array_equal(np.asarray(found), np.asarray(backbone.pixels.square(upright))) and not decoder.fallbacks()
