"""Weights under the names of the repositories that published them are those of the network, where timm knows them."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ffdi.errors import WeightsError
from ffdi.features.backbone import Backbone
from ffdi.features.networks import headless_network
from ffdi.features.weights import fetch_backbone_weights, load_network

State = dict[str, Tensor]
SMALL = {"depth": 1, "embed_dim": 64, "num_heads": 2}
CLIP = [("^cls_token$", "class_embedding"), ("^pos_embed$", "positional_embedding"), (r"^patch_embed\.proj", "conv1")]
CLIP += [("^norm_pre", "ln_pre"), ("^norm", "ln_post"), (r"\.norm", ".ln_"), (r"attn\.qkv\.", "attn.in_proj_")]
CLIP += [(r"attn\.proj", "attn.out_proj"), ("fc1", "c_fc"), ("fc2", "c_proj"), ("^blocks", "transformer.resblocks")]
FACEBOOK = [(r"^stem\.", "downsample_layers.0."), (r"stages\.(\d)\.downsample", r"downsample_layers.\1")]
FACEBOOK += [(r"\.blocks\.", "."), ("conv_dw", "dwconv"), (r"mlp\.fc", "pwconv"), (r"^head\.norm", "norm")]


def renamed(state: State, names: list[tuple[str, str]], prefix: str = "") -> State:
    """A state under other names: the patterns are replaced in their order."""
    found = {}
    for key, tensor in state.items():
        name = key
        for pattern, by in names:
            name = re.sub(pattern, by, name)
        found[prefix + name] = tensor
    return found


def clip(state: State) -> State:
    """OpenAI's CLIP: the image tower beside the text tower, without batch axes."""
    state |= {key: state[key][0] for key in ("pos_embed",)} | {"cls_token": state["cls_token"][0, 0]}
    text = {"token_embedding.weight": torch.zeros(3, 4), "transformer.resblocks.0.ln_1.bias": torch.zeros(4)}
    return renamed(state, CLIP, "visual.") | {"visual.proj": torch.zeros(64, 512)} | text


def perception_encoder(state: State) -> State:
    """Meta's Perception Encoder: as CLIP, with the pooling by a probe and the scale of layers."""
    pool = {key: state.pop(key) for key in list(state) if key.startswith("attn_pool.")}
    joined = {
        f"visual.attn_pool.attn.in_proj_{part}": torch.cat([pool.pop(f"attn_pool.{n}.{part}") for n in ("q", "kv")])
        for part in ("weight", "bias")
    }
    names = [(r"\.latent", ".probe"), (r"\.norm", ".layernorm"), (r"attn_pool\.proj", "attn_pool.attn.out_proj")]
    names += [("fc1", "c_fc"), ("fc2", "c_proj")]
    state = {key: tensor for key, tensor in state.items() if "rope" not in key}
    state |= {"pos_embed": state["pos_embed"][0], "cls_token": state["cls_token"][0, 0]}
    return renamed(state, CLIP, "visual.") | renamed(pool, names, "visual.") | joined


def dinov2(state: State) -> State:
    """DINOv2 with registers: the class token has a position of its own."""
    position = torch.zeros(1, 1, 64)
    state["pos_embed"] = torch.cat([position, state["pos_embed"]], dim=1)
    return renamed(state, [("^reg_token", "register_tokens")]) | {"mask_token": torch.zeros(1, 64)}


def dinov3(state: State) -> State:
    names = [("^reg_token", "storage_tokens"), ("gamma_([12])", r"ls\1.gamma")]
    unused = {"mask_token": torch.zeros(1, 64), "rope_embed.periods": torch.zeros(8)}
    biases = {"blocks.0.attn.qkv.bias": torch.zeros(192), "blocks.0.attn.qkv.bias_mask": torch.zeros(192)}
    return renamed(state, names) | unused | biases


def eva02(state: State) -> State:
    names = [(r"mlp\.norm", "mlp.ffn_ln"), (r"attn\.norm", "attn.inner_attn_ln"), ("fc1_g", "w1"), ("fc1_x", "w2")]
    names += [("fc2", "w3"), (r"q_proj\.bias", "q_bias"), (r"v_proj\.bias", "v_bias")]
    return renamed(state, names) | {"rope.freqs_cos": torch.zeros(4)}


def convnext(state: State) -> State:
    state = renamed(state, FACEBOOK)
    return {key: v.flatten(1) if "pwconv" in key and v.ndim == 4 else v for key, v in state.items()}


def siglip(state: State) -> State:
    """Of OpenCLIP: timm's own image tower in a larger model."""
    return renamed(state, [], "visual.trunk.") | {"logit_scale": torch.zeros(()), "text.ln_final.bias": torch.zeros(4)}


def swin(state: State) -> State:
    """Microsoft's: a stage ends with the downsampling that timm's next stage begins with; masks are stored."""

    def before(found: re.Match[str]) -> str:
        return f"layers.{int(found[1]) - 1}.downsample"

    moved = {re.sub(r"^layers\.(\d)\.downsample", before, key): tensor for key, tensor in state.items()}
    return moved | {"layers.0.blocks.1.attn_mask": torch.zeros(1, 4, 4), "head.weight": torch.zeros(9, 768)}


def densenet(state: State) -> State:
    return renamed(state, [(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2")])


def wrapped(state: State) -> State:
    """By data parallelism, with a classifier of one's own."""
    return renamed(state | {"fc.weight": torch.zeros(2, 512), "fc.bias": torch.zeros(2)}, [], "module.")


CASES: dict[str, tuple[str, dict[str, Any], Callable[[State], State]]] = {
    "clip": ("timm:vit_base_patch16_clip_quickgelu_224", SMALL, clip),
    "perception encoder": ("timm:vit_pe_core_tiny_patch16_384", SMALL, perception_encoder),
    "dinov2": ("timm:vit_small_patch14_reg4_dinov2", SMALL, dinov2),
    "dinov3": ("timm:vit_small_patch16_dinov3", SMALL, dinov3),
    "eva02": ("timm:eva02_tiny_patch14_224", SMALL, eva02),
    "convnext": ("timm:convnext_atto", {"depths": [1, 1, 1, 1]}, convnext),
    "siglip": ("timm:vit_base_patch16_siglip_224", SMALL, siglip),
    "swin": ("timm:swin_tiny_patch4_window7_224", {"depths": [1, 1, 2, 1]}, swin),
    "densenet": ("torchvision:densenet121", {}, densenet),
    "wrapped": ("torchvision:resnet18", {}, wrapped),
}


def drawn(network: str, args: dict[str, Any]) -> State:
    """Weights of a network, all of them random: nothing is zero or one by initialisation."""
    model = headless_network(network, args).eval()
    with torch.no_grad():
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.copy_(torch.rand(tensor.shape, generator=torch.Generator().manual_seed(tensor.numel())) / 8)
    return {k: v.clone() for k, v in model.state_dict().items() if not k.endswith("num_batches_tracked")}


def fetched(network: str, args: dict[str, Any], state: State, folder: Path) -> nn.Module:
    save_file({k: v.contiguous().clone() for k, v in state.items()}, folder / "published.safetensors")
    backbone = Backbone("b", network, "file:published.safetensors", "input", network_args=args)
    fetch_backbone_weights(backbone, folder / "w.safetensors", base=folder)
    return load_network(network, folder / "w.safetensors", args)[0]


@pytest.mark.parametrize("name", CASES)
def test_published_names_give_the_network(name: str, tmp_path: Path) -> None:
    network, args, published = CASES[name]
    state = drawn(network, args)
    given = published(dict(state))
    assert given.keys() != state.keys()
    loaded = fetched(network, args, given, tmp_path).state_dict()
    for key, tensor in state.items():
        assert torch.equal(loaded[key], tensor), key


@pytest.mark.parametrize("name", ["clip", "perception encoder", "dinov2"])
def test_position_embeddings_are_resized_to_the_size_of_the_arguments(name: str, tmp_path: Path) -> None:
    network, args, published = CASES[name]
    state = drawn(network, {**args, "img_size": 56 if name == "dinov2" else 64})
    larger = {**args, "img_size": 84 if name == "dinov2" else 96}
    loaded = fetched(network, larger, published(dict(state)), tmp_path).state_dict()
    before, after = state["pos_embed"], loaded["pos_embed"]
    assert after.shape[1] - before.shape[1] == 36 - 16  # patches of the two grids
    assert before.mean() == pytest.approx(after.mean().item(), abs=0.01)  # an interpolation, no new draw
    assert torch.equal(state["patch_embed.proj.weight"], loaded["patch_embed.proj.weight"])


def test_weights_of_another_architecture_are_refused_by_the_nearest_naming(tmp_path: Path) -> None:
    """Not by the first key of the text tower, which every naming but one has too many."""
    network, args, published = CASES["clip"]
    state = drawn(network, args)
    given = published(dict(state))
    del given["visual.transformer.resblocks.0.mlp.c_fc.bias"]
    with pytest.raises(WeightsError, match=r"first missing key 'blocks\.0\.mlp\.fc1\.bias'"):
        fetched(network, args, given, tmp_path)
    assert not (tmp_path / "w.safetensors").exists()
