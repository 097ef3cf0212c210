"""The command `ffdi submit`."""

from __future__ import annotations

import csv
import json
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import Tiny, Trained, picture

from ffdi.commands.main import main
from ffdi.features.store import FeatureStore
from ffdi.intake.ingest import DISK_FAULT
from ffdi.tails import predict as predict_module
from ffdi.tails.batches import load_table
from ffdi.tails.bundle import Bundle, load_bundle
from ffdi.tails.predict import predict_files
from ffdi.tails.record import record_hash

pytestmark = pytest.mark.usefixtures("restore_threads")

ALL_BUT_ONE = ("--max-rejected", "1")  # submit has a row for each image that cannot be read, where one can


def submit(model: Path, root: Path, listed: str, folder: Path, *options: str) -> tuple[Result, Path]:
    """Run `ffdi submit` on a list of this text; (its result, its out file, which is there before)."""
    (folder / "list.csv").write_text(listed, encoding="utf-8", newline="")
    out = folder / "submission.csv"
    out.write_text("of a former run")
    paths = ("--model", model, "--list", folder / "list.csv", "--root", root, "--out", out)
    return CliRunner().invoke(main, ["submit", *map(str, paths), *options]), out


def table_of(out: Path) -> list[tuple[str, float]]:
    """The rows of a submission as a strict reader sees them."""
    with open(out, encoding="utf-8", newline="") as text:
        header, *rows = csv.reader(text, strict=True)
    assert header == ["img_name", "y_pred"]
    return [(name, float(score)) for name, score in rows]


def refused(result: Result, out: Path) -> str:
    """The one line that ends a command which leaves what was there before, and nothing beside it."""
    assert result.exit_code == 1 and isinstance(result.exception, SystemExit)
    assert out.read_text() == "of a former run" and not list(out.parent.glob(".*"))
    return str(result.stderr.splitlines()[-1])


@pytest.fixture
def model(trained: Trained, tmp_path: Path) -> Path:
    """The trained bundle, with a prior that no one would guess."""
    folder = Path(shutil.copytree(trained.model, tmp_path / "model"))
    facts = json.loads((folder / "bundle.json").read_text()) | {"prior": 0.3125}
    facts["facts_sha256"] = record_hash(facts)
    (folder / "bundle.json").write_text(json.dumps(facts))
    return folder


def test_submit_equals_predict_and_the_scores_from_shards(trained: Trained, tiny: Tiny, tmp_path: Path) -> None:
    bundle, store = load_bundle(trained.model), FeatureStore(trained.features)
    rows = tiny.rows.sample(frac=1, random_state=0)
    rows = rows.iloc[[*range(len(rows)), 3, 3, 0]]  # in no order, some listed again
    names = list(rows["path"])
    listed = "img_name,target,y_pred\n" + "".join(f"{name},0,0.5\n" for name in names)
    result, out = submit(trained.model, tiny.root, listed, tmp_path)
    assert result.exit_code == 0, result.output
    assert [name for name, _ in table_of(out)] == names
    scores = [score for _, score in table_of(out)]
    table = load_table(store, list(rows["image_id"]), list(rows["label"]), views=0, memory_gb=1)
    assert scores == pytest.approx(bundle.scores(table, torch.device("cpu")), abs=1e-6)
    files = [str(tiny.root / name) for name in names]
    predicted = CliRunner().invoke(main, ["predict", "--model", str(trained.model), *files]).stdout.splitlines()[1:]
    assert [f"{score:.6f}" for score in scores] == [line.split(",")[1] for line in predicted]


@pytest.mark.parametrize("column", ["target", "label"])
def test_submit_judges_known_labels(
    trained: Trained, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, column: str
) -> None:
    rows = tiny.rows.head(20)
    scores = (0.1 + 0.8 * rows["label"]).tolist()
    monkeypatch.setattr("ffdi.tails.scoring.BLOCK", len(rows))  # all at once
    monkeypatch.setattr(Bundle, "fold_scores", lambda bundle, features, device: {0: np.array(scores)})

    def said(labels: Iterable[object]) -> str:
        listed = f"img_name,{column}\n" + "".join(f"{n},{v}\n" for n, v in zip(rows["path"], labels))
        result, out = submit(trained.model, tiny.root, listed, tmp_path)
        assert result.exit_code == 0 and [score for _, score in table_of(out)] == scores
        return result.stderr

    right, turned = said(rows["label"]), said(1 - rows["label"])
    assert f"against column {column} of list.csv: AUC 1.000 [1.000, 1.000]" in right and "WARNING" not in right
    assert "WARNING: AUC 0.000 [0.000, 0.000] on list.csv: the whole interval lies below .5" in turned
    for placeholders in ([0] * 20, ["0.5"] * 20, [""] * 20):
        assert "against" not in said(placeholders)


def test_submit_loses_no_digit(trained: Trained, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    near_1 = [1 - 2**-53 * (i + 1) for i in range(4)] + [1e-300, 0.1]
    names = list(tiny.rows["path"].head(6))
    monkeypatch.setattr(Bundle, "fold_scores", lambda bundle, features, device: {0: np.array(near_1)})
    _, out = submit(trained.model, tiny.root, "\n".join(names), tmp_path)
    assert [score for _, score in table_of(out)] == near_1
    assert out.read_bytes().decode().split("\n")[-3:] == [f"{names[4]},1e-300", f"{names[5]},0.1", ""]


def test_submit_gives_the_prior_to_what_it_cannot_read(model: Path, tiny: Tiny, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    picture(0).save(root / "good.jpg")
    (root / "cut.jpg").write_bytes((root / "good.jpg").read_bytes()[:-200])
    (root / "text.jpg").write_text("no image")
    picture(1, 101).save(root / "large.png")
    names = ["cut.jpg", "good.jpg", "none.jpg", "text.jpg", "large.png", "none.jpg"]
    result, out = submit(model, root, "img_name\n" + "\n".join(names), tmp_path, "--max-pixels", "10000", *ALL_BUT_ONE)
    assert result.exit_code == 0, result.output
    assert [name for name, _ in table_of(out)] == names
    assert [score for name, score in table_of(out) if name != "good.jpg"] == [0.3125] * 5
    ((_, good),) = predict_files(load_bundle(model), [root / "good.jpg"], max_pixels=10**6, device=torch.device("cpu"))
    assert table_of(out)[1][1] == good != 0.3125
    *_, cut, missing, text, large, again, closing = result.stderr.splitlines()
    assert cut.startswith(f"'{root}/cut.jpg': damaged: ")
    none = f"'{root}/none.jpg': cannot be read: No such file or directory"
    assert missing == again and missing.startswith(none)
    assert text == f"'{root}/text.jpg': not an image format that Pillow knows"
    assert large.startswith(f"'{root}/large.png': 101x101 is more than")
    assert closing == f"{out}: 5 of 6 images cannot be read: their y_pred is the prior 0.3125"


def test_submit_writes_nothing_where_too_little_is_read(model: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    for i in range(19):
        picture(i).save(root / f"{i}.jpg")
    (root / "bad.jpg").touch()
    good, bad = [f"{i}.jpg" for i in range(19)], f"the first is '{root}/bad.jpg': empty file"
    assert submit(model, root, "\n".join([*good, "bad.jpg"]), tmp_path)[0].exit_code == 0  # 1 of 20
    result, out = submit(model, root, "\n".join([*good[:8], "bad.jpg"]), tmp_path)
    too_few = "nothing is written above --max-rejected 0.1, nor where all are"
    assert refused(result, out) == f"submit: 1 of 9 images cannot be read, and perhaps more: {too_few}; {bad}"
    result, out = submit(model, root, "\n".join([*good, "bad.jpg"]), tmp_path, "--max-rejected", "0")
    assert "1 of 20 images cannot be read" in refused(result, out)
    result, out = submit(model, root, "bad.jpg\nbad.jpg", tmp_path, *ALL_BUT_ONE)
    assert "2 of 2 images cannot be read" in refused(result, out)  # the prior alone is no submission


def test_submit_finds_names_that_differ(model: Path, tmp_path: Path) -> None:
    (tmp_path / "root/in").mkdir(parents=True)
    names = [f"000{i}" for i in range(4)]
    for i, name in enumerate(names):
        picture(i).save(tmp_path / f"root/in/{name}.jpg")
    scores = []
    for listed in (names, [f"in\\{name}.jpg" for name in names]):
        root = tmp_path / "root" / ("" if "\\" in listed[0] else "in")
        result, out = submit(model, root, "img_name\n" + "\n".join(listed), tmp_path)
        assert result.exit_code == 0 and [name for name, _ in table_of(out)] == listed
        change = "backslashes" if "\\" in listed[0] else "missing suffix"
        said = f"submit: 4 listed names are spelt otherwise on disk ({change}): {listed[0]!r} is read from "
        assert result.stderr.startswith(said)
        scores.append([score for _, score in table_of(out)])
    assert scores[0] == scores[1] and len(set(scores[0])) == 4
    result, out = submit(model, tmp_path / "root", "0000.jpg\n0001.jpg", tmp_path)
    assert refused(result, out).endswith("No such file or directory; the closest name is 'in/0000.jpg'")


def test_submit_quotes_a_carriage_return(model: Path, tmp_path: Path) -> None:
    picture(0).save(tmp_path / "a\rb.jpg")
    result, out = submit(model, tmp_path, 'img_name\n"a\rb.jpg"\n', tmp_path)
    assert result.exit_code == 0 and [name for name, _ in table_of(out)] == ["a\rb.jpg"]
    assert out.read_bytes().startswith(b'img_name,y_pred\n"a\rb.jpg",')


def test_the_prior_is_the_share_of_fakes_in_the_training(trained: Trained, tiny: Tiny) -> None:
    train = tiny.rows[tiny.rows["role"] == "train"]
    assert load_bundle(trained.model).prior == sum(train["label"] == 1) / len(train)


@pytest.mark.parametrize("header", ["", "img_name\n", "\ufeffimg_name\r\n"])
def test_submit_takes_awkward_names(header: str, trained: Trained, tmp_path: Path) -> None:
    names = ["plain.jpg", "ä 人.jpg", "a,b.jpg", 'a"b.jpg', "a\nb.jpg", "-a.jpg", "in/ä,.jpg"]
    (tmp_path / "root/in").mkdir(parents=True)
    for seed, name in enumerate(names):
        picture(seed).save(tmp_path / "root" / name)
    quoted = ['"' + name.replace('"', '""') + '"' if set(name) & set(',"\r\n') else name for name in names]
    result, out = submit(trained.model, tmp_path / "root", header + "\r\n".join(quoted), tmp_path)
    assert result.exit_code == 0 and "0 of" in result.stderr.splitlines()[-1], result.output
    assert [name for name, _ in table_of(out)] == names and len({score for _, score in table_of(out)}) == len(names)
    if not header:
        written = [row.rpartition(",")[0] for row in re.split(r"(?<=\d)\n", out.read_bytes().decode())]
        assert written == ["img_name,y_pred\nplain.jpg", *quoted[1:], ""]


@pytest.mark.parametrize(
    ("listed", "says"),
    [
        ("img_name,target\na.jpg,1\n\n../b.jpg,0\n", "row 4: path '../b.jpg' leads out of "),
        ("a.jpg\n/etc/b.jpg\n", "row 2: path '/etc/b.jpg' leads out of "),
        ("path,target\na.jpg,1\n", "no column 'img_name'; the header is 'path,target'"),
        ("img_name\n", "no rows"),
    ],
)
def test_submit_refuses_a_list_before_it_scores(listed: str, says: str, tiny: Tiny, tmp_path: Path) -> None:
    result, out = submit(tmp_path / "no model", tiny.root, listed, tmp_path)
    assert refused(result, out).startswith(f"submit: {tmp_path}/list.csv: {says}")


def test_submit_stops_when_nothing_can_be_read(model: Path, tiny: Tiny, tmp_path: Path) -> None:
    good = tiny.rows["path"].iloc[0]
    some = [f"{i}.jpg" for i in range(DISK_FAULT - 1)]
    result, out = submit(model, tiny.root, "\n".join([*some, good, *some]), tmp_path, *ALL_BUT_ONE)
    assert result.exit_code == 0, result.output
    assert [score for _, score in table_of(out)].count(0.3125) == len(table_of(out)) - 1 == 2 * (DISK_FAULT - 1)
    result, out = submit(model, tiny.root, "\n".join([good, *some, "last.jpg", good]), tmp_path, *ALL_BUT_ONE)
    last = f"submit: 100 unreadable images in a row, the last '{tiny.root}/last.jpg': cannot be read: No such file or "
    assert (said := refused(result, out)).startswith(last), said
    assert said.endswith(": check the list, for the listed names are not those of the files, and --root")
    broken = tmp_path / "broken"
    broken.mkdir()
    for name in [*some, "last.jpg"]:
        (broken / name).touch()
    result, out = submit(model, broken, "\n".join([*some, "last.jpg"]), tmp_path, *ALL_BUT_ONE)
    assert refused(result, out).endswith(f"the last '{broken}/last.jpg': empty file: check the disk and --root")
    result, out = submit(model, tmp_path / "none", good, tmp_path)
    assert refused(result, out) == f"submit: {tmp_path}/none: is no folder: name the one that the list is of"


def test_submit_counts_its_rows(trained: Trained, tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forgetful(bundle: Any, files: Sequence[Path], **settings: Any) -> Any:
        return predict_files(bundle, files[:-1], **settings)

    names = list(tiny.rows["path"])
    result, out = submit(trained.model, tiny.root, "\n".join(names), tmp_path)
    assert result.exit_code == 0 and len(table_of(out)) == len(names)
    monkeypatch.setattr(predict_module, "predict_files", forgetful)
    result, out = submit(trained.model, tiny.root, "\n".join(names), tmp_path)
    rows = f"{len(names) - 1} rows were written, {tmp_path}/list.csv lists {len(names)}"
    assert refused(result, out) == f"submit: {out}: {rows}"


def test_submit_says_at_once_where_it_cannot_write(trained: Trained, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    listed = tmp_path / "list.csv"
    listed.write_text("none.jpg")
    paths = ("--model", trained.model, "--list", listed, "--root", tiny.root, "--out", tmp_path / "file/out.csv")
    result = CliRunner().invoke(main, ["submit", *map(str, paths)])
    assert result.exit_code == 1 and "file/out.csv: cannot be written: " in result.stderr
    assert "images" not in result.stderr  # the bar's


def test_a_row_for_each_video_joins_the_scores_of_its_frames(trained: Trained, tiny: Tiny, tmp_path: Path) -> None:
    """In the order in which videos come first; a frame that cannot be read counts for none, and a video of such, prior."""
    names = list(tiny.rows["path"][:5])
    cells = ["b/same", "a/same", "b/same", "", "lost", "b/same"]
    labels = [1, 0, 1, 0, 0, 1]
    files = [*names[:4], "gone.jpg", "missing.jpg"]
    rows = "".join(f"{f},{c},{label}\n" for f, c, label in zip(files, cells, labels, strict=True))
    listed = "img_name,clip,label\n" + rows
    result, out = submit(trained.model, tiny.root, listed, tmp_path, *ALL_BUT_ONE, "--unit", "clip")
    assert result.exit_code == 0, result.output
    bundle = load_bundle(trained.model)
    scores = [
        float(score)
        for _, score in predict_files(
            bundle, [tiny.root / name for name in names[:4]], max_pixels=10**7, device=torch.device("cpu")
        )
    ]
    with open(out, encoding="utf-8", newline="") as text:
        header, *found = csv.reader(text, strict=True)
    assert header == ["clip", "y_pred"]
    assert [name for name, _ in found] == ["b/same", "a/same", names[3], "lost"]
    due = [(scores[0] + scores[2]) / 2, scores[1], scores[3], bundle.prior]
    assert [float(score) for _, score in found] == pytest.approx(due)
    assert "2 of 6 images cannot be read; 1 of 4 rows (clip) have none that can: their y_pred is" in result.stderr
    assert "each clip a group of its own" in result.stderr
    top, _ = submit(trained.model, tiny.root, listed, tmp_path, *ALL_BUT_ONE, "--unit", "clip", "--unit-score", "top-1")
    assert top.exit_code == 0 and float(out.read_text().splitlines()[1].split(",")[1]) == pytest.approx(
        max(scores[0], scores[2])
    )
    for options, told in (
        (("--unit", "video"), "no column 'video'; the header is 'img_name,clip,label'"),
        (("--unit", "clip", "--unit-score", "best"), "is none of mean, median and top-K"),
        (("--unit-score", "mean"), "has no effect without --unit"),
    ):
        wrong, _ = submit(trained.model, tiny.root, listed, tmp_path, *options)
        assert wrong.exit_code and told in wrong.stderr, wrong.stderr
