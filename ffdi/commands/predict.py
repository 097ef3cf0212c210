"""ffdi predict: the scores of images and folders."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from ffdi.commands.scoring import (
    DETECTOR,
    FACES,
    MAX_PIXELS,
    cropper_of,
    inputs_to_score,
    refuse_unread,
    takes_videos,
)
from ffdi.errors import printable
from ffdi.files import replacing
from ffdi.memory import uncollected
from ffdi.stagekit.command import OneLineErrors
from ffdi.stagekit.console import console
from ffdi.stagekit.local_path import LocalPath

if TYPE_CHECKING:
    from ffdi.deploy.cropper import Which

FORMATS = ("table", "csv", "jsonl", "parquet")


@click.command(
    cls=OneLineErrors,
    short_help="P(fake) and a verdict for images, videos and folders",
    epilog="""ffdi predict --model data/models/NAME photo.jpg clip.mp4 folder/ 'more/**/*.jpg'
    ffdi predict --model data/models/NAME --model data/ensembles/NAME - --format jsonl""",
)
@click.argument("images", nargs=-1, required=True, metavar="PATH...")
@click.option(
    "--model",
    "models",
    required=True,
    multiple=True,
    type=LocalPath(),
    help="a folder such as data/models/NAME; again for a second model, whose scores stand beside the first one's",
)
@click.option("--format", "kind", type=click.Choice(FORMATS), help="table on a terminal, csv elsewhere")
@click.option(
    "--out",
    type=LocalPath(dir_okay=False),
    help="a file that appears when it is whole; .jsonl and .parquet are in that format",
)
@FACES
@DETECTOR
@MAX_PIXELS
def predict(
    images: tuple[str, ...],
    models: tuple[Path, ...],
    kind: str | None,
    out: Path | None,
    faces: Which,
    detector: Path | None,
    max_pixels: int,
) -> None:
    """Print the calibrated P(fake) and the verdict of images: `real`, `fake`, or `undecided` with a model that abstains.

    A model that was trained on crops of faces takes photos and videos: it finds their faces, crops them alike, and joins the
    scores of a person's frames by their mean. There is a row for each file, by its most fake person, and one for each person
    in it, with more columns: track, frames, frame_spread, seconds, box.

    PATH is an image, a folder, a glob, a csv or Parquet table with a column `path`, relative to its folder, or - for a list
    on stdin: a path a line, or separated by NUL. Columns: path, score, verdict, spread over the folds, unlike (the training
    data), reason.

    An image that cannot be read, or has no face, has no score but a reason, and makes the exit code 1, as a folder without
    any image does.
    What a folder has beside images is counted on stderr.
    """
    if len({model.resolve() for model in models}) < len(models):
        raise click.UsageError("--model: one model is named twice")
    kind = kind or _usual_format(out)
    if kind == "parquet" and out is None and sys.stdout.isatty():
        raise click.UsageError("--format parquet: is no text for a terminal: name a file with --out")
    stage = console("predict")
    found = inputs_to_score(images, stage, videos=takes_videos(models, faces))
    cropper = cropper_of(models, faces, detector, max_pixels)

    with uncollected():
        from ffdi.deploy.detector import load_models, rows_by
        from ffdi.deploy.judgement import Tally
        from ffdi.deploy.pictures import pictures_of
        from ffdi.deploy.verdict_tables import write_aligned, write_csv, write_jsonl, write_parquet
        from ffdi.features.devices import set_up_torch

        detectors = load_models(models, cropper, max_pixels=max_pixels)
        set_up_torch()
    names, tally = [detector.name for detector in detectors], Tally(len(detectors), "file" if cropper else "image")
    pictures = (picture for file in found.files for picture in pictures_of(file))
    rows, of_faces = tally.counted(rows_by(detectors, pictures, console=stage)), cropper is not None
    if not sys.stdout.isatty() and sys.stderr.isatty():
        rows = iter(stage.progress(rows, len(found.files)))
    with _text(out) as text:
        if kind == "table":
            longest = max(len(printable(str(file))) for file in found.files)
            write_aligned(names, rows, text, longest=longest, width=shutil.get_terminal_size().columns, faces=of_faces)
        elif kind == "jsonl":
            write_jsonl(names, rows, text)
        elif kind == "parquet":
            write_parquet(names, rows, text.buffer, faces=of_faces)
        else:
            write_csv(names, rows, text, printable if text.isatty() else str, faces=of_faces)
    for line in tally.lines(names):
        stage.say(line)
    refuse_unread(found, tally.unreadable, tally.rows, tally.faceless, f"{tally.things}s")


def _usual_format(out: Path | None) -> str:
    if out is None:
        return "table" if sys.stdout.isatty() else "csv"
    return {".jsonl": "jsonl", ".parquet": "parquet"}.get(out.suffix, "csv")


@contextmanager
def _text(out: Path | None) -> Iterator[TextIO]:
    """Where the rows go. A name that is no UTF-8, or that stdout cannot spell, is written with escapes."""
    if out is None:
        if sys.stdout.errors == "strict" and isinstance(sys.stdout, io.TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")
        yield sys.stdout
        return
    with (
        replacing(out) as temporary,
        open(temporary, "w", encoding="utf-8", errors="backslashreplace", newline="") as text,
    ):
        yield text
