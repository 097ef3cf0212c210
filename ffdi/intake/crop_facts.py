"""How the images of a data set were cropped from raw photos and videos, as stage faces says it beside them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ffdi.console import Console
from ffdi.intake.decoding.image_source import ImageSource
from ffdi.intake.listing.crop_sets import FACTS, KIND

_PLAYS_NO_PART = ("detector", "frames", "faces")  # of a crop: the detector is known by its sha256


def crop_facts(source: ImageSource, console: Console = Console()) -> Mapping[str, Any]:
    """`{"settings": ..., "detector": {"name", "sha256"}}` of faces.json, what a model that is trained on these images crops
    raw photos and videos by; `{}` for whole images.

    Of several sets it is the record of the first one, where all were cropped alike. Where they were not, `{}`: that is
    said, for such a model cannot know which of them a raw photo is like.
    """
    if not isinstance(source.root, tuple):
        return _facts(source)
    found = {name: _facts(one) for name, one in source.root}
    kinds = [_kind(facts) for facts in found.values()]
    if all(kind == kinds[0] for kind in kinds):
        return next(iter(found.values()))
    said = ", ".join(f"{name}: {_words(facts)}" for name, facts in found.items())
    console.warn(f"WARNING: the sets are not cropped alike ({said}): a model of them will score raw photos as they are")
    return {}


def _facts(source: ImageSource) -> Mapping[str, Any]:
    """Those of one set; a file of this name that is of something else tells nothing."""
    if not source.exists(FACTS):
        return {}
    try:
        record = json.loads(source.read(FACTS))
        if record["kind"] == KIND:
            return {"settings": dict(record["crops"]), "detector": dict(record["detector"])}
    except (ValueError, KeyError, TypeError):
        pass
    return {}


def _kind(facts: Mapping[str, Any]) -> Any:
    """What decides the pixels of a crop."""
    if not facts:
        return None
    return {k: v for k, v in facts["settings"].items() if k not in _PLAYS_NO_PART} | {
        "": facts["detector"].get("sha256")
    }


def _words(facts: Mapping[str, Any]) -> str:
    if not facts:
        return "whole images"
    settings = facts["settings"]
    return f"faces of {settings.get('size')} pixels by {facts['detector'].get('name')}, margin {settings.get('margin')}"
