"""AUC and accuracy of a test set by its attributes: which forgeries are found, and which are not."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ffdi.bootstrap import Array, Bootstrap, accuracy_interval, auc_interval
from ffdi.errors import InputError
from ffdi.intake.tables import CROP_COLUMNS
from ffdi.metrics import Metrics, auc, explain_nulls

MOST_VALUES = 12  # an attribute with more values is a name or a number, and is split only where it is named
COLUMNS = ["attribute", "value", "reals", "fakes", "against"] + [
    figure + end for figure in ("auc", "accuracy") for end in ("", "_low", "_high")
]


def by_attribute(
    test: pd.DataFrame,
    scores: Array,
    *,
    threshold: float,
    bootstrap: Bootstrap,
    names: Sequence[str] | None = None,
) -> pd.DataFrame:
    """A row (COLUMNS) per value of each attribute of `names`; images without a value are left out.

    Without `names`, of every `attr_*` column of `test` that has at most MOST_VALUES, but for those that say where a face
    crop is from. Raises InputError when `test` has no
    such attribute. When all images of a value have one class, the AUC compares them with all test images of the other class, and
    `against` says so. The accuracy is always of the value's images alone: for fakes it is their recall.
    """
    labels, groups = test["label"].to_numpy(), test["group"].to_numpy(str)
    rows = []
    for attribute in _split_attributes(test, names):
        values = test[f"attr_{attribute}"].to_numpy(str)
        for value in sorted(set(values) - {""}):
            chosen = values == value
            classes = set(labels[chosen].tolist())
            against = "" if len(classes) == 2 else f"all {'reals' if classes == {1} else 'fakes'}"
            compared = chosen if len(classes) == 2 else chosen | ~np.isin(labels, list(classes))
            hits = (scores[chosen] >= threshold) == labels[chosen]
            auc_low, auc_high = auc_interval(labels[compared], scores[compared], groups[compared], bootstrap=bootstrap)
            low, high = accuracy_interval(np.ones(chosen.sum()), hits, groups[chosen], bootstrap=bootstrap)
            counts = [int((labels[chosen] == label).sum()) for label in (0, 1)]
            middle = auc(labels[compared], scores[compared])
            rows.append([attribute, value, *counts, against, middle, auc_low, auc_high, hits.mean(), low, high])
    table: pd.DataFrame = pd.DataFrame(rows, columns=COLUMNS)
    return table


def attribute_metrics(test: pd.DataFrame, table: pd.DataFrame, names: Sequence[str] | None = None) -> Metrics:
    """`attr_ATTRIBUTE_VALUE_*` of by_attribute's rows; without `names`, an attribute with too many values is None with the
    reason.

    When two keys would be equal, such as value b_c of a and value c of a_b, the second is `attr_ATTRIBUTE=VALUE_*`.
    """
    out: Metrics = {}

    def put(attribute: str, value: str | None, figures: Metrics) -> None:
        for sign in "_=":
            key = f"attr_{attribute}" + (sign + value if value is not None else "" if sign == "_" else "=")
            named = {f"{key}{name}": figure for name, figure in figures.items()}
            if not set(named) & set(out):
                break
        out.update(named)

    for row in table.to_dict("records"):
        figures = {f"_{name}": row[name] for name in COLUMNS[5:]}
        reason = f"{row['reals']} reals and {row['fakes']} fakes, or one group"
        counts: Metrics = {"_reals": row["reals"], "_fakes": row["fakes"]}
        put(row["attribute"], row["value"], counts | explain_nulls(figures, reason))
    for attribute in _splitting(test) if names is None else ():
        values = test[f"attr_{attribute}"]
        count = int(values[values != ""].nunique())
        if count > MOST_VALUES:
            reason = f"{count} values: more than {MOST_VALUES} are split only on the recipe's own test set, by evaluate.attributes"
            put(attribute, None, {"": None, "_reason": reason})
    return out


def _attributes(test: pd.DataFrame) -> list[str]:
    return [name.removeprefix("attr_") for name in test.columns if name.startswith("attr_")]


def _splitting(test: pd.DataFrame) -> list[str]:
    """The attributes that may part a test set: a frame's number or a face's box says nothing of the forgery."""
    known = _attributes(test)
    are_crops = len(set(CROP_COLUMNS) - set(known)) <= 1  # units lack the one that names them
    return [name for name in known if not (are_crops and name in CROP_COLUMNS)]


def _split_attributes(test: pd.DataFrame, names: Sequence[str] | None) -> list[str]:
    known = _attributes(test)
    if names is None:
        return [name for name in _splitting(test) if test[f"attr_{name}"].replace("", None).nunique() <= MOST_VALUES]
    chosen = [name.removeprefix("attr_") for name in names]
    if unknown := sorted(set(chosen) - set(known)):
        raise InputError(
            f"evaluate.attributes: the images have no attribute {', '.join(unknown)}; they have "
            f"{', '.join(sorted(known)) or 'none'}"
        )
    return list(dict.fromkeys(chosen))
