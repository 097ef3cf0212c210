"""Layout real_and_fake_140k: its label 1 is real."""

from pathlib import Path

import pytest
from layout_cases import raw, records, table, touch

from ffdi.errors import InputError

HEADER = ",original_path,id,label,label_str,path\n"
TRAIN = (
    "0,/kaggle/input/flickrfaceshq-dataset-nvidia-part-4/Flickr/31355.jpg,31355,1,real,train/real/31355.jpg\n"
    "1,/kaggle/input/1-million-fake-faces/0GK8I5Z1JW.jpg,0GK8I5Z1JW,0,fake,train/fake/0GK8I5Z1JW.jpg\n"
)
VALID = "0,/kaggle/input/flickrfaceshq-dataset-nvidia-part-1/Flickr/00001.jpg,00001,1,real,valid/real/00001.jpg\n"
TEST = VALID.replace("valid/", "test/").replace("00001", "00002")
REAL, FAKE = "train/real/31355.jpg", "train/fake/0GK8I5Z1JW.jpg"


@pytest.mark.parametrize("above", ["real_vs_fake/real-vs-fake/", ""])
def test_its_rows(tmp_path: Path, above: str) -> None:
    for name, text in (("train.csv", TRAIN), ("valid.csv", VALID), ("test.csv", TEST)):
        table(tmp_path, HEADER + text, name)
    paths = [f"{above}{path}" for path in (REAL, FAKE, "valid/real/00001.jpg", "test/real/00002.jpg")]
    touch(tmp_path, *paths, f"{above}test/fake/unlisted.jpg")
    listing = raw(tmp_path, "real_and_fake_140k")
    found = {
        row["path"]: (row["label"], row["group"], row["given_split"], row["attr_method"])
        for row in records(listing.rows)
    }
    assert found == {
        paths[0]: (0, "", "train", ""),
        paths[1]: (1, "", "train", "StyleGAN"),
        paths[2]: (0, "", "train", ""),  # valid, and there is a test set
        paths[3]: (0, "", "test", ""),
    }
    assert dict(zip(listing.rows["path"], listing.rows["attr_original_path"]))[paths[1]].endswith("/0GK8I5Z1JW.jpg")
    assert listing.class_names == ("label '1'", "label '0'")
    assert (f"{above}test/fake/unlisted.jpg", "not of layout real_and_fake_140k") in listing.skipped
    said = raw(tmp_path, "auto").messages
    assert said[0] == "layout real_and_fake_140k: test.csv, train.csv, valid.csv"
    assert said[1] == f"fake is label '0' (1 file), such as {paths[1]}"


def test_a_row_that_contradicts_itself(tmp_path: Path) -> None:
    touch(tmp_path, REAL, FAKE)
    table(tmp_path, HEADER + TRAIN.replace(",0,fake,", ",1,fake,"), "train.csv")
    with pytest.raises(
        InputError, match=r"train\.csv: row 3: label '1' and label_str 'fake': this data set has 1 for real"
    ):
        raw(tmp_path, "real_and_fake_140k")
    table(tmp_path, "path,label\na.jpg,1\n", "train.csv")
    with pytest.raises(InputError, match=r"no train\.csv, valid\.csv, test\.csv with path, label, label_str"):
        raw(tmp_path, "real_and_fake_140k")
