"""Several sets that are read as one: whose image is whose, what they share, and where DVC looks for them."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import picture, write_pictures
from PIL import Image
from s3_server import S3Server
from set_cases import csv_set, read_all, two

from ffdi.bootstrap import Bootstrap
from ffdi.byte_cache import byte_cache
from ffdi.doctor.data_root import root_diagnoses
from ffdi.errors import FfdiError, InputError
from ffdi.intake.auditing.audit import audit_images
from ffdi.intake.decoding.images import ImageSource, read_image
from ffdi.intake.decoding.read_ahead import ReadAhead
from ffdi.intake.ingest import IntakeFiles, ingest_data_set
from ffdi.intake.listing.manifest import is_manifest
from ffdi.intake.listing.placing import place_root
from ffdi.intake.merging import ConflictError
from ffdi.intake.near_duplicates.hashes import perceptual_pairs
from ffdi.intake.settings import AuditSettings, DataSettings, SetSettings, SplitSettings
from ffdi.intake.splitting.folds import assign_folds
from ffdi.intake.splitting.split import split_images
from ffdi.intake.tables import CROP_COLUMNS
from ffdi.params.paths import image_source, unpacked_root


@pytest.mark.s3
def test_three_sets_of_three_kinds_from_ingest_to_audit(tmp_path: Path, s3: S3Server) -> None:
    wild = tmp_path / "wild"
    for i in range(12):
        file = wild / ("fake" if i % 2 else "real") / f"g{i // 2}_{i}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        picture(100 + i, 64, bool(i % 2)).save(file)
    folder = csv_set(tmp_path / "faces", 200, 12, method="swap")
    away = csv_set(tmp_path / "away", 300, 12, source="web")
    shutil.copy(folder / "02.jpg", away / "02.jpg")  # the same bytes in two sets
    Image.open(wild / "real/g2_4.png").save(away / "04.jpg", quality=70)  # the same picture, encoded again
    archive = shutil.make_archive(str(tmp_path / "wild"), "zip", wild)
    data = DataSettings(
        (
            SetSettings(root=archive, layout="imagefolder", group=r"(?P<group>g\d+)_"),
            SetSettings(root=str(folder)),
            SetSettings(root=s3.put_folder(away, "lake/away"), name="url"),
        )
    )
    assert data.name == "wild+faces+url"
    said = place_root(data, tmp_path / "root", Path)
    assert (tmp_path / "root/wild").is_symlink() and is_manifest(tmp_path / "root/url") and len(said) == 1
    found = read_all(data, tmp_path / "out", manifest=tmp_path / "root")
    images = found.intake.images
    assert found.summary().startswith("35 images (18 fake), 1 listed twice and merged, 0 rejected")
    assert images["path"].str.startswith(("wild/", "faces/", "url/")).all()
    assert dict(images["attr_dataset"].value_counts()) == {"wild": 12, "faces": 12, "url": 11}
    assert set(images["attr_dataset"] + ":" + images["attr_method"] + images["attr_source"]) == {
        *("wild:", "faces:swap", "url:web")
    }
    groups = images.set_index("path")["group"]
    assert groups["wild/real/g2_4.png"] == "wild:g2" and groups["faces/04.jpg"] == "faces:g2"
    assert groups["faces/02.jpg"] == groups["url/03.jpg"] == "faces:g1"  # of the same bytes: their people are one
    assert any("fake is" in line and "labels.csv in faces" in line for line in found.class_lines())

    source = image_source(data)
    split = split_images(images, source, SplitSettings(folds=2, test_size=0.3, phash_bits=6), no_features)
    cluster = split.folds.set_index("image_id")["cluster"][images.set_index("path")["image_id"]]
    cluster.index = images["path"]
    assert cluster["wild/real/g2_4.png"] == cluster["url/04.jpg"] != cluster["faces/04.jpg"]
    audit = audit_images(images, split.folds, source, AuditSettings(phash_bits=6), Bootstrap(100, 0), no_features)
    assert audit.summary["leaks"] == 0
    parted = split.folds.copy()
    one, other = (images.set_index("path")["image_id"][path] for path in ("wild/real/g2_4.png", "url/04.jpg"))
    parted["role"] = parted["role"].mask(parted["image_id"] == one, "test").mask(parted["image_id"] == other, "train")
    parted["fold"] = parted["fold"].mask(parted["role"] == "test", -1).mask(parted["image_id"] == other, 0)
    found_leaks = audit_images(images, parted, source, AuditSettings(phash_bits=6), Bootstrap(100, 0), no_features)
    assert "perceptual_duplicate_across_border" in set(found_leaks.table()["check"])

    held = SplitSettings("leave_one_out", by="dataset", min_fakes=2, test_size=0.2)
    folds = assign_folds(images, perceptual_pairs(list(images["phash"]), 6), held)
    assert set(folds["held_out"]) == {"", "wild", "faces", "url"}


def no_features(images: pd.DataFrame) -> Any:
    raise AssertionError("no embedding is asked for")


def test_every_reader_reads_every_set(tmp_path: Path) -> None:
    data = two(csv_set(tmp_path / "a", 0, 4), csv_set(tmp_path / "b", 10, 4))
    images = read_all(data, tmp_path / "out").intake.images
    source = image_source(data)
    assert not source.is_remote and source.exists("b/00.jpg") and not source.exists("a/none.jpg")
    assert source.place("b/00.jpg") == str(tmp_path / "b/00.jpg")
    for path, image_id in source.files_of(images):
        data_read, image = read_image(source, path, image_id)
        assert data_read == (tmp_path / path).read_bytes() and image.size == (64, 64)
    with pytest.raises(
        InputError, match=r"^c/00.jpg: begins with the name of no set of data.root \(a, b\): run ingest"
    ):
        source.read("c/00.jpg")
    (tmp_path / "a/00.jpg").write_bytes((tmp_path / "a/01.jpg").read_bytes())
    changed = images.set_index("path")["image_id"]["a/00.jpg"]
    with pytest.raises(InputError, match=rf"^{tmp_path}/a/00.jpg: changed since it was ingested"):
        read_image(source, "a/00.jpg", changed)
    with pytest.raises(InputError, match=r"a\+b: are several sets: name a folder of this machine"):
        unpacked_root(data)


def test_a_root_that_is_given_holds_the_sets_by_their_names(tmp_path: Path) -> None:
    csv_set(tmp_path / "copy/a", 0, 4)
    csv_set(tmp_path / "copy/b", 10, 4)
    data = two(tmp_path / "gone/a", tmp_path / "gone/b")
    source = image_source(data, tmp_path / "copy")
    files = IntakeFiles(*(tmp_path / f"{name}.csv" for name in ("images", "rejected", "skipped")))
    images = ingest_data_set(source, data, files).intake.images
    assert len(images) == 8 and source.read("b/00.jpg") == (tmp_path / "copy/b/00.jpg").read_bytes()
    whole = ImageSource(tmp_path / "copy")  # as commands without params have it
    assert all(whole.read(path, image_id) for path, image_id in zip(images["path"], images["image_id"], strict=True))


@pytest.mark.s3
def test_a_set_at_a_url_is_fetched_once_and_ahead_of_those_who_read(tmp_path: Path, s3: S3Server) -> None:
    here, away = csv_set(tmp_path / "here", 500, 4), csv_set(tmp_path / "away", 600, 4)
    data = two(here, Path("x"))
    data = DataSettings((data.sets[0], SetSettings(root=s3.put_folder(away, "away"))))
    images = read_all(data, tmp_path / "out").intake.images
    asked = s3.asked("GET", "00.jpg")
    source = image_source(data)
    assert source.is_remote
    ahead = ReadAhead(source, readers=4)
    files = source.files_of(images)
    for path, image_id in ahead.over(files, lambda file: [file]):
        assert ahead.read(path, image_id) == (tmp_path / path).read_bytes()
    assert s3.asked("GET", "00.jpg") == asked  # ingest has kept it, and nothing that is here anyway
    kept = {path for path, image_id in files if (byte_cache().folder / image_id[:2] / image_id).exists()}
    assert kept == {f"away/0{i}.jpg" for i in range(4)}
    assert [found.state for found in root_diagnoses(data, "project")] == ["ok", "ok"]
    assert [found.name for found in root_diagnoses(data, "project")] == ["data.root here", "data.root away"]
    place_root(data, tmp_path / "root", Path)
    s3.put("away/labels.csv", b"path,label\n00.jpg,0\n")
    with pytest.raises(InputError, match=r"^away: s3://.*labels.csv: has changed since it was listed"):
        read_all(data, tmp_path / "out", manifest=tmp_path / "root")


def test_labels_that_two_sets_contradict_are_told(tmp_path: Path) -> None:
    a, b = csv_set(tmp_path / "a", 0, 4), csv_set(tmp_path / "b", 10, 4)
    shutil.copy(a / "00.jpg", b / "01.jpg")  # real there, fake here
    with pytest.raises(ConflictError, match=r"under two labels: a/00.jpg \(label 0\) and b/01.jpg \(label 1\)"):
        read_all(two(a, b), tmp_path / "out")


def test_an_error_names_its_set_and_what_is_passed_over_is_counted(tmp_path: Path) -> None:
    a, b = csv_set(tmp_path / "a", 0, 4), csv_set(tmp_path / "b", 10, 4, dataset="inner")
    (b / "more.zip").write_bytes(b"PK")
    (b / "bad.jpg").write_bytes(b"")
    with open(b / "labels.csv", "a") as table:
        table.write("bad.jpg,1,g9,inner\nO1.jpg,1,g9,inner\n")
    found = read_all(two(a, b), tmp_path / "out")
    assert "1 archive to be unpacked (b/more.zip)" in found.summary()
    assert ("b/labels.csv", "table of labels") in found.listing.skipped
    rejected = dict(found.intake.rejected.to_numpy())
    assert rejected["b/bad.jpg"] == "empty file" and "the closest name is 'b/01.jpg'" in rejected["b/O1.jpg"]
    own = found.intake.images.set_index("path")["attr_own_dataset"]
    assert own["b/00.jpg"] == "inner" and own["a/00.jpg"] == ""
    assert "b: its own attribute dataset is called own_dataset" in found.listing.messages
    (b / "labels.csv").write_text("name,label\nx.jpg,0\n")
    with pytest.raises(FfdiError, match=rf"^b: {b}/labels.csv: no column 'path'"):
        read_all(two(a, b), tmp_path / "out")


def test_each_set_has_its_own_keys(tmp_path: Path) -> None:
    a, b = csv_set(tmp_path / "a", 0, 6), csv_set(tmp_path / "b", 10, 6)
    (b / "labels.csv").rename(b / "turned.csv")
    text = (b / "turned.csv").read_text()
    (b / "turned.csv").write_text(re.sub(r",([01]),", lambda m: f",{1 - int(m[1])},", text))
    data = DataSettings(
        (
            SetSettings(root=str(a), limit=2),
            SetSettings(root=str(b), table="turned.csv", classes={"0": 1, "1": 0}, name="turned"),
        )
    )
    images = read_all(data, tmp_path / "out").intake.images
    assert list(images.sort_values("path")["path"]) == ["a/00.jpg", "a/01.jpg", *(f"turned/0{i}.jpg" for i in range(6))]
    assert (images["label"] == images["path"].str[-5].astype(int) % 2).all()


def test_a_set_without_a_split_beside_one_with_a_test_set_is_told(tmp_path: Path) -> None:
    a, b = csv_set(tmp_path / "a", 0, 4, split="test"), csv_set(tmp_path / "b", 10, 4)
    says = "a comes with a test set, b with no split: no image of b will be tested, unless split.use_given is false"
    assert says in read_all(two(a, b), tmp_path / "out").listing.messages
    (b / "labels.csv").write_text("path,label,split\n00.jpg,0,train\n01.jpg,1,train\n")
    assert not any("with no split" in line for line in read_all(two(a, b), tmp_path / "out").listing.messages)


def test_a_video_of_one_name_is_another_one_in_another_set(tmp_path: Path) -> None:
    a, b = csv_set(tmp_path / "a", 0, 2, video="000.mp4", source="web"), csv_set(tmp_path / "b", 10, 2, video="000.mp4")
    images = read_all(two(a, b), tmp_path / "out").intake.images
    assert set(images["attr_video"]) == {"a/000.mp4", "b/000.mp4"} and set(images["attr_source"]) == {"web", ""}


def test_groups_carry_the_name_of_their_set(tmp_path: Path) -> None:
    a, b = csv_set(tmp_path / "a", 0, 4), csv_set(tmp_path / "b", 10, 2)
    (a / "labels.csv").write_text("path,label,group\n00.jpg,0,g1\n01.jpg,1,g2|g1\n02.jpg,0,\n")
    (b / "labels.csv").write_text("path,label\n00.jpg,0\n01.jpg,1\n")
    images = read_all(two(a, b), tmp_path / "out").intake.images.set_index("path")["group"]
    assert dict(images) == {"a/00.jpg": "a:g1", "a/01.jpg": "a:g1|a:g2", "a/02.jpg": "", "b/00.jpg": "", "b/01.jpg": ""}


def test_the_tiny_set_is_the_same_alone_and_in_a_list(tmp_path: Path) -> None:
    write_pictures(tmp_path / "set", 6, groups=3, size=32)
    alone = read_all(DataSettings(str(tmp_path / "set")), tmp_path / "alone").intake.images
    listed = read_all(DataSettings((SetSettings(root=str(tmp_path / "set")),)), tmp_path / "listed").intake.images
    assert (listed["path"] == "set/" + alone["path"]).all() and (listed["group"] == "set:" + alone["group"]).all()
    rest = [column for column in alone.columns if column not in ("path", "group")]
    assert listed[rest].equals(alone[rest])


def test_videos_of_one_name_in_two_sets_of_crops_stay_two(tmp_path: Path) -> None:
    crops = dict(zip(CROP_COLUMNS, ("real/1.mp4", "real/1.mp4", "0", "0.000", "0", "1 2 3 4", "0.9"), strict=True))
    for number, name in enumerate("ab"):
        csv_set(tmp_path / name, 10 * number, 4, **(crops | {"video": ""} if name == "b" else crops))
    images = read_all(two(tmp_path / "a", tmp_path / "b"), tmp_path).intake.images
    assert set(images["attr_source"]) == {"a/real/1.mp4", "b/real/1.mp4"}
    assert set(images["attr_video"]) == {"a/real/1.mp4", ""}
