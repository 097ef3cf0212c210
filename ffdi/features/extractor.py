"""A backbone made ready: what its features are, and the runtime that computes them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ffdi.console import Console
from ffdi.errors import ExportError, network_code, placed
from ffdi.features.backbone import Backbone
from ffdi.features.decoders import NVJPEG_POLICY
from ffdi.features.feature_spec import FeatureSpec, Provenance, read_provenance
from ffdi.features.keep import resolve_keep
from ffdi.features.runtimes import Runtime, exported_graph, open_runtime, refused_export, runtime_line, runtime_name
from ffdi.features.stated_preprocessing import resolve_preprocessing
from ffdi.features.views import RENDERING
from ffdi.features.wider import known_spec
from ffdi.files import sha256_file
from ffdi.intake.decoding.images import DECODE_POLICY

if TYPE_CHECKING:  # a run with nothing to do, or with its graph exported, does without torch
    from torch import nn

    from ffdi.features.networks import FrozenPrefix


@dataclass(frozen=True)
class Extractor:
    """Computes the features of a backbone: what its rows are (`spec`) and where its weights come from (`provenance`).

    `load` gives the prefix in torch, the same module every time.
    """

    backbone: Backbone
    spec: FeatureSpec
    provenance: Provenance
    load: Callable[[], FrozenPrefix]

    @property
    def module(self) -> FrozenPrefix | None:
        """The prefix in torch; None for `cut: input`."""
        return self.load() if self.backbone.has_prefix else None

    def open(self, console: Console = Console()) -> Runtime:
        """The runtime that the spec names; `cut: input` returns the images as (B, 3, S, S) uint8.

        Raises ShardError when the spec's runtime cannot run here: another one's rows would get its fingerprint.
        """
        if not self.backbone.has_prefix:
            return Runtime(1, cast("Any", lambda images: images.transpose(0, 3, 1, 2)))
        spec = self.spec
        b = replace(self.backbone, precision=spec.policy["precision"], dtype=cast("Any", spec.dtype))
        with network_code(b.place):
            return open_runtime(b, spec.weights_sha256, self.load, spec.policy["runtime"], console)

    @property
    def device_line(self) -> str:
        """What computes it and why, on one line."""
        if not self.backbone.has_prefix:
            nvjpeg = self.backbone.decoder == "nvjpeg"
            return f"{runtime_line('torch-cuda')}, for nvJPEG" if nvjpeg else "cpu: cut: input has no prefix"
        line, runtime = runtime_line(self.spec.policy["runtime"]), self.spec.policy["runtime"]
        left_open = self.backbone.runtime == "auto" and runtime == "torch-cpu"
        fallback = left_open and refused_export(self.backbone, self.spec.weights_sha256)
        return f"{line}; by torch, for the prefix does not run on ONNX Runtime" if fallback else line


@dataclass(frozen=True)
class PrefixFile:
    """The prefix of a backbone in a file of weights, loaded at the first call. Another process gets the path alone."""

    backbone: Backbone
    weights: Path

    def __call__(self) -> FrozenPrefix:
        return self._module

    @cached_property
    def _module(self) -> FrozenPrefix:
        from ffdi.features.weights import load_network

        b = self.backbone
        return frozen_prefix(load_network(b.network, self.weights, b.network_args)[0], b)

    def __getstate__(self) -> dict[str, Any]:
        return {"backbone": self.backbone, "weights": self.weights}


def frozen_prefix(network: nn.Module, backbone: Backbone) -> FrozenPrefix:
    """The prefix of a backbone, with a copy of the weights of `network`; `network` has no classifier."""
    from ffdi.features.cuts import cut_network
    from ffdi.features.networks import FrozenPrefix
    from ffdi.features.pooled_cuts import pooled_cuts

    pixels, cuts = backbone.pixels, backbone.cuts
    if len(cuts) > 1:
        return FrozenPrefix(
            pooled_cuts(network, cuts, pixels.size, resolve_keep(backbone.keep)), pixels.mean, pixels.std
        )
    with placed(f"backbones.{backbone.name}: {backbone.network}"):
        prefix, _ = cut_network(network, cuts[0], pixels.size)
    assert prefix is not None
    return FrozenPrefix(prefix, pixels.mean, pixels.std, getattr(prefix, "tokens", None))


def load_extractor(backbone: Backbone, weights: Path, known: Path | None = None) -> Extractor:
    """The extractor of a backbone with the weights of a file.

    The network itself is loaded, and exported where ONNX Runtime is to compute, only when the shape of its features is
    known neither from the shards in `known` or in a folder beside it, if these hold the features or more, nor from an
    exported graph. Raises ParamsError when the features at the cut have no such part as `keep` names.
    """
    b = resolve_preprocessing(backbone, weights)
    provenance = read_provenance(weights, b.network, b.network_args)
    load, spec = PrefixFile(b, weights), local_spec(b, sha256_file(weights))
    if b.has_prefix:
        with placed(b.place):
            found = known_spec(spec, known) if known else None
        spec = found or as_computed(spec, b, load)
    return Extractor(b, spec, provenance, load)


def local_spec(backbone: Backbone, weights_sha256: str, shape: tuple[int, ...] = ()) -> FeatureSpec:
    """The spec of the features that this machine computes with a backbone; `shape` is what is stored of one image's.

    ParamsError when the backbone cannot run here.
    """
    b, prefix = backbone, backbone.has_prefix
    runtime = runtime_name(b) if prefix or b.decoder == "nvjpeg" else "none"
    if b.runtime == "auto" and runtime == "onnxruntime-cpu" and refused_export(b, weights_sha256):
        runtime = "torch-cpu"
    policy: dict[str, Any] = {
        "decode": NVJPEG_POLICY if b.decoder == "nvjpeg" else DECODE_POLICY,
        "resize": b.pixels.resize_policy,
        "mean": list(b.pixels.mean) if prefix else None,
        "std": list(b.pixels.std) if prefix else None,
        "views": [dict(operation) for operation in b.views.operations],
        "view_seed": b.views.seed,
        "rendering": RENDERING,
        "runtime": runtime if prefix else "none",
        "precision": b.precision if prefix else "none",
    }
    if b.keep != "all":
        policy["keep"] = b.keep
    if b.network_args and prefix:
        policy["network_args"] = b.network_args
    shape = shape if prefix else (3, b.pixels.size, b.pixels.size)
    return FeatureSpec(b.name, b.network, b.cut_name, weights_sha256, b.pixels.size, shape, b.feature_dtype, policy)


def as_computed(spec: FeatureSpec, backbone: Backbone, load: Callable[[], FrozenPrefix]) -> FeatureSpec:
    """`spec` with its shape; for `runtime: auto`, that of torch where the prefix does not run on ONNX Runtime.

    Raises ExportError for `runtime: onnxruntime`, ParamsError when the image size does not fit.
    """
    graph = None
    if spec.policy["runtime"] == "onnxruntime-cpu":
        try:
            graph = exported_graph(backbone, spec.weights_sha256, load)
        except ExportError:
            if backbone.runtime != "auto":
                raise
            spec = replace(spec, policy={**spec.policy, "runtime": "torch-cpu"})
    if spec.shape:
        return spec
    with placed(backbone.place):
        shape = graph.shape if graph else load().feature_shape(backbone.pixels.size)
        return spec.of_cut(shape, graph.tokens if graph else load().tokens)
