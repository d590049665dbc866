"""PPI: how often each pixel is the farthest along random lines."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from torchspectral.engine.method import Gram, Output, Source, State, Tile
from torchspectral.errors import BadInput, BadSettings
from torchspectral.ops.gram import gram_sums
from torchspectral.ops.spectral_angle import spectral_angles
from torchspectral.settings import setting
from torchspectral.unmixing.geometric.base import ENDMEMBERS, Extraction, ExtractionSettings, Subspace
from torchspectral.unmixing.picking import core_index, spectra_at

_BLOCK = 4_000_000


class PpiSettings(ExtractionSettings):
    """Pixel purity index."""

    skewers: int = setting(10_000, "random lines", ge=1)
    threshold: int = setting(1, "counts from which a pixel may become an endmember", ge=1)
    min_angle: float = setting(
        0.05,
        "pixels closer than this to an endmember with more counts are passed over while others are left; 0: the k "
        "pixels with most counts",
        unit="rad",
        ge=0,
        le=3.1416,
    )


@dataclass
class Extremes:
    """For each line, the farthest pixels on both sides: values (2, lines) and scene indices (2, lines)."""

    values: torch.Tensor
    index: torch.Tensor

    def merge(self, other: Extremes) -> Extremes:
        """Of two sets of pixels; of equals the earlier pixel."""
        take = (other.values > self.values) | ((other.values == self.values) & (other.index < self.index))
        return Extremes(torch.where(take, other.values, self.values), torch.where(take, other.index, self.index))


def draw_skewers(count: int, dimensions: int, seed: int) -> torch.Tensor:
    """Random unit vectors, (count, dimensions)."""
    draws = np.random.default_rng(seed).standard_normal((count, dimensions))
    return torch.from_numpy(draws / np.linalg.norm(draws, axis=1, keepdims=True))


def extremes(coordinates: torch.Tensor, index: torch.Tensor, skewers: torch.Tensor) -> Extremes:
    """Farthest pixels of coordinates (d, n) along lines (lines, d)."""
    lines = skewers.to(coordinates.device)
    shape = (2, len(lines))
    best = Extremes(
        torch.full(shape, -torch.inf, dtype=torch.float64, device=coordinates.device),
        torch.full(shape, torch.iinfo(torch.int64).max, device=coordinates.device),
    )
    step = max(1, _BLOCK // len(lines))
    for start in range(0, coordinates.shape[1], step):
        places = lines @ coordinates[:, start : start + step]
        high, low = places.max(1), places.min(1)
        here = index[start : start + step]
        found = Extremes(torch.stack([high.values, -low.values]), here[torch.stack([high.indices, low.indices])])
        best = best.merge(found)
    return best


def counts_of(found: Extremes) -> tuple[torch.Tensor, torch.Tensor]:
    """Pixels that were extreme, most counts first (of equals the earlier pixel), and their counts."""
    index, counts = found.index.reshape(-1).cpu().unique(return_counts=True)
    order = torch.argsort(counts, descending=True, stable=True)
    return index[order], counts[order]


def ppi(pixels: torch.Tensor, k: int, seed: int = 0, skewers: int = 10_000) -> tuple[torch.Tensor, torch.Tensor]:
    """Extreme pixels of pixels (bands, n) in k - 1 principal dimensions: indices, most counts first, and counts.

    References
    ----------
    Boardman, Kruse and Green, "Mapping target signatures via partial unmixing of AVIRIS data", JPL AVIRIS workshop,
    1995.
    """
    subspace = Subspace.of(*gram_sums(pixels), k - 1)
    index = torch.arange(pixels.shape[1], device=pixels.device)
    return counts_of(extremes(subspace(pixels), index, draw_skewers(skewers, k - 1, seed)))


def _extremes_of_tile(tile: Tile, subspace: Subspace, skewers: torch.Tensor) -> Extremes:
    return extremes(subspace(tile.core_pixels("cube")), core_index(tile), skewers)


class Ppi(Extraction):
    """Pixel purity index in the k - 1 principal dimensions of the scene, and the k purest distinct pixels.

    Outputs
    -------
    endmembers : spectra
    purity : layer
        How often each pixel lay at an end of a line.

    References
    ----------
    Boardman, Kruse and Green, "Mapping target signatures via partial unmixing of AVIRIS data", JPL AVIRIS workshop,
    1995.
    """

    Settings = PpiSettings
    outputs: tuple[Output, ...] = (
        ENDMEMBERS,
        Output("purity", kind="layers", names=("purity",), undo_scale=False),
    )
    told = ("candidates", "counts_of_endmembers")

    def search(self, source: Source, gram: Gram, k: int, seed: int) -> State:
        """One pass for the lines, one for the spectra of the candidates."""
        s = self.settings
        subspace = Subspace.of(gram.n, gram.total, gram.cross, k - 1)
        skewers = draw_skewers(s.skewers, k - 1, seed)
        found = source.reduce(partial(_extremes_of_tile, subspace=subspace, skewers=skewers), Extremes.merge)
        index, counts = counts_of(found)
        able = index[counts >= s.threshold]
        if len(able) < k:
            raise BadInput(
                f"{len(able)} pixels were extreme {s.threshold} times or more, expected at least {k}: lower the "
                "threshold, draw more skewers or ask for fewer endmembers"
            )
        spectra = spectra_at(source, able[: max(200, 20 * k)].tolist())
        take = distinct(spectra, k, s.min_angle)
        cols = source.info.shape[1]
        places = [int(able[i]) for i in take]
        source.map("counted", partial(_drawn, index=index, counts=counts))
        return {
            "endmembers": spectra[take].contiguous(),
            "pixels": [[i // cols, i % cols] for i in places],
            "purity_index": index,
            "purity_counts": counts,
            "candidates": len(able),
            "counts_of_endmembers": [int(counts[i]) for i in take],
        }

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Counts of the tile's pixels (n, 1, y, x)."""
        if "counted" in tile:
            return {"purity": tile["counted"]}
        if len(tile["cube"]) > 1:
            raise BadSettings("the purity of a given state is drawn tile by tile: expected batch=1")
        return {"purity": _drawn(tile, state["purity_index"], state["purity_counts"])}


def _drawn(tile: Tile, index: torch.Tensor, counts: torch.Tensor) -> torch.Tensor:
    """Counts at their pixels, zero elsewhere: (1, 1, y, x) of the tile's window."""
    window = tile.window
    purity = torch.zeros((1, 1, window.height, window.width), device=tile["cube"].device)
    rows, cols = index // tile.info.shape[1] - window.row, index % tile.info.shape[1] - window.col
    inside = (rows >= 0) & (rows < window.height) & (cols >= 0) & (cols < window.width)
    purity[0, 0, rows[inside], cols[inside]] = counts[inside].to(purity)
    return purity


def distinct(spectra: torch.Tensor, k: int, min_angle: float) -> list[int]:
    """The first `k` of spectra (n, bands) that differ by `min_angle` [rad] from those before; filled up in order."""
    take: list[int] = []
    if min_angle > 0:
        for i in range(len(spectra)):
            near = take and float(spectral_angles(spectra[i : i + 1].T, spectra[take]).min()) < min_angle
            if not near:
                take.append(i)
            if len(take) == k:
                break
    take += [i for i in range(len(spectra)) if i not in set(take)][: k - len(take)]
    return sorted(take)
