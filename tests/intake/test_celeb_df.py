"""Layout celeb_df: rows worked by hand; in its list 1 is real."""

from pathlib import Path

import pytest
from layout_cases import raw, records, table, touch

from ffdi.errors import InputError

VIDEOS = (
    "Celeb-real/id0_0000.mp4",
    "Celeb-real/id1_0003.mp4",
    "Celeb-synthesis/id0_id1_0000.mp4",
    "Celeb-synthesis/id16_id0_0011.mp4",
    "YouTube-real/00000.mp4",
    "YouTube-real/00170.mp4",
)
LIST = "1 YouTube-real/00170.mp4\n1 Celeb-real/id1_0003.mp4\n0 Celeb-synthesis/id16_id0_0011.mp4\n"


def row(path: str, label: int, group: str, split: str, method: str, source: str) -> dict[str, object]:
    known = {"path": path, "label": label, "group": group, "given_split": split}
    return known | {"attr_method": method, "attr_source_set": source}


def test_videos(tmp_path: Path) -> None:
    touch(tmp_path, *VIDEOS, "Celeb-real/readme.mp4")
    table(tmp_path, LIST + "\n1 YouTube-real/00001.mp4\r\n", "List_of_testing_videos.txt")
    listing = raw(tmp_path, "celeb_df")
    assert records(listing.rows) == [
        row(VIDEOS[0], 0, "id0", "train", "", "celeb"),
        row(VIDEOS[1], 0, "id1", "test", "", "celeb"),
        row(VIDEOS[2], 1, "id0|id1", "train", "Celeb-synthesis", "celeb"),
        row(VIDEOS[3], 1, "id0|id16", "test", "Celeb-synthesis", "celeb"),
        row(VIDEOS[4], 0, "00000", "train", "", "youtube"),
        row(VIDEOS[5], 0, "00170", "test", "", "youtube"),
    ]
    assert listing.messages == [
        "List_of_testing_videos.txt: 1 of 4 videos are not there, such as youtube-real/00001",
        "List_of_testing_videos.txt: 2 people are in its videos and in others, such as id0, id1: split.use_given: false "
        "with split.two_sources: drop draws a test set of other people",
        "1 file is not of layout celeb_df and passed over: Celeb-real/readme.mp4",
    ]
    assert listing.class_names == ("folder 'Celeb-real' or 'YouTube-real'", "folder 'Celeb-synthesis'")
    assert ("Celeb-real/readme.mp4", "not of layout celeb_df") in listing.skipped


def test_frames(tmp_path: Path) -> None:
    frames = "Celeb-synthesis/frames/id0_id1_0000/003.png", "Youtube-real/videos/00170/0/12.png"
    touch(tmp_path, *frames, "Celeb-synthesis/landmarks/id0_id1_0000/003.png")
    table(tmp_path, LIST, "List_of_testing_videos.txt")
    rows = raw(tmp_path, "celeb_df", videos=False).rows
    assert rows[["path", "label", "group", "given_split"]].values.tolist() == [
        [frames[0], 1, "id0|id1", "train"],
        [frames[1], 0, "00170", "test"],
    ]


def test_without_the_list_no_split_is_given(tmp_path: Path) -> None:
    touch(tmp_path, *VIDEOS)
    listing = raw(tmp_path, "celeb_df")
    assert list(listing.rows["label"]) == [0, 0, 1, 1, 0, 0] and set(listing.rows["given_split"]) == {""}
    assert listing.messages == ["no List_of_testing_videos.txt: no given split"]


@pytest.mark.parametrize(
    "line", ["0 YouTube-real/00170.mp4", "1 Celeb-synthesis/id0_id1_0000.mp4", "1 other/x.mp4", "1"]
)
def test_a_line_that_contradicts_its_folder_is_an_error(tmp_path: Path, line: str) -> None:
    touch(tmp_path, *VIDEOS)
    table(tmp_path, f"{LIST}{line}\n", "List_of_testing_videos.txt")
    with pytest.raises(
        InputError, match=r"List_of_testing_videos\.txt: row 4: '.*' is not as 1 YouTube-real/00170\.mp4"
    ):
        raw(tmp_path, "celeb_df")


def test_a_list_with_tabs_is_read_and_an_empty_one_is_no_list(tmp_path: Path) -> None:
    touch(tmp_path, *VIDEOS)
    table(tmp_path, LIST, "List_of_testing_videos.txt")
    spaced = raw(tmp_path, "celeb_df").rows
    table(tmp_path, LIST.replace(" ", "\t"), "List_of_testing_videos.txt")
    assert raw(tmp_path, "celeb_df").rows.equals(spaced)
    table(tmp_path, "\n", "List_of_testing_videos.txt")  # all would be train, and nothing tested
    with pytest.raises(InputError, match=r"List_of_testing_videos\.txt: no rows: take the official list"):
        raw(tmp_path, "celeb_df")
