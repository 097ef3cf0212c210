"""What lossy ways of making or storing features cost a tail, beside what its seed alone moves.

Variants of one backbone's features: the prefix in float16 and bfloat16 (rounded on the CPU as CUDA rounds), int8
storage with a scale for each row and channel, and torchvision's decoder and antialiasing resize (what nvJPEG changes).
The recipe is trained on each with the same seeds, on all folds but the first; the test AUC is that of its best epoch by
the first fold. Prints a Markdown table: mean AUC, its standard deviation over seeds, and the paired difference.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
import torch

from ffdi.features import image_views
from ffdi.features.backbone import Backbone
from ffdi.features.compute import compute_rows
from ffdi.features.decoders import Decoder
from ffdi.features.extract import plan_rows
from ffdi.features.extractor import Extractor, load_extractor
from ffdi.features.feature_spec import Features, Row
from ffdi.features.image_views import ViewReader, locate_images
from ffdi.features.quantised import as_stored
from ffdi.features.weights import load_network
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.tables import join, read_folds, read_images, second_folds
from ffdi.metrics import auc
from ffdi.parallel import cpu_count
from ffdi.params.paths import unpacked_root
from ffdi.params.reading import read_params
from ffdi.stagekit.console import console
from ffdi.tails.batches import FeatureTable
from ffdi.tails.folds import FoldedTable
from ffdi.tails.heads import TailFactory
from ffdi.tails.train import cross_validate, predict_logits
from ffdi.tails.trainable import load_trained

CPU = torch.device("cpu")


def in_precision(
    prefix: Extractor, dtype: torch.dtype, pixels: Callable[[Sequence[Row]], Any], rows: Sequence[Row]
) -> Features:
    """The prefix as a GPU computes it in `dtype`: parameters and every module's output rounded, sums in float32."""
    assert prefix.module is not None
    module = prefix.module
    for tensor in (*module.parameters(), *module.buffers()):
        if tensor.is_floating_point():
            tensor.data = tensor.data.to(dtype).float()
    for part in module.prefix.modules():
        if not list(part.children()):
            part.register_forward_hook(lambda _, __, output: output.to(dtype).float())
    done = []
    with torch.inference_mode():
        for at in range(0, len(rows), 32):
            done.append(module(torch.from_numpy(pixels(rows[at : at + 32]))).numpy().astype(prefix.spec.dtype))
    return np.concatenate(done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", required=True)
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--images", type=Path, default=Path("data/images.csv"))
    parser.add_argument("--folds", type=Path, default=Path("data/folds.csv"))
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--epochs", type=int)
    parser.add_argument("--seeds", type=int, default=5)
    chosen = parser.parse_args()
    torch.set_num_threads(cpu_count())
    params = read_params(chosen.params)
    recipe = params.recipe(chosen.recipe)
    backbone, root = params.backbone(recipe.backbone), unpacked_root(params.data)
    rows = join(read_images(chosen.images), read_folds(chosen.folds))
    plan = plan_rows(list(rows["image_id"]), list(rows["role"]), backbone.views.count)
    files = locate_images(rows, ImageSource(root, params.data.max_pixels))
    read = ViewReader(files, backbone)

    def prefix() -> Extractor:
        return load_extractor(backbone, chosen.weights)

    def stored() -> Features:
        return np.concatenate(list(compute_rows(plan, prefix(), files)))

    def other_decoder() -> Features:
        def nvjpeg(backbone: Backbone, **options: Any) -> Decoder:
            return Decoder(replace(backbone, decoder="nvjpeg"), **options, device="cpu")

        with patch.object(image_views, "Decoder", nvjpeg):
            return stored()

    plain = stored()
    variants: dict[str, Callable[[], Features]] = {
        "as extracted": lambda: plain,
        "prefix in float16": lambda: in_precision(prefix(), torch.float16, read, plan),
        "prefix in bfloat16": lambda: in_precision(prefix(), torch.bfloat16, read, plan),
        "stored as int8": lambda: as_stored(plain, "int8"),
        "torchvision's decoder": other_decoder,
    }
    network = load_network(backbone.network, chosen.weights, backbone.network_args)[0]
    factory = TailFactory(network, backbone, recipe.head, plain.shape[1:])
    recipe = replace(recipe, epochs=chosen.epochs or recipe.epochs)
    results: dict[str, list[float]] = {}
    print(f"| {chosen.recipe}, {len(rows)} images | features differ by | test AUC | sd over seeds | difference |")
    print("| --- | ---: | ---: | ---: | ---: |", flush=True)
    for name, make in variants.items():
        features = make()
        differ = float(np.linalg.norm((features - plain).astype(np.float64)) / np.linalg.norm(plain.astype(np.float64)))

        def table(own: pd.DataFrame, features: Features = features) -> FeatureTable:
            return FeatureTable.of_rows(features, plan, list(own["image_id"]), list(own["label"]))

        train, test = rows[rows["role"] == "train"], rows[rows["role"] == "test"]
        known, unseen = (
            FoldedTable.of(table(train), list(train["fold"]), barred=second_folds(train).tolist()),
            table(test),
        )
        results[name] = []
        for seed in console(f"lossy {name}").progress(range(chosen.seeds), chosen.seeds, unit="seeds"):
            seeded = replace(recipe, seed=seed, folds=1)
            fold, fitted = next(iter(cross_validate(factory.fresh, known, seeded, device=CPU).items()))
            tail = factory.fresh(fold)
            load_trained(tail, fitted.state)
            results[name].append(auc(unseen.labels.numpy(), predict_logits(tail, unseen, 256, CPU)))
        mean, spread = statistics.mean(results[name]), statistics.stdev(results[name])
        off = statistics.mean(b - a for a, b in zip(results["as extracted"], results[name], strict=True))
        print(f"| {name} | {differ:.2%} | {mean:.4f} | {spread:.4f} | {off:+.4f} |", flush=True)


if __name__ == "__main__":
    main()
