"""Finds near-duplicates, joins groups by them and draws the test set and the folds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.console import Console
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.groups import single_names
from ffdi.intake.near_duplicates.clusters import Pairs, held_together
from ffdi.intake.near_duplicates.copies import find_copies, read_sketches
from ffdi.intake.near_duplicates.embeddings import embedding_pairs
from ffdi.intake.near_duplicates.hashes import perceptual_pairs
from ffdi.intake.settings import SplitSettings
from ffdi.intake.splitting.folds import Embeddings, assign_folds, balance_table, describe_clusters
from ffdi.intake.splitting.leave_one_out import describe_held_out
from ffdi.intake.splitting.several_groups import describe_components, describe_dropped
from ffdi.intake.tables import sides

Embed = Callable[[pd.DataFrame], npt.NDArray[Any]]  # rows of images.csv -> (N, D) embeddings


@dataclass(frozen=True)
class SplitTables:
    """`folds` is folds.csv, `balance` the table of its plot: images of each class on each side."""

    folds: pd.DataFrame
    balance: pd.DataFrame


def split_images(
    images: pd.DataFrame, source: ImageSource, settings: SplitSettings, embed: Embed, console: Console = Console()
) -> SplitTables:
    """Draw the test set and the folds of `images` (images.csv) by groups that near-duplicates have joined.

    Reads the images themselves only for `find_copies` and, through `embed`, for `use_embedding` and the method clustered. Says what it joined
    and how the classes are balanced. Raises as assign_folds does; InputError names an image that cannot be read.
    """
    wanted = settings.use_embedding or settings.method == "clustered"
    embeddings = embed(images) if wanted else None
    pairs = _near_duplicates(images, source, settings, embeddings, console)
    folds = assign_folds(images, pairs, settings, embeddings)
    balance = balance_table(images, folds)
    for line in _describe(images, folds, balance, settings):
        console.say(line)
    return SplitTables(folds, balance)


def _near_duplicates(
    images: pd.DataFrame, source: ImageSource, settings: SplitSettings, embeddings: Embeddings | None, console: Console
) -> Pairs:
    """The pairs that each search finds, by row number. A search leaves out what is held together already."""
    ids, groups = images["image_id"], images["group"]
    if settings.two_sources == "drop":  # an image of several groups holds none of them together
        groups = single_names(groups)
    pairs = perceptual_pairs(images["phash"], settings.phash_bits)
    console.say(f"{len(pairs)} near-duplicate pairs by pHash within {settings.phash_bits} bits")
    if settings.find_copies:
        sketches = read_sketches(source, source.files_of(images), console)
        held = held_together(pairs, ids, groups)
        copies = find_copies(sketches, lambda one, other: held[one] != held[other], console).pairs
        console.say(f"{len(copies)} more pairs that are crops, turns, exposures or edits of one picture")
        pairs = np.concatenate([pairs, copies])
    if settings.use_embedding:
        assert embeddings is not None
        near = embedding_pairs(embeddings, settings.min_cosine, held_together(pairs, ids, groups))
        least = f"mutually nearest at a cosine of {settings.min_cosine} or more"
        console.say(f"{len(near)} more pairs by embedding, {least}")
        pairs = np.concatenate([pairs, near])
    return pairs


def _describe(images: pd.DataFrame, folds: pd.DataFrame, balance: pd.DataFrame, settings: SplitSettings) -> list[str]:
    """Lines: the clusters, what images of several groups did, and the classes of each side."""
    lines = describe_clusters(images, folds)
    if settings.two_sources == "join":
        lines.append(describe_components(images["group"], pd.factorize(folds["group"])[0]))
    lines.append(describe_dropped(images, folds))
    lines += describe_held_out(images, folds, settings)
    groups = folds["group"].groupby(sides(folds)).nunique()
    for place, part in balance.groupby("place"):
        real, fake = part["images"]
        groups_there = "" if place == "dropped" else f", {groups[place]} groups"
        lines.append(f"{place}: {real} real, {fake} fake{groups_there}")
    return [line for line in lines if line]
