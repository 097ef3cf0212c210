"""Attention as one operator of ONNX Runtime, in place of two matrix products with a softmax between them.

The operator works in blocks, so the (heads, tokens, tokens) weights of a layer are never in memory as a whole. The
exporter of torch does not know it, because it belongs to ONNX Runtime and not to the ONNX standard.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

DOMAIN = "com.microsoft"


def attention_as_one_operator() -> dict[Callable[..., Any], Callable[..., Any]]:
    """The `custom_translation_table` of torch.onnx.export. A network without attention gets the same graph as without it.

    Attention with a mask, with dropout or with groups of queries is translated as the exporter does it.
    """
    import torch
    from onnxscript import opset18
    from onnxscript.function_libs.torch_lib.ops.nn import aten_scaled_dot_product_attention

    op: Any = opset18
    fused = _operator()

    def attention(query: Any, key: Any, value: Any, *rest: Any, scale: float | None = None, **more: Any) -> Any:
        if rest or more or any(len(x.shape) != 4 for x in (query, key, value)):
            return aten_scaled_dot_product_attention(query, key, value, *rest, scale=scale, **more)
        heads = query.shape[1]

        def beside(x: Any) -> Any:  # (B, heads, tokens, C) -> (B, tokens, heads * C)
            return op.Reshape(op.Transpose(x, perm=[0, 2, 1, 3]), op.Constant(value_ints=[0, 0, -1]))

        given = {} if scale is None else {"scale": scale}
        together = fused(beside(query), beside(key), beside(value), num_heads=heads, **given)
        return op.Transpose(op.Reshape(together, op.Constant(value_ints=[0, 0, heads, -1])), perm=[0, 2, 1, 3])

    return {torch.ops.aten.scaled_dot_product_attention.default: attention}


def _operator() -> Any:
    """MultiHeadAttention with what is used of it: three inputs (B, tokens, heads * C), one output."""
    from onnx.defs import OpSchema
    from onnxscript.values import Op, Opset

    names = ("query", "key", "value")
    schema = OpSchema(
        "MultiHeadAttention",
        DOMAIN,
        1,
        inputs=[OpSchema.FormalParameter(name, "T") for name in names],
        outputs=[OpSchema.FormalParameter("output", "T")],
        type_constraints=[("T", ["tensor(float)"], "")],
        attributes=[
            OpSchema.Attribute("num_heads", OpSchema.AttrType.INT),
            OpSchema.Attribute("scale", OpSchema.AttrType.FLOAT, required=False),
        ],
    )
    return Op(Opset(DOMAIN, 1), schema.name, schema)
