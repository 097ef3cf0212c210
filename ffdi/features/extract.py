"""images -> views -> prefix -> shards: reader, mapper, writer."""

from __future__ import annotations

import hashlib
import itertools
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch

from ffdi.errors import FfdiError, InputError
from ffdi.features import generations
from ffdi.features.backbones import INPUT, Backbone, FrozenPrefix, cut_network, without_classifier
from ffdi.features.engines.local import run_tasks
from ffdi.features.runtimes import Runtime, choose_runtime, open_runtime
from ffdi.features.shards import Features, Row, Spec
from ffdi.features.views import render
from ffdi.features.weights import Provenance, load_network
from ffdi.files import human_bytes, sole_writer
from ffdi.intake.images import DECODE_POLICY, RESIZE_POLICY, UnreadableImage, open_image, read_bytes, to_array

Say = Callable[[str], None]
Progress = Callable[[Iterator[Features], int], Iterable[Features]]  # (blocks, rows in all) -> the same blocks


@dataclass(frozen=True)
class Extraction:
    """What a run did: rows in all, reused and computed, and the bytes of their features."""

    rows: int
    reused: int
    computed: int
    bytes: int


@dataclass(frozen=True)
class Prefix:
    """A backbone made ready: what its rows are (`spec`), whence its weights (`provenance`), and how to compute it."""

    backbone: Backbone
    spec: Spec
    provenance: Provenance
    module: FrozenPrefix | None  # None for cut: input

    def open(self) -> Runtime:
        """The runtime; for `cut: input` it hands the images on as (B, 3, S, S) uint8."""
        if self.module is None:
            return Runtime("none", 1, lambda images: images.transpose(0, 3, 1, 2))
        b = self.backbone
        key = b.cache_key(self.spec.weights_sha256)
        return open_runtime(
            self.module, runtime=b.runtime, precision=b.precision, image_size=b.image_size, cache_key=key
        )


def load_prefix(backbone: Backbone, weights: Path) -> Prefix:
    """Load the weights file into the backbone's network and cut it."""
    network, provenance, sha256 = load_network(backbone.network, weights)
    module, shape, dtype = None, (3, backbone.image_size, backbone.image_size), "uint8"
    if backbone.cut != INPUT:
        prefix, _ = cut_network(without_classifier(network, backbone.network), backbone.cut)
        assert prefix is not None
        module = FrozenPrefix(prefix, backbone.mean, backbone.std)
        shape, dtype = module.feature_shape(backbone.image_size), backbone.dtype
    cuda = torch.cuda.is_available()
    policy = {
        "decode": DECODE_POLICY,
        "resize": RESIZE_POLICY,
        "mean": list(backbone.mean) if module else None,
        "std": list(backbone.std) if module else None,
        "views": [dict(operation) for operation in backbone.view_policy],
        "view_seed": backbone.view_seed,
        "runtime": f"{choose_runtime(backbone.runtime)}-{'cuda' if cuda else 'cpu'}" if module else "none",
        "precision": backbone.precision,
    }
    spec = Spec(backbone.name, backbone.network, backbone.cut, sha256, backbone.image_size, shape, dtype, policy)
    return Prefix(backbone, spec, provenance, module)


def plan_rows(image_ids: Sequence[str], roles: Sequence[str], view_count: int) -> list[Row]:
    """Sorted (image_id, view): views 0..view_count of train images, view 0 of test images."""
    views = {"train": view_count + 1, "test": 1}
    return sorted((i, v) for i, role in zip(image_ids, roles, strict=True) for v in range(views[role]))


def extract(
    images: pd.DataFrame,
    roles: Sequence[str],
    *,
    root: Path,
    prefix: Prefix,
    out: Path,
    shard_rows: int,
    workers: int | None,
    max_pixels: int,
    say: Say,
    progress: Progress = lambda blocks, total: blocks,
) -> Extraction:
    """Bring `out` to hold the features of every image of images.csv, reusing each row whose fingerprint is unchanged.

    `roles` (train or test) stand in the order of `images`. Raises InputError when a file is no longer the one that was
    ingested, FfdiError when the disk is too small, LockedError when another process writes here.
    """
    plan = plan_rows(list(images["image_id"]), roles, prefix.backbone.view_count)
    paths = dict(zip(images["image_id"], images["path"], strict=True))
    provenance: dict[str, Any] = {
        "weights": prefix.provenance.source,
        "pretrained": prefix.provenance.pretrained,
        "weights_sha256": prefix.spec.weights_sha256,
        "torch": torch.__version__.split("+")[0],
    }

    def compute(missing: Sequence[Row]) -> Iterator[Features]:
        say(f"{len(plan) - len(missing)} rows are there, {len(missing)} to compute")
        blocks = compute_rows(missing, paths, root=root, prefix=prefix, workers=workers, max_pixels=max_pixels)
        return iter(progress(blocks, len(missing)))

    total = len(plan) * prefix.spec.row_bytes
    with sole_writer(out):
        shape = "x".join(str(n) for n in prefix.spec.shape)
        say(f"{len(plan)} rows of {shape} {prefix.spec.dtype}: {human_bytes(total)} on disk")
        reserve = partial(_refuse_small_disk, out)
        reused, computed = generations.build(out, prefix.spec, plan, shard_rows, provenance, compute, reserve)
    return Extraction(len(plan), reused, computed, total)


def compute_rows(
    rows: Sequence[Row], paths: dict[str, str], *, root: Path, prefix: Prefix, workers: int | None, max_pixels: int
) -> Iterator[Features]:
    """Features of `rows` in their order, a block per task; each image is decoded once for all its views."""
    runtime = prefix.open()

    def mapper(task: Sequence[Row]) -> Features:
        images = view_images(task, paths, root=root, backbone=prefix.backbone, max_pixels=max_pixels)
        with np.errstate(over="ignore"):  # an overflow becomes infinite and is refused, with its image, by the writer
            return runtime.run(images).astype(prefix.spec.dtype)

    return run_tasks(mapper, _tasks(rows, max(runtime.batch, 8)), workers=workers)


def view_images(
    rows: Sequence[Row], paths: dict[str, str], *, root: Path, backbone: Backbone, max_pixels: int
) -> npt.NDArray[np.uint8]:
    """(N, S, S, 3) uint8 views of `rows`; consecutive rows of one image decode it once.

    Raises InputError when a file is no longer the one that was ingested.
    """
    b = backbone
    views = []
    for image_id, own in itertools.groupby(rows, key=lambda row: row[0]):
        try:
            data = read_bytes(root, paths[image_id])
            if hashlib.sha256(data).hexdigest() != image_id:
                raise UnreadableImage("changed since it was ingested: run ingest again")
            image = open_image(data, max_pixels=max_pixels)
        except UnreadableImage as error:
            raise InputError(f"{root / paths[image_id]}: {error}") from error
        for _, view in own:
            shown = render(
                image, image_id=image_id, view=view, size=b.image_size, policy=b.view_policy, seed=b.view_seed
            )
            views.append(to_array(shown))
    return np.stack(views)


def embed(
    images: pd.DataFrame, *, root: Path, prefix: Prefix, max_pixels: int, progress: Progress = lambda b, t: b
) -> npt.NDArray[np.float32]:
    """(N, C) features of view 0, averaged over the map, in the order of `images`."""
    paths = dict(zip(images["image_id"], images["path"], strict=True))
    rows = [(i, 0) for i in images["image_id"]]
    blocks = compute_rows(rows, paths, root=root, prefix=prefix, workers=None, max_pixels=max_pixels)
    return np.concatenate([block.astype(np.float32).mean(axis=(2, 3)) for block in progress(blocks, len(rows))])


def _tasks(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """Runs of about `size` rows that keep an image's views together."""
    task: list[Row] = []
    for row in rows:
        if len(task) >= size and task[-1][0] != row[0]:
            yield task
            task = []
        task.append(row)
    if task:
        yield task


def _refuse_small_disk(out: Path, needed: int) -> None:
    """The old generation stays until the new one is whole, so all that is yet to be written must fit beside."""
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise FfdiError(f"{out}: needs {human_bytes(needed)}, the disk has {human_bytes(free)} free")
