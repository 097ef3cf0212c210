"""Explanations of many pictures: a PNG of each, and one HTML page of all of them that needs nothing beside it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ffdi.console import Console
from ffdi.deploy.detector import Detector, Judgement
from ffdi.deploy.explanation.explain import CANNOT_TELL, Side, explain
from ffdi.deploy.explanation.occlusion import Patches
from ffdi.deploy.explanation.picture import SIDE, explanation_picture, facts, panels, rule_of
from ffdi.deploy.judged_faces import people_in
from ffdi.deploy.judgement import NO_FACE
from ffdi.deploy.pictures import Picture
from ffdi.errors import printable
from ffdi.evaluation.templates import page_template
from ffdi.evaluation.wrong_images import data_uri
from ffdi.files import replacing
from ffdi.intake.decoding.images import UnreadableImage

PAGE, ENDING = "index.html", ".explained.png"
_LONGEST = 80  # characters of a picture's name that its PNG keeps


class Explained(NamedTuple):
    """How many pictures were explained, how many could not be read, and how many have no face."""

    explained: int
    unreadable: int
    faceless: int = 0


def write_explanations(
    out: Path,
    detector: Detector,
    pictures: Iterable[Picture],
    *,
    toward: Side | None = None,
    patches: Patches | None = None,
    console: Console = Console(),
) -> Explained:
    """Write NAME.explained.png of each picture and index.html to the folder `out`, which is made where it is not there.

    Other files in it stay; PNGs of the same names are replaced. A picture that cannot be read is on the page, with the
    reason. One picture at a time is in memory, and the page is there when all are written. `toward` and `patches` as
    explain. A detector that crops explains the most fake crop of each person in a file.
    """
    pictures = list(pictures)
    counts = [0, 0, 0]
    names: set[str] = set()

    def items() -> Iterator[dict[str, Any]]:
        for picture, judged in _explained(detector, console.progress(pictures, len(pictures)), console):
            path = printable(picture.name)
            try:
                explanation = explain(detector, picture, toward=toward, patches=patches, judgement=judged)
            except UnreadableImage as error:
                counts[2 if str(error).startswith(NO_FACE) else 1] += 1
                yield {"path": path, "reason": printable(str(error))}
                continue
            counts[0] += 1
            with replacing(out / _name(picture.name, names)) as file:
                explanation_picture(explanation, detector.model.policy).save(file, "PNG")
            shown = [(data_uri(panel), caption) for panel, caption in panels(explanation)]
            yield {"path": path, "reason": "", "facts": facts(explanation), "panels": shown}

    template = page_template(Path(__file__).with_name("pages.html"))
    out.mkdir(parents=True, exist_ok=True)
    with replacing(out / PAGE) as file, file.open("w", encoding="utf-8") as page:
        rule = rule_of(detector.model.policy)
        about = {"model": printable(detector.name), "cannot_tell": CANNOT_TELL, "rule": rule, "side": SIDE}
        for part in template.generate(**about, items=items()):
            page.write(part)
    return Explained(*counts)


def _explained(
    detector: Detector, pictures: Iterable[Picture], console: Console
) -> Iterator[tuple[Picture, Judgement | None]]:
    """The pictures, or the crops of the faces in them, with what is known of them already."""
    if detector.cropper is None:
        for picture in pictures:
            yield picture, None
    else:
        yield from people_in(detector.model, pictures, detector.cropper, console)


def _name(shown: str, taken: set[str]) -> str:
    """The file name of a picture's PNG: unlike those that are `taken`, on any file system."""
    stem = re.sub(r"[^\w.+-]+", "_", re.split(r"[\\/]", shown)[-1], flags=re.ASCII)[:_LONGEST] or "picture"
    name, number = stem, 1
    while name.lower() in taken:
        number += 1
        name = f"{stem}-{number}"
    taken.add(name.lower())
    return name + ENDING
