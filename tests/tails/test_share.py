"""A rank changes and mixes its share of a batch as one process does the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from ffdi.tails.augment import augmentation, mixing
from ffdi.tails.augment_operations import OPTIONS, resolve_augment
from ffdi.tails.share import Share

STRONG: dict[str, Any] = {"jitter": {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.3}}


def batch(count: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, 16, 16), dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize(("p", "count", "ranks"), [(0.5, 11, 3), (1.0, 11, 3), (0.7, 3, 2), (1.0, 2, 2)])
def test_a_sample_is_changed_alike_in_a_share(name: str, p: float, count: int, ranks: int) -> None:
    augment = augmentation(resolve_augment(({name: STRONG.get(name, {}) | {"p": p}}, "hflip")))
    torch.manual_seed(1)
    whole, after = augment(batch(count)), torch.random.get_rng_state()
    for rank in range(ranks):
        share = Share.of_rank(rank, ranks, count, before=True)
        torch.manual_seed(1)
        assert torch.equal(augment(share.taken(batch(count)).clone(), share), whole[share.positions])
        assert torch.equal(torch.random.get_rng_state(), after)


@pytest.mark.parametrize(("mixup", "cutmix"), [(0.4, 0.0), (0.0, 1.0), (0.4, 1.0)])
def test_a_share_is_mixed_alike(mixup: float, cutmix: float) -> None:
    mix, labels = mixing(mixup, cutmix), torch.arange(11) % 2
    torch.manual_seed(1)
    whole = mix(batch(11), labels)
    for rank in range(3):
        share = Share.of_rank(rank, 3, 11, before=True)
        torch.manual_seed(1)
        mixed = share.without_the_one_before(*mix(share.taken(batch(11)), share.taken(labels)))
        for mine, all_of_it in zip(mixed, whole, strict=True):
            assert torch.equal(mine, all_of_it[share.start : share.stop])


@pytest.mark.parametrize(("whole", "ranks"), [(7, 2), (8, 2), (5, 5), (9, 4), (1, 1)])
def test_every_sample_is_in_one_share(whole: int, ranks: int) -> None:
    shares = [Share.of_rank(rank, ranks, whole) for rank in range(ranks)]
    assert torch.equal(torch.cat([share.positions for share in shares]), torch.arange(whole))
    assert all(
        share.copies == 1 and share.stop - share.start in (whole // ranks, whole // ranks + 1) for share in shares
    )
    rows = torch.rand(whole, 3)
    assert torch.equal(sum(share.within(share.taken(rows)) for share in shares), rows)


def test_a_batch_with_fewer_samples_than_ranks_is_computed_by_each() -> None:
    assert [Share.of_rank(rank, 4, 3) for rank in range(4)] == [Share(3, 0, 3, copies=4)] * 4
