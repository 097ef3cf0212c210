"""The crops of photos and videos -> what models say of each person in a file, and of the whole file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from typing import NamedTuple

import numpy as np

from ffdi.console import Console
from ffdi.deploy.cropper import Cropper
from ffdi.deploy.judgement import FaceJudgement, Judgement, Row
from ffdi.deploy.picture_scores import judgement_of, scored
from ffdi.deploy.pictures import Picture, picture_of_face
from ffdi.evaluation.units import aggregated
from ffdi.faces.sources import FoundFace
from ffdi.features.decoders import Read
from ffdi.intake.decoding.images import UnreadableImage
from ffdi.tails.model import Model
from ffdi.tails.scoring import ImageScore

Scores = tuple[ImageScore, ...]  # of one crop, by each model


@dataclass(frozen=True, eq=False)
class JudgedTrack:
    """One person in a file: the row of each model, and the most fake of the crops by the first one, with its scores."""

    row: tuple[FaceJudgement, ...]
    face: FoundFace
    scores: Scores


@dataclass(frozen=True, eq=False)
class JudgedFile:
    """A photo or video: the row of each model, and the people in it, in the order of their tracks."""

    row: tuple[FaceJudgement, ...]
    tracks: Sequence[JudgedTrack] = ()

    @property
    def rows(self) -> list[Row]:
        """That of the file, then those of the people in it."""
        return [self.row, *(track.row for track in self.tracks)]


def judged_files(
    models: Sequence[Model],
    pictures: Iterable[Picture],
    cropper: Cropper,
    *,
    rule: str = "mean",
    console: Console = Console(),
) -> Iterator[JudgedFile]:
    """What the models say of each picture's faces, in order.

    The scores of a person's crops become one by `rule` (see aggregated). A file is judged by its most fake person: each
    model names its own. A file that cannot be read to its end has no score, nor has one without a face. Crops of several
    files are scored together; of a long video scores are in memory, and one crop of each person. The console hears how
    many files have faces that are not judged.
    """
    if cropper.device_line:
        console.say(cropper.device_line)

    def crops() -> Iterator[tuple[tuple[_File, FoundFace | None], str, Read]]:
        for number, picture, found in cropper.faces(pictures):
            file = _File(number, picture.name, picture.video is not None)
            if isinstance(found, UnreadableImage):
                yield (file, None), picture.name, _raising(found)
            else:
                crop = picture_of_face(found, picture.name, cropper.settings.format)
                yield (file, found), crop.name, crop.read

    only_one = 0  # files with faces that are not judged
    of_crops = scored(models, crops(), max_pixels=cropper.max_pixels, console=console)
    for file, of_file in groupby(of_crops, key=lambda pair: pair[0][0]):
        people: dict[int, _Person] = {}
        reason, others = "", 0
        for (_, found), scores in of_file:
            others += found.others if found else 0
            if found is None or isinstance(scores, str):
                reason = reason or str(scores)
            else:
                people.setdefault(found.track, _Person(file, found.track)).add(found, scores)
        only_one += others > 0
        yield _judged(models, file.name, [people[track] for track in sorted(people)], reason, rule)
    if only_one:
        files = f"{only_one} file{'s show' if only_one > 1 else ' shows'}"
        console.say(f"{files} more faces than the largest, which is judged: --faces all judges each")


def people_in(
    model: Model, pictures: Iterable[Picture], cropper: Cropper, console: Console = Console()
) -> Iterator[tuple[Picture, Judgement]]:
    """The most fake crop of each person in the pictures, and what the model says of that crop alone: the most fake person of
    a file first. The crop is called after its file, person and place; of a file without a score there is one that has the
    reason."""
    for file in judged_files([model], pictures, cropper, console=console):
        name, reason = file.row[0].path, file.row[0].reason
        if not file.tracks:
            yield Picture(name, _raising(UnreadableImage(reason or ""))), file.row[0]
        for track in sorted(file.tracks, key=lambda track: -_score(track.row[0])):
            row = track.row[0]
            at = "" if row.seconds is None else f" at {row.seconds:.1f} s"
            crop = picture_of_face(track.face, f"{name}, person {row.track}{at} ({row.box})", cropper.settings.format)
            yield crop, judgement_of(model, crop.name, track.scores[0])


class _File(NamedTuple):
    """What the crops of one file have in common."""

    number: int
    name: str
    is_video: bool


def _raising(error: UnreadableImage) -> Read:
    def read() -> bytes:
        raise error

    return read


def _judged(models: Sequence[Model], name: str, people: Sequence[_Person], reason: str, rule: str) -> JudgedFile:
    if reason:
        return JudgedFile(tuple(FaceJudgement(name, reason=reason) for _ in models))
    tracks = [person.judged(models, rule) for person in people]
    frames = len({frame for person in people for frame in person.frames})
    rows = [max((track.row[place] for track in tracks), key=_score) for place in range(len(models))]
    return JudgedFile(tuple(replace(row, track=None, frames=frames) for row in rows), tracks)


def _score(row: FaceJudgement) -> float:
    return -1.0 if row.score is None else row.score


class _Person:
    """The scores of the crops of one track so far, and the most fake crop by the first model."""

    def __init__(self, file: _File, track: int) -> None:
        self.file, self.track = file, track
        self.frames: list[int] = []
        self._scores: list[Scores] = []
        self._best: tuple[FoundFace, Scores] | None = None

    def add(self, found: FoundFace, scores: Scores) -> None:
        self.frames.append(found.frame)
        self._scores.append(scores)
        if self._best is None or scores[0].mean > self._best[1][0].mean:
            self._best = found, scores

    def judged(self, models: Sequence[Model], rule: str) -> JudgedTrack:
        assert self._best is not None
        face, scores = self._best
        box = face.face.box
        sides = " ".join(str(round(side)) for side in (box.left, box.top, box.right, box.bottom))
        seconds = face.seconds if self.file.is_video else None
        rows = []
        for place, model in enumerate(models):
            of_model = [of_crop[place] for of_crop in self._scores]
            row = asdict(judgement_of(model, self.file.name, _joined(of_model, rule)))
            apart = float(np.std([score.mean for score in of_model])) if len(of_model) > 1 else None
            rows.append(
                FaceJudgement(
                    **row, track=self.track, frames=len(of_model), frame_spread=apart, seconds=seconds, box=sides
                )
            )
        return JudgedTrack(tuple(rows), face, scores)


def _joined(scores: Sequence[ImageScore], rule: str) -> ImageScore:
    """The score of a person, of those of the crops. Unlike the training is one of whom most crops are."""
    one_person = np.zeros(len(scores), np.int64)

    def joined(values: Sequence[float]) -> float:
        return float(aggregated(one_person, np.array(values), rule)[0])

    distances = [score.distance for score in scores if score.distance is not None]
    distance = float(np.median(distances)) if len(distances) == len(scores) else None
    by_fold = {fold: joined([score.by_fold[fold] for score in scores]) for fold in scores[0].by_fold}
    unlike = None if distance is None else distance > 1
    return ImageScore(joined([score.mean for score in scores]), by_fold, unlike, distance)
