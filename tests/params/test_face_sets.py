"""Section faces of params.yaml: names, bounds and keys that have no effect."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from params_files import changed

from ffdi.errors import ParamsError
from ffdi.params.reading import read_params


def faces(tmp_path: Path, name: str = "wild", **keys: Any) -> Any:
    section = {"root": "raw", "layout": "imagefolder"} | keys
    return read_params(changed(tmp_path, faces={name: section})).face_set(name)


def test_a_set_has_the_keys_of_data_and_of_crops(tmp_path: Path) -> None:
    read = faces(tmp_path, group="(?P<group>.)", detector="file:yunet.onnx", frames="all", margin=2)
    assert (read.layout, read.group, read.detector, read.frames, read.margin) == (
        *("imagefolder", "(?P<group>.)", "file:yunet.onnx", "all", 2.0),
    )
    assert read.max_rejected == 0.05
    assert read_params(changed(tmp_path)).faces == {}


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"name": "my set"}, "faces 'my set': a name has letters, digits, _ and - only"),
        ({"detektor": "centerface"}, "unknown key faces.wild.detektor: choose one of "),
        ({"table": "labels.txt"}, "faces.wild: table has no effect with layout imagefolder, which reads root, "),
        ({"synthesise": 1}, "faces.wild: synthesise has no effect with layout imagefolder"),
        ({"root": "s3://bucket/raw"}, "faces.wild: root must be a path of this machine, for videos are read in place"),
        ({"root": [{"root": "a"}]}, "faces.wild.root: must be one folder"),
        ({"detector": "mtcnn"}, "faces.wild.detector: must be centerface, or file:PATH of an ONNX file (is 'mtcnn')"),
        ({"detector": "file:"}, "faces.wild.detector: must be centerface, or file:PATH of an ONNX file"),
        ({"frames": 0}, "faces.wild.frames"),
        ({"margin": 0.5}, "faces.wild.margin: Input should be greater than or equal to 1"),
        ({"align": "full"}, "faces.wild.align: Input should be 'none' or 'similarity'"),
        ({"format": "webp"}, "faces.wild.format: Input should be 'png' or 'jpeg-95'"),
        ({"max_rejected": 2}, "faces.wild.max_rejected: Input should be less than or equal to 1"),
    ],
)
def test_what_is_wrong_is_said_with_its_place(keys: dict[str, Any], says: str, tmp_path: Path) -> None:
    with pytest.raises(ParamsError) as caught:
        faces(tmp_path, **keys)
    assert says in str(caught.value) and "\n" not in str(caught.value)


def test_a_name_that_is_not_there_lists_those_that_are(tmp_path: Path) -> None:
    params = read_params(changed(tmp_path, faces={"a": {"root": "x"}, "b": {"root": "y"}}))
    with pytest.raises(ParamsError, match=r"faces 'c' is not in params: choose one of a, b$"):
        params.face_set("c")
    with pytest.raises(ParamsError, match=r"choose one of none$"):
        read_params(changed(tmp_path)).face_set("c")
