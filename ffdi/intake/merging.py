"""Listed rows of the same bytes -> one row an image: its first path by name, and the groups of all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.errors import InputError
from ffdi.intake.groups import join_names, memberships, single_names, split_names
from ffdi.intake.near_duplicates.clusters import join_groups

_READ = 1 << 18  # image_ids at a time


class ConflictError(InputError):
    """An image is listed with two labels or in two given splits; `listed` has path and reason of each such row."""

    def __init__(self, message: str, listed: pd.DataFrame) -> None:
        super().__init__(message)
        self.listed = listed


def merge_twins(rows: pd.DataFrame) -> tuple[pd.DataFrame, int]:
    """One row an image_id, sorted, with the first path by name, and the number of rows that were merged away.

    Raises ConflictError where rows of the same bytes have two labels or given splits.
    """
    rows, may_be_twin = _sorted_rows(rows)
    at = np.flatnonzero(may_be_twin)
    at = at[rows["image_id"].iloc[at].duplicated(keep=False).to_numpy(bool)]
    if not len(at):
        return rows, 0
    twins = rows.iloc[at]
    _refuse_conflicts(twins)
    rows["group"] = _joined_names(rows["group"], twins)
    is_first = np.ones(len(rows), bool)
    is_first[at] = ~twins["image_id"].duplicated().to_numpy(bool)
    return rows[is_first].reset_index(drop=True), int((~is_first).sum())


def _sorted_rows(rows: pd.DataFrame) -> tuple[pd.DataFrame, npt.NDArray[np.bool_]]:
    """(the rows by image_id and path; (N,) whether another row's image_id begins as this one's).

    Their first 64 bits order nearly all of them.
    """
    ids = rows["image_id"]
    blocks = (ids.iloc[start : start + _READ].str.slice(0, 16) for start in range(0, len(ids), _READ))
    head = np.concatenate([np.empty(0, ">u8"), *(np.frombuffer(bytes.fromhex("".join(b)), ">u8") for b in blocks)])
    order = np.argsort(head.astype(np.uint64), kind="stable")
    follows = head[order[1:]] == head[order[:-1]]
    tied = np.append(follows, False) | np.append(False, follows) if len(head) else np.empty(0, bool)
    few = rows.iloc[order[tied]][["image_id", "path"]].assign(row=order[tied])
    order[tied] = few.sort_values(["image_id", "path"], kind="stable")["row"]  # ties stay where they are: heads ascend
    return rows.iloc[order].reset_index(drop=True), tied


def _refuse_conflicts(twins: pd.DataFrame) -> None:
    """`twins` are rows of the same bytes, sorted by image_id and path."""
    messages: list[str] = []
    listed: list[tuple[str, str]] = []
    for column, what in (("label", "labels"), ("given_split", "given splits")):
        parted = twins[twins.groupby("image_id")[column].transform("nunique") > 1]
        reasons = []
        for _, rows in parted.groupby("image_id"):
            ends = rows.drop_duplicates(column)
            places = " and ".join(f"{p} ({column} {v})" for p, v in zip(ends["path"], ends[column], strict=True))
            reasons.append(f"the same image under two {what}: {places}")
            listed += [(path, reasons[-1]) for path in rows["path"]]
        if reasons:
            messages.append(f"{reasons[0]}; {len(reasons)} such images in all")
    if messages:
        raise ConflictError("; ".join(messages), pd.DataFrame(sorted(listed), columns=["path", "reason"]))


def _joined_names(cells: pd.Series[str], twins: pd.DataFrame) -> pd.Series[str]:
    """For every row the groups of its image: those of all rows of the same bytes.

    Where rows of the same bytes name one group each, those groups become one, named after the smallest. Rows of several
    groups, such as a forgery that is listed for both of its people, do not join their groups.
    """
    single = single_names(twins["group"])
    joined = zip(single, join_groups(single, twins["image_id"]), strict=True)
    renamed = {name: new for name, new in joined if name != new}
    of = memberships(cells)
    touched = np.zeros(len(cells), bool)
    touched[of.row[of.names.isin(list(renamed)).to_numpy(bool)[of.name]]] = True
    touched[twins.index] = True
    held: dict[str, set[str]] = {}
    for image_id, cell in zip(twins["image_id"], twins["group"], strict=True):
        held.setdefault(image_id, set()).update(renamed.get(name, name) for name in split_names(cell))
    new = {row: join_names(renamed.get(n, n) for n in split_names(cell)) for row, cell in cells[touched].items()}
    new |= {row: join_names(held[image_id]) for row, image_id in twins["image_id"].items()}
    out = cells.copy()
    out.iloc[np.array(list(new), np.int64)] = pd.Index(list(new.values()), dtype="str")
    return out
