"""ffdi shards: look into cached features."""

from __future__ import annotations

from pathlib import Path

import click

from ffdi.stagekit.command import CommandGroup, OneLineErrors
from ffdi.stagekit.local_path import LocalPath


@click.group(
    cls=CommandGroup,
    short_help="what a folder of cached features holds",
    epilog="ffdi shards ls data/features/NAME\nffdi shards verify s3://bucket/features/NAME",
)
def shards() -> None:
    """Look into a folder of cached features, or at a URL."""


@shards.command(cls=OneLineErrors, epilog="ffdi shards ls data/features/NAME")
@click.argument("folder")
def ls(folder: str) -> None:
    """Print what the shards of FOLDER, which may be a URL, hold."""
    from ffdi.features.stored_set import read_set
    from ffdi.files import human_bytes

    stored = read_set(folder)
    index, spec = stored.index, stored.index.spec
    shape = "x".join(str(n) for n in spec.shape)
    click.echo(
        f"{spec.network} cut at {spec.cut}, {index.provenance['weights']}: {index.rows} rows of {shape} {spec.dtype}, "
        f"compression {index.compression}, fingerprint {spec.fingerprint[:12]}"
    )
    for maker in index.made_by:
        click.echo("made by " + ", ".join(f"{key} {value}" for key, value in maker.items()))
    if stored.remote:
        click.echo(f"at {stored.remote.url}")
    for entry, size in zip(index.shards, stored.sizes(), strict=True):
        found = "missing" if size is None else human_bytes(size)
        click.echo(f"{entry['name']}  {entry['rows']} rows  {found}  sha256 {entry['sha256']}")


@shards.command(cls=OneLineErrors, epilog="ffdi shards export data/features/NAME npz/")
@click.argument("folder")
@click.argument("out", type=LocalPath())
def export(folder: str, out: Path) -> None:
    """Write each shard of FOLDER as an npz file in OUT: features, image_id and view."""
    from ffdi.features.shard_dataset import export_npz

    for file in export_npz(folder, out):
        click.echo(file)


@shards.command(cls=OneLineErrors, epilog="ffdi shards verify data/features/NAME")
@click.argument("folder")
def verify(folder: str) -> None:
    """Check every shard of FOLDER against its schema and the index's hashes. Shards at a URL are downloaded for that."""
    from ffdi.features.store import FeatureStore

    store = FeatureStore(folder)
    store.verify_bytes()
    click.echo(f"{folder}: {len(store)} rows in {len(store.index.shards)} shards are whole")
