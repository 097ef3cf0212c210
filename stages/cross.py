"""Judge trained recipes on other data sets."""

from pathlib import Path

import click

from ffdi.params.paths import unpacked_root
from ffdi.params.reading import read_params
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

    from ffdi.bootstrap import Bootstrap
    from ffdi.evaluation.below_chance import explain
    from ffdi.evaluation.headline import of_pairs, one_line, write_metrics
    from ffdi.evaluation.other_data import evaluate_on_other_data, other_data_metrics
    from ffdi.features.devices import device_line, set_up_torch
    from ffdi.files import replacing_folder, write_json
    from ffdi.intake.decoding.images import ImageSource
    from ffdi.intake.ingest import IntakeFiles, ingest_data_set
    from ffdi.intake.tables import write_table
    from ffdi.tails.bundle import load_bundle

    device = set_up_torch(params.train.device)
    say(f"cross: {device_line(params.train.device)}")
    found = []
    with replacing_folder(folder) as made:
        for name, data in params.evaluate.cross.items():
            root = unpacked_root(data)
            files = IntakeFiles(*(made / f"{name}-{table}.csv" for table in ("images", "rejected", "skipped")))
            reporter = console(f"cross: {name}", bar=f"ingest {name}")
            ingested = ingest_data_set(ImageSource(root, data.max_pixels), data, files, reporter)
            for line in ingested.class_lines():
                reporter.say(line)
            for recipe in data.recipes:
                away = evaluate_on_other_data(
                    load_bundle(models / recipe),
                    ingested.intake.images,
                    ImageSource(root, data.max_pixels),
                    tested_on=name,
                    phash_bits=params.audit.phash_bits,
                    bootstrap=Bootstrap(params.evaluate.bootstrap, params.seed),
                    device=device,
                    console=console("cross", bar=f"{recipe} on {name}"),
                )
                write_json(made / f"{recipe}-on-{name}.json", away.metrics)
                write_table(made / f"{recipe}-on-{name}-scores.csv", away.scores)
                write_table(made / f"{recipe}-on-{name}-seen.csv", away.seen[["image_id", "path"]])
                found.append(away.metrics)
                for line in explain(away.metrics):
                    say(f"cross {recipe}: WARNING: {line}")
                left_out = f"{len(away.seen)} known from the training and left out"
                say(f"cross {recipe} on {name}: {one_line(away.metrics)}; {left_out}")
    write_metrics(other_data_metrics(found), out, details, headline=of_pairs)


if __name__ == "__main__":
    main()
