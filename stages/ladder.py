"""Make the reproduced systems' mistakes on purpose, one more a rung, and measure each."""

from pathlib import Path

from ffdi.errors import ParamsError
from ffdi.params.paths import image_source, weights_file
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console, say
from ffdi.stagekit.options import DETAILS, FOLDS, IMAGES, PARAMS, ROOT, WEIGHTS, path


@stage_command(
    *(PARAMS, ROOT, IMAGES, FOLDS, WEIGHTS, path("--out", default="metrics/ladder.json"), DETAILS, path("--plots"))
)
def main(
    params_file: Path,
    root: Path | str | None,
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
    if not backbone.has_prefix:
        reason = "has cut: input, and so no extraction to get wrong: name a recipe that has a cut"
        raise ParamsError(f"ladder.recipe: {ladder.recipe} {reason}")
    from ffdi.bootstrap import Bootstrap
    from ffdi.evaluation.experiment import LoadedRecipe
    from ffdi.evaluation.headline import of_ladder, write_metrics
    from ffdi.evaluation.ladder import climb_ladder
    from ffdi.evaluation.ladder_statistics import ladder_lines, ladder_plot
    from ffdi.features.devices import repeating, set_up_torch
    from ffdi.intake.tables import join, read_folds, read_images, write_table

    stage, device = console("ladder"), set_up_torch(params.train.device)
    loaded = LoadedRecipe.load(recipe, backbone, weights or weights_file(recipe.backbone))
    stage.say(loaded.device_line(params.train.device))
    source = image_source(params.data, root)
    bootstrap = Bootstrap(params.evaluate.bootstrap, recipe.seed)
    rows = join(read_images(images_file), read_folds(folds_file))
    with repeating(params.train.deterministic):
        metrics = climb_ladder(rows, loaded, source, ladder, bootstrap=bootstrap, device=device, console=stage)
    write_metrics(metrics, out, details, headline=of_ladder)
    if plots:
        write_table(plots / "ladder.csv", ladder_plot(metrics))
    for line in ladder_lines(metrics):
        say(line)


if __name__ == "__main__":
    main()
