"""ffdi completion: what makes a shell complete ffdi's commands and options."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from ffdi.stagekit.command import OneLineErrors


@click.command(
    cls=OneLineErrors,
    short_help="a script that lets your shell complete ffdi",
    epilog="ffdi completion bash",
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print the script that lets SHELL complete commands, options, choices and paths. bash must be 4.4 or newer.

    Each shell reads it when it starts:

    \b
      ~/.bashrc                   eval "$(ffdi completion bash)"
      ~/.zshrc, after compinit    eval "$(ffdi completion zsh)"
      ~/.config/fish/config.fish  ffdi completion fish | source
    """
    kind = get_completion_class(shell)
    assert kind is not None, shell
    click.echo(kind(context.find_root().command, {}, "ffdi", "_FFDI_COMPLETE").source())
