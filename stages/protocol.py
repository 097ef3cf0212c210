"""Measure how much harder the folds are than random ones, for one recipe on the same images."""

from pathlib import Path

from ffdi.params.paths import weights_file
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import DETAILS, FOLDS, IMAGES, PARAMS, TIMINGS, WEIGHTS, name, path
from ffdi.stagekit.stopwatch import stopwatch


@stage_command(
    *(PARAMS, name("--recipe"), IMAGES, FOLDS, path("--features"), WEIGHTS, path("--model")),
    *(path("--out"), DETAILS, TIMINGS),
)
def main(
    params_file: Path,
    name: str,
    images_file: Path,
    folds_file: Path,
    features: Path | None,
    weights: Path | None,
    model: Path | None,
    out: Path | None,
    details: Path | None,
    timings: Path,
) -> None:
    """Measure how much harder the folds are than random ones, for one recipe on the same images."""
    params = read_params(params_file)
    recipe, stage = params.recipe(name), console(f"protocol {name}")
    from ffdi.evaluation.headline import of_protocol, write_metrics
    from ffdi.evaluation.protocol import compare_with_random_folds, protocol_line, scored_on_random_folds
    from ffdi.features.devices import device_line, set_up_torch
    from ffdi.intake.tables import join, read_folds, read_images
    from ffdi.tails.bundle import read_oof
    from ffdi.tails.train_recipe import TrainingInputs

    device = set_up_torch(params.train.device)
    stage.say(device_line(params.train.device))
    rows, shards = (
        join(read_images(images_file), read_folds(folds_file)),
        features or Path(f"data/features/{recipe.backbone}"),
    )
    backbone, weights = params.backbone(recipe.backbone), weights or weights_file(recipe.backbone)
    inputs = TrainingInputs(params.data.name, rows, backbone, shards, weights, params.data.synthesise)
    seed = params.split.seed
    with stopwatch(f"protocol-{name}", timings):
        random = scored_on_random_folds(recipe, inputs, params.train, seed=seed, device=device, console=stage)
    oof = read_oof(model or Path(f"data/models/{name}"))
    figures = compare_with_random_folds(oof, random, rows, bootstrap=params.bootstrap)
    metrics = {"method": params.split.method, **figures}
    write_metrics(metrics, out or Path(f"metrics/protocol/{name}.json"), details, headline=of_protocol)
    stage.say(protocol_line(metrics))


if __name__ == "__main__":
    main()
