"""A recipe with a probe beside scikit-learn alone: 5 folds, 2,000 training images, 1,024 channels, 20 values of C.

The peer is what one writes with scikit-learn: for each fold a StandardScaler and a LogisticRegressionCV over the same
values of C, whose inner folds are the other folds, with the same tolerance. Its scaler sees the whole training part, inner
folds included. Each way runs in a process of its own, its imports done before the clock starts. Writes Markdown to
bench/probe.md.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from lab import Lab
from page import machine, write_page
from sklearn.linear_model import LogisticRegressionCV
from sklearn.model_selection import PredefinedSplit
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from ffdi.features.backbone import Backbone, Views
from ffdi.features.store import FeatureStore
from ffdi.metrics import auc
from ffdi.parallel import cpu_count
from ffdi.stagekit.console import console
from ffdi.tails.probe import MOST_STEPS, TOLERANCE, ProbeSettings, probe_out_of_fold
from ffdi.tails.recipe import Head, Norm, Recipe
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train_recipe import train_recipe
from ffdi.tails.training_inputs import TrainingInputs

NETWORK, FOLDS = "wide_resnet50_2", 5
COUNT = 2667  # of which three quarters are training images
KEPT = {"keep": "mean", "views": Views(0, "light")}


class Data:
    """Pooled features of synthetic images behind a random network, in shards and in memory."""

    def __init__(self, folder: Path, count: int) -> None:
        self.lab = Lab(folder, "cpu", count, 48, 32)
        rows = self.lab.rows()
        training = rows["role"] == "train"
        rows.loc[training, "fold"] = np.arange(training.sum()) % FOLDS
        self.rows: pd.DataFrame = rows.assign(source="")
        self.train = self.rows[training]
        self.shards = self.lab.features(NETWORK, **KEPT)

    @property
    def backbone(self) -> Backbone:
        return self.lab.backbone(NETWORK, **KEPT)

    def features(self) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        store = FeatureStore(self.shards)
        return np.asarray(store.read([(i, 0) for i in self.train["image_id"]]), np.float32)


def ours(data: Data, norm: Norm) -> Callable[[], float]:
    """The function that the stage calls, on features in memory."""
    features, labels, folds = data.features(), data.train["label"].to_numpy(), data.train["fold"].to_numpy()
    return lambda: auc(labels, probe_out_of_fold(features, labels, folds, None, ProbeSettings(norm=norm)).logits)


def recipe(data: Data, norm: Norm) -> Callable[[], float]:
    """Stage train's work, from shards to the bundle on disk."""
    inputs = TrainingInputs("bench", data.rows, data.backbone, data.shards, data.lab.weights(NETWORK))
    probe = Recipe("probe", NETWORK, Head("probe", norm=norm))

    def train() -> float:
        with tempfile.TemporaryDirectory(prefix="ffdi-bench-") as folder:
            options = {"device": torch.device("cpu"), "out": Path(folder) / "probe"}
            scores = train_recipe(probe, inputs, TrainSettings(), **options).out_of_fold.scores  # type: ignore[arg-type]
        return auc(scores["label"].to_numpy(), scores["logit"].to_numpy())

    return train


def peer(data: Data, jobs: int | None) -> Callable[[], float]:
    """scikit-learn alone, its threads or its processes as it likes."""
    features, labels, folds = data.features(), data.train["label"].to_numpy(), data.train["fold"].to_numpy()

    def train() -> float:
        scores = np.empty(len(labels))
        for fold in range(FOLDS):
            chosen = folds != fold
            model = LogisticRegressionCV(
                Cs=ProbeSettings().values,
                cv=PredefinedSplit(folds[chosen]),
                scoring="roc_auc",
                tol=TOLERANCE,
                max_iter=MOST_STEPS,
                n_jobs=jobs,
            )
            fitted = make_pipeline(StandardScaler(), model).fit(features[chosen], labels[chosen])
            scores[~chosen] = fitted.decision_function(features[~chosen])
        return auc(labels, scores)

    return train


WAYS: dict[str, Callable[[Data], Callable[[], float]]] = {
    "scikit-learn": lambda data: peer(data, None),
    "scikit-learn, n_jobs=2": lambda data: peer(data, 2),
    "ffdi, standardise": lambda data: ours(data, "standardise"),
    "ffdi, none": lambda data: ours(data, "none"),
    "ffdi, l2": lambda data: ours(data, "l2"),
    "ffdi, standardise, from shards to bundle": lambda data: recipe(data, "standardise"),
}


def measured(chosen: argparse.Namespace, way: str) -> tuple[float, float]:
    """(seconds, out-of-fold AUC) of one way in a process of its own."""
    command = [sys.executable, __file__, "--folder", str(chosen.folder), "--count", str(chosen.count), "--only", way]
    said = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
    return float(said[-2]), float(said[-1])


def table(chosen: argparse.Namespace) -> Iterator[str]:
    yield "| | seconds | / scikit-learn | out-of-fold AUC |"
    yield "| --- |" + " ---: |" * 3
    rounds = console("bench probe").progress(range(chosen.rounds), chosen.rounds, unit="rounds")
    found = [{way: measured(chosen, way) for way in WAYS} for _ in rounds]
    for way in WAYS:
        seconds = statistics.median(one[way][0] for one in found)
        faster = statistics.median(one["scikit-learn"][0] / one[way][0] for one in found)
        yield f"| {way} | {seconds:.1f} | {faster:.1f}x | {found[0][way][1]:.4f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="where images and shards are made [default: a temporary one]")
    parser.add_argument("--count", type=int, default=COUNT)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("bench/probe.md"))
    parser.add_argument("--only", help="print the seconds and the AUC of one way and end")
    chosen = parser.parse_args()
    torch.set_num_threads(cpu_count())
    if chosen.only:
        train = WAYS[chosen.only](Data(chosen.folder, chosen.count))
        warnings.simplefilter("ignore")
        started = time.perf_counter()
        found = train()
        print(time.perf_counter() - started, found)
        return
    with tempfile.TemporaryDirectory(prefix="ffdi-bench-") as temporary:
        chosen = argparse.Namespace(**(vars(chosen) | {"folder": chosen.folder or Path(temporary)}))
        Data(chosen.folder, chosen.count)
        lines = [
            "# Probes, measured by `make bench`",
            "",
            f"{machine()}. Medians of {chosen.rounds} rounds; ratios are paired.",
        ]
        about = " ".join(" ".join((__doc__ or "").split("\n\n")[1].split()).split(" Writes")[0].split())
        write_page(
            chosen.out, [*lines, "", about], {"5 folds, 2,000 images, 1,024 channels, 20 values of C": table(chosen)}
        )


if __name__ == "__main__":
    main()
