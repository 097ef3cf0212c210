"""The command `ffdi predict`."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch
from click.testing import CliRunner, Result
from conftest import Tiny, Trained, picture

from ffdi.commands.main import main
from ffdi.errors import printable
from ffdi.features.store import FeatureStore
from ffdi.tails.batches import load_table
from ffdi.tails.bundle import load_bundle

pytestmark = pytest.mark.usefixtures("restore_threads")


def test_predict_equals_the_scores_from_shards(trained: Trained, tiny: Tiny) -> None:
    bundle, store = load_bundle(trained.model), FeatureStore(trained.features)
    rows = tiny.rows.head(5)
    table = load_table(store, list(rows["image_id"]), list(rows["label"]), views=0, memory_gb=1)
    expected = bundle.scores(table, torch.device("cpu"))
    files = [str(tiny.root / path) for path in rows["path"]]
    result = CliRunner().invoke(main, ["predict", "--model", str(trained.model), *files])
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "path,score,verdict,spread,unlike,reason"
    assert [float(line.split(",")[1]) for line in lines[1:]] == pytest.approx(expected, abs=1e-5)


def test_predict_reports_what_it_cannot_read(trained: Trained, tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_text("no image")
    good = str(tiny.root / tiny.rows["path"].iloc[0])
    result = CliRunner().invoke(main, ["predict", "--model", str(trained.model), str(tmp_path), good])
    assert result.exit_code == 1
    reason = "not an image format that Pillow knows"
    assert result.stdout.splitlines()[1] == f"{tmp_path}/a.jpg,,{reason},,,{reason}"  # in verdict too, as ever
    assert result.stdout.splitlines()[2].split(",")[2] in ("real", "fake")


def test_predict_of_a_folder_says_what_it_passed_over(trained: Trained, tmp_path: Path) -> None:
    for folder in ("some/in", "none/empty", "bad"):
        (tmp_path / folder).mkdir(parents=True)
    picture(0).save(tmp_path / "some/in/a.jfif", "JPEG")
    for name in ("some/notes.txt", "some/.hidden.jpg", "none/a.jpg_large", "bad/a.jpg"):
        (tmp_path / name).write_text("text")

    def predict(*names: str) -> Result:
        paths = [str(tmp_path / name) for name in names]
        return CliRunner().invoke(main, ["predict", "--model", str(trained.model), *paths])

    done = predict("some")
    assert done.exit_code == 0 and [row.split(",")[0] for row in done.stdout.splitlines()[1:]] == [
        f"{tmp_path}/some/in/a.jfif"
    ]
    over = f"predict: {tmp_path}/some: passed over: 1 hidden, 1 without an image's suffix (1 .txt)"
    assert done.stderr.splitlines()[0] == over
    done = predict("none")
    none = f"{tmp_path}/none: no image in it; passed over: 1 empty folder, 1 without an image's suffix (1 .jpg_large)"
    assert done.exit_code == 1 and done.stdout == "" and done.stderr == f"predict: {none}\n"
    done = predict("some", "none", "bad")
    assert done.exit_code == 1 and len(done.stdout.splitlines()) == 3
    assert done.stderr.splitlines()[-1] == f"predict: 1 of 2 images cannot be read; {none}"


@pytest.mark.parametrize(
    "encoding",
    [
        "ascii:strict",
        None,
        *(pytest.param(e, marks=pytest.mark.long) for e in ("utf-8:strict", "utf-8:surrogateescape")),
    ],
)
def test_predict_writes_any_name(encoding: str | None, trained: Trained, tmp_path: Path) -> None:
    names = [b"a.jpg", b"caf\xe9.jpg", "ä.jpg".encode(), b"c\rd.jpg", b'e\n"f.jpg', b"g\x1b[31m.jpg", b"z.jpg"]
    for seed, name in enumerate(names):
        picture(seed).save(tmp_path / "x.png")
        (tmp_path / "x.png").rename(os.fsdecode(os.fsencode(tmp_path / "y") + name))
    environment = os.environ | ({"PYTHONIOENCODING": encoding} if encoding else {})
    if encoding is None:  # no UTF-8 anywhere
        environment |= {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    command = [
        sys.executable,
        "-c",
        "from ffdi.commands.main import main; main()",
        "predict",
        "--model",
        str(trained.model),
    ]
    done = subprocess.run([*command, str(tmp_path)], env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    rows = list(csv.reader(io.StringIO(done.stdout.decode(errors="surrogateescape"), newline=""), strict=True))[1:]
    utf_8, cannot = os.fsdecode(b"ycaf\xe9.jpg"), encoding == "ascii:strict"
    strict = encoding and encoding.endswith("strict")
    due = ["ya.jpg", "yc\rd.jpg", r"ycaf\udce9.jpg" if strict else utf_8, 'ye\n"f.jpg', "yg\x1b[31m.jpg", "yz.jpg"]
    assert [Path(name).name for name, *_ in rows] == [*due, r"y\xe4.jpg" if cannot else "yä.jpg"]


def test_a_name_cannot_act_on_the_terminal(tmp_path: Path) -> None:
    assert printable("a\x1b[31m\rb\u202e\udce9 ä\u3000人\n") == "a\\x1b[31m\\rb\\u202e\\udce9 ä\u3000人\\n"
    (tmp_path / "x\x1b[31m\n.txt").touch()
    done = CliRunner().invoke(main, ["predict", "--model", "none", str(tmp_path)])
    assert done.stderr.splitlines() == [
        f"predict: {tmp_path}: no image in it; passed over: 1 without an image's suffix (1 .txt)"
    ]
    done = CliRunner().invoke(main, ["predict", "--model", "no\x1b[31m\nne", str(tmp_path), "a.jpg"])
    assert len(done.stderr.splitlines()) == 1 and "no\\x1b[31m\\nne" in done.stderr


def test_several_models_stand_side_by_side(trained: Trained, tiny: Tiny, tmp_path: Path) -> None:
    """Two folders of one name are told apart; --out appears whole, in the format of its suffix."""
    for place in ("one", "two"):
        shutil.copytree(trained.model, tmp_path / place / "model")
    models = [option for place in ("one", "two") for option in ("--model", str(tmp_path / place / "model"))]
    image, out = str(tiny.root / tiny.rows["path"].iloc[0]), tmp_path / "out.jsonl"
    done = CliRunner().invoke(main, ["predict", *models, image, "none.jpg", "--out", str(out)])
    assert done.exit_code == 1 and done.stdout == ""
    first, second = map(json.loads, out.read_text().splitlines())
    assert first["path"] == image and first["score_one/model"] == first["score_two/model"] > 0
    assert second["verdict_one/model"] is None and second["reason"].startswith("cannot be read")
    assert done.stderr.splitlines()[-2].startswith("predict: two/model: 2 images: ")
    again = CliRunner().invoke(main, ["predict", *models, image, "none.jpg", "--out", str(tmp_path / "out.parquet")])
    found = pq.read_table(tmp_path / "out.parquet").to_pylist()
    assert again.exit_code == 1 and found == [first, second]
    done = CliRunner().invoke(main, ["predict", *models[:2], *models[:2], image])
    assert done.exit_code == 2 and "one model is named twice" in done.stderr


def test_a_reader_gets_a_table_and_a_list_comes_from_stdin(trained: Trained, tiny: Tiny) -> None:
    images = [str(tiny.root / path) for path in tiny.rows["path"].head(2)]
    options = ["predict", "--model", str(trained.model), "-", "--format", "table"]
    done = CliRunner().invoke(main, options, input="\n".join(images))
    head, *rows = done.stdout.splitlines()
    assert done.exit_code == 0 and head.split() == ["path", "score", "verdict", "spread"] and len(rows) == 2
    assert done.stderr.splitlines()[-1].startswith("predict: 2 images: ")
    done = CliRunner().invoke(main, options, input="")
    assert done.exit_code == 1 and done.stderr == "predict: no image is named\n"
