"""Score the test set once with a trained recipe."""

from pathlib import Path

import click

from ffdi.cli import say, stage_command
from ffdi.params import read_params


@stage_command
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--root", type=click.Path(path_type=Path))
@click.option("--recipe", "name", required=True)
@click.option("--images", "images_file", type=click.Path(path_type=Path), default=Path("data/images.csv"))
@click.option("--folds", "folds_file", type=click.Path(path_type=Path), default=Path("data/folds.csv"))
@click.option("--features", type=click.Path(path_type=Path))
@click.option("--model", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path))
@click.option("--plots", type=click.Path(path_type=Path))
def main(
    params_file: Path,
    root: Path | None,
    name: str,
    images_file: Path,
    folds_file: Path,
    features: Path | None,
    model: Path | None,
    out: Path | None,
    plots: Path | None,
) -> None:
    """Score the test set once with a trained recipe."""
    params = read_params(params_file)
    recipe = params.recipe(name)
    import torch

    from ffdi.evaluation.evaluate import evaluate
    from ffdi.features.store import FeatureStore
    from ffdi.files import write_json
    from ffdi.intake.tables import join, read_folds, read_images
    from ffdi.parallel import cpu_count, keep_freed_memory
    from ffdi.tails.bundle import load_bundle
    from ffdi.tails.train import choose_device

    torch.set_num_threads(cpu_count())
    keep_freed_memory()
    result = evaluate(
        load_bundle(model or Path(f"data/models/{name}")),
        FeatureStore(features or Path(f"data/features/{recipe.backbone}")),
        join(read_images(images_file), read_folds(folds_file)),
        resamples=params.evaluate.bootstrap,
        seed=params.seed,
        memory_gb=params.train.memory_gb,
        device=choose_device(params.train.device),
    )
    write_json(out or Path(f"metrics/{name}.json"), result.metrics)
    if plots:
        result.write_plots(plots)
    m = result.metrics
    if m["auc"] is None:
        say(f"evaluate {name}: no AUC ({m['auc_reason']}); accuracy {m['accuracy']:.3f} on {m['n_test']} images")
    else:
        say(
            f"evaluate {name}: test AUC {m['auc']:.3f} [{m['auc_low']:.3f}, {m['auc_high']:.3f}], "
            f"accuracy {m['accuracy']:.3f} [{m['accuracy_low']:.3f}, {m['accuracy_high']:.3f}], {m['n_test']} images"
        )


if __name__ == "__main__":
    main()
