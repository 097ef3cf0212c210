"""The type of an option that takes a path of this machine alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ffdi.urls import is_url, shown


class LocalPath(click.Path):
    """A `Path`. A URL is refused: pathlib would make `s3:/bucket` of it, and messages would repeat the keys in it."""

    def __init__(self, **options: bool) -> None:
        super().__init__(path_type=Path, **options)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """As click.Path; wrong usage for a URL."""
        if is_url(str(value)):
            self.fail(f"{shown(str(value))}: a URL is not read here: download or mount it", param, ctx)
        return super().convert(value, param, ctx)
