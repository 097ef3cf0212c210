"""`layout: auto`: which of the known layouts a root has.

A layout that is recognised by a table of its own, or by folders that no other has, is taken before those that are
recognised by their folders or by the columns of any table, and these before imagefolder, which most of the others are
too. Of several on one step none is taken.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

from ffdi.errors import InputError
from ffdi.intake.listing.importer import LayoutFit, RootFiles
from ffdi.intake.listing.known_layouts import LAYOUTS
from ffdi.intake.settings import DataSettings


def recognised(files: RootFiles, data: DataSettings) -> tuple[DataSettings, str]:
    """(the settings with the layout that a root has, a line about it).

    Raises InputError where no layout fits, or several do, with what fits and why; and for a setting that the layout does
    not read.
    """
    fits = [(name, fit) for name, layout in LAYOUTS.items() for fit in layout.recognise(files, data)]
    best = [(name, fit) for name, fit in fits if _step(name, fit) == max(_step(*one) for one in fits)]
    if len(best) != 1:
        told = "; ".join(f"{name} ({fit.why})" for name, fit in best)
        none = f"none of {', '.join(LAYOUTS)} fits: correct data.root, or list the files in a table, for layout csv"
        several = f"{len(best)} layouts fit: {told}: name one in data.layout"
        raise InputError(f"{files.url or files.root}: layout auto: {several if best else none}")
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
    return replace(data, **took), f"layout {name}: {fit.why}"


def _step(name: str, fit: LayoutFit) -> int:
    return 2 if fit.own_table else int(name != "imagefolder")
