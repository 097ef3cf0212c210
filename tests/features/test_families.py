"""One small network of every family: what `ffdi cuts` lists is what extract, train and evaluate take."""

from __future__ import annotations

import pytest
from families import choice, families, walk

# A CNN, one channels last, a hybrid and three kinds of MLP and attention; all are small.
TEN = [
    *("timm:byobnet", "timm:convnext", "timm:eva", "timm:mambaout", "timm:maxxvit", "timm:mlp_mixer"),
    *("timm:swin_transformer", "timm:vision_transformer", "timm:vision_transformer_hybrid"),
    "torchvision:squeezenet",
]


@pytest.mark.parametrize("family", TEN)
def test_ten_families(family: str) -> None:
    done = walk(choice(family), most=3)
    assert len(done.walked) == 3 and not done.refusal


@pytest.mark.long
@pytest.mark.parametrize("family", sorted(families()))
def test_every_family(family: str) -> None:
    done = walk(choice(family))
    assert done.walked or done.refusal
