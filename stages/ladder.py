"""Make the reproduced systems' mistakes on purpose, one more a rung, and measure each."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import click

from ffdi.errors import ParamsError
from ffdi.features.backbone import INPUT
from ffdi.params import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console, say


@stage_command()
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--root", type=click.Path(path_type=Path))
@click.option("--images", "images_file", type=click.Path(path_type=Path), default=Path("data/images.csv"))
@click.option("--folds", "folds_file", type=click.Path(path_type=Path), default=Path("data/folds.csv"))
@click.option("--weights", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), default=Path("metrics/ladder.json"))
@click.option("--details", type=click.Path(path_type=Path), help="[default: details/ beside --out]")
@click.option("--plots", type=click.Path(path_type=Path))
def main(
    params_file: Path,
    root: Path | None,
    images_file: Path,
    folds_file: Path,
    weights: Path | None,
    out: Path,
    details: Path | None,
    plots: Path | None,
) -> None:
    """Make the reproduced systems' mistakes on purpose, one more a rung, and measure each."""
    params = read_params(params_file)
    ladder = params.ladder
    recipe = params.recipe(ladder.recipe)
    backbone = params.backbone(recipe.backbone)
    if backbone.cut == INPUT:
        raise ParamsError(
            f"ladder.recipe: {ladder.recipe} has cut: input, and so no extraction to get wrong: name a recipe that has a cut"
        )

    from ffdi.bootstrap import Bootstrap
    from ffdi.evaluation.headline import of_ladder, write_metrics
    from ffdi.evaluation.ladder import RUNGS, climb
    from ffdi.features.devices import device_line, repeating, set_up_torch
    from ffdi.features.extractor import load_extractor
    from ffdi.features.weights import load_network
    from ffdi.intake.tables import join, read_folds, read_images, write_table
    from ffdi.tails.heads import TailFactory

    device = set_up_torch(params.train.device)
    weights = weights or params.weights_file(recipe.backbone)
    prefix = load_extractor(backbone, weights)
    line, own = device_line(params.train.device), prefix.device_line
    say(f"ladder: {line}" if own == line else f"ladder: {line}; extraction: {own}")
    factory = TailFactory(load_network(backbone.network, weights)[0], backbone, recipe.head, prefix.spec.shape)
    with repeating(params.train.deterministic):
        metrics, plot = climb(
            join(read_images(images_file), read_folds(folds_file)),
            root=params.root(root),
            prefix=prefix,
            fresh_tail=factory.fresh,
            recipe=replace(recipe, epochs=ladder.epochs or recipe.epochs),
            folds=ladder.folds,
            seeds=ladder.seeds,
            bootstrap=Bootstrap(params.evaluate.bootstrap, recipe.seed),
            max_pixels=params.data.max_pixels,
            device=device,
            progress=partial(console("ladder").progress, unit="views"),
            say=lambda line: say(f"ladder: {line}"),
        )
    write_metrics(metrics, out, details, headline=of_ladder)
    if plots:
        write_table(plots / "ladder.csv", plot)
    for number, name in enumerate(RUNGS):
        reported, true = metrics[f"rung_{number}_reported_auc"], metrics[f"rung_{number}_true_auc"]
        shown = [f"{value:.3f}" if isinstance(value, float) else "none" for value in (reported, true)]
        say(f"ladder {number}: reported AUC {shown[0]}, true {shown[1]}: {name}")


if __name__ == "__main__":
    main()
