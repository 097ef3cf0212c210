"""One small network of every family: what `ffdi cuts` lists is what extract, train and evaluate take."""

from __future__ import annotations

import pytest
from families import choice, families, walk

# CNNs, an MLP, attention of five kinds, a hybrid; maps, tokens, and maps that the network has channels last.
TEN = [
    *("timm:byobnet", "timm:convnext", "timm:eva", "timm:mambaout", "timm:maxxvit", "timm:mlp_mixer"),
    *("timm:swin_transformer", "timm:vision_transformer", "timm:vision_transformer_hybrid"),
    "torchvision:squeezenet",
]
# More than one tensor crosses between any two of their modules: only `cut: input` is left.
WHOLE = ("timm:crossvit",)


@pytest.mark.parametrize("family", TEN)
def test_ten_families(family: str) -> None:
    done = walk(choice(family), most=3)
    assert len(done.walked) == 3 and not done.refusal


@pytest.mark.long
@pytest.mark.parametrize("family", sorted(families()))
def test_every_family(family: str) -> None:
    """A family that a later version of timm or torchvision brings is walked as well: none passes uncounted."""
    done = walk(choice(family))
    assert not done.refusal
    assert ("input" in done.walked) == (family in WHOLE), f"{done.listed} cuts, walked {done.walked}"


def test_the_families_are_those_of_the_libraries() -> None:
    import timm
    from torchvision import models

    every = [name for names in families().values() for name in names]
    assert set(every) == {*timm.list_models(), *models.list_models(module=models)} and all(families().values())
