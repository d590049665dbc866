"""Outliers, stripes and dead columns: found and repaired in rounds, each with a better estimate of the scene."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F

from torchspectral.engine.method import Gram, Source, State, Tile
from torchspectral.errors import BadInput
from torchspectral.ops.gram import add_sums, covariance, gram_sums
from torchspectral.ops.noise import regression_noise
from torchspectral.restoration.subspace import eigen_state, live_bands

TO_DEVIATION = 1.4826
"""Standard deviation of normal values over their median absolute deviation."""
LEAST_SHARE = 0.005
"""Share of outlying values above which the robust loop is taken by itself."""
CLUSTERED = 0.1
"""Correlation of neighbours above which outliers belong to the scene."""
SAMPLE = 20_000
ROWS = 256
"""Rows, evenly over the scene, of which the median of a column is taken; all where there are fewer."""
MOST_COMPONENTS = 12
OUTLIER, STRIPE, FIRST = 3.0, 4.0, 3.5
"""Standard deviations: single values in the rounds, medians of columns, single values at the start."""

Denoise = Callable[..., torch.Tensor]


def deviation(values: torch.Tensor) -> torch.Tensor:
    """Robust standard deviation along the last axis, NaN left out."""
    centre = values.nanmedian(-1, keepdim=True).values
    return (values - centre).abs().nanmedian(-1).values * TO_DEVIATION


def outlier_share(source: Source, gram: Gram) -> float:
    """Share of values that stand more than five robust deviations out of what the other bands foretell.

    Normal noise has less than one in a million there. Bands whose outliers lie in patches are not counted: those are
    materials that the other bands do not foretell. Impulses have no neighbours, stripes and dead columns have some
    along track only.
    """
    spread = gram.covariance.cpu()
    live, _ = live_bands(spread)
    if len(live) < 2:
        return 0.0
    transform, _ = regression_noise(gram.n, spread[live][:, live] * gram.n)
    mean = gram.mean.cpu()[live, None]
    rest = transform @ (source.sample(SAMPLE).cpu().double()[live] - mean)
    middle = rest.median(1, keepdim=True).values
    limit = 5 * deviation(rest).clamp_min(1e-12 * rest.abs().max())[:, None]
    share = ((rest - middle).abs() > limit).double().mean(1)
    if float(share.mean()) <= LEAST_SHARE:
        return float(share.mean())
    alike = _likeness(source, partial(_standing_out, transform=transform, mean=mean, live=live, at=(middle, limit)))
    return float((share * (alike < CLUSTERED)).mean())


def _standing_out(
    tile: Tile,
    transform: torch.Tensor,
    mean: torch.Tensor,
    live: torch.Tensor,
    at: tuple[torch.Tensor, torch.Tensor],
) -> torch.Tensor:
    cube = tile.core("cube")[0].cpu()[live].double()
    rest = (transform @ (cube.reshape(len(live), -1) - mean)).reshape(cube.shape)
    out = (rest - at[0][:, :, None]).abs() > at[1][:, :, None]
    return (out & tile.core(tile.valid)[0].cpu()).double()


def _likeness(source: Source, marked: Callable[[Tile], torch.Tensor]) -> torch.Tensor:
    """Correlation of neighbours in maps of marked pixels, the lesser of across and along track, (bands,)."""

    def sums(tile: Tile) -> torch.Tensor:
        map_ = marked(tile)
        across, along = map_[:, :, 1:] * map_[:, :, :-1], map_[:, 1:] * map_[:, :-1]
        parts = [map_.mean((1, 2)) * map_[0].numel(), across.sum((1, 2)), along.sum((1, 2))]
        counts = [map_.new_full((len(map_),), float(m[0].numel())) for m in (map_, across, along)]
        return torch.stack(parts + counts)

    hits, across, along, n, pairs_x, pairs_y = source.reduce(sums, torch.add)
    share = hits / n.clamp_min(1)
    power = (share - share.square()).clamp_min(1e-12)
    both = [(p / c.clamp_min(1) - share.square()) / power for p, c in ((across, pairs_x), (along, pairs_y))]
    return torch.minimum(*both)


def robust_rounds(
    source: Source, settings: Any, denoise: Denoise, state: State | None
) -> Iterator[tuple[State, torch.Tensor, float]]:
    """Repair the scene round by round; the array ``repaired`` is what is denoised in the end.

    Parameters
    ----------
    source : Source
    settings : FastEigenSettings
    denoise : callable
        ``denoise(cube, state, second=False)``.
    state : dict, optional
        Of a run that was stopped: its rounds are not repeated.

    Yields
    ------
    state, covariance, fraction
        After each round; ``replaced`` in the state is the share of each band's values that were taken for outliers.
    """
    done = int(state["rounds"]) if state is not None and "rounds" in state else 0
    if state is None or not done:
        gram = source.gram()
        if gram.n < 2:
            raise BadInput(f"got {gram.n} valid pixels, expected at least 2: check the mask and nodata")
        dead = _dead_columns(source)
        source.map("repaired", partial(_median_repaired, dead=dead))
        sigma = None
    else:
        dead, sigma = state["dead"], state["noise"]
    for number in range(done, settings.loops):
        found, spread = _subspace(source, settings.rank, sigma)
        source.map("residual", partial(_removed, denoise=denoise, state=found))
        columns, rows = _columns(source, dead)
        sigma = deviation(columns.reshape(len(columns), -1)).double()
        stripes = columns.nanmedian(1).values.nan_to_num()
        limit = STRIPE * 1.2533 * sigma / math.sqrt(rows)
        stripes = torch.where(stripes.abs() > limit[:, None], stripes, 0.0)
        sigma = deviation((columns - stripes[:, None]).reshape(len(columns), -1)).double()
        sigma = torch.where(sigma > 0, sigma, found["noise"])
        source.map("repaired", partial(_repaired, stripes=stripes, sigma=sigma, dead=dead))
        found, spread = _subspace(source, settings.rank, sigma)
        last = number + 1 == settings.loops
        replaced = _replaced(source, stripes, sigma, dead) if last else torch.zeros_like(sigma)
        found = {**found, "noise": sigma, "dead": dead, "replaced": replaced.tolist(), "rounds": number + 1}
        yield found, spread, (number + 1) / settings.loops


def _subspace(source: Source, rank: int | None, sigma: torch.Tensor | None) -> tuple[State, torch.Tensor]:
    def sums(tile: Tile) -> tuple[int, torch.Tensor, torch.Tensor]:
        return gram_sums(tile.core_pixels("repaired"))

    n, total, cross = source.reduce(sums, add_sums)
    spread = covariance(n, total, cross)
    return eigen_state(n, total / n, spread, sigma, rank, MOST_COMPONENTS), spread


def _dead_columns(source: Source) -> torch.Tensor:
    """Columns without variation of bands that have some, bool (bands, columns)."""
    width = source.info.shape[1]

    def extremes(tile: Tile) -> tuple[torch.Tensor, torch.Tensor]:
        values, valid = tile.core("cube")[0], tile.core(tile.valid)[0]
        low = values.new_full((len(values), width), math.inf)
        high = -low
        part = slice(tile.inner.col, tile.inner.col + tile.inner.width)
        low[:, part] = values.where(valid, math.inf).amin(1)
        high[:, part] = values.where(valid, -math.inf).amax(1)
        return low, high

    low, high = source.reduce(extremes, lambda a, b: (torch.minimum(a[0], b[0]), torch.maximum(a[1], b[1])))
    flat = low == high
    return flat & ~flat.all(1, keepdim=True)


def _median_repaired(tile: Tile, dead: torch.Tensor) -> torch.Tensor:
    """The start: values far from the median of their 5 x 5 neighbours, and dead columns, give way to it."""
    cube = tile["cube"]
    _, bands, height, width = cube.shape
    gone = _spread(tile, dead, cube.device)
    out = torch.empty_like(cube)
    padded = F.pad(torch.where(gone, torch.nan, cube), (2, 2, 2, 2), value=torch.nan)
    for band in range(bands):
        windows = padded[:, band].unfold(1, 5, 1).unfold(2, 5, 1).reshape(len(cube), height, width, 25)
        middle = windows.nanmedian(-1).values
        middle = torch.where(torch.isfinite(middle), middle, padded[:, band].nanmedian().nan_to_num())
        rest = cube[:, band] - middle
        level = deviation(rest.where(~gone[:, band], torch.nan).reshape(1, -1)).nan_to_num()
        bad = gone[:, band] | (rest.abs() > FIRST * level)
        out[:, band] = torch.where(bad, middle, cube[:, band])
    return out


def _spread(tile: Tile, columns: torch.Tensor, device: torch.device) -> torch.Tensor:
    """Values of columns over a tile, (1, bands, 1, x)."""
    part = columns[:, tile.window.col : tile.window.col + tile.window.width]
    return part.to(device)[None, :, None, :]


def _columns(source: Source, dead: torch.Tensor) -> tuple[torch.Tensor, int]:
    """Residuals of evenly spaced rows, NaN where there are none, (bands, rows, columns); and how many rows."""
    height, width = source.info.shape
    chosen = torch.linspace(0, height - 1, min(height, ROWS)).round().long().unique()

    def pieces(tile: Tile) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
        here = ((chosen >= tile.inner.row) & (chosen < tile.inner.row + tile.inner.height)).nonzero()[:, 0]
        values = tile.core("residual")[0].where(tile.core(tile.valid)[0], torch.nan)
        return [(tile.inner.col, here, values[:, (chosen[here] - tile.inner.row).to(values.device)].cpu())]

    found = source.reduce(pieces, lambda a, b: a + b)
    out = torch.full((len(dead), len(chosen), width), torch.nan)
    for col, rows, values in found:
        out[:, rows, col : col + values.shape[-1]] = values
    return out.where(~dead[:, None].cpu(), torch.nan), len(chosen)


def _removed(tile: Tile, denoise: Denoise, state: State) -> torch.Tensor:
    return tile["cube"] - denoise(tile["repaired"], state, second=False)


def _repaired(tile: Tile, stripes: torch.Tensor, sigma: torch.Tensor, dead: torch.Tensor) -> torch.Tensor:
    """The cube less its stripes, outliers and dead columns replaced by the estimate."""
    bad, stripe = _outliers(tile, stripes, sigma, dead)
    return torch.where(bad, tile["cube"] - tile["residual"], tile["cube"] - stripe)


def _outliers(
    tile: Tile, stripes: torch.Tensor, sigma: torch.Tensor, dead: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    cube, residual = tile["cube"], tile["residual"]
    stripe = _spread(tile, stripes, cube.device).to(cube.dtype)
    limit = OUTLIER * sigma.to(cube.device, cube.dtype)[None, :, None, None]
    return ((residual - stripe).abs() > limit) | _spread(tile, dead, cube.device), stripe


def _replaced(source: Source, stripes: torch.Tensor, sigma: torch.Tensor, dead: torch.Tensor) -> torch.Tensor:
    def count(tile: Tile) -> tuple[torch.Tensor, int]:
        bad = _outliers(tile, stripes, sigma, dead)[0] & tile.valid
        return tile.core(bad).sum((0, 2, 3)), int(tile.core(tile.valid).sum())

    hits, pixels = source.reduce(count, lambda a, b: (a[0] + b[0], a[1] + b[1]))
    return hits.double() / max(pixels, 1)
