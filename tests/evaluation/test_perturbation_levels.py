"""Each level of perturbation is the operation that its name says."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any, get_type_hints

import numpy as np
import pytest
from conftest import picture
from PIL import Image, ImageFilter

from ffdi.errors import ParamsError
from ffdi.evaluation.settings import Robustness
from ffdi.features.levels import parse_level
from ffdi.features.perturbed import VIEW
from ffdi.features.views import render

BILINEAR = Image.Resampling.BILINEAR


def shown(level: str, image: Image.Image, image_id: str = "a") -> Any:
    """The image, 64 pixels wide, at a level."""
    policy = tuple(operation | {"at": "square"} for operation in parse_level(level).operations)
    return np.asarray(render(image, image_id=image_id, view=VIEW, policy=policy, seed=0)).astype(int)


@pytest.mark.parametrize(
    ("level", "says"),
    [
        ("fog-3", "'fog-3' is no KIND-STRENGTH such as jpeg-30; kinds: jpeg, resize, blur, noise, brightness, crop"),
        ("jpeg", "is no KIND-STRENGTH"),
        ("jpeg-", "is no KIND-STRENGTH"),
        ("blur--1", "is no KIND-STRENGTH"),
        ("blur-1e3", "is no KIND-STRENGTH"),
        ("noise-nan", "is no KIND-STRENGTH"),
        ("jpeg-30.5", "the strength of jpeg is a whole number 1 to 100"),
        ("jpeg-0", "a whole number 1 to 100"),
        ("jpeg-101", "a whole number 1 to 100"),
        ("resize-0", "the strength of resize is 0.01 to 1"),
        ("crop-1.01", "the strength of crop is 0.01 to 1"),
        ("noise-256", "the strength of noise is 0 to 255"),
        ("brightness-10.5", "the strength of brightness is 0 to 10"),
    ],
)
def test_what_is_no_level_is_refused(level: str, says: str) -> None:
    with pytest.raises(ParamsError, match=says):
        parse_level(level)


@pytest.mark.parametrize(
    ("level", "due"), [("jpeg-90", ("jpeg", 90)), ("crop-0.75", ("crop", 0.75)), ("blur-2", ("blur", 2))]
)
def test_a_level_is_one_operation_that_is_always_applied(level: str, due: tuple[str, float]) -> None:
    found = parse_level(level)
    assert (found.kind, found.strength) == due and [operation["p"] for operation in found.operations] == [1.0]


def jpeg_30(image: Image.Image) -> Image.Image:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=30)
    return Image.open(buffer).convert("RGB")


@pytest.mark.parametrize(
    ("level", "by_hand"),
    [
        ("jpeg-30", jpeg_30),
        ("resize-0.5", lambda image: image.resize((32, 32), BILINEAR).resize((64, 64), BILINEAR)),
        ("blur-2", lambda image: image.filter(ImageFilter.GaussianBlur(2))),
        ("brightness-0.5", lambda image: image.point(lambda v: v // 2)),
        ("brightness-1.5", lambda image: image.point(lambda v: min(255, v * 3 // 2))),
        ("brightness-1", lambda image: image),
        ("resize-1", lambda image: image),
        ("crop-1", lambda image: image),
        ("blur-0", lambda image: image),
        ("noise-0", lambda image: image),
    ],
)
@pytest.mark.parametrize("image_id", ["a", "b"])  # the strength is drawn for no image
def test_a_level_is_the_operation_by_hand(level: str, by_hand: Callable[..., Image.Image], image_id: str) -> None:
    image = picture(1)
    assert np.abs(shown(level, image, image_id) - np.asarray(by_hand(image)).astype(int)).max() == 0


def test_noise_has_its_sigma() -> None:
    grey = Image.new("RGB", (64, 64), (128, 128, 128))
    one, other = (shown("noise-10", grey, image_id) - 128 for image_id in "ab")
    for noise in (one, other):  # of 12288 values: the standard error of the mean is .09, of sigma .064
        assert abs(noise.mean()) < 0.5 and abs(noise.std() - 10) < 0.4
    assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(("level", "area"), [("crop-0.5", 0.5), ("crop-0.25", 0.25)])
def test_a_crop_has_its_area(level: str, area: float) -> None:
    """A ramp of 4 grey levels a pixel to the right: magnified, it rises the more slowly, by the crop's side."""
    ramp = np.broadcast_to(4 * np.arange(64, dtype=np.uint8)[None, :, None], (64, 64, 3))
    image = Image.fromarray(np.ascontiguousarray(ramp))
    starts = set()
    for image_id in "abcd":
        rows = shown(level, image, image_id)[:, :, 0]
        assert (rows[:, 60] - rows[:, 4]).mean() / 56 == pytest.approx(4 * area**0.5, abs=0.05)
        starts.add(int(rows[0, 0]))
    assert len(starts) > 1  # where it lies is drawn from the image


@pytest.mark.parametrize(
    ("written", "name", "at", "key"),
    [
        ("jpeg-50", "jpeg-50", "file", "jpeg_50"),
        ("jpeg-50@file", "jpeg-50", "file", "jpeg_50"),
        ("jpeg-50@square", "jpeg-50@square", "square", "jpeg_50_at_square"),
        ({"level": "blur-2.5", "at": "file"}, "blur-2.5@file", "file", "blur_2_5_at_file"),
        ({"level": "webp-50", "at": "file"}, "webp-50", "file", "webp_50"),
        ("double_jpeg-50", "double_jpeg-50", "file", "double_jpeg_50"),
        ("mix-3", "mix-3", "file", "mix_3"),
        ("hflip", "hflip", "square", "hflip"),
        ("noise-10@square", "noise-10", "square", "noise_10"),
    ],
)
def test_a_level_names_its_place_where_that_is_not_the_default(written: Any, name: str, at: str, key: str) -> None:
    level = parse_level(written)
    assert (level.name, level.at, level.key) == (name, at, key)
    assert [operation.get("at", "square") for operation in level.operations] == [at]
    assert parse_level(level.name) == level  # what caches, tables and metrics are named by


@pytest.mark.parametrize(
    ("written", "says"),
    [
        ("jpeg-50@disk", "behind @ stands file or square"),
        ("jpeg-50@", "behind @ stands file or square"),
        ("hflip-2", "is no KIND-STRENGTH"),
        ("mix-6", "the strength of mix is a whole number 1 to 5"),
        ({"level": "jpeg-50"}, "is neither KIND-STRENGTH nor"),
        ({"level": "jpeg-50@file", "at": "file"}, "names its place twice"),
    ],
)
def test_a_place_that_is_none_is_refused(written: Any, says: str) -> None:
    with pytest.raises(ParamsError, match=says):
        parse_level(written)


def test_one_level_in_two_spellings_is_refused() -> None:
    settings = Robustness(levels=("mix-3", {"level": "blur-2", "at": "file"}))
    assert settings.names == ("mix-3", "blur-2@file")
    (rule,) = get_type_hints(Robustness, include_extras=True)["levels"].__metadata__
    with pytest.raises(ParamsError, match="level jpeg-50 stands here twice"):
        rule.check(("jpeg-50", "mix-1", "jpeg-50@file"))
