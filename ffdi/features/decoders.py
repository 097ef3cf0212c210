"""Image bytes -> the square RGB images that views are made of, by the decoder that a backbone names.

`pillow` is the decode policy of the project. `nvjpeg`, off by default, decodes and resizes plain JPEGs on the GPU, many
at once; its pixels differ a little, so it is a part of the fingerprint. Which decoder an image gets depends on its bytes
alone: Pillow has whatever needs the policy's care (EXIF rotation, a profile that is not sRGB, CMYK, grey, RGB without
YCbCr, other formats, a JPEG without its end marker) and the JPEGs that nvJPEG refuses as damaged or unsupported. Both are counted. Whatever else goes wrong on the
GPU is an error, never Pillow's pixels under nvJPEG's name.
"""

from __future__ import annotations

import queue
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ffdi.errors import FfdiError, one_line
from ffdi.features.backbone import Backbone
from ffdi.features.devices import set_up_device
from ffdi.features.runtimes import runtime_name
from ffdi.intake.decoding.colour import is_srgb
from ffdi.intake.decoding.images import (
    DECODE_POLICY,
    RGB,
    UnreadableImage,
    open_header,
    open_image,
    orientation,
    resize,
)
from ffdi.intake.decoding.jpegs import refuse_many_scans, refuse_unfinished

# 1 took Pillow for whatever failed on the GPU, and its threads could write into each other's memory.
NVJPEG_POLICY = f"nvjpeg-2, else {DECODE_POLICY}"
Read = Callable[[], bytes]  # raises UnreadableImage
Decoded = Image.Image | UnreadableImage
_END = b"\xff\xd9"
_PIXELS = 1 << 25  # of the JPEGs that are decoded together: 100 MB on the device
_STREAMS = 4  # torchvision decodes one list at a time; the others are resized and copied meanwhile
# nvjpegStatus_t as torchvision's messages have it: what is said of the JPEG, and what of the memory. Any other is said of
# the machine.
_REFUSED = re.compile(r"Unknown chroma subsampling|Failed to [a-z ]+: (3|4|10)(?!\d)")  # bad, unsupported, incomplete
_NO_MEMORY = re.compile(r"out of memory|Failed to [a-z ]+: 5(?!\d)")  # NVJPEG_STATUS_ALLOCATOR_FAILURE


@dataclass(frozen=True)
class _Jpeg:
    """A plain JPEG: its name, its bytes and how many pixels they are."""

    name: str
    data: bytes
    pixels: int


class Decoder:
    """The decoder of a backbone; several threads may call it at once, and it counts what it leaves to Pillow.

    Raises ParamsError as runtime_name does where the backbone's decoder cannot run. `heard` as open_image has it: of
    images that ingest has read. `device` is nvJPEG's, `cuda`; on
    `cpu` torchvision's own decoder stands for it, for tests.
    """

    def __init__(self, backbone: Backbone, *, max_pixels: int, heard: bool = False, device: str = "cuda") -> None:
        self._size, self._max_pixels, self._heard, self._device = backbone.image_size, max_pixels, heard, device
        self._fast = backbone.decoder == "nvjpeg"
        self.decoded, self.not_plain = 0, 0
        self.refused: dict[str, str] = {}  # the JPEG's name: what nvJPEG said of it
        self._lock = threading.Lock()
        self._streams: queue.Queue[Any] = queue.Queue()
        if self._fast and device == "cuda":
            runtime_name(backbone)
            set_up_device("cuda")
            import torch

            for _ in range(_STREAMS):  # of high priority, for their pool is shared with no prefix's streams
                self._streams.put(torch.cuda.Stream(priority=-1))

    def __call__(self, images: Iterable[tuple[str, Read]]) -> Iterator[Decoded]:
        """A (size, size) RGB image, or the reason why there is none, for each of (name, what reads its bytes), in order.

        FfdiError where the GPU cannot do its part.
        """
        held: list[Decoded | _Jpeg] = []
        pixels = 0
        for name, read in images:
            found = self._opened(name, read)
            if not isinstance(found, _Jpeg) and not held:
                yield found
                continue
            own = found.pixels if isinstance(found, _Jpeg) else 0
            if pixels + own > _PIXELS:
                yield from self._finished(held)
                held, pixels = [], 0
            held.append(found)
            pixels += own
        yield from self._finished(held)

    def fallbacks(self) -> str:
        """A line on the images that Pillow decoded where nvJPEG was asked for; empty when there is none."""
        if not self.not_plain and not self.refused:
            return ""
        line = f"nvjpeg decoded {self.decoded} images; Pillow decoded {self.not_plain} that are no plain JPEGs"
        if not self.refused:
            return line
        first = min(self.refused)
        return f"{line} and {len(self.refused)} that nvJPEG refuses, among them {first} ({self.refused[first]})"

    def _opened(self, name: str, read: Read) -> Decoded | _Jpeg:
        """A JPEG that is to be decoded on the GPU, else what Pillow makes of the image."""
        try:
            data = read()
            if self._fast:
                if (pixels := self._plain_pixels(data)) is not None:
                    return _Jpeg(name, data, pixels)
                with self._lock:
                    self.not_plain += 1
            return self._by_pillow(data)
        except UnreadableImage as error:
            return error

    def _by_pillow(self, data: bytes) -> Image.Image:
        return resize(open_image(data, max_pixels=self._max_pixels, heard=self._heard), self._size)

    def _plain_pixels(self, data: bytes) -> int | None:
        """Of a whole JPEG in sRGB's YCbCr that need not be turned; None of any other bytes."""
        try:
            with open_header(data) as header:
                pixels = header.width * header.height
                plain = header.format == "JPEG" and header.mode == "RGB" and pixels <= self._max_pixels
                plain = plain and header.info.get("adobe_transform") != 0  # which says that it has no YCbCr
                plain = plain and orientation(header) == 1 and is_srgb(header.info.get("icc_profile"), "RGB")
            if not plain or not data.endswith(_END):
                return None
            refuse_many_scans(data)
            if not self._heard:
                refuse_unfinished(data)
        except UnreadableImage:  # Pillow's own path says what is wrong with it
            return None
        return pixels

    def _finished(self, held: Sequence[Decoded | _Jpeg]) -> Iterator[Decoded]:
        jpegs = [item for item in held if isinstance(item, _Jpeg)]
        found = iter(self._on_device(jpegs) if jpegs else ())
        return iter([next(found) if isinstance(item, _Jpeg) else item for item in held])

    def _on_device(self, jpegs: Sequence[_Jpeg]) -> list[Decoded]:
        """All at once; when that fails for a JPEG's or the memory's sake, by halves, down to the one that is to blame."""
        try:
            images = [Image.fromarray(pixels) for pixels in self._together(jpegs)]
            with self._lock:
                self.decoded += len(images)
            return list(images)
        except Exception as error:
            reason = one_line(error)
            scarce = _NO_MEMORY.search(reason) is not None
            if not scarce and not _REFUSED.search(reason):
                raise FfdiError(f"decoder: nvjpeg does not work here ({reason}): set decoder: pillow") from error
        if scarce and self._device == "cuda":
            import torch

            torch.cuda.empty_cache()
        if len(jpegs) > 1:
            half = len(jpegs) // 2
            return self._on_device(jpegs[:half]) + self._on_device(jpegs[half:])
        jpeg = jpegs[0]
        if scarce:
            raise FfdiError(f"{jpeg.name}: out of memory on {self._device} while nvJPEG decodes it alone: {reason}")
        with self._lock:
            self.refused[jpeg.name] = reason
        try:
            return [self._by_pillow(jpeg.data)]
        except UnreadableImage as unreadable:
            return [unreadable]

    def _together(self, jpegs: Sequence[_Jpeg]) -> RGB:
        """(N, S, S, 3), resized by antialiased bilinear; raises what torch and torchvision raise."""
        import torch
        from torchvision.io import ImageReadMode, decode_jpeg
        from torchvision.transforms.v2.functional import resize as resize_tensor

        size = [self._size, self._size]
        encoded = [torch.from_numpy(np.frombuffer(jpeg.data, np.uint8).copy()) for jpeg in jpegs]
        with self._stream():
            images = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=self._device)
            small = torch.stack([resize_tensor(image, size, antialias=True) for image in images])
            return np.asarray(small.permute(0, 2, 3, 1).cpu().numpy())

    @contextmanager
    def _stream(self) -> Iterator[None]:
        """A stream of the device that is the caller's alone until all its work is done.

        torchvision takes the memory of its images from the current stream, but nvJPEG writes them on a stream of its
        own that waits for nothing (its hardware engine not even for that one), so memory that a kernel of the current
        stream has yet to read would be overwritten. Nothing may be pending where nvJPEG's memory comes from.
        """
        if self._device != "cuda":
            yield
            return
        import torch

        stream = self._streams.get()
        try:
            with torch.cuda.stream(stream):
                stream.synchronize()
                yield
                stream.synchronize()
        except BaseException:
            torch.cuda.synchronize()  # nvJPEG may be writing still what a failed call gave back
            raise
        finally:
            self._streams.put(stream)
