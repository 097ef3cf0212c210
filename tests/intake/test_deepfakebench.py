"""Layout deepfakebench: rows worked by hand, of lists as DeepfakeBench and DF40 write them."""

import json
from pathlib import Path
from typing import Any

import pytest
from layout_cases import raw, records, touch

from ffdi.errors import InputError
from ffdi.intake.listing.deepfakebench import DEEPFAKEBENCH
from ffdi.intake.listing.importer import RootFiles
from ffdi.intake.settings import DataSettings

FF = "FaceForensics++"


def listed(root: Path, name: str, content: object) -> None:
    (root / name).parent.mkdir(parents=True, exist_ok=True)
    (root / name).write_text(json.dumps(content))


def video(label: str, *frames: str) -> dict[str, object]:
    return {"label": label, "frames": list(frames)}


def row(path: str, label: int, group: str, split: str, method: str, compression: str = "") -> dict[str, Any]:
    attributes = {"attr_method": method, "attr_compression": compression, "attr_video": path.rpartition("/")[0]}
    return {"path": path, "label": label, "group": group, "given_split": split} | attributes


def test_faceforensics_with_windows_paths_and_a_subset_of_it(tmp_path: Path) -> None:
    real = f"{FF}/original_sequences/youtube/c23/frames/003/000.png"
    fakes = [f"{FF}/manipulated_sequences/{m}/c23/frames/000_003/007.png" for m in ("Deepfakes", "FaceSwap")]
    alone = f"{FF}/manipulated_sequences/Deepfakes/c23/frames/005_006/000.png"
    windows = [path.replace("/", "\\") for path in (real, *fakes, alone)]
    touch(tmp_path, real, *fakes, alone, f"{FF}/manipulated_sequences/Deepfakes/c23/masks/000_003/007.png")
    fake = {"train": {"c23": {"000_003": video("FF-DF", windows[1])}}, "val": {}, "test": {}}
    swap = {"train": {"c23": {"000_003": video("FF-FS", windows[2])}}, "test": {"c40": {}}}
    other = {"val": {"c23": {"005_006": video("FF-DF", windows[3])}}}
    reals = {"test": {"c23": {"003": video("FF-real", windows[0])}}}
    listed(
        tmp_path,
        "preprocessing/dataset_json/FaceForensics++.json",
        {FF: {"FF-real": reals, "FF-DF": fake, "FF-FS": swap}},
    )
    listed(tmp_path, "preprocessing/dataset_json/FF-DF.json", {"FF-DF": {"FF-real": reals, "FF-DF": fake | other}})
    listing = raw(tmp_path, "deepfakebench")
    assert records(listing.rows) == [
        row(real, 0, "003", "test", "", "c23"),
        row(fakes[0], 1, "000|003", "train", "Deepfakes", "c23"),
        row(alone, 1, "005|006", "train", "Deepfakes", "c23"),  # val, and there is a test set
        row(fakes[1], 1, "000|003", "train", "FaceSwap", "c23"),  # its folder is called as that of the other method
    ]
    assert len(set(listing.rows["attr_video"])) == 4
    assert listing.messages == [
        "1 people are in train and in test, such as 003: with split.use_given: false a test set of other people is drawn",
        "1 file is not of layout deepfakebench and passed over: "
        "FaceForensics++/manipulated_sequences/Deepfakes/c23/masks/000_003/007.png",
    ]
    assert (
        raw(tmp_path, "auto")
        .messages[0]
        .startswith("layout deepfakebench: frames listed in preprocessing/dataset_json/FF")
    )


def test_celeb_df_lists_its_test_videos_under_train_too(tmp_path: Path) -> None:
    paths = [
        f"Celeb-DF-v2/Celeb-{kind}/frames/{name}/0.png"
        for kind, name in (("real", "id0_0000"), ("real", "id1_0000"), ("synthesis", "id2_id3_0001"))
    ]
    touch(tmp_path, *paths, "Celeb-DF-v2/YouTube-real/frames/00170/0.png")
    absolute = [f"/data/their/home/{path}" for path in (*paths, "Celeb-DF-v2/YouTube-real/frames/00170/0.png")]
    first, second, fake, other = absolute
    test = {"id1_0000": video("CelebDFv2_real", second)}
    content = {
        "CelebDFv2_real": {
            "train": {"id0_0000": video("CelebDFv2_real", first), "00170": video("CelebDFv2_real", other)} | test,
            "val": test,
            "test": test,
        },
        "CelebDFv2_fake": {"train": {"id2_id3_0001": video("CelebDFv2_fake", fake)}, "val": {}, "test": {}},
    }
    listed(tmp_path, "Celeb-DF-v2.json", {"Celeb-DF-v2": content})
    listing = raw(tmp_path, "deepfakebench")
    youtube = "Celeb-DF-v2/YouTube-real/frames/00170/0.png"
    assert records(listing.rows) == [
        row(paths[0], 0, "id0", "train", ""),
        row(youtube, 0, "Celeb-DF-v2/YouTube-real/frames/00170", "train", ""),
        row(paths[1], 0, "id1", "test", ""),
        row(paths[2], 1, "id2|id3", "train", "CelebDFv2"),
    ]
    assert listing.messages == [
        "1 frames are listed for train and test: 1 are taken for test, the others have no given split"
    ]


def test_videos_that_every_split_lists_have_no_split(tmp_path: Path) -> None:
    paths = "FaceForensics++/a/frames/01__exit/0.png", "FaceForensics++/b/frames/01_02__exit__YVGY8LOK/0.png"
    touch(tmp_path, *paths)
    content = {
        label: {split: {"c23": {"x": video(label, f"./{path}")}} for split in ("train", "val", "test")}
        for label, path in zip(("DFD_real", "DFD_fake"), paths)
    }
    listed(tmp_path, "dataset_json/DeepFakeDetection.json", {"DeepFakeDetection": content})
    assert records(raw(tmp_path, "deepfakebench").rows) == [
        row(paths[0], 0, "01", "", "", "c23"),
        row(paths[1], 1, "01|02", "", "DFD", "c23"),
    ]


@pytest.mark.parametrize(
    ("value", "label"),
    [
        *(("FF-real", 0), ("DFD_real", 0), ("CelebDFv1_real", 0), ("DFDCP_Real", 0), ("DFDC_Real", 0), ("DF_real", 0)),
        *(("UADFV_Real", 0), ("roop_Real", 0), ("real", 0), ("faceswap_Real", 0), ("whichisreal_Real", 0)),
        *(("FF-DF", 1), ("FF-F2F", 1), ("FF-FS", 1), ("FF-NT", 1), ("FF-FH", 1), ("FF-SH", 1), ("DFD_fake", 1)),
        *(("CelebDFv2_fake", 1), ("DFDCP_FakeA", 1), ("DFDCP_FakeB", 1), ("DFDC_Fake", 1), ("DF_fake", 1), ("fake", 1)),
        *(("faceswap_Fake", 1), ("whichisreal_Fake", 1), ("sd2.1_Fake", 1), ("simswap", 1), ("StyleGAN3", 1)),
    ],
)
def test_every_label_of_its_configuration(tmp_path: Path, value: str, label: int) -> None:
    touch(tmp_path, "x/v/0.png")
    listed(tmp_path, "dataset_json/x.json", {"x": {value: {"test": {"v": video(value, "x/v/0.png")}}}})
    assert list(raw(tmp_path, "deepfakebench").rows["label"]) == [label]


def test_a_label_without_a_meaning_is_an_error_until_it_is_given(tmp_path: Path) -> None:
    touch(tmp_path, "x/v/0.png")
    listed(tmp_path, "dataset_json/x.json", {"x": {"ours": {"test": {"v": video("ours", "x/v/0.png")}}}})
    with pytest.raises(
        InputError, match=r"x\.json: label 'ours' is neither real nor fake: add `classes: \{ours: 0 or 1\}`"
    ):
        raw(tmp_path, "deepfakebench")
    assert list(raw(tmp_path, "deepfakebench", classes={"ours": 1}).rows["label"]) == [1]


def test_what_cannot_be_certain_is_one_line(tmp_path: Path) -> None:
    listed(tmp_path, "dataset_json/x.json", {"x": {"x_Real": {"test": {"v": video("x_Real", "x/v/0.png")}}}})
    with pytest.raises(InputError, match=r"none of 1 frames is there, such as x/v/0\.png: data\.root is the folder of"):
        raw(tmp_path, "deepfakebench")
    touch(tmp_path, "x/v/0.png", "x/v/1.png")
    listed(tmp_path, "dataset_json/y.json", {"y": {"y_Fake": {"test": {"v": video("y_Fake", "x/v/0.png")}}}})
    with pytest.raises(InputError, match=r"y\.json: x/v/0\.png is 'y_Fake' here, and 'x_Real' elsewhere: mend one"):
        raw(tmp_path, "deepfakebench")
    listed(tmp_path, "dataset_json/y.json", [["000", "003"]])
    listed(tmp_path, "notes.json", {"a": {"b": "c"}})
    assert ("x/v/1.png", "not of layout deepfakebench") in raw(tmp_path, "deepfakebench").skipped
    (tmp_path / "dataset_json/x.json").write_text("{")
    with pytest.raises(InputError, match=r"dataset_json/x\.json: no JSON"):
        raw(tmp_path, "deepfakebench")
    assert DEEPFAKEBENCH.patterns == ("dataset_json*/*.json",)


def test_a_frame_that_is_not_there_is_listed_where_the_others_are(tmp_path: Path) -> None:
    touch(tmp_path, "x/v/0.png")
    frames = "/far/away/x/v/0.png", "/far/away/x/v/1.png"
    # DFDC's list has a video where its validation videos should be
    listed(
        tmp_path,
        "dataset_json/DFDC.json",
        {"DFDC": {"DFDC_Real": {"test": {"v": video("DFDC_Real", frames[0])}, "val": video("DFDC_Real", *frames)}}},
    )
    assert list(raw(tmp_path, "deepfakebench").rows["path"]) == ["x/v/0.png", "x/v/1.png"]


@pytest.mark.parametrize("path", ["x/../../v/1.png", "x/../v/1.png", "/x/out/1.png"])
def test_a_path_that_leads_out(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    touch(tmp_path, "root/x/v/0.png", "elsewhere/1.png")
    (root / "x/out").symlink_to(tmp_path / "elsewhere")
    listed(root, "dataset_json/x.json", {"x": {"x_Real": {"test": {"v": video("x_Real", "../x/v/0.png", path)}}}})
    with pytest.raises(InputError, match=r"path '.*1\.png' leads out of the root"):
        raw(root, "deepfakebench")


def test_pictures_in_the_folder_of_a_class_are_of_no_video(tmp_path: Path) -> None:
    touch(tmp_path, "DF40/MidJourney/fake/a.png", "DF40/MidJourney/real/b.png")
    lists = {"MidJourney_Fake": "fake/a", "MidJourney_Real": "real/b"}
    content = {
        label: {"test": {name: video(label, f"./x/DF40/MidJourney/{name}.png")}} for label, name in lists.items()
    }
    listed(tmp_path, "dataset_json/MidJourney.json", {"MidJourney": content})
    assert records(raw(tmp_path, "deepfakebench").rows) == [
        row("DF40/MidJourney/fake/a.png", 1, "", "test", "MidJourney") | {"attr_video": ""},
        row("DF40/MidJourney/real/b.png", 0, "", "test", "") | {"attr_video": ""},
    ]


def test_a_root_below_that_of_the_paths_would_mix_the_methods(tmp_path: Path) -> None:
    touch(tmp_path, "000_003/0.png")
    paths = [f"{FF}/manipulated_sequences/{method}/c23/frames/000_003/0.png" for method in ("Deepfakes", "FaceSwap")]
    content = {
        label: {"train": {"v": video(label, path)}} for label, path in zip(("FF-DF", "FF-FS"), paths, strict=True)
    }
    listed(tmp_path, "FF.json", {FF: content})
    with pytest.raises(
        InputError, match=r"FF\.json: 000_003/0\.png is below 'F.*FaceSwap.*', others are below 'F.*Deepfakes.*: data"
    ):
        raw(tmp_path, "deepfakebench")


def test_at_a_url_the_lists_are_those_in_their_folder(tmp_path: Path) -> None:
    listed(tmp_path, "dataset_json/x.json", {"x": {"x_Real": {"test": {"v": video("x_Real", "x/v/0.png")}}}})
    files = RootFiles(tmp_path, ["x/v/0.png"], ["dataset_json/x.json", "far.json"], "s3://bucket/set")
    assert DEEPFAKEBENCH.read(files, DataSettings(".", "deepfakebench")).columns["label"] == [0]


def test_an_unknown_split_beside_known_ones_is_an_error(tmp_path: Path) -> None:
    touch(tmp_path, "x/v/0.png", "x/w/0.png")
    splits = {"test": {"v": video("x_Real", "x/v/0.png")}, "evaluation": {"w": video("x_Real", "x/w/0.png")}}
    listed(tmp_path, "dataset_json/x.json", {"x": {"x_Real": splits}})
    with pytest.raises(InputError, match=r"x\.json: split 'evaluation' is not one of train, test, val"):
        raw(tmp_path, "deepfakebench")
