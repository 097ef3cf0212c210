"""Listed rows -> images.csv and rejected.csv."""

import hashlib
import random
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import picture, write_pictures
from ingest_cases import listing, run
from PIL import Image

from ffdi.errors import InputError
from ffdi.intake.decoding.images import open_image, perceptual_hash
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.settings import DataSettings
from ffdi.intake.tables import IMAGE_COLUMNS, write_table


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
    with pytest.raises(
        InputError, match=r"1 of 10 images .* data.max_rejected = 0.09: .*; the first is 9.jpg: .*No such"
    ):
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
        run(found.rows, tmp_path, max_rejected=1.0, closest=found.closest)


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


def test_a_forgery_listed_twice_has_all_its_people_and_joins_none(tmp_path: Path) -> None:
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


def test_pictures_of_the_fixture_are_not_alike() -> None:
    assert len({perceptual_hash(picture(i)) for i in range(20)}) == 20
    assert np.asarray(picture(0)).std() > 20
