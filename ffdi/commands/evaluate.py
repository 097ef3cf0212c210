"""ffdi evaluate: a model on another data set."""

from __future__ import annotations

from pathlib import Path

import click

from ffdi.commands.scoring import (
    PHASH_BITS,
    RESAMPLES,
    UNIT,
    UNIT_SCORE,
    refuse_no_model,
    scoring_options,
    unit_rule,
)
from ffdi.errors import InputError
from ffdi.stagekit.command import OneLineErrors
from ffdi.stagekit.console import console, say
from ffdi.stagekit.local_path import LocalPath
from ffdi.stagekit.options import place


@click.command(
    cls=OneLineErrors,
    short_help="a model on another data set",
    epilog="ffdi evaluate --model data/models/NAME --images other/images.csv --root other/",
)
@click.option("--images", "images_file", required=True, type=LocalPath(), help="an images.csv")
@click.option("--folds", "folds_file", type=LocalPath(), help="its folds.csv: judge its test rows alone")
@click.option("--root", required=True, type=place, help="the folder or URL that its paths start from")
@click.option("--name", help="what to call this data set  [default: the name of --root]")
@click.option("--out", type=LocalPath(dir_okay=False), help="[default: metrics/cross/MODEL-on-NAME.json]")
@UNIT
@UNIT_SCORE
@PHASH_BITS
@RESAMPLES
@click.option("--seed", default=0, show_default=True, help="of the resampling")
@scoring_options
def evaluate(
    images_file: Path,
    folds_file: Path | None,
    root: Path | str,
    name: str | None,
    out: Path | None,
    unit: str | None,
    unit_score: str | None,
    phash_bits: int,
    bootstrap: int,
    seed: int,
    model: Path,
    max_pixels: int,
) -> None:
    """Judge a model on another data set, with its frozen threshold; the report shows what metrics/cross has.

    Images that the model was trained on, and near-duplicates of them, are named and left out. With --unit the figures
    `unit_*` are of images judged together, such as those of a video.
    """
    judged_together = unit_rule(unit, unit_score)
    refuse_no_model(model)
    from ffdi.bootstrap import Bootstrap
    from ffdi.evaluation.evaluate import test_rows
    from ffdi.evaluation.headline import one_line
    from ffdi.evaluation.other_data import OtherData, evaluate_on_other_data
    from ffdi.evaluation.unit_figures import unit_line
    from ffdi.features.devices import set_up_torch
    from ffdi.files import replacing, write_json
    from ffdi.intake.tables import join, read_folds, read_images
    from ffdi.params.paths import source_at
    from ffdi.tails.ensemble import load_model

    if isinstance(root, Path) and not root.is_dir():
        raise InputError(f"--root {root}: is no folder: name the one that the paths of {images_file} start from")
    images = read_images(images_file)
    if folds_file:
        images = test_rows(join(images, read_folds(folds_file)))
    bundle, name = load_model(model), name or Path(root).resolve().name
    out = out or Path("metrics/cross") / f"{model.resolve().name}-on-{name}.json"
    with replacing(out) as temporary:  # opened first: a folder that cannot be written to is reported before any scoring
        evaluation = evaluate_on_other_data(
            bundle,
            OtherData(name, source_at(root, max_pixels), images, judged_together),
            phash_bits=phash_bits,
            bootstrap=Bootstrap(bootstrap, seed),
            device=set_up_torch(),
            console=console(f"evaluate on {name}"),
        )
        write_json(temporary, metrics := evaluation.metrics)
    for path in evaluation.seen["path"]:
        say(f"{str(path)!r}: left out: the model was trained on it or on a near-duplicate")
    for line in evaluation.lines():
        say(f"WARNING: {line}")
    say(f"{metrics['trained_on']} -> {name}: {one_line(metrics)}; {metrics['n_seen']} images left out")
    for line in (*unit_line(metrics), f"{out}"):
        say(line)
