"""What goes wrong in a training, said in one line: what it was, where it was seen first, and what to try."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from ffdi.errors import FfdiError, ParamsError
from ffdi.tails.checkpoint import Scores


@contextmanager
def batches_for_batchnorm(batch_size: int) -> Iterator[None]:
    """ParamsError when a BatchNorm in the body sees one value of each channel, of which it cannot take the variance."""
    try:
        yield
    except ValueError as error:
        if "more than 1 value per channel" not in str(error):
            raise
        what = "BatchNorm needs more than one value of each channel, and here a batch of one image has one"
        raise ParamsError(
            f"batch_size {batch_size}: {what}: set batch_size to 2 or more, and train on more than one image"
        ) from error


def refuse_divergence(loss: float, logits: Scores, tail: nn.Module, score: Callable[[], object], lr: float) -> None:
    """FfdiError that names what is not finite: the mean loss of an epoch, the weights of `tail`, or its validation logits.

    `score` scores the validation images again, to find the module after which the first value is not finite.
    """
    if math.isfinite(loss) and np.isfinite(logits).all():
        return
    state = tail.state_dict()
    bad = [name for name, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
    if bad or not math.isfinite(loss):
        weights = f", {len(bad)} of {len(state)} tensors of the tail are not finite, first {bad[0]}" if bad else ""
        raise FfdiError(f"the training diverged (mean loss {loss:g}{weights}): lower lr (is {lr:g})")
    count = int((~np.isfinite(logits)).sum())
    largest = max((float(p.detach().abs().max()) for p in tail.parameters() if p.numel()), default=0.0)
    why = ""
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in tail.modules()):
        why = "; in eval mode BatchNorm takes its running statistics, which do not fit the weights after few steps"
    raise FfdiError(
        f"{count} of {len(logits)} validation logits are not finite, first behind {_first_not_finite(tail, score)}, "
        f"though the mean loss ({loss:g}) and all weights (up to {largest:.2g}) are{why}: train longer, take pretrained "
        f"weights, or lower lr (is {lr:g})"
    )


def _first_not_finite(tail: nn.Module, score: Callable[[], object]) -> str:
    """The name and type of the first module that returns a value that is not finite."""
    seen: list[str] = []

    def watch(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def look(module: nn.Module, inputs: Any, output: Any) -> None:
            tensors = [leaf for leaf in tree_leaves(output) if isinstance(leaf, Tensor)]
            if not seen and not all(bool(tensor.isfinite().all()) for tensor in tensors):
                seen.append(f"{name} ({type(module).__name__})")

        return look

    hooks = [module.register_forward_hook(watch(name)) for name, module in tail.named_modules() if name]
    try:
        score()
    finally:
        for hook in hooks:
            hook.remove()
    return seen[0] if seen else "the last module"
