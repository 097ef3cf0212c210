"""ffdi diff: which figures changed."""

from __future__ import annotations

from pathlib import Path

import click

from ffdi.stagekit.command import OneLineErrors


@click.command(
    cls=OneLineErrors,
    short_help="which figures changed, and whether beyond their interval",
    epilog="ffdi diff\nffdi diff main experiment",
)
@click.argument("revisions", nargs=-1, metavar="[REV [REV]]")
@click.option("--all", "whole", is_flag=True, help="every change, however long, at full width")
@click.option("--md", "markdown", is_flag=True, help="a table in Markdown")
def diff(revisions: tuple[str, ...], whole: bool, markdown: bool) -> None:
    """Show which figures changed, those beyond their interval first: a screen of them.

    From REV (a commit, branch, tag or experiment; HEAD if none is given) to the workspace, or from one REV to another.
    """
    from ffdi.evaluation.diff import changes, diff_lines, read_revision, read_workspace

    if len(revisions) > 2:
        raise click.UsageError(f"two revisions can be compared, not {len(revisions)}")
    metrics = Path("metrics")
    old, new = [*(revisions or ["HEAD"]), "workspace"][:2]
    before = read_revision(old, metrics)
    after = read_revision(new, metrics) if len(revisions) == 2 else read_workspace(metrics)
    for line in diff_lines(changes(before, after), old, new, whole=whole, markdown=markdown):
        click.echo(line)
