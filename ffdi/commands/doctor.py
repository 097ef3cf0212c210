"""ffdi doctor: whether everything is in place."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from itertools import groupby

import click

from ffdi.errors import printable
from ffdi.stagekit.command import OneLineErrors


@click.command(
    cls=OneLineErrors,
    short_help="what is here, what is missing, and what the next run takes",
    epilog="ffdi doctor\nffdi doctor --json",
)
@click.option("--json", "as_json", is_flag=True, help="for programs: every line, with its numbers")
def doctor(as_json: bool) -> None:
    """Say what is installed, which device computes and why, and, in a project, whether weights and disk are there and what
    the next `dvc repro` would run and roughly take. What is missing is shown with what to do about it.

    The exit code is 1 where something is missing that a run would stop at, otherwise 0. Nothing is downloaded, changed
    or locked.
    """
    from ffdi.doctor.examine import examine

    found = list(examine())
    missing = [each for each in found if each.state == "missing"]
    if as_json:
        click.echo(json.dumps({"ok": not missing, "found": [asdict(each) for each in found]}, indent=2))
    else:
        for section, lines in groupby(found, key=lambda each: each.section):
            click.echo(f"{section}")
            for each in lines:
                click.echo(printable(f"  {each.state:7}  {each.name}: {each.found}"))
                if each.remedy:
                    click.echo(printable(f"           -> {each.remedy}"))
        click.echo(f"{len(missing)} missing" if missing else "nothing is missing")
    sys.exit(1 if missing else 0)
