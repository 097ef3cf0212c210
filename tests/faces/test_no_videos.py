"""What is no video, or not the one that is meant: named in one line, and no other file or URL is opened."""

from __future__ import annotations

import io
import os
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_videos import encode
from PIL import Image
from test_footage import number_shown, numbered, read
from test_odd_videos import _silent, made, reason, shown  # noqa: F401 - a fixture

from ffdi.errors import InputError
from ffdi.faces.footage import opening

av = pytest.importorskip("av")


def picture(kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (64, 48), "red").save(buffer, kind)
    return buffer.getvalue()


NO_VIDEO = {
    "empty file": b"",
    "JPEG, no video": picture("JPEG"),
    "GIF, no video": picture("GIF"),
    "WEBP, no video": picture("WEBP"),
    "PNG, no video": picture("PNG"),
    "playlist, no video": b"#EXTM3U\n#EXTINF:10,\n%s\n",
    "playlist, no video ": b"ffconcat version 1.0\nfile '%s'\n",
    "not a video format that is read": b"v=0\no=- 0 0 IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
    "not a video format that is read ": b"no video",
}


@pytest.mark.parametrize("due", NO_VIDEO)
def test_what_is_no_video_is_named(due: str, tmp_path: Path) -> None:
    other = made(tmp_path / "other.ts", 4)
    (tmp_path / "a.mp4").write_bytes(NO_VIDEO[due].replace(b"%s", str(other).encode()))
    assert reason(tmp_path / "a.mp4") == due.strip()


def test_a_video_without_a_frame_is_refused(tmp_path: Path) -> None:
    path = made(tmp_path / "a.mkv", 4, mux_options={"live": "1"})
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75")])  # the first cluster
    assert reason(path) == "no frame in it"


def test_no_regular_file_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    (tmp_path / "b.mp4").mkdir()
    for name in ("a.mp4", "b.mp4"):
        assert reason(tmp_path / name) == "cannot be read: no regular file"
    assert reason(tmp_path / "c.mp4") == "cannot be read: No such file or directory"


def added_cover(out: Any) -> Any:
    """A packet that is to be muxed when all streams are there."""
    cover = out.add_stream("mjpeg", rate=1)
    cover.width, cover.height, cover.pix_fmt = 64, 48, "yuvj420p"
    cover.disposition = av.stream.Disposition.attached_pic
    still = av.Packet(picture("JPEG"))
    still.stream, still.pts, still.dts, still.time_base, still.is_keyframe = cover, 0, 0, Fraction(1), True
    return still


@pytest.mark.parametrize("has_cover", [False, True])
def test_sound_alone_is_no_video(has_cover: bool, tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as out:
        stream = out.add_stream("aac", rate=16_000)
        if has_cover:
            out.mux(added_cover(out))
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), "fltp", "mono")
        sound.sample_rate, sound.pts = 16_000, 0
        out.mux([*stream.encode(sound), *stream.encode()])
    assert reason(tmp_path / "a.mp4") == "no video in it"


@pytest.mark.parametrize("name", ["a.mp4", "a.mkv"])
def test_the_first_video_is_read_and_a_cover_is_none(name: str, tmp_path: Path) -> None:
    with av.open(str(tmp_path / name), "w") as out:
        cover = added_cover(out)
        videos = [out.add_stream("libx264", rate=25) for _ in range(2)]
        for stream, size in zip(videos, ((64, 48), (128, 96)), strict=True):
            stream.width, stream.height = size
            stream.pix_fmt = "yuv420p"
        videos[0].disposition = av.stream.Disposition.default
        out.start_encoding()
        out.mux(cover)
        for stream in videos:
            for each in numbered(5, (stream.width, stream.height)):
                out.mux(stream.encode(av.VideoFrame.from_ndarray(np.asarray(each), "rgb24")))
            out.mux(stream.encode())
    frames = read(tmp_path / name)
    assert [number_shown(frame) for frame in frames] == [0, 1, 2, 3, 4] and frames[0].pixels.shape == (48, 64, 3)


@pytest.mark.parametrize("name", ["a.mp4", "a.ts", "a.mkv", "a.mjpeg"])
def test_a_size_above_the_limit_is_refused_before_anything_is_decoded(name: str, tmp_path: Path) -> None:
    options = {"codec": "mjpeg", "format": "mjpeg"} if name == "a.mjpeg" else {}
    path = encode(tmp_path / name, numbered(2, (512, 512)), **options)
    due = "more pixels than data.max_pixels = 200000, or damaged"  # a JPEG in a row of them says its size as it is decoded
    assert reason(path, max_pixels=200_000) == (
        due if name == "a.mjpeg" else "512x512 is more than data.max_pixels = 200000"
    )


def test_a_codec_that_is_not_on_the_list_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "a.mp4", 4)
    monkeypatch.setattr(opening, "_DECODERS", ("vp9",))
    assert reason(path) == "a video of codec h264, which is not read"


def test_text_in_another_encoding_is_no_matter(tmp_path: Path) -> None:
    def prepare(stream: Any) -> None:
        stream.container.metadata["title"] = "QQQQ"

    path = made(tmp_path / "a.mkv", 4, prepare=prepare)
    data = path.read_bytes()
    assert b"QQQQ" in data
    path.write_bytes(data.replace(b"QQQQ", b"\xff\xfe\xe9\xff"))
    assert shown(path) == [0, 1, 2, 3]


def test_without_pyav_one_line_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "a.mp4", 2)
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(InputError, match=r"a\.mp4: videos are read with the package av: pip install 'ffdi\[faces\]'"):
        read(path)


def test_not_even_a_playlist_could_open_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if playlists had a demuxer here: the one of HLS is given nothing but the list itself."""
    made(tmp_path / "other.ts", 4)
    for target in (tmp_path / "other.ts", "other.ts", "http://127.0.0.1:9/other.ts"):
        (tmp_path / "a.mp4").write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:1,\n{target}\n#EXT-X-ENDLIST\n")
        with monkeypatch.context() as patch:
            patch.setitem(opening._DEMUXERS, "playlist", "hls")
            assert reason(tmp_path / "a.mp4") == "refers to another file or address"


def test_a_place_that_a_file_does_not_have_is_told_without_an_exception(tmp_path: Path) -> None:
    """PyAV keeps the first exception of a file's methods, and raises it at the next call, be it for another file."""
    with made(tmp_path / "a.mp4", 2).open("rb") as file:
        quiet = opening._Quiet(file)
        assert quiet.seek(-5) < 0 and quiet.seek(2**80) < 0 and quiet.seek(4) == 4 and quiet.read(4) == b"ftyp"


def test_a_disk_that_fails_is_said_to_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = made(tmp_path / "a.mp4", 2)

    class Broken:
        def read(self, *_: int) -> bytes:
            raise OSError(5, "Input/output error")

        seek = read

    def fail(self: Any, file: Any) -> None:
        self.name, self.tell, self._file, self.error = file.name, file.tell, Broken(), None

    monkeypatch.setattr(opening._Quiet, "__init__", fail)
    assert reason(path).startswith("cannot be read: Input/output error")
