"""ffdi recalibrate: temperature and threshold of a model for another domain."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ffdi.commands.scoring import PHASH_BITS, RESAMPLES, refuse_no_model, scoring_options
from ffdi.errors import InputError, PolicyError
from ffdi.stagekit.command import OneLineErrors
from ffdi.stagekit.console import console, say
from ffdi.stagekit.local_path import LocalPath


@click.command(
    cls=OneLineErrors,
    short_help="a threshold for another domain, from 20 to 200 labels",
    epilog="ffdi recalibrate --model data/models/NAME --labels few.csv --root few/ --out data/recalibrated",
)
@click.option("--labels", required=True, type=LocalPath(), help="a csv with path, label and maybe group")
@click.option("--root", required=True, type=LocalPath(), help="the folder that its paths start from")
@click.option("--out", required=True, type=LocalPath(file_okay=False), help="the new model")
@click.option(
    "--rule", type=click.Choice(["youden", "accuracy", "fpr"]), help="of the threshold  [default: the model's]"
)
@click.option(
    "--at",
    type=click.FloatRange(0, 1, min_open=True, max_open=True),
    help="the rate of rule fpr  [default: the model's]",
)
@click.option(
    "--abstain",
    type=click.FloatRange(0, 0.5, max_open=True),
    help="the error outside the band of undecided scores, 0 for no band  [default: the model's]",
)
@PHASH_BITS
@RESAMPLES
@click.option("--seed", default=0, show_default=True, help="of the folds and the resampling")
@scoring_options
def recalibrate(
    labels: Path,
    root: Path,
    out: Path,
    rule: Any,
    at: float | None,
    abstain: float | None,
    phash_bits: int,
    bootstrap: int,
    seed: int,
    model: Path,
    max_pixels: int,
) -> None:
    """Fit temperature and threshold of a model on a few labelled images (20 to 200) of another domain.

    Says by cross-validation what that changes, and whether the images were enough. The new model has its parent's weights,
    byte for byte, and names its parent. Images that the model was trained on are named and left out.
    """
    refuse_no_model(model)
    from dataclasses import replace

    from ffdi.bootstrap import Bootstrap
    from ffdi.evaluation.recalibrated_model import (
        FewImages,
        policy_settings_of,
        recalibrate_model,
        refuse_the_model,
        write_recalibrated,
    )
    from ffdi.features.devices import set_up_torch
    from ffdi.intake.decoding.images import ImageSource
    from ffdi.tails.ensemble import load_model
    from ffdi.tails.policy_settings import Abstain

    if not root.is_dir():
        raise InputError(f"--root {root}: is no folder: name the one that the paths of {labels} start from")
    refuse_the_model(out, model)
    loaded, report = load_model(model), console("recalibrate")
    settings = policy_settings_of(loaded)
    threshold = replace(settings.threshold, rule=rule or settings.threshold.rule, at=at or settings.threshold.at)
    if at and threshold.rule != "fpr":
        raise InputError(f"--at has no effect on rule {threshold.rule}: leave it out, or set --rule fpr")
    few = FewImages.read(labels, ImageSource(root, max_pixels), loaded, phash_bits=phash_bits, console=report)
    for path in few.seen["path"]:
        say(f"{str(path)!r}: left out: the model was trained on it or on a near-duplicate")
    settings = replace(settings, threshold=threshold)
    if abstain is not None:
        settings = replace(settings, abstain=Abstain(abstain) if abstain else None)
    drawn, device = Bootstrap(bootstrap, seed), set_up_torch()
    try:
        found = recalibrate_model(loaded, few, settings, bootstrap=drawn, device=device, console=report)
    except PolicyError as error:  # it begins with the key of params.yaml
        told = str(error).replace("threshold.at", "--at").replace("abstain.error", "--abstain")
        raise InputError(told) from None
    for line in found.lines():
        say(line)
    write_recalibrated(model, loaded, few, found, out)
    say(
        f"{out}: temperature {loaded.temperature:.3f} -> {found.temperature:.3f}, "
        f"threshold {loaded.threshold:.3f} -> {found.policy.threshold:.3f}"
    )
