"""Which decoder an image gets, and that the GPU's path (here torchvision on the CPU) gives almost the same pixels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from conftest import picture
from fake_nvjpeg import JPEGS, MAX_PIXELS, PNG, NvJpeg, decoded, encoded, pixels, refuses, turned
from odd_bytes import DISPLAY_P3, many_scans
from PIL import Image

from ffdi.errors import FfdiError, ParamsError
from ffdi.features import decoders
from ffdi.features.backbone import Backbone
from ffdi.features.decoders import Decoder
from ffdi.intake.decoding.images import UnreadableImage, open_image
from ffdi.intake.decoding.resizing import Kernel, Mode, Resize, resize

Make = Callable[..., Backbone]


@pytest.fixture
def fast(backbone: Make) -> Decoder:
    """nvJPEG's path at 64 pixels, with torchvision's CPU decoder in its place."""
    return Decoder(backbone(decoder="nvjpeg"), max_pixels=MAX_PIXELS, device="cpu")


@pytest.fixture
def nvjpeg(monkeypatch: pytest.MonkeyPatch) -> NvJpeg:
    return NvJpeg(monkeypatch)


def test_plain_jpegs_are_one_list_and_nearly_pillows_pixels(fast: Decoder, nvjpeg: NvJpeg) -> None:
    results = decoded(fast, *JPEGS[:4])
    assert nvjpeg.lists == [4] and fast.decoded == 4 and fast.fallbacks() == ""
    for image, data in zip(results, JPEGS, strict=False):
        slow = np.asarray(resize(open_image(data, max_pixels=10**6), 64), np.int64)
        assert pixels(image).shape == (64, 64, 3)
        assert np.abs(pixels(image) - slow).max() <= 3


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(encoded(picture(0), "PNG"), id="PNG"),
        pytest.param(encoded(picture(0).convert("CMYK")), id="CMYK"),
        pytest.param(encoded(picture(0).convert("L")), id="grey"),
        pytest.param(encoded(picture(0), keep_rgb=True), id="RGB, not YCbCr"),
        pytest.param(turned(), id="EXIF rotation"),
        pytest.param(encoded(picture(0), icc_profile=DISPLAY_P3), id="a profile that is not sRGB"),
        pytest.param(JPEGS[0][:-900] + b"\xff\xd9", id="cut off and closed"),
        pytest.param(many_scans(65), id="many scans"),
        pytest.param(encoded(picture(0, 160)), id="more than max_pixels"),
        pytest.param(b"no image", id="no image"),
        pytest.param(b"", id="empty"),
        pytest.param(JPEGS[0][:-900], id="truncated"),
        pytest.param(JPEGS[0] + b"more", id="trailing bytes"),
    ],
)
def test_what_needs_the_decode_policy_stays_with_pillow(
    data: bytes, fast: Decoder, backbone: Make, nvjpeg: NvJpeg
) -> None:
    slow = Decoder(backbone(), max_pixels=MAX_PIXELS)
    (image,) = decoded(fast, data)
    assert nvjpeg.lists == [] and fast.not_plain == 1
    (expected,) = decoded(slow, data)
    assert str(image) == str(expected) if isinstance(expected, UnreadableImage) else image == expected
    assert fast.fallbacks() == "nvjpeg decoded 0 images; Pillow decoded 1 that are no plain JPEGs"


def test_images_keep_their_order_and_lists_their_bound(
    fast: Decoder, nvjpeg: NvJpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "_PIXELS", 96 * 96 + 104 * 104)
    order = [PNG, JPEGS[0], b"none", JPEGS[1], PNG, JPEGS[2], JPEGS[0], PNG]
    results = decoded(fast, *order)
    assert nvjpeg.lists == [2, 1, 1] and fast.not_plain == 4
    for image, data in zip(results, order, strict=True):
        if data == b"none":
            assert str(image) == "not an image format that Pillow knows"
        else:
            assert np.abs(pixels(image) - pixels(resize(open_image(data, max_pixels=10**6), 64))).max() <= 3


def test_an_image_that_cannot_be_read_stays_in_its_place(fast: Decoder) -> None:
    def missing() -> bytes:
        raise UnreadableImage("missing")

    results = list(fast([("a", lambda: JPEGS[0]), ("b", missing), ("c", lambda: JPEGS[1])]))
    assert [isinstance(image, UnreadableImage) for image in results] == [False, True, False]


@pytest.mark.parametrize(
    "status",
    [
        *(f"Failed to {what}: {code}" for what in ("get image info", "decode batch") for code in (3, 4, 10)),
        "Unknown chroma subsampling",
    ],
)
def test_a_jpeg_that_nvjpeg_refuses_is_pillows_counted_and_named(status: str, fast: Decoder, nvjpeg: NvJpeg) -> None:
    nvjpeg.fails = refuses(JPEGS[2], status)
    results = decoded(fast, *JPEGS[:5])
    assert results[2] == resize(open_image(JPEGS[2], max_pixels=10**6), 64)
    assert nvjpeg.lists == [5, 2, 3, 1, 2] and fast.decoded == 4
    assert list(fast.refused) == ["2.jpg"] and status in fast.refused["2.jpg"]
    assert fast.fallbacks().startswith(
        "nvjpeg decoded 4 images; Pillow decoded 0 that are no plain JPEGs and 1 that nvJPEG refuses, among them 2.jpg"
    )


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("Found no NVIDIA driver on your system. Please check that you have an NVIDIA GPU"),
        RuntimeError("The NVIDIA driver on your system is too old (found version 11040)"),
        RuntimeError("decode_jpegs_cuda: torchvision not compiled with nvJPEG support"),
        RuntimeError("Couldn't load the image extension."),
        RuntimeError("CUDA error: an illegal memory access was encountered"),
        RuntimeError("Error while decoding JPEG images: Failed to decode jpeg stream: 6"),
        RuntimeError("Error while decoding JPEG images: Failed to decode jpeg stream: 34"),
        NotImplementedError("Could not run 'image::decode_jpegs_cuda' with arguments from the 'CPU' backend"),
        AttributeError("'_OpNamespace' 'image' object has no attribute 'decode_jpegs_cuda'"),
        ImportError("cannot import name 'decode_jpeg' from 'torchvision.io'"),
    ],
    ids=lambda error: str(error)[-30:],
)
def test_what_is_wrong_with_the_machine_is_an_error_never_pillows_pixels(
    error: Exception, fast: Decoder, nvjpeg: NvJpeg
) -> None:
    nvjpeg.fails = lambda images: error
    with pytest.raises(FfdiError, match=r"decoder: nvjpeg does not work here \(.*\): set decoder: pillow"):
        decoded(fast, *JPEGS)
    assert nvjpeg.lists == [6] and not fast.refused and not fast.decoded


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("Error while decoding JPEG images: CUDA out of memory. Tried to allocate 20.00 MiB"),
        RuntimeError("Error while decoding JPEG images: Failed to decode jpeg stream: 5"),
    ],
    ids=["torch", "through torchvision", "nvJPEG's own"],
)
def test_a_list_too_large_for_memory_is_halved_down_to_an_error(
    error: Exception, fast: Decoder, nvjpeg: NvJpeg
) -> None:
    nvjpeg.fails = lambda images: error if len(images) > 2 else None
    assert len(decoded(fast, *JPEGS[:4])) == 4
    assert nvjpeg.lists == [4, 2, 2] and fast.decoded == 4 and not fast.fallbacks()
    nvjpeg.fails = lambda images: error
    with pytest.raises(FfdiError, match=r"0\.jpg: out of memory on cpu while nvJPEG decodes it alone"):
        decoded(fast, *JPEGS[:4])
    assert not fast.refused


def test_a_refused_jpeg_that_pillow_cannot_read_either_says_why(backbone: Make, nvjpeg: NvJpeg) -> None:
    fast = Decoder(backbone(decoder="nvjpeg"), max_pixels=MAX_PIXELS, accepted=True, device="cpu")
    broken = JPEGS[0][:-900] + b"\xff\xd9"
    nvjpeg.fails = refuses(broken, "Failed to decode batch: 3")
    results = decoded(fast, JPEGS[1], broken)
    # Whether it can be read depends on the version of Pillow.
    assert isinstance(results[1], UnreadableImage) or pixels(results[1]).shape == (64, 64, 3)
    assert list(fast.refused) == ["1.jpg"]


def test_what_was_heard_is_not_decoded_again_and_many_scans_never(backbone: Make, nvjpeg: NvJpeg) -> None:
    known = Decoder(backbone(decoder="nvjpeg"), max_pixels=MAX_PIXELS, accepted=True, device="cpu")
    closed, many = decoded(known, JPEGS[0][:-900] + b"\xff\xd9", many_scans(65))
    assert nvjpeg.lists == [1] and isinstance(closed, Image.Image)
    assert str(many).startswith("a JPEG of 65 scans")


def test_the_backbone_names_the_decoder(backbone: Make, fast: Decoder, nvjpeg: NvJpeg) -> None:
    slow = Decoder(backbone(), max_pixels=10**6)
    assert decoded(slow, JPEGS[0], PNG) == [resize(open_image(data, max_pixels=10**6), 64) for data in (JPEGS[0], PNG)]
    assert nvjpeg.lists == [] and slow.fallbacks() == ""
    decoded(fast, JPEGS[0])
    assert nvjpeg.lists == [1]


@pytest.mark.parametrize("kernel", ["bilinear", "bicubic"])
@pytest.mark.parametrize("mode", ["squash", "shorter_side", "letterbox"])
def test_both_decoders_make_the_square_of_the_backbone(
    mode: Mode, kernel: Kernel, backbone: Make, nvjpeg: NvJpeg
) -> None:
    changes = {"resize": Resize(mode, kernel, 0.8), "mean": (0.2, 0.5, 0.7)}
    oblong = [
        encoded(picture(seed, 96).crop(box), quality=95) for seed, box in enumerate([(0, 0, 96, 61), (3, 0, 50, 96)])
    ]
    slow = decoded(Decoder(backbone(**changes), max_pixels=10**6), *oblong)
    assert slow == [backbone(**changes).pixels.square(open_image(data, max_pixels=10**6)) for data in oblong]
    fast = decoded(Decoder(backbone(decoder="nvjpeg", **changes), max_pixels=10**6, device="cpu"), *oblong)
    assert nvjpeg.lists == [2]
    for ours, theirs in zip(fast, slow, strict=True):
        assert np.abs(pixels(ours) - pixels(theirs)).max() <= 4


def test_the_middle_of_a_long_strip_is_pillows(backbone: Make, nvjpeg: NvJpeg) -> None:
    fast = Decoder(backbone(decoder="nvjpeg", resize=Resize("shorter_side")), max_pixels=10**6, device="cpu")
    (square,) = decoded(fast, encoded(picture(0, 340).crop((0, 0, 340, 20))))
    assert nvjpeg.lists == [] and fast.not_plain == 1 and pixels(square).shape == (64, 64, 3)


@pytest.mark.parametrize("cut", ["features.16", "input"])
def test_nvjpeg_is_refused_without_cuda(cut: str, backbone: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParamsError, match="decoder: nvjpeg needs runtime torch on CUDA; here it is torch on the CPU"):
        Decoder(backbone(decoder="nvjpeg", cut=cut), max_pixels=10**6)
