"""Cross-validate one recipe on cached features and bundle what it learned."""

from pathlib import Path

from ffdi.params.paths import image_source, weights_file
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.curves import Curves
from ffdi.stagekit.options import FOLDS, IMAGES, PARAMS, ROOT, TIMINGS, WEIGHTS, name, path
from ffdi.stagekit.stopwatch import stopwatch


@stage_command(
    *(PARAMS, ROOT, name("--recipe"), IMAGES, FOLDS),
    path("--features", help="[default: data/features/BACKBONE]"),
    WEIGHTS,
    path("--out", help="[default: data/models/RECIPE]"),
    *(path("--plots"), TIMINGS),
)
def main(
    params_file: Path,
    root: Path | str | None,
    name: str,
    images_file: Path,
    folds_file: Path,
    features: Path | None,
    weights: Path | None,
    out: Path | None,
    plots: Path | None,
    timings: Path,
) -> None:
    """Cross-validate one recipe on cached features and bundle what it learned."""
    params = read_params(params_file)
    recipe, report = params.recipe(name), console(f"train {name}")
    from ffdi.features.devices import device_line, set_up_torch
    from ffdi.features.perturbed import PerturbationSweep
    from ffdi.intake.tables import ending_of, join, read_folds, read_images
    from ffdi.tails.train_recipe import TrainingInputs, train_recipe

    device, out = set_up_torch(params.train.device), out or Path(f"data/models/{name}")
    report.say(device_line(params.train.device))
    source, cache = image_source(params.data, root), Path(f"data/tta/{recipe.backbone}")
    inputs = TrainingInputs(
        params.data.name,
        join(read_images(images_file), read_folds(folds_file)),
        params.backbone(recipe.backbone),
        features or Path(f"data/features/{recipe.backbone}"),
        weights or weights_file(recipe.backbone),
        params.data.synthesise,
        PerturbationSweep(recipe.tta, cache, source, params.extract),
        ending_of(images_file),
    )
    with stopwatch(f"train-{name}", timings), Curves(f"train {name}", inputs.epochs(recipe), plots) as curves:
        trained = train_recipe(recipe, inputs, params.train, device=device, out=out, on_epoch=curves, console=report)
    report.say(trained.summary)


if __name__ == "__main__":
    main()
