"""ffdi predict: the scores of images and folders."""

from __future__ import annotations

import csv
import io
import sys
from pathlib import Path

import click

from ffdi.commands.scoring import score_with_model, scoring_options
from ffdi.errors import InputError, printable
from ffdi.stagekit.command import OneLineErrors
from ffdi.stagekit.console import say


@click.command(
    cls=OneLineErrors,
    short_help="P(fake) and a verdict for images and folders",
    epilog="ffdi predict --model data/models/NAME photo.jpg folder/",
)
@click.argument("images", nargs=-1, required=True, type=click.Path(path_type=Path))
@scoring_options
def predict(images: tuple[Path, ...], model: Path, max_pixels: int) -> None:
    """Print path,score,verdict for IMAGES, files or folders, as CSV; score is the calibrated P(fake). The verdict is `real`,
    `fake`, or `undecided` with a model that abstains.

    An unreadable image gets an empty score and the reason, and makes the exit code 1, as a folder without any image does.
    What a folder has beside images is counted on stderr.
    """
    import numpy as np

    from ffdi.intake.listing.walk import passed_over, walk
    from ffdi.intake.tables import CsvLines

    files: list[Path] = []
    empty: list[str] = []
    for path in images:
        if not path.is_dir():
            files.append(path)
            continue
        tree = walk(path)
        files += [path / image for image in tree.images]
        over = ", ".join(passed_over(tree.skipped))
        if not tree.images:
            empty.append(f"{path}: no image in it" + (f"; passed over: {over}" if over else ""))
        elif over:
            say(f"predict: {path}: passed over: {over}")
    if not files:
        raise InputError("; ".join(empty))
    bundle, scores = score_with_model(model, files, max_pixels)
    if sys.stdout.errors == "strict" and isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for a name that is no UTF-8, or that stdout cannot spell
    table = csv.writer(CsvLines(sys.stdout), lineterminator=CsvLines.END)
    shown = printable if sys.stdout.isatty() else str
    table.writerow(["path", "score", "verdict"])
    unreadable, verdicts = 0, bundle.policy.verdicts
    for file, score in scores:
        name = shown(str(file))
        if isinstance(score, str):
            unreadable += 1
            table.writerow([name, "", score])
        else:
            table.writerow([name, f"{score:.6f}", verdicts(np.array([score]))[0]])
    if unreadable:
        empty.insert(0, f"{unreadable} of {len(files)} images cannot be read")
    if empty:
        raise InputError("; ".join(empty))
