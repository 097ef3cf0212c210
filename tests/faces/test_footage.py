"""Frames of videos: which ones, when, and that neither container, threads nor what is passed over changes a byte."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_videos import encode, write_video
from PIL import Image

from ffdi.faces.footage.footage import Frame, UnreadableVideo, frames_of, is_video
from ffdi.faces.footage.timeline import Timeline

pytest.importorskip("av")
LIMIT = 10**6


def numbered(count: int, size: tuple[int, int] = (64, 48)) -> list[Image.Image]:
    """Pictures whose grey grows by three, with a bar that moves."""
    pictures = []
    for number in range(count):
        grey = np.full((size[1], size[0], 3), 3 * number + 20, np.uint8)
        grey[:, number % size[0] :][:, :4] = 250
        pictures.append(Image.fromarray(grey))
    return pictures


def read(path: Path, frames: int | str = "all", threads: int = 1) -> list[Frame]:
    return list(frames_of(path, frames, max_pixels=LIMIT, threads=threads))  # type: ignore[arg-type]


def number_shown(frame: Frame) -> int:
    """The number of a picture of `numbered`, by its grey."""
    return round((float(np.median(frame.pixels)) - 20) / 3)


def test_frames_are_those_on_screen_at_the_middle_of_equal_parts(tmp_path: Path) -> None:
    """60 frames in 4 parts of 15: the middles are at 7.5, 22.5, 37.5 and 52.5 frames."""
    encode(tmp_path / "a.mp4", numbered(60), codec_options={"g": "10"})
    frames = read(tmp_path / "a.mp4", 4)
    assert [frame.number for frame in frames] == [7, 22, 37, 52] == [number_shown(frame) for frame in frames]
    assert [frame.seconds for frame in frames] == pytest.approx([0.28, 0.88, 1.48, 2.08])
    assert frames[0].pixels.shape == (48, 64, 3) and frames[0].pixels.dtype == np.uint8


FINE = {"b": "4000000"}  # bits a second
TWO = {"bf": "2"}  # pictures between that are built on later ones
CONTAINERS: dict[str, dict[str, Any]] = {
    "a.mp4": {"codec_options": TWO},
    "a.mkv": {"codec_options": TWO},
    "a.mov": {"codec": "prores_ks", "pix_fmt": "yuv422p10le"},
    "ffv1.mkv": {"codec": "ffv1"},
    "a.webm": {},
    "a.avi": {"codec_options": FINE | TWO},
    "mjpeg.avi": {"codec": "mjpeg", "codec_options": FINE},
    "a.ts": {"codec_options": TWO},
    "a.m2ts": {"codec_options": TWO},
    "a.mpg": {"codec_options": FINE | TWO},
    "a.wmv": {"codec_options": FINE},
    "a.flv": {"codec_options": FINE},
    "a.h264": {"format": "h264", "codec_options": TWO},
    "a.hevc": {"format": "hevc", "codec": "libx265", "codec_options": {"x265-params": "log-level=none"}},
    "a.mjpeg": {"format": "mjpeg", "codec": "mjpeg", "codec_options": FINE},
    "a.m2v": {"format": "mpeg2video", "codec": "mpeg2video", "codec_options": FINE | TWO},
    "a.ivf": {"format": "ivf", "codec": "libvpx-vp9"},
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_few_frames_are_those_of_all_whatever_the_container(name: str, tmp_path: Path) -> None:
    options = CONTAINERS[name]
    encode(tmp_path / name, numbered(40), **options | {"codec_options": {"g": "8"} | options.get("codec_options", {})})
    every = read(tmp_path / name)
    assert [frame.number for frame in every] == list(range(40)) == [number_shown(frame) for frame in every]
    for few in (read(tmp_path / name, 7), read(tmp_path / name, 7, threads=4)):
        assert [frame.number for frame in few] == [2, 8, 14, 20, 25, 31, 37]
        assert all(np.array_equal(frame.pixels, every[frame.number].pixels) for frame in few)
        assert all(frame.seconds == pytest.approx(frame.number / 25, abs=0.002) for frame in few)


def test_of_fewer_frames_than_asked_all_come_once(tmp_path: Path) -> None:
    encode(tmp_path / "a.mp4", numbered(5))
    assert [frame.number for frame in read(tmp_path / "a.mp4", 32)] == [0, 1, 2, 3, 4]
    encode(tmp_path / "one.mp4", numbered(1))
    assert [(frame.number, frame.seconds) for frame in read(tmp_path / "one.mp4", 32)] == [(0, 0.0)]


def test_a_frame_that_stays_long_is_there_once() -> None:
    """The second frame is on screen from 10 to 90 of 100 ticks: in the middle of parts 2, 3, 4 and 5 of 5 (at 30 to 90)."""
    timeline = Timeline((0, 10, 90, 92, 94, 96), 100, Fraction(1, 100))
    assert timeline.evenly(5) == [1, 2]


def test_a_drawn_face_moves(tmp_path: Path) -> None:
    real = read(write_video(tmp_path / "real.mp4", frames=8), 2)
    fake = read(write_video(tmp_path / "fake.mp4", frames=8, fake=True), 2)
    assert not np.array_equal(real[0].pixels, real[1].pixels)
    assert np.abs(real[0].pixels.astype(int) - fake[0].pixels).max() > 40


def test_the_name_of_a_video() -> None:
    assert is_video(Path("a/B.MP4")) and is_video(Path("x.webm")) and not is_video(Path("x.jpg"))


def test_text_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_text("hello")
    with pytest.raises(UnreadableVideo, match="not a video format that is read"):
        read(tmp_path / "a.mp4")
