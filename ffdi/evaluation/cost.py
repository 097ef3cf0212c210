"""The cost of a recipe that does not depend on the machine. Seconds are in data/timings, never in metrics."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from ffdi.errors import network_code
from ffdi.features.feature_spec import FeatureSpec
from ffdi.features.recording import on_meta
from ffdi.metrics import Metrics
from ffdi.tails.bundle import Bundle
from ffdi.tails.scoring import same_features, without_views


def cost(bundle: Bundle, spec: FeatureSpec) -> Metrics:
    """Parameters and FLOPs (two for a multiplication with an addition) of prefix and of one tail, and bytes of a feature.

    `flops_per_image` is the cost to score one image: the prefix once, and the tail of every fold; each view
    of `tta` costs as much again. Where a refit tail scores in their place, `flops_per_image` is with that one tail and
    `flops_per_image_of_folds` with theirs. `bytes_per_image` is that of one view, uncompressed; `views_per_image` is the number of views that are stored of each training image.
    """
    size, tail = bundle.backbone.pixels.size, next(iter(bundle.tails.values()))
    pixels = torch.zeros(1, size, size, 3, dtype=torch.uint8, device="meta")
    reads_as = getattr(torch, spec.reads_as)
    with network_code(bundle.backbone.place):
        before = count_flops(bundle.prefix, pixels) if bundle.prefix else 0
        after = count_flops(tail, torch.zeros(1, *spec.shape, dtype=reads_as, device="meta"))
    return {
        "parameters_prefix": _parameters(bundle.prefix) if bundle.prefix else 0,
        "parameters_tail": _parameters(tail),
        "flops_prefix": before,
        "flops_tail": after,
        "flops_per_image": (before + len(bundle.tails) * after) * (1 + len(bundle.tta)),
        **({"flops_per_image_of_folds": _of_folds(bundle, before, after)} if bundle.is_refit else {}),
        "bytes_per_image": spec.row_bytes,
        "views_per_image": bundle.backbone.views.count + 1,
    }


def _of_folds(bundle: Bundle, before: int, after: int) -> int:
    return (before + len(bundle.record["val_auc"]) * after) * (1 + len(bundle.tta))


def cost_of_parts(parts: Sequence[tuple[Bundle, FeatureSpec]]) -> Metrics:
    """The cost of bundles that are used together, each with the spec of its features.

    As `ffdi predict` runs them: bundles with one prefix and one `tta` share each pass of the prefix. `parameters_prefix` and
    `flops_prefix` count a prefix once, `bytes_per_image` cached features once. `parameters_tail` and `flops_tail` are of
    one tail of each bundle.
    """
    costs = [cost(bundle, spec) for bundle, spec in parts]

    def total(key: str, of: Iterable[Metrics]) -> int:
        return sum(int(metrics[key] or 0) for metrics in of)

    def once(keys: Iterable[str]) -> list[Metrics]:
        return list(dict(zip(keys, costs, strict=True)).values())

    prefixes = once(without_views(spec) for _, spec in parts)
    passes = [(1 + len(bundle.tta)) * int(of["flops_prefix"] or 0) for (bundle, _), of in zip(parts, costs)]
    shared = dict(zip((same_features(*part) for part in parts), passes, strict=True)).values()
    tails = total("flops_per_image", costs) - sum(passes)
    return {
        "parameters_prefix": total("parameters_prefix", prefixes),
        "parameters_tail": total("parameters_tail", costs),
        "flops_prefix": total("flops_prefix", prefixes),
        "flops_tail": total("flops_tail", costs),
        "flops_per_image": sum(shared) + tails,
        "bytes_per_image": total("bytes_per_image", once(spec.fingerprint for _, spec in parts)),
        "views_per_image": max(int(metrics["views_per_image"] or 0) for metrics in costs),
    }


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def count_flops(module: nn.Module, features: torch.Tensor) -> int:
    """FLOPs of a call of a module on tensors like `features`.

    Counted on the meta device: it computes nothing, and attention does not take a fused path that hides its FLOPs.
    """
    try:
        return _counted(on_meta(module), torch.zeros_like(features, device="meta"))
    except Exception:  # code that asks for values, or for its own device, does not run there
        with sdpa_kernel(SDPBackend.MATH):  # the operations that a fused path would hide
            return _counted(copy.deepcopy(module).cpu(), torch.zeros_like(features, device="cpu"))


def _counted(module: nn.Module, features: torch.Tensor) -> int:
    """The same for a copy of the module on the device of `features`."""
    counter = FlopCounterMode(display=False)
    with torch.inference_mode(), features.device, counter:
        module.eval()(features)
    return int(counter.get_total_flops())
