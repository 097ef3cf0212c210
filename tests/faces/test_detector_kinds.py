"""Decoding of each kind of detector, on graphs whose constant outputs place faces that are worked out by hand."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ffdi.errors import InputError
from ffdi.faces.detectors.candidates import Candidates
from ffdi.faces.detectors.centerface import CenterFace
from ffdi.faces.detectors.detector import FaceDetector, open_detector
from ffdi.faces.detectors.graph import DetectorGraph
from ffdi.faces.detectors.retinaface import RetinaFace
from ffdi.faces.detectors.scrfd import Scrfd
from ffdi.faces.detectors.yunet import YuNet
from ffdi.faces.face import Face
from ffdi.faces.settings import CropSettings

PICTURE = np.zeros((128, 256, 3), np.uint8)


def detector_of(
    folder: Path, outputs: dict[str, np.ndarray], size: tuple[int, int] = (128, 256), min_score: float = 0.5
) -> FaceDetector:
    """Opened from a file whose graph gives these outputs whatever it is given."""
    nodes = [
        helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value.astype(np.float32)))
        for name, value in outputs.items()
    ]
    entry = helper.make_tensor_value_info("data", TensorProto.FLOAT, [1, 3, *size])
    given = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    model = helper.make_model(
        helper.make_graph(nodes, "detector", [entry], given), opset_imports=[helper.make_opsetid("", 11)], ir_version=7
    )
    file = folder / "detector.onnx"
    onnx.save(model, file)
    return open_detector(CropSettings(detector=f"file:{file}", min_score=min_score))


def sides(face: Face) -> tuple[float, ...]:
    return face.box.left, face.box.top, face.box.right, face.box.bottom


def centerface_maps() -> dict[str, np.ndarray]:
    maps = {name: np.zeros((1, channels, 32, 64)) for name, channels in zip("shop", (1, 2, 2, 10), strict=True)}
    row, column = 10, 20
    maps["s"][0, 0, row, column] = 0.9
    maps["h"][0, :, row, column] = math.log(8), math.log(4)  # height before width
    maps["o"][0, :, row, column] = 0.25, -0.5  # y before x
    maps["p"][0, :2, row, column] = 0.25, 0.5
    maps["p"][0, 8:, row, column] = 1, 0
    return maps


def test_centerface_has_centres_at_a_quarter_and_y_before_x(tmp_path: Path) -> None:
    detector = detector_of(tmp_path, centerface_maps())
    (face,) = detector.faces(PICTURE)
    assert (detector.name, face.score) == ("centerface", pytest.approx(0.9))
    assert sides(face) == pytest.approx((72, 27, 88, 59))  # centre (80, 43), 16 x 32
    assert face.landmarks is not None and face.landmarks.dtype == np.float32
    assert face.landmarks[0] == pytest.approx([80, 35])
    assert face.landmarks[4] == pytest.approx([72, 59])


def scrfd_tables(landmarks: bool, strides: tuple[int, ...] = (8, 16, 32), rows: int = 2) -> dict[str, np.ndarray]:
    """A face in the last row of the place (x 3, y 2) of stride 16, where 256 x 128 pixels have 16 x 8 places."""
    tables = {}
    for name, columns in {"score": 1, "bbox": 4, "kps": 10}.items():
        for stride in strides:
            tables[f"{name}_{stride}"] = np.zeros(((128 // stride) * (256 // stride) * rows, columns))
    row = (2 * 16 + 3) * rows + rows - 1
    tables["score_16"][row] = 0.75
    tables["bbox_16"][row] = 1, 2, 3, 4
    tables["kps_16"][row, 2:4] = 0.5, -0.5
    return {name: table for name, table in tables.items() if landmarks or not name.startswith("kps")}


@pytest.mark.parametrize("landmarks", [True, False])
def test_scrfd_tells_distances_from_the_place_in_strides(tmp_path: Path, landmarks: bool) -> None:
    detector = detector_of(tmp_path, scrfd_tables(landmarks))
    (face,) = detector.faces(PICTURE)
    assert (detector.name, face.score) == ("scrfd", 0.75)
    assert sides(face) == (48 - 16, 32 - 32, 48 + 48, 32 + 64)
    assert (face.landmarks is not None) is landmarks
    if face.landmarks is not None:
        assert face.landmarks[1].tolist() == [56, 24]


def test_scrfd_of_five_strides_has_a_row_for_each_place_and_a_batch(tmp_path: Path) -> None:
    tables = scrfd_tables(True, (8, 16, 32, 64, 128), rows=1)
    detector = detector_of(tmp_path, {name: table[None] for name, table in reversed(tables.items())})
    (face,) = detector.faces(PICTURE)
    assert sides(face) == (32, 0, 96, 96)
    assert detector.kind.multiple == 128


def test_yunet_of_2023_tells_offsets_and_logs_in_strides(tmp_path: Path) -> None:
    tables = {}
    for name, columns in {"cls": 1, "obj": 1, "bbox": 4, "kps": 10}.items():
        for stride in (8, 16, 32):
            tables[f"{name}_{stride}"] = np.zeros((1, (128 // stride) * (256 // stride), columns))
    row = 1 * 8 + 2  # x 2, y 1 of the 8 x 4 places of stride 32
    tables["cls_32"][0, row], tables["obj_32"][0, row] = 0.81, 1.5  # a factor above 1 counts as 1
    tables["bbox_32"][0, row] = 0.5, 0.25, math.log(2), 0
    tables["kps_32"][0, row, :2] = 1, 0.5
    detector = detector_of(tmp_path, tables)
    (face,) = detector.faces(PICTURE)
    assert (detector.name, face.score) == ("yunet", pytest.approx(0.9))
    assert sides(face) == pytest.approx((48, 24, 112, 56))  # centre (80, 40), 64 x 32
    assert face.landmarks is not None and face.landmarks[0] == pytest.approx([96, 48])


def test_yunet_of_2022_corrects_priors(tmp_path: Path) -> None:
    count = 512 * 3 + 128 * 2 + 32 * 2 + 8 * 3
    tables = {"loc": np.zeros((count, 14)), "conf": np.zeros((count, 2)), "iou": np.zeros((count, 1))}
    row = count - 8 * 3 + (1 * 4 + 2) * 3 + 1  # x 2, y 1 of stride 64: its second prior, of 192 pixels around (160, 96)
    tables["conf"][row], tables["iou"][row] = (0.02, 0.98), 0.5
    tables["loc"][row, :6] = 1, -1, math.log(0.5) / 0.2, math.log(0.25) / 0.2, -1, 0.5
    detector = detector_of(tmp_path, tables)
    (face,) = detector.faces(PICTURE)
    assert (detector.name, face.score) == ("yunet", pytest.approx(0.7))
    assert sides(face) == pytest.approx((179.2 - 48, 76.8 - 24, 179.2 + 48, 76.8 + 24))
    assert face.landmarks is not None and face.landmarks[0] == pytest.approx([160 - 19.2, 96 + 9.6])


@pytest.mark.parametrize("last_softmax", [True, False])
def test_retinaface_corrects_priors(tmp_path: Path, last_softmax: bool) -> None:
    count = (512 + 128 + 32) * 2
    scores = np.tile([1.0, 0.0] if last_softmax else [4.0, -4.0], (count, 1))
    row = (4 * 32 + 5) * 2 + 1  # x 5, y 4 of stride 8: its second prior, of 32 pixels around (44, 36)
    scores[row] = (0.2, 0.8) if last_softmax else (0, math.log(4))
    boxes, points = np.zeros((1, count, 4)), np.zeros((1, count, 10))
    boxes[0, row] = 1, 2, 0, math.log(2) / 0.2
    points[0, row, :2] = -1, 1
    detector = detector_of(tmp_path, {"landms": points, "conf": scores[None], "loc": boxes})  # in any order
    (face,) = detector.faces(PICTURE)
    assert (detector.name, face.score) == ("retinaface", pytest.approx(0.8))
    assert sides(face) == pytest.approx((47.2 - 16, 42.4 - 32, 47.2 + 16, 42.4 + 32))
    assert face.landmarks is not None and face.landmarks[0] == pytest.approx([40.8, 39.2])


def test_each_kind_gets_the_picture_as_it_was_trained_on() -> None:
    pixel = np.array([[[255, 127, 0]]], np.uint8)  # red, green, blue
    assert CenterFace().blob(pixel).reshape(3).tolist() == [255, 127, 0]
    assert YuNet().blob(pixel).reshape(3).tolist() == [0, 127, 255]
    assert Scrfd((8, 16, 32), 2).blob(pixel).reshape(3) == pytest.approx([127.5 / 128, -0.5 / 128, -127.5 / 128])
    assert RetinaFace().blob(pixel).reshape(3).tolist() == [-104, 10, 132]
    assert {kind.blob(pixel).dtype for kind in (CenterFace(), YuNet(), RetinaFace())} == {np.dtype(np.float32)}


def test_a_graph_of_one_size_gets_the_picture_scaled_into_that(tmp_path: Path) -> None:
    tables = {name: table[: len(table) // 2] for name, table in scrfd_tables(True).items()}  # of 256 x 64 pixels
    detector = detector_of(tmp_path, tables, size=(64, 256))
    assert detector.graph.size == (64, 256)
    (face,) = detector.faces(np.zeros((192, 384, 3), np.uint8))  # becomes 64 x 128, the right half is padding
    assert sides(face) == pytest.approx((96, 0, 288, 288))
    (small,) = detector.faces(np.zeros((40, 100, 3), np.uint8))  # is not enlarged
    assert sides(small) == (32, 0, 96, 96)


def test_without_a_face_the_picture_is_smaller_in_a_graph_of_one_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = detector_of(tmp_path, scrfd_tables(True), min_score=0.9)
    seen = []
    before = DetectorGraph.__call__

    def noted(graph: DetectorGraph, blob: np.ndarray) -> list[np.ndarray]:
        white = blob[0, 0] > 0
        seen.append((int(white.any(axis=1).sum()), int(white.any(axis=0).sum()), blob.shape[2:]))
        return before(graph, blob)

    monkeypatch.setattr(DetectorGraph, "__call__", noted)
    assert detector.faces(np.full((400, 700, 3), 255, np.uint8)) == []
    assert seen == [(128, 224, (128, 256)), (64, 112, (128, 256))]


def test_width_and_height_are_scaled_back_each_by_its_own_rounding(tmp_path: Path) -> None:
    (face,) = detector_of(tmp_path, centerface_maps()).faces(np.zeros((101, 1000, 3), np.uint8))  # becomes 26 x 256
    across, down = 1000 / 256, 101 / 26
    assert sides(face) == pytest.approx((72 * across, 27 * down, 88 * across, 59 * down))
    assert face.landmarks is not None and face.landmarks[0] == pytest.approx([80 * across, 35 * down])


def test_a_score_below_the_least_is_none_and_one_that_equals_it_is_one(tmp_path: Path) -> None:
    assert len(detector_of(tmp_path, scrfd_tables(True), min_score=0.75).faces(PICTURE)) == 1
    assert detector_of(tmp_path, scrfd_tables(True), min_score=0.7501).faces(PICTURE) == []


def test_what_is_not_finite_or_has_no_area_is_no_face(tmp_path: Path) -> None:
    maps = centerface_maps()
    maps["s"][0, 0, 3, 3:6] = np.nan, 0.8, 0.8
    maps["h"][0, :, 3, 4] = 1000  # its exponential is infinite
    maps["p"][0, 0, 3, 5] = np.nan
    assert len(detector_of(tmp_path, maps).faces(PICTURE)) == 1
    boxes = np.array([[0, 0, 8, 8], [0, 0, np.inf, 8], [20, 20, 20, 30], [40, 40, 35, 35]])
    assert Candidates(boxes, np.full(4, 0.9)).best(0.3).boxes.tolist() == [[0, 0, 8, 8]]


def test_of_boxes_of_one_face_the_best_is_kept_and_of_equal_ones_the_first() -> None:
    boxes = np.array([[0, 0, 10, 10], [0, 0, 10, 8], [20, 0, 30, 10], [0, 6, 10, 16], [20, 1, 30, 11]], np.float64)
    best = Candidates(boxes, np.array([0.8, 0.9, 0.7, 0.6, 0.7])).best(0.3)
    # 1 has 0.8 in common with 0, which goes; 3 has 20 of 160 with 1, and stays; 4 has 90 of 110 with 2, of equal score.
    assert best.boxes.tolist() == boxes[[1, 2, 3]].tolist()
    assert best.scores.tolist() == [0.9, 0.7, 0.6]
    assert Candidates(np.zeros((0, 4)), np.zeros(0)).best(0.3).boxes.shape == (0, 4)


@pytest.mark.parametrize(
    ("outputs", "said"),
    [
        ({"boxes": np.zeros((1, 100, 6))}, "it takes data (1, 3, 128, 256) and gives boxes ("),
        ({name: table[:-1] for name, table in scrfd_tables(True).items()}, "no face detector is known by this graph"),
        ({"s": np.zeros((1, 1, 32, 64))}, "name an ONNX file of CenterFace, YuNet, YuNet of 2022, SCRFD, RetinaFace"),
    ],
)
def test_an_unknown_graph_is_refused_with_what_it_gives(
    tmp_path: Path, outputs: dict[str, np.ndarray], said: str
) -> None:
    with pytest.raises(InputError) as error:
        detector_of(tmp_path, outputs)
    assert said in str(error.value) and str(error.value).startswith(f"detector: {tmp_path}/detector.onnx: ")
    assert "\n" not in str(error.value)
