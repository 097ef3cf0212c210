"""A file's bytes -> what the page shows: verdict, score and its scale, heat map, warning, and what the verdict cannot tell."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from PIL import Image

from ffdi.deploy.detector import Judgement, load
from ffdi.deploy.explanation.explain import CANNOT_TELL, explain, heated
from ffdi.deploy.judged_faces import people_in
from ffdi.deploy.judgement import NO_FACE
from ffdi.deploy.pictures import Picture, pictures_in
from ffdi.features.devices import set_up_torch
from ffdi.intake.decoding.formats import TooManyPixels, format_of, jxl_size
from ffdi.intake.decoding.images import UnreadableImage, open_header
from ffdi.tails.policy import Policy

MEANING = {
    "fake": "The picture scores like fakes of the training; that is no proof, and it does not tell who made the picture, how "
    "or why.",
    "real": "The picture scores like real ones of the training; a fake of another kind can score just as low, so this does "
    "not prove that the picture is genuine.",
    "undecided": "In this band the model is wrong too often to be asked: treat the picture as if it had not been judged.",
}
UNLIKE = (
    "Unlike the training data: the picture lies farther from all pictures of the training than 99 in 100 of them lie from "
    "their nearest neighbour, so nobody has checked what a score of it is worth."
)
NO_INDEX = "Whether the picture is unlike the training data is not known: the model has no index of them."
NO_HEAT = "There is no heat map: this network keeps no places that could be shown."
RANDOM = (
    "The frozen part of its network has random weights: it shows how the app works, and its verdicts are worth little."
)


class Judge:
    """A model that answers for files. BundleError where the model cannot be read."""

    def __init__(self, model: Path, max_pixels: int) -> None:
        set_up_torch()
        self._detector = load(model, max_pixels=max_pixels)
        parts = self._detector.model.parts
        pretrained = all(part.record["provenance"]["pretrained"] for part in parts)
        said = self._detector.model.description
        self.facts: Mapping[str, Any] = {
            "name": self._detector.name,
            "description": f"{said['network']} cut at {said['cut']}",
            "warning": "" if pretrained else RANDOM,
        }

    def __call__(self, data: bytes) -> tuple[int, dict[str, Any]]:
        """(HTTP status, what the page is told) of a file."""
        if _is_larger(data, self._detector.max_pixels):
            return 413, {
                "error": f"This picture has more than {self._detector.max_pixels / 1e6:g} megapixels, the most that is judged here."
            }
        judged, told = list(self._judged(data)), []
        for picture, judgement in judged:
            if judgement.score is None:
                return 422, {"error": _refusal(judgement.reason or "")}
            told.append(self._told(judgement) | self._shown(picture, judgement))
        if self._detector.cropper:
            for number, ((picture, _), card) in enumerate(zip(judged, told, strict=True)):
                card["meaning"] = f"{_which_face(picture, number, len(told))} {card['meaning']}"
        return 200, {"pictures": told}

    def _judged(self, data: bytes) -> Iterator[tuple[Picture, Judgement]]:
        """The picture, or the faces in it, the most fake first."""
        pictures, detector = pictures_in(data, "upload"), self._detector
        if detector.cropper:
            yield from people_in(detector.model, pictures, detector.cropper)
        else:
            yield from zip(pictures, detector.judgements(pictures), strict=True)

    def _told(self, judged: Judgement) -> dict[str, Any]:
        policy: Policy = self._detector.model.policy
        return {
            "score": judged.score,
            "verdict": judged.verdict,
            "threshold": policy.threshold,
            "low": policy.threshold if policy.low is None else policy.low,
            "high": policy.threshold if policy.high is None else policy.high,
            "spread": judged.spread,
            "unlike": judged.unlike,
            "meaning": MEANING[str(judged.verdict)],
            "warning": UNLIKE if judged.unlike else "",
            "note": NO_INDEX if judged.unlike is None else "",
        }

    def _shown(self, picture: Picture, judged: Judgement) -> dict[str, Any]:
        """The picture as the network sees it, and its heat map."""
        seen = explain(self._detector, picture, judgement=judged)
        if seen.heat is None:
            return {"picture": _data_uri(seen.picture), "heat": None, "method": NO_HEAT}
        method = f"Heat map: {seen.method}, for {seen.toward}" + (f", by {seen.member}." if seen.member else ".")
        heat = _data_uri(heated(seen.picture, seen.heat))
        return {"picture": _data_uri(seen.picture), "heat": heat, "method": f"{method} {CANNOT_TELL}"}


def _refusal(reason: str) -> str:
    if reason.startswith(NO_FACE):
        return "No face was found in this picture, and the model judges faces."
    return f"This is no picture that can be read ({reason})."


def _which_face(picture: Picture, number: int, count: int) -> str:
    """Which face of an upload a card is of; `picture` is called after its place."""
    place = picture.name.rpartition("(")[2].rstrip(")").split()
    at = f"{place[0]} to {place[2]} across, {place[1]} to {place[3]} down, in pixels"
    if count == 1:
        return f"The face at {at}."
    return (
        f"The most fake of {count} faces, at {at}: the verdict on the picture."
        if number == 0
        else f"Another face, at {at}."
    )


def _is_larger(data: bytes, max_pixels: int) -> bool:
    """Whether the header tells of more pixels; a file that tells of none is not larger, but unreadable."""
    try:
        width, height = jxl_size(data) if format_of(data) == "JXL" else open_header(data).size
    except TooManyPixels:
        return True
    except UnreadableImage:
        return False
    return width * height > max_pixels


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
