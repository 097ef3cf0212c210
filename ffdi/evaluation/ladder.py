"""The leak ladder: the reproduced systems' mistakes made on purpose, one more on each rung, and what each is worth.

Each rung has the AUC that its author would report, and the true one on test images that no choice has seen. To add a
rung, write a function from an Experiment to a RungResult and add a line to RUNGS.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from ffdi.bootstrap import Bootstrap
from ffdi.console import Console
from ffdi.errors import network_code
from ffdi.evaluation import mistakes
from ffdi.evaluation.experiment import Experiment, LoadedRecipe, RungResult, RungTables, honest
from ffdi.evaluation.ladder_statistics import ladder_metrics
from ffdi.evaluation.settings import LadderSettings
from ffdi.features.compute import compute_rows
from ffdi.features.extract import plan_rows
from ffdi.features.image_views import locate_images
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.tables import second_folds
from ffdi.metrics import Metrics


@dataclass(frozen=True)
class Rung:
    """A rung of the ladder. `trains` is false when `run` only chooses among the epochs of the rung below."""

    name: str
    run: Callable[[Experiment], RungResult]
    trains: bool = True


RUNGS = (
    Rung("honest", honest),
    Rung("views on both sides of validation", mistakes.views_on_both_sides),
    Rung("model and optimizer carried over folds", mistakes.carried_over_folds),
    Rung("evaluation in train mode", mistakes.evaluated_in_train_mode),
    Rung("extraction in train mode, batch of one", mistakes.extracted_in_train_mode),
    Rung("epoch chosen on the test set", mistakes.chosen_on_test, trains=False),
)


def climb_ladder(
    rows: pd.DataFrame,
    loaded: LoadedRecipe,
    source: ImageSource,
    settings: LadderSettings,
    *,
    bootstrap: Bootstrap,
    device: torch.device,
    console: Console = Console(),
) -> Metrics:
    """metrics/details/ladder.json: every rung with every seed, on `rows` (images.csv joined with folds.csv).

    All rungs have the same images, the same number of samples in an epoch and the same seeds. The statistics are those of
    ladder_metrics.
    """
    test = rows[rows["role"] == "test"]
    groups, labels = test["group"].to_numpy(str), test["label"].to_numpy()
    runs: dict[str, list[RungResult]] = {rung.name: [] for rung in RUNGS}
    with network_code(loaded.extractor.backbone.place):
        for experiment in _experiments(rows, loaded, source, settings, device, console):
            for number, rung in enumerate(RUNGS):
                if rung.trains:
                    console.say(f"seed {experiment.recipe.seed}, rung {number}: training: {rung.name}")
                runs[rung.name].append(rung.run(experiment))
    pretrained = loaded.extractor.provenance.pretrained
    about: Metrics = {"seeds": settings.seeds, "folds": settings.folds, "n_test": len(test), "pretrained": pretrained}
    return about | ladder_metrics(runs, labels, groups, bootstrap=bootstrap)


def _experiments(
    rows: pd.DataFrame,
    loaded: LoadedRecipe,
    source: ImageSource,
    settings: LadderSettings,
    device: torch.device,
    console: Console,
) -> Iterator[Experiment]:
    """An experiment for each seed; the features are extracted once, in both ways."""
    extractor, train = loaded.extractor, rows[rows["role"] == "train"]
    plan = plan_rows(list(rows["image_id"]), list(rows["role"]), extractor.backbone.views.count)
    images = locate_images(rows, source)
    extracted, in_train_mode = (
        RungTables.of(np.concatenate(list(console.progress(blocks, len(plan), unit="views"))), plan, rows)
        for blocks in (
            compute_rows(plan, extractor, images, console=console),
            mistakes.extract_in_train_mode(plan, extractor, images, device),
        )
    )
    recipe = replace(loaded.recipe, views="all", folds="all", epochs=settings.epochs or loaded.recipe.epochs)
    folds, barred = merged_folds(train, settings.folds)
    groups = rows["group"][rows["role"] == "test"].to_numpy(str)
    for seed in range(recipe.seed, recipe.seed + settings.seeds):
        of_seed = replace(recipe, seed=seed)
        yield Experiment(extracted, in_train_mode, folds, barred, groups, of_seed, loaded.fresh_tail, device)


def merged_folds(train: pd.DataFrame, count: int) -> tuple[list[int], list[int]]:
    """(the fold, the second fold that an image does not train, or -1), of `count` folds that join those of folds.csv.

    Where values are held out, a joined fold holds out those of its parts.
    """
    folds, second = train["fold"].to_numpy(np.int64), second_folds(train)
    barred = np.where((second < 0) | (second % count == folds % count), -1, second % count)
    return (folds % count).tolist(), barred.tolist()
