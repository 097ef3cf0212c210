"""Image files -> P(fake), with a bundle alone: neither DVC nor shards are needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, islice
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from ffdi.console import Console
from ffdi.errors import FfdiError
from ffdi.features.backbone import Backbone
from ffdi.features.decoders import Decoder
from ffdi.features.devices import device_line
from ffdi.features.feature_spec import Features
from ffdi.features.quantised import as_stored
from ffdi.features.runtimes import Runtime, open_runtime, runtime_line, runtime_name
from ffdi.intake.decoding.images import RGB, UnreadableImage, read_bytes, to_array
from ffdi.parallel import ordered_map, tasks_ahead, worker_count
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle import BATCH, Bundle

Result = TypeVar("Result")


def predict_files(
    bundle: Bundle,
    files: Sequence[Path],
    *,
    max_pixels: int,
    device: torch.device,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[Path, float | str]]:
    """Yield (file, P(fake)) in order, or (file, the reason why it cannot be read).

    Threads read, decode and run the prefix ahead, a bounded number of blocks; the tails run in the caller's thread.
    `say` is told of images that nvJPEG left to Pillow.
    """
    backbone, runtime = bundle.backbone, _runtime(bundle, say)
    decoder = Decoder(backbone, max_pixels=max_pixels)

    def features(block: Sequence[Path]) -> list[Features | str]:
        return _of_readable(lambda images: _features(images, backbone, runtime), _pictures(block, decoder))

    size = max(runtime.batch if runtime else 1, 8)
    blocks = (files[start : start + size] for start in range(0, len(files), size))
    workers = worker_count()
    image_bytes = 3 * backbone.image_size**2 + 4 * math.prod(bundle.facts["shape"])
    ahead = chain.from_iterable(ordered_map(features, blocks, workers, tasks_ahead(workers, size * image_bytes)))
    for start in range(0, len(files), BATCH):
        batch = _of_readable(lambda found: _scores(found, bundle, device), list(islice(ahead, BATCH)))
        yield from zip(files[start : start + BATCH], batch, strict=True)
    if line := decoder.fallbacks():
        say(line)


def _runtime(bundle: Bundle, say: Callable[[str], None]) -> Runtime | None:
    b, prefix = bundle.backbone, bundle.prefix
    if prefix is None:
        say(device_line())
        return None
    say(runtime_line(runtime_name(b)))
    return open_runtime(b, bundle.facts["provenance"]["weights_sha256"], lambda: prefix, console=Console(say))


def _of_readable(
    compute: Callable[[Features], Iterable[Result]], items: Sequence[Features | str]
) -> list[Result | str]:
    """What `compute` makes of the arrays among `items`, stacked; a reason stays in its place."""
    arrays = [item for item in items if not isinstance(item, str)]
    results = iter(compute(np.stack(arrays)) if arrays else ())
    return [item if isinstance(item, str) else next(results) for item in items]


def _pictures(block: Sequence[Path], decoder: Decoder) -> list[RGB | str]:
    """Each file's (S, S, 3) pixels, or the reason why it cannot be read."""
    found = decoder((str(file), partial(read_bytes, file.parent, file.name)) for file in block)
    return [str(image) if isinstance(image, UnreadableImage) else to_array(image) for image in found]


def _features(images: RGB, backbone: Backbone, runtime: Runtime | None) -> Features:
    """(N, S, S, 3) -> (N, C, H, W) as shards would give them back; for `cut: input` the images themselves."""
    if runtime is None:
        return np.ascontiguousarray(images.transpose(0, 3, 1, 2))
    return as_stored(runtime.run(images), backbone.dtype)


def _scores(features: Features, bundle: Bundle, device: torch.device) -> list[float]:
    scores = bundle.scores(FeatureTable.of_features(features), device)
    if not np.isfinite(scores).all():
        raise FfdiError(f"{int((~np.isfinite(scores)).sum())} of {len(scores)} scores are not finite")
    return [float(score) for score in scores]
