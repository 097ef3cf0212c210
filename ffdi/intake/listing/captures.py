"""Files of one capture: phones keep a live photo as a picture and a film of one name, IMG_1.HEIC and IMG_1.MOV."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable

from ffdi.intake.decoding.formats import VIDEO_SUFFIXES


def captures(paths: Iterable[str]) -> dict[str, str]:
    """The name of the capture of each path (without its suffix) for pictures and videos that share folder and name.

    They show the same moment, so they belong to one group. Case and Unicode normal form do not part them; two pictures, or
    two videos, of one name are no pair.
    """
    pairs: dict[str, list[str]] = {}
    for path in paths:
        pairs.setdefault(_key(path), []).append(path)
    both = (held for held in pairs.values() if len({path.lower().endswith(VIDEO_SUFFIXES) for path in held}) > 1)
    return {path: _stem(min(held)) for held in both for path in held}


def _stem(path: str) -> str:
    folder, slash, name = path.rpartition("/")
    return f"{folder}{slash}{name.rpartition('.')[0]}"


def _key(path: str) -> str:
    return unicodedata.normalize("NFC", _stem(path)).casefold()
