"""Attributes that the paths of a data set name: `data.attributes`."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from ffdi.errors import InputError
from ffdi.intake.listing.layout_rows import Columns


def path_attributes(columns: Columns, paths: Sequence[str], patterns: Mapping[str, str]) -> Columns:
    """The columns `attr_NAME`: what the pattern of each name finds in the paths as (?P<value>...), "" without a match.

    Raises InputError for a name that a column of the data set has too, and for a pattern that finds a value in no path.
    """
    found: Columns = {}
    for name, pattern in patterns.items():
        column = f"attr_{name}"
        if column in columns:
            raise InputError(f"data.attributes: {name} is a column of the table too: take another name")
        matches = map(re.compile(pattern).search, paths)
        found[column] = [(match["value"] or "") if match else "" for match in matches]
        if not any(found[column]):
            raise InputError(
                f"data.attributes.{name}: {pattern} names no value in any of {len(paths)} paths, such as {paths[0]}: correct it"
            )
    return found
