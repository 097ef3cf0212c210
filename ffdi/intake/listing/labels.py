"""The meaning of labels: 1 is fake, 0 is real, and the words that public data sets use for them."""

from __future__ import annotations

import heapq
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache

import pandas as pd

from ffdi.errors import InputError, printable
from ffdi.intake.listing.dialects import visible
from ffdi.intake.listing.label_files import LabelFile

# What the class folders of public data sets are called.
_REAL = (
    "real reals original originals authentic genuine pristine bonafide bona_fide bona-fide live 0_real training_real "
    "original_sequences"
)
_FAKE = (
    "fake fakes forged forgery manipulated tampered altered edited synthetic generated deepfake deepfakes spoof 1_fake "
    "training_fake manipulated_sequences face2face faceswap faceshifter neuraltextures deepfakedetection"
)
CLASSES: dict[str, int] = {"real": 0, "fake": 1} | dict.fromkeys(_REAL.split(), 0) | dict.fromkeys(_FAKE.split(), 1)

# Words that name a class inside a longer name too. Not "live" or "edited": real_edited and live_stream are common.
_REAL_WORDS = "real reals original originals authentic genuine pristine bonafide unaltered unmanipulated untampered"
_FAKE_WORDS = (
    "fake fakes faked forged forgery forgeries manipulated manipulation manipulations tampered synthetic synthesis "
    "synthesised synthesized generated deepfake deepfakes swapped swap swaps faceswap faceswaps spoof spoofed doctored"
)
WORDS: dict[str, int] = dict.fromkeys(_REAL_WORDS.split(), 0) | dict.fromkeys(_FAKE_WORDS.split(), 1)
_A_WORD = re.compile("|".join(WORDS), re.IGNORECASE)  # a quick test: most names have no such word
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_NEGATIONS = {"no", "non", "not", "un", "anti", "without"}  # not_fake, anti-spoofing
_SHOWN = 8  # entries of the line that an error prints
_PLAIN = re.compile(r"(?!(true|false|null|yes|no|on|off|y|n)$)[a-z][\w-]*", re.IGNORECASE | re.ASCII)

RULE = "real, fake and their usual synonyms"

# What a cell of a yes-or-no column says. Excel writes its truth values in its user's language.
_TRUE = "1 true yes wahr ja vrai verdadero verdadeiro vero waar prawda sant sand истина"
_FALSE = "0 false no falsch nein faux falso onwaar fałsz falskt falsk ложь"
TRUTHS = dict.fromkeys(_TRUE.split(), True) | dict.fromkeys(_FALSE.split(), False)
_ONE_OR_ZERO = re.compile(r"([01])([.,]0*)?")  # as a spreadsheet may write them


def words_of(name: str) -> list[str]:
    """The words of a name, casefolded: split at all that is not a letter, and at the capitals of camelCase."""
    return re.findall(r"[^\W\d_]+", _CAMEL.sub(" ", name).casefold())


@lru_cache(maxsize=1 << 14)
def class_of(name: str) -> int | None:
    """The label that a name has by itself: it is a usual name, or has exactly one class word; otherwise None."""
    if (label := CLASSES.get(_key(name))) is not None:
        return label
    if not _A_WORD.search(name):
        return None
    words = words_of(name)
    named = [WORDS[word] for word in words if word in WORDS]
    return named[0] if len(named) == 1 and not _NEGATIONS.intersection(words) else None


def class_asked(header: str) -> int | None:
    """The class that a yes in the column `header` names, as in is_real; None for one that asks for no class."""
    return class_of(header) if header.casefold() not in ("live", "edited", "altered") else None


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


class Classes:
    """The meaning of class names: what the user says (`given`), in any case; without that, the usual words.

    Raises InputError for a name that is given with both labels.
    """

    def __init__(self, given: Mapping[str, int] | None) -> None:
        self.given = given
        self._labels = {_key(name): label for name, label in (given or {}).items()}
        if clashing := [name for name, label in (given or {}).items() if self._labels[_key(name)] != label]:
            raise InputError(f"data.classes: {clashing[0]!r} stands there with both labels: case does not matter")

    def of(self, name: str) -> int | None:
        """The label of a name: 0, 1, or None for a name without a meaning."""
        return class_of(name) if self.given is None else self._labels.get(_key(name))

    def of_cell(self, value: str, header: str = "") -> int | None:
        """The label of a cell of a table: as `of`, but 0 and 1, 1.0 too, mean themselves if nothing is given.

        In a column whose `header` names a class, such as is_fake, so do the words for true and false in many languages.
        """
        seen = visible(value)
        number = _ONE_OR_ZERO.fullmatch(seen)
        spellings = (value, seen, number[1] if number else seen)
        if self.given is not None:
            return next((label for name in spellings if (label := self.of(name)) is not None), None)
        if number:
            return int(number[1])
        asked, truth = class_asked(header), TRUTHS.get(seen.casefold())
        return self.of(seen) if asked is None or truth is None else asked if truth else 1 - asked

    def with_values(self, meaning: Mapping[str, int | None]) -> dict[str, int | None]:
        """The given names and, sorted, the values that have no label by them: for classes_line."""
        given = self.given or {}
        return dict(given) | {v: label for v, label in sorted(meaning.items()) if self.given is None or label is None}

    @property
    def known(self) -> str:
        """The names that have a meaning, for an error."""
        return RULE if self.given is None or self.given == CLASSES else ", ".join(self.given)

    def not_in(self, found: Iterable[str]) -> list[str]:
        """The given names that do not occur among those `found`; InputError where no given name does."""
        keys = {_key(name) for name in found}
        given = self.given or {}
        missing = [name for name in given if _key(name) not in keys]
        if missing and len(missing) == len(given):
            there = ", ".join(repr(name) for name in sorted(keys)[:_SHOWN])
            raise InputError(f"data.classes: none of {', '.join(given)} occurs in the data, which have {there}")
        return missing


def classes_line(labels: Mapping[str, int | None]) -> str:
    """The line of params that gives each name its label; "0 or 1" where the label is None, for the user to fill in.

    It is YAML that can be pasted. Params refuses it until all labels are filled in.
    """
    known = {name: "0 or 1" if label is None else label for name, label in labels.items() if name}
    entries = [f"{_as_key(name)}: {label}" for name, label in known.items()]
    more = f", ... {len(entries)} in all" if len(entries) > _SHOWN else ""
    return f"`classes: {{{', '.join(entries[:_SHOWN])}{more}}}`"


def _as_key(name: str) -> str:
    if _PLAIN.fullmatch(name):
        return name
    if name.isprintable():
        return "'" + name.replace("'", "''") + "'"
    return '"' + "".join(c if c.isalnum() else f"\\U{ord(c):08x}" for c in name) + '"'


def labels_of(table: LabelFile, name: str, classes: Classes) -> list[int]:
    """The labels of a column; InputError for the row of a value without a meaning."""
    column = table.columns[name]
    meaning = {value: classes.of_cell(value, name) for value in dict.fromkeys(column)}
    if None in meaning.values():
        row = next(i for i, value in enumerate(column) if meaning[value] is None)
        rule = (
            f"neither 0 (real) nor 1 (fake) nor a usual word for them ({RULE})"
            if classes.given is None
            else f"not in data.classes ({classes.known})"
        )
        line = classes_line(classes.with_values(meaning))
        say_which = f"; add {line} to data" if column[row] else ""
        raise table.error(row, f"label {column[row]!r} is {rule}{say_which}")
    return [label for value in column if (label := meaning[value]) is not None]


def class_lines(table: pd.DataFrame, names: Sequence[str], what: str = "image") -> list[str]:
    """A line for each class in images.csv, fake first: its name in the data set (by label), its count, three paths.

    `what` the rows are is said in the singular.
    """
    lines = []
    for label, name in ((1, "fake"), (0, "real")):
        paths = table["path"][table["label"] == label]
        if paths.empty:
            lines.append(f"no {what} is {name}")
        else:
            such = ", ".join(heapq.nsmallest(3, paths))
            count = f"{len(paths)} {what}{'s' * (len(paths) != 1)}"
            lines.append(printable(f"{name} is {names[label]} ({count}), such as {such}"))
    return lines
