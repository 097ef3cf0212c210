"""`ffdi` itself: its help, and the examples of its commands."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from conftest import HERE

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


@pytest.mark.skipif(not shutil.which("bash"), reason="needs bash")
def test_bash_completes_commands_options_and_choices(tmp_path: Path) -> None:
    """A real bash reads the script and asks a real `ffdi`."""
    program = f"#!{sys.executable}\nfrom ffdi.commands.main import main\nmain(prog_name='ffdi')\n"
    (tmp_path / "ffdi").write_text(program)
    (tmp_path / "ffdi").chmod(0o755)
    asked = """eval "$(ffdi completion bash)"
    for words in "ffdi pre" "ffdi recalibrate --la" "ffdi recalibrate --rule you" "ffdi shards ver"; do
        COMPREPLY=(); COMP_WORDS=($words); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _ffdi_completion ffdi; echo "${COMPREPLY[@]}"
    done"""
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(HERE)}
    done = subprocess.run(["bash", "--norc", "-c", asked], capture_output=True, text=True, env=environment)
    assert done.stdout.splitlines() == ["predict", "--labels", "youden", "verify"], done.stderr


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_that_asks_ffdi(shell: str) -> None:
    done = CliRunner().invoke(main, ["completion", shell])
    assert done.exit_code == 0 and f"_FFDI_COMPLETE={shell}_complete " in done.output


def test_a_reader_that_goes_away_ends_a_command_quietly() -> None:
    call = "from ffdi.commands.main import main; main(['completion', 'zsh'], prog_name='ffdi')"
    with subprocess.Popen([sys.executable, "-c", call], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        assert running.stdout and running.stderr
        running.stdout.close()
        assert running.stderr.read() == b"" and running.wait() == 141


def test_an_option_that_takes_no_url_refuses_one_and_repeats_no_key_of_it() -> None:
    given = ["--model", "m", "--list", "l.csv", "--root", "s3://KEY:SECRET@bucket/faces", "--out", "o.csv"]
    result = CliRunner().invoke(main, ["submit", *given])
    assert result.exit_code == 2
    assert "s3://...bucket/faces: a URL is not read here: download or mount it" in " ".join(result.output.split())
    assert "SECRET" not in result.output
