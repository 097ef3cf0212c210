"""Hashes with planted near-duplicates, and slow ways to find them."""

from typing import Any

import numpy as np

from ffdi.intake.near_duplicates.hashes import parse_hashes

NO_PAIRS = np.empty((0, 2), np.int64)


def pairs(*found: tuple[int, int]) -> Any:
    return np.array(found, np.int64).reshape(-1, 2)


def hashed(picture_bits: int, mirror_bits: int = 0x5555555555555555) -> str:
    return f"{picture_bits:016x}{mirror_bits:016x}"


def flipped(value: int, bits: int, rng: np.random.Generator) -> int:
    """The hash with this many of its bits turned."""
    for bit in rng.choice(64, bits, replace=False):
        value ^= 1 << int(bit)
    return value


def planted(seed: int, count: int, bits: int) -> list[str]:
    """Random hashes; two in three are near an earlier one or just not, by either hash, upright or mirrored."""
    rng = np.random.default_rng(seed)
    made: list[tuple[int, int]] = []
    for _ in range(count):
        one, other = (int(h) for h in rng.integers(0, 2**64, 2, dtype=np.uint64))
        if made and rng.random() < 2 / 3:
            like = made[int(rng.integers(len(made)))]
            near = flipped(like[int(rng.integers(2))], int(rng.integers(max(0, bits - 2), bits + 3)), rng)
            one, other = [(near, other), (one, near), like][int(rng.choice(3, p=[0.45, 0.45, 0.1]))]
        made.append((one, other))
    return [hashed(one, other) for one, other in made]


def distances(listed: list[str]) -> Any:
    """(N, N): of the image and the image, the image and the mirror, or the mirror and the image, whichever is least."""
    plain, mirror = parse_hashes(listed).T
    both = np.bitwise_count(plain[:, None] ^ mirror[None])
    return np.minimum(np.bitwise_count(plain[:, None] ^ plain[None]), np.minimum(both, both.T)).astype(int)


def components(near: Any) -> list[int]:
    """The first row of each row's component, by walking a matrix of who is near whom."""
    first = [-1] * len(near)
    for start in range(len(near)):
        waiting = [start] if first[start] < 0 else []
        while waiting:
            row = waiting.pop()
            if first[row] < 0:
                first[row] = start
                waiting += np.flatnonzero(near[row]).tolist()
    return first


def linked(found: Any, count: int) -> list[int]:
    near = np.zeros((count, count), bool)
    near[found[:, 0], found[:, 1]] = near[found[:, 1], found[:, 0]] = True
    return components(near)
