"""The decode policy, on pictures whose correct pixels are known."""

import io
import os
import struct
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import picture
from image_cases import decode, encode, png
from PIL import Image, ImageDraw, ImageFile, ImageFilter, ImageOps

from ffdi.intake.decoding.formats import TooManyPixels
from ffdi.intake.decoding.images import (
    UnreadableImage,
    is_two_tone,
    open_image,
    perceptual_hash,
    read_bytes,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (encode(picture(0), "JPEG")[:-300], "damaged: image file is truncated"),  # verify() passes it
        (encode(picture(0))[:-300], "damaged"),
        (b"", "empty file"),
        (b"no picture, whatever the name says", "not an image format"),
        (b"\xff\xd8\xff\xe0", "damaged, or of a kind that is not read: JPEG|damaged"),
        (encode(Image.fromarray(np.full((4, 4), 0.5, np.float32)), "TIFF"), "floating-point"),
        (encode(Image.fromarray(np.full((4, 4), 70000, np.int32)), "TIFF"), "32-bit"),
        (encode(Image.fromarray(np.full((4, 4), -5, np.int32)), "TIFF"), "32-bit"),
    ],
)
def test_unreadable(data: bytes, reason: str) -> None:
    with pytest.raises(UnreadableImage, match=reason) as caught:
        open_image(data, max_pixels=10**6)
    assert "\n" not in str(caught.value)


def test_every_cut_of_a_jpeg_is_refused_or_whole() -> None:
    data = encode(picture(0, 32), "JPEG")
    whole = decode(data)
    for length in range(0, len(data) - 2, 7):  # without the last two bytes only the end mark is gone
        with pytest.raises(UnreadableImage):
            open_image(data[:length], max_pixels=10**6)
    assert (decode(data + b"trailing bytes") == whole).all()


def test_damaged_bytes_never_raise_anything_else() -> None:
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "text"
    for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"):
        whole = np.frombuffer(encode(picture(1, 24), kind, exif=exif), np.uint8)
        for _ in range(150):
            data = whole.copy()
            data[rng.integers(0, min(len(data), 250), 4)] = rng.integers(0, 256, 4)
            try:
                assert decode(data.tobytes(), 10**5).shape[2] == 3
            except UnreadableImage:
                pass


def test_a_broken_exif_block_leaves_the_picture_as_it_lies(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_: Image.Image) -> Image.Exif:
        raise struct.error("required argument is not an integer")  # as Pillow does of some

    whole = decode(encode(picture(0)))
    monkeypatch.setattr(Image.Image, "getexif", broken)
    assert (decode(encode(picture(0))) == whole).all()


def test_a_bomb_is_refused_by_its_header() -> None:
    data = png(10_000, 10_000, bytes(1), depth=1, colour=0)  # 100 million pixels that are not even there
    with pytest.raises(UnreadableImage, match=r"10000x10000 is more than data\.max_pixels = 50000000"):
        open_image(data, max_pixels=50_000_000)
    with pytest.raises(TooManyPixels, match=r"^more than the 178956970 pixels that Pillow opens$"):
        open_image(png(60_000, 60_000, b"", depth=1, colour=0), max_pixels=10**12)
    assert decode(encode(picture(0, 20)), max_pixels=400).shape == (20, 20, 3)  # the cap itself is allowed
    with pytest.raises(UnreadableImage, match="max_pixels"):
        open_image(encode(picture(0, 20)), max_pixels=399)


@pytest.mark.parametrize(("value", "due"), [(0, 0), (128, 0), (129, 1), (30000, 117), (65535, 255)])
def test_sixteen_bit_grey_is_rescaled_not_clipped(value: int, due: int) -> None:
    # v / 257, rounded: 65535 = 255 * 257; 30000 / 257 = 116.7; 129 / 257 is just above one half
    wide = np.full((3, 5), value, np.uint16)
    assert (decode(encode(Image.fromarray(wide))) == np.full((3, 5, 3), due)).all()
    assert (decode(encode(Image.fromarray(wide), "TIFF")) == due).all()


@pytest.mark.parametrize(("colour", "channels"), [(2, 3), (6, 4)])
def test_sixteen_bit_colour_is_rescaled(colour: int, channels: int) -> None:
    pixel = struct.pack(">HHHH", 65535, 30000, 0, 65535)[: 2 * channels]
    assert decode(png(1, 1, b"\0" + pixel, depth=16, colour=colour))[0, 0].tolist() == [255, 117, 0]


def test_cmyk_palette_grey_and_bilevel() -> None:
    # CMYK as Pillow has it: no ink is white, full cyan takes all red.
    inks = np.array([[[0, 0, 0, 0], [255, 0, 0, 0], [0, 0, 0, 255]]], np.uint8)
    assert decode(encode(Image.fromarray(inks, "CMYK"), "TIFF"))[0].tolist() == [[255] * 3, [0, 255, 255], [0] * 3]
    palette = Image.new("P", (2, 1))
    palette.putpalette([10, 20, 30, 200, 100, 50])
    palette.putpixel((1, 0), 1)
    assert decode(encode(palette))[0].tolist() == [[10, 20, 30], [200, 100, 50]]
    assert decode(encode(Image.new("L", (1, 1), 77)))[0, 0].tolist() == [77] * 3
    assert decode(encode(Image.new("1", (1, 1), 1)))[0, 0].tolist() == [255] * 3


def test_alpha_is_laid_over_white() -> None:
    # Half of (200, 100, 0) over white: (200 * 128 + 255 * 127) / 255 = 227.4, 177.2, 127
    pixels = np.array([[[200, 100, 0, 255], [200, 100, 0, 0], [200, 100, 0, 128]]], np.uint8)
    assert decode(encode(Image.fromarray(pixels)))[0].tolist() == [[200, 100, 0], [255] * 3, [227, 177, 127]]
    grey = Image.fromarray(np.array([[[0, 0]]], np.uint8), "LA")
    assert decode(encode(grey))[0, 0].tolist() == [255] * 3
    palette = Image.new("P", (1, 1))
    assert decode(encode(palette, transparency=0))[0, 0].tolist() == [255] * 3
    assert decode(encode(Image.new("RGB", (1, 1), "black"), transparency=(0, 0, 0)))[0, 0].tolist() == [255] * 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(orientation: int) -> None:
    stored = np.arange(6, dtype=np.uint8).reshape(2, 3) * 40
    due = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: stored[::-1].T,  # a quarter turn clockwise
        7: stored[::-1, ::-1].T,
        8: stored[:, ::-1].T,
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert (decode(encode(Image.fromarray(stored), exif=exif))[..., 0] == due).all()


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG"])
def test_the_first_frame_of_an_animation(kind: str) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "blue", "green")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encode(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert (decode(data) == (255, 0, 0)).all()


def test_progressive_jpeg_equals_baseline() -> None:
    plain, progressive = (encode(picture(3), "JPEG", quality=90, progressive=p) for p in (False, True))
    assert plain != progressive
    assert (decode(plain) == decode(progressive)).all()


def test_pillow_told_to_load_truncated_files_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    with pytest.raises(UnreadableImage, match="truncated"):
        open_image(encode(picture(0)), max_pixels=10**6)


def test_decoding_leaves_the_warning_filters_alone() -> None:
    before = list(warnings.filters)
    open_image(encode(picture(0)), max_pixels=10**6)
    assert warnings.filters == before


def test_read_bytes_says_why_not(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").mkdir()
    for name, reason in (("x.jpg", "Is a directory"), ("none.jpg", "No such file")):
        with pytest.raises(UnreadableImage, match=reason):
            read_bytes(tmp_path, name)


def test_read_bytes_reads_regular_files_alone(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo.jpg")  # to open it would hang
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for name in ("fifo.jpg", "zero.jpg"):
        with pytest.raises(UnreadableImage, match=r"^cannot be read: no regular file$"):
            read_bytes(tmp_path, name)
    (tmp_path / "file").write_bytes(b"data")
    (tmp_path / "link.jpg").symlink_to("file")
    assert read_bytes(tmp_path, "link.jpg") == b"data"


def test_perceptual_hash_is_of_the_picture_and_its_mirror() -> None:
    image = picture(5)
    hashed = perceptual_hash(image)
    assert len(hashed) == 32 and int(hashed, 16) >= 0
    mirrored = perceptual_hash(ImageOps.mirror(image))
    assert mirrored == hashed[16:] + hashed[:16]
    assert perceptual_hash(picture(6))[:16] != hashed[:16]


def mask(size: int = 96) -> Image.Image:
    image = Image.new("L", (size, size))
    ImageDraw.Draw(image).ellipse((size * 0.3, size * 0.2, size * 0.7, size * 0.8), fill=255)
    return image


def drawing(size: int = 96) -> Image.Image:
    image = Image.new("L", (size, size), 255)
    ImageDraw.Draw(image).ellipse((size * 0.2, size * 0.1, size * 0.8, size * 0.9), outline=0, width=2)
    return image


@pytest.mark.parametrize(
    ("image", "two_tone"),
    [
        pytest.param(mask(), True, id="mask"),
        pytest.param(Image.open(io.BytesIO(encode(mask(), "JPEG", quality=50))), True, id="mask that rings"),
        pytest.param(mask(128).resize((96, 96), Image.Resampling.BILINEAR), True, id="mask with soft edges"),
        pytest.param(mask().point(lambda level: level // 255), True, id="mask of 0 and 1"),
        pytest.param(mask().filter(ImageFilter.GaussianBlur(8)), False, id="heat map"),
        pytest.param(drawing(), False, id="line drawing"),
        pytest.param(picture(0), False, id="photo"),
        pytest.param(picture(0).convert("L"), False, id="grey photo"),
        pytest.param(picture(0).convert("1"), False, id="dithered photo"),
        pytest.param(Image.new("RGB", (64, 64), "red"), False, id="one colour"),
        pytest.param(Image.new("L", (64, 64), 255), False, id="white"),
        pytest.param(ImageOps.colorize(mask(), "white", "red"), False, id="two colours"),
        pytest.param(Image.new("L", (1, 1)), False, id="one pixel"),
    ],
)
def test_masks_are_told_from_pictures(image: Image.Image, two_tone: bool) -> None:
    assert is_two_tone(image.convert("RGB")) is two_tone
