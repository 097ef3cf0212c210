"""The settings of the intake: sections `data`, `split` and `audit` of params.yaml."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Annotated, ClassVar, Literal, get_type_hints

from annotated_types import Ge, Gt, Le, Lt, MinLen

from ffdi.bounds import LATER, Fraction, FractionAbove0, NonNegative, OnlyIn, Positive, Rule
from ffdi.errors import ParamsError, StorageError
from ffdi.intake.groups import group_names
from ffdi.intake.set_names import check_names, name_of
from ffdi.urls import checked_url, is_url

HashBits = Annotated[int, Ge(0), Le(32)]
Names = str | tuple[str, ...]


def _check_group(patterns: Names | None) -> None:
    patterns = (patterns,) if isinstance(patterns, str) else patterns
    try:
        valid = patterns is None or (bool(patterns) and all("group" in group_names(p) for p in patterns))
    except re.error:
        valid = False
    if not valid:
        raise ParamsError("must be a regular expression with (?P<group>...), or a list of such")


def _check_attributes(patterns: dict[str, str] | None) -> None:
    for name, pattern in (patterns or {}).items():
        if not re.fullmatch(r"[^\W\d]\w*", name) or name.startswith("attr_"):
            raise ParamsError(f"{name!r} is no name of an attribute: letters, digits and _, without attr_")
        try:
            valid = "value" in re.compile(pattern).groupindex
        except re.error:
            valid = False
        if not valid:
            raise ParamsError(f"{name} must be a regular expression with (?P<value>...)")


def check_root(root: str | tuple[SetSettings, ...]) -> None:
    """Raise ParamsError for a URL that holds a credential, or names no place."""
    if isinstance(root, str) and is_url(root):
        try:
            checked_url(root)
        except StorageError as error:
            raise ParamsError(str(error)) from None


@dataclass(frozen=True)
class Columns:
    """What a table calls its columns; a role that is not named stands under its own name, if at all."""

    path: str | None = None
    """The column of the images' paths."""

    label: str | None = None
    """The column of the labels."""

    group: Names | None = None
    """The column that names each image's group, or several: the image belongs to every group that they name."""

    split: str | None = None
    """The column that says which images are the test set."""

    def named(self) -> dict[str, Names]:
        """The roles that the settings name, with their columns."""
        return {role: names for role, names in asdict(self).items() if names}


@dataclass(frozen=True)
class DataSettings:
    """Where a data set is, how it is laid out, and what of it is read: see [data.md](data.md)."""

    root: Annotated[str | tuple[SetSettings, ...], Rule(check_root)]
    """The folder of images, or a zip or tar archive of it, tracked by git or not; a relative path starts at the main
    checkout, also under `dvc exp run --temp` and `--queue`. Or a URL such as `s3://BUCKET/FOLDER`, without a key. Or a
    list of several sets, each with a root and its own keys, which then stand there and not beside the list: see
    [data.md](data.md#several-sets)."""

    layout: Literal[
        "auto",
        "imagefolder",
        "csv",
        "multi_ffdi",
        "faceforensics",
        "celeb_df",
        "dfdc",
        "deepfakebench",
        "df40",
        "real_and_fake_140k",
        "openfake",
    ] = "csv"
    """How the data set is laid out; `csv` is a table with path, label and, if known, group, split and attributes; `auto`
    is any of the others that is recognised. See [data.md](data.md#layouts)."""

    table: Annotated[str, OnlyIn("csv")] = "labels.csv"
    """The file of the table, inside the root."""

    columns: Annotated[Columns, OnlyIn("csv")] = Columns()
    """What the table calls its columns; one that is not named is found under its own name."""

    list_by: Annotated[Literal["prefix", "table"] | None, OnlyIn("csv", "multi_ffdi"), LATER] = None
    """How the files of a root at a URL are found: those that the store lists below it (`prefix`), or those that the
    tables name, each asked for (`table`). By default by prefix, and by table where nothing is listed: at https://."""

    classes: Annotated[
        Annotated[dict[str, Annotated[int, Ge(0), Le(1)]], MinLen(1)] | None,
        OnlyIn("auto", "imagefolder", "csv", "multi_ffdi", "deepfakebench"),
    ] = None
    """What the data set calls its classes, in any case, with 0 (real) or 1 (fake) for each; by default 0, 1 and the
    usual words. With it, labels that contradict the paths or other columns are reported and taken."""

    group: Annotated[Names | None, Rule(_check_group)] = None
    """A regular expression with `(?P<group>...)` on the path, or a list of such, for images without a group of their
    own; `(?P<group2>...)` and the like name further groups of the image."""

    max_ungrouped: Fraction = 0.05
    """The share of paths without a match of `group` above which `ingest` fails."""

    attributes: Annotated[dict[str, str] | None, Rule(_check_attributes)] = None
    """Attributes that the paths name, each with a regular expression with `(?P<value>...)` on the path:
    `{difficulty: '(?P<value>easy|mid|hard)_'}` gives `attr_difficulty`, empty where nothing matches."""

    limit: Positive | None = None
    """How many rows of each given split are read, from the first."""

    exclude: Annotated[tuple[str, ...] | None, OnlyIn("auto", "imagefolder")] = None
    """Patterns (`*`, `?`, in any case) of the names of folders that hold no examples of a class; by default the usual
    ones for masks, landmarks, heat maps and thumbnails. `[]` excludes nothing; a pattern that fits no folder is an
    error."""

    max_pixels: Positive = 50_000_000
    """Larger images are rejected, so that no small file can fill the memory."""

    max_rejected: Fraction = 0.01
    """The share of unreadable images at which `ingest` fails."""

    synthesise: NonNegative = 0
    """How many self-blended fakes of each real training image are added to the training rows."""

    tables: Annotated[Literal["csv", "parquet"], LATER] = "csv"
    """How tables of a row an image are written: images, folds, scores, and those of models. Change it in the `vars` of
    dvc.yaml and not in params.yaml, or DVC says `cannot redefine`: see [scale.md](scale.md#tables-as-parquet)."""

    unread: ClassVar[tuple[str, ...]] = ()  # keys of every layout that have no effect in this section
    videos: ClassVar[bool] = False  # whether videos are read as images are

    @property
    def name(self) -> str:
        """What figures call this data set: its folder, or its archive without the suffixes; of several sets all names."""
        return "+".join(one.called for one in self.sets) or name_of(self.place)

    @property
    def sets(self) -> Sequence[SetSettings]:
        """The sets that it is a list of, none where it is one."""
        return () if isinstance(self.root, str) else self.root

    @property
    def place(self) -> str:
        """The root of what is one set."""
        assert isinstance(self.root, str), "a list has a root for each set"
        return self.root

    @classmethod
    def keys_of(cls, layout: str) -> list[str]:
        """The keys that have an effect with a layout, in the order of their declaration."""
        hints = get_type_hints(cls, include_extras=True)
        marks = {key: getattr(hint, "__metadata__", ()) for key, hint in hints.items()}
        others = {
            key for key in marks for mark in marks[key] if isinstance(mark, OnlyIn) and layout not in mark.layouts
        }
        return [field.name for field in fields(cls) if field.name not in {*others, *cls.unread}]

    def check_written(self, written: Collection[str]) -> None:
        """Raise ParamsError for a key that the file has, which asks for something, and which has no effect."""
        if not isinstance(self.root, str):
            self._check_sets(written)
            return
        keys = self.keys_of(self.layout)
        if idle := sorted(key for key in written if getattr(self, key) and key not in keys):
            raise ParamsError(
                f"{idle[0]} has no effect with layout {self.layout}, which reads {', '.join(keys)}: leave it out"
            )
        if self.list_by and not is_url(self.place):
            raise ParamsError("list_by has no effect with a root that is no URL: leave it out")
        if "max_ungrouped" in written and not self.group:
            raise ParamsError("max_ungrouped has no effect without group: leave it out")

    def _check_sets(self, written: Collection[str]) -> None:
        check_names([(one.called, one.place) for one in self.sets])
        keys = ("root", *SetSettings.unread)
        if idle := sorted(key for key in written if getattr(self, key) and key not in keys):
            raise ParamsError(f"{idle[0]} has no effect beside a list of sets: write it in the sets that it is for")


@dataclass(frozen=True, kw_only=True)
class SetSettings(DataSettings):
    """One of several sets that are read as one."""

    unread: ClassVar[tuple[str, ...]] = ("max_pixels", "max_rejected", "synthesise", "tables")

    root: Annotated[str, Rule(check_root)]
    """The folder, archive or URL of this set."""

    name: str = ""
    """What the set is called in paths, groups and the attribute `dataset`; by default as its folder or its archive."""

    @property
    def called(self) -> str:
        """The name that is given, or that of the folder or archive."""
        return self.name or name_of(self.root)


@dataclass(frozen=True)
class SplitSettings:
    """How images are divided into a test set and folds."""

    method: Literal["stratified", "hash", "leave_one_out", "clustered"] = "stratified"
    """`stratified` balances the classes; `hash` places each group by its name, so that images added later never move
    it; `leave_one_out` holds out the fakes of one value of `by` in each fold; `clustered` makes folds as unlike each
    other as the features of `embedding` allow. The test set is drawn as with `stratified` by the last two."""

    by: str | None = None
    """Method leave_one_out: the attribute whose values are held out, such as the generator of a fake."""

    min_fakes: Positive = 20
    """Method leave_one_out: values with fewer training fakes are held out together, in one fold."""

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

    min_cosine: FractionAbove0 = 0.95
    """Images that are mutually nearest by their features stay together at this cosine or more."""

    find_copies: bool = False
    """Whether to join crops, rotations, turns, exposures and edits of one picture too; it decodes the images again."""

    seed: NonNegative = 0
    """The seed of the draw."""

    def check_written(self, written: Collection[str]) -> None:
        """Raise ParamsError for a key that the file has and the method does not read, or lacks and the method needs."""
        if self.method == "leave_one_out":
            if self.by is None:
                raise ParamsError("method leave_one_out needs by: name the attribute whose values are held out")
            if "folds" in written:
                raise ParamsError(
                    "folds has no effect with method leave_one_out, where each value has a fold: leave it out "
                    "(`-S ~split.folds`)"
                )
        elif idle := [key for key in ("by", "min_fakes") if key in written and getattr(self, key) is not None]:
            raise ParamsError(f"{idle[0]} has no effect with method {self.method}: only leave_one_out reads it")


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

    min_cosine: FractionAbove0 = 0.95
    """Images on two sides that are mutually nearest by their features are near-duplicates at this cosine or more."""
