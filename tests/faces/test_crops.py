"""Crops of faces: where they lie, what is in them at borders, and their files."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ffdi.errors import InputError
from ffdi.faces.crops import crop_face, encode_crop
from ffdi.faces.face import Box, Face
from ffdi.faces.settings import CropSettings
from ffdi.intake.decoding.images import RGB

TEMPLATE = np.array(
    [[38.2946, 51.6963], [73.5318, 51.5014], [56.0252, 71.7366], [41.5493, 92.3655], [70.7299, 92.2041]]
)


def settings(size: int, margin: float = 1.0, **others: object) -> CropSettings:
    return replace(CropSettings(), size=size, margin=margin, **others)  # type: ignore[arg-type]


def at(left: float, top: float, right: float, bottom: float, landmarks: object = None) -> Face:
    marks = None if landmarks is None else np.array(landmarks, np.float32)
    return Face(Box(left, top, right, bottom), 0.9, marks)


def noise(height: int, width: int) -> RGB:
    return np.random.default_rng(5).integers(0, 256, (height, width, 3), np.uint8)


def ramps(height: int, width: int) -> RGB:
    """Red is x, green is y: a crop says where it was taken."""
    y, x = np.mgrid[:height, :width]
    return np.stack([x, y, np.zeros_like(x)], axis=-1).astype(np.uint8)


def test_a_square_around_the_centre_of_the_box_of_margin_times_its_longer_side() -> None:
    picture = noise(80, 90)
    # Centre (50, 40), longer side 20.
    assert (crop_face(picture, at(42, 30, 58, 50), settings(20)) == picture[30:50, 40:60]).all()
    assert (crop_face(picture, at(40, 32, 60, 48), settings(30, 1.5)) == picture[25:55, 35:65]).all()


def test_parts_of_a_pixel_count() -> None:
    crop = crop_face(ramps(200, 200), at(40.25, 60.5, 80.25, 100.5), settings(20))
    # The first pixel of the crop spans 40.25 to 42.25; the value of a pixel is that of its centre less a half.
    assert crop[:, 5, 0].tolist() == [round(40.25 + 5 * 2 + 1 - 0.5 + 1e-9)] * 20
    assert crop[7, :, 1].tolist() == [60 + 7 * 2 + 1] * 20


@pytest.mark.parametrize(
    ("box", "rows", "columns"),
    [
        ((-10, 5, 10, 25), slice(5, 25), slice(0, 20)),  # moved right
        ((75, 70, 95, 90), slice(60, 80), slice(70, 90)),  # moved left and up
        ((500, -400, 520, -380), slice(0, 20), slice(70, 90)),  # nothing of the box is in the picture
    ],
)
def test_a_square_that_reaches_out_of_the_picture_is_moved_into_it(
    box: tuple[int, int, int, int], rows: slice, columns: slice
) -> None:
    picture = noise(80, 90)
    assert (crop_face(picture, at(*box), settings(20)) == picture[rows, columns]).all()


def test_a_square_is_no_larger_than_the_picture() -> None:
    picture = noise(16, 40)
    assert (crop_face(picture, at(2, -30, 22, 20), settings(16, 4.0)) == picture[:, 4:20]).all()  # around x = 12
    assert (crop_face(noise(1, 1), at(0, 0, 1, 1), settings(16, 1.3)) == noise(1, 1)).all()
    assert crop_face(noise(3, 500), at(3, 3, 3, 3), settings(16)).shape == (16, 16, 3)


@pytest.mark.parametrize("turned", [0.0, 0.4])
@pytest.mark.parametrize("align", ["none", "similarity"])
def test_a_large_face_has_no_aliases(align: str, turned: float) -> None:
    """A chequered picture is grey from afar. Without a filter its squares would stay black and white."""
    y, x = np.mgrid[:900, :900]
    board = np.repeat(((x + y) % 2 * 255).astype(np.uint8)[..., None], 3, axis=-1)
    turn = np.array([[np.cos(turned), np.sin(turned)], [-np.sin(turned), np.cos(turned)]])
    face = at(50.3, 51.1, 850.3, 851.1, (TEMPLATE - 56) @ turn * 800 / 112 + 450)
    crop = crop_face(board, face, settings(64, align=align)).astype(int)
    assert np.abs(crop - 127.5).max() <= 2


def test_what_is_far_from_the_crop_changes_no_byte() -> None:
    """Only the part of the picture around the crop is handed to Pillow."""
    picture, face = noise(300, 300), at(110.7, 120.2, 181.3, 177.9)
    whole = Image.fromarray(picture).resize((64, 64), Image.Resampling.LANCZOS, box=(110.7, 113.75, 181.3, 184.35))
    difference = np.abs(crop_face(picture, face, settings(64)).astype(int) - np.asarray(whole).astype(int))
    assert difference.max() <= 1  # the corner is rounded in other places


def spotted(height: int, width: int, points: np.ndarray) -> RGB:  # type: ignore[type-arg]
    y, x = np.mgrid[:height, :width] + 0.5
    near = [np.exp(-((x - px) ** 2 + (y - py) ** 2) / 18) for px, py in points]
    return np.repeat((255 * np.max(near, axis=0)).round().astype(np.uint8)[..., None], 3, axis=-1)


def spots(crop: RGB, points: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
    """Where the light around each of these points is, on average."""
    y, x = np.mgrid[: crop.shape[0], : crop.shape[1]] + 0.5
    found = []
    for px, py in points:
        light = crop[..., 0] * (np.hypot(x - px, y - py) < 12)
        found.append((float((light * x).sum() / light.sum()), float((light * y).sum() / light.sum())))
    return np.array(found)


@pytest.mark.parametrize("scale", [0.6, 1.0, 2.9])
@pytest.mark.parametrize("degrees", [0, 25, -110])
@pytest.mark.parametrize("margin", [1.0, 1.3])
def test_an_aligned_face_has_its_landmarks_where_the_template_has_them(
    scale: float, degrees: float, margin: float
) -> None:
    angle = np.radians(degrees)
    turn = scale * np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    points = (TEMPLATE - 56) @ turn + (250.25, 240.5)
    side = 112 * scale
    face = at(250 - side / 2, 240 - side / 2, 250 + side / 2, 240 + side / 2, points)
    crop = crop_face(spotted(500, 520, points), face, settings(224, margin, align="similarity"))
    expected = (TEMPLATE - 56) * (224 / 112 / margin) + 112  # the template's square is the box: a margin is around it
    assert np.abs(spots(crop, expected) - expected).max() < 0.5


def test_a_face_is_never_mirrored() -> None:
    """Mirrored landmarks are fitted as well as a turn can, which leaves the picture as it was: red is to the right."""
    picture = np.repeat(np.linspace(0, 255, 300).astype(np.uint8)[None, :, None], 300, axis=0).repeat(3, axis=-1)
    points = (TEMPLATE - 56) * (-1.0, 1.0) + 150
    crop = crop_face(picture, at(94, 94, 206, 206, points), settings(32, align="similarity")).astype(int)
    assert crop[16, 31, 0] > crop[16, 0, 0]


def test_outside_of_the_picture_an_aligned_crop_is_mirrored() -> None:
    """The face's square is the left half inside: columns 0 to 55 of the crop are those from 56 on, mirrored."""
    picture = noise(200, 200)
    face = at(-56, 40, 56, 152, TEMPLATE - (56, 0) + (0, 40))
    crop = crop_face(picture, face, settings(112, align="similarity"))
    assert np.abs(crop[:, :56].astype(int) - crop[:, 56:][:, ::-1]).max() <= 2
    inside = np.abs(crop[:, 56:].astype(int) - picture[40:152, :56].astype(int))
    assert inside.mean() < 20  # the finest noise is lost; noise of another place differs by 85
    grey = np.full((50, 60, 3), 77, np.uint8)
    far = crop_face(grey, at(-300, -300, 200, 200, TEMPLATE * 4 - 300), settings(64, 2.0, align="similarity"))
    assert (far == 77).all()


def test_an_aligned_crop_is_what_the_picture_would_be_there() -> None:
    """Of a picture that is a formula: waves of five pixels of the crop, turned by 0.3 and reduced by 2."""

    def waves(x: np.ndarray, y: np.ndarray) -> np.ndarray:  # type: ignore[type-arg]
        return 127 + 40 * np.sin(x / 1.5 + 1) + 40 * np.sin(y / 1.9 + x / 9) + 40 * np.sin(y / 1.5 - x / 20)

    y, x = np.mgrid[:400, :400] + 0.5
    picture = np.repeat(waves(x, y).round().astype(np.uint8)[..., None], 3, axis=-1)
    turn = 2 * np.array([[np.cos(0.3), np.sin(0.3)], [-np.sin(0.3), np.cos(0.3)]])
    face = at(88, 88, 312, 312, (TEMPLATE - 56) @ turn + (203.3, 198.6))
    v, u = np.mgrid[:112, :112] + 0.5 - 56
    there = np.stack([u, v], axis=-1) @ turn + (203.3, 198.6)
    error = crop_face(picture, face, settings(112, align="similarity"))[..., 0] - waves(there[..., 0], there[..., 1])
    assert np.sqrt((error**2).mean()) < 1.5  # 6.5 without finer pixels
    assert np.abs(error).max() < 5  # at the edges too, where the filters read beyond the crop


def test_landmarks_that_make_no_face_leave_the_box() -> None:
    picture = noise(80, 90)
    box = (40, 30, 60, 50)
    for points in (np.full((5, 2), 50.0), TEMPLATE * 30, TEMPLATE / 30, np.full((5, 2), np.nan)):
        crop = crop_face(picture, at(*box, points), settings(20, align="similarity"))
        assert (crop == picture[30:50, 40:60]).all()


def test_a_detector_without_landmarks_cannot_align() -> None:
    with pytest.raises(InputError, match=r"similarity needs landmarks, and file:x.onnx gives none: set align: none"):
        crop_face(noise(9, 9), at(0, 0, 9, 9), settings(16, align="similarity", detector="file:x.onnx"))


def test_the_file_of_a_crop_holds_its_pixels_alone() -> None:
    pixels = noise(40, 40)
    png, jpeg = encode_crop(pixels, "png"), encode_crop(pixels, "jpeg-95")
    assert (png, jpeg) == (encode_crop(pixels.copy(), "png"), encode_crop(pixels, "jpeg-95"))
    assert (np.asarray(Image.open(io.BytesIO(png))) == pixels).all()
    opened = Image.open(io.BytesIO(jpeg))
    assert [layer[1:3] for layer in opened.layer] == [(1, 1)] * 3  # type: ignore[attr-defined]  # 4:4:4
    assert opened.quantization[0][0] == 2  # the first step of luminance at quality 95: (16 * 10 + 50) // 100
    assert not Image.open(io.BytesIO(png)).info and set(opened.info) == {
        "jfif",
        "jfif_version",
        "jfif_unit",
        "jfif_density",
    }
