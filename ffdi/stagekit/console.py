"""Messages and progress bars on stderr."""

from __future__ import annotations

from collections.abc import Iterable

import click

from ffdi.console import Console, Item, Note
from ffdi.errors import printable


def say(line: str) -> None:
    """One line for the user, on stderr, where the progress bars are too."""
    click.echo(printable(line), err=True)


def console(name: str, bar: str = "") -> Console:
    """A console whose lines and progress bars start with `name`, such as "extract mobilenet_v2"; or bars with `bar`."""

    def progress(
        items: Iterable[Item], total: int, *, unit: str = "images", phase: str = "", note: Note | None = None
    ) -> Iterable[Item]:
        if not total:  # a bar of nothing, such as of no levels, tells nothing
            yield from items
            return
        from tqdm import tqdm

        described = f"{bar or name} {phase}".strip()
        with tqdm(desc=described, total=total, unit=f" {unit}", mininterval=0.5, dynamic_ncols=True) as shown:
            for item in items:
                yield item
                if note:
                    shown.set_postfix_str(note(), refresh=False)
                shown.update(len(item) if getattr(item, "ndim", 0) > 1 else 1)  # type: ignore[arg-type]

    return Console(say=lambda line: say(f"{name}: {line}"), progress=progress)
