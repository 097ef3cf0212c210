"""A sheet that shows what was cropped: sources with the boxes of their faces, and their crops beside them."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from ffdi.errors import printable
from ffdi.faces.face import Box
from ffdi.intake.decoding.images import RGB
from ffdi.lettering import font, shortened

MOST = 24  # sources of a sheet: with 8 crops each, less than 2 MB
_MARGIN, _GAP, _PAD = 24, 16, 12  # around the sheet, between cards, within a card
_PICTURE = (340, 216)  # the most that a source takes
_CROP, _CROP_GAP, _CROP_ROWS = 104, 8, 2
_ROW, _TAG = 26, 18  # of text; of the number of a track
_PAPER, _SHEET, _INK, _SOFT, _LINE = (255, 255, 255), (241, 243, 246), (27, 34, 48), (84, 94, 112), (216, 220, 228)
_LABELS = {0: ("REAL", (24, 121, 78)), 1: ("FAKE", (190, 38, 45))}
# Of tracks, one after the other: apart for the colour-blind too (Okabe and Ito), and on skin.
_TRACKS = ((0, 114, 178), (230, 159, 0), (204, 121, 167), (86, 180, 233), (213, 94, 0), (0, 158, 115), (240, 228, 66))


@dataclass(frozen=True, eq=False)
class ContactEntry:
    """A source on the sheet: its path, its label (1 = fake), a frame of it with the boxes there, and crops.

    `boxes` and `crops` are pairs with their track. `note` is said below the path.
    """

    name: str
    label: int
    picture: RGB
    boxes: Sequence[tuple[int, Box]]
    crops: Sequence[tuple[int, RGB]]
    note: str = ""


def spread(labels: Sequence[int], most: int = MOST) -> list[int]:
    """The places of at most `most` sources, as many of each label as there are, evenly spread over each; in order."""
    labelled = [[place for place, label in enumerate(labels) if label == one] for one in (0, 1)]
    others = reversed([len(places) for places in labelled])
    shares = [max(most // 2, most - count) for count in others]  # what one label does not need is the other's
    return sorted(
        places[at] for places, share in zip(labelled, shares, strict=True) for at in _evenly(len(places), share)
    )


def _evenly(count: int, most: int) -> list[int]:
    """At most `most` of 0 to count - 1, from the first to the last."""
    if count <= most:
        return list(range(count))
    return [round(place * (count - 1) / max(most - 1, 1)) for place in range(most)]


def contact_sheet(title: str, entries: Iterable[ContactEntry], *, most_crops: int = 8) -> bytes:
    """The sheet as a JPEG; the same entries give the same bytes. They may be made one after the other.

    At most 8 crops of a source are shown, track by track. `most_crops`: how many one has at most; where they are few, as of
    photos, more sources stand side by side.
    """
    columns, across = (3, 2) if most_crops <= 2 * _CROP_ROWS else (2, 4)
    wide = _PICTURE[0] + 3 * _PAD + across * (_CROP + _CROP_GAP) - _CROP_GAP
    high = _PICTURE[1] + 2 * _PAD + 2 * _ROW
    cards = [_card(entry, (wide, high), across) for entry in entries]
    rows = -(-len(cards) // columns)
    head = _MARGIN + 44
    width = 2 * _MARGIN + columns * (wide + _GAP) - _GAP
    sheet = Image.new("RGB", (width, head + rows * (high + _GAP) + _MARGIN - _GAP * (rows > 0)), _SHEET)
    letters = font(22, bold=True)
    words = shortened(printable(title), letters, width - 2 * _MARGIN)
    ImageDraw.Draw(sheet).text((_MARGIN, _MARGIN - 4), words, _INK, letters)
    for place, card in enumerate(cards):
        row, column = divmod(place, columns)
        sheet.paste(card, (_MARGIN + column * (wide + _GAP), head + row * (high + _GAP)))
    buffer = io.BytesIO()
    sheet.save(buffer, "JPEG", quality=88, subsampling=0, optimize=True)
    return buffer.getvalue()


def _card(entry: ContactEntry, size: tuple[int, int], across: int) -> Image.Image:
    """A source with its boxes, and `across` crops in a row beside it; one or two of them are shown at twice the size."""
    card = Image.new("RGB", size, _PAPER)
    draw = ImageDraw.Draw(card)
    draw.rectangle((0, 0, size[0] - 1, size[1] - 1), outline=_LINE)
    _write_head(draw, entry, size[0])
    several = len({track for track, _ in (*entry.boxes, *entry.crops)}) > 1
    top, left = _PAD + 2 * _ROW, 2 * _PAD + _PICTURE[0]
    card.paste(_with_boxes(entry, several), (_PAD, top))
    shown = _shown(entry.crops, across * _CROP_ROWS)
    large = len(shown) <= across // 2
    side, across = (2 * _CROP + _CROP_GAP, across // 2) if large else (_CROP, across)
    for place, (track, crop) in enumerate(shown):
        row, column = divmod(place, across)
        at = (left + column * (side + _CROP_GAP), top + row * (side + _CROP_GAP))
        card.paste(Image.fromarray(crop).resize((side, side), Image.Resampling.LANCZOS), at)
        if several:
            draw.rectangle((*at, at[0] + side - 1, at[1] + side - 1), outline=_colour(track), width=3)
            _write_track(draw, at, track)
    return card


def _shown(crops: Sequence[tuple[int, RGB]], most: int) -> list[tuple[int, RGB]]:
    """At most so many, track by track: of each as many as of the others, or all it has; evenly spread over its time."""
    tracks = {
        track: [crop for crop in crops if crop[0] == track] for track in sorted({track for track, _ in crops})[:most]
    }
    shown: list[tuple[int, RGB]] = []
    for place, own in enumerate(sorted(tracks.values(), key=len)):
        shown += [own[at] for at in _evenly(len(own), (most - len(shown)) // (len(tracks) - place))]
    return sorted(shown, key=lambda crop: crop[0])


def _write_head(draw: ImageDraw.ImageDraw, entry: ContactEntry, width: int) -> None:
    """Label and path, and what is said of them."""
    word, colour = _LABELS[entry.label]
    small, letters, pill = font(13), font(15), font(12, bold=True)
    left = _PAD + round(pill.getlength(word)) + 14
    draw.rounded_rectangle((_PAD, _PAD, left, _PAD + 20), 4, fill=colour)
    draw.text((_PAD + 7, _PAD + 10), word, _PAPER, pill, anchor="lm")
    left += 10
    name = shortened(printable(entry.name), letters, width - _PAD - left)
    draw.text((left, _PAD + 10), name, _INK, letters, anchor="lm")
    note = shortened(printable(entry.note), small, width - 2 * _PAD)
    draw.text((_PAD, _PAD + _ROW + 9), note, _SOFT, small, anchor="lm")


def _with_boxes(entry: ContactEntry, numbered: bool) -> Image.Image:
    height, width, _ = entry.picture.shape
    scale = min(_PICTURE[0] / width, _PICTURE[1] / height)
    size = max(1, round(width * scale)), max(1, round(height * scale))
    picture = Image.new("RGB", _PICTURE, _SHEET)
    x, y = (_PICTURE[0] - size[0]) // 2, (_PICTURE[1] - size[1]) // 2
    picture.paste(Image.fromarray(entry.picture).resize(size, Image.Resampling.LANCZOS), (x, y))
    draw = ImageDraw.Draw(picture)
    for track, box in entry.boxes:
        left, top = round(x + scale * box.left), round(y + scale * box.top)
        right, bottom = (max(left + 3, round(x + scale * box.right)), max(top + 3, round(y + scale * box.bottom)))
        draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=_PAPER, width=4)
        draw.rectangle((left, top, right, bottom), outline=_colour(track), width=2)
        if numbered:  # above the box, where there is room
            above = top - _TAG if top >= _TAG else top
            _write_track(draw, (min(max(left, 0), _PICTURE[0] - _TAG), min(max(above, 0), _PICTURE[1] - _TAG)), track)
    return picture


def _write_track(draw: ImageDraw.ImageDraw, at: tuple[int, int], track: int) -> None:
    letters = font(12, bold=True)
    draw.rectangle((*at, at[0] + round(letters.getlength(str(track))) + 10, at[1] + _TAG), fill=_colour(track))
    red, green, blue = _colour(track)
    ink = _PAPER if 0.299 * red + 0.587 * green + 0.114 * blue < 150 else _INK
    draw.text((at[0] + 5, at[1] + _TAG // 2), str(track), ink, letters, anchor="lm")


def _colour(track: int) -> tuple[int, int, int]:
    return _TRACKS[track % len(_TRACKS)]
