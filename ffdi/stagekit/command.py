"""How every program of the project starts and ends: UTF-8 file names, errors on one line."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import click

from ffdi.errors import SYSTEM_REMEDIES, FfdiError, said
from ffdi.stagekit.console import say

# Before torch loads OpenMP: threads that spin while they wait cost another busy process, or a noisy machine, several
# times the speed (4x was measured on 2 shared cores).
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


class InUtf8(click.Command):
    """A program whose file names are UTF-8 in every locale, as in its tables. Python can only be told when it starts."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if sys.getfilesystemencoding() != "utf-8":
            os.execv(sys.executable, [sys.executable, "-X", "utf8", *sys.orig_argv[1:]])
        return super().__call__(*args, **kwargs)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """A command's epilog is its examples, a line each; a line is not broken, so that it can be copied."""
        if self.epilog:
            with formatter.section("Examples" if "\n" in self.epilog else "Example"):
                formatter.write("".join(f"{' ' * formatter.current_indent}{line}\n" for line in examples(self)))


def examples(command: click.Command) -> list[str]:
    """The command lines that a command gives as examples, the simplest first."""
    return [line.strip() for line in (command.epilog or "").strip().splitlines()]


class CommandGroup(InUtf8, click.Group):
    """A command that has commands."""


class OneLineErrors(InUtf8):
    """A command that says what is wrong on one line on stderr.

    It exits with 1 for a FfdiError, and where the system refuses space, access or memory; with 130 for Ctrl-C and 141 for
    a closed pipe, as a shell counts signals, both quietly. click's own usage errors exit with 2.
    """

    def invoke(self, ctx: click.Context) -> Any:
        try:
            result = self.run(ctx)
            sys.stdout.flush()  # a closed pipe shows here, not when Python ends
            return result
        except FfdiError as error:
            line = str(error)
        except KeyboardInterrupt:
            sys.exit(128 + signal.SIGINT)
        except BrokenPipeError:
            sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - Python flushes it when it ends
            sys.exit(128 + signal.SIGPIPE)
        except MemoryError:
            line = "out of memory: lower batch_size, extract.workers or train.memory_gb, or end other programs"
        except OSError as error:
            if error.errno not in SYSTEM_REMEDIES:
                raise
            line = f"{error.filename}: {said(error)}" if error.filename else said(error)
        say(f"{ctx.info_name}: {line}")
        sys.exit(1)

    def run(self, ctx: click.Context) -> Any:
        """What the command does; its errors are said on one line."""
        return super().invoke(ctx)


class StageCommand(OneLineErrors):
    """The command of a stage. When DVC runs it, it leaves its seconds for `ffdi doctor`."""

    def run(self, ctx: click.Context) -> Any:
        """The same, timed."""
        started = time.perf_counter()
        result = super().run(ctx)
        if (stage := os.environ.get("DVC_STAGE")) and "/" not in stage:
            from ffdi.files import write_json
            from ffdi.stagekit.stopwatch import stage_seconds_file

            write_json(stage_seconds_file(stage), {"seconds": round(time.perf_counter() - started, 4)})
        return result


def stage_command(*options: Callable[[Any], Any]) -> Callable[[Callable[..., None]], click.Command]:
    """Make a function the command line of a stage, with these options (see options.py) in this order."""

    def make(function: Callable[..., None]) -> click.Command:
        for option in reversed(options):
            function = option(function)
        return click.command(cls=StageCommand)(function)

    return make
