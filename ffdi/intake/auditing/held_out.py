"""Whether folds that hold out a value train on it."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ffdi.errors import InputError
from ffdi.intake.auditing.findings import HELD_OUT, Finding
from ffdi.intake.splitting.leave_one_out import VALUE, holds_out
from ffdi.intake.tables import second_folds


def trained_on_held_out(rows: pd.DataFrame) -> list[Finding]:
    """A finding for each training image that trains a fold which holds out its value, or whose value no fold holds out.

    `rows` are images.csv joined with folds.csv, with the values of with_held_values; without them nothing is held out.
    What a fold holds out is read from folds.csv. InputError where folds.csv does not say it: another method drew it.
    """
    if VALUE not in rows:
        return []
    if "held_out" not in rows or "also_out" not in rows:
        raise InputError("folds.csv does not say what its folds hold out, as split.method asks: run split again")
    train = rows[rows["role"] == "train"]
    names: dict[int, str] = dict(train[["fold", "held_out"]].drop_duplicates("fold").itertuples(index=False))
    findings = []
    columns = (train[VALUE], train["fold"], second_folds(train), train["label"], train["path"])
    holding = {value: [f for f, name in names.items() if holds_out(name, value)] for value in np.unique(train[VALUE])}
    for value, fold, second, label, path in zip(*columns, strict=True):
        if label and not holding[value]:
            findings.append(Finding(HELD_OUT, path, "", f"no fold holds out {value}"))
        findings += [
            Finding(HELD_OUT, path, "", f"fold {number} holds out {names[number]} and trains on {value}")
            for number in holding[value]
            if value and number not in (fold, second)
        ]
    return findings
