"""What is kept of the features at a cut: all of them, the class token, a mean, the patches, a region, a coarser grid.

It is a function of features as shards give them back, after their rounding. So rows that are derived from shards which
hold more have the bytes of rows that the prefix computes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from typing_extensions import assert_never

from ffdi.errors import ParamsError

Named = Literal["all", "cls", "mean", "cls+mean", "patches"]
_Floats = npt.NDArray[np.floating[Any]]


@dataclass(frozen=True)
class TokenGrid:
    """Where the places of an image are among its tokens (L, C): `prefix_tokens` without a place (class token,
    registers), then the patches, row by row. The places of a map (C, H, W) are a grid without prefix tokens.

    `class_token` says whether the first prefix token is one.
    """

    prefix_tokens: int
    rows: int
    columns: int
    class_token: bool = True


@dataclass(frozen=True)
class Region:
    """Rows and columns of the grid of places, counted from 0: from the first to before the last."""

    rows: tuple[int, int]
    columns: tuple[int, int]

    def __contains__(self, other: Region) -> bool:
        pairs = ((self.rows, other.rows), (self.columns, other.columns))
        return all(mine[0] <= theirs[0] and theirs[1] <= mine[1] for mine, theirs in pairs)


@dataclass(frozen=True)
class Grid:
    """Means over `side` x `side` cells of the grid of places."""

    side: int


Keep = Named | Region | Grid


def resolve_keep(written: str | dict[str, Any]) -> Keep:
    """What `keep` in params says; ParamsError with the choices for anything else."""
    match written:
        case "all" | "cls" | "mean" | "cls+mean" | "patches":
            return written
        case {"grid": int(side), **rest} if not rest and side > 0 and side is not True:
            return Grid(side)
        case {"rows": [int(top), int(bottom)], "columns": [int(left), int(right)], **rest} if not rest:
            if 0 <= top < bottom and 0 <= left < right:
                return Region((top, bottom), (left, right))
    choices = f"{', '.join(get_args(Named))}, {{grid: N}}, or {{rows: [FIRST, END], columns: [FIRST, END]}} with 0 <= FIRST < END"
    raise ParamsError(f"must be one of {choices}")


def as_text(keep: Keep) -> str:
    """`keep` as params write it."""
    match keep:
        case Grid(side):
            return f"{{grid: {side}}}"
        case Region(rows, columns):
            return f"{{rows: {list(rows)}, columns: {list(columns)}}}"
    return keep


def channels_of(shape: tuple[int, ...]) -> int:
    """The number of channels of features of a shape: (C, H, W), (L, C) or (C,)."""
    return shape[1] if len(shape) == 2 else shape[0]


def grid_of(shape: tuple[int, ...], tokens: TokenGrid | None) -> TokenGrid | None:
    """The grid of places of features of a shape: `tokens` says where tokens have theirs; None where there is none."""
    return TokenGrid(0, *shape[1:]) if len(shape) == 3 else tokens if len(shape) == 2 else None


def cut_grid(shape: tuple[int, ...], keep: Keep, tokens: TokenGrid | None) -> TokenGrid | None:
    """The grid at the cut, as far as what is kept does not show it: that of a map which is kept whole is its shape."""
    return None if keep == "all" and len(shape) == 3 else grid_of(shape, tokens)


def stored_grid(keep: Keep, grid: TokenGrid | None) -> TokenGrid | None:
    """The grid of what is kept of the places of `grid`."""
    match keep:
        case "patches" if grid:
            return TokenGrid(0, grid.rows, grid.columns)
        case Region(rows, columns):
            return TokenGrid(0, rows[1] - rows[0], columns[1] - columns[0])
    return grid


def kept_shape(shape: tuple[int, ...], keep: Keep, tokens: TokenGrid | None) -> tuple[int, ...]:
    """The shape of what is kept of features of a shape; ParamsError when they have no such part."""
    grid = grid_of(shape, tokens)
    if keep == "all":
        return shape
    problem, is_map = f"keep: {as_text(keep)}: at this cut", len(shape) == 3
    if len(shape) not in (2, 3):
        raise ParamsError(f"{problem} there is {'a vector' if len(shape) == 1 else str(shape)}, which is kept whole")
    if grid is None:
        raise ParamsError(f"{problem} it is not known which of {shape[0]} tokens are patches: choose keep: all")
    width = channels_of(shape)
    if is_map and keep in ("cls", "cls+mean", "patches"):
        raise ParamsError(f"{problem} there is a map {shape}: choose mean, {{grid: N}} or a region")
    if keep in ("cls", "cls+mean") and not (grid.prefix_tokens and grid.class_token):
        raise ParamsError(f"{problem} there is no class token: choose mean, patches or a region")
    match keep:
        case "cls" | "mean":
            return (width,)
        case "cls+mean":
            return (2 * width,)
        case "patches":
            return (grid.rows * grid.columns, width)
        case Grid(side):
            if side > min(grid.rows, grid.columns):
                raise ParamsError(f"{problem} the grid has {grid.rows} x {grid.columns} places only")
            return (width, side, side)
        case Region(rows, columns):
            if rows[1] > grid.rows or columns[1] > grid.columns:
                raise ParamsError(f"{problem} the grid has {grid.rows} rows and {grid.columns} columns")
            size = (rows[1] - rows[0], columns[1] - columns[0])
            return (width, *size) if is_map else (size[0] * size[1], width)
    assert_never(keep)


def keep_features(features: _Floats, keep: Keep, tokens: TokenGrid | None) -> _Floats:
    """What is kept of (N, C, H, W) maps or (N, L, C) tokens, in their dtype: see kept_shape.

    `cls` is the first token. Means are over places alone, in float32, of each image by itself.
    """
    if keep == "all":
        return features
    if features.ndim == 2:  # cls+mean, of which one is wanted
        width = features.shape[1] // 2
        return features[:, :width] if keep == "cls" else features[:, width:]
    grid = grid_of(features.shape[1:], tokens)
    assert grid is not None  # kept_shape refuses it
    is_map = features.ndim == 4
    places = features if is_map else features[:, grid.prefix_tokens :]
    match keep:
        case "cls":
            return features[:, 0]
        case "mean":
            return _mean(places.reshape(*places.shape[:2], -1) if is_map else places.transpose(0, 2, 1))
        case "cls+mean":
            return np.concatenate([features[:, 0], _mean(places.transpose(0, 2, 1))], axis=1)
        case "patches":
            return places
    squares = places if is_map else places.transpose(0, 2, 1).reshape(len(places), -1, grid.rows, grid.columns)
    match keep:
        case Grid(side):
            return _pooled(squares, side)
        case Region(rows, columns):
            region = squares[:, :, slice(*rows), slice(*columns)]
            return region if is_map else region.reshape(*region.shape[:2], -1).transpose(0, 2, 1)
    assert_never(keep)


def _mean(places: _Floats) -> _Floats:
    """(N, C, places) -> (N, C). The order of the additions does not depend on how the places lie in memory."""
    wide = np.ascontiguousarray(places, np.float32)
    return np.asarray(wide.mean(axis=2).astype(places.dtype))


def _pooled(squares: _Floats, side: int) -> _Floats:
    """(N, C, H, W) -> (N, C, side, side): means over the cells of adaptive average pooling, which share a border row where
    `side` does not divide the height: cell i goes from floor(i H / side) to ceil((i + 1) H / side)."""
    pooled = np.empty((*squares.shape[:2], side, side), squares.dtype)
    rows, columns = ([(i * n // side, -(-(i + 1) * n // side)) for i in range(side)] for n in squares.shape[2:])
    for i, row in enumerate(rows):
        for j, column in enumerate(columns):
            cell = squares[:, :, slice(*row), slice(*column)]
            pooled[:, :, i, j] = _mean(cell.reshape(*cell.shape[:2], -1))
    return pooled


def within(wanted: Keep, held: Keep, shape: tuple[int, ...], dtype: str) -> Keep | None:
    """What to keep of features that were kept as `held` (of this shape, stored as `dtype`) to have `wanted`, which is less.

    None when they do not hold it, or when int8 has rounded them by scales of their own.
    """
    scaled_anew = dtype == "int8" and len(shape) == 3  # a channel's scale is that of the part that is kept
    match held, wanted:
        case "all", _ if wanted != "all":
            return wanted
        case "patches", "mean" | Grid() | Region():
            return wanted
        case "cls+mean", "cls" | "mean":
            return wanted
        case Region(rows, columns), Region() if wanted in held and wanted != held and not scaled_anew:
            (top, bottom), (left, right) = wanted.rows, wanted.columns
            return Region((top - rows[0], bottom - rows[0]), (left - columns[0], right - columns[0]))
    return None
