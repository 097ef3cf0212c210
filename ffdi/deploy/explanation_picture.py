"""An explanation as one picture: the image, its heat map and its occlusion side by side, with what they say in words."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ffdi.deploy.explain import CANNOT_TELL, Explanation, heated
from ffdi.deploy.occlusion import Falls
from ffdi.errors import printable
from ffdi.evaluation.heated import enlarged
from ffdi.tails.policy import Policy

SIDE = 336  # pixels of a panel
HARDLY = 0.01  # a score that no part changes by so much
_MARGIN, _PAPER, _INK, _SOFT = 20, (255, 255, 255), (27, 34, 48), (84, 94, 112)
_RED, _BLUE = (214, 39, 40), (31, 100, 200)
_LINE = 54  # characters below a panel


def panels(explanation: Explanation) -> list[tuple[Image.Image, str]]:
    """The pictures that are shown side by side, of SIDE pixels, each with its caption."""
    picture = explanation.picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    size = f"{explanation.image.shape[1]} x {explanation.image.shape[0]}"
    of = f" by {explanation.member}" if explanation.member else ""
    shown = [(picture, f"The picture as it is seen{of}, {size} pixels.")]
    if explanation.heat is None:
        shown[0] = (picture, f"{shown[0][1]} No heat map: the network has no places where its score is made.")
    else:
        caption = f"What counted for {explanation.toward}{of}, the brighter the more. {explanation.method}."
        shown.append((heated(picture, explanation.heat), caption))
    if explanation.occlusion is not None:
        shown.append((occluded(picture, explanation.occlusion), _of_occlusion(explanation.occlusion)))
    return shown


def occluded(picture: Image.Image, falls: Falls) -> Image.Image:
    """The picture in grey, red where the score falls when a part is blurred, blue where it rises."""
    large = enlarged(falls / max(float(np.abs(falls).max()), 1e-12), picture.size).clip(-1, 1)[..., None]
    grey = np.asarray(picture.convert("L").convert("RGB"), np.float64)
    colour, share = np.where(large > 0, _RED, _BLUE), 0.75 * np.abs(large)
    return Image.fromarray((grey * (1 - share) + colour * share).astype(np.uint8))


def _of_occlusion(falls: Falls) -> str:
    fall, rise = max(float(falls.max()), 0.0), max(float(-falls.min()), 0.0)
    if max(fall, rise) < HARDLY:
        what = f"No part changes the score much when it alone is blurred: by {max(fall, rise):.1g} at most."
        return f"{what} Red: it falls. Blue: it rises."
    return f"Red: the score falls where this part is blurred, by {fall:.3f} at most. Blue: it rises, by {rise:.3f} at most."


def facts(explanation: Explanation) -> list[str]:
    """What is said of the judgement, a sentence each."""
    judgement = explanation.judgement
    assert judgement.score is not None
    said = [f"P(fake) {judgement.score:.3f}: {judgement.verdict}."]
    if judgement.spread is not None:
        said.append(f"The folds' tails differ by a standard deviation of {judgement.spread:.3f}.")
    if judgement.unlike:
        said.append("Unlike the training data: the score is worth less here.")
    return said


def rule_of(policy: Policy) -> str:
    """From which score on a picture counts as what."""
    if policy.low is not None and policy.high is not None:
        return f"Undecided from {policy.low:.3f} on, fake from {policy.high:.3f} on."
    return f"Fake from {policy.threshold:.3f} on."


def explanation_picture(explanation: Explanation, policy: Policy) -> Image.Image:
    """All of it, as one RGB picture."""
    shown = panels(explanation)
    title, small = _font(19, bold=True), _font(13)
    width = _MARGIN + len(shown) * (SIDE + _MARGIN)
    captions = [textwrap.wrap(caption, _LINE) for _, caption in shown]
    words = textwrap.wrap(" ".join([rule_of(policy), *facts(explanation)[1:], CANNOT_TELL]), width // 7)
    top = _MARGIN + 62
    below = top + SIDE + 8
    foot = below + 18 * max(map(len, captions)) + 10
    sheet = Image.new("RGB", (width, foot + 18 * len(words) + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    name = printable(explanation.judgement.path)
    draw.text((_MARGIN, _MARGIN - 2), _cut(name, width // 8), _SOFT, small)
    draw.text((_MARGIN, _MARGIN + 20), facts(explanation)[0], _INK, title)
    for place, ((panel, _), lines) in enumerate(zip(shown, captions, strict=True)):
        left = _MARGIN + place * (SIDE + _MARGIN)
        sheet.paste(panel, (left, top))
        _write(draw, (left, below), lines, small)
    _write(draw, (_MARGIN, foot), words, small)
    return sheet


def _write(draw: ImageDraw.ImageDraw, at: tuple[int, int], lines: Sequence[str], font: ImageFont.FreeTypeFont) -> None:
    for number, line in enumerate(lines):
        draw.text((at[0], at[1] + 18 * number), line, _SOFT, font)


def _cut(name: str, most: int) -> str:
    """A name that is too long loses its beginning."""
    return name if len(name) <= most else "..." + name[3 - most :]


@cache
def _font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """The font that matplotlib brings: it has more of the world's letters than Pillow's own."""
    import matplotlib

    file = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"DejaVuSans{'-Bold' if bold else ''}.ttf"
    return ImageFont.truetype(file, size)
