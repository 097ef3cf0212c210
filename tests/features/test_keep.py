"""What is kept of features: values by hand, shapes, refusals, and that less can be had of more."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest

from ffdi.errors import ParamsError
from ffdi.features.keep import (
    Grid,
    Keep,
    Region,
    TokenGrid,
    keep_features,
    kept_shape,
    resolve_keep,
    stored_grid,
    within,
)
from ffdi.features.quantised import as_stored

GRID = TokenGrid(prefix_tokens=1, rows=2, columns=3)
# Two channels; the class token is (100, -100), the patch at (row, column) is (10 row + column, -1).
TOKENS = np.array([[[100, -100], *([10 * r + c, -1] for r, c in product(range(2), range(3)))]], np.float16)
MAP = np.arange(18, dtype=np.float16).reshape(1, 2, 3, 3)
MOUTH = Region((1, 2), (0, 2))


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("all", TOKENS[0]),
        ("cls", [100, -100]),
        ("mean", [(0 + 1 + 2 + 10 + 11 + 12) / 6, -1]),
        ("cls+mean", [100, -100, 6, -1]),
        ("patches", TOKENS[0, 1:]),
        (MOUTH, [[10, -1], [11, -1]]),
        (Grid(1), [[[6]], [[-1]]]),
        (Grid(2), [[[0.5, 1.5], [10.5, 11.5]], [[-1, -1], [-1, -1]]]),  # three columns: cells 0..1 and 1..2
    ],
)
def test_tokens(keep: Keep, expected: Any) -> None:
    kept = keep_features(TOKENS, keep, GRID)
    assert kept.dtype == np.float16
    assert np.array_equal(kept[0], np.asarray(expected))
    assert kept.shape[1:] == kept_shape((7, 2), keep, GRID)


@pytest.mark.parametrize(
    ("keep", "expected"),
    [
        ("mean", [4, 13]),
        (Region((1, 3), (0, 1)), [[[3], [6]], [[12], [15]]]),
        (Grid(1), [[[4]], [[13]]]),
        (Grid(2), [[[2, 3], [5, 6]], [[11, 12], [14, 15]]]),  # cells of two rows and columns share the middle ones
        (Grid(3), MAP[0]),
    ],
)
def test_maps(keep: Keep, expected: Any) -> None:
    kept = keep_features(MAP, keep, None)
    assert np.array_equal(kept[0], np.asarray(expected))
    assert kept.shape[1:] == kept_shape((2, 3, 3), keep, None)


@pytest.mark.parametrize("height", range(1, 9))
def test_a_grid_is_adaptive_average_pooling(height: int) -> None:
    import torch

    maps = np.random.default_rng(0).normal(size=(2, 3, height, 8)).astype(np.float32)
    for side in range(1, height + 1):
        expected = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(maps), side).numpy()
        assert np.allclose(keep_features(maps, Grid(side), None), expected, atol=1e-6)


@pytest.mark.parametrize(
    ("shape", "keep", "grid", "message"),
    [
        ((2, 3, 3), "cls", None, r"keep: cls: at this cut there is a map \(2, 3, 3\): choose mean, "),
        ((2, 3, 3), "patches", None, "there is a map"),
        ((6, 2), "cls", TokenGrid(0, 2, 3), "there is no class token: choose mean, patches or a region"),
        ((7, 2), "cls+mean", TokenGrid(1, 2, 3, class_token=False), "there is no class token"),
        ((7, 2), Region((0, 3), (0, 1)), GRID, r"keep: \{rows: \[0, 3\], columns: \[0, 1\]\}: .* 2 rows and 3 columns"),
        ((2, 3, 3), Grid(4), None, r"keep: \{grid: 4\}: at this cut the grid has 3 x 3 places only"),
        ((7, 2), "mean", None, "it is not known which of 7 tokens are patches: choose keep: all"),
        ((5,), "mean", None, "there is a vector, which is kept whole"),
    ],
)
def test_what_is_not_there_is_refused(shape: tuple[int, ...], keep: Keep, grid: TokenGrid | None, message: str) -> None:
    with pytest.raises(ParamsError, match=message):
        kept_shape(shape, keep, grid)


def test_params_say_what_is_kept() -> None:
    assert resolve_keep("cls+mean") == "cls+mean"
    assert resolve_keep({"grid": 4}) == Grid(4)
    assert resolve_keep({"rows": [9, 14], "columns": [3, 12]}) == Region((9, 14), (3, 12))


@pytest.mark.parametrize(
    "written", ["none", {}, {"grid": 0}, {"rows": [0, 1]}, {"rows": [2, 2], "columns": [0, 1]}, {"grid": 2, "rows": 1}]
)
def test_anything_else_in_params_is_refused(written: Any) -> None:
    with pytest.raises(ParamsError, match="must be one of all, cls, mean"):
        resolve_keep(written)


KEPT_OF_TOKENS: list[Keep] = [
    "all",
    "cls",
    "mean",
    "cls+mean",
    "patches",
    Region((0, 9), (1, 9)),
    Region((3, 7), (2, 5)),
    Grid(4),
]
KEPT_OF_MAPS: list[Keep] = ["all", "mean", Region((0, 9), (1, 9)), Region((3, 7), (2, 5)), Grid(4)]


@pytest.mark.parametrize("dtype", ["float16", "float32", "int8"])
@pytest.mark.parametrize("kind", ["tokens", "maps"])
def test_less_is_had_of_more_to_the_last_bit(kind: str, dtype: str) -> None:
    shape, keeps = ((4, 102, 24), KEPT_OF_TOKENS) if kind == "tokens" else ((4, 24, 10, 10), KEPT_OF_MAPS)
    tokens = TokenGrid(2, 10, 10) if kind == "tokens" else None
    features = (np.random.default_rng(0).normal(size=shape) * 3).astype("float32" if dtype == "float32" else "float16")
    stored = {keep: as_stored(keep_features(as_stored(features, dtype), keep, tokens), dtype) for keep in keeps}
    held_by: dict[Keep, list[Keep]] = {keep: [] for keep in keeps}
    for held, wanted in product(keeps, keeps):
        part = within(wanted, held, stored[held].shape[1:], dtype)
        if part is not None:
            grid = tokens and stored_grid(held, tokens)
            got = as_stored(keep_features(stored[held], part, grid), dtype)
            assert np.array_equal(got, stored[wanted]), (held, wanted)
            held_by[wanted].append(held)
    large, small = keeps[-3:-1]
    assert held_by["all"] == []
    if kind == "tokens":
        assert held_by["mean"] == ["all", "cls+mean", "patches"] and held_by["cls"] == ["all", "cls+mean"]
        assert held_by[small] == ["all", "patches", large] and held_by[Grid(4)] == ["all", "patches"]
    else:
        assert held_by[small] == (["all"] if dtype == "int8" else ["all", large])


def test_an_image_by_itself_gives_the_same_bits() -> None:
    features = np.random.default_rng(0).normal(size=(5, 257, 40)).astype(np.float16)
    for keep in ("mean", "cls+mean", Grid(5)):
        together = keep_features(features, keep, TokenGrid(1, 16, 16))
        alone = np.concatenate([keep_features(features[i : i + 1], keep, TokenGrid(1, 16, 16)) for i in range(5)])
        assert np.array_equal(together, alone)
