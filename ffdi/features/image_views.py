"""Rows -> the pixels of their views, read from the image files."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from ffdi.errors import InputError
from ffdi.features.backbone import Backbone
from ffdi.features.decoders import Decoder, Read
from ffdi.features.feature_spec import Row
from ffdi.features.self_blending import synthesise
from ffdi.features.views import FILE, Operation, acts_on_file, render
from ffdi.intake.decoding.images import RGB, ImageSource, UnreadableImage, open_image, to_array
from ffdi.intake.decoding.read_ahead import ReadAhead
from ffdi.timing import PartTimer


class ImageFile(NamedTuple):
    """The file of an image. `blended_from` is the image_id of its bytes when the image is a fake of with_synthesised."""

    path: str
    blended_from: str


@dataclass(frozen=True)
class ImageFiles:
    """The file of each image_id. Plain data that can be handed to another process."""

    source: ImageSource
    files: Mapping[str, ImageFile]

    def of(self, rows: Iterable[Row]) -> ImageFiles:
        """The files of the images of `rows` alone."""
        return replace(self, files={image_id: self.files[image_id] for image_id, _ in rows})


def locate_images(images: pd.DataFrame, source: ImageSource) -> ImageFiles:
    """The file of each image of images.csv and of each fake of with_synthesised."""
    blended = images["source"] if "source" in images else itertools.repeat("")
    places = zip(images["image_id"], images["path"], blended)
    return ImageFiles(source, {image_id: ImageFile(path, real) for image_id, path, real in places})


class ViewReader:
    """Reads and renders the views of rows. Several threads may call it at once.

    `timer` gets the seconds of the parts `decode` and `views`.
    """

    def __init__(
        self,
        images: ImageFiles,
        backbone: Backbone,
        *,
        decoder: Decoder | None = None,
        timer: PartTimer | None = None,
    ) -> None:
        self.decoder = decoder or Decoder(backbone, max_pixels=images.source.max_pixels, accepted=True)
        self._images, self._backbone, self._timer = images, backbone, timer or PartTimer()
        self._ahead = ReadAhead(images.source)

    def __call__(self, rows: Sequence[Row]) -> RGB:
        """(N, S, S, 3) uint8 views of `rows`; consecutive rows that need the same original decode it once.

        Raises InputError when a file is no longer the one that was ingested.
        """
        wanted = [
            (original, [view for _, view in group]) for original, group in itertools.groupby(rows, self._original)
        ]
        decoded = self.decoder(self._named(*original) for original, _ in wanted)
        pixels: list[RGB] = []
        for (image_id, _), views in wanted:
            file = self._images.files[image_id]
            with self._timer.timed("decode"):
                image = next(decoded)
            if isinstance(image, UnreadableImage):
                raise InputError(f"{self._images.source.place(file.path)}: {image}") from image
            with self._timer.timed("views"):
                image = synthesise(image, image_id) if file.blended_from else image
                pixels += [self._render(image, image_id, view) for view in views]
        return np.stack(pixels)

    def ahead(self, blocks: Iterable[Sequence[Row]]) -> Iterator[Sequence[Row]]:
        """Yield blocks of rows; the files that they need are fetched ahead of them where they are at a URL."""
        return self._ahead.over(blocks, self._files_of)

    def _files_of(self, rows: Sequence[Row]) -> Iterator[tuple[str, str]]:
        for image_id in dict.fromkeys(image_id for image_id, _ in rows):
            file = self._images.files[image_id]
            yield file.path, file.blended_from or image_id

    def _original(self, row: Row) -> Row:
        """The row whose file is decoded for `row`: view 0 where nothing acts on the file."""
        image_id, _ = row
        return row if acts_on_file(self._backbone.views.operations) else (image_id, 0)

    def _named(self, image_id: str, view: int) -> tuple[str, Read]:
        """The path of an image, and what reads it: its bytes, or the decoded original after what acts on it in a view."""
        file, source, views = self._images.files[image_id], self._images.source, self._backbone.views
        read = partial(self._ahead.read, file.path, file.blended_from or image_id)
        if view == 0:
            return file.path, read
        return file.path, partial(
            degraded, read, image_id, max_pixels=source.max_pixels, view=view, policy=views.operations, seed=views.seed
        )

    def _render(self, image: Image.Image, image_id: str, view: int) -> RGB:
        b = self._backbone
        policy, seed = b.views.operations, b.views.seed
        return to_array(render(image, image_id=image_id, view=view, policy=policy, seed=seed))


def degraded(
    read: Callable[[], bytes],
    image_id: str,
    *,
    max_pixels: int,
    view: int,
    policy: tuple[Operation, ...],
    seed: int,
) -> bytes | Image.Image:
    """The decoded original after the operations on the file in a view; its bytes as they are when the view draws none."""
    data = read()
    original = open_image(data, max_pixels=max_pixels, accepted=True)
    made = render(original, image_id=image_id, view=view, policy=policy, seed=seed, at=FILE)
    return data if made is original else made
