"""The trainable part: shapes, seeds, and no state shared between two tails."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import nn

from ffdi.errors import ParamsError
from ffdi.features.backbone import Backbone
from ffdi.features.cuts import cut_network
from ffdi.features.networks import headless_network
from ffdi.tails.heads import AttentiveHead, MeanPool, TailFactory, TransformerHead
from ffdi.tails.knn import KnnHead
from ffdi.tails.recipe import Head

NETWORK = "torchvision:resnet18"
SHAPE = (256, 2, 2)


def head(kind: str, **changes: object) -> Head:
    fields = {"hidden": (8, 4), "dropout": 0.1, "depth": 1, "heads": 2, "width": 16}
    return Head(kind=kind, **(fields | changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return headless_network(NETWORK).eval()


@pytest.fixture
def factory(network: nn.Module, backbone: Callable[..., Backbone]) -> Callable[..., TailFactory]:
    def make(kind: str = "mlp", cut: str = "layer4", **changes: object) -> TailFactory:
        shape = SHAPE if cut != "input" else (3, 32, 32)
        spec = backbone(network=NETWORK, cut=cut, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4))
        return TailFactory(network, spec, head(kind, **changes), shape)

    return make


@pytest.mark.parametrize("kind", ["linear", "mlp", "transformer", "attentive", "probe"])
@pytest.mark.parametrize(
    ("norm", "dtype"),
    [("none", torch.float16), ("none", torch.float32), ("l2", torch.float16), ("layer", torch.float16)],
)
def test_features_become_two_logits(
    kind: str, norm: str, dtype: torch.dtype, factory: Callable[..., TailFactory]
) -> None:
    logits = factory(kind, norm=norm).fresh(0)(torch.rand(3, *SHAPE).to(dtype))
    assert logits.shape == (3, 2) and logits.dtype == torch.float32


@pytest.mark.parametrize(
    ("kind", "hidden", "widths"),
    [("linear", (8,), [(512, 2)]), ("mlp", (8, 4), [(512, 8), (8, 4), (4, 2)]), ("mlp", (), [(512, 2)])],
)
def test_layers(
    kind: str, hidden: tuple[int, ...], widths: list[tuple[int, int]], factory: Callable[..., TailFactory]
) -> None:
    layers = [m for m in factory(kind, hidden=hidden).fresh(0).head.modules() if isinstance(m, nn.Linear)]
    assert [(m.in_features, m.out_features) for m in layers] == widths


def test_the_tail_is_the_networks_own_body_and_a_head(network: nn.Module, factory: Callable[..., TailFactory]) -> None:
    tail = factory("linear").fresh(0).eval()
    _, body = cut_network(network, "layer4", 64)
    x = torch.randn(2, *SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(tail(x), tail.head(body.eval()(x)))
    assert {k.split(".")[2] for k in tail.state_dict() if k.startswith("body.network")} == {"layer4"}


def test_cut_input_normalises_its_pixels(network: nn.Module, factory: Callable[..., TailFactory]) -> None:
    tail = factory("linear", cut="input").fresh(0).eval()
    pixels = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in ((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)))
    with torch.inference_mode():
        torch.testing.assert_close(tail(pixels), tail.head(tail.body((pixels / 255 - mean) / std)))
    assert not {"mean", "std"} & set(tail.state_dict())  # they come from the backbone, not from the weights


def test_a_seed_decides_the_head_whatever_was_drawn_before(factory: Callable[..., TailFactory]) -> None:
    made = factory("mlp")
    first = made.fresh(3).state_dict()
    before = torch.random.get_rng_state()
    second, other = made.fresh(3).state_dict(), made.fresh(4).state_dict()
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(torch.equal(first[k], second[k]) for k in first)
    assert not torch.equal(first["head.1.weight"], other["head.1.weight"])
    assert all(torch.equal(first[k], other[k]) for k in first if k.startswith("body."))


@pytest.mark.parametrize("kind", ["linear", "mlp", "transformer", "attentive", "probe"])
def test_tails_share_no_tensor(kind: str, network: nn.Module, factory: Callable[..., TailFactory]) -> None:
    made = factory(kind)
    states = [network.state_dict(), made.fresh(0).state_dict(), made.fresh(0).state_dict()]
    pointers = [{t.data_ptr() for t in state.values()} for state in states]
    assert not pointers[0] & pointers[1] and not pointers[0] & pointers[2] and not pointers[1] & pointers[2]


def test_the_transformer_reads_every_position_and_knows_its_place() -> None:
    torch.manual_seed(0)
    made = TransformerHead((6, 2, 3), head("transformer", width=8, dropout=0.5, drop_path=0.5)).eval()
    x = torch.randn(1, 6, 2, 3)
    with torch.inference_mode():
        logits = made(x)
        assert logits.shape == (1, 2)
        for at in range(6):
            changed = x.clone()
            changed.view(1, 6, 6)[:, 0, at] += 1
            assert not torch.allclose(made(changed), logits)
        assert not torch.allclose(made(x.flip(-1)), logits)  # without positions a flip would change nothing
        assert torch.equal(made(x), logits)  # dropout and drop path are off
        made.train()
        assert not torch.equal(made(x), made(x))


@pytest.mark.parametrize("kind", ["transformer", "attentive", "probe", "knn"])
def test_a_head_that_reads_the_features_replaces_the_body(kind: str, factory: Callable[..., TailFactory]) -> None:
    tail = factory(kind).fresh(0)
    assert not [k for k in tail.state_dict() if k.startswith("body.")]


@pytest.mark.parametrize("kind", ["transformer", "attentive"])
def test_a_norm_takes_the_place_of_the_first_layer_norm(kind: str, factory: Callable[..., TailFactory]) -> None:
    plain, normed = (factory(kind, norm=norm).fresh(0).eval() for norm in ("none", "l2"))
    assert set(plain.state_dict()) - set(normed.state_dict()) == {"head.scale.weight", "head.scale.bias"}
    x = torch.rand(2, *SHAPE)
    with torch.inference_mode():
        torch.testing.assert_close(normed(3 * x), normed(x))
        torch.testing.assert_close(normed(x), normed.head(normed.norm(x)))


def test_attention_of_one_query_by_hand() -> None:
    """One head of width 1 on two tokens: weights softmax([0, ln 3]) = 1/4, 3/4 of the values 4 and 8: 7."""
    made = AttentiveHead((2, 1), head("attentive", heads=1, width=1, norm="l2")).eval()
    made.norm, made.logits = nn.Identity(), nn.Identity()  # type: ignore[assignment]
    with torch.no_grad():
        made.query.fill_(1)
        made.keys_and_values.weight.copy_(torch.tensor([[1.0], [4 / math.log(3)]]))
        made.keys_and_values.bias.copy_(torch.tensor([0.0, 4.0]))
        assert made(torch.tensor([[[0.0], [math.log(3)]]])).item() == pytest.approx(7, abs=1e-5)


def test_an_attentive_head_reads_every_place_and_knows_no_order() -> None:
    torch.manual_seed(0)
    made = AttentiveHead((6, 2, 3), head("attentive", width=8)).eval()
    x = torch.randn(1, 6, 2, 3)
    with torch.inference_mode():
        logits = made(x)
        for at in range(6):
            changed = x.clone()
            changed.view(1, 6, 6)[:, :, at] *= -1
            assert not torch.allclose(made(changed), logits)
        torch.testing.assert_close(made(x.flip(-1)), logits)
        torch.testing.assert_close(made(x.flatten(2).transpose(1, 2)), logits)  # tokens are places


@pytest.mark.parametrize("shape", [(160, 7, 7), (197, 192), (192,)], ids=str)
@pytest.mark.parametrize("kind", ["probe", "knn"])
def test_heads_that_are_fitted_read_the_mean_over_places_or_tokens(
    kind: str, shape: tuple[int, ...], network: nn.Module, backbone: Callable[..., Backbone]
) -> None:
    tail = TailFactory(network, backbone(network=NETWORK, cut="layer4"), head(kind), shape).fresh(0)
    x = torch.randn(2, *shape)
    axes = {3: (2, 3), 2: (1,), 1: ()}[len(shape)]
    torch.testing.assert_close(tail.embed(x.half()), x.half().float().mean(axes) if axes else x.half().float())
    assert isinstance(tail.body, MeanPool)


def neighbours(distance: str = "cosine", **changes: object) -> KnnHead:
    made = KnnHead(2, head("knn", neighbours=3, temperature=0.5, distance=distance, **changes))
    bank = torch.tensor([[1.0, 0.0], [0.0, 2.0], [-3.0, 0.0], [0.0, -1.0]])
    made.remember(bank, torch.tensor([1, 0, 1, 0]), None)
    return made


def test_the_votes_of_neighbours_by_hand() -> None:
    """Cosines of (5, 0): 1, 0, -1, 0. The three nearest weigh e^2, 1, 1; half a mean vote is 1/6 of all."""
    fake = math.exp(2) / (math.exp(2) + 2)
    due = [math.log(1 - fake + 1 / 6), math.log(fake + 1 / 6)]
    assert neighbours()(torch.tensor([[5.0, 0.0]])).tolist()[0] == pytest.approx(due, abs=1e-6)


def test_nearest_by_the_mean_squared_difference_by_hand() -> None:
    """(1, 1) has squared distances 1, 2, 17, 5, over two channels: weights e^-1, e^-2, e^-5 at temperature .5."""
    weights = [math.exp(-1), math.exp(-2), math.exp(-5)]
    fake = weights[0] / sum(weights)
    due = [math.log(1 - fake + 1 / 6), math.log(fake + 1 / 6)]
    assert neighbours("euclidean")(torch.tensor([[1.0, 1.0]])).tolist()[0] == pytest.approx(due, abs=1e-5)


def test_a_class_votes_with_its_weight() -> None:
    plain, weighted = neighbours(), neighbours()
    weighted.weights = torch.tensor([3.0, 1.0])
    x = torch.tensor([[1.0, 0.5]])
    assert (weighted(x) - plain(x)).tolist()[0] == pytest.approx([math.log(3), 0], abs=1e-6)


def test_a_stored_bank_of_any_size_is_read() -> None:
    empty = KnnHead(2, head("knn", neighbours=3, temperature=0.5))
    empty.load_state_dict(neighbours().state_dict())
    x = torch.randn(4, 2)
    assert torch.equal(empty(x), neighbours()(x)) and torch.isfinite(empty(x)).all()


@pytest.mark.parametrize("kind", ["probe", "knn"])
def test_heads_that_are_fitted_refuse_images(kind: str, network: nn.Module, backbone: Callable[..., Backbone]) -> None:
    with pytest.raises(ParamsError, match=f"head {kind}: takes cached features; with `cut: input` there are images"):
        TailFactory(network, backbone(network=NETWORK, cut="input"), head(kind), (3, 32, 32))


@pytest.mark.parametrize("shape", [(160, 7, 7), (1024, 14, 14), (197, 192)], ids=str)
def test_a_transformer_takes_maps_and_tokens(
    shape: tuple[int, ...], network: nn.Module, backbone: Callable[..., Backbone]
) -> None:
    tail = TailFactory(network, backbone(network=NETWORK, cut="layer4"), head("transformer"), shape).fresh(0)
    positions = shape[0] if len(shape) == 2 else shape[1] * shape[2]
    assert dict(tail.head.named_parameters())["position"].shape == (1, positions + 1, 16)
    assert tail(torch.randn(2, *shape).half()).shape == (2, 2)


def test_drop_path_rises_to_its_rate() -> None:
    made = TransformerHead((6, 2, 3), head("transformer", depth=4, drop_path=0.4))
    rates = [module.drop_prob for module in made.modules() if type(module).__name__ == "DropPath"]
    assert rates == pytest.approx([0.1, 0.1, 0.2, 0.2, 0.3, 0.3, 0.4, 0.4])


def test_a_dropped_path_leaves_the_tokens_as_they_are() -> None:
    spec = head("transformer", depth=1, drop_path=0.5, dropout=0.0)
    torch.manual_seed(0)
    made = TransformerHead((6, 2, 3), spec).train()
    outcomes = {tuple(row.tolist()) for row in made(torch.ones(64, 6, 2, 3)).round(decimals=4)}
    assert 2 <= len(outcomes) <= 4  # either branch is there, twice as strong, or is not


@pytest.mark.parametrize("kind", ["transformer", "attentive"])
@pytest.mark.parametrize(
    ("cut", "shape", "changes", "says"),
    [
        ("layer4", (512,), {}, r"takes maps \(C, H, W\) or tokens \(L, C\), at this cut there are \(512,\)"),
        ("input", (3, 32, 32), {}, r"takes maps .*, at this cut there are images"),
        ("layer4", SHAPE, {"heads": 3}, r"width 16 is no multiple of heads 3"),
    ],
)
def test_attention_refuses_what_it_cannot_take(
    kind: str,
    cut: str,
    shape: tuple[int, ...],
    changes: dict[str, object],
    says: str,
    network: nn.Module,
    backbone: Callable[..., Backbone],
) -> None:
    spec = backbone(network=NETWORK, cut=cut)
    with pytest.raises(ParamsError, match=f"head {kind}: {says}"):
        TailFactory(network, spec, head(kind, **changes), shape)
