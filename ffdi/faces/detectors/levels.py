"""Outputs of detectors that look at a picture in several strides: a table of places for each stride and quantity."""

from __future__ import annotations

from collections.abc import Sequence

from ffdi.faces.detectors.candidates import Floats, Size


def levels_of(outputs: Sequence[Floats]) -> dict[int, list[Floats]]:
    """The outputs as tables (places, columns), by their number of columns; finest stride first, else in their order.

    Outputs have the shapes (places, columns) or (1, places, columns); {} where one has another.
    """
    tables: dict[int, list[Floats]] = {}
    for output in outputs:
        if output.ndim not in (2, 3) or (output.ndim == 3 and output.shape[0] != 1):
            return {}
        tables.setdefault(output.shape[-1], []).append(output.reshape(-1, output.shape[-1]))
    return {columns: sorted(of, key=len, reverse=True) for columns, of in tables.items()}


def lengths_of(outputs: Sequence[Floats]) -> dict[int, list[int]]:
    """How many places each of these tables has, by their number of columns."""
    return {columns: [len(table) for table in of] for columns, of in levels_of(outputs).items()}


def places(size: Size, strides: Sequence[int]) -> list[int]:
    """How many places the feature map of each stride has, of an input of this size."""
    return [(size[0] // stride) * (size[1] // stride) for stride in strides]
