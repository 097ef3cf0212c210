"""Each degradation does what it says, keeps the shape, and leaves the views of before as they were."""

from __future__ import annotations

import hashlib
import itertools
from typing import Any

import numpy as np
import pytest
import views_as_they_were
from conftest import picture
from numpy.random import default_rng
from PIL import Image

from ffdi.errors import ParamsError
from ffdi.features import degradations
from ffdi.features.degradations import DEGRADATIONS, MIXED, STRENGTHS
from ffdi.features.views import FILE, OPERATIONS, render, resolve_policy

SQUARE = picture(1, 64)
OBLONG = SQUARE.resize((90, 40))


def degraded(name: str, image: Image.Image = SQUARE, seed: int = 0, **options: Any) -> Any:
    return np.asarray(DEGRADATIONS[name](image, default_rng(seed), **options)).astype(int)


@pytest.mark.parametrize("name", views_as_they_were.OPERATIONS)
def test_an_old_operation_keeps_its_pixels_and_its_draws(name: str) -> None:
    """Its fingerprint has not changed, so rows of before are reused."""
    strength = STRENGTHS[name].options
    fixed = dict(zip(strength, (30, 60) if name == "jpeg" else (0.6, 0.9), strict=True))
    for options in ({}, fixed):
        for seed in range(4):
            now, then = default_rng(seed), default_rng(seed)
            image = OPERATIONS[name](SQUARE, now, **options)
            before = views_as_they_were.OPERATIONS[name](SQUARE, then, **options)
            assert np.array_equal(np.asarray(image), np.asarray(before))
            assert now.random() == then.random()


def test_a_view_of_before_keeps_its_draws() -> None:
    policy = resolve_policy(["hflip", {"jpeg": {"low": 20}}, "noise"])
    assert all(set(operation) <= {"name", "p", "low"} for operation in policy)  # what fingerprints have of them
    for view in range(1, 6):
        rng = default_rng(list(hashlib.sha256(f"7\0a\0{view}".encode()).digest()))
        due = SQUARE.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if rng.random() < 0.5 else SQUARE
        due = views_as_they_were.jpeg(due, rng, low=20) if rng.random() < 0.5 else due
        due = views_as_they_were.noise(due, rng) if rng.random() < 0.5 else due
        found = render(SQUARE, image_id="a", view=view, policy=policy, seed=7)
        assert np.array_equal(np.asarray(found), np.asarray(due))


def test_noise_in_blocks_is_the_noise_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = degraded("noise", OBLONG, sigma=20.0)
    monkeypatch.setattr(degradations, "_BLOCK", 90 * 3 * 7)
    assert np.array_equal(degraded("noise", OBLONG, sigma=20.0), whole)


@pytest.mark.parametrize("image", [SQUARE, OBLONG])
@pytest.mark.parametrize("name", DEGRADATIONS)
def test_every_degradation_keeps_the_shape_and_follows_its_generator(name: str, image: Image.Image) -> None:
    made = [degraded(name, image, seed) for seed in (3, 3, 4, 5, 6)]
    assert made[0].shape == (image.height, image.width, 3) and made[0].min() >= 0 and made[0].max() <= 255
    assert np.array_equal(made[0], made[1]) and len({pixels.tobytes() for pixels in made}) > 2
    assert sum(np.array_equal(pixels, np.asarray(image)) for pixels in made[1:]) < 2


@pytest.mark.parametrize(("name", "side"), [("webp", 16_384), ("jpeg", 65_501), ("double_jpeg", 65_501)])
def test_a_side_that_the_format_does_not_have_is_compressed_in_parts(name: str, side: int) -> None:
    stripes = np.zeros((8, side, 3), np.uint8)
    stripes[:, ::64] = 200
    made = degraded(name, Image.fromarray(stripes), low=90, high=90)
    assert made.shape == (8, side, 3) and 0 < np.abs(made.astype(float) - stripes).mean() < 10


def test_gamma_contrast_and_tint_by_hand() -> None:
    grey = Image.new("RGB", (8, 8), (64, 128, 192))
    assert degraded("gamma", grey, low=2, high=2)[0, 0].tolist() == [16, 64, 145]  # 255 (v / 255)^2
    assert degraded("contrast", SQUARE, low=0, high=0).std() == 0
    offsets = degraded("tint", grey, low=20, high=20)[0, 0] - (64, 128, 192)
    assert np.abs(offsets).max() == 20 and len(set(offsets.tolist())) > 1


def test_shift_moves_red_and_blue_apart_and_leaves_green() -> None:
    dot = np.zeros((21, 21, 3), np.uint8)
    dot[10, 10] = 255
    for seed in range(8):
        made = degraded("shift", Image.fromarray(dot), seed, low=4, high=4)
        red, green, blue = (np.argwhere(made[..., channel] == 255)[0] for channel in range(3))
        assert green.tolist() == [10, 10] and (red + blue).tolist() == [20, 20]
        assert abs(np.hypot(*(red - green)) - 4) < 0.75
    edge = degraded("shift", Image.new("RGB", (9, 9), (5, 6, 7)), low=3, high=3)
    assert edge.std(axis=(0, 1)).max() == 0  # the border is repeated


def test_the_second_grid_of_a_double_jpeg_is_shifted() -> None:
    """Of a ramp coded twice, steps between columns are largest at the second grid, which is not the first one."""
    ramp = Image.fromarray(np.repeat(np.tile(np.linspace(40, 200, 160), (160, 1))[..., None], 3, 2).astype(np.uint8))
    found = set()
    for seed in range(12):
        steps = np.abs(np.diff(degraded("double_jpeg", ramp, seed, low=3, high=3)[..., 1], axis=1)).mean(axis=0)
        found.add(int(np.argmax([steps[at::8].mean() for at in range(8)])))
    assert len(found) > 3 and (7 not in found)  # 7 is the step at the border of the first grid's blocks


@pytest.mark.parametrize("kernel", [*degradations.KERNELS, "any"])
def test_downscale_has_several_kernels(kernel: str) -> None:
    made = degraded("downscale", low=0.5, high=0.5, kernel=kernel)
    if kernel == "any":
        assert (
            len({degraded("downscale", SQUARE, s, low=0.5, high=0.5, kernel=kernel).tobytes() for s in range(20)}) > 8
        )
    else:
        resized = SQUARE.resize((32, 32), degradations.KERNELS[kernel]).resize((64, 64), degradations.KERNELS[kernel])
        assert np.array_equal(made, np.asarray(resized))


def test_a_mix_is_one_to_four_operations_and_grows_with_its_strength(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[str, Any]] = []

    def recording(name: str, operation: Any) -> Any:
        def run(image: Image.Image, rng: Any, **options: Any) -> Image.Image:
            used.append((name, options))
            return operation(image, rng, **options)

        return run

    for name in MIXED:
        monkeypatch.setitem(DEGRADATIONS, name, recording(name, DEGRADATIONS[name]))
    image = picture(2, 96)
    counts, distance = [], []
    for strength in range(1, 6):
        lengths, names, gaps, quality = set(), set(), [], []
        for seed in range(120):
            used.clear()
            gaps.append(np.abs(degraded("mix", image, seed, strength=strength) - np.asarray(image)).mean())
            lengths.add(len(used))
            names |= {name for name, _ in used}
            assert len({name for name, _ in used}) == len(used)
            quality += [options["low"] for name, options in used if name == "jpeg"]
        assert names == set(MIXED) and lengths <= {1, 2, 3, 4}
        low, high = 95 - 15 * strength, 95 - 15 * (strength - 1)
        assert quality and low - 1 <= min(quality) and max(quality) <= high + 1
        counts.append((min(lengths), max(lengths)))
        distance.append(np.mean(gaps))
    assert counts == [(1, 1), (1, 2), (2, 3), (2, 4), (3, 4)]
    assert all(after > 1.15 * before for before, after in itertools.pairwise(distance)), distance


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"mix": {"strength": 6}}, r"mix: each strength is a whole number 1 to 5 \(is strength: 6\)"),
        ({"mix": {"strength": 2.5}}, "a whole number 1 to 5"),
        ({"webp": {"low": 90, "high": 40}}, "low is not above high"),
        ({"jpeg": {"low": "50"}}, "a whole number 1 to 100"),
        ({"gamma": {"low": 0.0}}, "each strength is a number 0.1 to 10"),
        (
            {"downscale": {"kernel": "cubic"}},
            "kernel 'cubic' is not one of nearest, box, bilinear, bicubic, lanczos, any",
        ),
        ({"jpeg": {"at": "disk"}}, "at 'disk' is not one of file, square"),
    ],
)
def test_a_strength_out_of_bounds_is_refused(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(ParamsError, match=says):
        resolve_policy([entry])


def test_a_place_is_kept_where_it_is_the_file_alone() -> None:
    written = resolve_policy([{"jpeg": {"at": FILE}}, {"blur": {"at": "square"}}, "mix"])
    assert [operation.get("at") for operation in written] == [FILE, None, None]


def test_draws_of_one_place_do_not_depend_on_the_other() -> None:
    alone = resolve_policy([{"noise": {"p": 1.0}}])
    both = resolve_policy([{"mix": {"p": 1.0, "at": FILE}}, {"noise": {"p": 1.0}}])
    one, other = (render(SQUARE, image_id="a", view=1, policy=policy, seed=0) for policy in (alone, both))
    assert np.array_equal(np.asarray(one), np.asarray(other))
    at_file = render(SQUARE, image_id="a", view=1, policy=both, seed=0, at=FILE)
    assert not np.array_equal(np.asarray(at_file), np.asarray(SQUARE))
    assert render(SQUARE, image_id="a", view=1, policy=alone, seed=0, at=FILE) is SQUARE
