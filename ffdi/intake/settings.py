"""The settings of split and audit: sections of params.yaml, as the library takes them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from annotated_types import Ge, Gt, Le, Lt

HashBits = Annotated[int, Ge(0), Le(32)]
Cosine = Annotated[float, Gt(0.0), Le(1.0)]


@dataclass(frozen=True)
class SplitSettings:
    """How images are divided into a test set and folds."""

    method: Literal["stratified", "hash"] = "stratified"
    """`stratified` balances the classes; `hash` places each group by its name, so that images added later never move
    it."""

    test_size: Annotated[float, Gt(0.0), Lt(1.0)] = 0.2
    """The share of the images in the test set."""

    folds: Annotated[int, Ge(2)] = 5
    """The number of folds that the other images are divided into."""

    stratify_by: str | None = None
    """An attribute to balance besides the label."""

    use_given: bool = True
    """Whether to respect the data set's own split."""

    two_sources: Literal["join", "drop"] = "join"
    """What images of several groups do: `join` those groups; or `drop` such images where their groups stand on two
    sides."""

    phash_bits: HashBits = 6
    """Images stay together when their perceptual hashes, or one's and the other's mirror image's, differ in at most so
    many of 64 bits."""

    embedding: str = "efficientnet_lite0"
    """The backbone whose features the search for near-duplicates uses."""

    use_embedding: bool = False
    """Whether to search near-duplicates by those features too."""

    min_cosine: Cosine = 0.95
    """Images that are mutually nearest by their features stay together at this cosine or more."""

    find_copies: bool = False
    """Whether to join crops, rotations, turns, exposures and edits of one picture too; it decodes the images again."""

    seed: Annotated[int, Ge(0)] = 0
    """The seed of the draw."""


@dataclass(frozen=True)
class AuditSettings:
    """What the audit searches for across the borders that split drew."""

    fail: bool = True
    """Whether a leak stops the pipeline; `false` reports leaks and goes on."""

    phash_bits: HashBits = 6
    """Images on two sides are near-duplicates when their perceptual hashes differ in at most so many of 64 bits."""

    find_copies: bool = True
    """Whether to search crops, rotations, turns, exposures and edits of one picture too."""

    use_embedding: bool = False
    """Whether to search near-duplicates by the features of the backbone `split.embedding` too."""

    min_cosine: Cosine = 0.95
    """Images on two sides that are mutually nearest by their features are near-duplicates at this cosine or more."""
