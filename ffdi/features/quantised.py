"""Features in eight bits: int8 codes with a scale for each row and channel, whose largest magnitude there is 127.

A row's codes depend on the row alone, so that it can be reused and copied like any other.
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
    """(N, C, ...) float16 features = codes * scales; off by half a scale at most, and by float16's rounding."""
    wide = codes.reshape(*codes.shape[:2], -1) * scales[..., None]
    return wide.astype(np.float16).reshape(codes.shape)


def as_stored(features: Features, dtype: str) -> Features:
    """Features as shards of `dtype` give them back: rounded, for int8 through its codes."""
    if dtype != "int8":
        return features.astype(dtype)
    return restore(*quantise(features.astype(np.float16)))
