"""Which samples of a batch one of several ranks computes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Share:
    """The samples `start` to `stop` of a batch of `whole`; with `before`, the one before them too, which mixing blends into
    the first of them (before sample 0 stands the last one).

    `copies` is the number of ranks that compute the same samples: more than one where there are fewer samples than ranks,
    which then all compute the whole batch.
    """

    whole: int
    start: int
    stop: int
    before: bool = False
    copies: int = 1

    @classmethod
    def all_of(cls, whole: int) -> Share:
        """Every sample."""
        return cls(whole, 0, whole)

    @classmethod
    def of_rank(cls, rank: int, ranks: int, whole: int, before: bool = False) -> Share:
        """Neighbours, as many as the other ranks have, or one more."""
        if ranks == 1 or whole < ranks:
            return cls(whole, 0, whole, copies=ranks)
        return cls(whole, rank * whole // ranks, (rank + 1) * whole // ranks, before)

    @property
    def positions(self) -> Tensor:
        """(B,) the places in the whole batch of the samples that this rank has at hand."""
        return torch.arange(self.start - self.before, self.stop) % self.whole

    @property
    def is_all(self) -> bool:
        """Whether this rank has the whole batch at hand, in its order."""
        return (self.start, self.stop, self.before) == (0, self.whole, False)

    def taken(self, batch: Tensor) -> Tensor:
        """(B, ...) the rows at hand of a whole batch."""
        return batch if self.is_all else batch[self.positions.to(batch.device)]

    def without_the_one_before(self, *rows: Tensor) -> Iterator[Tensor]:
        """The rows at hand of each tensor, without that of the sample before the first."""
        return (of_one[int(self.before) :] for of_one in rows)

    def of(self, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Of `drawn` (D,), ascending places in the whole batch, those at hand: (M,) their places here, and (M,) which of
        the drawn they are."""
        if self.is_all:
            return drawn, torch.arange(len(drawn))
        positions = self.positions
        numbers = torch.searchsorted(drawn, positions)
        places = torch.nonzero(drawn[numbers.clamp(max=len(drawn) - 1)] == positions).flatten()
        return places, numbers[places]

    def within(self, rows: Tensor) -> Tensor:
        """(whole, ...) zeros, in which `rows` (stop - start, ...) stand at their places."""
        if len(rows) == self.whole:
            return rows
        before, after = (
            rows.new_zeros(self.start, *rows.shape[1:]),
            rows.new_zeros(self.whole - self.stop, *rows.shape[1:]),
        )
        return torch.cat([before, rows, after])
