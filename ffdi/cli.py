"""The `ffdi` command, and what every stage script shares with it."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click

from ffdi.errors import FfdiError
from ffdi.files import write_json


class OneLineErrors(click.Command):
    """A command that says a FfdiError on one line of stderr and exits with 1; click's own usage errors exit with 2."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except FfdiError as error:
            click.echo(f"{ctx.info_name}: {error}", err=True)
            sys.exit(1)


def stage_command(function: Callable[..., Any]) -> click.Command:
    """Make a stage's function its command line."""
    return click.command(cls=OneLineErrors)(function)


@contextmanager
def stopwatch(name: str, folder: Path) -> Iterator[None]:
    """Write the wall-clock seconds of the body to `<folder>/<name>.json`: times are no metrics and are never compared."""
    started = time.perf_counter()
    yield
    write_json(folder / f"{name}.json", {"seconds": round(time.perf_counter() - started, 2)})


def say(line: str) -> None:
    """One line for the user, on stderr, where progress bars are too."""
    click.echo(line, err=True)


def bar(name: str, unit: str = "images") -> Callable[..., Any]:
    """A progress bar that names its stage: bar("extract mobilenet_v2")(blocks, total) yields the blocks.

    Arrays count as their number of rows.
    """
    from tqdm import tqdm

    def show(items: Any, total: int | None = None) -> Any:
        with tqdm(desc=name, total=total, unit=f" {unit}", mininterval=0.5, dynamic_ncols=True) as shown:
            for item in items:
                yield item
                shown.update(len(item) if getattr(item, "ndim", 0) > 1 else 1)

    return show
