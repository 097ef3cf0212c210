"""Every source of weights -> one verified safetensors file with its provenance, and back into a network."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from ffdi.errors import WeightsError, placed
from ffdi.features.backbone import INPUT, Backbone
from ffdi.features.feature_spec import Provenance, read_provenance
from ffdi.features.networks import NO_ARGS, build_network, declared_classifiers, without_classifier
from ffdi.features.random_weights import random_state
from ffdi.features.weight_sources import State, other_namings, published_state, read_state
from ffdi.files import replacing, sha256_file

_CORRECT = "correct network, network_args or weights"


def fetch_weights(network: str, source: str, out: Path, *, base: Path, seed: int = 0) -> Provenance:
    """The same as fetch_backbone_weights for a network by its name and a source of its weights."""
    return fetch_backbone_weights(Backbone("", network, source, INPUT), out, base=base, seed=seed)


def fetch_backbone_weights(
    backbone: Backbone, out: Path, *, base: Path, seed: int = 0, preprocessing: Mapping[str, Any] = NO_ARGS
) -> Provenance:
    """Write the weights of a backbone to `out` (safetensors, checked against its network key by key); returns their
    provenance.

    Sources are those of `published_state`, whose files are relative to `base`, and `random`.
    The classifier is thrown away, so its keys need not fit: they may be missing, more, or for other classes. A file may
    have the names of timm, of torchvision or, where timm knows them, of the repository that published it.
    `preprocessing` is what described_preprocessing says of the backbone, which is resolved.

    Raises WeightsError when a source cannot be reached, is not a safetensors file, belongs to another architecture or
    is not what `weights_sha256` pins, ParamsError for a network or `network_args` that do not exist.
    """
    source = backbone.weights
    pinned_file = base / source.removeprefix("file:") if source.startswith("file:") else None
    with placed(f"backbones.{backbone.name}") if backbone.name else nullcontext():
        _refuse_other(pinned_file, backbone)
        receiver = _Receiver(backbone.network, backbone.network_args)
        state = random_state(backbone, seed=seed) if source == "random" else published_state(backbone, base)
        state = receiver.fitting(state, source)
        provenance = Provenance(network=backbone.network, source=source, pretrained=source != "random")
        header = asdict(provenance)
        if backbone.network_args:
            header["network_args"] = backbone.network_args
        if preprocessing:
            header["preprocessing"] = preprocessing
        _write(out, state, header, None if pinned_file else backbone)
    if provenance.pretrained and has_folded_batchnorm(state):
        warnings.warn(
            f"{source}: every BatchNorm's running statistics are 0 and 1: it was folded into the convolutions, "
            "and tails trained from such weights stay at chance",
            stacklevel=2,
        )
    return provenance


def load_network(
    network: str, weights: Path, network_args: Mapping[str, Any] = NO_ARGS
) -> tuple[nn.Module, Provenance, str]:
    """(network without its classifier, in eval mode with the file's weights, their provenance, the file's sha256).

    WeightsError when they are not weights of this network, built with these arguments.
    """
    state, provenance = read_state(weights), read_provenance(weights, network, network_args)
    receiver = _Receiver(network, network_args)
    if refusal := receiver.refusal(state):
        raise WeightsError(f"{weights}: {refusal[1]}")
    return receiver.loaded(state), provenance, sha256_file(weights)


def has_folded_batchnorm(state: State) -> bool:
    """Whether there are running statistics and all of them are 0 and 1."""
    means = [v for k, v in state.items() if k.endswith("running_mean")]
    variances = [v for k, v in state.items() if k.endswith("running_var")]
    return bool(means) and all(not v.any() for v in means) and all(bool((v == 1).all()) for v in variances)


@dataclass(frozen=True)
class _Receiver:
    """A network that weights are for: what must be in them, and what may be."""

    network: str
    network_args: Mapping[str, Any]

    def fitting(self, state: State, source: str) -> State:
        """The weights under the network's own names; WeightsError says what of the nearest naming does not fit."""
        refusals = []
        if not (refusal := self.refusal(state)):
            return state
        refusals.append(refusal)
        for renamed in other_namings(self.network, self.network_args, state):
            if not (refusal := self.refusal(renamed)):
                return renamed
            refusals.append(refusal)
        raise WeightsError(f"{source}: {min(refusals)[1]}")

    def refusal(self, state: State) -> tuple[int, str] | None:
        """How many keys do not fit, and the first of them; None for weights that fit."""
        given = {k: v for k, v in state.items() if not (self._is_counter(k) or self._of_classifier(k))}
        wanted = {k: v for k, v in self._state.items() if not self._is_counter(k)}
        missing, unexpected = sorted(wanted.keys() - given.keys()), sorted(given.keys() - wanted.keys())
        reshaped = [key for key in sorted(wanted.keys() & given.keys()) if wanted[key].shape != given[key].shape]
        if missing:
            message = f"weights of another architecture: first missing key {missing[0]!r}: {_CORRECT}"
        elif unexpected:
            message = f"weights of another architecture: first unexpected key {unexpected[0]!r}: {_CORRECT}"
        elif reshaped:
            key = reshaped[0]
            message = f"{key!r} has shape {tuple(given[key].shape)}, not {tuple(wanted[key].shape)}"
            if "pos" in key:
                message += ": network_args with the image size of the weights may fit"
        else:
            return None
        return len(missing) + len(unexpected) + len(reshaped), message

    def loaded(self, state: State) -> nn.Module:
        """The network, without its classifier and in eval mode, with weights that fit."""
        network, ours = self._parts[0], self._state
        network.load_state_dict(ours | {k: v for k, v in state.items() if k in ours})
        return network.eval()

    @cached_property
    def _parts(self) -> tuple[nn.Module, tuple[str, ...]]:
        """The network without its classifier, and what the names of classifiers begin with."""
        whole = build_network(self.network, self.network_args)
        before, declared = set(whole.state_dict()), declared_classifiers(whole)
        headless = without_classifier(whole, self.network)
        gone = {key.rpartition(".")[0] or key for key in before - set(headless.state_dict())}
        return headless, tuple(f"{path}." for path in {*declared, *gone})

    @cached_property
    def _state(self) -> State:
        return self._parts[0].state_dict()

    def _of_classifier(self, key: str) -> bool:
        return key.startswith(self._parts[1]) and key not in self._state

    @staticmethod
    def _is_counter(key: str) -> bool:
        return key.endswith("num_batches_tracked")


def _refuse_other(file: Path | None, backbone: Backbone) -> None:
    """WeightsError when a file is there and is not the one that `weights_sha256` pins."""
    pinned = backbone.weights_sha256
    if file and pinned and file.exists() and (found := sha256_file(file)) != pinned:
        raise WeightsError(
            f"weights {backbone.weights}: sha256 {found}, but weights_sha256 is {pinned}: get that file, or correct it"
        )


def _write(out: Path, state: State, header: Mapping[str, Any], pinned: Backbone | None) -> None:
    """Write a weights file; WeightsError, and no file, when `pinned` pins another one."""
    from safetensors.torch import save_file

    # One header entry: safetensors does not keep the order of several entries, and the bytes must repeat.
    entry = {"ffdi": json.dumps(header, sort_keys=True)}
    tensors: dict[str, Tensor] = {k: v.contiguous() for k, v in sorted(state.items())}
    with replacing(out) as temporary:
        save_file(tensors, temporary, metadata=entry)
        if pinned:
            _refuse_other(temporary, pinned)
