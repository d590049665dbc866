"""Superpixels: simple linear iterative clustering of a cube, all pixels at once."""

from __future__ import annotations

import numpy as np
import torch

ROUNDS = 10


def slic(
    cube: torch.Tensor, size: int, regularity: float, valid: torch.Tensor | None = None, rounds: int = ROUNDS
) -> torch.Tensor:
    """Label each pixel with its superpixel.

    Parameters
    ----------
    cube : Tensor, shape (bands, y, x)
    size : int
        Side of a superpixel [pixel].
    regularity : float
        Weight of the squared distance in space, in units of `size`, against the squared distance of the spectra, in
        units of the cube's largest absolute value.
    valid : Tensor of bool, shape (y, x), optional
    rounds : int
        Of assignment and mean.

    Returns
    -------
    Tensor of int64, shape (y, x)
        0, 1, ...; -1 where not valid. Fragments below a sixth of size^2 join their neighbour.

    References
    ----------
    Achanta et al., "SLIC superpixels compared to state-of-the-art superpixel methods", IEEE TPAMI 34(11), 2012.
    """
    rows, cols = cube.shape[1:]
    keep = torch.ones((rows, cols), dtype=torch.bool, device=cube.device) if valid is None else valid
    if not bool(keep.any()):
        return torch.full((rows, cols), -1, device=cube.device)
    pixels = cube[:, keep].to(torch.float64)
    peak = float(pixels.abs().max())
    pixels = pixels / peak if peak > 0 else pixels
    place = keep.nonzero().T.to(torch.float64)
    down, across = max(1, round(rows / size)), max(1, round(cols / size))
    cell_row = (place[0] * down / rows).long().clamp(max=down - 1)
    cell_col = (place[1] * across / cols).long().clamp(max=across - 1)
    label = cell_row * across + cell_col
    count = down * across
    steps = [(r, c) for r in (-1, 0, 1) for c in (-1, 0, 1)]
    for _ in range(rounds):
        centres, places = _means(pixels, label, count), _means(place, label, count)
        best = torch.full_like(place[0], torch.inf)
        found = label
        for r, c in steps:
            row, col = cell_row + r, cell_col + c
            inside = (row >= 0) & (row < down) & (col >= 0) & (col < across)
            candidate = row.clamp(0, down - 1) * across + col.clamp(0, across - 1)
            gap = (pixels - centres[:, candidate]).square().sum(0)
            gap = gap + regularity * (place - places[:, candidate]).square().sum(0) / size**2
            gap = torch.where(inside & gap.isfinite(), gap, torch.inf)
            better = gap < best
            best, found = torch.where(better, gap, best), torch.where(better, candidate, found)
        if bool((found == label).all()):
            break
        label = found
    image = torch.full((rows, cols), -1, dtype=torch.int64, device=cube.device)
    image[keep] = label
    joined = torch.from_numpy(_joined(image.cpu().numpy(), max(1, size * size // 6))).to(cube.device)
    _, dense = joined[keep].unique(return_inverse=True)
    image[keep] = dense
    return image


def _means(values: torch.Tensor, label: torch.Tensor, count: int) -> torch.Tensor:
    """Means (d, count) of values (d, n) by label; NaN where there are none."""
    sums = values.new_zeros((len(values), count)).index_add_(1, label, values)
    return sums / torch.bincount(label, minlength=count)


def means_of(pixels: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    """Mean spectra (bands, superpixels) of pixels (bands, n) by their dense labels (n,)."""
    return _means(pixels, label, int(label.max()) + 1)


def _joined(image: np.ndarray, least: int) -> np.ndarray:
    """Connected parts as superpixels of their own, small ones given to the neighbour that they touch first."""
    same_right, same_down = image[:, 1:] == image[:, :-1], image[1:] == image[:-1]
    parts, number = _components(image, same_right, same_down)
    sizes = np.bincount(parts[parts >= 0], minlength=number)
    small = sizes < least
    for _ in range(8):
        if not small.any():
            break
        parent = np.arange(number)
        for axis in (1, 0):
            one, other = (parts[:, :-1], parts[:, 1:]) if axis else (parts[:-1], parts[1:])
            for a, b in ((one, other), (other, one)):
                touching = (a >= 0) & (b >= 0) & (a != b)
                inner, outer = a[touching], b[touching]
                able = small[inner] & ~small[outer]
                parent[inner[able]] = outer[able]
        if (parent == np.arange(number)).all():
            break
        parts = np.where(parts >= 0, parent[parts], -1)
        sizes = np.bincount(parts[parts >= 0], minlength=number)
        small = (sizes < least) & (sizes > 0)
    return parts


def _components(image: np.ndarray, same_right: np.ndarray, same_down: np.ndarray) -> tuple[np.ndarray, int]:
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    index = np.arange(image.size).reshape(image.shape)
    start = np.concatenate([index[:, :-1][same_right], index[:-1][same_down]])
    end = np.concatenate([index[:, 1:][same_right], index[1:][same_down]])
    graph = coo_array((np.ones(start.size, dtype=bool), (start, end)), shape=(image.size, image.size))
    number, found = connected_components(graph, directed=False)
    parts = found.reshape(image.shape).astype(np.int64)
    return np.where(image >= 0, parts, -1), int(number)
