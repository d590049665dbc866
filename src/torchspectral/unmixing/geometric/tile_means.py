"""Means of the endmembers of tiles: the usual way to a library of a scene."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import torch

from torchspectral.engine.method import Gram, Output, Size, Source, State, Tile
from torchspectral.errors import BadInput, BadSettings
from torchspectral.ops.vca import vca
from torchspectral.settings import setting
from torchspectral.unmixing.geometric.base import ENDMEMBERS, Extraction, ExtractionSettings
from torchspectral.unmixing.geometric.sivm import sivm
from torchspectral.unmixing.picking import core_index

RESTARTS = 10


class TileMeansSettings(ExtractionSettings):
    """Endmembers of tiles, averaged; the grid and the extractors of HySUPP's tool."""

    tiles: tuple[int, int] = setting((4, 4), "rows and columns of tiles that the scene is cut into")
    extractors: tuple[Literal["vca", "sivm"], ...] = setting(("vca", "sivm"), "what finds the candidates of a tile")
    per_tile: int | None = setting(None, "candidates that each extractor takes of a tile; None: k", ge=2)


class TileMeans(Extraction):
    """Endmembers of each tile of a grid by VCA and SiVM, gathered by k-means: their means, and the candidates.

    Outputs
    -------
    endmembers : spectra
        Mean of each group.
    candidates : spectra
        All that were found, named ``GROUP/NUMBER``: a bundle for multiple-endmember unmixing.

    State
    -----
    As `Extraction`, and ``members`` (candidates in each group), ``skipped`` (tiles of too few or too equal pixels).

    References
    ----------
    Rasti et al., "Image processing and machine learning for hyperspectral unmixing: an overview and the HySUPP Python
    package", IEEE TGRS 62, 2024. Somers et al., "Automated extraction of image-based endmember bundles for improved
    spectral unmixing", IEEE JSTARS 5(2), 2012.
    """

    Settings = TileMeansSettings
    outputs = (
        ENDMEMBERS,
        Output("candidates", kind="spectra", names="=candidate_names", undo_scale=True, from_state=True),
    )
    told = ("members", "skipped")

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        if min(self.settings.tiles) < 1 or not self.settings.extractors:
            raise BadSettings(
                f"got tiles={self.settings.tiles} and extractors={self.settings.extractors}, expected at least one of each"
            )

    def search(self, source: Source, gram: Gram, k: int, seed: int) -> State:
        """One pass for each tile of the grid; its pixels are held, evenly thinned where they are more than `held`."""
        s = self.settings
        found: list[torch.Tensor] = []
        skipped = 0
        for number, cell in enumerate(_cells(source.info.shape, s.tiles)):
            room = max(int(s.held * 2**20 / (8 * source.info.bands)), 4 * k)
            every = -(-((cell[1] - cell[0]) * (cell[3] - cell[2])) // room)
            parts = source.reduce(partial(_inside, cell=cell, every=every), _joined)
            order = torch.argsort(torch.cat([index for index, _ in parts]))
            pixels = torch.cat([values for _, values in parts], dim=1)[:, order]
            here = _candidates(pixels, s.per_tile or k, s.extractors, seed + number)
            skipped += not here
            found += here
        if sum(len(part) for part in found) < k:
            raise BadInput(
                f"the {s.tiles[0]} x {s.tiles[1]} tiles of this scene gave {sum(map(len, found))} candidates, expected "
                f"at least {k}: take fewer tiles or fewer endmembers"
            )
        candidates = torch.cat(found).double()
        means, group = gathered(candidates, k, seed)
        order = torch.argsort(group, stable=True)
        members = [int((group == g).sum()) for g in range(k)]
        names = [f"endmember {g + 1}/{n + 1}" for g, count in enumerate(members) for n in range(count)]
        return {
            "endmembers": means, "candidates": candidates[order].contiguous(), "candidate_names": names,
            "members": members, "skipped": skipped,
        }  # fmt: skip

    def memory(self, size: Size) -> dict[str, int]:
        """Pixels of one tile of the grid, three times."""
        return {"fit": 3 * self.settings.held * 2**20, "apply": size.rows * size.cols * size.bands * 4}


def gathered(candidates: torch.Tensor, k: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Means (k, bands) and group (n,) of spectra (n, bands) by k-means, largest group first.

    The best of some seeded starts; spectra are compared by distance, as in the published tool.

    Raises
    ------
    BadInput
        They form fewer than k groups.
    """
    from scipy.cluster.vq import ClusterError, kmeans2

    values = candidates.cpu().numpy()
    random = np.random.default_rng(seed)
    best: tuple[float, np.ndarray] | None = None
    for _ in range(RESTARTS):
        try:
            centres, label = kmeans2(values, k, iter=100, minit="++", seed=random, missing="raise")
        except ClusterError:
            continue
        cost = float(((values - centres[label]) ** 2).sum())
        if best is None or cost < best[0] * (1 - 1e-12):
            best = cost, label
    if best is None:
        raise BadInput(f"the candidates of the tiles form fewer than {k} groups: ask for fewer endmembers")
    counts = np.bincount(best[1], minlength=k)
    rank = np.argsort(np.argsort(-counts, kind="stable"), kind="stable")
    group = torch.from_numpy(rank[best[1]])
    means = torch.stack([candidates[group == g].mean(0) for g in range(k)])
    return means, group


def _cells(shape: tuple[int, int], tiles: tuple[int, int]) -> list[tuple[int, int, int, int]]:
    """First and last row and column of each tile; small scenes have fewer."""
    cuts = [
        np.unique(np.linspace(0, length, min(count, length) + 1).round().astype(int))
        for length, count in zip(shape, tiles, strict=True)
    ]
    rows, cols = ([(int(a), int(b)) for a, b in pairwise(c)] for c in cuts)
    return [(*row, *col) for row in rows for col in cols]


def _inside(tile: Tile, cell: tuple[int, int, int, int], every: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Scene index and values of every n-th pixel of a tile that lies in the cell."""
    index, pixels = core_index(tile), tile.core_pixels("cube")
    row, col = index // tile.info.shape[1], index % tile.info.shape[1]
    keep = (row >= cell[0]) & (row < cell[1]) & (col >= cell[2]) & (col < cell[3]) & (index % every == 0)
    return [(index[keep].cpu(), pixels[:, keep].cpu())]


def _joined(one: list[Any], other: list[Any]) -> list[Any]:
    return [*one, *other]


def _candidates(pixels: torch.Tensor, k: int, extractors: tuple[str, ...], seed: int) -> list[torch.Tensor]:
    """Spectra that the extractors find; none where the tile has too few pixels, or too equal ones."""
    try:
        found = [
            vca(pixels, k, seed).endmembers if name == "vca" else pixels[:, sivm(pixels, k)].T for name in extractors
        ]
    except BadInput:
        return []
    return [part.double() for part in found]
