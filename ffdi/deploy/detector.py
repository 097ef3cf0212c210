"""A trained model as it is used: images in, a table of verdicts out. Neither DVC nor the pipeline is needed.

detector = load("data/models/mobilenet_v2")
table = detector.predict(["photo.jpg", "other.png"])        # path, score, verdict, spread, unlike, reason
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi.console import Console
from ffdi.deploy.pictures import Picture, picture_of_pixels, pictures_of
from ffdi.features.decoders import Read
from ffdi.features.devices import set_up_device
from ffdi.intake.decoding.images import RGB, ImageSource
from ffdi.tails.ensemble import load_model
from ffdi.tails.predict import ImageScore, device_lines, score_by_models

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from ffdi.tails.model import Model

    Scorable = str | Path | RGB | Image.Image


@dataclass(frozen=True)
class Judgement:
    """What a model says of one picture: the row of every table of verdicts, in this order.

    `score` is the calibrated P(fake). `verdict` is `real`, `fake` or `undecided`. `spread` is the standard deviation of
    the scores by the folds' tails; None for a model with one tail. `unlike`: whether the picture is unlike the images of
    the training; None for a model without an index of them. Where the picture cannot be read, `reason` says why and the
    others are None.
    """

    path: str
    score: float | None = None
    verdict: str | None = None
    spread: float | None = None
    unlike: bool | None = None
    reason: str | None = None


COLUMNS = tuple(field.name for field in fields(Judgement))


@dataclass(frozen=True)
class Detector:
    """A model that judges pictures. `name` is its folder's; pictures of more than `max_pixels` pixels are not read."""

    name: str
    model: Model
    max_pixels: int = ImageSource.max_pixels

    def predict(self, images: Scorable | Iterable[Scorable]) -> pd.DataFrame:
        """A row for each picture, in order: path, score, verdict, spread, unlike, reason; see Judgement.

        An image is a path, an array, uint8 (height, width, 3) in RGB, or a PIL image; the `path` of the last two is their
        position, from 0. Images are read as they are needed, so a generator may give more than memory holds. Raises
        InputError for an array of another kind; a file that cannot be read is a row with its reason.
        """
        import pandas as pd

        table = pd.DataFrame([astuple(row) for row in self.judgements(_pictures(images))], columns=list(COLUMNS))
        return table.astype({"score": float, "spread": float, "unlike": "boolean"})

    def judgements(self, pictures: Iterable[Picture], console: Console = Console()) -> Iterator[Judgement]:
        """What the model says of each picture, in order."""
        for (judgement,) in judgements_by([self], pictures, console):
            yield judgement

    def judgement(self, name: str, score: ImageScore | str) -> Judgement:
        """The row of a score, or of the reason why there is none."""
        if isinstance(score, str):
            return Judgement(name, reason=score)
        by_fold = list(score.by_fold.values())
        spread = float(np.std(by_fold)) if len(by_fold) > 1 else None
        verdict = str(self.model.policy.verdicts(np.array([score.mean]))[0])
        return Judgement(name, score.mean, verdict, spread, score.unlike)

    def scores(
        self, pictures: Iterable[Picture], console: Console = Console()
    ) -> Iterator[tuple[str, ImageScore | str]]:
        """(name of the picture, its score or the reason why it cannot be read), in order, while later pictures are read."""
        for name, scores in _scores_by([self], pictures, console):
            yield name, scores if isinstance(scores, str) else scores[0]


def judgements_by(
    detectors: Sequence[Detector], pictures: Iterable[Picture], console: Console = Console()
) -> Iterator[tuple[Judgement, ...]]:
    """What each detector says of each picture, in order; those that read the same features share them.

    The first detector's `max_pixels` holds for all.
    """
    for name, scores in _scores_by(detectors, pictures, console):
        of_each: Sequence[ImageScore | str] = [scores] * len(detectors) if isinstance(scores, str) else scores
        yield tuple(detector.judgement(name, score) for detector, score in zip(detectors, of_each, strict=True))


def _scores_by(
    detectors: Sequence[Detector], pictures: Iterable[Picture], console: Console
) -> Iterator[tuple[str, tuple[ImageScore, ...] | str]]:
    """Only names wait for their scores: the pictures themselves may be large arrays."""
    device, models, names = set_up_device(), [detector.model for detector in detectors], deque[str]()
    for line in dict.fromkeys(line for model in models for line in device_lines(model)):
        console.say(line)

    def images() -> Iterator[tuple[str, Read]]:
        for picture in pictures:
            names.append(picture.name)
            yield picture.name, picture.read

    limit = detectors[0].max_pixels
    for scores in score_by_models(models, images(), max_pixels=limit, device=device, console=console):
        yield names.popleft(), scores


def load(model: str | Path, *, max_pixels: int = ImageSource.max_pixels) -> Detector:
    """The detector of a folder: that of a recipe, such as data/models/NAME, or of an ensemble.

    Raises BundleError when a file of the folder is missing or changed.
    """
    folder = Path(model)
    return Detector(folder.resolve().name, load_model(folder), max_pixels)


def _pictures(images: Any) -> Iterator[Picture]:
    one = isinstance(images, str | Path) or hasattr(images, "getexif") or getattr(images, "ndim", 0) == 3
    for position, image in enumerate([images] if one else images):
        if isinstance(image, str | Path):
            yield from pictures_of(Path(image))
        else:
            yield picture_of_pixels(image, str(position))
