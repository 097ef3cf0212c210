"""Tables of many rows: seconds and memory of listing, merging, split, task planning and audit, in all and a row.

    python bench/tables.py [--rows 100000 --rows 1000000 --rows 10000000] [--step split] [--out FOLDER]

Makes a seeded table of images (groups of 1 to 30, near-duplicates inside and across groups, files that are listed twice,
images without a group) and runs each step in a process of its own. No image is there, so nothing is decoded: what a file
would say of itself comes from the generator. Memory is the peak of the process above what it held once all was imported;
processor seconds are those of all threads, which other work on the machine changes least.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from unittest import mock

import click
import numpy as np
import numpy.typing as npt

from ffdi.features.extract import plan_rows
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.shard_set import Goal, ShardSet
from ffdi.files import sha256_file
from ffdi.intake import ingest
from ffdi.intake.auditing.findings import findings_table
from ffdi.intake.auditing.leaks import find_leaks
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.listing import layouts
from ffdi.intake.listing.walk import Tree
from ffdi.intake.settings import AuditSettings, DataSettings, SplitSettings
from ffdi.intake.splitting.split import split_images
from ffdi.intake.tables import join, read_folds, read_images, skipped_table, write_table

SIZES = (100_000, 1_000_000, 10_000_000)
TABLE, IMAGES, FOLDS, FINDINGS = "labels.csv", "images.csv", "folds.csv", "audit_findings.csv"
SPEC = FeatureSpec("bench", "torchvision:x", "layer4", "ab" * 32, 64, (2, 2, 2), "float16", {"mean": [0.5]})
SHARD_ROWS, VIEWS = 4096, 1
_CHUNK = 1 << 16  # rows that are made at a time
Hashes = npt.NDArray[np.uint64]


def rows_of(count: int, seed: int = 0) -> Iterator[tuple[str, int, str, str, bytes, bytes]]:
    """(path, label, group, generator, 32 bytes of the image_id, 16 of the pHash) of `count` rows, chunk by chunk alike.

    Of 100 rows one has no group, five are near-duplicates of an earlier row of their chunk, most of their own group, and
    one of 1000 is a second path of an earlier row.
    """
    for chunk, start in enumerate(range(0, count, _CHUNK)):
        rng, size = np.random.default_rng([seed, chunk]), min(_CHUNK, count - start)
        group = np.repeat(np.arange(size), rng.integers(1, 30, size))[:size]
        label, generator = rng.integers(0, 2, size), rng.integers(0, 8, size)
        identity = rng.integers(0, 256, (size, 32), np.uint8)
        phash = rng.integers(0, 2**64, (size, 2), np.uint64)
        near = np.flatnonzero(rng.random(size) < 0.05)[1:]
        source = np.where(rng.random(len(near)) < 0.9, near - 1, rng.integers(0, near))
        phash[near] = phash[source] ^ flips(rng, len(near), 3)[:, None]
        twins = np.flatnonzero(rng.random(size) < 0.001)[1:]
        for values in (identity, phash, label, group):
            values[twins] = values[twins - 1]
        alone = rng.random(size) < 0.01
        for row in range(size):
            path = f"part-{chunk:03d}/video-{group[row]:05d}/frame-{row:05d}.jpg"
            name = "" if alone[row] else f"person-{chunk:03d}-{group[row]:05d}"
            fake = f"generator-{generator[row]}" if label[row] else ""
            yield path, int(label[row]), name, fake, identity[row].tobytes(), phash[row].astype(">u8").tobytes()


def flips(rng: np.random.Generator, count: int, most: int) -> Hashes:
    """(count,) with 0 to `most` bits set."""
    bits = np.uint64(1) << rng.integers(0, 64, (count, most), np.uint64)
    kept = np.arange(most) < rng.integers(0, most + 1, count)[:, None]
    return np.asarray(np.bitwise_or.reduce(np.where(kept, bits, np.uint64(0)), axis=1))


def make_table(folder: Path, count: int) -> None:
    """labels.csv of `count` rows, and beside it what the files would say of themselves: 48 bytes a row."""
    with open(folder / TABLE, "w", encoding="utf-8") as table, open(folder / "described", "wb") as described:
        table.write("path,label,group,generator\n")
        for path, label, group, generator, identity, phash in rows_of(count):
            table.write(f"{path},{label},{group},{generator}\n")
            described.write(identity + phash)
    (folder / "there").mkdir(exist_ok=True)


def run_ingest(folder: Path) -> None:
    """List the table's images and merge them to images.csv; reading and decoding are left out."""
    with open(folder / TABLE, encoding="utf-8") as table:
        next(table)
        tree = Tree([line.partition(",")[0] for line in table], [], {})
    data = DataSettings(root="there", layout="csv", table=f"../{TABLE}")
    with mock.patch.object(layouts, "walk", return_value=tree):
        listing = layouts.read_layout(folder / "there", replace(data))
    described = np.fromfile(folder / "described", np.uint8).reshape(-1, 48)

    def describe() -> Iterator[ingest._Description]:
        for start in range(0, len(described), _CHUNK):
            digits = described[start : start + _CHUNK].tobytes().hex()
            for at in range(0, len(digits), 96):
                yield ingest._Description(digits[at : at + 64], 256, 256, "JPEG", digits[at + 64 : at + 96])

    with mock.patch.object(ingest, "ordered_map", return_value=describe()):
        intake = ingest.ingest(listing.rows, ImageSource(folder / "there", 1 << 26))
    write_table(folder / IMAGES, intake.images)
    write_table(folder / "skipped.csv", skipped_table(listing.skipped))


def run_split(folder: Path) -> None:
    """Draw the test set and the folds, by groups and pHash."""
    settings = SplitSettings(find_copies=False)
    images = read_images(folder / IMAGES)
    split = split_images(images, ImageSource(folder, 1), settings, lambda images: np.empty(0))
    write_table(folder / FOLDS, split.folds)


def run_plan(folder: Path) -> None:
    """Plan the shards of an extraction from nothing."""
    rows = join(read_images(folder / IMAGES), read_folds(folder / FOLDS))
    planned = plan_rows(rows["image_id"], rows["role"], VIEWS)
    with tempfile.TemporaryDirectory() as out:
        plan = ShardSet(Path(out), Goal(SPEC, planned, SHARD_ROWS, {})).plan()
    assert plan is not None
    assert len(plan.missing) == len(planned)


def run_audit(folder: Path) -> None:
    """Search the split for groups, exact duplicates and similar pHashes on two sides."""
    rows = join(read_images(folder / IMAGES), read_folds(folder / FOLDS))
    settings = AuditSettings(find_copies=False)
    write_table(folder / FINDINGS, findings_table(find_leaks(rows, settings)))


STEPS: dict[str, tuple[Callable[[Path], None], str]] = {
    "ingest": (run_ingest, IMAGES),
    "split": (run_split, FOLDS),
    "plan": (run_plan, ""),
    "audit": (run_audit, FINDINGS),
}


def peak() -> int:
    """Bytes of memory that this process has held at most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def measure(step: str, folder: Path) -> None:
    """Run a step here and print its figures as JSON."""
    import scipy.sparse.csgraph  # noqa: F401 - the libraries' own memory is not a row's
    import sklearn.model_selection  # noqa: F401

    run, written = STEPS[step]
    before, started, busy = peak(), time.perf_counter(), time.process_time()
    run(folder)
    seconds, busy = time.perf_counter() - started, time.process_time() - busy
    digest = sha256_file(folder / written)[:12] if written else ""
    print(json.dumps({"seconds": seconds, "busy": busy, "memory": peak() - before, "peak": peak(), "sha256": digest}))


@contextmanager
def working_folder(out: Path | None) -> Iterator[Path]:
    """`out`, or a folder that is deleted."""
    if out:
        out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@click.command(help=__doc__)
@click.option("--rows", "sizes", type=int, multiple=True, default=SIZES, help="May be repeated.")
@click.option("--step", "steps", type=click.Choice(list(STEPS)), multiple=True, default=tuple(STEPS))
@click.option("--out", type=click.Path(path_type=Path), help="Keep the tables there; those that are there are used.")
@click.option("--measure", "here", hidden=True, help="Run one step in this process.")
def main(sizes: tuple[int, ...], steps: tuple[str, ...], out: Path | None, here: str | None) -> None:
    if here:
        assert out is not None
        return measure(here, out)
    print(
        "| step | rows | seconds | processor seconds | of these microseconds a row | memory, MB | bytes a row | sha256 of the table |"
    )
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |", flush=True)
    with working_folder(out) as base:
        for count in sizes:
            folder = base / str(count)
            folder.mkdir(exist_ok=True)
            if not (folder / TABLE).exists():
                make_table(folder, count)
            for step in steps:
                command = [sys.executable, __file__, "--measure", step, "--out", str(folder)]
                run = subprocess.run(
                    command, check=True, stdout=subprocess.PIPE, env=os.environ | {"MALLOC_ARENA_MAX": "2"}
                )
                found = json.loads(run.stdout.splitlines()[-1])
                print(
                    f"| {step} | {count} | {found['seconds']:.1f} | {found['busy']:.1f} | "
                    f"{found['busy'] / count * 1e6:.2f} | "
                    f"{found['memory'] / 1e6:.0f} | {found['memory'] / count:.0f} | {found['sha256']} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
