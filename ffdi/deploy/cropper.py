"""Raw photos and videos -> crops of their faces, made as those that a model was trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from ffdi.deploy.pictures import Picture
from ffdi.errors import InputError, placed
from ffdi.faces.recorded import RecordedCrops
from ffdi.faces.settings import CropSettings
from ffdi.faces.sources import FindsFaces, FoundFace, faces_of_pixels, faces_of_source
from ffdi.intake.decoding.images import UnreadableImage, open_image, to_array
from ffdi.parallel import ordered_map, tasks_ahead, worker_count
from ffdi.tails.record import is_ensemble, read_record

Which = Literal["auto", "all", "largest", "none"]
_PHOTO_BYTES = 100_000_000  # of a photo that is searched, with what is made of it: a guess


@dataclass(frozen=True, eq=False)
class Cropper:
    """Finds the faces of pictures and crops them as `settings` say; `detector` found those of the training.

    `device_line` says what computes it. Pictures of more than `max_pixels` are not read.
    """

    settings: CropSettings
    detector: FindsFaces
    max_pixels: int
    device_line: str = ""

    def faces(self, pictures: Iterable[Picture]) -> Iterator[tuple[int, Picture, FoundFace | UnreadableImage]]:
        """(number of the picture from 0, picture, one of its faces) of all pictures, in order; where it has none, or cannot
        be read, the reason, as its last. A video streams; several photos are searched at once."""
        workers = worker_count()
        for is_video, run in groupby(enumerate(pictures), key=lambda pair: pair[1].video is not None):
            if is_video:
                for number, picture in run:
                    for found in self._of_video(picture, workers):
                        yield number, picture, found
            else:
                ahead = tasks_ahead(workers, _PHOTO_BYTES)
                for number, picture, faces in ordered_map(self._of_photo, run, workers, ahead):
                    for found in faces:
                        yield number, picture, found

    def _of_video(self, picture: Picture, workers: int) -> Iterator[FoundFace | UnreadableImage]:
        assert picture.video is not None
        try:
            yield from faces_of_source(picture.video, self.detector, self.settings, self.max_pixels, workers=workers)
        except UnreadableImage as error:
            yield error

    def _of_photo(self, numbered: tuple[int, Picture]) -> tuple[int, Picture, Sequence[FoundFace | UnreadableImage]]:
        number, picture = numbered
        try:
            data = picture.read()
            pixels = to_array(open_image(data, max_pixels=self.max_pixels) if isinstance(data, bytes) else data)
            return number, picture, faces_of_pixels(pixels, self.detector, self.settings)
        except UnreadableImage as error:
            return number, picture, [error]


def recorded_crops(models: Sequence[Path]) -> RecordedCrops | None:
    """How the images of the training of all models were cropped; None where they were whole.

    InputError where the models, or members of an ensemble, were trained on images that were cropped otherwise than the
    others': a raw photo would have to be another picture for each. BundleError where a folder is no model.
    """
    found = {str(model): _of_record(model, read_record(model)) for model in models}
    kinds = [_kind(crops) for crops in found.values()]
    if any(kind != kinds[0] for kind in kinds):
        said = "; ".join(f"{name}: {_words(crops)}" for name, crops in found.items())
        raise InputError(
            f"the models were not trained on images that were cropped alike ({said}): use them one by one, or give crops "
            "with --faces none"
        )
    return next(iter(found.values()), None)


def _of_record(folder: Path, record: Any) -> RecordedCrops | None:
    parts = (
        [read_record(folder / entry["path"]) for entry in record["members"].values()]
        if is_ensemble(record)
        else [record]
    )
    crops = [part.get("provenance", {}).get("crops") for part in parts]
    with placed(str(folder)):
        found = [RecordedCrops.of(one) if one else None for one in crops]
        if any(_kind(one) != _kind(found[0]) for one in found):
            raise InputError("its members were trained on images that were not cropped alike: use them one by one")
    return found[0]


def _kind(crops: RecordedCrops | None) -> Any:
    """What decides which crops a raw photo or video gives."""
    return crops and (replace(crops.settings, detector=""), crops.sha256)


def _words(crops: RecordedCrops | None) -> str:
    return crops.short if crops else "whole images"


def open_cropper(
    models: Sequence[Path], which: Which = "auto", *, detector: Path | None = None, max_pixels: int
) -> Cropper | None:
    """The cropper of models, None for those of whole images, and with `none`, which takes pictures as they are.

    `auto` takes the faces that the training took, `all` or `largest` those. `detector` is a copy of the ONNX file that
    found the faces of the training, where it lies elsewhere than then. Raises as recorded_crops, and InputError where the
    detector is missing or another, or where there is nothing to crop as `which` and `detector` ask.
    """
    if which == "none":
        if detector is not None:
            raise InputError("--detector has no effect with --faces none: leave it out")
        return None
    crops = recorded_crops(models)
    if crops is None:
        if which != "auto" or detector is not None:
            asked = f"--faces {which}" if which != "auto" else "--detector"
            raise InputError(f"{asked}: the model was trained on whole images, which are not cropped: leave it out")
        return None
    try:
        found = crops.opened(detector)
    except InputError as error:
        rule = "the model was trained on crops of faces; with --faces none images are taken for such crops"
        raise InputError(f"{error}: {rule}") from None
    settings = crops.settings if which == "auto" else replace(crops.settings, faces=which)
    return Cropper(settings, found, max_pixels, found.device_line)
