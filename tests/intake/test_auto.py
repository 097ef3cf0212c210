"""`layout: auto` takes the layout that a root has, says so, and takes none where several fit."""

import ast
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import lay_out_multi_ffdi, write_pictures
from layout_cases import raw, table, touch

from ffdi.doctor.data_root import root_diagnoses
from ffdi.errors import InputError
from ffdi.intake.archives import unpacked
from ffdi.intake.decoding.images import ImageSource
from ffdi.intake.ingest import IntakeFiles, ingest_data_set
from ffdi.intake.listing.known_layouts import LAYOUTS
from ffdi.intake.settings import Columns, DataSettings


def faceforensics(root: Path) -> None:
    touch(root, *(f"original_sequences/youtube/c23/videos/{name}.mp4" for name in ("000", "003", "1")))
    touch(root, "manipulated_sequences/Deepfakes/c23/videos/000_003.mp4")


def celeb_df(root: Path) -> None:
    touch(root, *(f"YouTube-real/0000{i}.mp4" for i in range(5)), "Celeb-synthesis/id0_id1_0000.mp4")
    table(root, "1 YouTube-real/00000.mp4\n", "List_of_testing_videos.txt")


def dfdc(root: Path) -> None:
    touch(root, "part_0/a.mp4", "part_0/b.mp4")
    entries = {"a.mp4": {"label": "FAKE", "split": "train", "original": "b.mp4"}}
    table(root, json.dumps(entries | {"b.mp4": {"label": "REAL", "split": "train"}}), "part_0/metadata.json")


def multi_ffdi(root: Path) -> None:
    write_pictures(root.with_name("pictures"), 4, groups=2)
    files = sorted(root.with_name("pictures").glob("*.jpg"))
    lay_out_multi_ffdi(root / "phase1", [(file, i % 2, i > 2) for i, file in enumerate(files)])


def imagefolder(root: Path) -> None:
    touch(root, "train/REAL/a.jpg", "train/fake/b.jpg", "train/fake/c.mp4", "train/masks/b.png", ".x/other/d.jpg")


def csv(root: Path) -> None:
    touch(root, "a.jpg", "b.jpg")
    table(root, "Filename,Class,note\na.jpg,real,x\nb.jpg,fake,y\n", "faces.csv")
    table(root, "a,b\n1,2\n", "other.csv")


TREES: dict[str, Callable[[Path], None]] = {
    tree.__name__: tree for tree in (imagefolder, csv, multi_ffdi, faceforensics, celeb_df, dfdc)
}


@pytest.mark.parametrize("layout", TREES)
def test_it_reads_what_the_layout_reads(layout: str, tmp_path: Path) -> None:
    TREES[layout](tmp_path / "set") if layout == "multi_ffdi" else TREES[layout](tmp_path)
    root = tmp_path / "set" if layout == "multi_ffdi" else tmp_path
    named = {"table": "faces.csv", "columns": Columns(path="Filename", label="Class")} if layout == "csv" else {}
    found, known = raw(root, "auto"), raw(root, layout, **named)
    assert found.rows.equals(known.rows) and found.skipped == known.skipped
    assert found.messages[0].startswith(f"layout {layout}: ")
    assert found.messages[3:] == known.messages


def test_it_says_which_label_is_fake_before_anything_is_decoded(tmp_path: Path) -> None:
    celeb_df(tmp_path)
    assert raw(tmp_path, "auto").messages[:3] == [
        "layout celeb_df: folders Celeb-synthesis, YouTube-real, List_of_testing_videos.txt",
        "fake is folder 'Celeb-synthesis' (1 file), such as Celeb-synthesis/id0_id1_0000.mp4",
        "real is folder 'YouTube-real' (5 files), such as YouTube-real/00000.mp4, YouTube-real/00001.mp4, "
        "YouTube-real/00002.mp4",
    ]


def test_its_folders_of_methods_make_faceforensics(tmp_path: Path) -> None:
    methods = ["Deepfakes", "Face2Face", "FaceShifter", "FaceSwap", "NeuralTextures"]  # DF40 has methods of like names
    touch(tmp_path, "original/000.mp4", *(f"{method}/000_003.mp4" for method in methods), "csv/FF_Metadata.csv")
    assert raw(tmp_path, "auto").messages[0].startswith("layout faceforensics: folders Deepfakes, Face2Face, ")


def test_folders_of_a_layout_go_before_those_of_classes_and_its_table_before_any_table(tmp_path: Path) -> None:
    faceforensics(tmp_path)  # whose two folders name classes
    assert raw(tmp_path, "auto").messages[0].startswith("layout faceforensics: ")
    assert len(raw(tmp_path, "imagefolder").rows) == 4
    table(tmp_path, "path,label\noriginal_sequences/youtube/c23/videos/000.mp4,0\n")
    with pytest.raises(InputError) as caught:
        raw(tmp_path, "auto")
    assert str(caught.value) == (
        f"{tmp_path}: layout auto: 2 layouts fit: csv (labels.csv, columns path and label); faceforensics (folders "
        "manipulated_sequences, original_sequences): name one in data.layout"
    )
    for split in ("train", "val", "test"):
        table(tmp_path, "[]", f"{split}.json")
    assert raw(tmp_path, "auto").messages[0].startswith("layout faceforensics: ")


def test_a_table_goes_before_the_folders_of_classes(tmp_path: Path) -> None:
    touch(tmp_path, "real/a.jpg", "fake/b.jpg")
    table(tmp_path, "path,label\nreal/a.jpg,0\n")
    table(tmp_path, "path,label\nfake/b.jpg,1\n", "more.csv")
    assert list(raw(tmp_path, "auto").rows["path"]) == ["real/a.jpg"]  # labels.csv is its usual name
    (tmp_path / "labels.csv").rename(tmp_path / "some.csv")
    with pytest.raises(
        InputError, match=r"2 layouts fit: csv \(more.csv, .*\); csv \(some.csv, .*\): name one in data.table"
    ):
        raw(tmp_path, "auto")


def test_what_only_looks_like_a_layout_of_the_field(tmp_path: Path) -> None:
    touch(tmp_path, "original/000.jpg", "fake/001.jpg", "deep/.git/x.jpg", ".git/a.jpg")
    table(tmp_path, "path,label\na.jpg,1\n", "fake/faces.csv")  # a table deep inside names no set
    touch(tmp_path, "other/a.jpg")
    with pytest.raises(InputError, match="none of"):
        raw(tmp_path, "auto")
    (tmp_path / "other/a.jpg").unlink()
    table(tmp_path, json.dumps({"000.jpg": {"label": "REAL", "split": "train"}}), "._metadata.json")
    table(tmp_path, "path,label\na.jpg,1\n", "._labels.csv")
    assert raw(tmp_path, "auto").messages[0] == "layout imagefolder: folders fake, original"
    table(tmp_path, "filename,label\noriginal/000.jpg,0\nfake/001.jpg,1\n")  # as the validation set of DFDC
    assert raw(tmp_path, "auto").messages[0] == "layout csv: labels.csv, columns filename and label"


def test_an_archive_is_recognised_as_its_folder_is(tmp_path: Path) -> None:
    celeb_df(tmp_path / "in/Celeb-DF-v2")
    touch(tmp_path / "in", "__MACOSX/Celeb-DF-v2/._x.mp4", ".DS_Store")
    shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path / "in")
    listing = raw(unpacked(tmp_path / "set.zip"), "auto")
    assert listing.messages[0].startswith("layout celeb_df: ")
    assert listing.rows.equals(raw(tmp_path / "in/Celeb-DF-v2", "celeb_df").rows)


def test_what_fits_no_layout_is_an_error_that_lists_them(tmp_path: Path) -> None:
    touch(tmp_path, "a/b.jpg", "real/c.jpg")
    with pytest.raises(InputError) as caught:
        raw(tmp_path, "auto")
    assert str(caught.value) == (
        f"{tmp_path}: layout auto: none of {', '.join(LAYOUTS)} fits: correct data.root, or list the files in a table, for "
        "layout csv"
    )


def test_a_table_that_cannot_be_read_is_told(tmp_path: Path) -> None:
    dfdc(tmp_path)
    table(tmp_path, '{"a.mp4": {"label": "FAK"}}', "part_0/metadata.json")
    says = r"none of .* fits \(not dfdc: .*part_0/metadata\.json: 'a\.mp4': .*'FAK'.* is not as .*\): correct data.root"
    with pytest.raises(InputError, match=says):
        raw(tmp_path, "auto")
    faceforensics(tmp_path / "x")
    (tmp_path / "x/dataset_json").mkdir()
    table(tmp_path, '{"FF-DF": {', "x/dataset_json/FF-DF.json")
    first = raw(tmp_path / "x", "auto").messages[0]
    assert first.startswith("layout faceforensics: folders ")
    assert f"; not deepfakebench: {tmp_path}/x/dataset_json/FF-DF.json: no JSON: " in first
    touch(tmp_path, "y/a.jpg")
    table(tmp_path, b"PK\x03\x04 xl/", "y/labels.csv")
    with pytest.raises(InputError, match=r"\(not csv: .*labels\.csv: is an Excel workbook"):
        raw(tmp_path / "y", "auto")


def test_videos_alone_are_for_section_faces(tmp_path: Path) -> None:
    faceforensics(tmp_path)
    with pytest.raises(InputError, match="or, for the videos there, name the root in section faces"):
        raw(tmp_path, "auto", videos=False)


def test_a_file_that_is_listed_twice_is_one_example(tmp_path: Path) -> None:
    touch(tmp_path, "a.jpg", "b.jpg", "c.jpg")
    table(tmp_path, "path,label\na.jpg,1\na.jpg,1\nb.jpg,1\nc.jpg,0\n")
    assert raw(tmp_path, "auto").messages[1] == "fake is label '1' of labels.csv (2 files), such as a.jpg, b.jpg"


def test_a_setting_that_the_layout_does_not_read_is_an_error(tmp_path: Path) -> None:
    dfdc(tmp_path)
    says = r"data.classes has no effect with layout dfdc \(part_0/metadata.json\), which auto took: leave it out"
    with pytest.raises(InputError, match=says):
        raw(tmp_path, "auto", classes={"a": 0})
    (tmp_path / "x").mkdir()
    imagefolder(tmp_path / "x")
    found = raw(tmp_path / "x", "auto", classes={"real": 1, "fake": 0}, exclude=("m*s",))
    assert list(found.rows["label"]) == [1, 0, 0] and dict(found.skipped)["train/masks/b.png"]


def test_the_doctor_says_it(tmp_path: Path) -> None:
    (diagnosis,) = root_diagnoses(DataSettings(str(tmp_path), "auto"), "project")
    assert diagnosis.state == "missing" and "layout auto: none of " in diagnosis.found
    csv(tmp_path)
    (diagnosis,) = root_diagnoses(DataSettings(str(tmp_path), "auto"), "project")
    assert diagnosis.state == "ok"
    assert diagnosis.found == f"{tmp_path} is there; layout csv: faces.csv, columns Filename and Class"


def test_ingest_says_it_first(tmp_path: Path) -> None:
    multi_ffdi(tmp_path / "set")
    data = DataSettings(str(tmp_path / "set"), "auto")
    files = IntakeFiles(*(tmp_path / f"{name}.csv" for name in ("images", "rejected", "skipped")))
    ingested = ingest_data_set(ImageSource(tmp_path / "set"), data, files)
    assert ingested.listing.messages[0] == "layout multi_ffdi: phase1/trainset_label.txt and phase1/valset_label.txt"
    assert len(ingested.intake.images) == 4


def test_an_importer_has_at_most_sixty_lines() -> None:
    """Of code: without the docstring of the module, imports, comments and empty lines."""
    folder = Path(raw.__code__.co_filename).parents[2] / "ffdi/intake/listing"
    for name in set(LAYOUTS).difference(("imagefolder", "csv", "multi_ffdi")):
        text = (folder / f"{name}.py").read_text(encoding="utf-8")
        heads = [
            node
            for node in ast.parse(text).body
            if isinstance(node, ast.Import | ast.ImportFrom)
            or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant))
        ]
        taken = {line for node in heads for line in range(node.lineno, (node.end_lineno or 0) + 1)}
        lines = enumerate(text.splitlines(), 1)
        code = [line for number, line in lines if number not in taken and line.strip() and line.strip()[0] != "#"]
        assert len(code) <= 60, (name, len(code))
