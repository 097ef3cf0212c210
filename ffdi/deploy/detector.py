"""A trained model as it is used: images in, a table of verdicts out. Neither DVC nor the pipeline is needed.

detector = load("data/models/mobilenet_v2")
table = detector.predict(["photo.jpg", "other.png"])        # path, score, verdict, spread, unlike, reason
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ffdi.console import Console
from ffdi.deploy.inputs import Inputs
from ffdi.deploy.judgement import COLUMNS
from ffdi.deploy.judgement import Judgement as Judgement
from ffdi.deploy.pictures import Picture, picture_of_pixels, pictures_of
from ffdi.errors import InputError
from ffdi.features.decoders import Read
from ffdi.features.devices import set_up_device
from ffdi.intake.decoding.images import RGB, ImageSource
from ffdi.tails.ensemble import load_model
from ffdi.tails.predict import device_lines, score_by_models
from ffdi.tails.scoring import ImageScore

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from ffdi.tails.model import Model

    Scorable = str | Path | RGB | Image.Image


@dataclass(frozen=True)
class Detector:
    """A model that judges pictures. `name` is its folder's; pictures of more than `max_pixels` pixels are not read."""

    name: str
    model: Model
    max_pixels: int = ImageSource.max_pixels

    def predict(self, images: Scorable | Iterable[Scorable]) -> pd.DataFrame:
        """A row for each picture, in order: path, score, verdict, spread, unlike, reason; see Judgement.

        An image is the path of a file or of a folder of them, an array, uint8 (height, width, 3) in RGB, or a PIL image;
        the `path` of the last two is their position, from 0. Images are read as they are needed, so a generator may give
        more than memory holds. Raises InputError for a folder without images and for an array of another kind; a file
        that cannot be read is a row with its reason.
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
    (detector,) = load_all([Path(model)], max_pixels=max_pixels)
    return detector


def load_all(folders: Sequence[Path], *, max_pixels: int = ImageSource.max_pixels) -> list[Detector]:
    """The detectors of different folders; of folders with one name, as much of the path as tells them apart is the name."""
    places = [folder.resolve() for folder in folders]
    names = [place.name for place in places]
    for length in range(2, max(len(place.parts) for place in places) + 1):
        again = {name for name in names if names.count(name) > 1}
        names = [
            Path(*place.parts[-length:]).as_posix() if name in again else name
            for name, place in zip(names, places, strict=True)
        ]
    models = map(load_model, folders)
    return [Detector(name, model, max_pixels) for name, model in zip(names, models, strict=True)]


def _pictures(images: Any) -> Iterator[Picture]:
    one = isinstance(images, str | Path) or hasattr(images, "getexif") or getattr(images, "ndim", 0) == 3
    for position, image in enumerate([images] if one else images):
        if isinstance(image, str | Path):
            for file in _files(Path(image)):
                yield from pictures_of(file)
        else:
            yield picture_of_pixels(image, str(position))


def _files(path: Path) -> list[Path]:
    found = Inputs()
    found.add(path)
    if found.empty:
        raise InputError("; ".join(found.empty))
    return found.files
