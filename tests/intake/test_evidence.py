"""Labels that contradict other evidence stop ingest; what only looks like a contradiction does not."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from ffdi.errors import InputError
from ffdi.intake.listing.layouts import read_layout
from ffdi.intake.settings import Columns, DataSettings


def csv(root: Path, rows: Iterable[str], header: str = "path,label", name: str = "labels.csv") -> Path:
    (root / name).write_text("\n".join([header, *rows]) + "\n")
    return root


def said(root: Path, layout: str = "csv", **changes: Any) -> list[str]:
    return read_layout(root, DataSettings(".", layout, **changes)).messages


def numbered(*rows: tuple[str, object]) -> list[str]:
    """Three rows of each: {} of the path is a number."""
    return [f"{path.format(i)},{rest}" for path, rest in rows for i in range(3)]


def test_a_table_where_1_is_real(tmp_path: Path) -> None:
    rows = numbered(("train/real/{}.jpg", "1,real"), ("train/fake/{}.jpg", "0,fake"))
    csv(tmp_path, rows, "path,label,label_str")
    with pytest.raises(InputError) as caught:
        said(tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/labels.csv: the labels contradict the folder names in 6 rows (0 agree) and column 'label_str' in 6 "
        "rows (0 agree): 'train/real/0.jpg' is '1' (fake), 'train/real/1.jpg' is '1' (fake), 'train/real/2.jpg' is '1' "
        "(fake); if '1' means real, add `classes: {'0': 1, '1': 0}` to data; if the labels are right, add "
        "`classes: {'0': 0, '1': 1}` to data"
    )
    assert said(tmp_path, classes={"0": 1, "1": 0}) == []
    assert [line.split(":")[0] for line in said(tmp_path, classes={"0": 0, "1": 1})] == [
        "the labels contradict the folder names in 6 rows (0 agree) and column 'label_str' in 6 rows (0 agree)"
    ]
    assert said(tmp_path, classes={"0": 0, "1": 1})[0].endswith("; they are taken as data.classes says")


TURNED = [
    # wherever the evidence stands
    ("path,label", [("real/{}.jpg", 1), ("fake/{}.jpg", 0)]),
    ("path,label", [("a/Celeb-real/id/{}.jpg", 1), ("b/Celeb-synthesis/id/{}.jpg", 0)]),
    ("path,label", [("deepfakes_v2/real/{}.jpg", 1), ("deepfakes_v2/fake/{}.jpg", 0)]),
    ("path,label", [("img/real_{}.jpg", 1), ("img/fake_{}.jpg", 0)]),
    ("path,label", [("FakeFace{}.jpg", 0), ("RealFace{}.jpg", 1)]),
    ("path,label,type", [("{}.jpg", "1,original"), ("{}.png", "0,Face2Face")]),
    ("path,label,class", [("{}.jpg", "1,REAL"), ("{}.png", "0,FAKE")]),
    ("path,label,is_fake", [("{}.jpg", "1,False"), ("{}.png", "0,True")]),
    ("path,label,real", [("{}.jpg", "1,1"), ("{}.png", "0,0")]),
    # below a class folder stand both the source and the fake: what names the same in a whole path counts
    ("path,label", [("fake/original/{}.jpg", 0), ("fake/resized/{}.jpg", 0), ("real/original/{}.jpg", 1)]),
    # one class alone is named, by the folders of one label alone
    ("path,label", [("celeba_real/{}.jpg", 1), ("stylegan/{}.jpg", 0)]),
    ("path,label", [("a/deepfakes/{}.jpg", 0), ("a/celebs/{}.jpg", 1), ("b/celebs/{}.jpg", 1)]),
    # one label only
    ("path,label", [("real/{}.jpg", 1)]),
    ("path,label,class", [("{}.jpg", "0,fake")]),
]


@pytest.mark.parametrize(("header", "rows"), TURNED)
def test_turned_labels_are_found(tmp_path: Path, header: str, rows: list[tuple[str, object]]) -> None:
    with pytest.raises(
        InputError, match=r"contradict .* \(0 agree\).*: '.*means real, add `classes: \{'.*labels are right"
    ):
        said(csv(tmp_path, numbered(*rows), header))
    turned = [(path, str(1 - int(str(rest)[0])) + str(rest)[1:]) for path, rest in rows]
    assert said(csv(tmp_path, numbered(*turned), header)) == []  # and right ones are no contradiction


def test_a_label_column_that_is_called_real(tmp_path: Path) -> None:
    csv(tmp_path, numbered(("{}.jpg", 1), ("{}.png", 0)), "path,is_real")
    with pytest.raises(InputError, match=r"contradict column 'is_real' in 6 rows \(0 agree\)"):
        said(tmp_path, columns=Columns(label="is_real"))
    csv(tmp_path, numbered(("{}.jpg", 1), ("{}.png", 0)), "path,is_fake")
    assert said(tmp_path, columns=Columns(label="is_fake")) == []


NO_CONTRADICTION = [
    ("path,label", [("deepfake_dataset/a/{}.jpg", 0), ("deepfake_dataset/b/{}.jpg", 1)]),
    ("path,label", [("deepfake_dataset/a/{}.jpg", 0)]),  # the name of a collection, above images of one class
    ("path,label", [("deepfakes/a/{}.jpg", 0), ("deepfakes/b/{}.jpg", 1)]),  # above both
    ("path,label", [("deepfakes/real/{}.jpg", 0), ("deepfakes/fake/{}.jpg", 1)]),
    ("path,label", [("deepfakes/celebs/{}.jpg", 0), ("deepfakes/real/{}.jpg", 0), ("deepfakes/fake/{}.jpg", 1)]),
    ("path,label", [("real-vs-fake/train/real/{}.jpg", 0), ("real-vs-fake/train/fake/{}.jpg", 1)]),
    ("path,label", [("from_real/{}.jpg", 1), ("gan/{}.jpg", 1), ("celebs/{}.jpg", 0)]),  # a folder of some fakes
    ("path,label", [("x/real_{}_fake.jpg", 1), ("x/real_{}.jpg", 0)]),  # two words
    ("path,label", [("a/real_{}.jpg", 1), ("b/real_{}.jpg", 0)]),  # a fake is called as its source
    ("path,label", [("fake/real_{}.jpg", 1), ("fake/fake_{}.jpg", 1), ("real/real_{}.jpg", 0)]),  # folders tell
    ("path,label", [("fake/original/{}.jpg", 1), ("fake/resized/{}.jpg", 1), ("real/original/{}.jpg", 0)]),
    ("path,label,source", [("{}.jpg", "1,original_07"), ("{}.png", "0,original_07")]),
    ("path,label,prediction", [("{}.jpg", "1,real"), ("{}.png", "0,fake")]),  # somebody's opinion
    ("path,label,caption", [("{}.jpg", "1,a real smile of somebody nice"), ("{}.png", "0,one fake tree on the hill")]),
    (
        "path,label,source",
        [("{}.jpg", "1,in/real"), ("{}.png", "0,in/fake")],
    ),  # a path may be that of what it was made of
    ("path,label,source", [("{}.jpg", "1,real_07.mp4"), ("{}.png", "0,fake_07.MP4"), ("x{}.jpg", "1,original.jpg")]),
    ("path,label,p_fake", [("{}.jpg", "1,0.1"), ("{}.png", "0,0.9")]),  # a score is no label
    ("path,label,forgery", [("{}.jpg", "1,eyes"), ("{}.png", "0,")]),
    ("path,label,live", [("{}.jpg", "1,1"), ("{}.png", "0,0")]),
]


@pytest.mark.parametrize(("header", "rows"), NO_CONTRADICTION)
def test_what_only_seems_to_contradict(tmp_path: Path, header: str, rows: list[tuple[str, object]]) -> None:
    assert said(csv(tmp_path, numbered(*rows), header)) == []


def test_a_few_rows_that_contradict(tmp_path: Path) -> None:
    rows = [*numbered(("real/{}.jpg", 0), ("fake/{}.jpg", 1)), "fake/x.jpg,0"]
    with pytest.raises(
        InputError, match=r"folder names in 1 row \(6 agree\): 'fake/x\.jpg' is '0' \(real\); mend what"
    ):
        said(csv(tmp_path, rows))
    # file names alone are weaker: a fake may bear the name of its source
    rows = [*numbered(("real_{}.jpg", 0), ("fake_{}.jpg", 1)), "real_x.jpg,1"]
    (line,) = said(csv(tmp_path, rows))
    assert line == (
        "the labels contradict the file names in 1 row (6 agree): 'real_x.jpg' is '1' (fake); left as they are, for a "
        "fake may bear the name of its source"
    )


def test_words_for_labels_are_not_offered_turned_round(tmp_path: Path) -> None:
    csv(tmp_path, numbered(("real/{}.jpg", "FAKE"), ("fake/{}.jpg", "REAL")))
    with pytest.raises(
        InputError, match=r"mend what is wrong, or, if the labels are right, add `classes: \{FAKE: 1, REAL: 0\}`"
    ):
        said(tmp_path)


def test_the_rows_of_a_limit_are_not_all_that_is_compared(tmp_path: Path) -> None:
    csv(tmp_path, numbered(("a/{}.jpg", 1), ("real/{}.jpg", 1), ("fake/{}.jpg", 0)))
    with pytest.raises(InputError, match="contradict"):
        said(tmp_path, limit=2)


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


@pytest.mark.parametrize(
    "paths",
    [
        ("real/fake_1.jpg", "fake/real_1.jpg"),
        ("train/real/a/fake_1.jpg", "train/fake/a/real_1.jpg"),
        ("deepfakes_v2/real/a.jpg", "deepfakes_v2/fake/a.jpg"),  # the root is one folder too high
        ("deepfakes/real/a.jpg",),
    ],
)
def test_what_stands_below_a_class_folder_is_compared_with_it(tmp_path: Path, paths: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=r"contradict the (file|folder) names .* add `classes: \{"):
        said(touch(tmp_path, *paths), "imagefolder")


@pytest.mark.parametrize(
    "paths",
    [
        ("fake/original/a.jpg", "fake/resized/a.jpg", "real/original/a.jpg"),
        ("fake/real_1.jpg", "real/real_1.jpg"),
        ("manipulated_sequences/Deepfakes/c23/a.jpg", "original_sequences/youtube/c23/a.jpg"),
        ("train/fake/real_1_fake.jpg", "train/real/1.jpg"),
        ("fake/original/a.jpg", "real/photos/a.jpg"),  # what the fakes were made of
    ],
)
def test_class_folders_with_other_words_below_them(tmp_path: Path, paths: tuple[str, ...]) -> None:
    assert said(touch(tmp_path, *paths), "imagefolder") == []


def test_a_class_folder_that_is_given_is_believed(tmp_path: Path) -> None:
    touch(tmp_path, "A/real_1.jpg", "B/fake_1.jpg")
    (line,) = said(tmp_path, "imagefolder", classes={"A": 1, "B": 0})
    assert line.endswith(
        "'A/real_1.jpg' is 'A' (fake), 'B/fake_1.jpg' is 'B' (real); they are taken as data.classes says"
    )


def test_multi_ffdi(tmp_path: Path) -> None:
    for name in ("trainset", "valset"):
        csv(tmp_path, ["real_1.jpg,1,real", "fake_1.jpg,0,fake"], "img_name,target,kind", f"{name}_label.txt")
    with pytest.raises(InputError, match=r"the file names in 4 rows \(0 agree\) and column 'kind' in 4 rows"):
        said(tmp_path, "multi_ffdi")
    assert said(tmp_path, "multi_ffdi", classes={"0": 1, "1": 0}) == []
