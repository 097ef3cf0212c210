"""images -> views -> prefix -> shards: reader, mapper, writer."""

from __future__ import annotations

import hashlib
import itertools
import shutil
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd

from ffdi.errors import FfdiError, InputError, ShardError
from ffdi.features import shard_set
from ffdi.features.backbone import INPUT, Backbone
from ffdi.features.decoders import NVJPEG_POLICY, Decoder
from ffdi.features.engines.local import run_tasks
from ffdi.features.feature_spec import Features, FeatureSpec, Provenance, Row, read_provenance
from ffdi.features.runtimes import Runtime, cached_graph, open_runtime, runtime_line, runtime_name
from ffdi.features.self_blending import synthesise
from ffdi.features.shards import read_index, refuse_nonfinite
from ffdi.features.views import RENDERING, render
from ffdi.files import human_bytes, sha256_file, sole_writer
from ffdi.intake.decoding.images import DECODE_POLICY, RESIZE_POLICY, UnreadableImage, read_bytes, to_array
from ffdi.timing import PartTimer

if TYPE_CHECKING:  # a run with nothing to do, or with its graph exported, does without torch
    from ffdi.features.networks import FrozenPrefix

Say = Callable[[str], None]
Files = Mapping[str, tuple[str, str]]  # image_id -> (path, image_id of the real image that it is a fake of, or "")
Progress = Callable[[Iterator[Features], int], Iterable[Features]]  # (blocks, rows in all) -> the same blocks
_SPARE_BYTES = 1 << 26  # of computed features while a shard is synced and hashed


@dataclass(frozen=True)
class ExtractionSummary:
    """What a run did: rows in all, reused and computed, the bytes of their features, and where the time went.

    `seconds` by part: `start` opens the runtime and `work` is the wall clock after it; of that `decode`, `views` and
    `prefix` are summed over the workers, and `write` is the writer's own.
    """

    rows: int
    reused: int
    computed: int
    bytes: int
    seconds: dict[str, float]


@dataclass(frozen=True)
class Extractor:
    """A backbone made ready: what its rows are (`spec`), whence its weights (`provenance`), and how to compute it."""

    backbone: Backbone
    spec: FeatureSpec
    provenance: Provenance
    load: Callable[[], FrozenPrefix]  # once

    @property
    def module(self) -> FrozenPrefix | None:
        """The prefix in torch; None for `cut: input`."""
        return None if self.backbone.cut == INPUT else self.load()

    def open(self, say: Say = lambda line: None) -> Runtime:
        """The runtime that the spec names, or else the one of here; `cut: input` hands the images on as (B, 3, S, S) uint8.

        Raises ShardError when the spec's cannot run here: another's rows would stand under its fingerprint.
        """
        if self.backbone.cut == INPUT:
            return Runtime(1, cast("Any", lambda images: images.transpose(0, 3, 1, 2)))
        b, policy = self.backbone, self.spec.policy
        if "runtime" not in policy:  # of a bundle alone
            return open_runtime(b, self.spec.weights_sha256, self.load, say)
        b = replace(b, precision=policy["precision"], dtype=self.spec.dtype)
        return open_runtime(b, self.spec.weights_sha256, self.load, say, policy["runtime"])

    @property
    def device_line(self) -> str:
        """What computes it and why, on one line."""
        if self.backbone.cut == INPUT:
            nvjpeg = self.backbone.decoder == "nvjpeg"
            return f"{runtime_line('torch-cuda')}, for nvJPEG" if nvjpeg else "cpu: cut: input has no prefix"
        return runtime_line(self.spec.policy.get("runtime") or runtime_name(self.backbone))


def load_extractor(backbone: Backbone, weights: Path, known: Path | None = None) -> Extractor:
    """The prefix of a backbone with the weights of a file.

    The network itself is loaded only where the shape of its features is known neither from the shards in `known`, of
    a spec that is else the same, nor from an exported graph.
    """
    b, provenance, sha256 = backbone, read_provenance(weights, backbone.network), sha256_file(weights)
    computed = b.cut != INPUT
    runtime = runtime_name(b) if computed or b.decoder == "nvjpeg" else "none"  # which refuses what cannot run here
    policy = {
        "decode": NVJPEG_POLICY if b.decoder == "nvjpeg" else DECODE_POLICY,
        "resize": RESIZE_POLICY,
        "mean": list(b.mean) if computed else None,
        "std": list(b.std) if computed else None,
        "views": [dict(operation) for operation in b.view_policy],
        "view_seed": b.view_seed,
        "rendering": RENDERING,
        "runtime": runtime if computed else "none",
        "precision": b.precision if computed else "none",
    }
    shape: tuple[int, ...] = () if computed else (3, b.image_size, b.image_size)
    spec = FeatureSpec(b.name, b.network, b.cut, sha256, b.image_size, shape, b.dtype if computed else "uint8", policy)
    load = cache(partial(_load, b, weights))
    if computed and not (shape := _known_shape(spec, known)):
        graph = cached_graph(b, sha256) if policy["runtime"] == "onnxruntime-cpu" else None
        shape = graph.shape if graph else load().feature_shape(b.image_size)
    return Extractor(b, replace(spec, shape=shape), provenance, load)


def _known_shape(spec: FeatureSpec, folder: Path | None) -> tuple[int, ...]:
    """The shape in the index of `folder`, if its spec is `spec` in all else."""
    try:
        there = read_index(folder).spec if folder else spec
    except ShardError:
        return ()
    return there.shape if replace(there, shape=()) == spec else ()


def _load(backbone: Backbone, weights: Path) -> FrozenPrefix:
    from ffdi.features.cuts import cut_network
    from ffdi.features.networks import FrozenPrefix, without_classifier
    from ffdi.features.weights import load_network

    network = load_network(backbone.network, weights)[0]
    prefix, _ = cut_network(without_classifier(network, backbone.network), backbone.cut)
    assert prefix is not None
    return FrozenPrefix(prefix, backbone.mean, backbone.std)


def plan_rows(image_ids: Sequence[str], roles: Sequence[str], view_count: int) -> list[Row]:
    """Sorted (image_id, view): views 0..view_count of train images, view 0 of test images, view 1 of `perturbed` ones."""
    views = {"train": range(view_count + 1), "test": range(1), "perturbed": range(1, 2)}
    return sorted((i, v) for i, role in zip(image_ids, roles, strict=True) for v in views[role])


def extract(
    images: pd.DataFrame,
    roles: Sequence[str],
    *,
    root: Path,
    prefix: Extractor,
    out: Path,
    shard_rows: int,
    workers: int | None,
    max_pixels: int,
    say: Say,
    compression: str = "none",
    progress: Progress = lambda blocks, total: blocks,
    warn: Say | None = None,
) -> ExtractionSummary:
    """Bring `out` to hold the features of every image of images.csv, reusing each row whose fingerprint is unchanged.

    `roles` (see plan_rows) stand in the order of `images`, which may have the fakes of with_synthesised. Raises
    InputError when a file is no longer the one that was ingested, FfdiError when the disk is too small, LockedError when
    another process writes here. `warn` is told what computes rows, where any are missing, and what that and the decoder
    meet on the way; by default `say` is.
    """
    plan = plan_rows(list(images["image_id"]), roles, prefix.backbone.view_count)
    files = image_files(images)
    source = {"weights": prefix.provenance.source, "pretrained": prefix.provenance.pretrained}
    provenance: dict[str, Any] = source | {"weights_sha256": prefix.spec.weights_sha256}
    goal = shard_set.Goal(prefix.spec, plan, shard_rows, provenance, compression)
    parts, runtimes, decoders = PartTimer(), list[Runtime](), list[Decoder]()

    def compute(missing: Sequence[Row]) -> Generator[Features, None, None]:
        (warn or say)(prefix.device_line)
        say(f"{len(plan) - len(missing)} rows are there, {len(missing)} to compute")
        with parts.timed("start"):
            runtimes.append(prefix.open(warn or say))
            decoders.append(Decoder(prefix.backbone, max_pixels=max_pixels, heard=True))
        reader = partial(view_images, files=files, root=root, backbone=prefix.backbone, decoder=decoders[0])
        blocks = _computed(missing, reader, runtimes[0], prefix.spec, workers=workers, parts=parts)
        shown = iter(progress(blocks, len(missing)))
        while True:
            with parts.timed("wait"):
                block = next(shown, None)
            if block is None:
                return
            yield block

    def made_by() -> Sequence[dict[str, Any]]:
        return (runtimes or [prefix.open()])[0].made_by

    total = len(plan) * prefix.spec.row_bytes
    with sole_writer(out):
        shape = "x".join(str(n) for n in prefix.spec.shape)
        say(f"{len(plan)} rows of {shape} {prefix.spec.dtype}: {human_bytes(total)} on disk")
        reserve, started = partial(_refuse_small_disk, out), time.perf_counter()
        reused, computed = shard_set.build(out, goal, compute, made_by=made_by, reserve=reserve, finite=True)
        seconds = {"start": 0.0} | parts.seconds
        waited = seconds.pop("wait", 0.0)
        seconds["work"] = time.perf_counter() - started - seconds["start"]
        seconds["write"] = seconds["work"] - waited
    for line in filter(None, (decoder.fallbacks() for decoder in decoders)):
        (warn or say)(line)
    return ExtractionSummary(len(plan), reused, computed, total, seconds)


def image_files(images: pd.DataFrame) -> Files:
    """Where the bytes of each image of images.csv are, and of each fake of with_synthesised."""
    sources = images["source"] if "source" in images else itertools.repeat("")
    return {i: (path, source) for i, path, source in zip(images["image_id"], images["path"], sources)}


def compute_rows(
    rows: Sequence[Row],
    files: Files,
    *,
    root: Path,
    prefix: Extractor,
    workers: int | None,
    max_pixels: int,
    say: Say = lambda line: None,
) -> Iterator[Features]:
    """Features of `rows` in their order, a block per task; each image is decoded once for all its views.

    `say` is told as that of `extract`.
    """
    decoder = Decoder(prefix.backbone, max_pixels=max_pixels, heard=True)
    reader = partial(view_images, files=files, root=root, backbone=prefix.backbone, decoder=decoder)
    yield from _computed(rows, reader, prefix.open(say), prefix.spec, workers=workers)
    if line := decoder.fallbacks():
        say(line)


def _computed(
    rows: Sequence[Row],
    reader: Callable[..., npt.NDArray[np.uint8]],
    runtime: Runtime,
    spec: FeatureSpec,
    *,
    workers: int | None,
    parts: PartTimer | None = None,
) -> Iterator[Features]:
    """Workers read, render and run the prefix; what they are ahead of the consumer is bounded in bytes."""

    def mapper(task: Sequence[Row]) -> Features:
        images = reader(task, parts=parts)
        # An overflow becomes infinite and is refused, with its image.
        with np.errstate(over="ignore"), parts.timed("prefix") if parts else nullcontext():
            features = runtime.run(images).astype(spec.reads_as, copy=False)
        refuse_nonfinite(features, task)
        return features

    size = max(runtime.batch, 8)
    task_bytes = size * (spec.row_bytes + 3 * spec.image_size**2)
    spare = _SPARE_BYTES // (size * spec.row_bytes)
    return run_tasks(mapper, _tasks(rows, size), workers=workers, task_bytes=task_bytes, spare=spare)


def view_images(
    rows: Sequence[Row],
    files: Files,
    *,
    root: Path,
    backbone: Backbone,
    decoder: Decoder,
    parts: PartTimer | None = None,
) -> npt.NDArray[np.uint8]:
    """(N, S, S, 3) uint8 views of `rows`; consecutive rows of one image decode it once.

    Raises InputError when a file is no longer the one that was ingested.
    """
    b, parts = backbone, parts or PartTimer()

    def read_same(path: str, image_id: str) -> bytes:
        data = read_bytes(root, path)
        if hashlib.sha256(data).hexdigest() != image_id:
            raise UnreadableImage("changed since it was ingested: run ingest again")
        return data

    images = [(image_id, list(own)) for image_id, own in itertools.groupby(rows, key=lambda row: row[0])]
    places = [files[image_id] for image_id, _ in images]
    named = ((path, partial(read_same, path, source or i)) for (i, _), (path, source) in zip(images, places))
    decoded = decoder(named)
    views = []
    for (image_id, own), (path, source) in zip(images, places, strict=True):
        with parts.timed("decode"):
            image = next(decoded)
        if isinstance(image, UnreadableImage):
            raise InputError(f"{root / path}: {image}") from image
        with parts.timed("views"):
            image = synthesise(image, image_id) if source else image
            for _, view in own:
                shown = render(
                    image, image_id=image_id, view=view, size=b.image_size, policy=b.view_policy, seed=b.view_seed
                )
                views.append(to_array(shown))
    return np.stack(views)


def embed(
    images: pd.DataFrame,
    *,
    root: Path,
    prefix: Extractor,
    max_pixels: int,
    progress: Progress = lambda b, t: b,
    say: Say = lambda line: None,
) -> npt.NDArray[np.float32]:
    """(N, C) features of view 0 in the order of `images`, averaged over the map (C, H, W) or the tokens (L, C)."""
    say(prefix.device_line)
    rows = [(i, 0) for i in images["image_id"]]
    blocks = compute_rows(
        rows, image_files(images), root=root, prefix=prefix, workers=None, max_pixels=max_pixels, say=say
    )
    axes = {3: (2, 3), 2: (1,)}.get(len(prefix.spec.shape), ())
    return np.concatenate([block.astype(np.float32).mean(axis=axes) for block in progress(blocks, len(rows))])


def _tasks(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """Runs of at most `size` rows that keep an image's views together, of more where one image has more."""
    task: list[Row] = []
    for _, views in itertools.groupby(rows, key=lambda row: row[0]):
        own = list(views)
        if task and len(task) + len(own) > size:
            yield task
            task = []
        task += own
    if task:
        yield task


def _refuse_small_disk(out: Path, needed: int) -> None:
    """The old generation stays until the new one is whole, so all that is yet to be written must fit beside."""
    out.parent.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(out.parent).free
    if needed > free:
        raise FfdiError(f"{out}: needs {human_bytes(needed)}, the disk has {human_bytes(free)} free")
