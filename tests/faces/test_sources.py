"""From a photo or a video to its cropped faces: which, in which order, with any number of workers."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ffdi.faces import sources
from ffdi.faces.face import Box, Face
from ffdi.faces.footage.footage import Frame
from ffdi.faces.settings import CropSettings
from ffdi.faces.sources import FoundFace, Looked, NoFaceError, faces_of_pixels, faces_of_source, frame_of_source
from ffdi.intake.decoding.images import RGB, UnreadableImage

SETTINGS = CropSettings(size=16, margin=1.0)
CLIP = Path("clip.mp4")


def face(x: float, side: float = 20) -> Face:
    """A face around (x, 50)."""
    return Face(Box(x - side / 2, 50 - side / 2, x + side / 2, 50 + side / 2), 0.9)


def scene(number: int) -> RGB:
    """A picture that says which frame it is."""
    return np.full((100, 300, 3), number, np.uint8)


@dataclass
class Seer:
    """Finds in the picture of frame n the faces that are given for n; the first ones take longest."""

    found: list[list[Face]]
    busy: list[int] = field(default_factory=list)

    def faces(self, pixels: RGB) -> list[Face]:
        self.busy.append(threading.get_ident())
        time.sleep(0.004 * (pixels[0, 0, 0] % 3 == 0))
        return self.found[pixels[0, 0, 0]]


@pytest.fixture
def clip(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Videos are frames a third of a second apart; gives back the numbers of those that were decoded."""
    decoded: list[int] = []

    def frames_of(path: Path, frames: Any, *, max_pixels: int, threads: int = 1) -> Iterator[Frame]:
        for number in range(int(path.stem) if path.stem.isdigit() else 3):
            decoded.append(number)
            yield Frame(10 * number, number / 3, scene(number))

    monkeypatch.setattr(sources, "frames_of", frames_of)
    return decoded


def summary(found: Iterator[FoundFace]) -> list[tuple[int, int, float]]:
    """(frame, track, where) of each."""
    return [(one.frame, one.track, (one.face.box.left + one.face.box.right) / 2) for one in found]


@pytest.mark.usefixtures("clip")
@pytest.mark.parametrize("workers", [1, 2, 5])
def test_all_faces_in_the_order_of_time_and_of_tracks_whatever_the_workers(workers: int) -> None:
    left, right = [face(60 + 5 * n, 30) for n in range(40)], [face(200 - n) for n in range(40)]
    seer = Seer([[left[n], right[n]][:: 1 if n % 2 else -1] for n in range(40)])
    looked = Looked()
    every = replace(SETTINGS, faces="all")
    found = list(faces_of_source(Path("40.mp4"), seer, every, 10**6, workers=workers, looked=looked))
    expected = [(10 * n, track, 60 + 5 * n if track == 0 else 200 - n) for n in range(40) for track in (0, 1)]
    assert summary(iter(found)) == expected
    assert all((one.crop == one.frame // 10).all() and one.crop.shape == (16, 16, 3) for one in found)
    assert [one.seconds for one in found[::2]] == [n / 3 for n in range(40)]
    assert looked == Looked(frames=40)
    assert (len(set(seer.busy)) == 1) == (workers == 1)


@pytest.mark.usefixtures("clip")
def test_the_largest_face_is_followed_while_it_has_half_the_area_of_the_largest() -> None:
    sizes = [
        (30, 20),
        (22, 30),
        (29, 20),
        (21, 30),
        (20, 30),
        (24, 30),
    ]  # 22**2 is more than half of 30**2; 21**2 is not
    seer = Seer([[face(60, left), face(220, right)] for left, right in sizes])
    found = summary(faces_of_source(Path("6.mp4"), seer, SETTINGS, 10**6))
    assert found == [(0, 0, 60), (10, 0, 60), (20, 0, 60), (30, 1, 220), (40, 1, 220), (50, 1, 220)]


@pytest.mark.usefixtures("clip")
def test_frames_without_a_face_are_counted() -> None:
    looked = Looked()
    found = summary(
        faces_of_source(Path("4.mp4"), Seer([[], [face(60)], [], [face(60)]]), SETTINGS, 10**6, looked=looked)
    )
    assert found == [(10, 0, 60), (30, 0, 60)]
    assert looked == Looked(frames=4, without_a_face=2)


@pytest.mark.usefixtures("clip")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_source_without_a_face_says_so(workers: int, tmp_path: Path) -> None:
    looked = Looked()
    with pytest.raises(NoFaceError, match=r"^no face in 3 frames$"):
        list(faces_of_source(CLIP, Seer([[], [], []]), SETTINGS, 10**6, workers=workers, looked=looked))
    assert looked == Looked(frames=3, without_a_face=3)
    with pytest.raises(NoFaceError, match=r"^no face: it has no frame$"):
        list(faces_of_source(Path("0.mp4"), Seer([]), SETTINGS, 10**6, workers=workers))
    Image.fromarray(scene(0)).save(tmp_path / "a.png")
    with pytest.raises(NoFaceError, match=r"^no face$"):
        list(faces_of_source(tmp_path / "a.png", Seer([[]]), SETTINGS, 10**6, workers=workers))


@pytest.mark.parametrize("workers", [1, 3])
def test_a_video_streams(clip: list[int], workers: int) -> None:
    """When the first face is there, no more frames were decoded than the workers hold."""
    found = faces_of_source(Path("200.mp4"), Seer([[face(60)]] * 200), SETTINGS, 10**6, workers=workers)
    next(found)
    assert len(clip) == 1 if workers == 1 else len(clip) <= 4 * workers + 3
    found.close()  # type: ignore[attr-defined]


def test_what_fails_on_the_way_is_raised_with_any_number_of_workers(clip: list[int]) -> None:
    for workers in (1, 2):
        with pytest.raises(IndexError):
            list(faces_of_source(Path("9.mp4"), Seer([[face(60)]] * 5), SETTINGS, 10**6, workers=workers))


def test_a_photo_is_upright_and_decoded_as_ever(tmp_path: Path) -> None:
    picture = np.zeros((40, 60, 3), np.uint8)
    picture[:, 30:] = 200
    exif = Image.Exif()
    exif[0x0112] = 6  # it is shown turned by a quarter to the right: what was right is below
    Image.fromarray(picture).save(tmp_path / "a.png", exif=exif)
    seer = Seer([[Face(Box(0, 0, 40, 60), 0.7)]])
    (found,) = faces_of_source(tmp_path / "a.png", seer, replace(SETTINGS, margin=4.0), 10**6)
    assert (found.frame, found.seconds, found.track) == (0, 0.0, 0)
    assert found.crop[2, 8, 0] == 0 and found.crop[13, 8, 0] == 200
    with pytest.raises(UnreadableImage, match="60x40 is more than"):
        list(faces_of_source(tmp_path / "a.png", seer, SETTINGS, 100))
    (tmp_path / "b.jpg").write_bytes(b"no picture")
    with pytest.raises(UnreadableImage, match="not an image format"):
        list(faces_of_source(tmp_path / "b.jpg", seer, SETTINGS, 100))


def test_a_picture_in_memory_and_the_frame_of_a_face(clip: list[int], tmp_path: Path) -> None:
    (found,) = faces_of_pixels(scene(0), Seer([[face(60, 10), face(200, 30)]]), SETTINGS)
    assert (found.track, found.face.box.left) == (0, 185)  # the largest one
    with pytest.raises(NoFaceError):
        faces_of_pixels(scene(0), Seer([[]]), SETTINGS)
    assert (frame_of_source(Path("5.mp4"), 20, SETTINGS, 10**6) == 2).all()
    assert clip == [0, 1, 2]
    with pytest.raises(UnreadableImage, match="no frame 7"):
        frame_of_source(CLIP, 7, SETTINGS, 10**6)
    Image.fromarray(scene(9)).save(tmp_path / "a.png")
    assert (frame_of_source(tmp_path / "a.png", 0, SETTINGS, 10**6) == 9).all()
