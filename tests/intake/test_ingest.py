"""Listed rows -> images.csv and rejected.csv."""

import hashlib
import os
import random
import re
import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner
from conftest import picture, write_pictures
from PIL import Image

from ffdi.errors import InputError
from ffdi.intake.decoding.images import ImageSource, open_image, perceptual_hash
from ffdi.intake.ingest import Intake, ingest
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.settings import DataSettings
from ffdi.intake.tables import IMAGE_COLUMNS, write_table

STAGES = Path(__file__).parents[2] / "stages"


def listing(*rows: tuple[str, int], group: str = "", given_split: str = "") -> pd.DataFrame:
    return pd.DataFrame([{"path": p, "label": y, "group": group, "given_split": given_split} for p, y in rows])


def run(listed: pd.DataFrame, root: Path, **changes: Any) -> Intake:
    return ingest(listed, ImageSource(root, changes.pop("max_pixels", 10**6)), **changes)


def test_an_image_is_described_by_its_bytes(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn: what is seen is 30 wide
    picture(0).resize((40, 30)).save(tmp_path / "a.jpg", exif=exif)
    data = (tmp_path / "a.jpg").read_bytes()
    intake = run(listing(("a.jpg", 1), group="anna", given_split="test").assign(attr_age="30"), tmp_path)
    assert intake.images.to_dict("records") == [
        {
            "image_id": hashlib.sha256(data).hexdigest(),
            "path": "a.jpg",
            "label": 1,
            "group": "anna",
            "given_split": "test",
            "width": 30,
            "height": 40,
            "format": "JPEG",
            "phash": perceptual_hash(open_image(data, max_pixels=10**6)),
            "attr_age": "30",
        }
    ]
    assert (len(intake.rejected), intake.duplicates) == (0, 0)


def test_what_is_no_image_is_rejected_and_listed(tmp_path: Path) -> None:
    picture(0).save(tmp_path / "good.jpg")
    whole = (tmp_path / "good.jpg").read_bytes()
    (tmp_path / "truncated.jpg").write_bytes(whole[:-200])
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "text.jpg").write_text("text")
    (tmp_path / "folder.jpg").mkdir()
    picture(0, 128).save(tmp_path / "large.png")
    due = {
        "empty.jpg": "empty file",
        "folder.jpg": "Is a directory",
        "large.png": "128x128 is more than data.max_pixels = 5000",
        "missing.jpg": "No such file",
        "text.jpg": "not an image",
        "truncated.jpg": "damaged: image file is truncated",
    }
    listed = listing(*((name, 0) for name in ("good.jpg", *reversed(due))))
    intake = run(listed, tmp_path, max_pixels=5000, max_rejected=6 / 7)
    assert list(intake.images["path"]) == ["good.jpg"]
    assert list(intake.rejected["path"]) == sorted(due)
    for reason, start in zip(intake.rejected["reason"], due.values(), strict=True):
        assert start in reason


def test_too_many_rejected_fail(tmp_path: Path) -> None:
    for i in range(9):
        picture(i).save(tmp_path / f"{i}.jpg")
    listed = listing(*((f"{i}.jpg", 0) for i in range(10)))  # 9.jpg is missing: 1 of 10
    assert len(run(listed, tmp_path, max_rejected=0.1).images) == 9
    with pytest.raises(InputError, match=r"1 of 10 images .* data.max_rejected = 0.09; the first is 9.jpg: .*No such"):
        run(listed, tmp_path, max_rejected=0.09)


@pytest.mark.parametrize(("good_at", "fails"), [(100, True), (99, False)])
def test_a_hundred_unreadable_in_a_row_are_the_disk_s_fault(tmp_path: Path, good_at: int, fails: bool) -> None:
    listed = listing(*((f"{i:03d}.jpg", 0) for i in range(150)))
    for path in listed["path"]:
        (tmp_path / path).touch()
    picture(0).save(tmp_path / f"{good_at:03d}.jpg")
    if fails:
        with pytest.raises(InputError, match=r"100 unreadable images in a row, the last .*099\.jpg: .*check the disk"):
            run(listed, tmp_path, max_rejected=1.0)
    else:
        assert len(run(listed, tmp_path, max_rejected=1.0).rejected) == 149


def test_a_hundred_missing_in_a_row_are_the_fault_of_their_names(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    for i in range(150):
        (tmp_path / f"real/{i:03d}.jpg").touch()
    (tmp_path / "labels.csv").write_text("path,label\n" + "".join(f"{i:03d}.jpg,0\n" for i in range(150)))
    found = read_layout(tmp_path, DataSettings(".", "csv"))
    says = (
        r"the last .*/099\.jpg: .*No such file.*; the closest name is 'real/099\.jpg': the listed names are not those"
    )
    with pytest.raises(InputError, match=f"100 unreadable images in a row, {says} of the files$"):
        run(found.rows, tmp_path, max_rejected=1.0, closest=found.names.closest)


def test_a_mask_is_no_example(tmp_path: Path) -> None:
    halves = np.zeros((32, 32), np.uint8)
    halves[:, 16:] = 255
    coloured = np.stack([halves, halves, 255 - halves], axis=2)  # two colours, but no greys
    for name, pixels in {"mask": halves, "black": halves * 0, "two": coloured}.items():
        Image.fromarray(pixels).save(tmp_path / f"{name}.png")
    Image.fromarray(halves // 2).save(tmp_path / "grey.bmp")
    picture(0).convert("L").save(tmp_path / "photo.png")
    listed = listing(*((path.name, 1) for path in sorted(tmp_path.iterdir())))
    intake = run(listed, tmp_path, max_rejected=0.5)
    assert dict(intake.rejected.values) == dict.fromkeys(
        ("grey.bmp", "mask.png"), "nothing but two grey levels: a mask"
    )
    assert sorted(intake.images["path"]) == ["black.png", "photo.png", "two.png"]


def test_the_same_bytes_twice_are_merged_and_their_groups_joined(tmp_path: Path) -> None:
    for name in ("b.jpg", "a.jpg"):
        picture(0).save(tmp_path / name)
    picture(1).save(tmp_path / "c.jpg")
    listed = listing(("b.jpg", 1), ("a.jpg", 1), ("c.jpg", 0), ("c.jpg", 0))
    listed["group"] = ["zoe", "anna", "zoe", "zoe"]
    intake = run(listed, tmp_path)
    assert intake.duplicates == 2
    # b.jpg ties anna to zoe, so c.jpg, zoe's other picture, is of the same group.
    assert sorted(zip(intake.images["path"], intake.images["group"], strict=True)) == [
        ("a.jpg", "anna"),
        ("c.jpg", "anna"),
    ]


@pytest.mark.parametrize(
    ("column", "values", "says"),
    [
        ("label", [0, 1], r"under two labels: a.jpg \(label 0\) and b.jpg \(label 1\); 1 such"),
        ("given_split", ["train", "test"], r"two given splits: a.jpg \(given_split train\) and b.jpg \(.* test\)"),
    ],
)
def test_the_same_bytes_in_conflict_are_an_error(tmp_path: Path, column: str, values: list[Any], says: str) -> None:
    for name in ("a.jpg", "b.jpg"):
        picture(0).save(tmp_path / name)
    listed = listing(("a.jpg", 0), ("b.jpg", 0))
    listed[column] = values
    with pytest.raises(InputError, match=says):
        run(listed, tmp_path)


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


def test_a_forgery_that_is_listed_twice_is_of_all_its_people_and_makes_none_one(tmp_path: Path) -> None:
    for name, seed in (("a.jpg", 0), ("b.jpg", 0), ("c.jpg", 1), ("d.jpg", 2)):
        picture(seed).save(tmp_path / name)
    listed = listing(("a.jpg", 1), ("b.jpg", 1), ("c.jpg", 0), ("d.jpg", 0))
    intake = run(listed.assign(group=["000|003", "000|005", "003", "005"]), tmp_path)
    assert dict(zip(intake.images["path"], intake.images["group"], strict=True)) == {
        "a.jpg": "000|003|005",
        "c.jpg": "003",
        "d.jpg": "005",
    }


def test_bytes_do_not_depend_on_workers_or_order(tmp_path: Path) -> None:
    write_pictures(tmp_path / "p", 24, groups=6, size=32)
    listed = read_layout(tmp_path / "p", DataSettings(".", "csv")).rows
    listed = pd.concat([listed, listed.head(3), listing(("none.jpg", 1), ("gone.jpg", 1))], ignore_index=True)
    seen = set()
    for workers in (1, 2, 5):
        order = random.Random(workers).sample(range(len(listed)), len(listed))
        intake = run(listed.iloc[order].reset_index(drop=True), tmp_path / "p", workers=workers, max_rejected=0.5)
        write_table(tmp_path / "images.csv", intake.images)
        write_table(tmp_path / "rejected.csv", intake.rejected)
        seen.add((tmp_path / "images.csv").read_bytes() + (tmp_path / "rejected.csv").read_bytes())
        assert intake.duplicates == 3
    assert len(seen) == 1
    assert intake.images["image_id"].is_monotonic_increasing
    assert list(intake.images.columns) == list(IMAGE_COLUMNS)


def test_all_rejected_makes_an_empty_table_not_a_traceback(tmp_path: Path) -> None:
    intake = run(listing(("a.jpg", 0)), tmp_path, max_rejected=1.0)
    assert len(intake.images) == 0 and list(intake.images.columns) == list(IMAGE_COLUMNS)


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


def test_pictures_of_the_fixture_are_not_alike() -> None:
    assert len({perceptual_hash(picture(i)) for i in range(20)}) == 20
    assert np.asarray(picture(0)).std() > 20
