"""A view is a pure function of (seed, image_id, view)."""

from __future__ import annotations

import colorsys
import random
from typing import Any

import numpy as np
import pytest
from conftest import picture
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ffdi.errors import ParamsError
from ffdi.features.views import PRESETS, render, resolve_policy

ALL = (
    "hflip",
    "vflip",
    "autocontrast",
    "equalize",
    "rotate",
    "jitter",
    "brightness",
    "crop",
    "jpeg",
    "blur",
    "downscale",
    "noise",
)
EVERY = resolve_policy([{name: {"p": 1.0}} for name in ALL])
IMAGE = picture(1, 32)


def pixels(image_id: str, view: int, *, seed: int = 0, policy: Any = EVERY, image: Image.Image = IMAGE) -> Any:
    return np.asarray(render(image, image_id=image_id, view=view, policy=policy, seed=seed))


@pytest.mark.parametrize("policy", [*PRESETS, ["noise"]])
def test_view_0_is_the_clean_image(policy: Any) -> None:
    clean = pixels("a", 0, policy=resolve_policy(policy))
    assert np.array_equal(clean, np.asarray(IMAGE))


@given(
    asked=st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 255), st.integers(0, 3)), min_size=2, max_size=6),
    order=st.randoms(use_true_random=False),
)
@settings(max_examples=20, deadline=None)
def test_a_view_does_not_depend_on_what_was_rendered_before(
    asked: list[tuple[str, int, int]], order: random.Random
) -> None:
    first = [pixels(i, v, seed=s) for i, v, s in asked]
    places = list(range(len(asked)))
    order.shuffle(places)
    for at in places:
        image_id, view, seed = asked[at]
        assert np.array_equal(pixels(image_id, view, seed=seed), first[at])


def test_seed_image_and_view_each_change_it() -> None:
    base = pixels("a", 1)
    for other in (pixels("a", 2), pixels("b", 1), pixels("a", 1, seed=1)):
        assert not np.array_equal(base, other)


def test_joined_keys_do_not_collide() -> None:
    """(image a1, view 1) and (image a, view 11) are not one draw."""
    assert not np.array_equal(pixels("a1", 1), pixels("a", 11))


@pytest.mark.parametrize("name", ALL)
def test_every_operation_changes_the_image_and_keeps_its_shape(name: str) -> None:
    image = IMAGE.point(lambda v: 60 + v // 4)  # narrow histogram: autocontrast and equalize have something to do
    policy = resolve_policy([{name: {"p": 1.0}}])
    clean = pixels("a", 1, policy=policy, image=image)
    assert clean.shape == (32, 32, 3) and clean.dtype == np.uint8
    assert not np.array_equal(clean, pixels("a", 0, image=image))


@pytest.mark.parametrize("option", ["brightness", "contrast", "saturation", "hue"])
def test_jitter_changes_what_its_options_name(option: str) -> None:
    still = {"brightness": 0.0, "contrast": 0.0, "p": 1.0}
    image = Image.new("RGB", (32, 32), (200, 80, 40))
    image.paste((40, 60, 90), (0, 0, 16, 32))
    assert np.array_equal(pixels("a", 1, policy=resolve_policy([{"jitter": still}]), image=image), np.asarray(image))
    clean = pixels("a", 1, policy=resolve_policy([{"jitter": still | {option: 0.4}}]), image=image).reshape(-1, 3)
    assert np.abs(clean - np.asarray(image).reshape(-1, 3).astype(int)).max() > 4
    before, after = (colorsys.rgb_to_hsv(*row) for row in ((200, 80, 40), clean[-1]))
    assert (abs(before[0] - after[0]) > 0.02) == (option == "hue")


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("jpeg", {"low": 70, "high": 70}),
        ("blur", {"low": 1.0, "sigma": 1.0}),
        ("downscale", {"low": 0.5, "high": 0.5}),
        ("brightness", {"low": 0.5, "high": 0.5}),
    ],
)
def test_a_strength_with_equal_ends_is_always_the_same(name: str, options: dict[str, float]) -> None:
    """With its own ends an operation differs from image to image; with equal ones all images are treated alike."""
    fixed, free = (resolve_policy([{name: {"p": 1.0} | chosen}]) for chosen in (options, {}))
    alike, apart = ({pixels(i, 1, policy=policy).tobytes() for i in "abcdef"} for policy in (fixed, free))
    assert len(alike) == 1 < len(apart)


def test_brightness_stays_between_its_ends() -> None:
    grey = Image.new("RGB", (32, 32), (100, 100, 100))
    policy = resolve_policy([{"brightness": {"low": 0.8, "high": 1.2, "p": 1.0}}])
    levels = [int(pixels(str(i), 1, policy=policy, image=grey)[0, 0, 0]) for i in range(60)]
    assert 80 <= min(levels) < 90 and 110 < max(levels) <= 120


def test_rendering_leaves_the_given_image_alone() -> None:
    before = IMAGE.tobytes()
    pixels("a", 1)
    assert IMAGE.tobytes() == before


def test_probability_decides_how_often() -> None:
    flipped = sum(
        not np.array_equal(pixels(str(i), 1, policy=resolve_policy(["hflip"])), pixels(str(i), 0)) for i in range(200)
    )
    assert 70 < flipped < 130  # binomial(200, .5): 4 sigma is 28
    never = resolve_policy([{"hflip": {"p": 0.0}}])
    assert np.array_equal(pixels("a", 1, policy=never), pixels("a", 0))


def test_the_seeds_preset_is_torchvisions_defaults() -> None:
    policy = resolve_policy("seeds")
    assert [(o["name"], o["p"]) for o in policy] == [
        ("hflip", 0.5),
        ("vflip", 0.5),
        ("autocontrast", 0.5),
        ("rotate", 1.0),
        ("equalize", 0.5),
    ]


def test_a_list_takes_names_and_options() -> None:
    assert resolve_policy(["hflip", {"rotate": {"degrees": 10.0, "p": 1.0}}]) == (
        {"name": "hflip", "p": 0.5},
        {"name": "rotate", "degrees": 10.0, "p": 1.0},
    )


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("seed", "policy 'seed' is not one of none, seeds, light"),
        (["spin"], "operation 'spin' is not one of hflip"),
        ([{"rotate": {"angle": 3}}], "rotate: option 'angle' is not one of at, degrees, p"),
        ([{"hflip": {"degrees": 3}}], "hflip: option 'degrees' is not one of at, p"),
        ([{}], "operation {} is not one of"),
        ([{"hflip": {}, "vflip": {}}], "is not one of"),
        ([{"hflip": 0.5}], "is not one of"),
    ],
)
def test_what_is_no_policy_is_refused(policy: Any, says: str) -> None:
    with pytest.raises(ParamsError, match=says):
        resolve_policy(policy)
