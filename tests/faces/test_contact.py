"""The contact sheet: which sources are on it, and what is drawn of them."""

import io
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ffdi.faces.contact import ContactEntry, contact_sheet, spread
from ffdi.faces.face import Box
from ffdi.intake.decoding.images import RGB
from ffdi.lettering import font, shortened


def plain(colour: tuple[int, int, int], height: int = 64, width: int = 64) -> RGB:
    return np.full((height, width, 3), colour, np.uint8)


def entry(crops: int = 1, tracks: int = 1, picture: RGB | None = None, name: str = "a.jpg") -> ContactEntry:
    boxes = [(track, Box(10 + 60 * track, 10, 40 + 60 * track, 40)) for track in range(tracks)]
    shown = [(place % tracks, plain((200, 16 * place, 60))) for place in range(crops)]
    return ContactEntry(name, 1, plain((40, 200, 90), 90, 160) if picture is None else picture, boxes, shown)


def sheet(*entries: ContactEntry, most_crops: int = 8) -> Image.Image:
    return Image.open(io.BytesIO(contact_sheet("a set", entries, most_crops=most_crops))).convert("RGB")


def share(image: Image.Image, colour: tuple[int, int, int]) -> float:
    """Of the sheet that has nearly this colour."""
    return float((np.abs(np.asarray(image, np.int16) - colour).max(axis=-1) < 24).mean())


def test_sources_of_both_labels_are_spread_over_the_set() -> None:
    assert spread([0] * 6 + [1] * 6, 4) == [0, 5, 6, 11]
    assert spread([0, 1] * 3, 24) == [0, 1, 2, 3, 4, 5]
    assert spread([1, 0, 1, 1, 1, 1, 1, 1], 6) == [0, 1, 3, 4, 5, 7]  # one real: five of the seven fakes
    assert spread([1] * 9, 3) == [0, 4, 8]
    assert spread([], 4) == []


@pytest.mark.parametrize("entries", [0, 1, 5])
def test_the_sheet_has_a_card_for_each_source_and_the_same_bytes_each_time(entries: int) -> None:
    cards = [entry(12, 2, name=f"clip {place}.mp4") for place in range(entries)]
    first = contact_sheet("a set", cards)
    assert first == contact_sheet("a set", iter(cards))
    assert len(first) < 400_000
    assert Image.open(io.BytesIO(first)).height > 200 * -(-entries // 2)


def test_the_source_stands_beside_its_crops() -> None:
    one = sheet(entry())
    assert share(one, (40, 200, 90)) > 0.05
    assert share(one, (200, 0, 60)) > 0.05  # a single crop is shown large
    many = sheet(entry(32))
    for place in (0, 31):  # the first and the last, and six between
        assert share(many, (200, 16 * place % 256, 60)) > 0.01


def test_boxes_and_crops_of_one_person_have_one_colour() -> None:
    blue, orange = (0, 114, 178), (230, 159, 0)
    two = sheet(entry(2, 2))
    assert share(two, blue) > 0.001 and share(two, orange) > 0.001
    without_boxes = replace(entry(2, 2), boxes=[])
    assert 0.0005 < share(sheet(without_boxes), orange) < share(two, orange)
    assert share(sheet(entry(2, 1)), orange) == 0


def test_every_person_has_crops_of_its_own_on_the_sheet() -> None:
    """Of a person who is seen twice among forty crops, both are shown."""
    brief, often = plain((250, 250, 20)), plain((10, 10, 250))
    crops = [(0, often)] * 20 + [(1, brief)] * 2 + [(0, often)] * 20
    shown = sheet(replace(entry(), crops=crops))
    size = 104 * 104 / (shown.width * shown.height)
    assert 1.5 * size < share(shown, (250, 250, 20)) < 2.1 * size
    assert 5 * size < share(shown, (10, 10, 250)) < 6.1 * size


@pytest.mark.parametrize("size", [(1, 1), (3, 4000), (4000, 3), (800, 600)])
def test_sources_of_any_shape_fit_and_boxes_may_reach_beyond_them(size: tuple[int, int]) -> None:
    source = ContactEntry("x", 0, plain((9, 9, 9), *size), [(0, Box(-50, -9, 5000, 1)), (12, Box(0, 0, 0, 0))], [])
    assert sheet(source).size == sheet(entry()).size


def test_names_may_hold_anything_and_are_shortened_in_the_middle() -> None:
    sheet(entry(name="clip\n\t\x1b[2J 日本 \udcff" + "a" * 5000))
    letters = font(15)
    short = shortened("folder/" + "x" * 200 + "/face.png", letters, 300)
    assert short.startswith("folder/xx") and short.endswith("x/face.png") and "…" in short
    assert 270 < letters.getlength(short) <= 300
    assert shortened("face.png", letters, 300) == "face.png"
    assert shortened("face.png", letters, 1) == "…"


def test_sources_of_few_crops_stand_three_in_a_row() -> None:
    entries = [entry()] * 3
    assert sheet(*entries, most_crops=4).height < sheet(*entries).height
