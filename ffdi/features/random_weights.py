"""Seeded random weights, their BatchNorm statistics calibrated on seeded noise. A matter of seconds for any network."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from ffdi.errors import WeightsError, one_line
from ffdi.features.backbone import Backbone
from ffdi.features.networks import build_network
from ffdi.features.weight_sources import State

SIZE, BATCHES, BATCH = 128, 4, 8
MANY_NORMS = 60  # threads that share cores with other work wait for each other in every layer
LARGE, MOST_FLOPS = 50_000_000, 5e11  # parameters from which FLOPs are counted; FLOPs of the whole calibration


def random_state(backbone: Backbone, *, seed: int) -> State:
    """Seeded random weights whose BatchNorm statistics are calibrated on seeded noise.

    Without calibration, the features of a random MobileNetV2 have a standard deviation of 8e-8 and vanish in float16.
    The noise is a sum of octaves, so it has structure at every scale, as images have. It has 128 x 128 pixels, or the
    size of the backbone or of the network where that is refused; WeightsError when all are.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_network(backbone.network, backbone.network_args).eval()
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if norms:
            with _threads(1 if len(norms) > MANY_NORMS else torch.get_num_threads()):
                _calibrate(model, norms, backbone)
    return model.state_dict()


def _calibrate(model: nn.Module, norms: list[nn.modules.batchnorm._BatchNorm], backbone: Backbone) -> None:
    own = (getattr(model, "pretrained_cfg", None) or {}).get("input_size")
    sizes = list(dict.fromkeys((SIZE, backbone.pixels.size, own[-1] if own else SIZE)))
    for size in sizes:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        try:
            with torch.inference_mode():
                batches, batch = calibration_images(model, size)
                for _ in range(batches):
                    octaves = (torch.randn(batch, 3, max(size >> k, 1), max(size >> k, 1)) for k in range(5))
                    noise = sum(nn.functional.interpolate(o, size=(size, size), mode="bilinear") for o in octaves)
                    model(noise / 5**0.5)
        except Exception as error:  # the network's code may raise anything
            refusal = error
        else:
            return
    tried = ", ".join(map(str, sizes))
    raise WeightsError(
        f"weights random: {backbone.network} has BatchNorm and runs at none of the image sizes {tried} "
        f"({one_line(refusal)[:200]}): set image_size to one that it takes"
    ) from refusal


def calibration_images(model: nn.Module, size: int) -> tuple[int, int]:
    """(batches, images in each): fewer for a network of which as many as usual would take minutes."""
    flops = 0
    if sum(p.numel() for p in model.parameters()) >= LARGE:
        with contextlib.suppress(Exception):  # a network's own code may not run without computing
            flops = flops_of(model, size)
    images = min(int(MOST_FLOPS / max(flops, 1)), BATCHES * BATCH)
    return max(images // BATCH, 1), min(max(images, 2), BATCH)


def flops_of(model: nn.Module, size: int) -> int:
    """FLOPs of one image, counted without computing anything."""
    counter = FlopCounterMode(display=False)
    with torch.device("meta"), counter:
        copy.deepcopy(model).to("meta").eval()(torch.zeros(1, 3, size, size))
    return int(counter.get_total_flops())


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
