"""What sets are called that are read as one: folders of paths, prefixes of groups, values of the attribute `dataset`."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from ffdi.errors import ParamsError

_NAME = re.compile(r"[^/\\|:\x00-\x1f\x7f]+")  # | parts the groups of an image, : ends the name in them


def name_of(root: str) -> str:
    """The name of a folder, or of an archive without its suffixes."""
    return re.sub(r"(\.(zip|tar|t?gz|bz2|xz))+$", "", Path(root).name)


def check_names(sets: Sequence[tuple[str, str]]) -> None:
    """ParamsError unless each of the (name, root) has a name of its own that can be a folder's."""
    if not sets:
        raise ParamsError("root: a list of no sets: name one, or its folder in place of the list")
    roots: dict[str, str] = {}  # name, in the form in which file systems may compare it -> root
    for name, root in sets:
        if not _NAME.fullmatch(name) or name.startswith("."):
            rule = "it becomes a folder of paths, so it has no / \\ | : and begins with no dot"
            raise ParamsError(f"root: {name!r} is no name of a set ({root}): {rule}: give it a `name`")
        folded = unicodedata.normalize("NFC", name).casefold()
        if folded in roots:
            raise ParamsError(f"root: two sets are called {name!r}, {roots[folded]} and {root}: give one a `name`")
        roots[folded] = root
