"""Join trained recipes to an ensemble, by their out-of-fold scores alone, and score the test set once with it."""

from pathlib import Path

from ffdi.params.paths import image_source
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console
from ffdi.stagekit.options import DETAILS, FOLDS, IMAGES, PARAMS, ROOT, TIMINGS, flag, name, path
from ffdi.stagekit.stopwatch import stopwatch


@stage_command(
    *(PARAMS, ROOT, name("--ensemble"), IMAGES, FOLDS, path("--models", default="data/models")),
    *(path("--features", default="data/features"), path("--perturbed", default="data/robustness")),
    *(path("--out", help="[default: data/ensembles/NAME]"), flag("--standalone", help="copy the members into --out")),
    *(path("--metrics-out", help="[default: metrics/NAME.json]"), DETAILS, path("--plots"), TIMINGS),
)
def main(
    params_file: Path,
    root: Path | str | None,
    name: str,
    images_file: Path,
    folds_file: Path,
    models: Path,
    features: Path,
    perturbed: Path,
    out: Path | None,
    standalone: bool,
    metrics_out: Path | None,
    details: Path | None,
    plots: Path | None,
    timings: Path,
) -> None:
    """Join trained recipes to an ensemble and score the test set once with it."""
    params, stage, out = read_params(params_file), console(f"fuse {name}"), out or Path(f"data/ensembles/{name}")
    from ffdi.evaluation.evaluate_ensemble import EnsembleInputs, evaluate_ensemble
    from ffdi.features.devices import set_up_torch
    from ffdi.intake.splitting.leave_one_out import with_held_values
    from ffdi.intake.tables import ending_of, join, read_folds, read_images
    from ffdi.tails.fuse import fuse_recipes

    levels, device = params.evaluate.robustness.levels_of(name), set_up_torch(params.train.device)
    bootstrap, memory, tables = params.bootstrap, params.train.memory_gb, ending_of(images_file)
    rows = join(with_held_values(read_images(images_file), params.split), read_folds(folds_file))
    fused = fuse_recipes(params.ensemble(name), models, rows)
    fused.save(out, standalone=standalone, tables=tables)
    inputs = EnsembleInputs.load(out, features, rows, params.evaluate.judged_by)
    if levels or inputs.tta:
        inputs = inputs.with_perturbed(levels, perturbed, image_source(params.data, root), params.extract, stage)
    with stopwatch(f"evaluate-{name}", timings) as seconds:
        evaluation = evaluate_ensemble(inputs, bootstrap=bootstrap, memory_gb=memory, device=device)
        seconds.update(evaluation.timing)
    evaluation.write(metrics_out or Path(f"metrics/{name}.json"), details, plots, tables)
    for line in (fused.summary, *evaluation.lines()):
        stage.say(line)


if __name__ == "__main__":
    main()
