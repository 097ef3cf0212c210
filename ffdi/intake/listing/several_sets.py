"""Several sets -> one listing: the name of its set begins the path of an image, and each of its groups."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import pandas as pd

from ffdi.errors import InputError
from ffdi.intake.groups import SEPARATOR
from ffdi.intake.listing.layouts import Listing
from ffdi.intake.tables import CROP_COLUMNS

DATASET, OWN = "attr_dataset", "attr_own_dataset"


def joined(listings: Mapping[str, Listing]) -> Listing:
    """The listing of several sets by their names, in that order.

    Paths are NAME/path and groups NAME:group, so that no two sets share one. `attr_dataset` is NAME; an attribute that a
    set does not have is "" there. A set's own attribute `dataset` is called `own_dataset`. The attribute `video` is NAME/video
    as well, and so is `source` of a set of face crops.
    """
    messages = [f"{name}: {line}" for name, listing in listings.items() for line in _about(listing)]
    messages += _about_splits({name: {*listing.rows["given_split"]} for name, listing in listings.items()})
    rows = pd.concat([_named(listing.rows, name) for name, listing in listings.items()], ignore_index=True)
    skipped = [(f"{name}/{path}", reason) for name, listing in listings.items() for path, reason in listing.skipped]
    real, fake = (
        ", ".join(f"{listing.class_names[label]} in {name}" for name, listing in listings.items()) for label in (0, 1)
    )
    attributes = [column for column in rows.columns if column.startswith("attr_")]
    return Listing(rows.fillna(dict.fromkeys(attributes, "")), skipped, _closest(listings), messages, (real, fake))


def _about(listing: Listing) -> list[str]:
    fakes = int(listing.rows["label"].sum())
    renamed = ["its own attribute dataset is called own_dataset"] if DATASET in listing.rows else []
    return [f"{len(listing.rows)} images listed ({fakes} fake)", *listing.messages, *renamed]


def _about_splits(given: Mapping[str, set[str]]) -> list[str]:
    """A line where some sets have a test set of their own, and others no split: of these, nothing is tested."""
    tested = [name for name, splits in given.items() if "test" in splits]
    without = [name for name, splits in given.items() if splits == {""}]
    if not tested or not without:
        return []
    names = f"{', '.join(tested)} come{'s' * (len(tested) == 1)} with a test set, {', '.join(without)} with no split"
    return [f"{names}: no image of {', '.join(without)} will be tested, unless split.use_given is false"]


def _named(rows: pd.DataFrame, name: str) -> pd.DataFrame:
    if DATASET in rows and OWN in rows:
        raise InputError(f"{name}: has the attributes dataset and own_dataset: rename one of them in its table")
    groups = f"{name}:" + rows["group"].str.replace(SEPARATOR, f"{SEPARATOR}{name}:", regex=False)
    rows = rows.rename(columns={DATASET: OWN}).assign(
        path=f"{name}/" + rows["path"], group=groups.where(rows["group"] != "", "")
    )
    rows.insert(len(["path", "label", "group", "given_split"]), DATASET, name)
    crops = {f"attr_{column}" for column in CROP_COLUMNS} <= {*rows.columns}
    for column in ("attr_video", *(["attr_source"] if crops else [])):  # two sets may have a video of one name
        if column in rows:
            rows[column] = (f"{name}/" + rows[column]).where(rows[column] != "", "")
    return rows


def _closest(listings: Mapping[str, Listing]) -> Callable[[str], str | None]:
    def closest(path: str) -> str | None:
        name, _, below = path.partition("/")
        found = listings[name].closest(below)
        return f"{name}/{found}" if found else None

    return closest
