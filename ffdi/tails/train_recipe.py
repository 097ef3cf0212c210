"""Train a recipe: features, labels and folds in, a bundle out.

trained = train_recipe(recipe, inputs, TrainSettings(), device=torch.device("cpu"), out=Path("data/models/NAME"))
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy.typing as npt
import torch
from torch import Tensor

from ffdi.bootstrap import Bootstrap
from ffdi.console import Console
from ffdi.errors import FfdiError, ParamsError, network_code
from ffdi.features.devices import repeating
from ffdi.features.extractor import Extractor, PrefixFile
from ffdi.features.feature_spec import FeatureSpec, read_provenance
from ffdi.features.perturbed import VIEW, extract_perturbed
from ffdi.features.stated_preprocessing import resolve_preprocessing
from ffdi.files import sole_writer
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
from ffdi.tails.training_inputs import Prepared, TrainingInputs
from ffdi.tails.tta import averaged_over_views
from ffdi.tails.unlike import TrainingIndex


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
    made = Prepared.of(recipe, inputs, settings, device, console)
    rows, images, factory, store, backbone = made.rows, made.images, made.factory, made.store, made.backbone
    real = rows[rows["source"] == ""]
    with ExitStack() as stack:
        stack.enter_context(network_code(backbone.place))
        stack.enter_context(named_policy(f"recipes.{recipe.name}"))
        stack.enter_context(repeating(settings.repeats(device.type)))
        if out and team.leads:
            stack.enter_context(sole_writer(out))
        fit = stack.enter_context(_tails(made, inputs, out, console))
        refuse_unresolved(*_validated(images, recipe), recipe.policy)
        with team.leader_first():
            views = _views(recipe, inputs, settings, store.spec, device, console)

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
            made.network,
            fits,
            out_of_fold,
            seen=real.reset_index()[["image_id", "phash"]],
            prior=float(real["label"].mean()),
            provenance={
                **store.index.provenance,
                "data": inputs.data_name,
                "synthesised": len(rows) - len(real),
                **({"crops": inputs.crops} if inputs.crops else {}),
                **({} if all(map(settings.repeats, fit.devices)) else {"deterministic": False}),
                **({"ranks": team.size} if team.size > 1 else {}),
            },
            frozen={} if recipe.trainable == "all" else _frozen(factory.fresh(0), fits),
            index=_index(images, None if backbone.has_prefix else factory, fits, refit, device),
            refit=refit,
            tables=inputs.tables,
        )
        if out and team.leads:
            trained.save(out)
    return trained


class Tails(Protocol):
    """Trains the tails of a recipe. `devices` are the types of device that have done so."""

    @property
    def devices(self) -> Collection[str]: ...

    def __call__(self, images: FoldedTable, recipe: Recipe, told: OnEpoch) -> dict[int, Fit]:
        """The fits of the folds that `images` ask for."""
        ...


@dataclass(frozen=True)
class TailsHere:
    """Those that this process trains, one after the other."""

    made: Prepared
    checkpoints: Checkpoints | None
    console: Console

    @property
    def devices(self) -> Collection[str]:
        """That of this process."""
        return (self.made.device.type,)

    def __call__(self, images: FoldedTable, recipe: Recipe, told: OnEpoch) -> dict[int, Fit]:
        """As cross_validate."""
        made, options = self.made, dict[str, Any](checkpoints=self.checkpoints, console=self.console)
        return cross_validate(made.factory.fresh, images, recipe, device=made.device, on_epoch=told, **options)


@contextmanager
def _tails(made: Prepared, inputs: TrainingInputs, out: Path | None, console: Console) -> Iterator[Tails]:
    """What trains the tails: a cluster where `engine: ray` wants it, the head has epochs and the bundle a folder."""
    recipe, images = made.recipe, made.images
    if made.settings.engine != "ray" or recipe.head.is_fitted or out is None:
        yield TailsHere(made, Checkpoints(out, made.key) if out else None, console)
        return
    if current_team().size > 1:
        raise ParamsError("train.engine: ray trains a tail in each task: run this without torchrun, or set it to local")
    from ffdi.tails.cluster import TailsOnCluster, training_cluster

    pairs = pairs_of(recipe.calibration, images.wanted(recipe.folds), images.numbers)
    with training_cluster(made.settings.ray, console) as cluster:
        yield TailsOnCluster(cluster, made, inputs, out, pairs, console)


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
