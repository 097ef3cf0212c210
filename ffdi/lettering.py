"""The letters of pictures that say something, such as an explanation or a contact sheet."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from PIL import ImageFont


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that matplotlib brings: it has more of the world's letters than Pillow's own."""
    import matplotlib

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(file, size)


def shortened(text: str, letters: ImageFont.FreeTypeFont, width: float) -> str:
    """The text, with an ellipsis in place of its middle where it is wider than `width` pixels."""
    if letters.getlength(text) <= width:
        return text
    low, high = 0, len(text)  # characters that are kept
    while low < high:
        kept = (low + high + 1) // 2
        low, high = (kept, high) if letters.getlength(_without_middle(text, kept)) <= width else (low, kept - 1)
    return _without_middle(text, low)


def _without_middle(text: str, kept: int) -> str:
    return f"{text[: kept // 2]}…{text[len(text) - (kept - kept // 2) :]}"
