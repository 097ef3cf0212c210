"""Features in eight bits: int8 codes with a scale for each row and channel, where the largest magnitude becomes 127.

The codes of a row depend on that row alone, so it can be reused and copied like any other.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ffdi.features.feature_spec import Features

Codes = npt.NDArray[np.int8]
Scales = npt.NDArray[np.float32]


def quantise(features: Features) -> tuple[Codes, Scales]:
    """(N, C, ...) finite features -> codes of that shape and scales (N, C): scale = max |feature| / 127."""
    wide = features.reshape(*features.shape[:2], -1).astype(np.float32)
    scales: Scales = np.asarray(np.abs(wide).max(axis=2) / np.float32(127), np.float32)
    codes: Codes = np.rint(wide / np.where(scales > 0, scales, 1)[..., None]).astype(np.int8)
    return codes.reshape(*features.shape), scales


def restore(codes: Codes, scales: Scales) -> npt.NDArray[np.float16]:
    """(N, C, ...) float16 features = codes * scales. The error is at most half a scale, plus float16's rounding."""
    wide = codes.reshape(*codes.shape[:2], -1) * scales[..., None]
    return wide.astype(np.float16).reshape(codes.shape)


def as_stored(features: Features, dtype: str) -> Features:
    """Features as they are read from shards of `dtype`: rounded, for int8 by way of its codes."""
    if dtype != "int8":
        return features.astype(dtype)
    return restore(*quantise(features.astype(np.float16)))
