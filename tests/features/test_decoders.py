"""Which decoder an image gets, and that the GPU's path (here torchvision on the CPU) gives almost the same pixels."""

from __future__ import annotations

import io
import queue
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torchvision.io
from conftest import Tiny, picture
from odd_files import DISPLAY_P3, many_scans
from PIL import Image

from ffdi.console import Console
from ffdi.errors import FfdiError, ParamsError
from ffdi.features import decoders, image_views
from ffdi.features import extractor as extractor_module
from ffdi.features.backbone import Backbone, Views
from ffdi.features.compute import compute_rows
from ffdi.features.decoders import Decoded, Decoder
from ffdi.features.extract import extract_features
from ffdi.features.extractor import load_extractor
from ffdi.features.image_views import ViewReader, locate_images
from ffdi.features.settings import ExtractSettings
from ffdi.features.store import FeatureStore
from ffdi.intake.decoding.images import ImageSource, UnreadableImage, open_image, resize

Make = Callable[..., Backbone]


def encoded(image: Image.Image, kind: str = "JPEG", **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(picture(1), exif=exif)


JPEGS = [encoded(picture(seed, 96 + 8 * seed), quality=90) for seed in range(6)]
PNG = encoded(picture(0), "PNG")
MAX_PIXELS = 136 * 136


def decoded(decoder: Decoder, *images: bytes) -> list[Decoded]:
    return list(decoder((f"{number}.jpg", lambda data=data: data) for number, data in enumerate(images)))


def pixels(image: Decoded) -> Any:
    assert isinstance(image, Image.Image)
    return np.asarray(image, np.int64)


@pytest.fixture
def fast(backbone: Make) -> Decoder:
    """nvJPEG's path at 64 pixels, with torchvision's CPU decoder in its place."""
    return Decoder(backbone(decoder="nvjpeg"), max_pixels=MAX_PIXELS, device="cpu")


class NvJpeg:
    """torchvision's decode_jpeg where nvJPEG is: it decodes lists, and raises what `fails` says of one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.lists: list[int] = []
        self.fails: Callable[[list[bytes]], Exception | None] = lambda images: None
        self._real = torchvision.io.decode_jpeg
        monkeypatch.setattr(torchvision.io, "decode_jpeg", self)

    def __call__(self, images: list[torch.Tensor], *, mode: Any, device: str) -> Any:
        self.lists.append(len(images))
        if error := self.fails([image.numpy().tobytes() for image in images]):
            raise error
        return self._real(images, mode=mode)


@pytest.fixture
def nvjpeg(monkeypatch: pytest.MonkeyPatch) -> NvJpeg:
    return NvJpeg(monkeypatch)


def refuses(bad: bytes, status: str = "Failed to parse jpeg stream: 3") -> Callable[[list[bytes]], Exception | None]:
    message = f"Error while decoding JPEG images: {status}\nException raised from decode_images"
    return lambda images: RuntimeError(message) if bad in images else None


def test_plain_jpegs_are_decoded_in_one_list_to_nearly_what_pillow_makes_of_them(fast: Decoder, nvjpeg: NvJpeg) -> None:
    found = decoded(fast, *JPEGS[:4])
    assert nvjpeg.lists == [4] and fast.decoded == 4 and fast.fallbacks() == ""
    for image, data in zip(found, JPEGS, strict=False):
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
    (found,) = decoded(fast, data)
    assert nvjpeg.lists == [] and fast.not_plain == 1
    (expected,) = decoded(slow, data)
    assert str(found) == str(expected) if isinstance(expected, UnreadableImage) else found == expected
    assert fast.fallbacks() == "nvjpeg decoded 0 images; Pillow decoded 1 that are no plain JPEGs"


def test_images_keep_their_order_and_lists_their_bound(
    fast: Decoder, nvjpeg: NvJpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(decoders, "_PIXELS", 96 * 96 + 104 * 104)
    order = [PNG, JPEGS[0], b"none", JPEGS[1], PNG, JPEGS[2], JPEGS[0], PNG]
    found = decoded(fast, *order)
    assert nvjpeg.lists == [2, 1, 1] and fast.not_plain == 4
    for image, data in zip(found, order, strict=True):
        if data == b"none":
            assert str(image) == "not an image format that Pillow knows"
        else:
            assert np.abs(pixels(image) - pixels(resize(open_image(data, max_pixels=10**6), 64))).max() <= 3


def test_an_image_that_cannot_be_read_stays_in_its_place(fast: Decoder) -> None:
    def missing() -> bytes:
        raise UnreadableImage("missing")

    found = list(fast([("a", lambda: JPEGS[0]), ("b", missing), ("c", lambda: JPEGS[1])]))
    assert [isinstance(image, UnreadableImage) for image in found] == [False, True, False]


@pytest.mark.parametrize(
    "status",
    [
        *(f"Failed to {what}: {code}" for what in ("get image info", "decode batch") for code in (3, 4, 10)),
        "Unknown chroma subsampling",
    ],
)
def test_a_jpeg_that_nvjpeg_refuses_is_pillows_counted_and_named(status: str, fast: Decoder, nvjpeg: NvJpeg) -> None:
    nvjpeg.fails = refuses(JPEGS[2], status)
    found = decoded(fast, *JPEGS[:5])
    assert found[2] == resize(open_image(JPEGS[2], max_pixels=10**6), 64)
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
def test_a_list_that_exceeds_the_memory_is_halved_and_a_single_image_is_an_error(
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
    fast = Decoder(backbone(decoder="nvjpeg"), max_pixels=MAX_PIXELS, heard=True, device="cpu")
    broken = JPEGS[0][:-900] + b"\xff\xd9"
    nvjpeg.fails = refuses(broken, "Failed to decode batch: 3")
    found = decoded(fast, JPEGS[1], broken)
    assert isinstance(found[1], UnreadableImage) or pixels(found[1]).shape == (64, 64, 3)  # as Pillow's version has it
    assert list(fast.refused) == ["1.jpg"]


def test_what_was_heard_is_not_decoded_again_and_many_scans_never(backbone: Make, nvjpeg: NvJpeg) -> None:
    known = Decoder(backbone(decoder="nvjpeg"), max_pixels=MAX_PIXELS, heard=True, device="cpu")
    closed, many = decoded(known, JPEGS[0][:-900] + b"\xff\xd9", many_scans(65))
    assert nvjpeg.lists == [1] and isinstance(closed, Image.Image)
    assert str(many).startswith("a JPEG of 65 scans")


def test_the_backbone_names_the_decoder(backbone: Make, fast: Decoder, nvjpeg: NvJpeg) -> None:
    slow = Decoder(backbone(), max_pixels=10**6)
    assert decoded(slow, JPEGS[0], PNG) == [resize(open_image(data, max_pixels=10**6), 64) for data in (JPEGS[0], PNG)]
    assert nvjpeg.lists == [] and slow.fallbacks() == ""
    decoded(fast, JPEGS[0])
    assert nvjpeg.lists == [1]


@pytest.mark.parametrize("cut", ["features.16", "input"])
def test_nvjpeg_is_refused_without_cuda(cut: str, backbone: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ParamsError, match="decoder: nvjpeg needs runtime torch on CUDA; here it is torch on the CPU"):
        Decoder(backbone(decoder="nvjpeg", cut=cut), max_pixels=10**6)


class Streams:
    """torch.cuda's streams, each with the names of the threads that were in it and whether work is pending on it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.log: list[tuple[str, Any]] = []
        self.busy: set[Any] = set()
        self.clashes = 0
        self._own = threading.local()
        world = self

        class Stream:
            def __init__(self, priority: int = 0) -> None:
                assert priority == -1

            def synchronize(self) -> None:
                world.log.append(("synchronize", self))

        monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
        monkeypatch.setattr(decoders, "set_up_device", torch.device)  # whose flags are the process's
        monkeypatch.setattr(torch.cuda, "Stream", Stream)
        monkeypatch.setattr(torch.cuda, "stream", self.stream)
        monkeypatch.setattr(torch.cuda, "synchronize", lambda: self.log.append(("synchronize", "device")))

    @contextmanager
    def stream(self, stream: Any) -> Iterator[None]:
        self.clashes += stream in self.busy
        self.busy.add(stream)
        self._own.stream = stream
        yield
        self._own.stream = None
        self.busy.remove(stream)

    def decoding(self) -> None:
        self.log.append(("decode", self._own.stream))


def test_each_call_has_a_stream_of_its_own_on_which_nothing_is_pending(
    backbone: Make, nvjpeg: NvJpeg, monkeypatch: pytest.MonkeyPatch
) -> None:
    streams = Streams(monkeypatch)
    decoder = Decoder(backbone(decoder="nvjpeg"), max_pixels=10**6)
    nvjpeg.fails = lambda images: streams.decoding()
    decoded(decoder, *JPEGS[:2])
    own = streams.log[0][1]
    assert own is not None  # before, so that no memory is given out that a kernel reads; after, so that none is freed
    assert streams.log == [("synchronize", own), ("decode", own), ("synchronize", own)]
    nvjpeg.fails = lambda images: streams.decoding() or RuntimeError("Failed to decode batch: 6")
    with pytest.raises(FfdiError):
        decoded(decoder, *JPEGS[:2])
    assert streams.log[-1] == ("synchronize", "device")  # nvJPEG's own stream may be writing still
    assert decoder._streams.qsize() == decoders._STREAMS


def test_threads_never_share_a_stream(backbone: Make, nvjpeg: NvJpeg, monkeypatch: pytest.MonkeyPatch) -> None:
    streams = Streams(monkeypatch)
    decoder = Decoder(backbone(decoder="nvjpeg"), max_pixels=10**6)
    expected = [pixels(image).tobytes() for image in decoded(decoder, *JPEGS)]
    with ThreadPoolExecutor(12) as pool:
        for found in pool.map(lambda _: decoded(decoder, *JPEGS), range(36)):
            assert [pixels(image).tobytes() for image in found] == expected
    assert streams.clashes == 0 and decoder.decoded == 37 * len(JPEGS)
    assert isinstance(decoder._streams, queue.Queue)


def test_a_task_of_views_is_one_list(tiny: Tiny, backbone: Make, fast: Decoder, nvjpeg: NvJpeg) -> None:
    rows = [(image_id, view) for image_id in sorted(tiny.images["image_id"])[:5] for view in (0, 1)]
    files = locate_images(tiny.images, ImageSource(tiny.root))
    found = ViewReader(files, backbone(), decoder=fast)(rows)
    assert found.shape == (10, 64, 64, 3) and nvjpeg.lists == [5]


def test_an_extraction_without_a_prefix_is_refused_without_cuda_too(
    backbone: Make, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    for cut in ("features.16", "input"):
        with pytest.raises(ParamsError, match="decoder: nvjpeg needs runtime torch on CUDA; here it is torch on the"):
            load_extractor(backbone(decoder="nvjpeg", cut=cut), weights)
    assert load_extractor(backbone(cut="input"), weights).spec.policy["decode"] == "pillow-rgb-2"


def test_an_extraction_says_what_pillow_decoded_and_stores_it_so(
    tiny: Tiny, backbone: Make, weights: Path, nvjpeg: NvJpeg, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(image_views, "Decoder", partial(Decoder, device="cpu"))
    monkeypatch.setattr(extractor_module, "runtime_name", lambda backbone: "torch-cuda")
    rows = tiny.rows.head(9)
    refused = tiny.root / rows["path"].iloc[4]
    nvjpeg.fails = refuses(refused.read_bytes())
    said: list[str] = []
    source = ImageSource(tiny.root, 10**6)

    def features(decoder: str, out: Path) -> Any:
        prefix = load_extractor(backbone(cut="input", decoder=decoder, views=Views()), weights)
        settings = ExtractSettings(workers=2, shard_rows=7)
        extract_features(rows, prefix, out, source=source, settings=settings, console=Console(said.append))
        return FeatureStore(out)

    fast, slow = features("nvjpeg", tmp_path / "fast"), features("pillow", tmp_path / "slow")
    assert sum(nvjpeg.lists) > 8 and fast.spec.policy["decode"] == "nvjpeg-2, else pillow-rgb-2"
    line = "nvjpeg decoded 8 images; Pillow decoded 0 that are no plain JPEGs and 1 that nvJPEG refuses, among them "
    assert [one for one in said if "nvjpeg" in one] == [one for one in said if one.startswith(line + refused.name)]
    assert len([one for one in said if "nvjpeg" in one]) == 1
    for row in rows.itertuples():
        same = np.array_equal(fast.read([(row.image_id, 0)]), slow.read([(row.image_id, 0)]))
        assert same or row.path != refused.name
    (features_of, *_) = compute_rows(
        [(rows["image_id"].iloc[4], 0)],
        load_extractor(backbone(cut="input", decoder="nvjpeg"), weights),
        locate_images(rows, source),
        workers=1,
        console=Console(said.append),
    )
    assert np.array_equal(features_of, slow.read([(rows["image_id"].iloc[4], 0)]))
    assert said[-1].startswith("nvjpeg decoded 0 images") and "1 that nvJPEG refuses" in said[-1]
