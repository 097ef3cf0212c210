"""What a refit tail is worth beside the folds' tails, and how far their threshold and temperature carry.

Run it in the folder of a finished pipeline: it trains each named recipe with `refit`, `calibration: folds` and the
threshold of an expected rate of false alarms, for some seeds, and judges it on the test set. Prints a Markdown table: AUC,
its difference to the mean of the folds' tails with its 95 % interval over groups, ECE and false alarms of both, and the
false alarms of each fold's tail at the same threshold; then the seconds that the tails take, one and all.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ffdi.bootstrap import Bootstrap
from ffdi.evaluation.evaluate import EvaluationInputs, evaluate_recipe, test_rows
from ffdi.features.devices import set_up_torch
from ffdi.intake.tables import join, read_folds, read_images
from ffdi.params.paths import weights_file
from ffdi.params.reading import read_params
from ffdi.tails.batches import load_table
from ffdi.tails.policy_settings import ThresholdRule
from ffdi.tails.recipe import Recipe
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.training_inputs import TrainingInputs

RESAMPLES, TIMED = 2000, 5
COLUMNS = (
    "recipe | seed | AUC | against the folds | ECE (folds) | false alarms (folds) | of each fold | tails, s (folds)"
)


def refit(recipe: Recipe, out: Path, device: torch.device) -> str:
    """Train one recipe and judge it: a row of the table."""
    params = read_params(Path("params.yaml"))
    rows = join(read_images(Path("data/images.csv")), read_folds(Path("data/folds.csv")))
    backbone, shards = params.backbone(recipe.backbone), Path("data/features") / recipe.backbone
    inputs = TrainingInputs(
        params.data.name, rows, backbone, shards, weights_file(recipe.backbone), params.data.synthesise
    )
    train_recipe(recipe, inputs, params.train, device=device, out=out)
    given = EvaluationInputs.load(out, shards, rows)
    found = evaluate_recipe(given, bootstrap=Bootstrap(RESAMPLES), memory_gb=params.train.memory_gb, device=device)
    m, scores = found.metrics, found.plots["scores"]
    real = scores[scores["label"] == 0]
    alone = [float((real[f"fold_{fold}"] >= m["threshold"]).mean()) for fold in given.bundle.fold_tails]
    ends = f"{m['refit_minus_folds_auc_low']:+.3f}, {m['refit_minus_folds_auc_high']:+.3f}"
    cells = [
        recipe.name,
        str(recipe.seed),
        f"{m['auc']:.3f}",
        f"{m['refit_minus_folds_auc']:+.3f} [{ends}]",
        f"{m['ece']:.3f} ({m['folds_ece']:.3f})",
        f"{m['fpr']:.3f} [{m['fpr_low']:.3f}, {m['fpr_high']:.3f}] ({m['folds_fpr']:.3f})",
        f"{min(alone):.3f} to {max(alone):.3f}",
        seconds(given, device),
    ]
    return "| " + " | ".join(cells) + " |"


def seconds(given: EvaluationInputs, device: torch.device) -> str:
    """The median seconds of the processor for the test images: of the refit tail, and of the folds' tails."""
    test, bundle = test_rows(given.images), given.bundle
    ids, labels = list(test["image_id"]), list(test["label"])
    table = load_table(given.features, ids, labels, views=0, memory_gb=8, device=device)
    folds = replace(bundle, tails=bundle.fold_tails)
    taken: list[list[float]] = [[], []]
    for _ in range(1 + TIMED):
        for times, model in zip(taken, (bundle, folds), strict=True):
            started = time.process_time()
            model.fold_scores(table, device)
            times.append(time.process_time() - started)
    one, all_tails = (float(np.median(times[1:])) for times in taken)
    return f"{one:.2f} ({all_tails:.2f})"


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", help="without tta")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--rate", type=float, default=0.1, help="of false alarms that is expected")
    given = parser.parse_args(arguments)
    params, device = read_params(Path("params.yaml")), set_up_torch()
    print(f"| {COLUMNS} |\n|{' --- |' * (COLUMNS.count('|') + 1)}")
    for name in given.recipes:
        for seed in range(given.seeds):
            recipe = replace(params.recipe(name), refit=True, calibration="folds", seed=seed)
            recipe = replace(recipe, threshold=ThresholdRule("fpr", given.rate), abstain=None, tta=())
            with tempfile.TemporaryDirectory() as folder:
                print(refit(recipe, Path(folder) / name, device), flush=True)


if __name__ == "__main__":
    main()
