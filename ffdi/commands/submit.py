"""ffdi submit: a row for every image of a list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ffdi.commands.scoring import (
    DETECTOR,
    FACES,
    UNIT,
    UNIT_SCORE,
    cropper_of,
    score_with_model,
    scoring_options,
    unit_rule,
)
from ffdi.stagekit.command import OneLineErrors
from ffdi.stagekit.console import console, say
from ffdi.stagekit.local_path import LocalPath

if TYPE_CHECKING:
    from ffdi.deploy.cropper import Which


@click.command(
    cls=OneLineErrors,
    short_help="a row for every image of a competition's list",
    epilog="ffdi submit --model data/models/NAME --list testset.txt --root testset/ --out submission.csv",
)
@click.option("--list", "list_file", required=True, type=LocalPath(), help="a table with img_name, or names")
@click.option("--root", required=True, type=LocalPath(), help="the folder that the names start from")
@click.option(
    "--out",
    required=True,
    type=LocalPath(dir_okay=False),
    help="such as submission.csv or submission.parquet",
)
@click.option(
    "--max-rejected",
    default=0.1,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="the share of unreadable images above which there is no submission",
)
@UNIT
@UNIT_SCORE
@FACES
@DETECTOR
@scoring_options
def submit(
    list_file: Path,
    root: Path,
    out: Path,
    max_rejected: float,
    unit: str | None,
    unit_score: str | None,
    faces: Which,
    detector: Path | None,
    model: Path,
    max_pixels: int,
) -> None:
    """Write img_name,y_pred for every row of a list, in its order, as CSV; y_pred is the calibrated P(fake).

    An unreadable image is named and gets the model's prior: the share of fakes among the images it was trained on. No
    file is written where more than --max-rejected, or all, are unreadable. Where the list has labels, as 0 and 1 in a
    column target or label, their AUC is said; nothing else depends on them.

    With --unit COLUMN, a column of the list such as video, there is a row for each of its values, COLUMN,y_pred: the
    scores of its readable images become one.

    With a model of face crops the files are raw photos and videos, each with the score of its most fake person; --faces none
    takes them for crops. One without a face counts as unreadable.
    """
    judged_together = unit_rule(unit, unit_score)
    from ffdi.evaluation.below_chance import auc_and_interval, explain
    from ffdi.evaluation.submission import read_image_list, write_submission

    stage, listed = console("submit"), read_image_list(list_file, root, judged_together)
    for line in listed.lines():
        stage.say(line)
    cropper = cropper_of([model], faces, detector, max_pixels)
    bundle, scores = score_with_model(model, listed.files, max_pixels, cropper)
    written = write_submission(out, listed, scores, prior=bundle.prior, max_rejected=max_rejected, console=stage)
    for line in written.unreadable:
        say(line)
    for line in explain(written.metrics):
        stage.say(f"WARNING: {line}")
    each = judged_together.attribute if judged_together else "image"
    if written.metrics:
        figures = f"{auc_and_interval(written.metrics, 'auc')}, each {each} a group of its own"
        stage.say(f"against column {listed.label_column} of {list_file.name}: {figures}")
    count, guess = (
        f"{len(written.unreadable)} of {len(listed.names)} images cannot be read",
        f"the prior {bundle.prior!r}",
    )
    if judged_together:
        say(
            f"{out}: {count}; {written.guessed} of {written.rows} rows ({each}) have none that can: their y_pred is {guess}"
        )
    else:
        say(f"{out}: {count}: their y_pred is {guess}")
