"""Image files -> P(fake), with a bundle alone: neither DVC nor shards are needed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch

from ffdi.features.decoders import decode
from ffdi.features.quantised import as_stored
from ffdi.features.runtimes import Runtime, open_runtime
from ffdi.features.spec import Backbone
from ffdi.intake.images import UnreadableImage, to_array
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle import BATCH, Bundle


def predict_files(
    bundle: Bundle, files: Sequence[Path], *, max_pixels: int, device: torch.device
) -> Iterator[tuple[Path, float | str]]:
    """Yield (file, P(fake)) in order, or (file, the reason why it cannot be read)."""
    runtime = _runtime(bundle)
    for start in range(0, len(files), BATCH):
        batch = files[start : start + BATCH]
        pictures = [_picture(file, bundle.backbone, max_pixels) for file in batch]
        readable = [p for p in pictures if not isinstance(p, str)]
        scores = iter(_scores(bundle, runtime, np.stack(readable), device) if readable else [])
        for file, picture in zip(batch, pictures, strict=True):
            yield file, picture if isinstance(picture, str) else float(next(scores))


def _runtime(bundle: Bundle) -> Runtime | None:
    b, prefix = bundle.backbone, bundle.prefix
    if prefix is None:
        return None
    return open_runtime(b, bundle.facts["provenance"]["weights_sha256"], lambda: prefix)


def _picture(file: Path, backbone: Backbone, max_pixels: int) -> np.ndarray | str:
    try:
        return to_array(decode(file.read_bytes(), backbone, max_pixels=max_pixels))
    except UnreadableImage as error:
        return str(error)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def _scores(bundle: Bundle, runtime: Runtime | None, images: np.ndarray, device: torch.device) -> np.ndarray:
    if runtime is None:
        features: np.ndarray = images.transpose(0, 3, 1, 2).copy()
    else:
        features = as_stored(runtime.run(images), bundle.backbone.dtype)
    count = torch.arange(len(images))
    ones = torch.ones(len(images), dtype=torch.int64)
    ids = tuple(str(i) for i in range(len(images)))
    return bundle.scores(FeatureTable(ids, torch.from_numpy(features), count, ones, ones), device)
