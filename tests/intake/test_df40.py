"""Layout df40: rows worked by hand, of each shape that the folders of its methods have."""

from pathlib import Path

from layout_cases import raw, records, touch

TREE = {  # path -> label, group, split, method, kind, domain
    "DF40/MidJourney/fake/a.png": (1, "", "test", "MidJourney", "synthesis", "own"),
    "DF40/MidJourney/real/b.png": (0, "", "test", "", "", "own"),
    "DF40/StyleGAN2/cdf/Fake_from_Celeb-real/id0_0000/seed1.png": (1, "id0", "test", "StyleGAN2", "synthesis", "cdf"),
    "DF40/StyleGAN2/ff/071/seed0188.png": (1, "071", "test", "StyleGAN2", "synthesis", "ff"),
    "DF40/heygen/fake/frames/v1/0.png": (1, "heygen v1", "test", "heygen", "reenactment", "own"),
    "DF40/heygen/real/v1/0.png": (0, "heygen v1", "test", "", "", "own"),
    "DF40/simswap/cdf/frames/id0_id1_0000/000.png": (1, "id0|id1", "test", "simswap", "face swapping", "cdf"),
    "DF40/simswap/ff/frames/071_054/000.png": (1, "054|071", "test", "simswap", "face swapping", "ff"),
    "DF40/stargan/fake/fake/c.png": (1, "", "test", "stargan", "editing", "own"),
    "DF40_train/simswap/frames/001_870/000.png": (1, "001|870", "train", "simswap", "face swapping", "ff"),
    "DF40_train/VQGAN/ff/001/7.png": (1, "001", "train", "VQGAN", "synthesis", "ff"),
    "FaceForensics++/original_sequences/youtube/c23/frames/071/000.png": (0, "071", "", "", "", "ff"),
    "DF40/tpsm/ff/071_054.mp4": (1, "054|071", "test", "tpsm", "reenactment", "ff"),
    "DF40/deepfacelab/fake/v2.mp4": (1, "deepfacelab v2", "test", "deepfacelab", "face swapping", "own"),
    "FaceForensics++/original_sequences/youtube/c23/videos/054.mp4": (0, "054", "", "", "", "ff"),
    "Celeb-DF-v2/Celeb-real/frames/id0_0000/000.png": (0, "id0", "", "", "", "cdf"),
    "Celeb-DF-v2/YouTube-real/frames/00170/000.png": (0, "00170", "", "", "", "cdf"),
}


def test_rows_of_every_shape(tmp_path: Path) -> None:
    touch(tmp_path, *TREE, "DF40/simswap/ff/masks/071_054/000.png", "DF40/README.png")
    listing = raw(tmp_path, "df40")
    found = {
        row["path"]: (
            row["label"],
            row["group"],
            row["given_split"],
            row["attr_method"],
            row["attr_kind"],
            row["attr_domain"],
        )
        for row in records(listing.rows)
    }
    assert found == TREE
    for row in records(listing.rows):
        assert row["attr_video"] == row["path"].removesuffix(
            ".mp4" if row["path"].endswith(".mp4") else "/" + row["path"].split("/")[-1]
        )
    assert dict(listing.skipped) == {
        "DF40/README.png": "not of layout df40",
        "DF40/simswap/ff/masks/071_054/000.png": "in a folder called masks",
    }
    assert listing.messages == ["1 file is not of layout df40 and passed over: DF40/README.png"]


def test_the_folder_itself_has_no_real_frames_of_its_first_methods(tmp_path: Path) -> None:
    touch(tmp_path, "simswap/ff/frames/071_054/000.png", "heygen/fake/v1/0.png", "FaceSwap/c23/frames/000_003/0.png")
    listing = raw(tmp_path, "df40")
    assert list(listing.rows["path"]) == ["heygen/fake/v1/0.png", "simswap/ff/frames/071_054/000.png"]
    assert set(listing.rows["given_split"]) == {""}
    assert listing.messages == [
        "no real frame: put FaceForensics++/ and Celeb-DF-v2/ beside",
        "1 file is not of layout df40 and passed over: FaceSwap/c23/frames/000_003/0.png",
    ]


def test_auto_takes_it_before_the_sets_that_its_real_frames_are_of(tmp_path: Path) -> None:
    touch(tmp_path, *TREE)
    assert raw(tmp_path, "auto").messages[0] == "layout df40: folders of the methods MidJourney, StyleGAN2, VQGAN, ..."
