"""Preprocessing follows the weights: what is stated of them, what params.yaml may say beside it, and who resolves it."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.numpy import save_file
from timm.data import create_transform, resolve_data_config
from timm.models import get_pretrained_cfg
from torchvision import models

from ffdi.console import Console
from ffdi.errors import FfdiError, ParamsError, WeightsError
from ffdi.features.backbone import Backbone
from ffdi.features.networks import FrozenPrefix
from ffdi.features.preprocessing import IMAGENET_MEAN, IMAGENET_STD, Preprocessing
from ffdi.features.stated_preprocessing import (
    MODES,
    described_preprocessing,
    fraction,
    resolve_preprocessing,
    resolved,
)
from ffdi.intake.decoding.resizing import Resize

HALF = (0.5, 0.5, 0.5)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def net(network: str, weights: str, **fields: Any) -> Backbone:
    return Backbone("b", network, weights, "input", **fields)


def of_model(network: str, weights: str, **fields: Any) -> Preprocessing:
    backbone = net(network, weights, preprocessing="model", **fields)
    return resolved(backbone, json.loads(json.dumps(described_preprocessing(backbone)))).pixels


def said(backbone: Backbone) -> list[str]:
    lines: list[str] = []
    described_preprocessing(backbone, Console(alert=lines.append))
    return lines


@pytest.mark.parametrize(
    ("network", "weights", "due"),
    [
        (
            "timm:legacy_xception",
            "timm:tf_in1k",
            Preprocessing(299, HALF, HALF, Resize("shorter_side", "bicubic", 0.8975)),
        ),
        (
            "timm:vit_large_patch14_clip_336",
            "timm:openai",
            Preprocessing(336, CLIP_MEAN, CLIP_STD, Resize("shorter_side", "bicubic")),
        ),
        (
            "torchvision:efficientnet_v2_l",
            "torchvision:IMAGENET1K_V1",
            Preprocessing(480, HALF, HALF, Resize("shorter_side", "bicubic")),
        ),
        (
            "torchvision:resnet50",
            "torchvision:IMAGENET1K_V2",
            Preprocessing(224, IMAGENET_MEAN, IMAGENET_STD, Resize("shorter_side", "bilinear", 0.9655)),
        ),
        (
            "timm:tf_efficientnet_lite0",
            "package:efficientnet-lite0",
            Preprocessing(224, HALF, HALF, Resize("shorter_side", "bicubic", 0.875)),
        ),
        ("timm:test_vit", "random", Preprocessing(160, HALF, HALF, Resize("shorter_side", "bicubic", 0.95))),
    ],
)
def test_the_model_is_asked(network: str, weights: str, due: Preprocessing) -> None:
    assert of_model(network, weights) == due


def test_what_is_written_counts() -> None:
    written = of_model("timm:legacy_xception", "timm:tf_in1k", image_size=256, resize=Resize(), mean=(0.5, 0.5, 0.5003))
    assert written == Preprocessing(256, (0.5, 0.5, 0.5003), HALF, Resize())
    with pytest.raises(
        ParamsError, match=r"backbones.b.std: 0.25, but `preprocessing: model` finds 0.5: leave out one of them"
    ):
        of_model("timm:legacy_xception", "timm:tf_in1k", std=(0.25, 0.25, 0.25))


@pytest.mark.parametrize(
    ("network", "weights", "beside", "key", "says"),
    [
        (
            "timm:vit_base_patch16_sapiens2",
            "timm:fb",
            "",
            "image_size",
            "timm:fb is for images of 768 x 1024, not for squares",
        ),
        ("timm:volo_d4_448", "timm:sail_in1k", "", "resize", "timm:sail_in1k is for crop 1.15, which adds a border"),
        ("timm:vit_base_patch16_clip_224", "file:own", "image_size", "resize", "differ in resize (timm:"),
        ("timm:tf_efficientnet_b4", "file:own", "image_size resize std", "mean", "differ in mean (timm:"),
    ],
)
def test_what_cannot_be_followed_must_be_written(network: str, weights: str, beside: str, key: str, says: str) -> None:
    written = {"image_size": 384, "resize": Resize(), "mean": HALF, "std": HALF}
    others = {name: written[name] for name in beside.split()}
    with pytest.raises(WeightsError) as caught:
        of_model(network, weights, **others)
    assert str(caught.value).startswith("backbones.b.preprocessing: model: ") and says in str(caught.value)
    assert str(caught.value).endswith(f": write {key}")
    assert getattr(of_model(network, weights, **others, **{key: written[key]}), key.removeprefix("image_"))


def test_weights_of_which_nothing_is_stated_are_refused() -> None:
    for network, weights in (
        ("timm:test_vit", "torchvision:X"),
        ("timm:test_vit", "timm:none"),
        ("torchvision:x", "random"),
    ):
        with pytest.raises(WeightsError, match=f"nothing is stated of {weights} for {network}: write image_size, mean"):
            of_model(network, weights)


def test_a_normalisation_that_nobody_wrote_must_be_that_of_the_weights() -> None:
    for backbone in (
        net("timm:legacy_xception", "timm:tf_in1k"),
        net("timm:legacy_xception", "timm:tf_in1k", mean=HALF),
        net("torchvision:efficientnet_v2_l", "torchvision:IMAGENET1K_V1"),
        net("timm:tf_efficientnet_lite0", "package:efficientnet-lite0"),
    ):
        with pytest.raises(WeightsError) as caught:
            said(backbone)
        line = str(caught.value)
        assert line.startswith(
            f"backbones.b: {backbone.weights} of {backbone.network} was trained with mean 0.5 and std 0.5, params have"
        )
        assert line.endswith("by default: set `preprocessing: model`, or write mean and std")
    assert "params have mean [0.485, 0.456, 0.406] and std [0.229, 0.224, 0.225] by default" in line


def test_one_that_is_written_is_a_warning() -> None:
    (line,) = said(net("timm:legacy_xception", "timm:tf_in1k", mean=IMAGENET_MEAN, std=IMAGENET_STD))
    assert line.startswith(
        "timm:tf_in1k of timm:legacy_xception was trained with mean 0.5 and std 0.5, params have mean ["
    )
    (line,) = said(net("timm:legacy_xception", "file:own.safetensors"))
    assert line.startswith("no weights of timm:legacy_xception state mean [0.485, 0.456, 0.406] and std [0.229,")


def test_the_right_one_and_random_weights_are_no_matter() -> None:
    for backbone in (
        net("timm:legacy_xception", "timm:tf_in1k", mean=HALF, std=HALF),
        net("timm:vit_base_patch16_clip_224", "timm:openai", mean=(0.481, 0.458, 0.408), std=(0.269, 0.261, 0.276)),
        net("timm:legacy_xception", "random"),
        net("timm:tf_efficientnet_b4", "file:own", mean=HALF, std=HALF),
        net("torchvision:mobilenet_v2", "torchvision:IMAGENET1K_V1"),
        net("timm:legacy_xception", "timm:none"),  # which fetching refuses
    ):
        assert said(backbone) == [] and described_preprocessing(backbone) == {}


def test_every_tag_is_read_as_timm_reads_it() -> None:
    refused = []
    for name in timm.list_models(pretrained=True):
        model, _, tag = name.partition(".")
        cfg: Any = resolve_data_config(pretrained_cfg=get_pretrained_cfg(name).to_dict())  # type: ignore
        try:
            seen = of_model(f"timm:{model}", f"timm:{tag}")
        except WeightsError:
            refused.append((cfg["crop_pct"], cfg["input_size"][1:]))
            continue
        how = Resize(MODES[cfg["crop_mode"]], cfg["interpolation"], cfg["crop_pct"])
        assert seen == Preprocessing(cfg["input_size"][1], tuple(cfg["mean"]), tuple(cfg["std"]), how), name
    assert refused and all(crop > 1 or height != width for crop, (height, width) in refused)


def test_every_entry_of_torchvision_is_read_to_the_pixel() -> None:
    for model in models.list_models(module=models):
        for entry in models.get_model_weights(model):
            see, seen = entry.transforms(), of_model(f"torchvision:{model}", f"torchvision:{entry.name}")
            assert (seen.size, list(seen.mean), list(seen.std)) == (see.crop_size[0], see.mean, see.std)
            assert seen.resize.scaled(1000, 1000, seen.size) == (see.resize_size[0],) * 2
            assert (seen.resize.mode, seen.resize.kernel) == ("shorter_side", see.interpolation.value)
    assert fraction(224, 256) == 0.875 and fraction(224, 224) == 1.0


@pytest.mark.parametrize("size", [(300, 401), (97, 61)])
def test_the_network_is_given_what_the_publishers_transform_gives_it(size: tuple[int, int]) -> None:
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8))

    def given(pixels: Preprocessing) -> Any:
        square = torch.from_numpy(np.array(pixels.square(photo)))[None]
        return FrozenPrefix(torch.nn.Identity(), pixels.mean, pixels.std)(square)[0]

    for name in ("legacy_xception.tf_in1k", "vit_large_patch14_clip_336.laion2b_ft_in1k", "resnet18.tv_in1k"):
        cfg: Any = resolve_data_config(pretrained_cfg=get_pretrained_cfg(name).to_dict())  # type: ignore
        model, _, tag = name.partition(".")
        due: Any = create_transform(**cfg)(photo)  # type: ignore
        assert torch.allclose(given(of_model(f"timm:{model}", f"timm:{tag}")), due, atol=1e-5), name
    for model, enum in (("efficientnet_b4", "IMAGENET1K_V1"), ("resnet50", "IMAGENET1K_V2")):
        due = models.get_model_weights(model)[enum].transforms()(photo)
        assert torch.allclose(given(of_model(f"torchvision:{model}", f"torchvision:{enum}")), due, atol=1e-5), model


def weights_file(folder: Path, **header: Any) -> Path:
    provenance = {"network": "timm:test_vit", "source": "random", "pretrained": False}
    save_file({"x": np.zeros(1)}, folder / "w.safetensors", {"ffdi": json.dumps(provenance | header)})
    return folder / "w.safetensors"


def test_the_header_of_the_weights_resolves_a_backbone(tmp_path: Path) -> None:
    backbone = net("timm:test_vit", "random", preprocessing="model")
    with pytest.raises(ParamsError, match=r"backbones.b.preprocessing: model: is known from the weights file alone"):
        _ = backbone.pixels
    plain = weights_file(tmp_path)
    with pytest.raises(
        WeightsError, match=r"w.safetensors: was written without `preprocessing: model`: run the weights"
    ):
        resolve_preprocessing(backbone, plain)
    own = net("timm:test_vit", "random")
    assert resolve_preprocessing(own, plain) is own
    file = weights_file(tmp_path, preprocessing=described_preprocessing(backbone))
    assert resolve_preprocessing(backbone, file).pixels == Preprocessing(
        160, HALF, HALF, Resize("shorter_side", "bicubic", 0.95)
    )
    assert resolve_preprocessing(replace(backbone, image_size=64), file).pixels.size == 64
    file = weights_file(tmp_path, preprocessing={"mean": HALF, "std": HALF})
    with pytest.raises(FfdiError, match=r"backbones.b.image_size: its weights file does not say it: write it, or run"):
        resolve_preprocessing(backbone, file)


def test_the_size_of_network_args_is_the_size() -> None:
    for side in (336, [336, 336]):
        args = {"img_size": side}
        assert net("timm:test_vit", "random", network_args=args).pixels.size == 336
        assert of_model("timm:test_vit", "random", network_args=args).size == 336
    assert of_model("timm:test_vit", "random", network_args={"img_size": 336}, image_size=224).size == 224
    with pytest.raises(ParamsError, match=r"network_args: \[336, 224\] is no side of a square"):
        net("timm:test_vit", "random", network_args={"img_size": [336, 224]}).check()


def test_what_the_model_states_must_go_with_the_decoder() -> None:
    backbone = net("timm:test_vit", "random", preprocessing="model", decoder="nvjpeg")
    described = described_preprocessing(backbone)
    assert resolved(backbone, described).pixels.resize.kernel == "bicubic"
    described["resize"] = described["resize"] | {"kernel": "lanczos"}
    with pytest.raises(ParamsError, match=r"backbones.b.resize.kernel: lanczos needs `decoder: pillow`"):
        resolved(backbone, described)


def test_a_resolved_backbone_is_one_whose_params_say_it_all() -> None:
    backbone = net("timm:test_vit", "random", preprocessing="model")
    by_hand = net(
        "timm:test_vit", "random", image_size=160, mean=HALF, std=HALF, resize=Resize("shorter_side", "bicubic", 0.95)
    )
    assert resolved(backbone, described_preprocessing(backbone)) == by_hand
    assert Backbone.from_dict(by_hand.to_dict()).pixels == by_hand.pixels
