"""How a scene is cut: pure arithmetic on windows, fixed by the scene, the method and the settings alone.

Free memory never enters here, so that the same call gives the same tiles on every machine.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from torchspectral.engine.method import Scope, Window
from torchspectral.errors import BadSettings

STRIP_BYTES = 16 << 20
"""Values (float32) of one pixel-scope strip, inputs and outputs together [bytes]."""

BLOCK_BYTES = 64 << 20
"""The same for blocks of the other scopes [bytes]."""

LARGE_BLOCK_BYTES = 256 << 20
"""The same for local scope where the halo would else be most of what is read [bytes]."""

LOCAL_TILE = 256
SMALLEST_TILE = 32

Item = TypeVar("Item")


@dataclass(frozen=True)
class Cut:
    """One tile: what it covers (`window`, halo included) and what it answers for (`inner`)."""

    index: int
    window: Window
    inner: Window


@dataclass(frozen=True)
class Plan:
    """All tiles of a scene.

    Attributes
    ----------
    fit : tuple of Cut
        A partition of the scene: what `Source` streams.
    apply : tuple of Cut
        What `apply` gets; overlaps for tile scope.
    tile : tuple of int
        Rows and columns of a whole tile.
    overlap : int
        Pixels that neighbouring tiles of `apply` share.
    """

    fit: tuple[Cut, ...]
    apply: tuple[Cut, ...]
    tile: tuple[int, int]
    overlap: int = 0


def make_plan(
    scope: Scope,
    shape: tuple[int, int],
    depth: int,
    *,
    tile: tuple[int, int] | None = None,
    default_tile: tuple[int, int] | None = None,
    overlap: int = 0,
    halo: int = 0,
    multiple: int = 1,
    chunks: tuple[int, int] | None = None,
) -> Plan:
    """Cut a scene.

    Parameters
    ----------
    scope : Scope
    shape : tuple of int
        Rows and columns of the lead.
    depth : int
        Values a lead pixel, all inputs and outputs together.
    tile : tuple of int, optional
        Rows and columns that the user asked for.
    default_tile : tuple of int, optional
        The method's own tile (tile scope).
    overlap : int
        Of neighbouring tiles (tile scope) [pixel].
    halo : int
        Pixels around a tile that `apply` sees too (local and column scope).
    multiple : int
        Tile origins and sizes are multiples of it, but for the rest at the right and bottom edge.
    chunks : tuple of int, optional
        Rows and columns of the blocks in which the source is stored.

    Raises
    ------
    BadSettings
        The tile is no multiple of `multiple`, or not larger than the overlap.
    """
    rows, cols = shape
    if scope in (Scope.SCENE, Scope.FRAMES):
        whole = Window(0, 0, rows, cols)
        cut = (Cut(0, whole, whole),)
        return Plan(cut, cut, shape)
    if tile is not None:
        size = _checked(tile, multiple)
    else:
        size = _default_size(scope, shape, depth, default_tile, multiple, chunks, halo)
    if scope is Scope.COLUMN:
        size = (rows, size[1])
    overlap = overlap if scope is Scope.TILE else 0
    if overlap and (overlap >= min(size) or (min(size) - overlap) % multiple):
        raise BadSettings(
            f"got tiles of {size[0]} x {size[1]} with an overlap of {overlap} pixels, expected tiles larger than the "
            f"overlap that advance by a multiple of {multiple}: set a larger tile"
        )
    margin = _round_up(halo, multiple) if scope in (Scope.LOCAL, Scope.COLUMN) else 0
    rim = (0 if scope is Scope.COLUMN else margin, margin)
    fit = cut_scene(shape, size, rim)
    apply = cut_scene(shape, size, rim, overlap) if overlap else fit
    return Plan(fit, apply, size, overlap)


def cut_scene(
    shape: tuple[int, int], size: tuple[int, int], halo: tuple[int, int] = (0, 0), overlap: int = 0
) -> tuple[Cut, ...]:
    """Tiles in row order; the halo is clipped at the scene's edge."""
    rows, cols = shape
    cuts: list[Cut] = []
    for row, height in _starts(rows, size[0], overlap):
        for col, width in _starts(cols, size[1], overlap):
            top, left = max(row - halo[0], 0), max(col - halo[1], 0)
            bottom, right = min(row + height + halo[0], rows), min(col + width + halo[1], cols)
            window = Window(top, left, bottom - top, right - left)
            cuts.append(Cut(len(cuts), window, Window(row, col, height, width)))
    return tuple(cuts)


def batches(cuts: Sequence[Cut], size: int) -> list[tuple[Cut, ...]]:
    """Group neighbouring tiles of the same shape into batches of at most `size`."""
    found: list[list[Cut]] = []
    for cut in cuts:
        if found and len(found[-1]) < size and _shape_of(found[-1][0]) == _shape_of(cut):
            found[-1].append(cut)
        else:
            found.append([cut])
    return [tuple(group) for group in found]


def cells(pixels: int, zoom: int, step: int = 1) -> int:
    """Output pixels that so many lead pixels fill, the last one perhaps in part."""
    return -(-pixels * zoom // step)


def depth_of(bands: Mapping[str, int], ratios: Mapping[str, int], outputs: Sequence[tuple[int, int]]) -> int:
    """Values a lead pixel: bands of each role at its ratio, and of (bands, zoom) of each output."""
    inputs = sum(n * ratios.get(role, 1) ** 2 for role, n in bands.items())
    return max(1, inputs + sum(n * zoom**2 for n, zoom in outputs))


def _default_size(
    scope: Scope,
    shape: tuple[int, int],
    depth: int,
    default_tile: tuple[int, int] | None,
    multiple: int,
    chunks: tuple[int, int] | None,
    halo: int,
) -> tuple[int, int]:
    rows, cols = shape
    pixel = depth * 4
    if scope is Scope.COLUMN:
        return rows, _round_up(max(1, BLOCK_BYTES // (rows * pixel)), multiple)
    if scope is Scope.PIXEL:
        strip = max(1, STRIP_BYTES // (cols * pixel))
        if chunks is not None and strip < min(chunks[0], rows) and not (chunks[0] >= rows and chunks[1] >= cols):
            return tuple(_round_up(n, multiple) for n in _within_chunks(chunks, pixel))  # type: ignore[return-value]
        if cols * pixel <= STRIP_BYTES:
            return _round_up(strip, multiple), _round_up(cols, multiple)
        return _round_up(1, multiple), _round_up(max(1, STRIP_BYTES // pixel), multiple)
    if scope is Scope.TILE and default_tile is not None:
        return _checked(default_tile, multiple)
    side = LOCAL_TILE
    while side > SMALLEST_TILE and side * side * pixel > BLOCK_BYTES:
        side //= 2
    if scope is Scope.LOCAL and side < min(2 * halo, LOCAL_TILE):
        # Less than a quarter of what is read would be the tile's own.
        largest = min(max(side, math.isqrt(LARGE_BLOCK_BYTES // pixel)), LOCAL_TILE)
        return tuple(_round_up(_even_part(n, largest), multiple) for n in shape)  # type: ignore[return-value]
    side = _round_up(side, multiple)
    return side, side


def _even_part(size: int, largest: int) -> int:
    """Length of the parts, at most `largest`, where a side is cut into as few as can be, all alike but for the last."""
    return -(-size // -(-size // largest))


def _within_chunks(chunks: tuple[int, int], pixel: int) -> tuple[int, int]:
    """A stored block, or the halves and quarters of one that fit the budget."""
    height, width = chunks
    while height * width * pixel > BLOCK_BYTES and max(height, width) > SMALLEST_TILE:
        if height >= width:
            height = -(-height // 2)
        else:
            width = -(-width // 2)
    return height, width


def _checked(tile: tuple[int, int], multiple: int) -> tuple[int, int]:
    if min(tile) < 1 or any(n % multiple for n in tile):
        raise BadSettings(
            f"got tiles of {tile[0]} x {tile[1]} pixels, expected positive multiples of {multiple} for this method"
        )
    return int(tile[0]), int(tile[1])


def _starts(size: int, tile: int, overlap: int) -> list[tuple[int, int]]:
    found = []
    start = 0
    while True:
        found.append((start, min(tile, size - start)))
        if start + tile >= size:
            return found
        start += tile - overlap


def _round_up(value: int, multiple: int) -> int:
    return -(-value // multiple) * multiple


def _shape_of(cut: Cut) -> tuple[int, ...]:
    w, i = cut.window, cut.inner
    return w.height, w.width, i.height, i.width, i.row - w.row, i.col - w.col
