"""Maps are channels-last in memory where the network's code can have them so; nothing fails because of it."""

from __future__ import annotations

import pytest
import torch
from conftest import tiny_backbone
from torch import Tensor, nn

from ffdi.errors import NetworkError, ParamsError
from ffdi.tails.heads import TailFactory
from ffdi.tails.recipe import Head

SHAPE = (4, 2, 3)


class ViewsItsMap(nn.Module):
    """As the code of many networks, it takes the memory of a map for granted."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(len(x), -1)


class KernelOfRankFive(nn.Module):
    """As Lambda-ResNet's layer, which torch's `to(memory_format=...)` refuses to lay out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv3d(1, 4, (1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x[:, None]).sum(2)  # type: ignore[no-any-return]


class GivesAPair(nn.Module):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return x, x


def factory(*beyond: nn.Module, shape: tuple[int, ...] = SHAPE) -> TailFactory:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1), *beyond)
    return TailFactory(network.eval(), tiny_backbone(cut="1"), Head("linear"), shape)


@pytest.mark.parametrize(
    ("beyond", "width", "channels_last"),
    [(nn.ReLU(), 24, True), (KernelOfRankFive(), 24, True), (ViewsItsMap(), 24, False)],
)
def test_every_tail_trains_in_the_layout_that_its_code_can_have(
    beyond: nn.Module, width: int, channels_last: bool
) -> None:
    made = factory(beyond)
    tail = made.fresh(0)
    assert (made.width, tail.channels_last) == (width, channels_last)
    kernel = tail.body.network.get_submodule("1").weight
    assert kernel.is_contiguous() or channels_last
    tail.train()(torch.randn(5, *SHAPE)).sum().backward()
    assert all(parameter.grad is not None for parameter in tail.parameters())


def test_a_network_that_fails_or_gives_no_tensor_is_refused_in_one_line() -> None:
    place = "backbones.tiny: torchvision:mobilenet_v2 cut at 1, 64 pixels: the network"
    with pytest.raises(NetworkError) as error:
        factory(shape=(5, 2, 3))
    assert str(error.value).startswith(f"{place} from the cut on refuses features (5, 2, 3): Given groups=1")
    assert str(error.value).endswith(": try another cut or image_size") and "\n" not in str(error.value)
    with pytest.raises(ParamsError, match=r"^backbones\.tiny: torchvision:mobilenet_v2: .*size 64: .*refuses it: "):
        factory(nn.Linear(7, 7))
    with pytest.raises(NetworkError, match=r"cut at input, .*: the network gives tuple, not a tensor: take another"):
        TailFactory(GivesAPair(), tiny_backbone(cut="input"), Head("linear"), (3, 8, 8))
