"""The processes that train a tail together (data parallelism): each computes its share of every batch, and all take one step.

torchrun starts them and numbers them; on CUDA each has a GPU and they talk by NCCL, elsewhere by gloo. Tensors of the
CPU always go by gloo. Gradients are summed after the backward pass, in groups that never change: torch's own
DistributedDataParallel regroups them after its first step, so a training that goes on from a checkpoint would add them up
in another order than one that was never killed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ffdi.errors import FfdiError, ParamsError, one_line
from ffdi.features.devices import has_cuda
from ffdi.tails.recipe import Recipe
from ffdi.tails.share import Share

_GROUP_BYTES = 64 << 20  # of gradients that are summed at once
_PATIENCE = timedelta(days=2)  # one rank may compute the views of `tta` while the others wait


class LostRankError(FfdiError):
    """Another rank of the training has ended, so this one cannot go on."""


@dataclass(frozen=True)
class Team:
    """The `size` processes of one training, of which this one is number `rank`. One that is alone talks to nobody."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes and speaks for all."""
        return self.rank == 0

    def share(self, whole: int, before: bool = False) -> Share:
        """The samples of a batch of `whole` that this rank computes."""
        return Share.of_rank(self.rank, self.size, whole, before)

    def sum(self, tensor: Tensor) -> Tensor:
        """The sum over all ranks, without a gradient: the same bits on each."""
        if self.size == 1:
            return tensor
        out = tensor.detach().clone(memory_format=torch.contiguous_format)
        with _talking(self):
            torch.distributed.all_reduce(out)
        return out

    def gather(self, tensor: Tensor) -> Tensor:
        """(size, ...) the tensors of all ranks, which have one shape, without a gradient."""
        parts = [torch.empty_like(tensor) for _ in range(self.size)]
        with _talking(self):
            torch.distributed.all_gather(parts, tensor.detach().contiguous())
        return torch.stack(parts)

    def whole(self, rows: Tensor, share: Share) -> Tensor:
        """(share.whole, ...) the rows of all ranks' shares, of which this rank has `rows`; only these have a gradient.

        A loss of all rows that every rank computes has, summed over the ranks, the gradient that one process would have.
        """
        if share.copies > 1 or self.size == 1:
            return rows
        others = self.sum(share.within(rows.detach().float()))
        return torch.cat([others[: share.start], rows, others[share.stop :]])

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Put the sum over all ranks in the place of each parameter's gradient."""
        if self.size == 1:
            return
        _in_groups([p.grad for p in parameters if p.grad is not None], self.sum)

    def as_leader(self, tensors: Sequence[Tensor]) -> None:
        """Copy rank 0's values of `tensors` to all ranks, in place."""

        def told(flat: Tensor) -> Tensor:
            with _talking(self):
                torch.distributed.broadcast(flat, 0)
            return flat

        if self.size > 1:
            _in_groups(tensors, told)

    def refuse_difference(self, value: int, message: str) -> None:
        """FfdiError on every rank when `value` is not the same on all."""
        if self.size > 1:
            values = self.gather(torch.tensor([value])).flatten().tolist()
            if len(set(values)) > 1:
                raise FfdiError(f"{message}: {', '.join(f'rank {r}: {v}' for r, v in enumerate(values))}")

    def refuse_idle(self, recipe: Recipe) -> None:
        """ParamsError when the ranks of a team would do the same work, or some of them none."""
        if self.size > 1 and recipe.head.is_fitted:
            raise ParamsError(f"recipe {recipe.name}: head {recipe.head.kind} is fitted at once: one process is enough")
        if recipe.batch_size < self.size:
            raise ParamsError(
                f"recipe {recipe.name}: batch_size {recipe.batch_size} is of all {self.size} processes together: raise "
                "it, or start fewer"
            )

    @contextmanager
    def leader_first(self) -> Iterator[None]:
        """Run the body on rank 0, then on all others at once: they find what it has made."""
        if self.size > 1 and not self.leads:
            self.sum(torch.zeros(1))
        yield
        if self.size > 1 and self.leads:
            self.sum(torch.zeros(1))

    @contextmanager
    def own_draws(self, seed: Sequence[int]) -> Iterator[Callable[[], AbstractContextManager[None]]]:
        """In the body each rank draws from torch's generators for itself, seeded by (`seed`, rank): what dropout drops.

        Inside of what this yields, all ranks draw alike, and go on with what they would have drawn without this: how a
        batch is augmented and mixed. A process that is alone has one sequence of draws for both.
        """
        if self.size == 1:
            yield nullcontext
            return
        common = torch.random.get_rng_state()

        @contextmanager
        def alike() -> Iterator[None]:
            nonlocal common
            own = torch.random.get_rng_state()
            torch.random.set_rng_state(common)
            try:
                yield
            finally:
                common = torch.random.get_rng_state()
                torch.random.set_rng_state(own)

        torch.manual_seed(int(np.random.SeedSequence([*seed, self.rank]).generate_state(1)[0]))
        try:
            yield alike
        finally:
            torch.random.set_rng_state(common)


ALONE = Team()


def _in_groups(tensors: Sequence[Tensor], talk: Callable[[Tensor], Tensor]) -> None:
    """Put what `talk` makes of the tensors in their place. It gets them flat and joined, in groups of one type and about
    _GROUP_BYTES, which are the same in every call."""
    for dtype in dict.fromkeys(tensor.dtype for tensor in tensors):
        left = [tensor for tensor in tensors if tensor.dtype == dtype]
        while left:
            ends = np.cumsum([tensor.nbytes for tensor in left])
            group, left = _parted(left, 1 + int(np.searchsorted(ends, _GROUP_BYTES)))
            joined = talk(torch.cat([tensor.reshape(-1) for tensor in group]))
            for tensor, value in zip(group, joined.split([tensor.numel() for tensor in group]), strict=True):
                tensor.copy_(value.view_as(tensor))


def _parted(items: list[Tensor], at: int) -> tuple[list[Tensor], list[Tensor]]:
    return items[:at], items[at:]


@contextmanager
def _talking(team: Team) -> Iterator[None]:
    """Make LostRankError of what torch raises when another rank is gone."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise LostRankError(
            f"rank {team.rank} of {team.size} lost another one, whose line says why ({one_line(error)[:120]})"
        ) from error


def ranks_of_machine() -> tuple[int, int]:
    """(number, count) of this process among those of one training on this machine, as torchrun says in the environment."""
    return _number("LOCAL_RANK", 0), _number("LOCAL_WORLD_SIZE", 1)


@contextmanager
def joined() -> Iterator[Team]:
    """The team that torchrun started this process in, connected while the body runs; ALONE without torchrun."""
    size = _number("WORLD_SIZE", 1)
    if size == 1:
        yield ALONE
        return
    team = Team(_number("RANK", 0), size)
    backend = "cpu:gloo,cuda:nccl" if has_cuda() else "gloo"
    with _talking(team):
        torch.distributed.init_process_group(backend, timeout=_PATIENCE)
    try:
        yield team
    finally:
        torch.distributed.destroy_process_group()


def current_team() -> Team:
    """The team that `joined` has connected this process to; ALONE where it has not."""
    talks = torch.distributed.is_available() and torch.distributed.is_initialized()
    return Team(torch.distributed.get_rank(), torch.distributed.get_world_size()) if talks else ALONE


def _number(name: str, default: int) -> int:
    value: Any = os.environ.get(name, default)
    try:
        return int(value)
    except ValueError:
        raise FfdiError(f"{name}={value!r} of the environment is no number: start the processes by torchrun") from None
