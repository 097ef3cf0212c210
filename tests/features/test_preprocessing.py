"""What a network sees of an image: the defaults, what fingerprints and bundles say of it, and who asks for it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import picture
from PIL import Image

from ffdi.errors import ParamsError
from ffdi.features.backbone import Backbone
from ffdi.features.extractor import local_spec
from ffdi.features.preprocessing import Preprocessing
from ffdi.intake.decoding.resizing import Resize
from ffdi.params.reading import read_params

IMAGENET = Preprocessing(224, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
BICUBIC = Resize("shorter_side", "bicubic", 0.875)


def net(**fields: Any) -> Backbone:
    return Backbone("b", "timm:test_resnet", "random", "layer4", runtime="onnxruntime", **fields)


def test_a_backbone_is_asked_for_what_its_network_sees() -> None:
    assert net().pixels == IMAGENET
    assert net(image_size=64, std=(1.0, 1.0, 1.0)).pixels == Preprocessing(64, IMAGENET.mean, (1.0, 1.0, 1.0))
    assert net(resize=Resize(kernel="bicubic")).pixels.resize == Resize("squash", "bicubic", 1.0)


def test_a_bundle_stores_the_defaults_as_ever() -> None:
    for plain in (net(), net(resize=Resize("squash", "bilinear", 1.0))):
        stored = plain.to_dict()
        assert list(stored) == [
            *("name", "network", "weights", "cut", "image_size", "mean", "std"),
            *("view_count", "view_policy", "view_seed", "dtype", "runtime", "precision", "compile", "decoder"),
        ]
        assert (stored["image_size"], stored["mean"], stored["std"]) == (IMAGENET.size, IMAGENET.mean, IMAGENET.std)
        assert Backbone.from_dict(stored).pixels == IMAGENET


def test_a_bundle_stores_how_images_become_squares() -> None:
    stored = net(resize=Resize(kernel="bicubic", crop=0.5)).to_dict()
    assert stored["resize"] == {"mode": "squash", "kernel": "bicubic", "crop": 0.5}
    assert Backbone.from_dict(stored).pixels.resize == Resize("squash", "bicubic", 0.5)


def test_the_fingerprint_says_how_images_become_squares() -> None:
    def policy(**fields: Any) -> Any:
        return local_spec(net(**fields), "0" * 64).policy["resize"]

    assert policy() == policy(resize=Resize(mode="squash")) == "pillow-square-bilinear-1"
    assert policy(resize=BICUBIC) == "pillow-shorter_side-bicubic-1, crop 0.875"
    letterbox = policy(resize=Resize("letterbox"), mean=(0.5, 0.5, 0.5))
    assert letterbox == "pillow-letterbox-bilinear-1, crop 1.0, filled with (128, 128, 128)"
    assert local_spec(net(resize=BICUBIC), "0" * 64).fingerprint != local_spec(net(), "0" * 64).fingerprint


def test_a_letterbox_is_filled_with_what_the_network_sees_as_nothing() -> None:
    pixels = net(image_size=8, resize=Resize("letterbox"), mean=(0.2, 0.5, 1.0)).pixels
    square = np.asarray(pixels.square(Image.new("RGB", (8, 4))))
    assert (square[:2] == (51, 128, 255)).all() and (square[2:6] == 0).all()


def test_params_take_a_part_of_the_resizing_and_refuse_what_no_gpu_does(tmp_path: Path) -> None:
    def read(entry: str) -> Backbone:
        network = "network: timm:test_resnet, weights: random, cut: layer4"
        (tmp_path / "params.yaml").write_text(
            f"data: {{root: x}}\nsplit: {{embedding: b}}\nbackbones: {{b: {{{network}, {entry}}}}}\n"
            "recipes: {r: {backbone: b}}\nladder: {recipe: r, backbone: b}\n"
        )
        return read_params(tmp_path / "params.yaml").backbone("b")

    assert read("resize: {kernel: lanczos, crop: 0.9}").pixels.resize == Resize("squash", "lanczos", 0.9)
    for entry, says in (
        ("resize: {kernel: nearest}", r"backbones.b.resize.kernel: Input should be 'bilinear', 'bicubic' or 'lanczos'"),
        ("resize: {crop: 1.1}", r"backbones.b.resize.crop: Input should be less than or equal to 1 \(is 1.1\)"),
        ("resize: {side: 1}", r"unknown key backbones.b.resize.side: choose one of mode, kernel, crop"),
        (
            "decoder: nvjpeg, resize: {kernel: lanczos}",
            r"params.yaml: backbones.b.resize.kernel: lanczos needs `decoder: pillow`",
        ),
    ):
        with pytest.raises(ParamsError, match=says):
            read(entry)


def test_an_augmented_view_is_made_of_the_square_and_not_squared_again() -> None:
    from ffdi.features.views import render, resolve_policy

    square = net(image_size=32, resize=BICUBIC).pixels.square(picture(0, 50))
    view = render(square, image_id="a", view=1, policy=resolve_policy([{"hflip": {"p": 1.0}}]), seed=0)
    assert np.array_equal(np.asarray(view), np.asarray(square)[:, ::-1])
