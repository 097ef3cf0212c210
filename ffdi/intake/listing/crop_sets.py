"""What the set of face crops that stage faces makes has beside its crops: files that no row lists."""

from __future__ import annotations

from collections.abc import Sequence

LABELS, FACTS, REJECTED, SKIPPED, CONTACT = "labels.csv", "faces.json", "rejected.csv", "skipped.csv", "contact.jpg"
JOURNAL = ".sources.jsonl"  # hidden: no part of the data set
KIND = "faces"  # of FACTS
OF_THE_SET = "of stage faces"  # the reason to pass over these files


def of_crop_sets(skipped: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """(path, reason) of files that no row lists, with OF_THE_SET for those of a set of crops that is the root."""
    own = {FACTS, REJECTED, SKIPPED, CONTACT, JOURNAL} if FACTS in dict(skipped) else {}
    return [(path, OF_THE_SET if path in own else reason) for path, reason in skipped]
