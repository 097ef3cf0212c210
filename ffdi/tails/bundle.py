"""A trained recipe that can be used without the pipeline: safetensors and JSON, every file's hash checked on reading.

bundle = load_bundle(Path("data/models/mobilenet_v2"))
scores = bundle.scores(features)        # (N, C, H, W) -> (N,) P(fake)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import nn

from ffdi.errors import BundleError, FfdiError, NetworkError, ShardError, network_code, one_line
from ffdi.features.backbone import Backbone
from ffdi.features.extractor import Extractor, as_computed, frozen_prefix, local_spec
from ffdi.features.feature_spec import FeatureSpec, Provenance
from ffdi.features.keep import TokenGrid
from ffdi.features.networks import FrozenPrefix, headless_network
from ffdi.metrics import Metrics
from ffdi.tails.batches import FeatureTable
from ffdi.tails.bundle_tables import read_seen
from ffdi.tails.checkpoint import Scores
from ffdi.tails.heads import Tail, TailFactory
from ffdi.tails.model import ModelScores
from ffdi.tails.policy import Policy
from ffdi.tails.recipe import REFIT, Head
from ffdi.tails.record import fold_file, read_record, refuse_changed, refuse_changed_file, refuse_changed_files
from ffdi.tails.trainable import copy_sharing
from ffdi.tails.tta import mean_logits
from ffdi.tails.unlike import TrainingIndex, embeddings, pooled_features

BATCH = 64
POOLED = 64 * BATCH  # images whose pooled features are in memory at a time
PREFIX = "prefix.safetensors"


def sigmoid(logits: Scores) -> Scores:
    """P(fake) of (N,) logits."""
    return np.asarray(0.5 * (1 + np.tanh(0.5 * logits)))


@dataclass(frozen=True)
class Bundle:
    """A trained recipe as it is used. A score is the mean over `tails` of sigmoid(logit / temperature); `policy` makes a
    verdict of it.

    `load_prefix` gives the prefix, None where there is none; images are scored without it where its exported graph is at
    hand. `tails` are by fold; a refit recipe has one, REFIT, and `read_fold_tails` reads those of its folds. `prior` is the
    share of fakes among the images of the training, validation included: the score of an image that cannot be read. `seen`
    has image_id and phash of each of those images: the recipe is never evaluated on them. `record` is bundle.json.
    `index` tells which images are unlike those; None of a bundle from before it.
    """

    backbone: Backbone
    load_prefix: Callable[[], FrozenPrefix] | None
    tails: Mapping[int, Tail]
    policy: Policy
    temperature: float
    prior: float
    seen: pd.DataFrame
    record: Mapping[str, Any]
    index: TrainingIndex | None = None
    read_fold_tails: Callable[[], Mapping[int, Tail]] | None = None

    def __post_init__(self) -> None:
        for tail in self.tails.values():
            tail.eval()  # for good: no thread that scores with it changes its mode under another

    @property
    def is_refit(self) -> bool:
        """Whether one tail, which all training images trained, scores in the place of the folds' tails."""
        return "refit" in self.record

    @cached_property
    def fold_tails(self) -> Mapping[int, Tail]:
        """The tail of each fold, which did not train on that fold; BundleError when a refit recipe came without them."""
        return self.read_fold_tails() if self.read_fold_tails else self.tails

    @property
    def threshold(self) -> float:
        """The score from which on an image counts as fake in every figure that knows two verdicts."""
        return self.policy.threshold

    @property
    def parts(self) -> tuple[Bundle]:
        """Itself: the bundles whose scores it joins."""
        return (self,)

    @property
    def description(self) -> Metrics:
        """Its network and cut."""
        return {"network": self.backbone.network, "cut": self.backbone.cut_name}

    def joined(self, by_part: Sequence[Mapping[int, Scores]]) -> ModelScores:
        """Its scores of those of its only part: see ModelScores.of_folds."""
        (by_fold,) = by_part
        return ModelScores.of_folds(by_fold)

    @property
    def tta(self) -> tuple[str, ...]:
        """The levels at which every image is seen beside its clean view."""
        return tuple(self.record.get("recipe", {}).get("tta", ()))

    def fold_scores(self, table: FeatureTable, device: torch.device, *views: FeatureTable) -> dict[int, Scores]:
        """Calibrated P(fake) of every image, by each tail that scores, of the mean logit over its views.

        Those are view 0 of `table`, and of `views` the same images at each level of `tta`: FfdiError when there are more
        or fewer.
        """
        return self._scores_of(self.tails, table, device, views)

    def with_fold_scores(
        self, scores: Mapping[int, Scores], table: FeatureTable, device: torch.device, *views: FeatureTable
    ) -> dict[int, Scores]:
        """`scores` of fold_scores with those of a refit recipe's folds, which play no part in its own score."""
        return dict(scores) | (self._scores_of(self.fold_tails, table, device, views) if self.is_refit else {})

    def _scores_of(
        self, tails: Mapping[int, Tail], table: FeatureTable, device: torch.device, views: Sequence[FeatureTable]
    ) -> dict[int, Scores]:
        if len(views) != len(self.tta):
            raise FfdiError(
                f"the model sees images at {len(self.tta)} levels beside their clean view, not {len(views)}"
            )
        seen = (table, *views)
        try:
            with network_code(self.backbone.place):
                return {
                    fold: sigmoid(mean_logits(tail.to(device), seen, BATCH, device) / self.temperature)
                    for fold, tail in tails.items()
                }
        except torch.OutOfMemoryError as error:
            raise FfdiError(f"out of memory on {device} with {BATCH} images: set train.device to cpu") from error

    def scores(self, table: FeatureTable, device: torch.device, *views: FeatureTable) -> Scores:
        """Calibrated P(fake): the model's score."""
        return self.joined([self.fold_scores(table, device, *views)]).mean

    def distances(self, table: FeatureTable, device: torch.device) -> Scores | None:
        """(N,) how far the clean view of every image lies from the training, see TrainingIndex; None without an index."""
        if self.index is None:
            return None
        with network_code(self.backbone.place):
            tail = None if self.backbone.has_prefix else next(iter(self.tails.values()))
            parts = (table.of(at) for at in torch.arange(len(table)).split(POOLED))
            return np.concatenate([self.index.distances(pooled_features(part, device, tail)) for part in parts])

    def scores_and_distances(
        self, table: FeatureTable, device: torch.device, *views: FeatureTable
    ) -> tuple[dict[int, Scores], Scores | None]:
        """fold_scores and distances; where a tail is the whole network, it runs once for both."""
        if self.index is None or self.backbone.has_prefix:
            return self.fold_scores(table, device, *views), self.distances(table, device)
        with embeddings(next(iter(self.tails.values()))) as kept:
            scores = self.fold_scores(table, device, *views)
        return scores, self.index.distances(torch.cat(kept)[: len(table)])  # the clean view comes first

    def extractor(self, spec: FeatureSpec | None = None) -> Extractor:
        """The extractor of the bundle's prefix.

        It computes the features of `spec`, the spec of some shards. By default it computes what this machine computes with
        the bundle's backbone. bundle.json does not store the policy of the training, so these features may differ from
        those that the tails were trained on: see refuse_other_features.
        """
        source = self.record["provenance"]
        provenance = Provenance(self.backbone.network, source["weights"], source["pretrained"])
        return Extractor(self.backbone, spec or self._spec_here, provenance, self._loaded_prefix)

    @cached_property
    def _spec_here(self) -> FeatureSpec:
        """What this machine computes with the backbone; finding it may read and hash an exported graph."""
        sha256, shape = self.record["provenance"]["weights_sha256"], tuple(self.record["shape"])
        grid = TokenGrid(**self.record["cut_grid"]) if "cut_grid" in self.record else None
        spec = replace(local_spec(self.backbone, sha256, shape), cut_grid=grid)
        return as_computed(spec, self.backbone, self._loaded_prefix)

    @property
    def prefix(self) -> FrozenPrefix | None:
        """The prefix in torch; building it takes about as long as reading the rest of the bundle."""
        return self.load_prefix() if self.load_prefix else None

    def _loaded_prefix(self) -> FrozenPrefix:
        assert self.load_prefix is not None
        return self.load_prefix()

    def modules(self) -> Iterator[nn.Module]:
        """Every module with parameters: the tails, those of the folds too, and the prefix if there is one."""
        yield from self.tails.values()
        if self.is_refit:
            yield from self.fold_tails.values()
        if self.prefix is not None:
            yield self.prefix

    def refuse_other_features(self, spec: FeatureSpec) -> None:
        """ShardError when features of `spec` are not those that the tails were trained on."""
        if spec.fingerprint != self.record["fingerprint"]:
            raise ShardError(
                f"features of {spec.network} cut at {spec.cut} (fingerprint {spec.fingerprint[:12]}) are not those of "
                f"the model: {self.backbone.network} cut at {self.backbone.cut_name} ({self.record['fingerprint'][:12]}): "
                "run extract and train again"
            )


def load_bundle(folder: Path) -> Bundle:
    """Read the bundle of a recipe; BundleError when a file is missing, changed, or of another format."""
    record = read_record(folder)
    if record.get("kind", "recipe") != "recipe":
        raise BundleError(f"{folder}: is an {record['kind']}, and a recipe's bundle is needed here: name a member")
    refuse_changed(folder, record)
    with _fitting_its_files(folder):
        return _assembled(folder, record)


@contextmanager
def _fitting_its_files(folder: Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, AttributeError, RuntimeError, NetworkError) as error:
        reason = one_line(error)[:200]
        raise BundleError(f"{folder / 'bundle.json'}: does not fit its files ({reason}): run train again") from error


def _assembled(folder: Path, record: Mapping[str, Any]) -> Bundle:
    refuse_changed_files(folder, record)
    backbone = Backbone.from_dict(record["backbone"])
    head = Head.from_dict(record["head"])
    network = headless_network(backbone.network, backbone.network_args)
    factory = TailFactory(network, backbone, head, tuple(record["shape"]))
    is_refit, first = "refit" in record, factory.fresh(0)
    files = {REFIT: "refit.safetensors"} if is_refit else _fold_files(record)
    tails = _read_tails(folder, record, first, files)
    seen = read_seen(folder, record)
    policy, index = Policy.of_record(record), None
    if "unlike" in record:
        index = TrainingIndex.of_tensors(_state(folder / "index.safetensors"), record["unlike"])
    folds = partial(_read_fold_tails, folder, record, first) if is_refit else None
    prefix = cache(partial(_read_prefix, folder, record, backbone)) if backbone.has_prefix else None
    return Bundle(backbone, prefix, tails, policy, record["temperature"], record["prior"], seen, record, index, folds)


def _read_prefix(folder: Path, record: Mapping[str, Any], backbone: Backbone) -> FrozenPrefix:
    refuse_changed_file(folder, record, PREFIX)  # since the bundle was read
    with _fitting_its_files(folder):
        prefix = frozen_prefix(headless_network(backbone.network, backbone.network_args), backbone)
        prefix.load_state_dict(_state(folder / PREFIX))
    return prefix


def _fold_files(record: Mapping[str, Any]) -> dict[int, str]:
    return {fold: fold_file(fold) for fold in sorted(int(f) for f in record["val_auc"])}


def _read_tails(folder: Path, record: Mapping[str, Any], first: Tail, files: Mapping[int, str]) -> dict[int, Tail]:
    """The tails in some files, like `first`, with which they have in common what no fold has changed."""
    frozen_part = _state(folder / "body.safetensors") if "body.safetensors" in record["sha256"] else {}
    tails = {}
    for fold, file in files.items():
        own = _state(folder / file)
        tails[fold] = copy_sharing(first, own)  # what is frozen is in memory once
        tails[fold].load_state_dict(frozen_part | own)
        tails[fold].eval().requires_grad_(False)
    return tails


def _read_fold_tails(folder: Path, record: Mapping[str, Any], first: Tail) -> dict[int, Tail]:
    files = _fold_files(record)
    if missing := [name for name in files.values() if not (folder / name).exists()]:
        raise BundleError(
            f"{folder / missing[0]}: missing: scores need the refit tail alone, and what the folds say needs theirs: "
            "take the folder that train wrote"
        )
    for name in files.values():
        refuse_changed_file(folder, record, name)
    with _fitting_its_files(folder):
        return _read_tails(folder, record, first, files)


def _state(file: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return dict(load_file(file))
