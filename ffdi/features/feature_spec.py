"""What a row of features is: its key, and the spec whose fingerprint every shard carries.

Loads no torch, so a run with nothing to do ends before torch would be loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ffdi.errors import WeightsError
from ffdi.files import canonical_json

FORMAT_VERSION = 2
Row = tuple[str, int]  # (image_id, view)
Features = npt.NDArray[Any]  # (N, C, H, W), (N, tokens, C) or (N, C): float16 or float32; uint8 pixels for `cut: input`
Keys = npt.NDArray[np.bytes_]  # (N,) S33: the 32 bytes of the image_id, then the view; they sort as rows do


def row_keys(rows: Sequence[Row]) -> Keys:
    """The keys of rows, in their order. NumPy ignores trailing zero bytes in comparisons, but all keys have one length."""
    return np.frombuffer(b"".join(bytes.fromhex(i) + bytes((v,)) for i, v in rows), "S33")


def key_rows(keys: Keys) -> list[Row]:
    """The rows of keys."""
    raw = keys.view(np.uint8).reshape(-1, 33)
    return [(bytes(row[:32]).hex(), int(row[32])) for row in raw]


@dataclass(frozen=True)
class FeatureSpec:
    """What every row of a set of shards is: its shape, its dtype and everything that decides its values.

    `policy` holds the decode, resize, normalisation, view and runtime settings.
    """

    backbone: str
    network: str
    cut: str
    weights_sha256: str
    image_size: int
    shape: tuple[int, ...]
    dtype: str
    policy: Mapping[str, Any]

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) of the canonical JSON of all fields but the backbone's name."""
        fields = asdict(self) | {"policy": dict(self.policy), "format_version": FORMAT_VERSION}
        del fields["backbone"]
        return hashlib.sha256(canonical_json(fields)).hexdigest()

    @property
    def reads_as(self) -> str:
        """The dtype of features when they are read: int8 is read as float16."""
        return "float16" if self.dtype == "int8" else self.dtype

    @property
    def row_bytes(self) -> int:
        """Bytes of one row's features, uncompressed."""
        scales = 4 * self.shape[0] if self.dtype == "int8" else 0
        return int(np.prod(self.shape)) * np.dtype(self.dtype).itemsize + scales

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


@dataclass(frozen=True)
class Provenance:
    """Where weights come from. It is in the header of their file, and goes into every metrics file."""

    network: str
    source: str
    pretrained: bool


def read_provenance(weights: Path, network: str | None = None) -> Provenance:
    """The provenance in the header of a file of the weights stage; WeightsError when its weights are not for `network`."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(weights, framework="np") as file:
            provenance = Provenance(**json.loads(file.metadata()["ffdi"]))
    except (OSError, SafetensorError, KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{weights}: not a weights file of the weights stage ({type(error).__name__})") from error
    if network not in (None, provenance.network):
        raise WeightsError(f"{weights}: holds weights of {provenance.network}, not of {network}: run the weights stage")
    return provenance
