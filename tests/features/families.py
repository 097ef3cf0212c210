"""The families of networks that timm and torchvision have, a small network of each, and a walk through one of them.

A family is a module of timm or torchvision. The list comes from the libraries, so a family of a later version is walked
too: then by its network with the fewest parameters, at that network's own size. CHOICES are cheaper ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from ffdi.errors import FfdiError
from ffdi.evaluation.cost import count_flops
from ffdi.features.backbone import INPUT, Backbone
from ffdi.features.cuts import Cut, cut_network, list_cuts
from ffdi.features.networks import FrozenPrefix, build_network, headless_network
from ffdi.tails.batches import FeatureTable
from ffdi.tails.folds import Split
from ffdi.tails.heads import TailFactory
from ffdi.tails.recipe import Head, Optimizer, Recipe
from ffdi.tails.train import fit, predict_logits


@dataclass(frozen=True)
class Choice:
    """A network, with the size and the arguments at which it is small."""

    network: str
    size: int
    args: dict[str, Any] = field(default_factory=dict)


def families() -> dict[str, list[str]]:
    """The networks of every family, by `timm:MODULE` or `torchvision:MODULE`."""
    import timm
    from torchvision import models

    found = {f"timm:{module}": timm.list_models(module=module) for module in timm.list_modules()}
    for name in models.list_models(module=models):
        module = models.get_model_builder(name).__module__.rpartition(".")[2]
        found.setdefault(f"torchvision:{module}", []).append(name)
    return found


def choice(family: str) -> Choice:
    """The network of a family that is walked, at 64 pixels where it takes them, otherwise at its own size."""
    if family in CHOICES:
        name, args, *sizes = CHOICES[family]
    else:
        names = families()[family]
        names = [n for n in names if n.startswith("test_")] or names
        name, args, sizes = min(names, key=lambda n: _parameters(f"{family.partition(':')[0]}:{n}")), {}, []
    network = f"{family.partition(':')[0]}:{name}"
    size = sizes[0] if sizes else SMALL
    of_size = {"image_size" if network.startswith("torchvision:") else "img_size": size}
    taken = (Choice(network, size, args | more) for more in ({}, of_size) if _takes(network, size, args | more))
    return next(taken, Choice(network, _own_size(network), args))


def _parameters(network: str) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in build_network(network).parameters())


def _takes(network: str, size: int, args: dict[str, Any]) -> bool:
    try:
        with torch.device("meta"), torch.inference_mode():
            build_network(network, args).eval()(torch.zeros(2, 3, size, size))
    except Exception:  # the networks' code may raise anything
        return False
    return True


def _own_size(network: str) -> int:
    import timm

    config = timm.get_pretrained_cfg(network.partition(":")[2]) if network.startswith("timm:") else None
    return int(config.input_size[-1]) if config else 224


SMALL = 64
TINY_VIT = {"depth": 3, "embed_dim": 96, "num_heads": 4}
CHOICES: dict[str, Any] = {
    "timm:beit": ("beit_base_patch16_224", TINY_VIT),
    "timm:cait": ("cait_xxs24_224", {"depth": 3}),
    "timm:byoanet": ("lambda_resnet26t", {}),
    "timm:davit": ("davit_tiny", {"depths": [1, 1, 1, 1]}),
    "timm:deepseek_vit": ("deepseek_vit_412m", {"depth": 2}, 126),
    "timm:deit": ("deit_tiny_patch16_224", {"depth": 3}),
    "timm:eva": ("eva02_tiny_patch14_224", {"depth": 3}, 56),
    "timm:gemma4_vit": ("gemma4_vit_167m", {"depth": 2}, 96),
    "timm:hiera": ("hiera_tiny_224", {"stages": [1, 1, 2, 1]}),
    "timm:hieradet_sam2": ("hieradet_small", {}),
    "timm:inception_resnet_v2": ("inception_resnet_v2", {}, 96),
    "timm:inception_v3": ("inception_v3", {}, 96),
    "timm:inception_v4": ("inception_v4", {}, 96),
    "timm:mlp_mixer": ("mixer_s32_224", {}),
    "timm:mobilenetv5": ("mobilenetv5_base", {}),
    "timm:nasnet": ("nasnetalarge", {"stem_size": 16, "num_features": 384}),
    "timm:naflexvit": ("naflexvit_base_patch16_gap", TINY_VIT),
    "timm:qwen3_vit": ("qwen3_vit_88m", {"depth": 2}, 96),
    "timm:regnet": ("regnetx_002", {}),
    "timm:swin_transformer": ("swin_tiny_patch4_window7_224", {"depths": [1, 1, 2, 1]}),
    "timm:swin_transformer_v2": ("swinv2_tiny_window8_256", {"depths": [1, 1, 2, 1]}),
    "timm:swin_transformer_v2_cr": ("swinv2_cr_tiny_224", {"depths": [1, 1, 2, 1]}),
    "timm:vision_transformer_sam": ("samvit_base_patch16_224", TINY_VIT),
    "timm:vision_transformer_hybrid": ("vit_tiny_r_s16_p8_224", {"depth": 2}),
    "torchvision:inception": ("inception_v3", {}, 96),
    "torchvision:regnet": ("regnet_y_400mf", {}),
    "torchvision:vision_transformer": ("vit_b_16", {}),
}


@dataclass
class Walk:
    """What came of a network: how many cuts are listed, which of them were walked, or the line that refuses it."""

    choice: Choice
    listed: int = 0
    walked: list[str] = field(default_factory=list)
    refusal: str = ""
    located: str = ""  # the cut of the first map, whose rows and columns are those of the image


def walk(chosen: Choice, most: int = 6) -> Walk:
    """Cut the network at its first, its last and some places between; extract, train a step and score at each.

    AssertionError where the tail behind the prefix is not the network, or where what is listed is not what is taken.
    """
    done = Walk(chosen)
    torch.manual_seed(0)
    try:
        network = headless_network(chosen.network, chosen.args).eval()
        cuts = list_cuts(network, chosen.size)
    except FfdiError as error:
        done.refusal = str(error)
        return done
    done.listed = len(cuts)
    pixels = torch.randint(0, 256, (4, chosen.size, chosen.size, 3), dtype=torch.uint8)
    images = FrozenPrefix(nn.Identity(), MEAN, STD)(pixels)
    with torch.inference_mode():
        due = network(images)
    for cut in spread(cuts, most) or [Cut(INPUT, (3, chosen.size, chosen.size), 0.0)]:
        features = walk_cut(network, chosen, cut, pixels, due) if cut.name != INPUT else pixels.permute(0, 3, 1, 2)
        train_and_score(network, chosen, cut, features)
        if not done.located and cut.name != INPUT and len(cut.shape) == 3 and min(cut.shape[1:]) >= 4:
            done.located = cut.name
            assert is_located(network, chosen, cut, pixels), (
                f"{cut.name}: {cut.shape}: rows and columns are not the image's"
            )
        done.walked.append(cut.name)
    return done


def spread(cuts: list[Cut], most: int) -> list[Cut]:
    """The first cut, the last, and those between that are nearest to even shares of the FLOPs, in order."""
    between = range(1, len(cuts) - 1)
    shares = [n / (most - 1) for n in range(1, most - 1)] if between else []
    near = {min(between, key=lambda at: abs(cuts[at].flops_before - share)) for share in shares}
    return [cuts[at] for at in sorted({*range(len(cuts))[:1], *range(len(cuts))[-1:], *near})]


MEAN = STD = (0.5, 0.5, 0.5)


def walk_cut(network: nn.Module, chosen: Choice, cut: Cut, pixels: Tensor, due: Tensor) -> Tensor:
    """The features of `pixels` at a cut; its tail gives what the network gives, `due`, to the last bit."""
    prefix, body = cut_network(network, cut.name, chosen.size)
    assert prefix is not None
    frozen = FrozenPrefix(prefix, MEAN, STD)
    with torch.inference_mode():
        features = frozen(pixels)
        assert tuple(features.shape[1:]) == cut.shape, f"{cut.name}: listed as {cut.shape}, is {features.shape}"
        assert torch.equal(body.eval()(features), due), f"{cut.name}: the tail behind the prefix is not the network"
    assert count_flops(frozen, pixels[:1]) >= 0
    return features.clone()


def is_located(network: nn.Module, chosen: Choice, cut: Cut, pixels: Tensor) -> bool:
    """Whether what changes in the upper right of the images changes most in the upper right of the maps (C, H, W)."""
    prefix, _ = cut_network(network, cut.name, chosen.size)
    quarter, changed = chosen.size // 4, pixels.clone()
    changed[:, :quarter, -quarter:] = 255 - changed[:, :quarter, -quarter:]
    with torch.inference_mode():
        before, after = (prefix(FrozenPrefix(nn.Identity(), MEAN, STD)(images)) for images in (pixels, changed))
    by_quadrant = nn.functional.adaptive_avg_pool2d((after - before).abs().sum(1), 2).sum(0).flatten()
    return int(by_quadrant.argmax()) == 1


def train_and_score(network: nn.Module, chosen: Choice, cut: Cut, features: Tensor) -> None:
    """One step of training moves the weights of a tail, and it scores."""
    backbone = Backbone("b", chosen.network, "random", cut.name, chosen.size, network_args=chosen.args)
    factory = TailFactory(network, backbone, Head("linear"), cut.shape)
    tail = factory.fresh(0)
    table = FeatureTable.of_features(features, torch.tensor([0, 1, 0, 1]))
    recipe = Recipe("r", "b", Head("linear"), epochs=1, batch_size=4, lr=1e-3, optimizer=Optimizer("sgd"))
    fit(tail, Split(0, table, table), recipe, device=torch.device("cpu"))
    parameters = [(name, p) for name, p in tail.named_parameters() if name.startswith("body.")]
    still = [name for name, p in parameters if p.grad is None or not p.grad.isfinite().all()]
    assert len(still) <= len(parameters) / 4, f"{cut.name}: {len(still)} parameters got no gradient: {still[:3]}"
    moved = any(bool(p.grad.any()) for _, p in parameters if p.grad is not None)
    assert moved or not parameters, f"{cut.name}: no parameter of the body moves"
    assert predict_logits(tail, table, 4, torch.device("cpu")).shape == (4,)
    count_flops(tail, features[:1])
