"""What an ONNX file says of itself: all that its user needs to make the square and to read the score."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import version
from typing import Any

from ffdi.deploy.licences import weights_licences
from ffdi.deploy.onnx.scoring_graph import square_made
from ffdi.faces.recorded import RecordedCrops
from ffdi.intake.decoding.images import DECODE_POLICY
from ffdi.tails.ensemble import joined_names
from ffdi.tails.model import Model
from ffdi.tails.recipe import REFIT

NOT_STATED = "not stated"


def onnx_facts(model: Model, name: str, *, folds: list[int], licence: str | None) -> dict[str, str]:
    """The metadata of a model's graph, text by key: JSON where it is no text."""
    record, policy, provenance = model.record, model.policy, model.record["provenance"]
    pixels, backbones = model.parts[0].backbone.pixels, [part.backbone for part in model.parts]
    how = pixels.resize
    licences = weights_licences(part.record for part in model.parts)
    facts: dict[str, Any] = {
        "model": name,
        "facts_sha256": record["facts_sha256"],
        "ffdi": version("ffdi"),
        "classes": ["real", "fake"],
        "positive": "fake",
        "output.score": "calibrated P(fake), (N,): a real image is 0, a fake one 1",
        "output.by_fold": "that of the tails of each fold alone, (N, K): their standard deviation is the spread",
        "folds": ["refit" if fold == REFIT else fold for fold in folds],
        "threshold": policy.threshold,
        "policy": dict(policy.facts) or {"rule": "youden"},
        **({"abstain_low": policy.low, "abstain_high": policy.high} if policy.abstains else {}),
        "temperature": model.temperature,
        "input.images": f"RGB uint8, (N, {pixels.size}, {pixels.size}, 3), not normalised",
        "image_size": pixels.size,
        "resize": {"mode": how.mode, "kernel": how.kernel, "crop": how.crop, "fill": pixels.fill},
        "square": f"decoded {DECODE_POLICY}, made a square {square_made(model.parts[0])}",
        **_crops(model),
        "network": joined_names(backbone.network for backbone in backbones),
        "cut": joined_names(backbone.cut_name for backbone in backbones),
        "data": provenance["data"],
        "images_seen": len(model.seen),
        "pretrained": provenance["pretrained"],
        "weights_licences": {source: stated or NOT_STATED for source, stated in licences.items()},
        "licence": licence or NOT_STATED,
    }
    return as_text(facts)


def _crops(model: Model) -> dict[str, Any]:
    """How the images of the training were cropped; nothing of whole images."""
    record = model.parts[0].record["provenance"].get("crops")
    return (
        {"crops": record, "input.crops": f"the graph finds no faces: {RecordedCrops.of(record).words}"}
        if record
        else {}
    )


def as_text(facts: Mapping[str, Any]) -> dict[str, str]:
    """Text stays; every other value is JSON, so that a float keeps every digit."""
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in facts.items()}
