"""What a row of features is: its key, and the spec whose fingerprint every shard carries.

Loads no torch, so a run with nothing to do ends before torch would be loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import numpy as np
import numpy.typing as npt

from ffdi.errors import ParamsError, WeightsError
from ffdi.features.keep import Keep, TokenGrid, cut_grid, grid_of, kept_shape, resolve_keep, stored_grid, within
from ffdi.files import canonical_json

FORMAT_VERSION = 2
Row = tuple[str, int]  # (image_id, view)
Features = npt.NDArray[Any]  # (N, C, H, W), (N, tokens, C) or (N, C): float16 or float32; uint8 pixels for `cut: input`
Keys = npt.NDArray[np.bytes_]  # (N,) S33: the 32 bytes of the image_id, then the view; they sort as rows do
_ROWS = 1 << 12  # that are taken from their keys at a time


class Rows(Sequence[Row]):
    """Many rows as their keys: 33 bytes each, where a list of tuples takes some 200."""

    def __init__(self, keys: Keys) -> None:
        self.keys = keys

    @classmethod
    def of(cls, parts: Iterable[Sequence[Row]]) -> Rows:
        """The rows of all parts, in their order."""
        return cls(np.concatenate([np.empty(0, "S33"), *map(row_keys, parts)]))

    def __len__(self) -> int:
        return len(self.keys)

    @overload
    def __getitem__(self, at: int) -> Row: ...
    @overload
    def __getitem__(self, at: slice) -> Rows: ...
    def __getitem__(self, at: int | slice) -> Row | Rows:
        return Rows(self.keys[at]) if isinstance(at, slice) else key_rows(self.keys[[at]])[0]

    def __iter__(self) -> Iterator[Row]:
        for start in range(0, len(self.keys), _ROWS):
            yield from key_rows(self.keys[start : start + _ROWS])

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(self) == len(other) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


def row_keys(rows: Sequence[Row]) -> Keys:
    """The keys of rows, in their order. NumPy ignores trailing zero bytes in comparisons, but all keys have one length."""
    if isinstance(rows, Rows):
        return rows.keys
    return np.frombuffer(b"".join(bytes.fromhex(i) + bytes((v,)) for i, v in rows), "S33")


def key_rows(keys: Keys) -> list[Row]:
    """The rows of keys."""
    raw = np.ascontiguousarray(keys).view(np.uint8).reshape(-1, 33)
    digits = raw[:, :32].tobytes().hex()
    return [(digits[64 * row : 64 * row + 64], view) for row, view in enumerate(raw[:, 32].tolist())]


def stored_bytes(shape: tuple[int, ...], dtype: str) -> int:
    """Bytes of one row's features of this shape, uncompressed."""
    scales = 4 * shape[0] if dtype == "int8" else 0
    return int(np.prod(shape)) * np.dtype(dtype).itemsize + scales


@dataclass(frozen=True)
class FeatureSpec:
    """What every row of a set of shards is: its shape, its dtype and everything that decides its values.

    `policy` holds the decode, resize, normalisation, view and runtime settings, and `keep` unless everything is kept.
    `cut_grid` is the grid of places at the cut, before anything is left out: of tokens, and of a map that is not kept
    whole. It follows from the other fields.
    """

    backbone: str
    network: str
    cut: str
    weights_sha256: str
    image_size: int
    shape: tuple[int, ...]
    dtype: str
    policy: Mapping[str, Any]
    cut_grid: TokenGrid | None = field(default=None, compare=False)

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the canonical JSON of all fields but the backbone's name and what follows from the others."""
        fields = asdict(self) | {"policy": dict(self.policy), "format_version": FORMAT_VERSION}
        del fields["backbone"], fields["cut_grid"]
        return hashlib.sha256(canonical_json(fields)).hexdigest()

    @property
    def keep(self) -> Keep:
        """What is kept of the features at the cut."""
        return resolve_keep(self.policy.get("keep", "all"))

    @property
    def tokens(self) -> TokenGrid | None:
        """Where the places of an image are among the stored tokens (L, C); None for maps and vectors."""
        return stored_grid(self.keep, self.cut_grid) if len(self.shape) == 2 else None

    @property
    def several_cuts(self) -> bool:
        """Whether the features are those of several cuts, pooled and joined to one vector."""
        return "+" in self.cut

    def of_cut(self, shape: tuple[int, ...], tokens: TokenGrid | None) -> FeatureSpec:
        """The same for features of this shape at the cut; `tokens` is the grid of tokens there.

        ParamsError when they have no such part as `keep` names, or are vectors in int8.
        """
        keep: Keep = "all" if self.several_cuts else self.keep
        return self._sized(shape, keep, tokens, cut_grid(shape, keep, tokens))

    def of_same(self, known: FeatureSpec) -> FeatureSpec | None:
        """This spec, which has no shape yet, with that of `known`; None when that differs otherwise, or is of tokens whose
        grid it does not know."""
        if replace(known, shape=()) != self or (len(known.shape) == 2 and known.cut_grid is None):
            return None
        return replace(self, shape=known.shape, cut_grid=known.cut_grid)

    def of_wider(self, wide: FeatureSpec) -> tuple[FeatureSpec, Keep] | None:
        """This spec with its shape, and what to keep of features of `wide` to have these; None when it holds no more than
        they do, or not all of them. ParamsError when the features at the cut have no such part."""
        part = within(self.keep, wide.keep, wide.shape, wide.dtype)
        unknown = len(wide.shape) == 2 and wide.tokens is None
        if part is None or unknown or self.several_cuts or _but_for_keep(self) != _but_for_keep(wide):
            return None
        grid = wide.cut_grid or grid_of(wide.shape, None)
        if len(wide.shape) == 1:  # cls+mean, of which one is wanted
            return self._sized((wide.shape[0] // 2,), "all", None, grid), part
        return self._sized(wide.shape, part, wide.tokens, grid), part

    def _sized(
        self, shape: tuple[int, ...], keep: Keep, tokens: TokenGrid | None, grid: TokenGrid | None
    ) -> FeatureSpec:
        """The same for what is kept as `keep` of features of a shape; ParamsError as of_cut."""
        spec = replace(self, shape=kept_shape(shape, keep, tokens), cut_grid=grid)
        if self.dtype == "int8" and len(spec.shape) == 1:
            raise ParamsError(
                f"dtype: int8 has a scale for each channel, so a vector of {spec.shape[0]} takes more than in float16: set "
                "dtype: float16"
            )
        return spec

    @property
    def reads_as(self) -> str:
        """The dtype of features when they are read: int8 is read as float16."""
        return "float16" if self.dtype == "int8" else self.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one row's features, uncompressed."""
        return stored_bytes(self.shape, self.dtype)

    def to_dict(self) -> dict[str, Any]:
        """The fields as index.json stores them."""
        stored = asdict(self)
        if self.cut_grid is None:
            del stored["cut_grid"]
        return stored

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> FeatureSpec:
        """The spec of an index.json; TypeError when the fields are others."""
        grid = TokenGrid(**stored["cut_grid"]) if "cut_grid" in stored else None
        return cls(**{**stored, "shape": tuple(stored["shape"]), "cut_grid": grid})

    def attributes(self) -> dict[str, Any]:
        """The attributes of every shard."""
        return {
            "fingerprint": self.fingerprint,
            "backbone": self.backbone,
            "cut": self.cut,
            "weights_sha256": self.weights_sha256,
            "image_size": self.image_size,
            "format_version": FORMAT_VERSION,
        }


def _but_for_keep(spec: FeatureSpec) -> FeatureSpec:
    policy = {key: value for key, value in spec.policy.items() if key != "keep"}
    return replace(spec, backbone="", shape=(), policy=policy)


@dataclass(frozen=True)
class Provenance:
    """Where weights come from. It is in the header of their file, and goes into every metrics file."""

    network: str
    source: str
    pretrained: bool

    @classmethod
    def of(cls, header: Mapping[str, Any]) -> Provenance:
        """The provenance in the header of a weights file; KeyError when there is none."""
        return cls(header["network"], header["source"], header["pretrained"])


def read_header(weights: Path) -> dict[str, Any]:
    """What the weights stage wrote into the header of a file: the provenance, and `network_args` where there are any."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="np") as file:
            header = dict(json.loads(file.metadata()["ffdi"]))
            Provenance.of(header)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{weights}: not a weights file of the weights stage ({type(error).__name__})") from error
    return header


def read_provenance(
    weights: Path, network: str | None = None, network_args: Mapping[str, Any] | None = None
) -> Provenance:
    """The provenance in the header of a file of the weights stage.

    WeightsError when its weights are not for `network`, or not for one that is built with `network_args` (by default
    with none).
    """
    header = read_header(weights)
    provenance, built_with = Provenance.of(header), header.get("network_args", {})
    if network not in (None, provenance.network):
        raise WeightsError(f"{weights}: holds weights of {provenance.network}, not of {network}: run the weights stage")
    if network is not None and canonical_json(built_with) != canonical_json(dict(network_args or {})):
        args = f"with network_args {built_with}, not {dict(network_args or {})}"
        raise WeightsError(f"{weights}: holds weights of {network} {args}: run the weights stage")
    return provenance
