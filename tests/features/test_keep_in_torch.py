"""What is kept, as a function of tensors: the same as of arrays, with a gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from ffdi.features.keep import TokenGrid, keep_features, resolve_keep
from ffdi.features.keep_in_torch import keep_of_tensor

TOKENS = TokenGrid(2, 4, 6)
REGION = {"rows": [1, 3], "columns": [2, 5]}
OF_TOKENS = ("all", "cls", "mean", "cls+mean", "patches", REGION, {"grid": 3})


@pytest.mark.parametrize(
    ("kind", "written"),
    [*(("tokens", keep) for keep in OF_TOKENS), *(("map", keep) for keep in ("all", "mean", REGION, {"grid": 3}))],
)
def test_what_is_kept_of_a_tensor_is_what_is_kept_of_an_array(kind: str, written: Any) -> None:
    shape, tokens = ((3, 26, 5), TOKENS) if kind == "tokens" else ((3, 5, 4, 6), None)
    features = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    tensor = torch.from_numpy(features).requires_grad_()
    found = keep_of_tensor(tensor, resolve_keep(written), tokens)
    due = keep_features(features, resolve_keep(written), tokens)
    assert found.shape == due.shape
    np.testing.assert_allclose(found.detach().numpy(), due, atol=1e-6)
    (gradient,) = torch.autograd.grad(found.sum(), tensor)
    assert gradient.abs().sum() > 0
