"""The contact sheet of a set of crops: some of its sources, as many real as fake ones, beside what was cropped of them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ffdi.faces.contact import ContactEntry, contact_sheet, spread
from ffdi.faces.crop_files import CropFiles
from ffdi.faces.face import Box
from ffdi.faces.footage.footage import is_video
from ffdi.faces.journal import CroppedSource, Journal
from ffdi.faces.settings import FacesSettings
from ffdi.faces.sources import frame_of_source
from ffdi.files import replacing
from ffdi.intake.decoding.images import RGB, UnreadableImage, open_image, to_array

_READ = 64  # crops of a source, of which the sheet shows a few


@dataclass(frozen=True, eq=False)
class SetContact:
    """What a sheet is made of: the sources below `root` and their crops. They are decoded once more, up to a frame."""

    root: Path
    settings: FacesSettings
    journal: Journal
    files: CropFiles

    def write(self, file: Path, sources: pd.DataFrame) -> None:
        """Write the sheet of the sources that have a face: rows with `path`, `label` and `image_id`."""
        with_face = sources[[bool(s and s.faces) for s in map(self.journal.get, sources["image_id"])]]
        chosen = with_face.iloc[spread(with_face["label"].tolist())]
        most = max(len(source.faces) for _, source in self._of(chosen))
        sheet = contact_sheet(f"{len(with_face)} photos and videos with faces", self._entries(chosen), most_crops=most)
        with replacing(file) as temporary:
            temporary.write_bytes(sheet)

    def _of(self, rows: pd.DataFrame) -> Iterator[tuple[tuple[str, int], CroppedSource]]:
        for sha256, path, label in zip(rows["image_id"], rows["path"], rows["label"], strict=True):
            if source := self.journal.get(sha256):
                yield (path, label), source

    def _entries(self, rows: pd.DataFrame) -> Iterator[ContactEntry]:
        for (path, label), source in self._of(rows):
            first = source.faces[0].frame
            try:
                picture = frame_of_source(self.root / path, first, self.settings.crops, self.settings.max_pixels)
            except UnreadableImage:  # it has changed, or is gone, since it was searched
                continue
            boxes = [(face.track, Box(*map(float, face.box))) for face in source.faces if face.frame == first]
            some = source.faces[:: max(1, len(source.faces) // _READ)]
            crops = [(face.track, self._crop(self.files.name(source.sha256, face))) for face in some]
            seen = f"{source.frames} frames, {source.without_face} without a face" if is_video(Path(path)) else ""
            yield ContactEntry(path, label, picture, boxes, crops, seen)

    def _crop(self, name: str) -> RGB:
        data = (self.files.folder / name).read_bytes()
        return to_array(open_image(data, max_pixels=self.settings.max_pixels, accepted=True))
