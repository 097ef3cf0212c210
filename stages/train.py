"""Cross-validate one recipe on cached features and bundle what it learned."""

import sys
import time
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import click

from ffdi.console import Console
from ffdi.errors import FfdiError
from ffdi.params import read_params
from ffdi.stagekit.command import stage_command
from ffdi.stagekit.console import say
from ffdi.stagekit.stopwatch import stopwatch


@stage_command()
@click.option("--params", "params_file", type=click.Path(path_type=Path), default=Path("params.yaml"))
@click.option("--recipe", "name", required=True)
@click.option("--images", "images_file", type=click.Path(path_type=Path), default=Path("data/images.csv"))
@click.option("--folds", "folds_file", type=click.Path(path_type=Path), default=Path("data/folds.csv"))
@click.option("--features", type=click.Path(path_type=Path))
@click.option("--weights", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path))
@click.option("--plots", type=click.Path(path_type=Path))
def main(
    params_file: Path,
    name: str,
    images_file: Path,
    folds_file: Path,
    features: Path | None,
    weights: Path | None,
    out: Path | None,
    plots: Path | None,
) -> None:
    """Cross-validate one recipe on cached features and bundle what it learned."""
    params = read_params(params_file)
    recipe = params.recipe(name)
    out = out or Path(f"data/models/{name}")
    import pandas as pd
    from tqdm import tqdm

    from ffdi.features.devices import device_facts, device_line, repeating, set_up_torch
    from ffdi.features.self_blending import with_synthesised
    from ffdi.features.store import FeatureStore
    from ffdi.features.weights import load_network
    from ffdi.files import sole_writer
    from ffdi.intake.tables import join, read_folds, read_images, write_table
    from ffdi.tails.batches import load_table
    from ffdi.tails.bundle import out_of_fold, save_bundle
    from ffdi.tails.checkpoint import Checkpoints, Epoch, training_key
    from ffdi.tails.heads import TailFactory
    from ffdi.tails.train import cross_validate

    device = set_up_torch(params.train.device)
    say(f"train {name}: {device_line(params.train.device)}")
    store = FeatureStore(features or Path(f"data/features/{recipe.backbone}"), keep_open=True)
    backbone = params.backbone(recipe.backbone)
    count, seed = params.data.synthesise, backbone.views.seed
    rows = with_synthesised(join(read_images(images_file), read_folds(folds_file)), count, seed)
    rows = rows[rows["role"] == "train"].set_index("image_id")
    own = rows[rows["source"] == ""]  # the user's: what is validated on
    memory_gb = params.train.memory_gb
    tell = partial(_tell, name)
    table = load_table(
        store,
        list(rows.index),
        list(rows["label"]),
        views="all",
        memory_gb=memory_gb,
        device=device,
        console=Console(say=tell),
    )
    network, _, digest = load_network(backbone.network, weights or params.weights_file(recipe.backbone))
    store.refuse_other_weights(digest)
    factory = TailFactory(network, backbone, recipe.head, store.spec.shape)
    folds = recipe.folds if isinstance(recipe.folds, int) else None
    facts = {
        "recipe": asdict(recipe),
        "train": params.train.model_dump(mode="json"),
        "features": store.spec.fingerprint,
        "images": rows[["label", "fold", "source"]].reset_index().to_dict("list"),
        "device": str(device),
    }
    repeats = params.train.deterministic or device.type == "cpu"
    facts["train"].pop("deterministic")
    if device.type == "cuda":
        facts["machine"] = device_facts()
    if not repeats:
        facts["deterministic"] = False
    history: list[Epoch] = []
    live: Any = None
    last = time.perf_counter()
    with ExitStack() as stack:
        stack.enter_context(sole_writer(out))
        stack.enter_context(repeating(repeats))
        stack.enter_context(stopwatch(f"train-{name}", out.parent.parent / "timings"))
        total = recipe.epochs * min(folds or rows["fold"].nunique(), rows["fold"].nunique())
        shown = stack.enter_context(tqdm(desc=f"train {name}", total=total, unit=" epochs", dynamic_ncols=True))

        def on_epoch(epoch: Epoch) -> None:
            nonlocal live, last
            history.append(epoch)
            shown.update()
            left = (time.perf_counter() - last) * (shown.total - shown.n)  # epochs of a former run took no time
            last = time.perf_counter()
            shown.write(
                f"train {name}: fold {epoch.fold} epoch {epoch.epoch}: loss {epoch.loss:.4f}, "
                f"train AUC {epoch.train_auc:.3f}, val AUC {epoch.val_auc:.3f}, {shown.format_interval(left)} left",
                file=sys.stderr,
            )
            if plots and live is None:
                live = stack.enter_context(live_curves(plots / "live"))
            if live:
                live.step = epoch.epoch
                for key in ("loss", "train_auc", "val_auc"):
                    live.log_metric(f"fold-{epoch.fold}/{key}", getattr(epoch, key))

        fits = cross_validate(
            factory.fresh,
            table,
            list(rows["fold"]),
            recipe,
            run_folds=folds,
            device=device,
            validated=list(rows["source"] == ""),
            on_epoch=on_epoch,
            checkpoints=Checkpoints(out, training_key(facts)),
            say=tell,
        )
        oof, threshold, temperature = out_of_fold(fits, table, own["fold"])
        save_bundle(
            out,
            fits,
            oof,
            threshold=threshold,
            temperature=temperature,
            seen=own.reset_index(),
            prior=float(own["label"].mean()),
            network=network,
            backbone=backbone,
            head=recipe.head,
            recipe=asdict(recipe),
            spec=store.spec,
            provenance=store.index.provenance
            | {"data": params.data.name, "synthesised": len(rows) - len(own)}
            | ({} if repeats else {"deterministic": False}),
        )
    if plots:
        write_table(plots / "history.csv", pd.DataFrame([vars(epoch) for epoch in history]))
    say(f"train {name}: {len(fits)} folds, threshold {threshold:.3f}, temperature {temperature:.2f}")


def _tell(name: str, line: str) -> None:
    say(f"train {name}: {line}")


def live_curves(folder: Path) -> Any:
    """DVCLive's logger of curves: it must neither rewrite dvc.yaml nor start an experiment of its own."""
    from dvclive import Live
    from scmrepo.exceptions import SCMError

    try:
        return Live(str(folder), dvcyaml=None, save_dvc_exp=False)
    except SCMError as error:
        raise FfdiError(f"the training curves need a git repository with a commit ({error}): commit once") from error


if __name__ == "__main__":
    main()
