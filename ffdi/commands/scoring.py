"""What the commands that score images share: options, and the scoring itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ffdi.stagekit.console import console

if TYPE_CHECKING:
    from ffdi.tails.model import Model


PHASH_BITS = click.option(
    "--phash-bits", default=6, show_default=True, type=click.IntRange(0, 32), help="how unlike near-duplicates may be"
)
MAX_PIXELS = click.option(
    "--max-pixels", default=50_000_000, show_default=True, help="above them, an image is not read"
)
RESAMPLES = click.option("--bootstrap", default=2000, show_default=True, type=click.IntRange(min=100), help="resamples")


def scoring_options(command: Callable[..., None]) -> Callable[..., None]:
    """--model and --max-pixels."""
    model = click.Path(path_type=Path)
    option = click.option("--model", required=True, type=model, help="a folder such as data/models/NAME")
    return option(MAX_PIXELS(command))


def score_with_model(
    model: Path, files: Sequence[Path], max_pixels: int
) -> tuple[Model, Iterator[tuple[Path, float | str]]]:
    """The model, and (file, P(fake) or the reason why it cannot be read) in the order of `files`."""
    from ffdi.features.devices import set_up_torch
    from ffdi.tails.ensemble import load_model
    from ffdi.tails.predict import predict_files

    bundle = load_model(model)
    report = console(click.get_current_context().info_name or "ffdi")
    return bundle, predict_files(bundle, files, max_pixels=max_pixels, device=set_up_torch(), console=report)
