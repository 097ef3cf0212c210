"""The words that name a class, a data set's own names of its classes, and the lines that report them."""

import re
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from ffdi.errors import InputError, ParamsError
from ffdi.intake.listing.labels import CLASSES, WORDS, Classes, class_lines, class_of, classes_line
from ffdi.intake.listing.layouts import Listing, read_layout
from ffdi.intake.settings import Columns, DataSettings
from ffdi.params.reading import read_params


def touch(root: Path, *paths: str) -> Path:
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"x")
    return root


def write(root: Path, text: str, name: str = "labels.csv") -> Path:
    (root / name).write_text(text, encoding="utf-8")
    return root


def read(root: Path, layout: str = "csv", **changes: Any) -> Listing:
    return read_layout(root, DataSettings(".", layout, **changes))


@pytest.mark.parametrize(
    ("name", "label"),
    [
        *(("real", 0), ("FAKE", 1), ("0_real", 0), ("Face2Face", 1), ("DeepFakeDetection", 1), ("Bona-Fide", 0)),
        *(("real_frames", 0), ("fake_images", 1), ("Celeb-real", 0), ("YouTube-real", 0), ("Celeb-synthesis", 1)),
        *(("FakeFaces", 1), ("realImages", 0), ("ai-generated", 1), ("face_swap", 1), ("REAL-frames", 0)),
        *(("images.of.original.people", 0), ("7real9", 0), ("synthesised2", 1), ("unmanipulated", 0)),
        # two words, of one class too
        *(("real_vs_fake", None), ("real_001_fake", None), ("RealAndFake", None), ("fake_generated", None)),
        # words that only look alike, or are usual in other names
        *(("realistic", None), ("montreal", None), ("surreal_art", None), ("live_stream", None), ("edited_2", None)),
        *(("not_fake", None), ("anti-spoof", None), ("NonFake", None), ("irréal", None), ("", None), ("Au", None)),
    ],
)  # fmt: skip
def test_a_name_has_a_class_as_a_whole_or_by_exactly_one_word(name: str, label: int | None) -> None:
    assert class_of(name) == label


def test_words_are_written_as_they_are_looked_up() -> None:
    assert all(word == word.casefold() and word.isalpha() for word in WORDS)
    assert {name: label for name, label in CLASSES.items() if WORDS.get(name, label) != label} == {}


@pytest.mark.parametrize(
    ("paths", "labels"),
    [
        (("Celeb-real/a.jpg", "YouTube-real/a.jpg", "Celeb-synthesis/a.jpg"), [0, 1, 0]),  # in the order of paths
        (("original_sequences/youtube/c23/a.png", "manipulated_sequences/Deepfakes/c23/a.png"), [1, 0]),
        (("train/real_frames/a.jpg", "train/fake_images/a.jpg", "test/FakeFaces/a.jpg"), [1, 1, 0]),
    ],
)
def test_class_folders_that_one_word_names(tmp_path: Path, paths: tuple[str, ...], labels: list[int]) -> None:
    listing = read(touch(tmp_path, *paths), "imagefolder")
    by_path = dict(zip(listing.rows["path"], listing.rows["label"], strict=True))
    assert [by_path[path] for path in sorted(paths)] == labels


def pasted(error: Exception) -> Any:
    """What the line of an error says as YAML."""
    line = re.findall(r"`(classes: [^`]+)`", str(error))[0]
    return YAML(typ="safe", pure=True).load(line)["classes"]


def test_unknown_folders_are_all_in_the_line_to_paste(tmp_path: Path) -> None:
    touch(tmp_path, "Au/a.jpg", "Tp/a.jpg", "real/a.jpg", "it's: {x}/a.jpg", "1/a.jpg", "yes/a.jpg")
    with pytest.raises(InputError, match=r"folder '1': not in data\.classes \(real, fake and") as caught:
        read(tmp_path, "imagefolder")
    ask = "0 or 1"
    assert pasted(caught.value) == {"1": ask, "Au": ask, "Tp": ask, "it's: {x}": ask, "real": 0, "yes": ask}
    assert "\n" not in str(caught.value)
    given = {"Au": 0, "TP": 1}
    with pytest.raises(InputError, match=r"'1': not in data\.classes \(Au, TP\)") as caught:
        read(tmp_path, "imagefolder", classes=given)
    assert pasted(caught.value) == {"1": ask, "it's: {x}": ask, "real": ask, "yes": ask} | given


def test_the_line_is_refused_until_it_is_filled_in(tmp_path: Path) -> None:
    """What a class is, nobody can guess for the user."""
    for entry, ok in (("0 or 1", False), ("1", True)):
        line = classes_line({"Au": 0, "Tp": None}).strip("`").replace("0 or 1", entry)
        params = params_with(tmp_path, f"root: x, layout: imagefolder, {line}")
        if ok:
            assert read_params(params).data.classes == {"Au": 0, "Tp": 1}
        else:
            with pytest.raises(ParamsError, match=r"data\.classes\.Tp: .*integer \(is '0 or 1'\)"):
                read_params(params)


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.text(min_size=1, max_size=9), st.sampled_from([0, 1, None]), min_size=1, max_size=3))
def test_the_line_is_yaml_whatever_the_names(labels: dict[str, int | None]) -> None:
    due = {name: "0 or 1" if label is None else label for name, label in labels.items()}
    line = classes_line(labels).strip("`")
    assert "\n" not in line and YAML(typ="safe", pure=True).load(line) == {"classes": due}


def test_many_folders_do_not_make_an_endless_line(tmp_path: Path) -> None:
    touch(tmp_path, *(f"person{i}/a.jpg" for i in range(99)))
    with pytest.raises(InputError, match=r"person15: 0 or 1, \.\.\. 99 in all\}`") as caught:
        read(tmp_path, "imagefolder")
    assert len(str(caught.value)) < 500


def params_with(folder: Path, data: str) -> Path:
    file = folder / "params.yaml"
    file.write_text(
        f"data: {{{data}}}\n"
        "backbones: {b: {network: 'torchvision:mobilenet_v2', weights: random, cut: features.16}}\n"
        "recipes: {r: {backbone: b}}\nsplit: {embedding: b}\nladder: {recipe: r, backbone: b}\n"
    )
    return file


@pytest.mark.parametrize(
    ("values", "classes", "labels"),
    [
        (("0", "1"), None, [0, 1]),
        (("REAL", "fake"), None, [0, 1]),
        (("Deepfakes", "original"), None, [1, 0]),
        (("ai_generated", "real photo"), None, [1, 0]),
        (("REAL", "FAKE"), {"real": 0, "Fake": 1}, [0, 1]),
        (("0", "1"), {"0": 1, "1": 0}, [1, 0]),
        (("Au", "Tp"), {"au": 0, "TP": 1}, [0, 1]),
        (("bona fide", "gefälscht"), {"bona fide": 0, "gefa\u0308lscht": 1}, [0, 1]),  # NFC and NFD
    ],
)
def test_labels_of_tables(
    tmp_path: Path, values: tuple[str, str], classes: dict[str, int] | None, labels: list[int]
) -> None:
    for name in ("trainset", "valset"):
        write(
            tmp_path, "img_name,target\n" + "".join(f"{i}.jpg,{v}\n" for i, v in enumerate(values)), f"{name}_label.txt"
        )
    write(tmp_path, "path,label\n" + "".join(f"{i}.jpg,{v}\n" for i, v in enumerate(values)))
    assert list(read(tmp_path, classes=classes).rows["label"]) == labels
    assert list(read(tmp_path, "multi_ffdi", classes=classes).rows["label"]) == labels * 2


def test_a_value_without_a_meaning_is_said_with_its_row_and_the_line(tmp_path: Path) -> None:
    write(tmp_path, "path,label\na.jpg,real\nb.jpg,Tp\nc.jpg,\n")
    with pytest.raises(
        InputError, match=r"row 3: label 'Tp' is neither 0 \(real\) nor 1 \(fake\) nor a usual"
    ) as caught:
        read(tmp_path)
    assert pasted(caught.value) == {"Tp": "0 or 1", "real": 0}
    with pytest.raises(InputError, match=r"row 2: label 'real' is not in data\.classes \(Au, Tp\)") as caught:
        read(tmp_path, classes={"Au": 0, "Tp": 1})
    assert pasted(caught.value) == {"Au": 0, "Tp": 1, "real": "0 or 1"}
    with pytest.raises(InputError, match=r"row 4: label '' is not in data\.classes \(real, Tp\)$"):
        read(tmp_path, classes={"real": 0, "Tp": 1})  # nobody calls a class nothing


def test_classes_that_do_not_occur(tmp_path: Path) -> None:
    write(tmp_path, "path,label\na.jpg,0\nb.jpg,1\n")
    with pytest.raises(InputError, match=r"data\.classes: none of REAL, FAKE occurs in the data, which have '0', '1'"):
        Classes({"REAL": 0, "FAKE": 1}).not_in(["1", "0"])
    said = read(tmp_path, classes={"0": 0, "1": 1, "2": 1, "3": 1}).messages
    assert said == ["data.classes: not in the data: 2, 3"]
    assert read(tmp_path).messages == []


def test_what_fake_means_is_said_with_three_images_of_each_class() -> None:
    images = pd.DataFrame({"path": ["d", "b\n.jpg", "c", "a", "e\x1b[31m"], "label": [1, 1, 1, 1, 0]})
    assert class_lines(images, ("label '0' of x.csv", "label '1' of x.csv")) == [
        "fake is label '1' of x.csv (4 images), such as a, b\\n.jpg, c",
        "real is label '0' of x.csv (1 image), such as e\\x1b[31m",
    ]
    assert class_lines(images[:4], ("folder 'real'", ""))[1] == "no image is real"


def test_what_the_classes_are_called(tmp_path: Path) -> None:
    write(tmp_path, "path,kind\na.jpg,1\nb.jpg,0\n", "own.csv")
    listing = read(tmp_path, table="own.csv", columns=Columns(label="kind"))
    assert listing.class_names == ("kind '0' of own.csv", "kind '1' of own.csv")
    touch(tmp_path, "Celeb-real/a.jpg", "YouTube-real/a.jpg", "fake/a.jpg")
    assert read(tmp_path, "imagefolder").class_names == ("folder 'Celeb-real' or 'YouTube-real'", "folder 'fake'")
    many = {f"m{i}": 1 for i in range(9)} | {"real": 0}
    write(tmp_path, "path,label\nz.jpg,real\n" + "".join(f"{name}.jpg,{name}\n" for name in list(many)[:9]))
    fake = read(tmp_path, classes=many).class_names[1]
    assert fake == "label 'm0', 'm1', 'm2', 'm3', 'm4' or 4 more of labels.csv"
