"""The options that stage scripts share. Every path is an option, with the path of dvc.yaml as its default."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import click

from ffdi.errors import FfdiError
from ffdi.features.settings import EngineName
from ffdi.intake.table_files.names import found_table
from ffdi.stagekit.local_path import LocalPath
from ffdi.urls import is_url

Option = Callable[[Any], Any]


def path(flag: str, parameter: str | None = None, default: str | None = None, help: str | None = None) -> Option:
    """A path option. `parameter` is the name of the function's argument, by default that of the flag."""
    names = (flag, parameter) if parameter else (flag,)
    kind: Any = LocalPath()
    return click.option(*names, type=kind, default=Path(default) if default else None, help=help)


def name(flag: str) -> Option:
    """A required name, such as that of a backbone; the function's argument is `name`."""
    return click.option(flag, "name", required=True)


def flag(name: str, help: str) -> Option:
    """A switch that is off unless it is given."""
    return click.option(name, is_flag=True, help=help)


def table(flag: str, parameter: str, place: str, help: str | None = None) -> Option:
    """The option of a table that an earlier stage wrote; by default that at `place`, with the ending that it has there."""

    def value(_: click.Context, __: click.Parameter, given: Path | None) -> Path:
        try:
            return given or found_table(Path(place))
        except FfdiError as error:
            raise click.UsageError(str(error)) from None

    kind: Any = LocalPath()
    return click.option(flag, parameter, type=kind, callback=value, help=help)


def choice(flag: str, names: Sequence[str], help: str) -> Option:
    """One of several names, or none."""
    return click.option(flag, type=click.Choice(names), default=None, help=help)


PARAMS = path("--params", "params_file", "params.yaml")


def place(value: str) -> Path | str:
    """The type of an option that is a path, or a URL as it is written."""
    return value if is_url(value) else Path(value)


ROOT = click.option("--root", type=place, help="the folder, archive or URL of images  [default: data.root of params]")
IMAGES = table("--images", "images_file", "data/images")
FOLDS = table("--folds", "folds_file", "data/folds")
WEIGHTS = path("--weights", help="[default: data/weights/BACKBONE.safetensors]")
DETAILS = path("--details", help="[default: details/ beside --out]")
ENGINE = choice("--engine", get_args(EngineName), help="what runs the tasks  [default: that of params]")
TIMINGS = path("--timings", default="data/timings", help="where the stage's seconds are written")
