"""Real and fake of one group side by side: the order of an epoch with `pairing: group`."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from torch import Tensor


def paired_order(order: Tensor, labels: Tensor, groups: Tensor) -> Tensor:
    """(N,) `order`, a random permutation of N samples, changed so that couples stand together at 2k and 2k + 1.

    In each group (N,), the first real sample of the order is coupled with the first fake one, the second with the second
    and so on (labels (N,)). Samples that are left over stand two and two as well, and an odd one at the end; couples and
    the others keep the order of their first members. So a batch of even size never parts a couple, and every sample comes
    once.
    """
    group, label = groups[order].numpy(), labels[order].numpy()
    turn = pd.Series(label).groupby([group, label]).cumcount().to_numpy()
    key = group * (turn.max(initial=0) + 1) + turn  # of a couple
    _, first, couple, members = np.unique(key, return_index=True, return_inverse=True, return_counts=True)
    place = first[couple]  # that of the first member
    left = np.flatnonzero(members[couple] == 1)
    place[left] = np.repeat(left[::2], 2)[: len(left)]
    if len(left) % 2:
        place[left[-1]] = len(order)
    return order[torch.from_numpy(np.argsort(place, kind="stable"))]


def couples(labels: Tensor, groups: Tensor) -> int:
    """How many couples of a real and a fake image of one group there are."""
    counts = pd.crosstab(groups.numpy(), labels.numpy())
    return int(counts.min(axis=1).sum()) if counts.shape[1] == 2 else 0
