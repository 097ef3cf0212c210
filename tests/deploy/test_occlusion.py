"""Where a score falls when a part is blurred: a tail that looks at one corner alone."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from small_bundles import noise, untrained, with_tails
from torch import Tensor, nn

from ffdi.deploy.explanation.occlusion import Falls, Patch, Patches, falls, whole_image
from ffdi.features.preprocessing import Preprocessing
from ffdi.intake.decoding.resizing import Resize
from ffdi.tails.bundle import Bundle
from ffdi.tails.ensemble import Ensemble
from ffdi.tails.heads import Tail
from ffdi.tails.policy import Policy
from ffdi.tails.stacking import Stack

SIZE = 64
WHOLE = untrained(cut="input", tails=1)


class Grain(nn.Module):
    """Fake = the grain of the quarter at the top left: the mean square of its differences from pixel to pixel."""

    def forward(self, x: Tensor) -> Tensor:
        corner = x[..., : x.shape[2] // 2, : x.shape[3] // 2]
        grain = corner.diff(dim=3).square().mean(dim=(1, 2, 3))
        return torch.stack([torch.zeros(len(x)), 5 * grain - 1], dim=1)


def looking_at_a_corner(how: Resize = Resize(), **record: Any) -> Bundle:
    tail = Tail(nn.Identity(), Grain(), ((0.0,) * 3, (1.0,) * 3))
    backbone = replace(WHOLE.backbone, resize=how) if how != Resize() else WHOLE.backbone
    return replace(with_tails(WHOLE, tail), backbone=backbone, record=dict(WHOLE.record) | record)


def beside(found: Falls, *parts: Falls) -> bool:
    """Whether parts of the map hardly have anything: soft edges reach a little into the next part."""
    return all(np.abs(part).max() < 0.15 * found.max() for part in parts)


def file_of(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return buffer.getvalue()


def test_the_parts_cover_the_image_and_the_last_ends_with_it() -> None:
    for across, stride, a_row in ((4, 1.0, 4), (4, 0.5, 7), (3, 0.7, 4)):
        boxes = Patches(across, stride).boxes()
        assert len(boxes) == a_row**2
        assert max(box.left + box.width for box in boxes) == pytest.approx(1)
        assert np.sum([box.opacity(40) for box in boxes], axis=0).min() > 0.4
    soft = Patch(0.25, 0.0, 0.25, 1.0).opacity(40)
    assert soft[0].tolist() == soft[39].tolist()  # no soft edge at the edge of the image
    assert soft[0, 15] == 1 and soft[0, 5] == 0 and 0 < soft[0, 9] < soft[0, 10] < 1


@pytest.mark.parametrize("how", [Resize(), Resize("shorter_side", "bilinear", 0.8), Resize("letterbox")])
@pytest.mark.parametrize("size", [(300, 200), (130, 260)])
def test_where_an_image_lies_in_its_square(how: Resize, size: tuple[int, int]) -> None:
    """A block in the image is found in the square where the geometry says."""
    image, pixels = Image.new("RGB", size), Preprocessing(SIZE, (0.0,) * 3, resize=how)
    part = Patch(0.4, 0.45, 0.2, 0.1)  # of the image
    left, top = round(part.left * size[0]), round(part.top * size[1])
    image.paste((255, 255, 255), (left, top, left + round(0.2 * size[0]), top + round(0.1 * size[1])))
    found = np.asarray(pixels.square(image).convert("L"), float) / 255
    due = part.moved(Patch(0, 0, 1, 1), whole_image(pixels, *size))
    at = (np.arange(SIZE) + 0.5) / SIZE
    assert (found.sum(0) @ at) / found.sum() == pytest.approx(due.left + due.width / 2, abs=0.01)
    assert (found.sum(1) @ at) / found.sum() == pytest.approx(due.top + due.height / 2, abs=0.01)
    assert found.mean() == pytest.approx(due.width * due.height, rel=0.1)


def test_the_score_falls_where_the_model_looks_and_nowhere_else() -> None:
    bundle, image = looking_at_a_corner(), Image.fromarray(noise(size=SIZE))
    found = falls(bundle, file_of(image), image, bundle, Patches(4, 1.0))
    assert found.shape == (SIZE, SIZE)
    assert found[:24, :24].min() > 0.01 and beside(found, found[40:], found[:, 40:])


def test_levels_at_test_time_see_the_occluded_image() -> None:
    """Mirrored as well, the other corner counts, too."""
    bundle, image = looking_at_a_corner(recipe={"tta": ["hflip"]}), Image.fromarray(noise(size=SIZE))
    found = falls(bundle, file_of(image), image, bundle, Patches(4, 1.0))
    assert found[:24, :24].min() > 0.005 and found[:24, 40:].min() > 0.005 and beside(found, found[40:])


def test_the_parts_are_those_of_the_image_for_every_member() -> None:
    """The second member sees the middle of the image alone: its corner begins at a quarter of the shown square."""
    whole, middle = looking_at_a_corner(), looking_at_a_corner(Resize("squash", "bilinear", 0.5))
    stack, seen = Stack((0.0, 1.0), 0.0), pd.DataFrame({"image_id": [], "phash": []})
    ensemble = Ensemble({"a": whole, "b": middle}, stack, Policy(0.5), 1.0, 0.5, seen, {})
    image = Image.fromarray(noise(size=2 * SIZE))
    found = falls(ensemble, file_of(image), image, whole, Patches(8, 1.0))
    assert found[18:30, 18:30].min() > 0.001 and beside(found, found[:12], found[:, :12], found[36:], found[:, 36:])
