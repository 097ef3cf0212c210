"""Faces on a terminal, in files for programs, on the page of explanations and in the app."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import Trained
from face_models import face_model
from made_videos import scene, write_video

from ffdi.commands.main import main
from ffdi.deploy.judgement import FACE_COLUMNS, FaceJudgement, Judgement, Tally
from ffdi.deploy.verdict_tables import write_aligned, write_csv

pytestmark = pytest.mark.usefixtures("restore_threads")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    scene(seed=3, size=(640, 320), people=2).picture.save(folder / "two.jpg", quality=95)
    scene(seed=4, size=(240, 200), people=0).picture.save(folder / "none.png")
    write_video(folder / "clip.mp4", seed=1, frames=6)
    (folder / "notes.txt").write_text("of the camera")
    return folder


@pytest.fixture(scope="module")
def model(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return face_model(trained.model, tmp_path_factory.mktemp("models") / "faces", faces="all")


def rows() -> list[tuple[Judgement, ...]]:
    file = FaceJudgement("a.mp4", 0.9, "fake", 0.03, True, None, None, 32, 0.2, 1.26, "1 2 30 40")
    people = [
        FaceJudgement("a.mp4", 0.1, "real", 0.01, False, None, 0, 32, 0.05, 0.4, "50 2 80 40"),
        FaceJudgement("a.mp4", 0.9, "fake", 0.03, True, None, 1, 20, 0.2, 1.26, "1 2 30 40"),
    ]
    lone = [
        FaceJudgement("b.jpg", 0.2, "real", 0.02, None, None, track, 1, None, None, "5 6 7 8") for track in (None, 0)
    ]
    return [(row,) for row in (file, *people, *lone, FaceJudgement("c.png", reason="no face"))]


def test_on_a_terminal_people_stand_below_their_file_where_there_are_several() -> None:
    text = io.StringIO()
    write_aligned(["m"], rows(), text, longest=5, width=100, faces=True)
    assert text.getvalue().splitlines() == [
        "path              score  verdict    spread  frames      ±  most fake at",
        "a.mp4             0.900  fake        0.030      32  0.200  1.3 s, 1 2 30 40  unlike the training data",
        "  person 0        0.100  real        0.010      32  0.050  0.4 s, 50 2 80 40",
        "  person 1        0.900  fake        0.030      20  0.200  1.3 s, 1 2 30 40  unlike the training data",
        "b.jpg             0.200  real        0.020       1         5 6 7 8",
        "c.png             no face",
    ]


def test_programs_get_every_row_and_todays_columns_first() -> None:
    text = io.StringIO()
    write_csv(["m"], rows(), text, faces=True)
    lines = text.getvalue().splitlines()
    assert (
        lines[0]
        == "path,score,verdict,spread,unlike,reason,track,frames,frame_spread,seconds,box"
        == ",".join(FACE_COLUMNS)
    )
    assert lines[1] == "a.mp4,0.900000,fake,0.030000,True,,,32,0.200000,1.260000,1 2 30 40"
    assert lines[5] == "b.jpg,0.200000,real,0.020000,,,0,1,,,5 6 7 8" and lines[6] == "c.png,,no face,,,no face,,,,,"
    text = io.StringIO()
    write_csv(["m", "n"], [(row[0], row[0]) for row in rows()], text, faces=True)
    head = text.getvalue().splitlines()[0]
    assert head.endswith("unlike_m,unlike_n,reason,track,frames,frame_spread_m,frame_spread_n,seconds,box")


def test_files_are_counted_and_not_the_people_in_them() -> None:
    tally = Tally(1, "file")
    assert list(tally.counted(rows())) == rows()
    assert list(tally.lines(["m"])) == ["3 files: 1 fake, 1 real, 1 unlike the training data, 1 without a face"]
    assert (tally.rows, tally.faceless, tally.unreadable) == (3, 1, 0)


def test_the_command_takes_videos_of_a_folder_and_says_who_has_no_face(model: Path, raw: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.parquet"
    done = CliRunner().invoke(main, ["predict", "--model", str(model), str(raw), "--out", str(out)])
    assert done.exit_code == 1, done.output
    said = done.stderr.splitlines()
    assert said[0] == f"predict: {raw}: passed over: 1 without an image's suffix (1 .txt)"
    assert said[1].startswith("predict: faces: CenterFace, ONNX Runtime")
    assert said[-1] == "predict: 1 of 3 files has no face" and "1 without a face" in said[-2]
    table = pd.read_parquet(out)
    assert list(table.columns) == list(FACE_COLUMNS)
    files = table[table["track"].isna()]
    assert [Path(path).name for path in files["path"]] == ["clip.mp4", "none.png", "two.jpg"]
    assert list(files["frames"].dropna()) == [3, 1] and len(table) == 6
    lines = CliRunner().invoke(main, ["predict", "--model", str(model), str(raw / "two.jpg"), "--format", "jsonl"])
    first = json.loads(lines.stdout.splitlines()[0])
    assert first["track"] is None and first["seconds"] is None and len(first["box"].split()) == 4
    largest = CliRunner().invoke(main, ["predict", "--model", str(model), "--faces", "largest", str(raw / "two.jpg")])
    assert (
        "predict: 1 file shows more faces than the largest, which is judged: --faces all judges each" in largest.stderr
    )
    assert largest.exit_code == 0 and len(largest.stdout.splitlines()) == 3  # header, file, one person
    whole = CliRunner().invoke(main, ["predict", "--model", str(model), "--faces", "none", str(raw)])
    assert whole.stdout.splitlines()[0] == "path,score,verdict,spread,unlike,reason"
    assert "videos" in whole.stderr.splitlines()[0] or "video" in whole.stderr.splitlines()[0]


def test_explain_shows_the_most_fake_crop_of_each_person(model: Path, raw: Path, tmp_path: Path) -> None:
    arguments = ["explain", "--model", str(model), "--no-occlusion", "--out", str(tmp_path / "out"), str(raw)]
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 1 and "1 of 3 files has no face" in done.stderr.splitlines()[-1]
    assert "3 faces of 3 files explained" in done.stderr
    names = sorted(file.name for file in (tmp_path / "out").glob("*.png"))
    assert len(names) == 3 and sum(name.startswith("two.jpg_person_") for name in names) == 2
    assert names[0].startswith("clip.mp4_person_0_at_")
    assert "no face" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_the_app_shows_each_face_the_most_fake_first(model: Path, raw: Path) -> None:
    from ffdi.deploy.app.judging import Judge
    from ffdi.deploy.detector import load

    judge = Judge(model, 10**6)
    status, found = judge((raw / "two.jpg").read_bytes())
    first, second = found["pictures"]
    table = load(model).predict(raw / "two.jpg")
    assert status == 200 and first["score"] == pytest.approx(table["score"][0]) and first["score"] >= second["score"]
    assert first["meaning"].startswith("The most fake of 2 faces, at ") and second["meaning"].startswith("Another face")
    left, top, right, bottom = str(table["box"][0]).split()
    assert f"at {left} to {right} across, {top} to {bottom} down" in first["meaning"]
    status, found = judge((raw / "none.png").read_bytes())
    assert (status, found["error"]) == (422, "No face was found in this picture, and the model judges faces.")
    assert judge(b"no picture")[0] == 422


@pytest.mark.parametrize("header", ["img_name\n", ""])
def test_submit_scores_videos_of_a_list_by_their_most_fake_person(
    header: str, model: Path, raw: Path, tmp_path: Path
) -> None:
    from ffdi.deploy.detector import load

    (tmp_path / "list.txt").write_text(header + "clip.mp4\nnone.png\ntwo.jpg\n")
    out = tmp_path / "out.csv"
    arguments = [
        "submit",
        "--model",
        str(model),
        "--list",
        str(tmp_path / "list.txt"),
        "--root",
        str(raw),
        "--out",
        str(out),
    ]
    done = CliRunner().invoke(main, [*arguments, "--max-rejected", "0.5"])
    assert done.exit_code == 0, done.stderr
    table = load(model).predict([raw / "clip.mp4", raw / "two.jpg"])
    files = table[table["track"].isna()]["score"].tolist()
    found = pd.read_csv(out)
    assert list(found["img_name"]) == ["clip.mp4", "none.png", "two.jpg"]
    assert list(found["y_pred"])[::2] == pytest.approx(files) and f"{str(raw / 'none.png')!r}: no face" in done.stderr
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 1 and "no face" in refused.stderr.splitlines()[-1]


def test_crops_that_are_cropped_once_more_are_warned_of(model: Path, raw: Path, tmp_path: Path) -> None:
    crop = tmp_path / "set" / "crops" / "ab" / "abc-0-0.png"
    crop.parent.mkdir(parents=True)
    scene(seed=3, size=(64, 64), side=64).picture.save(crop)
    (tmp_path / "set" / "faces.json").write_text("{}")
    (tmp_path / "set" / "labels.csv").touch()
    for options, is_warned in (((), True), (("--faces", "none"), False)):
        done = CliRunner().invoke(main, ["predict", "--model", str(model), str(crop), *options])
        assert ("which are cropped once more: give --faces none" in done.stderr) == is_warned
