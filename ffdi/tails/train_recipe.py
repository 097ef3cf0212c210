"""Train a recipe: features, labels and folds in, a bundle out.

trained = train_recipe(recipe, inputs, TrainSettings(), device=torch.device("cpu"), out=Path("data/models/NAME"))
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from ffdi.bootstrap import Bootstrap
from ffdi.console import Console
from ffdi.errors import FfdiError, network_code
from ffdi.features.backbone import Backbone
from ffdi.features.devices import describe_cuda, repeating
from ffdi.features.extractor import Extractor, PrefixFile
from ffdi.features.feature_spec import FeatureSpec, read_provenance
from ffdi.features.keep import channels_of
from ffdi.features.perturbed import VIEW, PerturbationSweep, extract_perturbed
from ffdi.features.self_blending import with_synthesised
from ffdi.features.stated_preprocessing import resolve_preprocessing
from ffdi.features.store import FeatureStore
from ffdi.features.weights import load_network
from ffdi.files import human_bytes, sole_writer
from ffdi.intake.table_files.names import CSV
from ffdi.intake.tables import second_folds
from ffdi.tails import checkpoint
from ffdi.tails.batches import FeatureTable, load_table
from ffdi.tails.calibration import pairs_of, train_pairs
from ffdi.tails.checkpoint import Checkpoints, Fit
from ffdi.tails.folds import FoldedTable, first_folds
from ffdi.tails.heads import Tail, TailFactory
from ffdi.tails.policy import named_policy, refuse_unresolved
from ffdi.tails.ranks import current_team
from ffdi.tails.recipe import Recipe
from ffdi.tails.refit import Refit, of_refit, refit_tail
from ffdi.tails.settings import TrainSettings
from ffdi.tails.train import OnEpoch, cross_validate, ignore_epoch
from ffdi.tails.trainable import load_trained
from ffdi.tails.trained_recipe import RESAMPLES, OutOfFold, TrainedRecipe
from ffdi.tails.tta import averaged_over_views
from ffdi.tails.unlike import TrainingIndex


@dataclass(frozen=True)
class TrainingInputs:
    """What a recipe is trained on.

    `images` is images.csv joined with folds.csv, `features` the folder of the backbone's shards, `weights` the file of
    its network. `synthesise` is the number of self-blended fakes that the shards have for each real training image.
    `views` says where the images are, and where their features at the levels of the recipe's `tta` are kept. `tables` is
    the ending of the bundle's tables.
    """

    data_name: str
    images: pd.DataFrame
    backbone: Backbone
    features: Path
    weights: Path
    synthesise: int = 0
    views: PerturbationSweep | None = None
    tables: str = CSV

    @cached_property
    def training_rows(self) -> pd.DataFrame:
        """The images of role train, synthesised fakes (those with a `source`) included, indexed by image_id."""
        rows = with_synthesised(self.images, self.synthesise, self.backbone.views.seed)
        return rows[rows["role"] == "train"].set_index("image_id")

    def epochs(self, recipe: Recipe) -> int:
        """The most epochs that the training takes, over all tails that it runs."""
        return recipe.rounds * (len(first_folds(self.training_rows["fold"], recipe.folds)) + recipe.refit)


def train_recipe(
    recipe: Recipe,
    inputs: TrainingInputs,
    settings: TrainSettings,
    *,
    device: torch.device,
    out: Path | None = None,
    on_epoch: OnEpoch = ignore_epoch,
    console: Console = Console(),
) -> TrainedRecipe:
    """Cross-validate a recipe on cached features, and calibrate it on its out-of-fold scores.

    With `out`, the bundle is saved there and a training that was killed continues from its checkpoints; no other
    process may write there meanwhile (LockedError). Raises ShardError when the features are incomplete or of other
    weights, FfdiError as cross_validate does. Each rank of a team gets the same recipe, and the leading one saves it.
    """
    team = current_team()
    team.refuse_idle(recipe)
    rows, backbone = inputs.training_rows, resolve_preprocessing(inputs.backbone, inputs.weights)
    real = rows[rows["source"] == ""]
    store = FeatureStore(inputs.features, keep_open=True)
    table = _load(store, rows, recipe, settings, device, console)
    network, _, weights_sha256 = load_network(backbone.network, inputs.weights, backbone.network_args)
    store.refuse_other_weights(weights_sha256)
    factory = TailFactory(network, backbone, recipe.head, store.spec.shape)
    folds, barred = list(rows["fold"]), second_folds(rows).tolist()
    images = FoldedTable.of(table, folds, list(rows["source"] == ""), list(rows["group"]), barred)
    repeats = settings.repeats(device.type)
    provenance: dict[str, Any] = {"data": inputs.data_name, "synthesised": len(rows) - len(real)}
    if not repeats:
        provenance["deterministic"] = False
    if team.size > 1:
        provenance["ranks"] = team.size
    with ExitStack() as stack:
        stack.enter_context(network_code(backbone.place))
        stack.enter_context(named_policy(f"recipes.{recipe.name}"))
        stack.enter_context(repeating(repeats))
        checkpoints = None
        if out:
            if team.leads:
                stack.enter_context(sole_writer(out))
            key = checkpoint.training_key(_key_entries(recipe, settings, rows, store.spec.fingerprint, device))
            checkpoints = Checkpoints(out, key)
        options: dict[str, Any] = {"checkpoints": checkpoints, "console": console}
        refuse_unresolved(*_validated(images, recipe), recipe.policy)
        with team.leader_first():
            views = _views(recipe, inputs, settings, store.spec, device, console)

        def fit(images: FoldedTable, recipe: Recipe, told: OnEpoch) -> dict[int, Fit]:
            return cross_validate(factory.fresh, images, recipe, device=device, on_epoch=told, **options)

        def train(images: FoldedTable, told: OnEpoch = ignore_epoch) -> dict[int, Fit]:
            fits = fit(images, recipe, told)
            return averaged_over_views(fits, factory.fresh(0), images, views, recipe.batch_size, device)

        fits, kind = train(images, on_epoch), recipe.calibration
        if more := pairs_of(kind, list(fits), images.numbers):
            console.say(f"calibration: {len(more)} tails more, each without two folds")
        pairs = train_pairs(more, images, train)
        out_of_fold = OutOfFold.of(fits, images, recipe.policy, Bootstrap(RESAMPLES, recipe.seed), kind, pairs)
        refit = refit_tail(recipe, images, fits, partial(fit, told=of_refit(on_epoch))) if recipe.refit else None
        trained = TrainedRecipe(
            recipe,
            backbone,
            store.spec,
            network,
            fits,
            out_of_fold,
            seen=real.reset_index()[["image_id", "phash"]],
            prior=float(real["label"].mean()),
            provenance={**store.index.provenance, **provenance},
            frozen={} if recipe.trainable == "all" else _frozen(factory.fresh(0), fits),
            index=_index(images, None if backbone.has_prefix else factory, fits, refit, device),
            refit=refit,
            tables=inputs.tables,
        )
        if out and team.leads:
            trained.save(out)
    return trained


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


def _views(
    recipe: Recipe,
    inputs: TrainingInputs,
    settings: TrainSettings,
    spec: FeatureSpec,
    device: torch.device,
    console: Console,
) -> list[FeatureTable]:
    """The features of all images that validate at each level of `tta`; they are computed where they are missing."""
    if not recipe.tta:
        return []
    if inputs.views is None:
        raise FfdiError(f"recipe {recipe.name}: tta: the images are not given")
    backbone = resolve_preprocessing(inputs.backbone, inputs.weights)
    provenance = read_provenance(inputs.weights, backbone.network, backbone.network_args)
    extractor = Extractor(backbone, spec, provenance, PrefixFile(backbone, inputs.weights))
    sweep, rows = replace(inputs.views, levels=recipe.tta), inputs.training_rows
    real = rows[rows["source"] == ""]
    stores = extract_perturbed(extractor, real.reset_index(), sweep, console)
    options: dict[str, Any] = {"memory_gb": settings.memory_gb, "device": device, "console": console}
    return [
        load_table(stores[level], list(real.index), list(real["label"]), views=VIEW, **options) for level in recipe.tta
    ]


def _validated(images: FoldedTable, recipe: Recipe) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
    """(N,) labels and groups of the images that will validate a tail."""
    parts = [images.split(fold).validation for fold in first_folds(images.numbers, recipe.folds)]
    ids = [image_id for table in parts for image_id in table.image_ids]
    return torch.cat([table.labels for table in parts]).numpy(), images.groups_of(ids)


def _frozen(tail: Tail, fits: Mapping[int, Fit]) -> dict[str, Tensor]:
    """The tensors of a tail that no fold has changed."""
    trained = next(iter(fits.values())).state
    return {name: value.clone() for name, value in tail.state_dict().items() if name not in trained}


def _index(
    images: FoldedTable,
    factory: TailFactory | None,
    fits: Mapping[int, Fit],
    refit: Refit | None,
    device: torch.device,
) -> TrainingIndex | None:
    """The index of the features; or of what the tail that scores first makes of the images, where it is the whole network
    (`cut: input`), made by `factory`."""
    if factory is None:
        return TrainingIndex.of_features(images, device)
    (fold, fitted), tail = next(iter(fits.items())), factory.fresh(0)
    load_trained(tail, fitted.state)
    if refit is None:
        return TrainingIndex.of_tail(images, device, tail, fold)
    scoring = factory.fresh(0)
    load_trained(scoring, dict(refit.state))
    return TrainingIndex.of_refit(images, device, scoring, tail, fold)


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
    del entries["train"]["deterministic"]
    if device.type == "cuda":
        entries["machine"] = describe_cuda()
    if not settings.repeats(device.type):
        entries["deterministic"] = False
    if (ranks := current_team().size) > 1:
        entries["ranks"] = ranks
    return entries
