"""`layout: auto`: which of the known layouts a root has.

A layout that is recognised by a table of its own, or by folders that no other has, is taken before those that are
recognised by their folders or by the columns of any table, and these before imagefolder, which most of the others are
too. Of several on one step none is taken. A table that would make it another layout, but cannot be read, is told.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields, replace
from typing import Any

from ffdi.errors import InputError
from ffdi.intake.decoding.formats import VIDEO_SUFFIXES
from ffdi.intake.listing.importer import LayoutFit, RootFiles
from ffdi.intake.listing.known_layouts import LAYOUTS
from ffdi.intake.settings import DataSettings


def recognised(files: RootFiles, data: DataSettings) -> tuple[DataSettings, str]:
    """(the settings with the layout that a root has, a line about it).

    Raises InputError where no layout fits, or several do, with what fits and why; and for a setting that the layout does
    not read.
    """
    fits, broken = _fits(files, data)
    best = [(name, fit) for name, fit in fits if _step(name, fit) == max(_step(*one) for one in fits)]
    if len(best) != 1:
        told = _several(best) if best else _none(files, broken)
        raise InputError(f"{files.url or files.root}: layout auto: {told}")
    ((name, fit),) = best
    idle = [
        field.name
        for field in fields(data)
        if field.name not in ("layout", *data.keys_of(name), *data.unread)
        and getattr(data, field.name) != field.default
    ]
    if idle:
        raise InputError(f"data.{idle[0]} has no effect with layout {name} ({fit.why}), which auto took: leave it out")
    took: dict[str, Any] = {"layout": name, **fit.settings}
    return replace(data, **took), "; ".join([f"layout {name}: {fit.why}", *broken])


def _fits(files: RootFiles, data: DataSettings) -> tuple[list[tuple[str, LayoutFit]], list[str]]:
    """(the layouts that fit, a phrase for each of which a table is there that cannot be read)."""
    fits: list[tuple[str, LayoutFit]] = []
    broken: list[str] = []
    for name, layout in LAYOUTS.items():
        try:
            fits += [(name, fit) for fit in layout.recognise(files, data)]
        except InputError as error:
            broken.append(f"not {name}: {error}")
    return fits, broken


def _several(best: Sequence[tuple[str, LayoutFit]]) -> str:
    told = "; ".join(f"{name} ({fit.why})" for name, fit in best)
    of_csv = {name for name, _ in best} == {"csv"}
    return f"{len(best)} layouts fit: {told}: name one in {'data.table, with layout csv' if of_csv else 'data.layout'}"


def _none(files: RootFiles, broken: Sequence[str]) -> str:
    why = f" ({'; '.join(broken)})" if broken else ""
    cures = ["correct data.root", "or list the files in a table, for layout csv"]
    if any(path.lower().endswith(VIDEO_SUFFIXES) for path in files.others):
        cures.append("or, for the videos there, name the root in section faces, which takes crops from them")
    return f"none of {', '.join(LAYOUTS)} fits{why}: {', '.join(cures)}"


def _step(name: str, fit: LayoutFit) -> int:
    return 2 if fit.own_table else int(name != "imagefolder")
