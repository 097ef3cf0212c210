"""Judge trained recipes on other data sets."""

from functools import partial
from pathlib import Path

import click

from ffdi.params import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console, say


@stage_command()
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--models", type=click.Path(path_type=Path), default=Path("data/models"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("metrics/cross.json"))
@click.option("--details", type=click.Path(path_type=Path), help="[default: details/ beside --out]")
@click.option("--folder", type=click.Path(path_type=Path), default=Path("data/cross"))
def main(params_file: Path, models: Path, out: Path, details: Path | None, folder: Path) -> None:
    """Judge trained recipes on other data sets."""
    params = read_params(params_file)

    from ffdi.evaluation.below_chance import explain
    from ffdi.evaluation.cross import cross_evaluate, cross_metrics
    from ffdi.evaluation.headline import of_pairs, one_line, write_metrics
    from ffdi.features.devices import device_line, set_up_torch
    from ffdi.files import replacing_folder, write_json
    from ffdi.intake.ingest import ingest
    from ffdi.intake.listing.labels import class_lines
    from ffdi.intake.listing.layouts import read_layout
    from ffdi.intake.tables import skipped_table, write_table
    from ffdi.tails.bundle import load_bundle

    device = set_up_torch(params.train.device)
    say(f"cross: {device_line(params.train.device)}")
    found = []
    with replacing_folder(folder) as made:
        for name, data in params.evaluate.cross.items():
            root = data.folder()
            listing = read_layout(root, data.as_layout())
            intake = ingest(
                listing.rows,
                root,
                max_pixels=data.max_pixels,
                max_rejected=data.max_rejected,
                closest=listing.names.closest,
                progress=partial(console(f"ingest {name}").progress, total=len(listing.rows)),
            )
            write_table(made / f"{name}-images.csv", intake.images)
            write_table(made / f"{name}-rejected.csv", intake.rejected)
            write_table(made / f"{name}-skipped.csv", skipped_table(listing.skipped))
            for line in (*listing.said, *class_lines(intake.images, listing.called)):
                say(f"cross: {name}: {line}")
            for recipe in data.recipes:
                away = cross_evaluate(
                    load_bundle(models / recipe),
                    intake.images,
                    root=root,
                    tested_on=name,
                    phash_bits=params.audit.phash_bits,
                    resamples=params.evaluate.bootstrap,
                    seed=params.seed,
                    max_pixels=data.max_pixels,
                    device=device,
                    progress=console(f"{recipe} on {name}").progress,
                    say=lambda line: say(f"cross: {line}"),
                )
                write_json(made / f"{recipe}-on-{name}.json", away.metrics)
                write_table(made / f"{recipe}-on-{name}-scores.csv", away.scores)
                write_table(made / f"{recipe}-on-{name}-seen.csv", away.seen[["image_id", "path"]])
                found.append(away.metrics)
                for line in explain(away.metrics):
                    say(f"cross {recipe}: WARNING: {line}")
                left_out = f"{len(away.seen)} known from the training and left out"
                say(f"cross {recipe} on {name}: {one_line(away.metrics)}; {left_out}")
    write_metrics(cross_metrics(found), out, details, headline=of_pairs)


if __name__ == "__main__":
    main()
