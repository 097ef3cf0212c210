"""`ffdi` itself: its help, and the examples of its commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from ffdi.commands.main import GROUPS, main
from ffdi.stagekit.command import examples


def leaves(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    """Every command of the program with its full name, groups of commands too."""
    yield name, command
    if isinstance(command, click.Group):
        for each, inner in command.commands.items():
            yield from leaves(inner, f"{name} {each}")


COMMANDS = dict(leaves(main, "ffdi"))
del COMMANDS["ffdi"]


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_an_example_that_is_a_call_of_it(name: str) -> None:
    assert examples(COMMANDS[name]), f"{name}: give its examples as epilog"
    for example in examples(COMMANDS[name]):
        assert example.startswith(f"{name}"), example
        command, given = COMMANDS[name], shlex.split(example)[len(name.split()) :]
        while isinstance(command, click.Group):
            command, given = command.commands[given[0]], given[1:]
        command.make_context(example, given)  # parsed, not run: an option that does not exist is a usage error
    shown = CliRunner().invoke(main, [*name.split()[1:], "--help"], prog_name="ffdi").output
    assert shown.endswith("\n".join(f"  {example}" for example in examples(COMMANDS[name])) + "\n")


def test_the_help_lists_each_command_in_its_group_with_an_example() -> None:
    shown = CliRunner().invoke(main, ["--help"], prog_name="ffdi").output
    for title, commands in GROUPS.items():
        of_group = re.search(rf"^{title}:\n((?:  .*\n)+)", shown, re.M)
        assert of_group, title
        for command in commands:
            assert f"\n  {command.name} " in f"\n{of_group[1]}" and examples(command)[0] in of_group[1]
            assert command.short_help and len(command.short_help) <= 60, command.name
