"""ffdi submit: a row for every image of a list."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ffdi.commands.scoring import score_images, scoring_options
from ffdi.errors import FfdiError, InputError
from ffdi.stagekit.command import OneLineErrors
from ffdi.stagekit.console import console, say

if TYPE_CHECKING:
    from ffdi.metrics import Metrics


@click.command(cls=OneLineErrors)
@click.option(
    "--list", "list_file", required=True, type=click.Path(path_type=Path), help="a csv with img_name, or names"
)
@click.option("--root", required=True, type=click.Path(path_type=Path), help="the folder that the names start from")
@click.option("--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="such as submission.csv")
@click.option(
    "--max-rejected",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="the share of unreadable images above which there is no submission",
)
@scoring_options
def submit(list_file: Path, root: Path, out: Path, max_rejected: float, model: Path, max_pixels: int) -> None:
    """Write img_name,y_pred for every row of a list, in its order, as CSV; y_pred is the calibrated P(fake).

    An unreadable image is named and gets the model's prior: the share of fakes among the images it was trained on. No
    file is written where more than --max-rejected, or all, are unreadable. Where the list has labels, as 0 and 1 in a
    column target or label, their AUC is said; nothing else depends on them.
    """
    from ffdi.files import replacing
    from ffdi.intake.ingest import DISK_FAULT, WRONG_NAMES
    from ffdi.intake.listing.label_files import read_list
    from ffdi.intake.listing.names import find_files
    from ffdi.intake.tables import CsvLines

    listed, known = read_list(list_file, root)
    files, names = find_files(root, [file for _, file in listed])
    for line in names.said() if names else ():
        say(f"submit: {line}")
    bundle, scores = score_images(model, files, max_pixels)
    unreadable: list[str] = []
    in_a_row: list[Path] = []
    scored: list[float | None] = []
    with replacing(out) as temporary:  # opened first: who may not write there learns it before hours of scoring
        with open(temporary, "w", encoding="utf-8", newline="") as text:
            table = csv.writer(CsvLines(text), lineterminator=CsvLines.END)
            table.writerow(["img_name", "y_pred"])
            for (file, score), (name, _) in zip(console("submit").progress(scores, len(listed)), listed):
                in_a_row = [*in_a_row, file] if isinstance(score, str) else []
                if isinstance(score, str):
                    like = names.closest(os.path.relpath(file, root)) if names and not os.path.lexists(file) else None
                    closest = f"; the closest name is {like!r}" if like else ""
                    unreadable.append(f"{str(file)!r}: {score}{closest}")
                    if len(in_a_row) == DISK_FAULT:
                        there = any(map(os.path.lexists, in_a_row))
                        rule = f"check {'the disk' if there else f'the list, for {WRONG_NAMES},'} and --root"
                        raise InputError(f"{DISK_FAULT} unreadable images in a row, the last {unreadable[-1]}: {rule}")
                    if len(unreadable) > max_rejected * len(listed) or len(unreadable) == len(listed):
                        raise InputError(
                            f"{len(unreadable)} of {len(listed)} images cannot be read, and perhaps more: nothing is "
                            f"written above --max-rejected {max_rejected:g}, nor where all are; the first is {unreadable[0]}"
                        )
                scored.append(None if isinstance(score, str) else score)
                table.writerow([name, bundle.prior if isinstance(score, str) else score])
        with open(temporary, encoding="utf-8", newline="") as text:
            written = sum(1 for _ in csv.reader(text)) - 1
        if written != len(listed):
            raise FfdiError(f"{out}: {written} rows were written, {list_file} lists {len(listed)}")
    for line in unreadable:
        say(line)
    if known:
        _judge_known(*known, scored, list_file)
    say(f"{out}: {len(unreadable)} of {len(listed)} images cannot be read: their y_pred is the prior {bundle.prior!r}")


def _judge_known(column: str, labels: Sequence[int], scored: Sequence[float | None], list_file: Path) -> None:
    """Say the AUC of what could be scored against a list's own labels; each image counts as a group."""
    import numpy as np

    from ffdi.bootstrap import Bootstrap, auc_interval
    from ffdi.evaluation.below_chance import explain
    from ffdi.metrics import auc

    pairs = [(label, score) for label, score in zip(labels, scored, strict=True) if score is not None]
    label, score = (np.array(values) for values in zip(*pairs, strict=True))
    if len(np.unique(label)) < 2:
        return
    low, high = auc_interval(label, score, np.arange(len(label)), bootstrap=Bootstrap(1000))
    metrics: Metrics = {"auc": auc(label, score), "auc_low": low, "auc_high": high, "tested_on": list_file.name}
    for line in explain(metrics):
        say(f"submit: WARNING: {line}")
    figures = f"AUC {metrics['auc']:.3f} [{low:.3f}, {high:.3f}], each image a group of its own"
    say(f"submit: against column {column} of {list_file.name}: {figures}")
