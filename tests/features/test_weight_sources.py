"""What the hub refuses is said on one line with the remedy; a pinned file, a network's arguments and a size of its own hold."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from huggingface_hub import errors as hub
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from ffdi.errors import ParamsError, WeightsError
from ffdi.features import random_weights
from ffdi.features.backbone import Backbone
from ffdi.features.feature_spec import read_header, read_provenance
from ffdi.features.networks import build_network
from ffdi.features.weights import fetch_backbone_weights, load_network
from ffdi.files import sha256_file

VIT, RESNET = "timm:test_vit", "timm:test_resnet"
SMALL = {"img_size": 32, "depth": 1}


def backbone(network: str = VIT, weights: str = "random", **changes: Any) -> Backbone:
    return Backbone("b", network, weights, "input", **changes)


def answer(error: type[hub.HfHubHTTPError], status: int) -> hub.HfHubHTTPError:
    """An error of the hub's library as it raises it for an answer with this status."""
    made = error.__new__(error)
    Exception.__init__(made, f"{status} Client Error.\n\nAccess is refused.")
    made.response = type("Response", (), {"status_code": status})()  # type: ignore[assignment]
    return made


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (
            answer(hub.GatedRepoError, 403),
            r"are gated: accept their licence at https://huggingface\.co/timm/test_vit\.r160",
        ),
        (answer(hub.RepositoryNotFoundError, 404), r"the hub shows no https://huggingface\.co/timm/.*HF_TOKEN"),
        (answer(hub.HfHubHTTPError, 401), "the hub refuses HF_TOKEN, or the token may not read https://"),
        (answer(hub.HfHubHTTPError, 503), r"cannot be had \(HfHubHTTPError: 503 Client Error\. Access is refused\.\)"),
        (
            hub.LocalEntryNotFoundError("cannot find\nthe files"),
            r"cannot be had \(LocalEntryNotFoundError: cannot find the",
        ),
        (hub.OfflineModeIsEnabled("offline"), r"cannot be had \(OfflineModeIsEnabled: offline\)"),
        (
            RuntimeError("Error(s) in loading state_dict for X:\n\tsize mismatch"),
            "do not fit timm:test_vit with network_args",
        ),
    ],
    ids=["gated", "unknown", "token", "broken", "no internet", "offline", "unfit"],
)
def test_an_answer_of_the_hub_is_one_line_with_its_remedy(
    error: Exception, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real = timm.create_model

    def create(name: str, pretrained: bool = False, **args: Any) -> nn.Module:
        if pretrained:
            raise error
        return real(name, **args)

    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(WeightsError, match=rf"^backbones\.b: weights timm:r160_in1k.*{says}") as caught:
        fetch_backbone_weights(
            backbone(weights="timm:r160_in1k", network_args={"depth": 1}), tmp_path / "w", base=tmp_path
        )
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_tag_is_answered_with_those_of_the_network(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"weights timm:openai: test_vit has r160_in1k$"):
        fetch_backbone_weights(backbone(weights="timm:openai"), tmp_path / "w", base=tmp_path)
    with pytest.raises(WeightsError, match=r"resnet18d has ra2_in1k, ra4_e3600_r224_in1k$"):
        fetch_backbone_weights(backbone("timm:resnet18d", "timm:openai"), tmp_path / "w", base=tmp_path)


def test_a_tag_is_fetched_with_the_arguments_of_the_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And its classifier may have another number of classes, or be missing."""
    real, asked = timm.create_model, []

    def create(name: str, pretrained: bool = False, **args: Any) -> nn.Module:
        asked.append((name, pretrained, args))
        return real(name, num_classes=7 if pretrained else 1000, **args)

    monkeypatch.setattr(timm, "create_model", create)
    b = backbone(weights="timm:r160_in1k", network_args=SMALL)
    fetch_backbone_weights(b, tmp_path / "w", base=tmp_path)
    assert ("test_vit.r160_in1k", True, SMALL) in asked
    network, provenance, _ = load_network(VIT, tmp_path / "w", SMALL)
    assert provenance.pretrained and network(torch.zeros(1, 3, 32, 32)).shape == (1, 64)


@pytest.mark.parametrize(
    ("model", "args", "warns"),
    [("clip_224", {}, True), ("clip_quickgelu_224", {}, False), ("clip_224", {"act_layer": "quick_gelu"}, False)],
)
def test_another_activation_than_that_of_the_weights_is_a_warning(
    model: str, args: dict[str, Any], warns: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    real, tiny = timm.create_model, {"depth": 1, "embed_dim": 8, "num_heads": 2, **args}
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **k: real(name, **k))
    b = backbone(f"timm:vit_base_patch16_{model}", "timm:openai", network_args=tiny)
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        fetch_backbone_weights(b, tmp_path / "w", base=tmp_path)
    found = [str(one.message) for one in said if "GELU" in str(one.message)]
    assert [one.endswith("those of timm:vit_base_patch16_clip_quickgelu_224") for one in found] == [True] * warns


def test_the_arguments_of_the_network_stand_in_the_header_and_must_be_those_of_params(tmp_path: Path) -> None:
    fetch_backbone_weights(backbone(network_args=SMALL), tmp_path / "w", base=tmp_path)
    assert read_header(tmp_path / "w")["network_args"] == SMALL
    assert read_provenance(tmp_path / "w", VIT, SMALL).network == VIT
    with pytest.raises(WeightsError, match=r"with network_args {.*}, not {'img_size': 64}: run the weights stage"):
        load_network(VIT, tmp_path / "w", {"img_size": 64})
    with pytest.raises(WeightsError, match=r"with network_args {.*}, not {}"):
        read_provenance(tmp_path / "w", VIT)
    fetch_backbone_weights(backbone(), tmp_path / "plain", base=tmp_path)
    with safe_open(tmp_path / "plain", framework="pt") as file:
        assert list(json.loads(file.metadata()["ffdi"])) == ["network", "pretrained", "source"]


def test_a_wrong_argument_names_the_backbone(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"^backbones\.b: network_args: dept: timm:test_vit takes no such argument"):
        fetch_backbone_weights(backbone(network_args={"dept": 1}), tmp_path / "w", base=tmp_path)


def test_a_pinned_file_must_be_the_one(tmp_path: Path) -> None:
    """Of `file:` it is the file that is read; of other sources, the file that is written."""
    own = tmp_path / "own.safetensors"
    save_file(build_network(VIT).state_dict(), own)
    made: Callable[..., Any] = lambda **pin: fetch_backbone_weights(  # noqa: E731
        backbone(weights="file:own.safetensors", **pin), tmp_path / "w", base=tmp_path
    )
    made(weights_sha256=sha256_file(own))
    (tmp_path / "w").unlink()
    with pytest.raises(WeightsError, match=rf"sha256 {sha256_file(own)}, but weights_sha256 is {'0' * 64}"):
        made(weights_sha256="0" * 64)
    fetch_backbone_weights(backbone(), tmp_path / "random", base=tmp_path)
    digest = sha256_file(tmp_path / "random")
    fetch_backbone_weights(backbone(weights_sha256=digest), tmp_path / "again", base=tmp_path)
    assert sha256_file(tmp_path / "again") == digest
    with pytest.raises(WeightsError, match=f"weights random: sha256 {digest}, but"):
        fetch_backbone_weights(backbone(weights_sha256="0" * 64), tmp_path / "w", base=tmp_path)
    assert not (tmp_path / "w").exists()


class Fixed(nn.Module):
    """A network with BatchNorm that takes images of one size, and counts the batches that it has seen."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.size, self.norm, self.seen = size, nn.BatchNorm2d(3), []

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.norm(x)
        if x.shape[-1] != self.size:
            raise RuntimeError(f"of size {self.size},\nnot {x.shape[-1]}")
        self.seen.append(len(x))
        return x.mean((2, 3))


@pytest.mark.parametrize("size", [128, 96])
def test_random_weights_are_calibrated_at_a_size_that_the_network_takes(
    size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A size that was refused leaves no trace in the statistics."""
    network = Fixed(size)
    monkeypatch.setattr(random_weights, "build_network", lambda *_: network)
    state = random_weights.random_state(backbone(RESNET, image_size=96), seed=0)
    assert network.seen == [8] * 4 and state["norm.num_batches_tracked"] == 4
    assert 0.2 < state["norm.running_var"].mean() < 1


def test_a_network_that_runs_at_no_size_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(random_weights, "build_network", lambda *_: Fixed(32))
    with pytest.raises(
        WeightsError, match=r"^backbones\.b: weights random: .* 128, 96 \(of size 32, not 96\): set image"
    ):
        fetch_backbone_weights(backbone(RESNET, image_size=96), tmp_path / "w", base=tmp_path)


def test_a_large_network_is_calibrated_on_fewer_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """And one with many layers of BatchNorm on one thread: others would wait for it in every layer."""
    network = build_network(RESNET)
    assert random_weights.calibration_images(network, 128) == (4, 8)
    monkeypatch.setattr(random_weights, "LARGE", 0)
    flops = 5e11 / random_weights.flops_of(network, 128)
    assert random_weights.calibration_images(network, 128) == (4, 8) and flops > 32
    for most, due in ((20, (2, 8)), (5, (1, 5)), (0.5, (1, 2))):
        monkeypatch.setattr(random_weights, "MOST_FLOPS", most * random_weights.flops_of(network, 128) * 1.001)
        assert random_weights.calibration_images(network, 128) == due
    threads: list[int] = []
    network.register_forward_hook(lambda *_: threads.append(torch.get_num_threads()))
    monkeypatch.setattr(random_weights, "build_network", lambda *_: network)
    monkeypatch.setattr(random_weights, "MANY_NORMS", 1)
    before = torch.get_num_threads()
    random_weights.random_state(backbone(RESNET), seed=0)
    assert set(threads) == {1} and torch.get_num_threads() == before


def test_a_file_in_half_precision_is_loaded_in_single(tmp_path: Path) -> None:
    """CLIP is published so."""
    state = {key: tensor.half() for key, tensor in build_network(VIT).state_dict().items()}
    save_file(state, tmp_path / "own.safetensors")
    fetch_backbone_weights(backbone(weights="file:own.safetensors"), tmp_path / "w", base=tmp_path)
    assert load_file(tmp_path / "w")["pos_embed"].dtype == torch.float16
    assert load_network(VIT, tmp_path / "w")[0].pos_embed.dtype == torch.float32  # type: ignore[union-attr]
