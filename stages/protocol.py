"""Measure how much harder the folds are than random ones, for one recipe on the same images."""

from pathlib import Path

from ffdi.params.paths import image_source, weights_file
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import DETAILS, FOLDS, IMAGES, PARAMS, ROOT, TIMINGS, WEIGHTS, name, path
from ffdi.stagekit.stopwatch import stopwatch


@stage_command(
    *(PARAMS, ROOT, name("--recipe"), IMAGES, FOLDS, path("--features"), WEIGHTS, path("--model")),
    *(path("--out"), DETAILS, TIMINGS),
)
def main(
    params_file: Path,
    root: Path | str | None,
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
    from ffdi.features.perturbed import PerturbationSweep
    from ffdi.intake.tables import join, read_folds, read_images
    from ffdi.tails.bundle_tables import read_oof
    from ffdi.tails.training_inputs import TrainingInputs

    device = set_up_torch(params.train.device)
    stage.say(device_line(params.train.device))
    rows, backbone = join(read_images(images_file), read_folds(folds_file)), params.backbone(recipe.backbone)
    shards, weights = features or Path(f"data/features/{backbone.name}"), weights or weights_file(backbone.name)
    source, cache = image_source(params.data, root), Path(f"data/tta/{backbone.name}")
    views = PerturbationSweep(recipe.tta, cache, source, params.extract)
    inputs = TrainingInputs(params.data.name, rows, backbone, shards, weights, params.data.synthesise, views)
    with stopwatch(f"protocol-{name}", timings):
        random = scored_on_random_folds(
            recipe, inputs, params.train, seed=params.split.seed, device=device, console=stage
        )
    oof = read_oof(model or Path(f"data/models/{name}"))
    figures = compare_with_random_folds(oof, random, rows, bootstrap=params.bootstrap)
    metrics = {"method": params.split.method, **figures}
    write_metrics(metrics, out or Path(f"metrics/protocol/{name}.json"), details, headline=of_protocol)
    stage.say(protocol_line(metrics))


if __name__ == "__main__":
    main()
