"""A set of face crops: what it holds, and what is refused. The detector is a stub, so that it is fast."""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from raw_sets import StubDetector, labels, made, patched_detector, settings, write_raw_set

from ffdi.console import Console
from ffdi.errors import InputError
from ffdi.faces.crop_files import CropFiles
from ffdi.faces.crop_set import make_crop_set
from ffdi.faces.detectors.detector import FaceDetector
from ffdi.faces.journal import CroppedSource
from ffdi.faces.source_task import SourceTask, Unfit
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.ingest import IntakeFiles, ingest_data_set
from ffdi.intake.settings import DataSettings


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return write_raw_set(tmp_path)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> StubDetector:
    return patched_detector(monkeypatch)


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


def test_a_row_says_where_a_crop_is_from(raw: Path, stub: StubDetector) -> None:
    done = made(raw)
    source = sha256(raw / "real" / "a.png")
    rows = labels(raw)
    assert list(rows) == [
        "path",
        "label",
        "group",
        "split",
        "source",
        "video",
        "frame",
        "seconds",
        "track",
        "box",
        "score",
    ]
    assert list(rows["source"]) == ["fake/c.png", "real/a.png", "real/b.png"]
    assert rows.iloc[1].to_dict() == {
        "path": f"crops/{source[:2]}/{source[:32]}-000000-0.png",
        "label": "0",
        "group": "real/a.png",  # the layout names none
        "split": "",
        "source": "real/a.png",
        "video": "",
        "frame": "0",
        "seconds": "0.000",
        "track": "0",
        "box": "16 16 48 48",
        "score": "0.8765",
    }
    assert Image.open(raw.parent / "set" / rows["path"][0]).size == (32, 32)
    assert (done.sources, done.crops, done.rejected) == (4, 3, 1)
    assert done.line == (
        "4 photos and 0 videos (0 frames, 0 of them without a face): 3 faces in 3 tracks; 0 searched before; 1 rejected "
        "(1 no face)"
    )


def test_there_is_a_sheet_to_look_at(raw: Path, stub: StubDetector) -> None:
    made(raw)
    sheet = Image.open(raw.parent / "set" / "contact.jpg")
    assert sheet.format == "JPEG" and min(sheet.size) > 200


def test_faces_json_says_how_the_crops_were_made(raw: Path, stub: StubDetector) -> None:
    made(raw, margin=1.5)
    facts = json.loads((raw.parent / "set" / "faces.json").read_text())
    assert facts["kind"] == "faces" and facts["detector"] == {"name": "stub", "sha256": "5" * 64}
    assert facts["crops"] == settings(margin=1.5).recorded()
    assert set(facts["versions"]) >= {"onnxruntime", "pillow", "policy"}
    assert (facts["sources"], facts["crops_written"], facts["rejected"]) == (4, 3, 1)


def test_what_shows_no_face_or_cannot_be_read_is_listed(raw: Path, stub: StubDetector) -> None:
    (raw / "real" / "cut.png").write_bytes((raw / "real" / "a.png").read_bytes()[:-40])
    (raw / "real" / "text.jpg").write_text("no photo")
    done = made(raw, max_rejected=0.5)
    rejected = pd.read_csv(raw.parent / "set" / "rejected.csv")
    assert list(rejected["path"]) == ["fake/d.png", "real/cut.png", "real/text.jpg"]
    assert rejected["reason"][0] == "no face" and rejected["reason"][1].startswith("damaged")
    skipped = (raw.parent / "set" / "skipped.csv").read_text()
    assert skipped == "path,reason\nnotes.txt,suffix .txt\n"
    assert done.line.endswith(
        "3 rejected (1 damaged, or of a kind that is not read; 1 no face; 1 not an image format that Pillow knows)"
    )


def test_no_face_at_all_is_an_error(raw: Path, stub: StubDetector) -> None:
    shutil.rmtree(raw / "real")
    (raw / "fake" / "c.png").unlink()
    with pytest.raises(InputError, match=r"no face in any of 1 photos and videos: 1 no face"):
        made(raw, max_rejected=1.0)


def test_a_run_that_ends_looks_at_no_further_frame(raw: Path, stub: StubDetector) -> None:
    """Such as by Ctrl-C: the sources in hand may be long videos."""
    ended = Event()
    files = CropFiles(raw.parent / "set", "png")
    task = SourceTask(raw, settings(), cast(FaceDetector, stub), files, ended, workers=1)
    assert isinstance(task.crop(("0" * 64, "real/a.png")), CroppedSource) and stub.asked == 1
    ended.set()
    assert task.crop(("0" * 64, "real/a.png")) == Unfit("real/a.png", "the run was stopped") and stub.asked == 1


@pytest.mark.parametrize("root", [".", "set", "set/crops"])
def test_a_root_around_the_set_or_in_it_is_refused(root: str, raw: Path, stub: StubDetector) -> None:
    made(raw)
    with pytest.raises(InputError, match="holds the folder that the crops are written to, or lies in it"):
        make_crop_set(raw.parent / root, settings(), raw.parent / "set")


def test_two_files_of_the_same_bytes_are_one_source(raw: Path, stub: StubDetector) -> None:
    shutil.copy(raw / "real" / "b.png", raw / "real" / "copy_of_b.png")
    done = made(raw, group="(?P<group>[^/]+).png")
    rows = labels(raw).set_index("source")
    assert rows["group"]["real/b.png"] == "b" and "real/copy_of_b.png" not in rows.index
    assert "; 1 more have the bytes of another" in done.line


def test_the_same_bytes_under_two_labels_are_an_error(raw: Path, stub: StubDetector) -> None:
    shutil.copy(raw / "real" / "b.png", raw / "fake" / "b.png")
    with pytest.raises(InputError, match=r"two labels: fake/b.png \(label 1\) and real/b.png \(label 0\)"):
        made(raw)
    assert stub.asked == 0


def test_columns_of_the_layout_are_kept_and_told_where_they_change_their_name(raw: Path, stub: StubDetector) -> None:
    rows = ["file,label,group,split,method,source", "real/a.png,0,p|q,train,,web", "fake/c.png,1,p,test,swap,film"]
    (raw / "labels.csv").write_text("\n".join(rows) + "\n")
    said: list[str] = []
    table: dict[str, Any] = {"layout": "csv", "attributes": None, "columns": DataSettings(".").columns}
    columns = replace(table["columns"], path="file")
    make_crop_set(raw, settings(**table | {"columns": columns}), raw.parent / "set", Console(said.append))
    table_row = labels(raw).iloc[0]
    assert (table_row["group"], table_row["split"], table_row["method"], table_row["given_source"]) == (
        *("p|q", "train", "", "web"),
    )
    assert "column 'source' of the layout is called 'given_source' in labels.csv" in said
    assert any(line.startswith("2 on disk but not listed") for line in said)


def test_frames_whose_layout_names_their_video_are_of_that_video(raw: Path, stub: StubDetector) -> None:
    (raw / "labels.csv").write_text("path,label,video\nreal/a.png,0,v1\nreal/b.png,0,v1\nfake/c.png,1,\n")
    make_crop_set(raw, settings(layout="csv"), raw.parent / "set")
    assert labels(raw).set_index("source")["video"].to_dict() == {
        "real/a.png": "v1",
        "real/b.png": "v1",
        "fake/c.png": "",
    }


def test_ingest_takes_the_set_without_a_word_about_its_other_files(raw: Path, stub: StubDetector) -> None:
    made(raw)
    said: list[str] = []
    files = IntakeFiles(*(raw.parent / f"{name}.csv" for name in ("images", "rejected", "skipped")))
    source = ImageSource(raw.parent / "set", 10**6)
    done = ingest_data_set(source, DataSettings(root=".", layout="csv"), files, Console(said.append))
    assert said == [] and done.summary() == (
        "3 images (1 fake), 0 listed twice and merged, 0 rejected, 0 on disk but not listed"
    )
    assert set(done.intake.images["attr_source"]) == {"fake/c.png", "real/a.png", "real/b.png"}
    skipped = pd.read_csv(files.skipped).set_index("path")["reason"].to_dict()
    assert skipped.pop("labels.csv") == "table of labels" and set(skipped.values()) == {"of stage faces"}


def test_pixels_are_those_of_the_middle(raw: Path, stub: StubDetector) -> None:
    """The crop is of the box that the detector gave, times margin."""
    made(raw, margin=1.0, size=32)
    whole = np.asarray(Image.open(raw / "real" / "a.png"))
    crop = np.asarray(Image.open(raw.parent / "set" / labels(raw).set_index("source")["path"]["real/a.png"]))
    assert np.array_equal(crop, whole[16:48, 16:48])
