"""Occlusion sensitivity: how much a model's score falls when a part of an image is replaced by its blur.

Zeiler and Fergus, ECCV 2014, section 4.2; with the blur of the part itself in place of a grey square, and soft edges,
because a sharp edge in a face is what detectors of forgeries look for.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, NamedTuple

import numpy as np
import numpy.typing as npt
from annotated_types import Ge, Le
from PIL import Image, ImageFilter

from ffdi.bounds import FractionAbove0
from ffdi.features.devices import set_up_device
from ffdi.features.feature_spec import Features
from ffdi.features.perturbed import SEED, VIEW, level_operations
from ffdi.features.preprocessing import Preprocessing
from ffdi.features.views import FILE, Operation, render
from ffdi.intake.decoding.images import RGB, to_array
from ffdi.intake.decoding.resizing import window
from ffdi.tails.bundle import Bundle
from ffdi.tails.model import Model
from ffdi.tails.scoring import BundleReader, model_scores, readers_of, scored_in_blocks

_BLUR = 1 / 3  # deviation of the blur, in sides of the part
_EDGE = 0.15  # width of the soft edge, in sides of the part

Falls = npt.NDArray[np.float64]  # (S, S), signed
Along = npt.NDArray[np.float64]  # (S,)


@dataclass(frozen=True)
class Patches:
    """The parts of an image that are occluded, one after the other."""

    across: Annotated[int, Ge(2), Le(64)] = 8
    """How many of them lie side by side: a part has 1 / across of the image's width and height."""

    stride: FractionAbove0 = 0.5
    """From one part to the next, in sides of a part: below 1 they overlap."""

    @property
    def side(self) -> float:
        """Of a part, in sides of the image."""
        return 1 / self.across

    def boxes(self) -> list[Patch]:
        """All of them; the last of a row or column ends with the image."""
        starts = [*np.arange(0, 1 - self.side - 1e-9, self.stride * self.side).tolist(), 1 - self.side]
        return [Patch(left, top, self.side, self.side) for top, left in itertools.product(starts, starts)]


class Patch(NamedTuple):
    """A rectangle in a square, in sides of the square."""

    left: float
    top: float
    width: float
    height: float

    def opacity(self, size: int) -> npt.NDArray[np.float64]:
        """(size, size): 1 inside, 0 outside, with soft edges where it does not end with the square."""
        return _ramp(self.top, self.height, size)[:, None] * _ramp(self.left, self.width, size)

    def moved(self, here: Patch, there: Patch) -> Patch:
        """The same part of an image that lies `there` in another square, and not as `here`."""
        across, down = there.width / here.width, there.height / here.height
        left, top = there.left + (self.left - here.left) * across, there.top + (self.top - here.top) * down
        return Patch(left, top, self.width * across, self.height * down)


def _ramp(start: float, length: float, size: int) -> Along:
    at, edge, end = (np.arange(size) + 0.5) / size, max(1 / size, _EDGE * length), start + length
    rising = np.ones(size) if start < 1e-9 else ((at - start) / edge + 0.5).clip(0, 1)
    falling = np.ones(size) if end > 1 - 1e-9 else ((end - at) / edge + 0.5).clip(0, 1)
    return np.asarray(rising * falling)


def whole_image(pixels: Preprocessing, width: int, height: int) -> Patch:
    """Where the whole of an image lies around the square that is made of it; parts may be outside."""
    size = pixels.size
    lengths = pixels.resize.scaled(width, height, size)
    starts = [(size - min(length, size)) // 2 - window(length, size)[0] for length in lengths]
    return Patch(*(start / size for start in starts), *(length / size for length in lengths))


@dataclass(frozen=True)
class _View:
    """A square that a bundle sees of an image, and the operations on it once a part is occluded."""

    square: Image.Image
    policy: tuple[Operation, ...]
    image_id: str
    placed: Patch  # where the whole image lies in it
    side: float  # of a part

    def pixels(self, box: Patch | None, shown: Patch) -> RGB:
        """(S, S, 3) with the part `box` replaced by its blur; `shown` is where the image lies in the square of `box`."""
        image = self.square
        if box is not None:
            mask = (255 * box.moved(shown, self.placed).opacity(image.width)).round().astype(np.uint8)
            image = Image.composite(self._blurred, image, Image.fromarray(mask))
        view = VIEW if self.policy else 0
        return to_array(render(image, image_id=self.image_id, view=view, policy=self.policy, seed=SEED))

    @cached_property
    def _blurred(self) -> Image.Image:
        return self.square.filter(ImageFilter.GaussianBlur(_BLUR * self.side * self.square.width))


def falls(model: Model, data: bytes, original: Image.Image, shown: Bundle, patches: Patches = Patches()) -> Falls:
    """(S, S): how much the calibrated score falls where a part is replaced by its blur, the mean over the parts that cover
    a pixel; below 0 where the score rises.

    `original` is the decoded image of `data`; the parts are those of the square that `shown`, a part of the model, sees.
    Levels of `tta` that act on the file act before the blur.
    """
    here = whole_image(shown.backbone.pixels, *original.size)
    parts, device = readers_of([model]), set_up_device()
    readers = {key: BundleReader(part) for key, part in parts.items()}
    views = {key: _views(part, data, original, patches.side) for key, part in parts.items()}

    def features(block: Sequence[Patch | None]) -> list[Mapping[str, Features]]:
        found = {
            key: reader(
                np.stack([[view.pixels(box, here) for view in views[key]] for box in block]), ["image"] * len(block)
            )
            for key, reader in readers.items()
        }
        return [dict(zip(found, of_box, strict=True)) for of_box in zip(*found.values(), strict=True)]

    def score(found: Sequence[Mapping[str, Features]]) -> list[float]:
        (scores,) = model_scores([model], device, found)
        return list(map(float, scores.mean))

    boxes = patches.boxes()
    seen = [None, *boxes]
    scores = np.array(list(scored_in_blocks(seen, features, score, readers=readers.values(), device=device)))
    size = shown.backbone.pixels.size
    total, weight = np.zeros((size, size)), np.zeros((size, size))
    for box, fall in zip(boxes, scores[0] - scores[1:], strict=True):
        covered = box.opacity(size)
        total, weight = total + fall * covered, weight + covered
    return np.asarray(total / weight)


def _views(part: Bundle, data: bytes, original: Image.Image, side: float) -> list[_View]:
    """The clean square, and one for each level of `tta`."""
    pixels, image_id = part.backbone.pixels, hashlib.sha256(data).hexdigest()
    placed = whole_image(pixels, *original.size)
    views = [_View(pixels.square(original), (), image_id, placed, side)]
    for level in part.tta:
        policy = level_operations(level)
        seen = render(original, image_id=image_id, view=VIEW, policy=policy, seed=SEED, at=FILE)
        views.append(_View(pixels.square(seen), policy, image_id, placed, side))
    return views
