"""ffdi shards: look into cached features."""

from __future__ import annotations

from pathlib import Path

import click

from ffdi.stagekit.command import CommandGroup, OneLineErrors


@click.group(
    cls=CommandGroup,
    short_help="what a folder of cached features holds",
    epilog="ffdi shards ls data/features/NAME\nffdi shards verify data/features/NAME",
)
def shards() -> None:
    """Look into a folder of cached features."""


@shards.command(cls=OneLineErrors, epilog="ffdi shards ls data/features/NAME")
@click.argument("folder", type=click.Path(path_type=Path))
def ls(folder: Path) -> None:
    """Print what the shards of FOLDER hold."""
    from ffdi.features.shard_index import read_index
    from ffdi.files import human_bytes

    index = read_index(folder)
    spec = index.spec
    shape = "x".join(str(n) for n in spec.shape)
    click.echo(
        f"{spec.network} cut at {spec.cut}, {index.provenance['weights']}: {index.rows} rows of {shape} {spec.dtype}, "
        f"compression {index.compression}, fingerprint {spec.fingerprint[:12]}"
    )
    for maker in index.made_by:
        click.echo("made by " + ", ".join(f"{key} {value}" for key, value in maker.items()))
    for entry in index.shards:
        file = folder / entry["name"]
        size = human_bytes(file.stat().st_size) if file.exists() else "missing"
        click.echo(f"{entry['name']}  {entry['rows']} rows  {size}  sha256 {entry['sha256']}")


@shards.command(cls=OneLineErrors, epilog="ffdi shards export data/features/NAME npz/")
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("out", type=click.Path(path_type=Path))
def export(folder: Path, out: Path) -> None:
    """Write each shard of FOLDER as an npz file in OUT: features, image_id and view."""
    from ffdi.features.shard_dataset import export_npz

    for file in export_npz(folder, out):
        click.echo(file)


@shards.command(cls=OneLineErrors, epilog="ffdi shards verify data/features/NAME")
@click.argument("folder", type=click.Path(path_type=Path))
def verify(folder: Path) -> None:
    """Check every shard of FOLDER against its schema and the index's hashes."""
    from ffdi.features.store import FeatureStore

    store = FeatureStore(folder)
    click.echo(f"{folder}: {len(store)} rows in {len(store.index.shards)} shards are whole")
