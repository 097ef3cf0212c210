"""Score the test set once with a trained recipe."""

from pathlib import Path

from ffdi.params.paths import image_source
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import DETAILS, FOLDS, IMAGES, PARAMS, ROOT, TIMINGS, name, path
from ffdi.stagekit.stopwatch import stopwatch


@stage_command(
    *(PARAMS, ROOT, name("--recipe"), IMAGES, FOLDS, path("--features"), path("--model")),
    path("--perturbed", help="where features of perturbed images are kept"),
    *(path("--out"), DETAILS, path("--plots"), TIMINGS),
)
def main(
    params_file: Path,
    root: Path | str | None,
    name: str,
    images_file: Path,
    folds_file: Path,
    features: Path | None,
    model: Path | None,
    perturbed: Path | None,
    out: Path | None,
    details: Path | None,
    plots: Path | None,
    timings: Path,
) -> None:
    """Score the test set once with a trained recipe."""
    params = read_params(params_file)
    backbone, robustness = params.recipe(name).backbone, params.evaluate.robustness
    from ffdi.evaluation.evaluate import EvaluationInputs, evaluate_recipe
    from ffdi.features.devices import device_line, set_up_torch
    from ffdi.features.perturbed import PerturbationSweep
    from ffdi.intake.splitting.leave_one_out import with_held_values
    from ffdi.intake.tables import ending_of, join, read_folds, read_images

    stage, device = console(f"evaluate {name}"), set_up_torch(params.train.device)
    stage.say(device_line(params.train.device))
    rows = join(with_held_values(read_images(images_file), params.split), read_folds(folds_file))
    model, shards = model or Path(f"data/models/{name}"), features or Path(f"data/features/{backbone}")
    inputs = EvaluationInputs.load(model, shards, rows, params.evaluate.judged_by)
    levels = robustness.levels_of(name)
    if levels or inputs.bundle.tta:
        folder, source = perturbed or Path(f"data/robustness/{backbone}"), image_source(params.data, root)
        inputs = inputs.with_perturbed(PerturbationSweep(levels, folder, source, params.extract), stage)
    memory_gb, bootstrap = params.train.memory_gb, params.bootstrap
    with stopwatch(f"evaluate-{name}", timings) as seconds:
        evaluation = evaluate_recipe(inputs, bootstrap=bootstrap, memory_gb=memory_gb, device=device)
        seconds.update(evaluation.timing)
    evaluation.write(out or Path(f"metrics/{name}.json"), details, plots, ending_of(images_file))
    for line in evaluation.lines():
        stage.say(line)


if __name__ == "__main__":
    main()
