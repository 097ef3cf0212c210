"""A JPEG whose data end early is refused wherever it ends."""

from typing import Any

import numpy as np
import pytest
from conftest import picture
from image_cases import decode, encode
from PIL import Image

from ffdi.intake.decoding.images import (
    UnreadableImage,
    open_image,
)

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::PIL.Image.DecompressionBombWarning")


def test_the_warnings_of_libjpeg_need_not_be_heard_twice() -> None:
    closed = encode(picture(0), "JPEG")[:-300] + b"\xff\xd9"
    with pytest.raises(UnreadableImage, match=r"^damaged: Corrupt JPEG data: premature end of data segment$"):
        open_image(closed, max_pixels=10**6)
    assert open_image(closed, max_pixels=10**6, accepted=True).size == (64, 64)


@pytest.mark.parametrize("options", [{}, {"optimize": True}, {"progressive": True}, {"restart_marker_blocks": 4}])
def test_wherever_a_jpeg_is_cut_and_closed_it_is_refused(options: dict[str, Any]) -> None:
    noise = np.random.default_rng(0).integers(-20, 20, (64, 64, 3))
    data = encode(Image.fromarray(np.clip(np.asarray(picture(1)) + noise, 0, 255).astype(np.uint8)), "JPEG", **options)
    begin = data.index(b"\xff\xda")
    for at in range(begin, len(data) - 20, 31):
        for tail in (b"", bytes(len(data) - at - 2), b"\x55" * (len(data) - at - 2)):
            with pytest.raises(UnreadableImage, match="damaged"):
                open_image(data[:at] + tail + b"\xff\xd9", max_pixels=10**6)
    for whole in (data + bytes(100), data[:-2] + bytes(8) + data[-2:], data + data):
        assert (decode(whole) == decode(data)).all()


def test_padding_before_the_end_mark_is_no_damage() -> None:
    for seed in range(30):  # their data end in every way, FF 00 among them
        own, restarts = picture(seed // 2, 8 + seed % 2 * 9), int(seed % 3 == 2)
        data = encode(own, "JPEG", progressive=seed % 4 < 2, quality=100, restart_marker_rows=restarts)
        some = b"" if restarts else b"SEFT" * 2  # with restart markers it may be data of a lost interval
        for padding in (b"\0", bytes(7), b"\xff" * 3, some):
            padded = data[:-2] + padding + data[-2:]
            assert (decode(padded) == decode(data)).all(), (seed, padding)
