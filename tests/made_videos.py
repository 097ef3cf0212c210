"""Tiny videos of moving drawn faces, and photos of larger scenes with drawn faces in them: the demo's people, real and forged.

Each is drawn by its seed: person `seed` is the same one in the real and in the fake picture. Portraits are drawn once a process.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from math import cos, pi, sin
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageFilter

from ffdi.demo.dataset import Planned, draw_picture
from ffdi.demo.people import draw_shot
from ffdi.demo.scenery import backdrop

PORTRAIT = 256  # pixels: the side of a drawn portrait
SEED = 7  # of the demo's people
_CODECS = {".webm": "libvpx-vp9", ".avi": "mpeg4", ".mov": "mpeg4", ".mpg": "mpeg2video", ".wmv": "wmv2", ".flv": "flv"}
_QUICK = {
    "libx264": {"preset": "ultrafast", "crf": "16"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "16"},
}


@cache
def portrait(seed: int, fake: bool = False) -> Image.Image:
    """(256, 256) RGB of a person of the demo; a fake one has another person's face, as the demo's forgeries have."""
    return draw_picture(Planned("", seed, seed, 0, *(("face", seed + 1000) if fake else ())), SEED)


def face_box(seed: int) -> tuple[float, float, float, float]:
    """(left, top, right, bottom) of the face in `portrait`, from brows to chin, in its pixels."""
    shot = draw_shot(SEED, seed, 0)
    unit = shot.zoom * PORTRAIT / 2
    middle = 0.3  # of the face, in head units below the eyes
    across = PORTRAIT / 2 * (1 + shot.shift_x) - middle * sin(shot.roll) * unit
    down = PORTRAIT / 2 * (1 + shot.shift_y) + middle * cos(shot.roll) * unit
    return across - 0.75 * unit, down - 0.8 * unit, across + 0.75 * unit, down + 0.8 * unit


def moving(
    *, seed: int = 0, fake: bool = False, frames: int = 64, size: tuple[int, int] = (160, 160), people: int = 1
) -> Iterator[Image.Image]:
    """Frames of (width, height): `people` persons side by side, seeds from `seed` on, each seen by a camera that sways.

    Without people it is an empty scene.
    """
    width, height = size
    places = [round(width * one / max(people, 1)) for one in range(people + 1)]
    for frame in range(frames):
        turn = 2 * pi * frame / 50
        picture = empty(seed, size) if not people else Image.new("RGB", size)
        for one in range(people):
            left, right = places[one], places[one + 1]
            seen = _seen(portrait(seed + one, fake), (right - left, height), turn + one)
            picture.paste(seen, (left, 0))
        yield picture


def _seen(picture: Image.Image, size: tuple[int, int], turn: float) -> Image.Image:
    """A portrait through a camera: a little nearer or farther, to the sides, and turned."""
    width, height = size
    scale = PORTRAIT / max(width, height) * (0.92 + 0.02 * sin(turn))
    roll = 0.03 * sin(turn / 2)
    a, b = scale * cos(roll), scale * sin(roll)
    across, down = PORTRAIT / 2 + 4 * sin(turn), PORTRAIT / 2 + 3 * cos(turn)
    start = (across - a * width / 2 - b * height / 2, down + b * width / 2 - a * height / 2)
    matrix = (a, b, start[0], -b, a, start[1])
    return picture.transform(size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR)


@cache
def empty(seed: int, size: tuple[int, int]) -> Image.Image:
    """A drawn scene of (width, height) without anyone in it."""
    light = backdrop(np.random.default_rng([SEED, seed]), max(size))[:, : size[1], : size[0]]
    return Image.fromarray((np.clip(light, 0, 1) ** (1 / 2.2) * 255).astype(np.uint8).transpose(1, 2, 0))


def encode(path: Path, pictures: Iterable[Image.Image | Any], **options: Any) -> Path:
    """Write pictures, or frames of PyAV, as a video.

    Options: codec, rate (25), pix_fmt (yuv420p), format (by suffix), codec_options, mux_options; times: of the frames, in
    frames; prepare: what is done to the stream before.
    """
    import av

    codec = options.get("codec") or _CODECS.get(path.suffix, "libx264")
    times: Sequence[int] | None = options.get("times")
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", format=options.get("format"), options=options.get("mux_options", {})) as out:
        stream: Any = None
        for place, picture in enumerate(pictures):
            frame = picture
            if isinstance(picture, Image.Image):
                frame = av.VideoFrame.from_ndarray(np.asarray(picture.convert("RGB")), "rgb24")
            if stream is None:
                stream = _stream(out, codec, frame, options)
            frame.pts, frame.time_base = times[place] if times else place, Fraction(1, options.get("rate", 25))
            out.mux(stream.encode(frame))
        out.mux(stream.encode())
    return path


def _stream(out: Any, codec: str, frame: Any, options: dict[str, Any]) -> Any:
    stream = out.add_stream(codec, rate=options.get("rate", 25))
    stream.width, stream.height = frame.width, frame.height
    stream.pix_fmt = options.get("pix_fmt", "yuvj420p" if codec == "mjpeg" else "yuv420p")
    stream.options = {**_QUICK.get(codec, {}), **options.get("codec_options", {})}
    stream.codec_context.thread_count = 1  # the same bytes on any machine
    if "prepare" in options:
        options["prepare"](stream)
    return stream


def repacked(source: Path, target: Path, change: Callable[[int, Any], bytes | None]) -> Path:
    """Copy a video's packets; `change` gets the place and the packet, may set its fields, and may give other bytes."""
    import av

    with av.open(str(source)) as before, av.open(str(target), "w") as out:
        stream: Any = before.streams.video[0]
        copied = out.add_stream_from_template(stream)
        for place, packet in enumerate(packet for packet in before.demux(stream) if packet.size):
            other = change(place, packet)
            if other is not None:
                new: Any = av.Packet(other)
                new.pts, new.dts, new.time_base = packet.pts, packet.dts, packet.time_base
                new.is_keyframe, packet = packet.is_keyframe, new
            packet.stream = copied
            out.mux(packet)
    return target


def write_video(
    path: Path,
    *,
    seed: int = 0,
    fake: bool = False,
    frames: int = 64,
    size: tuple[int, int] = (160, 160),
    people: int = 1,
    **options: Any,
) -> Path:
    """Write `moving` as a video, by the codec that is usual for the suffix, or by the options of `encode`."""
    return encode(path, moving(seed=seed, fake=fake, frames=frames, size=size, people=people), **options)


@dataclass(frozen=True)
class Scene:
    """A photo with faces in it, and their boxes (left, top, right, bottom) in its pixels, from the left one on."""

    picture: Image.Image
    boxes: list[tuple[float, float, float, float]]


def scene(
    *, seed: int = 0, fake: bool = False, size: tuple[int, int] = (480, 320), people: int = 1, side: int = 0
) -> Scene:
    """A drawn scene of (width, height) with portraits of `side` pixels in it, of half its height where none is given."""
    width, height = size
    side = side or height // 2
    picture, boxes = empty(seed, size).copy(), []
    random = np.random.default_rng([SEED, seed, people])
    for one in range(people):
        step = width // people
        left = one * step + int(random.integers(0, max(step - side, 0) + 1))
        top = int(random.integers(0, max(height - side, 0) + 1))
        picture.paste(
            portrait(seed + one, fake).resize((side, side), Image.Resampling.LANCZOS), (left, top), _soft(side)
        )
        scale = side / PORTRAIT
        a, b, c, d = (edge * scale for edge in face_box(seed + one))
        boxes.append((left + a, top + b, left + c, top + d))
    return Scene(picture, boxes)


@cache
def _soft(side: int) -> Image.Image:
    """A mask that lets the edge of a portrait fade into the scene."""
    mask = Image.new("L", (side, side), 0)
    margin = max(side // 16, 1)
    mask.paste(255, (margin, margin, side - margin, side - margin))
    return mask.filter(ImageFilter.GaussianBlur(margin / 2))


def write_videos(root: Path, *, people: int = 4, first: int = 0, suffix: str = ".mp4", **options: Any) -> Path:
    """`root`/real and `root`/fake, each with one video of each of `people` persons: real/003.mp4 and fake/003.mp4 show person 3."""
    for seed in range(first, first + people):
        for fake in (False, True):
            name = f"{'fake' if fake else 'real'}/{seed:03d}{suffix}"
            write_video(root / name, seed=seed, fake=fake, **options)
    return root
