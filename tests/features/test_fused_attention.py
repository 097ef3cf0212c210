"""Attention is exported as one operator of ONNX Runtime; what has no attention is exported as ever."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import timm
import torch
from torch import Tensor, nn
from torch.nn import functional

from ffdi.features.backbone import Backbone
from ffdi.features.extractor import load_extractor
from ffdi.features.fused_attention import DOMAIN, attention_as_one_operator
from ffdi.features.runtimes import cached_graph
from ffdi.features.weights import fetch_weights


class Attention(nn.Module):
    """Two heads of 8, from 5 queries to 9 keys; the values are wider than the keys."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.options = options

    def forward(self, x: Tensor) -> Tensor:
        key, value = x[..., :8], x
        return functional.scaled_dot_product_attention(key[:, :, :5] * 2, key, value, **self.options)


def exported(module: nn.Module, x: Tensor, fused: bool) -> onnx.ModelProto:
    table = attention_as_one_operator() if fused else None
    program = torch.onnx.export(module.eval(), (x,), dynamo=True, verbose=False, custom_translation_table=table)
    assert program is not None
    return program.model_proto


def operators(model: onnx.ModelProto) -> Counter[str]:
    return Counter(node.op_type for node in model.graph.node)


def computed(model: onnx.ModelProto, x: Tensor) -> Any:
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x.numpy()})[0]


@pytest.mark.parametrize(
    ("options", "one"),
    [({}, 1), ({"scale": 0.3}, 1), ({"attn_mask": torch.randn(5, 9)}, 0)],
    ids=["plain", "scale", "mask"],
)
def test_attention_without_a_mask_is_one_operator_of_the_same_result(options: dict[str, Any], one: int) -> None:
    x = torch.randn(3, 2, 9, 12, generator=torch.Generator().manual_seed(0))
    module = Attention(**options)
    model = exported(module, x, fused=True)
    assert operators(model)["MultiHeadAttention"] == one and operators(model)["Softmax"] == 1 - one
    np.testing.assert_allclose(computed(model, x), module(x).numpy(), rtol=1e-4, atol=1e-5)


def test_a_network_without_attention_keeps_the_bytes_of_its_graph() -> None:
    torch.manual_seed(0)
    x, network = torch.randn(1, 3, 64, 64), timm.create_model("test_resnet", num_classes=0)
    graphs = [exported(network, x, fused).SerializeToString() for fused in (False, True)]
    assert graphs[0] == graphs[1]


def test_a_prefix_of_a_vit_has_one_operator_for_each_block(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setenv("FFDI_CACHE", str(tmp_path / "cache"))
    weights = tmp_path / "w.safetensors"
    fetch_weights("timm:vit_tiny_patch16_224", "random", weights, base=tmp_path)
    backbone = Backbone("vit", "timm:vit_tiny_patch16_224", "random", "blocks.2")
    extractor = load_extractor(backbone, weights)
    images = np.random.default_rng(0).integers(0, 256, (2, 224, 224, 3), np.uint8)
    fast = extractor.open().run(images)
    graph = cached_graph(backbone, extractor.spec.weights_sha256)
    assert graph is not None
    model = onnx.load(graph.file)
    assert operators(model)["MultiHeadAttention"] == 2 and not operators(model)["Softmax"]
    assert {o.domain for o in model.opset_import} == {"", DOMAIN}
    assert extractor.module is not None
    with torch.inference_mode():
        eager = extractor.module(torch.from_numpy(images)).numpy()
    assert np.linalg.norm(fast - eager) < 1e-5 * np.linalg.norm(eager)
