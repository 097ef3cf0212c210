"""A trained model as it is used: images in, a table of verdicts out. Neither DVC nor the pipeline is needed.

detector = load("data/models/mobilenet_v2")
table = detector.predict(["photo.jpg", "other.png"])        # path, score, verdict, spread, unlike, reason
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffdi.console import Console
from ffdi.deploy.cropper import Cropper, Which, open_cropper
from ffdi.deploy.inputs import Inputs
from ffdi.deploy.judged_faces import judged_files
from ffdi.deploy.judgement import COLUMNS, FACE_COLUMNS, Row
from ffdi.deploy.judgement import Judgement as Judgement
from ffdi.deploy.picture_scores import judgement_of, scored
from ffdi.deploy.pictures import Picture, picture_of_pixels, pictures_of
from ffdi.errors import InputError
from ffdi.intake.decoding.images import RGB, ImageSource
from ffdi.tails.ensemble import load_model
from ffdi.tails.scoring import ImageScore

if TYPE_CHECKING:
    import pandas as pd
    from PIL import Image

    from ffdi.tails.model import Model

    Scorable = str | Path | RGB | Image.Image


@dataclass(frozen=True)
class Detector:
    """A model that judges pictures. `name` is its folder's; pictures of more than `max_pixels` pixels are not read.

    With a `cropper`, which a model of face crops has, pictures are raw photos and videos.
    """

    name: str
    model: Model = field(repr=False)
    max_pixels: int = ImageSource.max_pixels
    cropper: Cropper | None = field(default=None, repr=False)

    def predict(self, images: Scorable | Iterable[Scorable]) -> pd.DataFrame:
        """A row for each picture, in order: path, score, verdict, spread, unlike, reason; see Judgement.

        An image is the path of a file or of a folder of them, an array, uint8 (height, width, 3) in RGB, or a PIL image;
        the `path` of the last two is their position, from 0. Images are read as they are needed, so a generator may give
        more than memory holds. Raises InputError for a folder without images and for an array of another kind; a file
        that cannot be read is a row with its reason.

        With a model of face crops these are raw photos and videos, and after the row of each there is one for each person
        in it, with more columns: see FaceJudgement.
        """
        import pandas as pd

        has_faces = self.cropper is not None
        rows = rows_by([self], _pictures(images, videos=has_faces))
        columns = FACE_COLUMNS if has_faces else COLUMNS
        table = pd.DataFrame([astuple(row) for (row,) in rows], columns=list(columns))
        table = table.astype({"score": float, "spread": float, "unlike": "boolean"})
        if has_faces:
            table = table.astype({"track": "Int64", "frames": "Int64", "frame_spread": float, "seconds": float})
        return table

    def judgements(self, pictures: Iterable[Picture], console: Console = Console()) -> Iterator[Judgement]:
        """What the model says of each picture as it is, in order."""
        for (judgement,) in judgements_by([self], pictures, console):
            yield judgement


def judgements_by(
    detectors: Sequence[Detector], pictures: Iterable[Picture], console: Console = Console()
) -> Iterator[tuple[Judgement, ...]]:
    """What each detector says of each picture, in order; those that read the same features share them.

    The first detector's `max_pixels` holds for all.
    """
    models = [detector.model for detector in detectors]
    named = ((picture.name, picture.name, picture.read) for picture in pictures)
    for name, scores in scored(models, named, max_pixels=detectors[0].max_pixels, console=console):
        of_each: Sequence[ImageScore | str] = [scores] * len(models) if isinstance(scores, str) else scores
        yield tuple(judgement_of(model, name, score) for model, score in zip(models, of_each, strict=True))


def rows_by(
    detectors: Sequence[Detector], pictures: Iterable[Picture], *, rule: str = "mean", console: Console = Console()
) -> Iterator[Row]:
    """The rows of each picture, in order: as judgements_by; of detectors that crop, see judged_files, which has the `rule`.

    All have the first one's cropper: see open_cropper, which refuses models of other crops.
    """
    if (cropper := detectors[0].cropper) is None:
        yield from judgements_by(detectors, pictures, console)
        return
    models = [detector.model for detector in detectors]
    for file in judged_files(models, pictures, cropper, rule=rule, console=console):
        yield from file.rows


def load(
    model: str | Path,
    *,
    max_pixels: int = ImageSource.max_pixels,
    faces: Which = "auto",
    detector: str | Path | None = None,
) -> Detector:
    """The detector of a folder: that of a recipe, such as data/models/NAME, or of an ensemble.

    A model that was trained on crops of faces crops raw photos and videos alike. `faces`: `auto`, which faces the training
    took, `all` or `largest`; or `none`, where pictures are such crops already. `detector` is a copy of the ONNX file that
    found the faces of the training, where that has moved.

    Raises BundleError when a file of the folder is missing or changed; InputError where it crops and the packages of
    ffdi[faces] or the detector are missing.
    """
    found = load_all([Path(model)], max_pixels=max_pixels, faces=faces, detector=Path(detector) if detector else None)
    return found[0]


def load_all(
    folders: Sequence[Path],
    *,
    max_pixels: int = ImageSource.max_pixels,
    faces: Which = "auto",
    detector: Path | None = None,
) -> list[Detector]:
    """The detectors of different folders; of folders with one name, as much of the path as tells them apart is the name.

    Raises as load, and InputError where they were trained on images that were cropped otherwise.
    """
    cropper = open_cropper(folders, faces, detector=detector, max_pixels=max_pixels)
    return load_models(folders, cropper, max_pixels=max_pixels)


def load_models(
    folders: Sequence[Path], cropper: Cropper | None, *, max_pixels: int = ImageSource.max_pixels
) -> list[Detector]:
    """The same with the cropper of open_cropper."""
    places = [folder.resolve() for folder in folders]
    names = [place.name for place in places]
    for length in range(2, max(len(place.parts) for place in places) + 1):
        again = {name for name in names if names.count(name) > 1}
        names = [
            Path(*place.parts[-length:]).as_posix() if name in again else name
            for name, place in zip(names, places, strict=True)
        ]
    models = map(load_model, folders)
    return [Detector(name, model, max_pixels, cropper) for name, model in zip(names, models, strict=True)]


def _pictures(images: Any, *, videos: bool) -> Iterator[Picture]:
    one = isinstance(images, str | Path) or hasattr(images, "getexif") or getattr(images, "ndim", 0) == 3
    for position, image in enumerate([images] if one else images):
        if isinstance(image, str | Path):
            for file in _files(Path(image), videos=videos):
                yield from pictures_of(file)
        else:
            yield picture_of_pixels(image, str(position))


def _files(path: Path, *, videos: bool) -> list[Path]:
    found = Inputs(videos=videos)
    found.add(path)
    if found.empty:
        raise InputError("; ".join(found.empty))
    return found.files
