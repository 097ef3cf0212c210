"""Score the test set once with a trained recipe."""

from functools import partial
from pathlib import Path

import click

from ffdi.params.paths import unpacked_root
from ffdi.params.reading import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import console, say
from ffdi.stagekit.stopwatch import stopwatch


@stage_command()
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--root", type=click.Path(path_type=Path))
@click.option("--recipe", "name", required=True)
@click.option("--images", "images_file", type=click.Path(path_type=Path), default=Path("data/images.csv"))
@click.option("--folds", "folds_file", type=click.Path(path_type=Path), default=Path("data/folds.csv"))
@click.option("--features", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path))
@click.option("--perturbed", type=click.Path(path_type=Path), help="where features of perturbed images are kept")
@click.option("--out", type=click.Path(path_type=Path))
@click.option("--details", type=click.Path(path_type=Path), help="[default: details/ beside --out]")
@click.option("--plots", type=click.Path(path_type=Path))
def main(
    params_file: Path,
    root: Path | None,
    name: str,
    images_file: Path,
    folds_file: Path,
    features: Path | None,
    model: Path | None,
    perturbed: Path | None,
    out: Path | None,
    details: Path | None,
    plots: Path | None,
) -> None:
    """Score the test set once with a trained recipe."""
    params = read_params(params_file)
    recipe = params.recipe(name)

    from ffdi.bootstrap import Bootstrap
    from ffdi.evaluation.below_chance import explain
    from ffdi.evaluation.evaluate import evaluate, test_rows
    from ffdi.evaluation.headline import of_recipe, one_line, write_metrics
    from ffdi.evaluation.robustness import perturbed_features
    from ffdi.features.devices import device_line, set_up_torch
    from ffdi.features.store import FeatureStore
    from ffdi.intake.tables import join, read_folds, read_images
    from ffdi.tails.bundle import load_bundle, read_oof

    device = set_up_torch(params.train.device)
    say(f"evaluate {name}: {device_line(params.train.device)}")
    model = model or Path(f"data/models/{name}")
    bundle = load_bundle(model)
    store = FeatureStore(features or Path(f"data/features/{recipe.backbone}"))
    rows = join(read_images(images_file), read_folds(folds_file))
    robustness, workers = params.evaluate.robustness, params.extract.workers
    sweep = {}
    if name in robustness.recipes:
        sweep = perturbed_features(
            bundle,
            store.spec,
            test_rows(rows),
            robustness.levels,
            root=unpacked_root(params.data, root),
            out=perturbed or Path(f"data/robustness/{recipe.backbone}"),
            shard_rows=params.extract.shard_rows,
            workers=None if workers == "auto" else workers,
            max_pixels=params.data.max_pixels,
            progress=partial(console(f"evaluate {name}").progress, unit="levels"),
            say=lambda line: say(f"evaluate {name}: {line}"),
        )
    with stopwatch(f"evaluate-{name}", model.parent.parent / "timings") as times:
        result = evaluate(
            bundle,
            store,
            rows,
            bootstrap=Bootstrap(params.evaluate.bootstrap, params.seed),
            memory_gb=params.train.memory_gb,
            device=device,
            perturbed=sweep,
            oof=read_oof(model),
            timed=times,
        )
    write_metrics(result.metrics, out or Path(f"metrics/{name}.json"), details, headline=of_recipe)
    if plots:
        result.write_plots(plots)
    for line in explain(result.metrics):
        say(f"evaluate {name}: WARNING: {line}")
    say(f"evaluate {name}: {one_line(result.metrics)}")


if __name__ == "__main__":
    main()
