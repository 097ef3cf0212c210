"""Tracks: two people are two, one person is one, whether frames are 40 ms or minutes apart."""

import pytest

from ffdi.faces.face import Box, Face
from ffdi.faces.tracks import Tracker


def face(x: float, y: float = 100, side: float = 40) -> Face:
    """A face around (x, y)."""
    return Face(Box(x - side / 2, y - side / 2, x + side / 2, y + side / 2), 0.9)


def follow(*frames: list[Face], apart: float = 0.32) -> list[list[int]]:
    tracker = Tracker()
    return [tracker.follow(apart * number, faces) for number, faces in enumerate(frames)]


@pytest.mark.parametrize("apart", [0.04, 0.32, 225.0])
def test_one_person_is_one_track_however_far_apart_the_frames_are(apart: float) -> None:
    step = 8 if apart < 0.1 else 35  # boxes of 40 pixels: nearly no overlap from one frame to the next
    assert follow(*([face(100 + step * n, side=40 + n)] for n in range(8)), apart=apart) == [[0]] * 8


def test_two_people_are_two_tracks_in_whatever_order_they_are_found() -> None:
    left, right = face(100), face(200, side=44)
    assert follow([left, right], [right, left], [left, right]) == [[1, 0], [0, 1], [1, 0]]  # the larger one is track 0


def test_when_the_camera_pans_the_pairs_fit_as_a_whole() -> None:
    """Both move 24 to the right. The left one's face is now nearer to where the right one was: 16 of 40."""
    assert follow([face(100, side=42), face(140)], [face(124, side=42), face(164)]) == [[0, 1], [0, 1]]


def test_one_leaves_and_comes_back_a_third_enters() -> None:
    first, second, third = face(100), face(200), face(300)
    seen = follow([first, second], [first], [first, third], [first, second, third])
    assert seen == [[0, 1], [0], [0, 2], [0, 1, 2]]


def test_a_track_waits_for_three_samples_or_two_seconds() -> None:
    here, gone = [face(100)], list[Face]()
    assert follow(here, *[gone] * 3, here, apart=60)[-1] == [0]
    assert follow(here, *[gone] * 4, here, apart=60)[-1] == [1]
    assert follow(here, *[gone] * 49, here, apart=0.04)[-1] == [0]  # 2 s
    assert follow(here, *[gone] * 50, here, apart=0.04)[-1] == [1]


def test_what_jumps_or_changes_its_size_is_somebody_else() -> None:
    """At a cut. In 40 ms a person moves by less than 0.62 of a face; a face does not grow from 40 to 62 pixels."""
    assert follow([face(100)], [face(124)], apart=0.04) == [[0], [0]]
    assert follow([face(100)], [face(126)], apart=0.04) == [[0], [1]]
    assert follow([face(100)], [face(100, side=60)], apart=0.04) == [[0], [0]]
    assert follow([face(100)], [face(100, side=62)], apart=0.04) == [[0], [1]]
    assert follow([face(100)], [face(161)], apart=600) == [[0], [1]]  # never farther than one face and a half


def test_a_third_person_takes_no_track_of_the_two() -> None:
    """Between the two, nearer to the right one than that one's own face is, which has moved on."""
    assert follow([face(100), face(200)], [face(102), face(160), face(206)]) == [[0, 1], [0, 2, 1]]


def test_who_has_left_has_no_say() -> None:
    """The second has left, a third has come. That the second would be nearer to where the first is now, is no matter."""
    assert follow([face(100, side=42), face(200)], [face(130, side=42), face(60)]) == [[0, 1], [0, 2]]


def test_time_that_stands_still_or_goes_back_and_boxes_of_no_size() -> None:
    tracker = Tracker()
    assert tracker.follow(5.0, [face(100)]) == [0]
    assert tracker.follow(5.0, [face(104)]) == [0]
    assert tracker.follow(1.0, [face(108)]) == [0]
    assert tracker.follow(1.0, []) == []
    assert tracker.follow(1.1, [Face(Box(7, 7, 7, 7), 0.5), face(110)]) == [1, 0]
    assert tracker.follow(0.2, [face(400)]) == [2]
