"""Listed names -> files: a name that is not on disk is looked up, and replaced where exactly one file fits."""

from __future__ import annotations

import difflib
import os
import unicodedata
from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path, PurePosixPath

from ffdi.intake.decoding.formats import MEDIA_SUFFIXES, VIDEO_SUFFIXES
from ffdi.intake.listing.walk import Tree, walk

_NEIGHBOURS = 25  # names before and after in sorted order, among which the closest one is searched


class Names:
    """The names below a root, and how listed names were changed to find their files."""

    def __init__(self, root: Path, tree: Tree) -> None:
        self.root = root
        self.images = tree.images
        self.there = set(tree.images)
        self.there.update(path for path, _ in tree.skipped)
        self.through_links = dict(tree.through_links)  # plus those of listed names that the walk found by another path
        self.changes: Counter[str] = Counter()  # what differs -> in how many names
        self.examples: dict[str, tuple[str, str]] = {}  # what differs -> (listed name, file)

    def place(self, path: str) -> str:
        """The path with its links resolved."""
        return self.through_links.get(path, path)

    def files(self, names: Sequence[str]) -> list[str]:
        """The file of each name, relative to the root; the name itself where no file fits, or more than one.

        The two may differ in backslashes, Unicode normal form, case, a missing or another image suffix, or by an
        absolute path below the root. They may differ in case or suffix only if no other name means that file.
        """
        top = os.path.realpath(self.root).rstrip("/") + "/"
        found: dict[str, tuple[str, str]] = {}  # name -> (file, what differs)
        for name in dict.fromkeys(names):
            if name in self.there:
                continue
            below = name.removeprefix(top)
            if below not in self.there and os.path.lexists(self.root / below):
                self.through_links[below] = _without_links(top, below)
            elif below not in self.there and (guess := self._guess(below)):
                found[name] = guess
                continue
            if below != name:
                found[name] = (below, "absolute path")
        if not found:
            return list(names)
        claims = Counter(file for file, _ in found.values())
        claims.update(name for name in dict.fromkeys(names) if name in self.there)
        sure = ("absolute path", "backslashes", "Unicode normal form", "backslashes, Unicode normal form")
        for name, (file, change) in list(found.items()):
            if claims[file] > 1 and change not in sure:
                del found[name]
        for name in names:
            if name in found:
                file, change = found[name]
                self.changes[change] += 1
                self.examples.setdefault(change, (name, file))
        return [found[name][0] if name in found else name for name in names]

    def messages(self) -> list[str]:
        """A line for each kind of change."""
        lines = []
        for change, count in self.changes.most_common():
            spell = ascii if "Unicode" in change else repr  # as text, the two names look alike
            name, file = map(spell, self.examples[change])
            lines.append(f"{count} listed names are spelt otherwise on disk ({change}): {name} is read from {file}")
        return lines

    def closest(self, name: str) -> str | None:
        """The name on disk that is most like a missing `name`; None where no name is similar."""
        plain = _normal(name)
        base = plain.rpartition("/")[2]
        near = bisect(self._sorted, (plain, ""))
        likely = [path for _, path in self._sorted[max(near - _NEIGHBOURS, 0) : near + _NEIGHBOURS]]
        likely += self._by_base.get(_stem(base), [])[: 2 * _NEIGHBOURS]
        likely += self._by_base.get(base, [])[: 2 * _NEIGHBOURS]
        of_normal = {_normal(path): path for path in likely}
        return next((of_normal[match] for match in difflib.get_close_matches(plain, of_normal, 1, 0.5)), None)

    def _guess(self, name: str) -> tuple[str, str] | None:
        """(the one file that a name can mean, what differs); None where no file or more than one fits."""
        slashed = name if "\\" not in name else PurePosixPath(name.replace("\\", "/")).as_posix()
        changes = ["backslashes"] if slashed != name else []
        if slashed in self.there:
            return slashed, "backslashes"
        composed, normal = unicodedata.normalize("NFC", slashed), _normal(slashed)
        has_suffix = normal.endswith(MEDIA_SUFFIXES)
        fitting: list[str] = []
        for fits in (
            [path for path in self._by_normal.get(normal, ()) if unicodedata.normalize("NFC", path) == composed],
            self._by_normal.get(normal, []),
            [path for path in self._by_stem.get(_stem(normal) if has_suffix else normal, ()) if _alike(path, normal)],
        ):
            if fitting := fits:
                break
        if len(fitting) != 1:
            return None
        (file,) = fitting
        there = file
        if _normal(file) != normal:
            there = _stem(file)
            slashed = _stem(slashed)
            changes.append("another suffix" if has_suffix else "missing suffix")
        if unicodedata.normalize("NFC", there) != unicodedata.normalize("NFC", slashed):
            changes.append("case")
        elif there != slashed:
            changes.insert(len(changes) and changes[0] == "backslashes", "Unicode normal form")
        return file, ", ".join(changes)

    @cached_property
    def _by_normal(self) -> dict[str, list[str]]:
        return _grouped((_normal(path), path) for path in self.images)

    @cached_property
    def _by_stem(self) -> dict[str, list[str]]:
        return _grouped((_stem(_normal(path)), path) for path in self.images)

    @cached_property
    def _by_base(self) -> dict[str, list[str]]:
        """Paths by the file name without folders, with and without suffix."""
        bases = [(_normal(path).rpartition("/")[2], path) for path in self.images]
        return _grouped((key, path) for base, path in bases for key in (base, _stem(base)))

    @cached_property
    def _sorted(self) -> list[tuple[str, str]]:
        return sorted((_normal(path), path) for path in self.images)


def find_files(root: Path, files: Sequence[Path]) -> tuple[list[Path], Names | None]:
    """(the files below root that are meant, the names there or None where all files exist as listed)."""
    if all(map(os.path.lexists, files)):
        return list(files), None
    names = Names(root, walk(root))
    listed = [file.relative_to(root).as_posix() if file.is_relative_to(root) else str(file) for file in files]
    return [root / file for file in names.files(listed)], names


def _normal(path: str) -> str:
    """The form in which names are compared: with slashes, composed, without case."""
    return unicodedata.normalize("NFC", path.replace("\\", "/")).casefold()


def _stem(path: str) -> str:
    """A path without the suffix of an image or a video."""
    suffix = next((s for s in MEDIA_SUFFIXES if path.lower().endswith(s)), "")
    return path[: len(path) - len(suffix)]


def _alike(file: str, name: str) -> bool:
    """Whether both are images or both videos, where the name has a suffix."""
    return not name.endswith(MEDIA_SUFFIXES) or name.endswith(VIDEO_SUFFIXES) == file.lower().endswith(VIDEO_SUFFIXES)


def _grouped(items: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, item in items:
        groups.setdefault(key, []).append(item)
    return groups


def _without_links(top: str, path: str) -> str:
    folder, _, name = path.rpartition("/")
    return f"{os.path.realpath(top + folder)}/{name}".removeprefix(top)
