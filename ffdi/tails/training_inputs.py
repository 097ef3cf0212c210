"""What a recipe is trained on, and what is read of it: by a process that trains all of a recipe, or some of its tails."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import torch
from torch import nn

from ffdi.console import Console
from ffdi.errors import FfdiError, InputError
from ffdi.features.backbone import Backbone
from ffdi.features.devices import describe_cuda
from ffdi.features.keep import channels_of
from ffdi.features.perturbed import PerturbationSweep
from ffdi.features.self_blending import with_synthesised
from ffdi.features.stated_preprocessing import resolve_preprocessing
from ffdi.features.store import FeatureStore
from ffdi.features.weights import load_network
from ffdi.files import human_bytes
from ffdi.intake.table_files.names import CSV
from ffdi.intake.tables import second_folds
from ffdi.tails import checkpoint
from ffdi.tails.batches import FeatureTable, load_table
from ffdi.tails.folds import FoldedTable, first_folds
from ffdi.tails.heads import TailFactory
from ffdi.tails.ranks import current_team
from ffdi.tails.recipe import Recipe
from ffdi.tails.settings import TrainSettings


def read_crops(file: Path) -> Mapping[str, Any]:
    """How the images were cropped, of crops.json: empty where they are whole, or where an older intake wrote none."""
    if not file.exists():
        return {}
    try:
        record: Mapping[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{file}: not JSON ({error}): run ingest again") from None
    return record


@dataclass(frozen=True)
class TrainingInputs:
    """What a recipe is trained on.

    `images` is images.csv joined with folds.csv, `features` the folder of the backbone's shards, `weights` the file of
    its network. `synthesise` is the number of self-blended fakes that the shards have for each real training image.
    `views` says where the images are, and where their features at the levels of the recipe's `tta` are kept. `tables` is
    the ending of the bundle's tables, and `crops` says how the images were cropped, see crop_facts.
    """

    data_name: str
    images: pd.DataFrame
    backbone: Backbone
    features: Path
    weights: Path
    synthesise: int = 0
    views: PerturbationSweep | None = None
    tables: str = CSV
    crops: Mapping[str, Any] = field(default_factory=dict)

    @cached_property
    def training_rows(self) -> pd.DataFrame:
        """The images of role train, synthesised fakes (those with a `source`) included, indexed by image_id."""
        rows = with_synthesised(self.images, self.synthesise, self.backbone.views.seed)
        return rows[rows["role"] == "train"].set_index("image_id")

    def epochs(self, recipe: Recipe) -> int:
        """The most epochs that the training takes, over all tails that it runs."""
        return recipe.rounds * (len(first_folds(self.training_rows["fold"], recipe.folds)) + recipe.refit)


@dataclass(frozen=True)
class Prepared:
    """A recipe and what its tails are made of and trained on; `key` is that of its checkpoints here, see training_key."""

    recipe: Recipe
    settings: TrainSettings
    backbone: Backbone
    rows: pd.DataFrame
    store: FeatureStore
    network: nn.Module
    factory: TailFactory
    images: FoldedTable
    device: torch.device

    @classmethod
    def of(
        cls, recipe: Recipe, inputs: TrainingInputs, settings: TrainSettings, device: torch.device, console: Console
    ) -> Prepared:
        """Read the features, weights and labels; ShardError when features are incomplete or of other weights."""
        rows, backbone = inputs.training_rows, resolve_preprocessing(inputs.backbone, inputs.weights)
        store = FeatureStore(inputs.features, keep_open=True)
        table = _load(store, rows, recipe, settings, device, console)
        network, _, weights_sha256 = load_network(backbone.network, inputs.weights, backbone.network_args)
        store.refuse_other_weights(weights_sha256)
        factory = TailFactory(network, backbone, recipe.head, store.spec.shape)
        folds, barred = list(rows["fold"]), second_folds(rows).tolist()
        images = FoldedTable.of(table, folds, list(rows["source"] == ""), list(rows["group"]), barred)
        return cls(recipe, settings, backbone, rows, store, network, factory, images, device)

    @property
    def key(self) -> str:
        return checkpoint.training_key(
            _key_entries(self.recipe, self.settings, self.rows, self.store.spec.fingerprint, self.device)
        )


def _load(
    store: FeatureStore,
    rows: pd.DataFrame,
    recipe: Recipe,
    settings: TrainSettings,
    device: torch.device,
    console: Console,
) -> FeatureTable:
    """The features that the recipe takes. FfdiError when those of a head that is fitted at once exceed the memory."""
    ids, fitted = list(rows.index), recipe.head.is_fitted
    views: Literal["all"] | int = 0 if fitted and recipe.views == "sample" else "all"
    if fitted:  # float32 of one vector for each view, and one copy of it for a fit
        count = sum(len(store.views(i)) for i in ids) if views == "all" else len(ids)
        size = 8 * count * channels_of(store.spec.shape)
        if size > settings.memory_gb * 1e9:
            raise FfdiError(
                f"head {recipe.head.kind}: the pooled features take {human_bytes(size)}, train.memory_gb is "
                f"{settings.memory_gb:g}: raise it, or set views: sample"
            )
    options: dict[str, Any] = {"memory_gb": settings.memory_gb, "device": device, "console": console}
    return load_table(store, ids, list(rows["label"]), views=views, **options)


def _key_entries(
    recipe: Recipe, settings: TrainSettings, rows: pd.DataFrame, fingerprint: str, device: torch.device
) -> Mapping[str, Any]:
    """Everything that decides the bytes of a training, beside the code and what training_key adds itself."""
    also_out = [column for column in ("also_out",) if column in rows]
    untrained = {"threshold", "abstain"}  # a refused policy is mended without another training
    entries: dict[str, Any] = {
        "recipe": {key: value for key, value in recipe.to_dict().items() if key not in untrained},
        "train": asdict(settings),
        "features": fingerprint,
        "images": rows[["label", "fold", "source", *also_out]].reset_index().to_dict("list"),
        "device": str(device),
    }
    for elsewhere in ("deterministic", "engine", "ray", "processes"):
        del entries["train"][elsewhere]
    if device.type == "cuda":
        entries["machine"] = describe_cuda()
    if not settings.repeats(device.type):
        entries["deterministic"] = False
    if (ranks := current_team().size) > 1:
        entries["ranks"] = ranks
    return entries
