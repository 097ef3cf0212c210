"""Evidence of classes besides the labels: words in paths and in other columns, compared with the labels.

Some public tables use 1 for real. A source of evidence counts only if it can tell the classes apart: it names both
classes, or the rows have only one label, or its folders name one class and hold all rows of one label and no others.
So a folder deepfakes/ above all images contradicts nothing, nor does a column that names the source of each fake.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from ffdi.errors import InputError, printable
from ffdi.intake.decoding.formats import MEDIA_SUFFIXES
from ffdi.intake.listing.labels import CLASSES, TRUTHS, class_asked, class_of, classes_line, words_of

# Names of collections, and columns of opinions about an image, are no evidence of its class.
_COLLECTION = {"dataset", "datasets", "database", "corpus", "benchmark", "challenge", "detection", "detector"}
_OPINIONS = ("pred", "guess", "vote", "answer")  # predicted, votes, ...
_MOST_WORDS = 4  # in a cell: a longer text is not the name of a class
_EXAMPLES = 3
_NAMES = ("real", "fake")
_FOLDERS, _FILE_NAMES = "the folder names", "the file names"
_Named = Sequence[int | None]  # for each row the class that a source names, if any


@dataclass(frozen=True)
class Labelled:
    """Rows as a layout read them, with the sources of their labels.

    `paths` are relative to the root; `inner` are the same below the folder that gave the label, if a folder did.
    `values` are the cells or folder names that gave the labels, `labels` what they were read as; `columns` are the
    other columns. An error starts with `place`. `meaning_given`: the user has said what the values mean. `by_layout` is
    the layout whose own rule gave the labels, if one did.
    """

    place: str
    paths: Sequence[str]
    inner: Sequence[str]
    values: Sequence[str]
    labels: Sequence[int]
    columns: Mapping[str, Sequence[str]]
    meaning_given: bool
    by_layout: str = ""


def check_labels(rows: Labelled) -> list[str]:
    """Lines about evidence that contradicts the labels but does not stop the run.

    Raises InputError, with counts and three examples, where labels contradict the evidence and the user has not said
    what they mean. File names stop the run only where most of them contradict: a fake may be named after its source.
    """
    in_table = rows.inner is rows.paths  # False where a class folder gave the label: below it any name is possible
    contradicted: list[str] = []
    stops = mostly_wrong = False
    examples: list[str] = []
    for source, named in _sources(rows):
        wrong = [i for i, (n, label) in enumerate(zip(named, rows.labels, strict=True)) if n is not None and n != label]
        known = len(named) - list(named).count(None)
        telling = _can_tell(named, rows.labels) or (source == _FOLDERS and in_table and _parts(named, rows.labels))
        if not wrong or not telling:
            continue
        contradicted.append(f"{source} in {len(wrong)} row{'s' * (len(wrong) != 1)} ({known - len(wrong)} agree)")
        most = 2 * len(wrong) > known
        mostly_wrong |= most
        stops |= most or source != _FILE_NAMES
        examples += [f"{rows.paths[i]!r} is {rows.values[i]!r} ({_NAMES[rows.labels[i]]})" for i in wrong[:_EXAMPLES]]
    if not contradicted:
        return []
    such = ", ".join(dict.fromkeys(examples[:_EXAMPLES]))
    line = printable(f"the labels contradict {' and '.join(contradicted)}: {such}")
    if rows.meaning_given:
        return [f"{line}; they are taken as data.classes says"]
    if not stops:
        return [f"{line}; left as they are, for a fake may bear the name of its source"]
    raise _contradiction(rows, line, mostly_wrong)


def _contradiction(rows: Labelled, line: str, mostly_wrong: bool) -> InputError:
    """The error, with the line of params that says what the labels mean, or that they are inverted."""
    if rows.by_layout:
        cure = f"mend what is not as layout {rows.by_layout} has it, or list the files in a table, with layout csv"
        return InputError(f"{rows.place}: {line}; {cure}")
    meaning = dict(sorted(set(zip(rows.values, rows.labels, strict=True))))
    as_they_are = f"if the labels are right, add {classes_line(meaning)} to data"
    if mostly_wrong and all(class_of(value) is None for value in meaning):
        ones = " and ".join(repr(value) for value, label in meaning.items() if label) or "no value"
        other = classes_line({value: 1 - label for value, label in meaning.items()})
        return InputError(f"{rows.place}: {line}; if {ones} means real, add {other} to data; {as_they_are}")
    return InputError(f"{rows.place}: {line}; mend what is wrong, or, {as_they_are}")


def _sources(rows: Labelled) -> Iterator[tuple[str, _Named]]:
    folders = _folder_classes(rows.inner)
    yield _FOLDERS, folders
    stems = (path.rpartition("/")[2].rpartition(".")[0] for path in rows.inner)
    yield _FILE_NAMES, [class_of(s) if named is None else None for s, named in zip(stems, folders, strict=True)]
    for header, column in rows.columns.items():
        if not any(word.startswith(_OPINIONS) for word in words_of(header)):
            yield f"column {header!r}", _column_classes(header, column)


def _can_tell(named: _Named, labels: Sequence[int]) -> bool:
    return set(named) >= {0, 1} or len(set(labels)) == 1


def _parts(named: _Named, labels: Sequence[int]) -> bool:
    """Whether the source names all rows of one label and no row of the other: celeba_real/ and stylegan/."""
    pairs = set(zip((n is not None for n in named), labels, strict=True))
    return len(pairs) == 2 and len({label for _, label in pairs}) == 2 and len({is_named for is_named, _ in pairs}) == 2


def _folder_classes(paths: Sequence[str]) -> list[int | None]:
    """The class that the folders of each path name; None where they name none or both.

    A folder above folders of both classes names no class, nor does one that is named after a collection.
    """
    folders = {path.rpartition("/")[0] for path in paths}
    above: dict[str, list[str]] = {}  # folder -> itself and all above it, below the root
    for folder in folders:
        parts = folder.split("/")
        above[folder] = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
    class_at = {at: _folder_class(at.rpartition("/")[2]) for chain in above.values() for at in chain}
    below: dict[str, set[int]] = {}
    for chain in above.values():
        for place, at in enumerate(chain):
            if (label := class_at[at]) is not None:
                for over in chain[:place]:
                    below.setdefault(over, set()).add(label)
    named: dict[str, int | None] = {}
    for folder, chain in above.items():
        classes = {class_at[at] for at in chain if len(below.get(at, ())) < 2} - {None}
        named[folder] = classes.pop() if len(classes) == 1 else None
    return [named[path.rpartition("/")[0]] for path in paths]


def _folder_class(name: str) -> int | None:
    label = class_of(name)
    if label is None or name.casefold() in CLASSES or not _COLLECTION.intersection(words_of(name)):
        return label
    return None


def _column_classes(header: str, column: Sequence[str]) -> _Named:
    """The class that each cell names. In a column such as is_real or fake, 0 and 1, or true and false, name it."""
    values = set(column)
    asked = class_asked(header)
    if asked is not None and values - {""} and all(value.casefold() in TRUTHS for value in values - {""}):
        meaning = {value: asked if TRUTHS[value.casefold()] else 1 - asked for value in values - {""}}
    else:
        meaning = {value: label for value in values if (label := _cell_class(value)) is not None}
    return [meaning.get(value) for value in column]


def _cell_class(value: str) -> int | None:
    label = class_of(value)
    if label is None or "/" in value or value.lower().endswith(MEDIA_SUFFIXES):  # a path or a file's name is no class
        return None
    return None if len(words_of(value)) > _MOST_WORDS else label
