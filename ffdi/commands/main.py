"""The `ffdi` command: a file per command."""

from __future__ import annotations

import click

from ffdi.commands.app import app
from ffdi.commands.completion import completion
from ffdi.commands.cuts import cuts
from ffdi.commands.diff import diff
from ffdi.commands.doctor import doctor
from ffdi.commands.evaluate import evaluate
from ffdi.commands.explain import explain
from ffdi.commands.export import export
from ffdi.commands.predict import predict
from ffdi.commands.recalibrate import recalibrate
from ffdi.commands.shards import shards
from ffdi.commands.submit import submit
from ffdi.stagekit.command import CommandGroup, examples

GROUPS: dict[str, tuple[click.Command, ...]] = {
    "Judge images": (predict, explain, submit, app),
    "Judge a model": (evaluate, recalibrate, diff),
    "Hand it on": (export,),
    "Look inside": (cuts, shards, doctor),
    "Set up the shell": (completion,),
}


class _Commands(CommandGroup):
    """The `ffdi` command, whose help lists its commands by what they are for, each with its first example."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(len(name) for name in self.commands)
        for title, commands in GROUPS.items():
            with formatter.section(title):
                for command in commands:
                    lines = command.get_short_help_str(limit=120), examples(command)[0]
                    for name, line in zip((command.name or "", ""), lines, strict=True):
                        formatter.write(f"  {name:{width}}  {line}\n")


@click.group(cls=_Commands)
@click.version_option(package_name="ffdi")
def main() -> None:
    """Judge images with a trained recipe, and look into networks and cached features.

    A model is a folder: data/models/NAME of a recipe, or data/ensembles/NAME. `ffdi COMMAND --help` has all options.

    Exit codes: 0, done; 1, something is wrong, and a line says what; 2, the command is not used as it must be; 130,
    stopped by Ctrl-C; 141, whoever read the output has gone.
    """


for grouped in GROUPS.values():
    for command in grouped:
        main.add_command(command)
