"""Image bytes -> the square RGB images that views are made of, by the decoder that a backbone names.

`pillow` is the decode policy of the project. `nvjpeg`, off by default, decodes and resizes plain JPEGs on the GPU, many
at once; its pixels differ a little, so it is a part of the fingerprint. Which decoder an image gets depends on its
bytes alone. Pillow decodes what the policy treats specially (EXIF rotation, a profile that is not sRGB, CMYK, grey, RGB
without YCbCr, other formats, a JPEG without its end marker, a long strip whose middle is kept) and the JPEGs that nvJPEG refuses as damaged or
unsupported. Both are counted. Any other failure on the GPU is an error: Pillow's pixels are never stored under nvJPEG's
name.
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
)
from ffdi.intake.decoding.jpegs import refuse_many_scans, refuse_unfinished

# Version 1 used Pillow for every failure on the GPU, and its threads could write into each other's memory.
NVJPEG_POLICY = f"nvjpeg-2, else {DECODE_POLICY}"
Read = Callable[[], bytes | Image.Image]  # raises UnreadableImage
Decoded = Image.Image | UnreadableImage
_END = b"\xff\xd9"
_PIXELS = 1 << 25  # of JPEGs that are decoded together: 100 MB on the device
_STREAMS = 4  # torchvision decodes one list at a time, while the others are resized and copied
# nvjpegStatus_t in torchvision's messages: which ones are about the JPEG, and which about memory. All others are about the
# machine.
_REFUSED = re.compile(r"Unknown chroma subsampling|Failed to [a-z ]+: (3|4|10)(?!\d)")  # bad, unsupported, incomplete
_NO_MEMORY = re.compile(r"out of memory|Failed to [a-z ]+: 5(?!\d)")  # NVJPEG_STATUS_ALLOCATOR_FAILURE


@dataclass(frozen=True)
class _Jpeg:
    """A plain JPEG: its name, its bytes and its number of pixels."""

    name: str
    data: bytes
    pixels: int


class Decoder:
    """The decoder of a backbone. Several threads may call it at once, and it counts the images that it leaves to Pillow.

    Raises ParamsError, as runtime_name does, when the backbone's decoder cannot run here. `accepted` is that of
    open_image: ingest has read these images before. nvJPEG runs on the `device` `cuda`; tests use `cpu`, where
    torchvision's own decoder takes its place.
    """

    def __init__(self, backbone: Backbone, *, max_pixels: int, accepted: bool = False, device: str = "cuda") -> None:
        self._pixels, self.max_pixels, self._accepted, self._device = backbone.pixels, max_pixels, accepted, device
        self._fast = backbone.decoder == "nvjpeg"
        self.decoded, self.not_plain = 0, 0
        self.refused: dict[str, str] = {}  # name of the JPEG -> the message of nvJPEG
        self._lock = threading.Lock()
        self._streams: queue.Queue[Any] = queue.Queue()
        if self._fast and device == "cuda":
            runtime_name(backbone)
            set_up_device("cuda")
            import torch

            for _ in range(_STREAMS):  # high priority: from another pool than the streams of a prefix
                self._streams.put(torch.cuda.Stream(priority=-1))

    def __call__(self, images: Iterable[tuple[str, Read]]) -> Iterator[Decoded]:
        """A (size, size) RGB image, or the reason why there is none, for each (name, function that reads its bytes), in order.

        The function may also return an RGB image that is decoded already: it is only made a square, by Pillow.
        Raises FfdiError when the GPU fails.
        """
        held: list[Decoded | _Jpeg] = []
        pixels = 0
        for name, read in images:
            image = self._opened(name, read)
            if not isinstance(image, _Jpeg) and not held:
                yield image
                continue
            more = image.pixels if isinstance(image, _Jpeg) else 0
            if pixels + more > _PIXELS:
                yield from self._finished(held)
                held, pixels = [], 0
            held.append(image)
            pixels += more
        yield from self._finished(held)

    def fallbacks(self) -> str:
        """A line about the images that Pillow decoded although nvJPEG was asked for; empty when there are none."""
        if not self.not_plain and not self.refused:
            return ""
        line = f"nvjpeg decoded {self.decoded} images; Pillow decoded {self.not_plain} that are no plain JPEGs"
        if not self.refused:
            return line
        first = min(self.refused)
        return f"{line} and {len(self.refused)} that nvJPEG refuses, among them {first} ({self.refused[first]})"

    def _opened(self, name: str, read: Read) -> Decoded | _Jpeg:
        """A JPEG that is to be decoded on the GPU; any other image is decoded by Pillow."""
        try:
            data = read()
            if isinstance(data, Image.Image):
                return self._pixels.square(data)
            if self._fast:
                if (pixels := self._plain_pixels(data)) is not None:
                    return _Jpeg(name, data, pixels)
                with self._lock:
                    self.not_plain += 1
            return self._by_pillow(data)
        except UnreadableImage as error:
            return error

    def _by_pillow(self, data: bytes) -> Image.Image:
        return self._pixels.square(open_image(data, max_pixels=self.max_pixels, accepted=self._accepted))

    def _plain_pixels(self, data: bytes) -> int | None:
        """The pixels of a complete JPEG in sRGB's YCbCr that needs no rotation; None for all other bytes."""
        try:
            with open_header(data) as header:
                pixels = header.width * header.height
                plain = header.format == "JPEG" and header.mode == "RGB" and pixels <= self.max_pixels
                plain = plain and header.info.get("adobe_transform") != 0  # 0 means that it is not YCbCr
                plain = plain and not self._pixels.resize.is_strip(*header.size, self._pixels.size)
                plain = plain and orientation(header) == 1 and is_srgb(header.info.get("icc_profile"), "RGB")
            if not plain or not data.endswith(_END):
                return None
            refuse_many_scans(data)
            if not self._accepted:
                refuse_unfinished(data)
        except UnreadableImage:  # Pillow's path reports what is wrong with it
            return None
        return pixels

    def _finished(self, held: Sequence[Decoded | _Jpeg]) -> Iterator[Decoded]:
        jpegs = [item for item in held if isinstance(item, _Jpeg)]
        decoded = iter(self._on_device(jpegs) if jpegs else ())
        return iter([next(decoded) if isinstance(item, _Jpeg) else item for item in held])

    def _on_device(self, jpegs: Sequence[_Jpeg]) -> list[Decoded]:
        """Decode all at once. When a JPEG or the memory is the reason for a failure, halve the list until that JPEG is alone."""
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
            what = f"out of memory on {self._device} while nvJPEG decodes it alone ({reason})"
            raise FfdiError(f"{jpeg.name}: {what}: set decoder: pillow")
        with self._lock:
            self.refused[jpeg.name] = reason
        try:
            return [self._by_pillow(jpeg.data)]
        except UnreadableImage as unreadable:
            return [unreadable]

    def _together(self, jpegs: Sequence[_Jpeg]) -> RGB:
        """(N, S, S, 3) pixels, made squares on the device. Raises what torch and torchvision raise."""
        import torch
        from torchvision.io import ImageReadMode, decode_jpeg

        from ffdi.features.resize_on_gpu import square

        encoded = [torch.from_numpy(np.frombuffer(jpeg.data, np.uint8).copy()) for jpeg in jpegs]
        with self._stream():
            images = decode_jpeg(encoded, mode=ImageReadMode.RGB, device=self._device)
            small = torch.stack([square(image, self._pixels) for image in images])
            return np.asarray(small.permute(0, 2, 3, 1).cpu().numpy())

    @contextmanager
    def _stream(self) -> Iterator[None]:
        """A stream of the device that no other caller has until all its work is done.

        torchvision allocates the memory of its images on the current stream, but nvJPEG writes them on another stream
        that waits for nothing (its hardware engine does not even wait for that stream). So it could overwrite memory
        that a kernel of the current stream has yet to read. Nothing may be pending on the stream that nvJPEG's memory
        comes from.
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
            torch.cuda.synchronize()  # nvJPEG may still be writing to memory that a failed call has freed
            raise
        finally:
            self._streams.put(stream)
