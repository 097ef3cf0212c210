"""How the images of a training were cropped, as a model's record has it: what raw photos and videos are cropped by later."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ffdi.errors import InputError
from ffdi.faces.settings import CropSettings

if TYPE_CHECKING:
    from ffdi.faces.detectors.detector import FaceDetector


@dataclass(frozen=True)
class RecordedCrops:
    """The settings of the crops, and the name and sha256 of the detector that found them."""

    settings: CropSettings
    detector: str
    sha256: str

    @classmethod
    def of(cls, record: Mapping[str, Any]) -> RecordedCrops:
        """That of `provenance.crops`; InputError for one of another version of ffdi."""
        try:
            detector = record["detector"]
            return cls(CropSettings(**record["settings"]), str(detector["name"]), str(detector["sha256"]))
        except (KeyError, TypeError) as error:
            raise InputError(f"how its images were cropped is not known to this ffdi ({error}): update it") from None

    @property
    def words(self) -> str:
        """How they were cropped, for readers."""
        made = self.settings
        aligned = "turned to where eyes, nose and mouth usually lie" if made.align == "similarity" else "not turned"
        which = "the largest face" if made.faces == "largest" else "all faces"
        of_video = "all frames" if made.frames == "all" else f"{made.frames} frames, evenly spaced,"
        return (
            f"{which} of a photo, or of {of_video} of a video, found by {self.detector} with a score of at least "
            f"{made.min_score:g}; squares of {made.margin:g} times the box's longer side, {aligned}, scaled to "
            f"{made.size} pixels, as {made.format}"
        )

    @property
    def short(self) -> str:
        """What tells these crops from others, in a few words."""
        made = self.settings
        turned = ", aligned" if made.align == "similarity" else ""
        which = f"{made.faces} faces by {self.detector} {self.sha256[:8]} above {made.min_score:g}"
        return f"{which}, margin {made.margin:g}, {made.size} pixels{turned}, {made.frames} frames, {made.format}"

    def opened(self, file: Path | None = None) -> FaceDetector:
        """The detector: that of the settings, or of a copy of its file. InputError where it is another, or not there."""
        from ffdi.faces.detectors.detector import open_detector

        settings = self.settings if file is None else replace(self.settings, detector=f"file:{file}")
        try:
            found = open_detector(settings)
        except InputError as error:
            if file is None and settings.detector.startswith("file:"):
                raise InputError(f"{error}: where that file has moved, name it with --detector") from None
            raise
        if found.sha256 != self.sha256:
            raise InputError(
                f"detector: {settings.detector} is another file ({found.sha256[:12]}...) than found the faces of the "
                f"training ({self.sha256[:12]}...): name that {self.detector} file with --detector"
            )
        return found
