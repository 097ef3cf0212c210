"""Read the data set: every image decoded, identified, hashed, or rejected with a reason."""

from functools import partial
from pathlib import Path

import click

from ffdi.errors import InputError
from ffdi.params import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console, say


@stage_command()
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--root", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("data/images.csv"))
@click.option("--rejected", type=click.Path(path_type=Path), default=Path("data/rejected.csv"))
@click.option("--skipped", type=click.Path(path_type=Path), help="[default: skipped.csv beside --out]")
def main(params_file: Path, root: Path | None, out: Path, rejected: Path, skipped: Path | None) -> None:
    """Read the data set: every image decoded, identified, hashed, or rejected with a reason."""
    params = read_params(params_file)
    from ffdi.intake.ingest import ConflictError, ingest
    from ffdi.intake.listing.labels import class_lines
    from ffdi.intake.listing.layouts import read_layout
    from ffdi.intake.listing.walk import NOT_LISTED, passed_over
    from ffdi.intake.tables import skipped_table, write_table

    data, root = params.data, params.root(root)
    listing = read_layout(root, data.as_layout())
    for line in listing.said:
        say(f"ingest: {line}")
    write_table(skipped or out.with_name("skipped.csv"), skipped_table(listing.skipped))
    try:
        intake = ingest(
            listing.rows,
            root,
            max_pixels=data.max_pixels,
            max_rejected=data.max_rejected,
            closest=listing.names.closest,
            progress=partial(console("ingest").progress, total=len(listing.rows)),
        )
    except ConflictError as error:
        write_table(rejected, error.listed)
        raise InputError(f"{error}; all are in {rejected}") from None
    write_table(out, intake.images)
    write_table(rejected, intake.rejected)
    unlisted = sum(reason.startswith(NOT_LISTED) for _, reason in listing.skipped)
    over = ", ".join(passed_over(listing.skipped))
    fakes = int(intake.images["label"].sum())
    say(
        f"ingest: {len(intake.images)} images ({fakes} fake), {intake.duplicates} listed twice and merged, "
        f"{len(intake.rejected)} rejected, {unlisted} on disk but not listed"
        + (f"; passed over: {over}" if over else "")
    )
    for line in class_lines(intake.images, listing.called):
        say(f"ingest: {line}")


if __name__ == "__main__":
    main()
