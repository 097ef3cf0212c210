"""Images become squares as timm's and torchvision's own transforms make them."""

from typing import Any

import numpy as np
import pytest
from conftest import picture
from PIL import Image
from timm.data import create_transform
from torchvision.transforms._presets import ImageClassification
from torchvision.transforms.v2 import InterpolationMode

from ffdi.intake.decoding.resizing import STRIP, Kernel, Mode, Resize, resize, window

MEAN = (0.48145466, 0.4578275, 0.40821073)  # CLIP's
FILL = (123, 117, 104)
TIMMS: dict[Mode, str] = {"squash": "squash", "shorter_side": "center", "letterbox": "border"}
SIZES = [(37, 61), (64, 43), (31, 30), (64, 64), (5, 3), (73, 64), (128, 17)]


def noise(width: int, height: int) -> Image.Image:
    """Any difference of kernel, place or order shows in noise."""
    return Image.fromarray(np.random.default_rng(width).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic", "lanczos"])
@pytest.mark.parametrize("mode", TIMMS)
def test_the_pixels_are_timms(mode: Mode, kernel: Kernel) -> None:
    for crop in (1.0, 0.875, 0.965, 0.5):
        for size in (64, 33):
            timms: Any = create_transform(
                (3, size, size), interpolation=kernel, crop_pct=crop, crop_mode=TIMMS[mode], mean=MEAN, normalize=False
            )
            for shape in SIZES:
                ours = np.asarray(resize(noise(*shape), size, Resize(mode, kernel, crop), FILL))
                assert np.array_equal(ours, timms(noise(*shape)).permute(1, 2, 0)), (crop, size, shape)


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
def test_the_pixels_are_torchvisions(kernel: Kernel) -> None:
    theirs = ImageClassification(
        crop_size=64, resize_size=73, mean=(0, 0, 0), std=(1, 1, 1), interpolation=InterpolationMode(kernel)
    )
    for shape in SIZES:
        ours = np.asarray(resize(noise(*shape), 64, Resize("shorter_side", kernel, 64 / 73)))
        assert np.array_equal(ours, (255 * theirs(noise(*shape))).round().permute(1, 2, 0).byte()), shape


def test_the_default_is_what_it_was_before_there_was_a_choice() -> None:
    for shape in SIZES:
        assert resize(noise(*shape), 64) == noise(*shape).resize((64, 64), Image.Resampling.BILINEAR)
    assert Resize().policy(FILL) == "pillow-square-bilinear-1"


def test_an_image_of_the_size_is_left_alone_unless_its_edges_are_cut() -> None:
    image = picture(0, 32)
    for mode in TIMMS:
        assert resize(image, 32, Resize(mode)) is image
        assert resize(image, 32, Resize(mode, crop=0.5)) == image.resize((64, 64), 2).crop((16, 16, 48, 48))


def test_a_letterbox_is_filled_and_an_odd_row_goes_below() -> None:
    square = np.asarray(resize(Image.new("RGB", (10, 5), (9, 9, 9)), 10, Resize("letterbox"), (1, 2, 3)))
    assert (square[[0, 1, 7, 8, 9]] == (1, 2, 3)).all() and (square[2:7] == 9).all()


def test_the_window_is_the_middle() -> None:
    assert [window(length, 4) for length in (4, 5, 6, 7, 9, 3)] == [(0, 4), (0, 4), (1, 5), (2, 6), (2, 6), (0, 3)]


@pytest.mark.parametrize("wide", [True, False])
def test_a_long_strip_is_never_scaled_whole(wide: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    made, real = [], Image.Image.resize

    def spy(image: Image.Image, size: tuple[int, int], *args: Any, **options: Any) -> Image.Image:
        made.append(size)
        return real(image, size, *args, **options)

    how, length = Resize("shorter_side"), 4 * STRIP
    waves = np.sin(np.arange(length) * 0.9) * 100 + 128  # a smooth strip, where rounding is all that may differ
    strip = Image.fromarray(np.broadcast_to(waves[None, :, None], (4, length, 3)).astype(np.uint8))
    strip = strip if wide else strip.transpose(Image.Transpose.TRANSPOSE)
    due = np.asarray(resize(strip, 8, how), np.int64)  # twice as long: below the bound
    monkeypatch.setattr("ffdi.intake.decoding.resizing.STRIP", 1)
    monkeypatch.setattr(Image.Image, "resize", spy)
    assert np.abs(np.asarray(resize(strip, 8, how), np.int64) - due).max() <= 1
    assert made == [(8, 8)]


def test_every_setting_has_a_name_of_its_own() -> None:
    all_of = [Resize(mode, kernel, crop) for mode in TIMMS for kernel in ("bilinear", "bicubic") for crop in (1.0, 0.9)]
    names = {how.policy(fill) for how in all_of for fill in (FILL, (0, 0, 0))}
    assert len(names) == len(all_of) + 4  # the colour counts where there is a letterbox
    assert (
        Resize("letterbox", "bicubic", 0.9).policy((1, 2, 3))
        == "pillow-letterbox-bicubic-1, crop 0.9, filled with (1, 2, 3)"
    )
