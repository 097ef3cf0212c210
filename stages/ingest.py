"""Read the data set: every image decoded, identified, hashed, or rejected with a reason."""

from functools import partial
from pathlib import Path

import click

from ffdi.cli import bar, say, stage_command
from ffdi.errors import InputError
from ffdi.params import read_params


@stage_command
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--root", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/images.csv"))
@click.option("--rejected", type=click.Path(path_type=Path), default=Path("data/rejected.csv"))
def main(params_file: Path, root: Path | None, out: Path, rejected: Path) -> None:
    """Read the data set: every image decoded, identified, hashed, or rejected with a reason."""
    params = read_params(params_file)
    from ffdi.intake.ingest import ConflictError, ingest
    from ffdi.intake.layouts import read_layout
    from ffdi.intake.tables import write_table

    data, root = params.data, params.root(root)
    listing = read_layout(root, data.as_layout())
    for line in listing.said:
        say(f"ingest: {line}")
    progress = partial(bar("ingest"), total=len(listing.rows))
    limits = {"max_pixels": data.max_pixels, "max_rejected": data.max_rejected}
    try:
        intake = ingest(listing.rows, root, **limits, progress=progress)
    except ConflictError as error:
        write_table(rejected, error.listed)
        raise InputError(f"{error}; all are in {rejected}") from None
    write_table(out, intake.images)
    write_table(rejected, intake.rejected)
    fakes = int(intake.images["label"].sum())
    say(
        f"ingest: {len(intake.images)} images ({fakes} fake), {intake.duplicates} listed twice and merged, "
        f"{len(intake.rejected)} rejected, {len(listing.skipped)} on disk but not listed"
    )


if __name__ == "__main__":
    main()
