"""Odd and broken videos: read for what they are, or refused with a reason of one line; nothing on stderr, no other file opened."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_videos import encode, repacked
from test_footage import number_shown, numbered, read

from ffdi.faces.footage.footage import UnreadableVideo, frames_of
from ffdi.faces.footage.opening import OpenVideo

av = pytest.importorskip("av")
GROUPS = {"g": "8", "bf": "2"}  # a key picture every 8


@pytest.fixture(autouse=True)
def _silent(capfd: pytest.CaptureFixture[str]) -> Iterator[None]:
    """libav writes nothing to the terminal."""
    yield
    assert capfd.readouterr().err == ""


def made(path: Path, count: int = 40, **options: Any) -> Path:
    fine = {"b": "4000000"} if path.suffix in (".avi", ".mpg", ".flv", ".wmv") else {}
    groups = {} if path.suffix == ".wmv" or path.suffix == ".flv" else GROUPS
    return encode(path, numbered(count), **{"codec_options": groups | fine} | options)


def shown(path: Path, frames: int | str = "all") -> list[int]:
    return [number_shown(frame) for frame in read(path, frames)]


def reason(path: Path, frames: int | str = "all", max_pixels: int = 10**6) -> str:
    with pytest.raises(UnreadableVideo) as caught:
        list(frames_of(path, frames, max_pixels=max_pixels))  # type: ignore[arg-type]
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 100
    return str(caught.value)


# Times.


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_variable_frame_rate(name: str, tmp_path: Path) -> None:
    """Frames at 0, 1, 2, 3, 10, 11, 12, 40, 41, ... 71 of 72 ticks of 1/25 s: six parts of 12, middles 6, 18, 30, 42, 54, 66."""
    path = made(tmp_path / name, times=[0, 1, 2, 3, 10, 11, 12, *range(40, 73)])
    frames = read(path, 6)
    assert [frame.number for frame in frames] == [3, 6, 9, 21, 33] == [number_shown(frame) for frame in frames]
    assert [frame.seconds for frame in frames] == pytest.approx([0.12, 0.48, 1.68, 2.16, 2.64], abs=0.001)


def test_a_last_frame_that_is_said_to_stay_for_an_hour(tmp_path: Path) -> None:
    """It stays no longer than the others, or than a second: 39 frames of 1/25 s and one of 1 s, in parts of 0.64 s."""
    source = made(tmp_path / "source.mp4")

    def stretch(place: int, packet: Any) -> None:
        packet.duration = packet.duration if number_of(packet) < 39 else int(3600 / packet.time_base)

    def number_of(packet: Any) -> int:
        return round(float(packet.pts * packet.time_base * 25))

    path = repacked(source, tmp_path / "a.mp4", stretch)
    assert shown(path, 4) == [8, 24, 39]


def test_what_an_edit_list_cuts_is_no_part_of_the_video(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mp4", times=[place - 10 for place in range(40)])
    assert shown(path) == list(range(10, 40))
    assert [frame.seconds for frame in read(path, 3)] == pytest.approx([0.2, 0.6, 1.0])


def test_times_begin_at_the_first_frame(tmp_path: Path) -> None:
    frames = read(made(tmp_path / "a.mkv", times=[place + 100 for place in range(40)]), 4)
    assert [(frame.number, round(frame.seconds, 3)) for frame in frames] == [(5, 0.2), (15, 0.6), (25, 1.0), (35, 1.4)]


def test_times_that_jump_back_are_replaced_by_counting(tmp_path: Path) -> None:
    joined = tmp_path / "joined.ts"  # both parts begin at the same time
    joined.write_bytes(made(tmp_path / "1.ts", 10).read_bytes() + made(tmp_path / "2.ts", 10).read_bytes())
    frames = read(joined, 5)
    assert [number_shown(frame) for frame in frames] == [2, 6, 0, 4, 8]
    assert [(frame.number, round(frame.seconds, 2)) for frame in frames] == [
        (2, 0.08),
        (6, 0.24),
        (10, 0.4),
        (14, 0.56),
        (18, 0.72),
    ]


def test_a_stream_that_was_cut_at_its_beginning_starts_at_the_first_key_picture(tmp_path: Path) -> None:
    source = made(tmp_path / "a.ts")
    data = source.read_bytes()
    path = tmp_path / "cut.ts"
    path.write_bytes(data[: 3 * 188] + data[len(data) // 10 // 188 * 188 :])
    numbers = shown(path)
    assert numbers[0] == 8 and numbers == list(range(8, 40))


def test_a_stream_that_appears_on_the_way_is_passed_over(tmp_path: Path) -> None:
    made(tmp_path / "1.ts", 10)
    with av.open(str(tmp_path / "2.ts"), "w") as out:
        video, sound = out.add_stream("libx264", rate=25), out.add_stream("mp2", rate=16_000)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        for place, picture in enumerate(numbered(10)):
            frame = av.VideoFrame.from_ndarray(np.asarray(picture), "rgb24")
            frame.pts, frame.time_base = place + 10, Fraction(1, 25)
            out.mux(video.encode(frame))
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1152), np.int16), "s16", "mono")
        silence.sample_rate, silence.pts = 16_000, 0
        out.mux([*video.encode(), *sound.encode(silence), *sound.encode()])
    (tmp_path / "a.ts").write_bytes((tmp_path / "1.ts").read_bytes() + (tmp_path / "2.ts").read_bytes())
    assert shown(tmp_path / "a.ts") == [*range(10), *range(10)]  # the sound moves the times of the second part a little


# What is decoded.


@pytest.mark.parametrize("begins", [0, -10])  # -10: an edit list cuts the first ten, a key picture among them
def test_few_frames_are_decoded_from_the_key_pictures_before_them(
    begins: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Key pictures at 0, 64, 128 and 192; the wanted pictures are 32 or 41 behind the first of them, 32 to 39 behind others."""
    options = {"g": "64", "bf": "2"}
    path = encode(tmp_path / "a.mp4", numbered(64) * 4, codec_options=options, times=range(begins, begins + 256))
    decoded: list[Any] = []
    decode = OpenVideo.decode
    monkeypatch.setattr(OpenVideo, "decode", lambda video, packet: decoded.append(packet) or decode(video, packet))
    assert len(read(path, 4)) == 4 and len(decoded) <= 4 * (41 + 4)


@pytest.mark.parametrize("first", [0, 20])
@pytest.mark.parametrize("name", ["a.mov", "a.wmv"])
def test_wrong_marks_of_key_pictures_change_nothing(name: str, first: int, tmp_path: Path) -> None:
    """Every picture from `first` on is called a key picture: no one can begin there, and what came before stays right."""
    source = made(tmp_path / f"source{Path(name).suffix}")

    def mark(place: int, packet: Any) -> None:
        packet.is_keyframe = packet.is_keyframe or place >= first

    path = repacked(source, tmp_path / name, mark)
    for few, due in zip(read(path, 6), read(source, 6), strict=True):
        assert few.number == due.number and np.array_equal(few.pixels, due.pixels)


def test_pictures_before_a_key_picture_that_are_built_on_both_sides_of_it(tmp_path: Path) -> None:
    """Open groups: they come after the key picture in the file, and are not whole where decoding begins with it."""
    options = {"g": "8", "x264-params": "open-gop=1:bframes=3:b-adapt=0:scenecut=0", "preset": "medium"}
    path = encode(tmp_path / "a.mkv", numbered(64), codec_options=options)
    every = read(path)
    assert [number_shown(frame) for frame in every] == list(range(64))
    for few in (3, 5, 13, 40):
        assert all(np.array_equal(frame.pixels, every[frame.number].pixels) for frame in read(path, few))


def test_hidden_pictures_of_vp8_are_no_frames(tmp_path: Path) -> None:
    options = {"auto-alt-ref": "1", "lag-in-frames": "16", "b": "500000"}
    path = encode(tmp_path / "a.webm", numbered(40), codec="libvpx", codec_options=options)
    assert shown(path) == list(range(40))


def test_a_picture_that_only_says_that_nothing_has_changed_is_no_frame_of_its_own(tmp_path: Path) -> None:
    """MPEG-4 has such: a P picture (01) of this second (0), at tick 0 of 25, not coded (0), then stuffing."""
    unchanged = b"\0\0\1\xb6" + int("0101000001001111", 2).to_bytes(2, "big")
    source = made(tmp_path / "source.mov", codec_options={"b": "4000000", "g": "8"})
    path = repacked(source, tmp_path / "a.mov", lambda place, _: unchanged if place in (17, 20) else None)
    every = read(path)
    assert [frame.number for frame in every] == [place for place in range(40) if place not in (17, 20)]
    assert [frame.number for frame in read(path, 2)] == [10, 30]
    assert [(frame.number, number_shown(frame)) for frame in read(path, 1)] == [(19, 19)]  # the middle is number 20


def test_frames_stream(tmp_path: Path) -> None:
    """The first frames come before what is behind them is decoded."""
    path = repacked(
        made(tmp_path / "a.mp4"), tmp_path / "b.mp4", lambda place, _: b"\xff" * 40 if place == 30 else None
    )
    frames = frames_of(path, "all", max_pixels=10**6)
    assert [number_shown(next(frames)) for _ in range(16)] == list(range(16))
    with pytest.raises(UnreadableVideo, match="damaged"):
        list(frames)


def test_the_size_may_change_on_the_way(tmp_path: Path) -> None:
    one = encode(tmp_path / "1.h264", numbered(10), format="h264", codec_options=GROUPS).read_bytes()
    two = encode(tmp_path / "2.h264", numbered(10, (96, 80)), format="h264", codec_options=GROUPS).read_bytes()
    (tmp_path / "a.h264").write_bytes(one + two)
    assert [frame.pixels.shape[:2] for frame in read(tmp_path / "a.h264")] == [(48, 64)] * 10 + [(80, 96)] * 10
    assert reason(tmp_path / "a.h264", max_pixels=5000) == "96x80 is more than data.max_pixels = 5000"


# Containers without an index, cut off, damaged.


def without_index(path: Path) -> Path:
    data = path.read_bytes()
    kept = bytearray(data[: data.rindex(b"idx1")])
    kept[4:8] = struct.pack("<I", len(kept) - 8)
    path.write_bytes(kept)
    return path


def before_brands(path: Path) -> Path:
    """As QuickTime wrote files before they began with a box of brands."""
    data = path.read_bytes()
    assert data[4:8] == b"ftyp"
    path.write_bytes(data[:4] + b"skip" + data[8:])
    return path


INDEXLESS: dict[str, Callable[[Path], Path]] = {
    "AVI without an index": lambda folder: without_index(made(folder / "a.avi")),
    "MP4 in fragments": lambda folder: made(folder / "a.mp4", mux_options={"movflags": "frag_keyframe+empty_moov"}),
    "MP4 with its index in front": lambda folder: made(folder / "a.mp4", mux_options={"movflags": "faststart"}),
    "Matroska that was written live": lambda folder: made(folder / "a.mkv", mux_options={"live": "1"}),
    "MOV that names no brand": lambda folder: before_brands(made(folder / "a.mov", codec="libx264")),
    "another suffix": lambda folder: made(folder / "a.mp4").rename(folder / "a.avi"),
}


@pytest.mark.parametrize("kind", INDEXLESS)
def test_no_index_is_needed(kind: str, tmp_path: Path) -> None:
    path = INDEXLESS[kind](tmp_path)
    assert shown(path) == list(range(40)) and shown(path, 4) == [5, 15, 25, 35]


@pytest.mark.parametrize("part", [0.5, 0.9, 0.99])
@pytest.mark.parametrize("name", ["a.mp4", "front.mp4", "fragments.mp4", "a.mkv", "a.webm", "a.avi", "a.flv", "a.wmv"])
def test_what_was_cut_off_is_refused(name: str, part: float, tmp_path: Path) -> None:
    flags = {"front.mp4": "faststart", "fragments.mp4": "frag_keyframe+empty_moov"}
    path = made(tmp_path / name, mux_options={"movflags": flags[name]} if name in flags else {})
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * part)])
    assert reason(path, 4).startswith("truncated: ")


def test_an_mp4_without_its_index_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mp4")
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"moov") - 4])
    assert reason(path) == "truncated or damaged: no index of its pictures (moov)"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv", "a.webm", "a.avi", "a.mpg", "mjpeg.avi", "hevc.mp4"])
def test_damage_is_refused_where_it_is_met(name: str, tmp_path: Path) -> None:
    """Packet 18 is of the third group of pictures; the only frame asked for, number 20 of 40, is built on it."""
    codec = {"mjpeg.avi": "mjpeg", "hevc.mp4": "libx265"}.get(name)
    options: dict[str, Any] = (
        {"codec": codec, "codec_options": {"x265-params": "log-level=none:keyint=8"}} if codec == "libx265" else {}
    )
    options |= {"codec": codec, "codec_options": {"b": "4000000"}} if codec == "mjpeg" else {}
    source = made(tmp_path / f"source{Path(name).suffix}", **options)
    damage = np.random.default_rng(0).bytes(300)
    path = repacked(source, tmp_path / name, lambda place, _: damage if place == 18 else None)
    assert reason(path).startswith("damaged: ")
    assert shown(path, 2) == [10, 30]


def test_a_matroska_with_a_hole_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mkv")
    data = bytearray(path.read_bytes())
    half = len(data) // 2
    data[half : half + half // 2] = bytes(half // 2)
    path.write_bytes(data)
    assert reason(path, 4).startswith("damaged: its pictures end at ")
