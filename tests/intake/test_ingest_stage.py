"""The stage ingest: the same bytes in every environment, one line for a bad input."""

import os
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from click.testing import CliRunner
from conftest import picture, write_pictures

STAGES = Path(__file__).parents[2] / "stages"


def test_every_image_in_conflict_is_counted_and_listed(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    write_pictures(root, 8, groups=4, size=32)
    rows = [f"{i:04d}.jpg,{i % 2},train\n" for i in range(8)]
    for i in range(3):  # three exact copies across the given split, one of them under another label too
        (root / f"copy{i}.jpg").write_bytes((root / f"{i:04d}.jpg").read_bytes())
        rows.append(f"copy{i}.jpg,{i % 2 if i else 1},test\n")
    (root / "labels.csv").write_text("path,label,split\n" + "".join(rows))
    (tmp_path / "params.yaml").write_text(PARAMS.format(root=root, max_rejected=0))
    images, rejected = tmp_path / "images.csv", tmp_path / "rejected.csv"
    done = CliRunner().invoke(
        runpy.run_path(str(STAGES / "ingest.py"))["main"],
        ["--params", str(tmp_path / "params.yaml"), "--out", str(images), "--rejected", str(rejected)],
    )
    assert done.exit_code == 1 and not images.exists()
    last = done.stderr.strip().splitlines()[-1]
    assert "two labels: 0000.jpg (label 0) and copy0.jpg (label 1); 1 such images in all" in last
    assert "3 such images in all" in last and last.endswith(f"; all are in {rejected}")
    listed = pd.read_csv(rejected)
    assert list(listed.columns) == ["path", "reason"]
    splits = listed[listed["reason"].str.contains("two given splits")]
    assert list(splits["path"]) == ["0000.jpg", "0001.jpg", "0002.jpg", "copy0.jpg", "copy1.jpg", "copy2.jpg"]
    assert list(splits["reason"])[1] == (
        "the same image under two given splits: 0001.jpg (given_split train) and copy1.jpg (given_split test)"
    )
    assert list(listed["path"][listed["reason"].str.contains("two labels")]) == ["0000.jpg", "copy0.jpg"]


PARAMS = """
data: {{root: {root}, layout: csv, max_rejected: {max_rejected}}}
split: {{folds: 2, test_size: 0.3, embedding: b, phash_bits: 2}}
evaluate: {{bootstrap: 100}}
backbones: {{b: {{network: "torchvision:mobilenet_v2", weights: random, cut: features.16}}}}
recipes: {{r: {{backbone: b}}}}
ladder: {{recipe: r, backbone: b}}
"""


def run_stage(name: str, *options: object, cwd: Path, umask: int, **environment: str) -> str:
    """Run a stage script in a process of its own -> what it said."""
    command = [sys.executable, str(STAGES / f"{name}.py"), *map(str, options)]
    done = subprocess.run(
        command, cwd=cwd, umask=umask, env=os.environ | environment, capture_output=True, encoding="utf-8", check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_clock_locale_hash_seed_umask_and_folder_change_no_byte(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    write_pictures(root, 36, groups=9, size=32)
    picture(99).save(root / "ä b,c.jpg")
    with open(root / "labels.csv", "a", encoding="utf-8") as file:
        file.write('"ä b,c.jpg",1,gä\n')
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "params.yaml").write_text(PARAMS.format(root=root, max_rejected=0))
    here: dict[str, Any] = {"cwd": tmp_path, "umask": 0o022, "TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}
    there = {"cwd": tmp_path / "elsewhere", "umask": 0o077, "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "2"}
    params, written = ("--params", tmp_path / "params.yaml"), []
    for name, settings in (("here", here), ("there", there)):
        images, folds, rejected = (tmp_path / name / f"{table}.csv" for table in ("images", "folds", "rejected"))
        said = run_stage("ingest", *params, "--out", images, "--rejected", rejected, **settings)
        assert "37 images (19 fake), 0 listed twice and merged, 0 rejected, 0 on disk but not listed" in said
        run_stage("split", *params, "--images", images, "--out", folds, **settings)
        written.append([path.read_bytes() for path in (images, folds, rejected)])
        assert {path.stat().st_mode & 0o777 for path in (images, folds, rejected)} == {0o666 & ~settings["umask"]}
    assert written[0] == written[1]


def test_a_locale_without_utf_8_changes_no_byte(tmp_path: Path) -> None:
    """Python reads file names as the locale says, but the tables of ffdi are UTF-8."""
    for seed, name in enumerate(("real/ä.png", "fake/人.png", "fake/ü.txt")):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        picture(seed).save(tmp_path / "set" / name, "PNG")
    params = PARAMS.format(root=tmp_path / "set", max_rejected=0).replace("layout: csv", "layout: imagefolder")
    (tmp_path / "params.yaml").write_text(params)
    written = []
    for name, locale in (("utf", {}), ("ascii", {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"})):
        out = ("--out", f"{name}/images.csv", "--rejected", f"{name}/rejected.csv")
        said = run_stage("ingest", "--params", "params.yaml", *out, cwd=tmp_path, umask=0o022, **locale)
        assert "0 on disk but not listed; passed over: 1 without an image's suffix (1 .txt)\n" in said
        written.append([(tmp_path / name / f"{table}.csv").read_bytes() for table in ("images", "skipped")])
    assert written[0] == written[1] and "real/ä.png".encode() in written[0][0]


def test_the_stage_says_one_line_and_writes_nothing_on_a_bad_input(tmp_path: Path) -> None:
    root = tmp_path / "pictures"
    write_pictures(root, 8, groups=4, size=32)
    (root / "0003.jpg").write_bytes(b"")
    picture(50).save(root / "unlisted.png")
    (tmp_path / "params.yaml").write_text(PARAMS.format(root=root, max_rejected=0.1))
    ingest_stage = runpy.run_path(str(STAGES / "ingest.py"))["main"]
    images, rejected, skipped = (tmp_path / "o" / f"{name}.csv" for name in ("images", "rejected", "skipped"))
    options = ["--params", str(tmp_path / "params.yaml"), "--out", str(images), "--rejected", str(rejected)]
    done = CliRunner().invoke(ingest_stage, options)
    assert done.exit_code == 1 and not images.exists() and not rejected.exists()
    assert re.search(r"1 of 8 images are unreadable.*0003.jpg: empty file\n$", done.stderr)

    (tmp_path / "params.yaml").write_text(PARAMS.format(root=root, max_rejected=0.2))
    done = CliRunner().invoke(ingest_stage, options)
    assert done.exit_code == 0
    assert "7 images (3 fake), 0 listed twice and merged, 1 rejected, 1 on disk but not listed" in done.stderr
    assert rejected.read_text() == "path,reason\n0003.jpg,empty file\n"
    assert skipped.read_text() == "path,reason\nlabels.csv,table of labels\nunlisted.png,not listed in labels.csv\n"
    assert CliRunner().invoke(ingest_stage, ["--no-such-option"]).exit_code == 2
