"""Guides of several products: which of them tell each product's shift, and which product lies elsewhere than the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from torchspectral.sharpening.guided.registration import Found

WORTH = 0.02
"""Part of the unexplained variance that a shift must take away, or the guides stay as they are."""
APART = 0.05
"""Coarse pixels that the shift of a product must lie off that of all guides, or it has the same."""


def product_sets(products: Sequence[int], asked: Sequence[int], kept: torch.Tensor) -> list[torch.Tensor]:
    """Indices of the guides that tell the shift of each product; none where all guides are of one.

    Parameters
    ----------
    products : sequence of int
        Product of each guide; another length than `kept` means that they are not known.
    asked : sequence of int
        Guides that may tell a shift; empty: all. A product that has none of them is told by all of its own.
    kept : Tensor of bool, shape (K,)
        Guides that are worked with.
    """
    there = _worked_with(products, kept)
    found = []
    for product in there if len(there) > 1 else []:
        guides = [k for k, one in enumerate(products) if kept[k] and one == product]
        chosen = [k for k in guides if not asked or k in asked] or guides
        found.append(torch.tensor(chosen, dtype=torch.long))
    return found


def own_shifts(
    products: Sequence[int], kept: torch.Tensor, common: tuple[float, float], found: Sequence[Found], ratio: int
) -> tuple[list[dict[str, Any]], list[list[float]]]:
    """What is told of each product, and the shift of each guide where a product clearly lies elsewhere; else empty.

    Parameters
    ----------
    products, kept
        See `product_sets`.
    common : tuple of float
        Shift of all guides together [fine pixels].
    found : sequence of Found
        Own shift of each product, in the order of `product_sets`, held against the common one.
    ratio : int
    """
    lines: list[dict[str, Any]] = []
    shifts = [[float(d) for d in common] for _ in range(kept.numel())]
    for product, one in zip(_worked_with(products, kept) if found else [], found, strict=True):
        apart = float(np.hypot(one.rows - common[0], one.cols - common[1]))
        taken = one.trusted and one.after < (1 - WORTH) * one.before
        taken = taken and apart > max(APART * ratio, 3 * one.deviation)
        guides = [k for k, other in enumerate(products) if other == product]
        for k in guides if taken else []:
            shifts[k] = [one.rows, one.cols]
        rows, cols = shifts[guides[0]]
        lines.append(
            {
                "guides": [k + 1 for k in guides],
                "shift_rows": rows,
                "shift_cols": cols,
                "shift_measured": [one.rows, one.cols],
                "shift_deviation": one.deviation,
                "own": bool(taken),
            }
        )
    return lines, shifts if any(line["own"] for line in lines) else []


def joined_pieces(one: list[list[Any]], two: list[list[Any]]) -> list[list[Any]]:
    """Lists of parts of two tiles, put together set by set."""
    return [a + b for a, b in zip(one, two, strict=True)]


def by_shift(image: torch.Tensor, base: Mapping[str, Any], move: Callable[..., torch.Tensor]) -> torch.Tensor:
    """``move(guides, shift)`` for the guides (n, K, y, x) of each shift, put together in their order.

    Parameters
    ----------
    base : mapping
        ``shifts``, one a guide, or ``shift`` of all [fine pixels].
    """
    shifts = base.get("shifts")
    if not shifts:
        return move(image, base["shift"])
    places = list(dict.fromkeys(tuple(s) for s in shifts))
    which = [[k for k, s in enumerate(shifts) if tuple(s) == place] for place in places]
    parts = [move(image[:, index], place) for index, place in zip(which, places, strict=True)]
    order = torch.tensor([k for index in which for k in index]).argsort()
    return torch.cat(parts, 1)[:, order.to(image.device)]


def _worked_with(products: Sequence[int], kept: torch.Tensor) -> list[int]:
    """Products that have a guide that is worked with, in order."""
    if len(products) != kept.numel():
        return []
    return list(dict.fromkeys(one for k, one in enumerate(products) if kept[k]))
