"""What bench/scale.py simulates with: seconds of each part of an extraction, measured on one core of this machine.

Core seconds are those of the processor's clock, so that other work on the machine does not count; the disk's are those
of the wall, the least of several.
"""

from __future__ import annotations

import io
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from ffdi.features.extract import plan_rows
from ffdi.features.extractor import Extractor, load_extractor
from ffdi.features.feature_spec import Row
from ffdi.features.image_views import ImageFile, ImageFiles, ViewReader, locate_images
from ffdi.features.shard_set import Goal, ShardSet
from ffdi.features.shards import write_shard
from ffdi.files import sha256_file, synced
from ffdi.intake.decoding.images import ImageSource
from ffdi.params.reading import read_params

MAX_PIXELS = 50_000_000
LARGE = 1024  # pixels of a side


@dataclass(frozen=True)
class Lab:
    """The demo's images and a backbone of params.yaml with its weights."""

    params: Path
    images: Path
    root: Path
    weights: Path

    def extractor(self, backbone: str, views: int) -> Extractor:
        """A backbone with another number of augmented views, run here."""
        chosen = read_params(self.params).backbone(backbone)
        chosen = replace(chosen, views=replace(chosen.views, count=views))
        return load_extractor(chosen, self.weights / f"{backbone}.safetensors")

    def table(self) -> pd.DataFrame:
        return pd.read_csv(self.images, dtype={"image_id": str}, keep_default_na=False)

    def files(self) -> ImageFiles:
        return locate_images(self.table(), ImageSource(self.root, MAX_PIXELS))


def core_seconds(work: Callable[[], object]) -> float:
    """Seconds of processors."""
    started = time.process_time()
    work()
    return time.process_time() - started


def wall_seconds(work: Callable[[], object]) -> float:
    """Seconds by the clock."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def decode_and_view(lab: Lab, backbone: str, ids: Sequence[str]) -> tuple[float, float]:
    """Core seconds of an image and of a further row: reading and decoding; rendering."""
    extractor, files = lab.extractor(backbone, 2), lab.files()
    read = ViewReader(files, extractor.backbone)

    def seconds(views: range) -> float:
        return core_seconds(lambda: [read([(one, view) for view in views]) for one in ids]) / len(ids)

    seconds(range(1))  # warm
    pairs = [(seconds(range(1)), seconds(range(3))) for _ in range(3)]
    one, three = (statistics.median(side) for side in zip(*pairs, strict=True))
    return one, max(0.0, (three - one) / 2)


def prefix_seconds(lab: Lab, backbone: str, rows: int) -> float:
    """Core seconds of a row through the prefix."""
    extractor = lab.extractor(backbone, 2)
    runtime = extractor.open()
    size = extractor.backbone.pixels.size
    pixels = np.random.default_rng(0).integers(0, 256, (8, size, size, 3), np.uint8)
    runtime.run(pixels)
    each = [core_seconds(lambda: runtime.run(pixels)) / 8 for _ in range(rows // 8)]
    return statistics.median(each)


def decode_large(lab: Lab, backbone: str, ids: Sequence[str]) -> tuple[float, float]:
    """Core seconds and bytes of an image of LARGE pixels a side: the demo's, enlarged, with noise, JPEG quality 90."""
    files, extractor = lab.files(), lab.extractor(backbone, 0)
    with tempfile.TemporaryDirectory() as folder:
        named = dict[str, ImageFile]()
        for number, one in enumerate(ids):
            data = _enlarged(lab.root / files.files[one].path, number)
            file = Path(folder) / f"{number}.jpg"
            file.write_bytes(data)
            named[sha256_file(file)] = ImageFile(file.name, "")
        read = ViewReader(ImageFiles(ImageSource(Path(folder), MAX_PIXELS), named), extractor.backbone)
        seconds = statistics.median(core_seconds(lambda: [read([(one, 0)]) for one in named]) for _ in range(3))
        size = sum(file.stat().st_size for file in Path(folder).iterdir())
    return seconds / len(named), size / len(named)


def _enlarged(file: Path, seed: int) -> bytes:
    with Image.open(file) as image:
        large = np.asarray(image.convert("RGB").resize((LARGE, LARGE), Image.Resampling.BICUBIC), np.float32)
    noisy = large + np.random.default_rng(seed).normal(0, 4, large.shape)
    buffer = io.BytesIO()
    Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def write_and_seal(lab: Lab, backbone: str, rows: int) -> tuple[float, float]:
    """Seconds a byte of a shard: written; synced, hashed and read once more, as for an upload."""
    spec = lab.extractor(backbone, 0).spec
    block = np.random.default_rng(0).normal(size=(64, *spec.shape)).astype(spec.dtype)
    keys: list[Row] = [(f"{number:064x}", 0) for number in range(rows)]
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "shard-00000.h5"

        def write() -> None:
            write_shard(file, spec, keys, (block[: min(64, rows - at)] for at in range(0, rows, 64)), checked=True)

        def seal() -> None:
            sha256_file(synced(file))
            file.read_bytes()

        times = [(wall_seconds(write), wall_seconds(seal)) for _ in range(3)]
    size = rows * spec.row_bytes
    return min(written for written, _ in times) / size, min(sealed for _, sealed in times) / size


def plan_seconds(lab: Lab, backbone: str, images: int) -> float:
    """Seconds a row of the driver's plan: rows listed, cut into tasks, and the tasks' missing rows."""
    extractor = lab.extractor(backbone, 2)
    ids = [f"{number:064x}" for number in range(images)]

    def plan() -> None:
        with tempfile.TemporaryDirectory() as folder:
            rows = plan_rows(ids, ["train"] * images, 2)
            planned = ShardSet(Path(folder), Goal(extractor.spec, rows, 4096, {})).plan()
            assert planned is not None and len(planned.missing) == len(rows)

    return min(wall_seconds(plan) for _ in range(2)) / (3 * images)


def measured(lab: Lab, rows_timed: Mapping[str, int], images: int) -> dict[str, dict[str, float]]:
    """Of each backbone in `rows_timed` the seconds of its parts, over so many rows, and what `images` images take."""
    ids = lab.table()["image_id"].tolist()[:images]
    found: dict[str, dict[str, float]] = {}
    for name, rows in rows_timed.items():
        decode, view = decode_and_view(lab, name, ids)
        prefix = prefix_seconds(lab, name, rows)
        write, seal = write_and_seal(lab, name, 512)
        found[name] = {"decode": decode, "view": view, "prefix": prefix, "write": write, "seal": seal}
    first = next(iter(rows_timed))
    large, large_bytes = decode_large(lab, first, ids[: images // 4])
    files = lab.files().files
    size = statistics.mean((lab.root / files[one].path).stat().st_size for one in ids)
    plan = plan_seconds(lab, first, 1000 * images)
    return found | {"images": {"bytes": size, "large_decode": large, "large_bytes": large_bytes, "plan": plan}}
