"""The decoder of a backbone among threads and in an extraction: streams, lists of views, what is said and stored."""

from __future__ import annotations

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
from conftest import Tiny
from fake_nvjpeg import JPEGS, MAX_PIXELS, NvJpeg, decoded, pixels, refuses

from ffdi.console import Console
from ffdi.errors import FfdiError, ParamsError
from ffdi.features import decoders, image_views
from ffdi.features import extractor as extractor_module
from ffdi.features.backbone import Backbone, Views
from ffdi.features.compute import compute_rows
from ffdi.features.decoders import Decoder
from ffdi.features.extract import extract_features
from ffdi.features.extractor import load_extractor
from ffdi.features.image_views import ViewReader, locate_images
from ffdi.features.settings import ExtractSettings
from ffdi.features.store import FeatureStore
from ffdi.intake.decoding.images import ImageSource

Make = Callable[..., Backbone]


@pytest.fixture
def fast(backbone: Make) -> Decoder:
    """nvJPEG's path at 64 pixels, with torchvision's CPU decoder in its place."""
    return Decoder(backbone(decoder="nvjpeg"), max_pixels=MAX_PIXELS, device="cpu")


@pytest.fixture
def nvjpeg(monkeypatch: pytest.MonkeyPatch) -> NvJpeg:
    return NvJpeg(monkeypatch)


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
    stream = streams.log[0][1]
    # It is synchronised before, so that no memory is given out that a kernel reads; and after, so that none is freed.
    assert stream is not None
    assert streams.log == [("synchronize", stream), ("decode", stream), ("synchronize", stream)]
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
        for results in pool.map(lambda _: decoded(decoder, *JPEGS), range(36)):
            assert [pixels(image).tobytes() for image in results] == expected
    assert streams.clashes == 0 and decoder.decoded == 37 * len(JPEGS)
    assert isinstance(decoder._streams, queue.Queue)


def test_a_task_of_views_is_one_list(tiny: Tiny, backbone: Make, fast: Decoder, nvjpeg: NvJpeg) -> None:
    rows = [(image_id, view) for image_id in sorted(tiny.images["image_id"])[:5] for view in (0, 1)]
    files = locate_images(tiny.images, ImageSource(tiny.root))
    results = ViewReader(files, backbone(), decoder=fast)(rows)
    assert results.shape == (10, 64, 64, 3) and nvjpeg.lists == [5]


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
    lines: list[str] = []
    source = ImageSource(tiny.root, 10**6)

    def features(decoder: str, out: Path) -> Any:
        prefix = load_extractor(backbone(cut="input", decoder=decoder, views=Views()), weights)
        settings = ExtractSettings(workers=2, shard_rows=7)
        extract_features(rows, prefix, out, source=source, settings=settings, console=Console(lines.append))
        return FeatureStore(out)

    fast, slow = features("nvjpeg", tmp_path / "fast"), features("pillow", tmp_path / "slow")
    assert sum(nvjpeg.lists) > 8 and fast.spec.policy["decode"] == "nvjpeg-2, else pillow-rgb-2"
    line = "nvjpeg decoded 8 images; Pillow decoded 0 that are no plain JPEGs and 1 that nvJPEG refuses, among them "
    assert [one for one in lines if "nvjpeg" in one] == [one for one in lines if one.startswith(line + refused.name)]
    assert len([one for one in lines if "nvjpeg" in one]) == 1
    for row in rows.itertuples():
        same = np.array_equal(fast.read([(row.image_id, 0)]), slow.read([(row.image_id, 0)]))
        assert same or row.path != refused.name
    (features_of, *_) = compute_rows(
        [(rows["image_id"].iloc[4], 0)],
        load_extractor(backbone(cut="input", decoder="nvjpeg"), weights),
        locate_images(rows, source),
        workers=1,
        console=Console(lines.append),
    )
    assert np.array_equal(features_of, slow.read([(rows["image_id"].iloc[4], 0)]))
    assert lines[-1].startswith("nvjpeg decoded 0 images") and "1 that nvJPEG refuses" in lines[-1]
