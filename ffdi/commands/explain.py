"""ffdi explain: what the scores of images depend on, as pictures and as a page."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from ffdi.commands.scoring import (
    DETECTOR,
    FACES,
    cropper_of,
    inputs_to_score,
    refuse_unread,
    scoring_options,
    takes_videos,
)
from ffdi.memory import uncollected
from ffdi.stagekit.command import OneLineErrors
from ffdi.stagekit.console import console
from ffdi.stagekit.local_path import LocalPath

if TYPE_CHECKING:
    from ffdi.deploy.cropper import Which
    from ffdi.deploy.explanation.explain import Side


@click.command(
    cls=OneLineErrors,
    short_help="what a score depends on: heat map and occlusion",
    epilog="""ffdi explain --model data/models/NAME --out explained photo.jpg folder/
    ffdi explain --model data/models/NAME --out explained --no-occlusion --toward fake photo.jpg""",
)
@click.argument("images", nargs=-1, required=True, metavar="PATH...")
@scoring_options
@FACES
@DETECTOR
@click.option("--out", required=True, type=LocalPath(file_okay=False), help="a folder, made if need be")
@click.option(
    "--toward",
    type=click.Choice(["fake", "real"]),
    help="what the heat map counts for  [default: the side of the threshold that the score is on]",
)
@click.option("--occlusion/--no-occlusion", default=True, help="it scores the image again for each part")
@click.option("--across", default=8, show_default=True, type=click.IntRange(2, 64), help="parts side by side")
@click.option(
    "--stride",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="from one part to the next, in sides of a part",
)
def explain(
    images: tuple[str, ...],
    model: Path,
    max_pixels: int,
    faces: Which,
    detector: Path | None,
    out: Path,
    toward: Side | None,
    occlusion: bool,
    across: int,
    stride: float,
) -> None:
    """Write to the folder --out what the score of each image depends on: NAME.explained.png, and index.html of all.

    Beside the image as the network sees it: the places that counted (Grad-CAM at the cut; for tokens, carried back by
    attention rollout), and how the score changes when a part is blurred. PATH is as that of ffdi predict; with a model of face
    crops, it is the most fake crop of each person that is explained.

    An image that cannot be read, or has no face, is on the page, with the reason, and makes the exit code 1.
    """
    stage = console("explain")
    found = inputs_to_score(images, stage, videos=takes_videos([model], faces))
    cropper = cropper_of([model], faces, detector, max_pixels)

    with uncollected():
        from ffdi.deploy.detector import load_models
        from ffdi.deploy.explanation.occlusion import Patches
        from ffdi.deploy.explanation.pages import PAGE, write_explanations
        from ffdi.deploy.pictures import pictures_of
        from ffdi.features.devices import set_up_torch

        (loaded,) = load_models([model], cropper, max_pixels=max_pixels)
        set_up_torch()
    pictures = [picture for file in found.files for picture in pictures_of(file)]
    patches = Patches(across, stride) if occlusion else None
    counts = write_explanations(out, loaded, pictures, toward=toward, patches=patches, console=stage)
    count, things = len(pictures), "images" if cropper is None else "files"
    explained = (
        f"{counts.explained} of {count} images" if cropper is None else f"{counts.explained} faces of {count} files"
    )
    stage.say(f"{explained} explained: see {out / PAGE}")
    refuse_unread(found, counts.unreadable, count, counts.faceless, things)
