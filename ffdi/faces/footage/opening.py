"""Open a video: one demuxer by the file's first bytes, decoders from a list, and never another file or a URL.

libav is given the open file, not its name, so that it has no way to open anything else: a playlist, or a MOV that refers
to other files, reads nothing but itself. The demuxer is that of the format which the first bytes show; playlists, devices
and pictures have none here. Decoders that few files need and fewer people look after are left out.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from ffdi.errors import InputError, said
from ffdi.faces.footage.declared_size import refuse_truncated
from ffdi.faces.footage.unreadable import UnreadableVideo, too_large
from ffdi.intake.decoding.formats import format_of

if TYPE_CHECKING:
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

# The name that format_of gives a format -> libav's demuxer of it.
_DEMUXERS = {
    "MP4 video": "mov",
    "QuickTime video": "mov",
    "AVI video": "avi",
    "Matroska video": "matroska",
    "FLV video": "flv",
    "WMV video": "asf",
    "Ogg video": "ogg",
    "IVF video": "ivf",
    "MPEG video": "mpeg",
    "MPEG transport stream": "mpegts",
    "H.264 video": "h264",
    "HEVC video": "hevc",
}
_BARE_MPEG = b"\0\0\1\xb3"  # a video without a program stream around it
_DECODERS = (
    *("h264", "hevc", "vp8", "vp9", "libdav1d", "av1", "mpeg4", "msmpeg4v2", "msmpeg4", "mpeg1video", "mpeg2video"),
    *("mjpeg", "h263", "flv", "wmv1", "wmv2", "wmv3", "vc1", "vp6", "vp6f", "theora", "prores", "dnxhd", "dvvideo"),
    *("ffv1", "huffyuv", "ffvhuff", "utvideo", "magicyuv", "rawvideo", "v210", "png", "qtrle"),
)
_HEAD = 4096  # bytes that show the format
_DISCARD_ALL = 48  # AVDISCARD_ALL: the demuxer passes a stream over
_BUFFER = 1 << 18  # bytes that are read at once


@dataclass(frozen=True, eq=False)
class OpenVideo:
    """A video whose pictures can be decoded: libav's container and the stream of it that is the video."""

    file: _Quiet
    container: Any
    stream: VideoStream
    max_pixels: int

    @property
    def tick(self) -> Fraction:
        """The seconds of a unit of its timestamps."""
        base: Any = self.stream.time_base
        return Fraction(base.numerator, base.denominator) if base else Fraction(1, 1000)

    @property
    def pixel_aspect(self) -> Fraction:
        """How wide a pixel is in its heights; 1 where the file does not say."""
        aspect: Any = self.stream.sample_aspect_ratio
        return Fraction(aspect.numerator, aspect.denominator) if aspect and aspect.numerator > 0 else Fraction(1)

    def packets(self) -> Iterator[Packet[VideoStream]]:
        """The coded pictures of the stream, from where the container stands. UnreadableVideo where reading fails."""
        try:
            # A packet without bytes would tell the decoder that the video is over: AVI has them for repeated pictures.
            yield from (packet for packet in self.container.demux(self.stream) if packet.size)
        except IndexError:
            pass  # all is read: PyAV trips over streams that appeared on the way, as in a transport stream
        except _libav_errors() as error:
            raise self.file.refused("damaged: it cannot be read to its end") from error
        if self.file.error:
            raise self.file.refused("")

    def decode(self, packet: Packet[VideoStream] | None) -> list[VideoFrame]:
        """The frames that a packet makes whole, in the order of display; with None those that were held back.

        Raises UnreadableVideo for damage, and for a frame of more than max_pixels, which is not decoded.
        """
        decoder = self.stream.codec_context
        try:
            return decoder.decode(packet)
        except _libav_errors() as error:
            if decoder.width * decoder.height > self.max_pixels:
                raise too_large(decoder.width, decoder.height, self.max_pixels) from error
            if not decoder.width and getattr(error, "errno", 0) == errno.EINVAL:  # how it refuses a size
                raise UnreadableVideo(f"more pixels than data.max_pixels = {self.max_pixels}, or damaged") from error
            at = self.about(packet.pts if packet else None)
            raise UnreadableVideo(f"damaged: a picture cannot be decoded{at}") from error

    def about(self, time: int | None) -> str:
        """Where in the video something is, for a message."""
        return "" if time is None else f", at {float((time - (self.stream.start_time or 0)) * self.tick):.2f} s"


@contextmanager
def opened(path: Path, *, max_pixels: int, threads: int) -> Iterator[OpenVideo]:
    """The video of a file, with `threads` threads of its decoder. Raises UnreadableVideo, or InputError without PyAV."""
    try:
        import av
    except ImportError:
        raise InputError(f"{path}: videos are read with the package av: pip install 'ffdi[faces]'") from None
    kind, demuxer = _kind_of(path)
    refuse_truncated(path, kind)
    limits = {"max_pixels": str(max_pixels), "codec_whitelist": ",".join(_DECODERS)}
    lenient: dict[str, Any] = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
    with path.open("rb") as file:
        source = _Quiet(file)
        try:
            container = av.open(
                source, "r", format=demuxer, options=limits, buffer_size=_BUFFER, io_open=_refuse_to_open, **lenient
            )
        except _libav_errors() as error:
            raise source.refused(_why_not_opened(kind, error)) from error
        with container:
            stream = _video_of(container, max_pixels)
            stream.codec_context.options = {"max_pixels": str(max_pixels)}
            stream.codec_context.thread_count = threads
            stream.codec_context.thread_type = "AUTO"
            yield OpenVideo(source, container, stream, max_pixels)


def _kind_of(path: Path) -> tuple[str, str]:
    """(the format of the file's first bytes, its demuxer)."""
    try:
        if path.exists() and not path.is_file():  # opening a FIFO would wait for its writer
            raise UnreadableVideo("cannot be read: no regular file")
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError as error:
        raise UnreadableVideo(f"cannot be read: {said(error)}") from error
    if not head:
        raise UnreadableVideo("empty file")
    kind = format_of(head)
    if kind == "JPEG" and path.suffix.lower() in (".mjpeg", ".mjpg"):
        return "JPEGs in a row", "mjpeg"
    if head.startswith(_BARE_MPEG):
        return kind, "mpegvideo"
    if kind not in _DEMUXERS:
        raise UnreadableVideo(f"{kind}, no video" if kind else "not a video format that is read")
    return kind, _DEMUXERS[kind]


def _video_of(container: Any, max_pixels: int) -> VideoStream:
    """The stream marked as default, or else the first; pictures of a cover and thumbnails are none."""
    streams = [stream for stream in container.streams.video if not _is_cover(stream)]
    if not streams:
        raise UnreadableVideo("no video in it" if container.streams else "nothing in it")
    stream: VideoStream = next((one for one in streams if one.disposition & 1), streams[0])
    for other in container.streams:
        if other.index != stream.index:
            other.discard = _DISCARD_ALL
    decoder: Any = stream.codec_context
    if decoder is None or decoder.name not in _DECODERS:
        raise UnreadableVideo(f"a video of codec {stream.codec.name if decoder else 'unknown'}, which is not read")
    if decoder.width * decoder.height > max_pixels:
        raise too_large(decoder.width, decoder.height, max_pixels)
    return stream


def _is_cover(stream: VideoStream) -> bool:
    from av.stream import Disposition

    return bool(stream.disposition & (Disposition.attached_pic | Disposition.timed_thumbnails))


def _refuse_to_open(url: str, flags: int, options: dict[str, str]) -> Any:
    raise UnreadableVideo("refers to another file or address")


def _why_not_opened(kind: str, error: Exception) -> str:
    if kind in ("MP4 video", "QuickTime video"):
        return "truncated or damaged: no index of its pictures (moov)"
    return "no frame in it" if isinstance(error, EOFError) else "damaged: its beginning cannot be read"


def _libav_errors() -> tuple[type[Exception], ...]:
    """What PyAV raises for bytes that libav does not like."""
    import av

    return (av.error.FFmpegError, ValueError)


class _Quiet:
    """A file as libav reads it: what fails, fails without an exception, and the disk's error is kept.

    PyAV keeps the first exception of a file's methods and raises it at some later call, be it for another file; it prints
    the second. Damaged files ask for places that are none.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.name, self.tell, self._file = file.name, file.tell, file
        self.error: OSError | None = None

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except OSError as error:
            self.error = error
            return b""

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError, OverflowError):
            return -errno.EINVAL

    def refused(self, damage: str) -> UnreadableVideo:
        """The reason: the disk's error if there was one, or else `damage`."""
        return UnreadableVideo(f"cannot be read: {said(self.error)}" if self.error else damage)
