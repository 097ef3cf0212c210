"""An explanation as one picture: the image, its heat map and its occlusion side by side, with what they say in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from ffdi.deploy.explanation.explain import CANNOT_TELL, Explanation, heated
from ffdi.deploy.explanation.occlusion import Falls
from ffdi.errors import printable
from ffdi.evaluation.heated import enlarged
from ffdi.lettering import font
from ffdi.tails.policy import Policy

SIDE = 336  # pixels of a panel
HARDLY = 0.01  # a score that no part changes by so much
_MARGIN, _PAPER, _INK, _SOFT = 20, (255, 255, 255), (27, 34, 48), (84, 94, 112)
_RED, _BLUE = (214, 39, 40), (31, 100, 200)


def panels(explanation: Explanation) -> list[tuple[Image.Image, str]]:
    """The pictures that are shown side by side, of SIDE pixels, each with its caption."""
    picture = explanation.picture.resize((SIDE, SIDE), Image.Resampling.LANCZOS)
    size = f"{explanation.image.shape[1]} x {explanation.image.shape[0]}"
    of = f" by {explanation.member}" if explanation.member else ""
    shown = [(picture, f"The picture as it is seen{of}, {size} pixels.")]
    if explanation.heat is None:
        shown[0] = (picture, f"{shown[0][1]} No heat map: the network has no places where its score is made.")
    else:
        what = f"What counted for {explanation.toward}{of}, the brighter the more."
        if not explanation.heat.any():
            what = f"No place counted for {explanation.toward}{of}."
        caption = f"{what} {explanation.method}."
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
    title, small = font(19, bold=True), font(13)
    width = _MARGIN + len(shown) * (SIDE + _MARGIN)
    captions = [_wrapped(caption, small, SIDE) for _, caption in shown]
    words = _wrapped(" ".join([rule_of(policy), *facts(explanation)[1:], CANNOT_TELL]), small, width - 2 * _MARGIN)
    top = _MARGIN + 62
    below = top + SIDE + 8
    foot = below + 18 * max(map(len, captions)) + 10
    sheet = Image.new("RGB", (width, foot + 18 * len(words) + _MARGIN), _PAPER)
    draw = ImageDraw.Draw(sheet)
    name = printable(explanation.judgement.path)
    draw.text((_MARGIN, _MARGIN - 2), _wrapped(name[::-1], small, width - 2 * _MARGIN)[0][::-1], _SOFT, small)
    draw.text((_MARGIN, _MARGIN + 20), facts(explanation)[0], _INK, title)
    for place, ((panel, _), lines) in enumerate(zip(shown, captions, strict=True)):
        left = _MARGIN + place * (SIDE + _MARGIN)
        sheet.paste(panel, (left, top))
        _write(draw, (left, below), lines, small)
    _write(draw, (_MARGIN, foot), words, small)
    return sheet


def _write(
    draw: ImageDraw.ImageDraw, at: tuple[int, int], lines: Sequence[str], letters: ImageFont.FreeTypeFont
) -> None:
    for number, line in enumerate(lines):
        draw.text((at[0], at[1] + 18 * number), line, _SOFT, letters)


def _wrapped(text: str, letters: ImageFont.FreeTypeFont, width: int) -> list[str]:
    """Lines of at most `width` pixels; a word that is longer is broken."""
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if letters.getlength(longer) <= width:
            lines[-1] = longer
            continue
        lines += [] if not lines[-1] else [""]
        for character in word:
            if letters.getlength(lines[-1] + character) > width:
                lines.append("")
            lines[-1] += character
    return lines
