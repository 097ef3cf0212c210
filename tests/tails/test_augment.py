"""Augmentation on the batch: what each operation does, to how many samples, with which sample's parameters."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as reference
from PIL import Image
from torch import Tensor

from ffdi.errors import ParamsError
from ffdi.features.degradations import DEGRADATIONS
from ffdi.tails.augment import augmentation, mixing, shift_hue
from ffdi.tails.augment_operations import OPTIONS, resolve_augment


def augment(*entries: str | dict[str, Any]) -> Callable[[Tensor], Tensor]:
    return augmentation(resolve_augment(entries))


def images(count: int, size: int = 24) -> Tensor:
    """(count, 3, size, size) uint8, all of one random picture."""
    one = torch.randint(0, 256, (1, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    return one.repeat(count, 1, 1, 1)


def changed(before: Tensor, after: Tensor) -> Tensor:
    return (before != after).flatten(1).any(1)


@pytest.mark.parametrize(("name", "axis"), [("hflip", -1), ("vflip", -2)])
def test_flips_take_half_of_the_samples_of_any_dtype(name: str, axis: int) -> None:
    for batch in (torch.rand(400, 2, 3, 3), torch.rand(400, 160, 2, 2).half(), images(400, 4)):
        torch.manual_seed(0)
        out = augment(name)(batch.clone())
        flipped = (out == batch.flip(axis)).flatten(1).all(1)
        kept = (out == batch).flatten(1).all(1)
        assert bool((flipped ^ kept).all()) and 150 < int(flipped.sum()) < 250


@pytest.mark.parametrize("name", OPTIONS)
def test_p_is_the_chance_of_a_sample(name: str) -> None:
    strong: dict[str, Any] = {"jitter": {"brightness": 0.9}, "noise": {"sigma": 0.2}}.get(name, {})
    before = images(64)
    for p, low, high in ((0.0, 0, 0), (0.25, 4, 32), (1.0, 56, 64)):
        torch.manual_seed(1)
        out = augment({name: strong | {"p": p}})(before.clone())
        assert out.dtype == torch.uint8 and out.shape == before.shape
        assert low <= int(changed(before, out).sum()) <= high


@pytest.mark.parametrize("name", OPTIONS)
def test_each_sample_has_parameters_of_its_own(name: str) -> None:
    torch.manual_seed(0)
    options: dict[str, Any] = {"jitter": {"brightness": 0.9}, "jpeg": {"quality": (5, 95)}}.get(name, {})
    out = augment({name: options | ({} if "flip" in name else {"p": 1.0})})(images(32))
    assert len({tuple(image.flatten().tolist()) for image in out}) >= (2 if "flip" in name else 8)


@pytest.mark.parametrize("name", ["webp", "contrast", "gamma", "downscale"])
def test_a_degradation_is_that_of_the_views(name: str) -> None:
    ends = dict.fromkeys(("low", "high"), 40 if name == "webp" else 0.5)
    colours = images(3) // torch.tensor([1, 2, 4], dtype=torch.uint8).view(3, 1, 1)  # no channel is like another
    out = augment({name: ends | {"p": 1.0}})(colours.clone())
    picture = Image.fromarray(colours[0].permute(1, 2, 0).numpy())
    due = torch.from_numpy(np.array(DEGRADATIONS[name](picture, np.random.default_rng(0), **ends))).permute(2, 0, 1)
    assert all(torch.equal(image, due) for image in out) and not torch.equal(due, colours[0])


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ({"mix": {"strength": 0}}, "augment operation mix: each strength is a whole number 1 to 5"),
        ({"webp": {"at": "file"}}, "option 'at' is not one of high, low, p"),
        ({"downscale": {"kernel": "area"}}, "kernel 'area' is not one of nearest"),
    ],
)
def test_a_degradation_out_of_bounds_is_refused(entry: dict[str, Any], says: str) -> None:
    with pytest.raises(ParamsError, match=says):
        resolve_augment([entry])


@pytest.mark.parametrize("name", OPTIONS)
def test_a_seed_decides_all_of_it(name: str) -> None:
    def once() -> Tensor:
        torch.manual_seed(5)
        return augment(name)(images(16))

    assert torch.equal(once(), once())


@pytest.mark.parametrize(
    ("option", "adjust"),
    [
        ("brightness", reference.adjust_brightness),
        ("contrast", reference.adjust_contrast),
        ("saturation", reference.adjust_saturation),
        ("hue", reference.adjust_hue),
    ],
)
def test_jitter_is_torchvisions_with_a_factor_a_sample(option: str, adjust: Callable[..., Tensor]) -> None:
    """One option alone: each sample must equal torchvision's for some factor of the range, and not all the same one."""
    torch.manual_seed(0)
    before = images(6)
    after = augment({"jitter": {option: 0.4}})(before.clone())
    torch.manual_seed(0)
    torch.rand(6)  # who is changed
    factors = torch.empty(6).uniform_(*((-0.4, 0.4) if option == "hue" else (0.6, 1.4)))
    for image, out, factor in zip(before, after, factors.tolist(), strict=True):
        # torchvision rounds after every step and downwards
        assert (adjust(image, factor).int() - out.int()).abs().max() <= 2


@pytest.mark.parametrize("turns", [-0.5, -0.37, -1 / 6, 0.0, 0.02, 1 / 3, 0.5])
def test_hue_turns_as_torchvision_turns_it(turns: float) -> None:
    grey = torch.full((1, 3, 4, 4), 77, dtype=torch.uint8)  # has no hue
    pure = torch.eye(3, dtype=torch.uint8).mul(255).view(1, 3, 3, 1)
    for batch in (images(1, 64), grey, pure):
        mine = shift_hue(batch.float(), torch.full((1, 1, 1, 1), turns)).round()
        assert (mine - reference.adjust_hue(batch, turns)).abs().max() <= 1


def test_red_turned_by_a_third_is_green() -> None:
    red = torch.tensor([200.0, 20.0, 20.0]).view(1, 3, 1, 1)
    turned = shift_hue(red, torch.full((1, 1, 1, 1), 1 / 3)).flatten()
    torch.testing.assert_close(turned, torch.tensor([20.0, 200.0, 20.0]))


def test_jitters_order_is_drawn() -> None:
    found = set()
    for seed in range(24):
        torch.manual_seed(seed)
        out = augment({"jitter": {"brightness": 0.8, "contrast": 0.8}})(images(1))
        torch.manual_seed(seed)
        torch.rand(1)  # who is changed
        bright, contrast = (float(torch.empty(1).uniform_(0.2, 1.8)) for _ in range(2))
        orders = {
            "bright first": reference.adjust_contrast(reference.adjust_brightness(images(1), bright), contrast),
            "contrast first": reference.adjust_brightness(reference.adjust_contrast(images(1), contrast), bright),
        }
        gaps = {name: float((due.int() - out.int()).abs().float().mean()) for name, due in orders.items()}
        assert min(gaps.values()) < 2  # torchvision rounds between the two
        if max(gaps.values()) > min(gaps.values()) + 1.5:  # the orders differ where values leave the range
            found.add(min(gaps, key=lambda name: gaps[name]))
    assert found == {"bright first", "contrast first"}


def test_crops_keep_the_size_and_enlarge() -> None:
    torch.manual_seed(0)
    ramp = torch.arange(64).to(torch.uint8).repeat(8, 3, 64, 1)
    out = augment({"crop": {"scale": [0.3, 0.5], "ratio": [1, 1]}})(ramp.clone())
    assert out.shape == ramp.shape
    spans = (out[:, 0, 0, -1].int() - out[:, 0, 0, 0].int()).tolist()
    assert all(30 <= span <= 47 for span in spans) and len(set(spans)) > 2  # sides of sqrt(.3) to sqrt(.5) of 64


def test_jpeg_and_blur_cost_detail_and_noise_adds_it() -> None:
    def detail(batch: Tensor) -> float:
        return float((batch[..., 1:].float() - batch[..., :-1].float()).abs().mean())

    torch.manual_seed(0)
    before = images(4, 32)
    flat = torch.full_like(before, 100)
    assert detail(augment({"blur": {"p": 1}})(before.clone())) < 0.9 * detail(before)
    assert detail(augment({"jpeg": {"quality": [5, 5], "p": 1}})(before.clone())) < 0.9 * detail(before)
    noisy = augment({"noise": {"sigma": 0.05, "p": 1}})(flat.clone())
    assert float((noisy.float() - 100).std()) == pytest.approx(0.05 * 255, rel=0.1)


def test_operations_run_in_their_order() -> None:
    torch.manual_seed(0)
    dark_then_noisy = augment({"jitter": {"brightness": 0.0}}, {"noise": {"sigma": 0.1, "p": 1}}, {"blur": {"p": 1}})
    torch.manual_seed(0)
    one = dark_then_noisy(torch.full((2, 3, 16, 16), 100, dtype=torch.uint8))
    torch.manual_seed(0)
    other = augment({"blur": {"p": 1}}, {"noise": {"sigma": 0.1, "p": 1}})(
        torch.full((2, 3, 16, 16), 100, dtype=torch.uint8)
    )
    assert one.float().std() < other.float().std()  # noise that is blurred


def test_no_augmentation_changes_nothing() -> None:
    batch = torch.rand(2, 3, 4, 4)
    assert torch.equal(augment()(batch), batch)


def test_what_is_left_out_has_a_default() -> None:
    assert resolve_augment(["hflip", {"jpeg": {"quality": [40, 60]}}]) == (
        {"name": "hflip", "p": 0.5},
        {"name": "jpeg", "quality": [40, 60], "p": 0.5},
    )


@pytest.mark.parametrize(
    ("entry", "says"),
    [
        ("spin", "'spin' is not one of hflip"),
        ({"spin": {}}, "is not one of hflip"),
        ({}, "is not one of hflip"),
        ({"jitter": 3}, "is not one of hflip"),
        ({"hflip": {}, "vflip": {}}, "is not one of hflip"),
        ({"jitter": {"shine": 1}}, "jitter: option 'shine' is not one of brightness"),
        ({"hflip": {"p": 1.5}}, "hflip: p is a probability"),
        ({"hflip": {"p": "half"}}, "hflip: p is a probability"),
        ({"jitter": {"hue": 0.7}}, "'jitter'"),
        ({"jpeg": {"quality": [0, 300]}}, "'jpeg'"),
        ({"blur": {"kernel_size": 4}}, "'blur'"),
        ({"crop": {"scale": 3}}, "'crop'"),
        ({"noise": {"sigma": -1}}, "'noise'"),
    ],
)
def test_what_is_no_augmentation_is_refused(entry: Any, says: str) -> None:
    with pytest.raises(ParamsError, match=f"^augment.*{says}") as error:
        augment(entry)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [name for name in OPTIONS if "flip" not in name])
def test_what_is_for_images_refuses_feature_maps(name: str) -> None:
    with pytest.raises(ParamsError, match=f"{name}.*images"):
        augment({name: {"p": 1}})(torch.rand(2, 160, 4, 4))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(augment({"hflip": {"p": 1}}), id="hflip"),
        pytest.param(lambda tokens: mixing(0.0, 1.0)(tokens, torch.zeros(4, dtype=torch.int64)), id="cutmix"),
    ],
)
def test_what_needs_a_map_refuses_tokens(change: Callable[[torch.Tensor], Any]) -> None:
    with pytest.raises(ParamsError, match=r"for images and maps \(C, H, W\), not for \(197, 192\)"):
        change(torch.zeros(4, 197, 192))


def test_without_mixing_labels_stay_whole() -> None:
    features, labels = torch.rand(2, 1, 1, 1).half(), torch.tensor([0, 1])
    mixed = mixing(0.0, 0.0)(features, labels)
    assert mixed[0] is features and mixed[1] is labels


def test_mixup_mixes_labels_as_it_mixes_features() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 1, 0])
    features = labels.half().view(4, 1, 1, 1).expand(4, 3, 2, 2)  # a feature is its label
    mixed, soft = mixing(1.0, 0.0)(features, labels)
    torch.testing.assert_close(mixed[:, 0, 0, 0], soft[:, 1])
    torch.testing.assert_close(soft.sum(1), torch.ones(4))
    assert ((soft > 0) & (soft < 1)).any()


def test_cutmix_mixes_labels_by_area() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0, 1, 1, 0])
    features = labels.half().view(4, 1, 1, 1).expand(4, 3, 8, 8)
    mixed, soft = mixing(0.0, 1.0)(features, labels)
    assert set(mixed.unique().tolist()) == {0.0, 1.0}  # pasted, not blended
    torch.testing.assert_close(mixed[:, 0].mean(dim=(1, 2)), soft[:, 1])


def test_with_both_each_batch_draws_one() -> None:
    torch.manual_seed(0)
    labels = torch.tensor([0, 1] * 4)
    features = labels.float().view(8, 1, 1, 1).expand(8, 1, 8, 8)
    blended = {bool(((x > 0) & (x < 1)).any()) for x, _ in (mixing(1.0, 1.0)(features, labels) for _ in range(20))}
    assert blended == {True, False}
