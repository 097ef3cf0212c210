"""Cross-validate one recipe on cached features and bundle what it learned."""

from pathlib import Path

from ffdi.params.paths import image_source, weights_file
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.options import FOLDS, IMAGES, PARAMS, ROOT, TIMINGS, WEIGHTS, name, path
from ffdi.stagekit.ranks import start_ranks, training_team, watched


@stage_command(
    *(PARAMS, ROOT, name("--recipe"), IMAGES, FOLDS, path("--features", help="[default: data/features/BACKBONE]")),
    *(WEIGHTS, path("--crops", help="[default: crops.json beside --images]"), path("--plots"), TIMINGS),
    path("--out", help="[default: data/models/RECIPE]"),
)
def main(
    params_file: Path,
    root: Path | str | None,
    name: str,
    images_file: Path,
    folds_file: Path,
    features: Path | None,
    weights: Path | None,
    crops: Path | None,
    out: Path | None,
    plots: Path | None,
    timings: Path,
) -> None:
    """Cross-validate one recipe on cached features and bundle what it learned."""
    params = read_params(params_file)
    recipe, backbone = params.recipe(name), params.backbone(params.recipe(name).backbone)
    start_ranks(1 if backbone.has_prefix or recipe.head.is_fitted else params.train.processes)
    from ffdi.features.perturbed import PerturbationSweep
    from ffdi.intake.tables import ending_of, join, read_folds, read_images
    from ffdi.tails.train_recipe import train_recipe
    from ffdi.tails.training_inputs import TrainingInputs, read_crops

    source, out = image_source(params.data, root), out or Path(f"data/models/{name}")
    inputs = TrainingInputs(
        params.data.name,
        join(read_images(images_file), read_folds(folds_file)),
        backbone,
        features or Path(f"data/features/{backbone.name}"),
        weights or weights_file(backbone.name),
        params.data.synthesise,
        PerturbationSweep(recipe.tta, Path(f"data/tta/{backbone.name}"), source, params.extract),
        ending_of(images_file),
        read_crops(crops or images_file.with_name("crops.json")),
    )
    with (
        training_team(params.train.device, f"train {name}") as (device, report),
        watched(name, inputs.epochs(recipe), plots, timings) as told,
    ):
        trained = train_recipe(recipe, inputs, params.train, device=device, out=out, on_epoch=told, console=report)
    report.say(trained.summary)


if __name__ == "__main__":
    main()
