"""The `ffdi` command: a file per command."""

from __future__ import annotations

import click

from ffdi.commands.cuts import cuts
from ffdi.commands.diff import diff
from ffdi.commands.evaluate import evaluate
from ffdi.commands.predict import predict
from ffdi.commands.recalibrate import recalibrate
from ffdi.commands.shards import shards
from ffdi.commands.submit import submit
from ffdi.stagekit.command import InUtf8


class _Commands(InUtf8, click.Group):
    """The `ffdi` command."""


@click.group(cls=_Commands)
@click.version_option(package_name="ffdi")
def main() -> None:
    """Judge images with a trained recipe, and look into networks and cached features."""


for command in (predict, submit, evaluate, recalibrate, diff, cuts, shards):
    main.add_command(command)
