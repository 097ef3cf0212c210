"""A live photo is one capture in two files."""

from ffdi.intake.listing.captures import captures


def test_a_picture_and_a_film_of_one_name_are_one_capture() -> None:
    found = captures(
        [
            "a/IMG_1.HEIC",
            "a/IMG_1.MOV",
            "b/IMG_1.HEIC",
            "a/IMG_2.jpg",
            "a/IMG_2.png",
            "a/img_3.mp4",
            "a/IMG_3.JPG",
            "x.mp4",
        ]
    )
    assert found == {
        "a/IMG_1.HEIC": "a/IMG_1",
        "a/IMG_1.MOV": "a/IMG_1",
        "a/img_3.mp4": "a/IMG_3",
        "a/IMG_3.JPG": "a/IMG_3",
    }


def test_names_of_a_mac_are_those_of_others() -> None:
    assert set(captures(["\u00e9.mov", "e\u0301.heic"]).values()) == {"e\u0301"}
