"""What a verdict on one picture came from, as far as a heat map and occlusion can tell.

explanation = explain(load("data/models/mobilenet_v2"), picture)
heated(explanation.picture, explanation.heat)               # a PIL image
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from PIL import Image

from ffdi.deploy.detector import Detector, Judgement
from ffdi.deploy.explanation.heat import heat_of
from ffdi.deploy.explanation.occlusion import Falls, Patches, falls
from ffdi.deploy.pictures import Picture
from ffdi.evaluation.heated import HeatMap, heated
from ffdi.intake.decoding.images import RGB, UnreadableImage, open_image, to_array
from ffdi.tails.bundle import Bundle
from ffdi.tails.ensemble import Ensemble
from ffdi.tails.model import Model

__all__ = ["CANNOT_TELL", "Explanation", "explain", "heated"]

Side = Literal["fake", "real"]

CANNOT_TELL = (
    "The maps show what the score depends on, not where a picture was changed, nor that it was: a real picture has hot "
    "places, too."
)


@dataclass(frozen=True)
class Explanation:
    """The judgement of a picture, and what it depends on.

    `image` (S, S, 3) uint8 is the picture as the network sees it. `heat` (H, W) in [0, 1]: how much each place counted
    for `toward`, by `method`; None where the network has no places. `occlusion` (S, S): how much the score falls where a
    part is replaced by its blur, negative where it rises; None when it was not asked for. `member` is the recipe of an
    ensemble whose heat map and image these are, else empty.
    """

    judgement: Judgement
    image: RGB
    heat: HeatMap | None
    method: str
    toward: Side
    occlusion: Falls | None = None
    member: str = ""

    @property
    def picture(self) -> Image.Image:
        """`image` as a PIL image."""
        return Image.fromarray(self.image)


def explain(
    detector: Detector,
    picture: Picture,
    *,
    toward: Side | None = None,
    patches: Patches | None = None,
    judgement: Judgement | None = None,
) -> Explanation:
    """Explain the score of a picture, by the heaviest member of an ensemble; occlusion, of the whole score, with `patches`.

    The heat map shows what counted for `toward`: by default for the side of the threshold that the score is on. A
    `judgement` that is known is not made again. Raises UnreadableImage when the picture cannot be read.
    """
    data = picture.read()
    assert isinstance(data, bytes)
    original = open_image(data, max_pixels=detector.max_pixels)
    if judgement is None:
        (judgement,) = detector.judgements([picture])
    if judgement.score is None:
        raise UnreadableImage(judgement.reason or "")
    member, part = heaviest(detector.model)
    if toward is None:
        toward = "fake" if judgement.score >= detector.model.threshold else "real"
    image = to_array(part.backbone.pixels.square(original))
    heat = heat_of(part, image, fake=toward == "fake")
    occlusion = None if patches is None else falls(detector.model, data, original, part, patches)
    return Explanation(
        judgement,
        image,
        None if heat is None else heat.map,
        "" if heat is None else heat.method,
        toward,
        occlusion,
        member,
    )


def heaviest(model: Model) -> tuple[str, Bundle]:
    """The member of an ensemble that weighs most, the first of equals, by its name; a recipe itself, without a name."""
    if not isinstance(model, Ensemble):
        (bundle,) = model.parts
        return "", bundle
    at = int(np.argmax(np.abs(model.stack.weights)))
    return list(model.members.items())[at]
