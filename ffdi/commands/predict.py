"""ffdi predict: the scores of images and folders."""

from __future__ import annotations

import io
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click

from ffdi.commands.scoring import MAX_PIXELS, inputs_to_score, refuse_no_model, refuse_unread
from ffdi.errors import printable
from ffdi.files import replacing
from ffdi.stagekit.command import OneLineErrors, uncollected
from ffdi.stagekit.console import console
from ffdi.stagekit.local_path import LocalPath

FORMATS = ("table", "csv", "jsonl", "parquet")


@click.command(
    cls=OneLineErrors,
    short_help="P(fake) and a verdict for images and folders",
    epilog="""ffdi predict --model data/models/NAME photo.jpg folder/ 'more/**/*.jpg'
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
@MAX_PIXELS
def predict(
    images: tuple[str, ...], models: tuple[Path, ...], kind: str | None, out: Path | None, max_pixels: int
) -> None:
    """Print the calibrated P(fake) and the verdict of images: `real`, `fake`, or `undecided` with a model that abstains.

    PATH is an image, a folder, a glob, a csv or Parquet table with a column `path`, relative to its folder, or - for a list
    on stdin: a path a line, or separated by NUL. Columns: path, score, verdict, spread over the folds, unlike (the training
    data), reason.

    An image that cannot be read has no score but a reason, and makes the exit code 1, as a folder without any image does.
    What a folder has beside images is counted on stderr.
    """
    if len({model.resolve() for model in models}) < len(models):
        raise click.UsageError("--model: one model is named twice")
    kind = kind or _usual_format(out)
    if kind == "parquet" and out is None and sys.stdout.isatty():
        raise click.UsageError("--format parquet: is no text for a terminal: name a file with --out")
    stage = console("predict")
    found = inputs_to_score(images, stage)
    refuse_no_model(*models)

    with uncollected():
        from ffdi.deploy.detector import judgements_by, load_all
        from ffdi.deploy.judgement import Tally
        from ffdi.deploy.pictures import pictures_of
        from ffdi.deploy.verdict_tables import write_aligned, write_csv, write_jsonl, write_parquet
        from ffdi.features.devices import set_up_torch

        detectors = load_all(models, max_pixels=max_pixels)
        set_up_torch()
    names, tally = [detector.name for detector in detectors], Tally(len(detectors))
    pictures = (picture for file in found.files for picture in pictures_of(file))
    rows = tally.counted(judgements_by(detectors, pictures, stage))
    if not sys.stdout.isatty() and sys.stderr.isatty():
        rows = iter(stage.progress(rows, len(found.files)))
    with _text(out) as text:
        if kind == "table":
            longest = max(len(printable(str(file))) for file in found.files)
            write_aligned(names, rows, text, longest=longest, width=shutil.get_terminal_size().columns)
        elif kind == "jsonl":
            write_jsonl(names, rows, text)
        elif kind == "parquet":
            write_parquet(names, rows, text.buffer)
        else:
            write_csv(names, rows, text, printable if text.isatty() else str)
    for line in tally.lines(names):
        stage.say(line)
    refuse_unread(found, tally.unreadable, tally.rows)


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
