"""What the commands that score images share: options, and the scoring itself."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ffdi.errors import FfdiError, InputError, ParamsError
from ffdi.memory import uncollected
from ffdi.stagekit.console import console
from ffdi.stagekit.local_path import LocalPath

if TYPE_CHECKING:
    from ffdi.console import Console
    from ffdi.deploy.cropper import Cropper, Which
    from ffdi.deploy.inputs import Inputs
    from ffdi.evaluation.settings import UnitRule
    from ffdi.tails.model import Model


MODEL = click.option("--model", required=True, type=LocalPath(), help="a folder such as data/models/NAME")
PHASH_BITS = click.option(
    "--phash-bits", default=6, show_default=True, type=click.IntRange(0, 32), help="how unlike near-duplicates may be"
)
MAX_PIXELS = click.option(
    "--max-pixels", default=50_000_000, show_default=True, help="above them, an image is not read"
)
RESAMPLES = click.option("--bootstrap", default=2000, show_default=True, type=click.IntRange(min=100), help="resamples")
UNIT = click.option("--unit", metavar="COLUMN", help="judge images of one value of it together, such as video")
UNIT_SCORE = click.option(
    "--unit-score", metavar="RULE", help="mean, median or top-K: how their scores become one  [default: mean]"
)


def unit_rule(unit: str | None, unit_score: str | None) -> UnitRule | None:
    """What --unit and --unit-score say; UsageError where they do not fit."""
    if unit is None:
        if unit_score is not None:
            raise click.UsageError("--unit-score: has no effect without --unit")
        return None
    from ffdi.evaluation.settings import UnitRule

    try:
        return UnitRule.named(unit, unit_score or "mean")
    except ParamsError as error:
        raise click.UsageError(f"--unit {unit} --unit-score {unit_score or 'mean'}: {error}") from None


def scoring_options(command: Callable[..., None]) -> Callable[..., None]:
    """--model and --max-pixels."""
    return MODEL(MAX_PIXELS(command))


FACES = click.option(
    "--faces",
    type=click.Choice(["auto", "all", "largest", "none"]),
    default="auto",
    show_default=True,
    help="of a model of face crops: those that its training took, all, the largest; none: the images are crops",
)
DETECTOR = click.option(
    "--detector",
    type=LocalPath(dir_okay=False),
    help="the ONNX file that found the training's faces, where it has moved",
)


def takes_videos(models: Sequence[Path], faces: Which) -> bool:
    """Whether the models crop faces of videos; what is wrong with one is said later."""
    from ffdi.deploy.cropper import recorded_crops

    with suppress(FfdiError):
        return faces != "none" and recorded_crops(models) is not None
    return False


def cropper_of(models: Sequence[Path], faces: Which, detector: Path | None, max_pixels: int) -> Cropper | None:
    """What crops raw photos and videos for the models, None for whole images: see open_cropper. It imports no torch."""
    refuse_no_model(*models)
    from ffdi.deploy.cropper import open_cropper

    return open_cropper(models, faces, detector=detector, max_pixels=max_pixels)


def inputs_to_score(arguments: Sequence[str], stage: Console, *, videos: bool = False) -> Inputs:
    """What PATH... names; says what folders have beside images. InputError where there is no image at all.

    With `videos`, those of folders are scored, too.
    """
    from ffdi.deploy.inputs import find_inputs

    found = find_inputs(arguments, sys.stdin.buffer, videos=videos)
    for line in found.passed_over:
        stage.say(line)
    if not found.files:
        raise InputError("; ".join(found.empty) or "no image is named")
    if videos and (crops := next(filter(_is_of_crops, dict.fromkeys(file.parent for file in found.files)), None)):
        stage.warn(
            f"WARNING: {crops} has crops of stage faces, which are cropped once more: give --faces none for them"
        )
    return found


def _is_of_crops(folder: Path) -> bool:
    """Whether a folder lies in a set of crops that stage faces has made."""
    from ffdi.intake.listing.crop_sets import FACTS, LABELS

    return any(
        (near / FACTS).is_file() and (near / LABELS).is_file() for near in (folder, *folder.absolute().parents[:2])
    )


def refuse_unread(found: Inputs, unreadable: int, count: int, faceless: int = 0, things: str = "images") -> None:
    """InputError at the end of a command that scored the rest, where an image could not be read or a folder had none."""
    unread = [f"{unreadable} of {count} {things} cannot be read"] if unreadable else []
    unread += [f"{faceless} of {count} {things} {'has' if faceless == 1 else 'have'} no face"] if faceless else []
    if lines := unread + found.empty:
        raise InputError("; ".join(lines))


def refuse_no_model(*folders: Path) -> None:
    """BundleError where a folder is no model, or its record was changed: before torch is imported, which takes seconds."""
    from ffdi.tails.record import read_record, refuse_changed

    for folder in folders:
        refuse_changed(folder, read_record(folder))


def score_with_model(
    model: Path, files: Sequence[Path], max_pixels: int, cropper: Cropper | None = None
) -> tuple[Model, Iterator[tuple[Path, float | str]]]:
    """The model, and (file, P(fake) or the reason why there is none) in the order of `files`; with a `cropper`, of photos and
    videos by their most fake person."""
    refuse_no_model(model)
    with uncollected():
        from ffdi.deploy.judged_faces import judged_files
        from ffdi.deploy.pictures import pictures_of
        from ffdi.features.devices import set_up_torch
        from ffdi.tails.ensemble import load_model
        from ffdi.tails.predict import predict_files

        bundle, device = load_model(model), set_up_torch()
    report = console(click.get_current_context().info_name or "ffdi")
    if cropper is None:
        return bundle, predict_files(bundle, files, max_pixels=max_pixels, device=device, console=report)
    pictures = (picture for file in files for picture in pictures_of(file))
    judged = (file.row[0] for file in judged_files([bundle], pictures, cropper, console=report))
    scores = (
        (file, row.reason or "" if row.score is None else row.score) for file, row in zip(files, judged, strict=True)
    )
    return bundle, scores
