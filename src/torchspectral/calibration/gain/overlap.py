"""Relative gains of detectors from ground that several of them saw."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch

from torchspectral.calibration.gain.cells import CellSums
from torchspectral.errors import BadInput

WEAK = 1e-4
"""Relative spectral gap of G below which the detectors are weakly linked."""

_LISTED = 6


@dataclass(frozen=True)
class Links:
    """Which detectors are tied to which, before anything is solved.

    Attributes
    ----------
    groups : list of ndarray of int
        Detectors (from 0) of each connected group, largest first.
    unseen : ndarray of int
        Detectors that share no ground with another: their gain stays NaN.
    gap : float
        Relative spectral gap of G, the least over the groups: (second smallest - smallest) / largest eigenvalue.
    predicted : float
        Expected standard error of the gains (root mean square over detectors), from the smallest eigenvalue of G.
    """

    groups: list[np.ndarray]
    unseen: np.ndarray
    gap: float
    predicted: float

    @property
    def weak(self) -> bool:
        """Whether the gap is below `WEAK`: errors then add up along the chain of detectors."""
        return self.gap < WEAK


@dataclass
class BandGains:
    """Gains of one band.

    Attributes
    ----------
    gain, offset, error : ndarray, shape (detectors,)
    links : Links
    residual : float
        Root mean square of what the ground does not explain, relative to the values.
    """

    gain: np.ndarray
    offset: np.ndarray
    error: np.ndarray
    links: Links
    residual: float
    notes: list[str] = field(default_factory=list)


def groups_of(sums: CellSums, band: int) -> tuple[list[np.ndarray], np.ndarray]:
    """Connected groups of detectors (largest first), and those that share ground with no other."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    i, j = np.divmod(sums.keys, sums.detectors)
    tied = (sums.joint[band] > 0) & (i != j)
    graph = coo_array((np.ones(int(tied.sum())), (i[tied], j[tied])), shape=(sums.detectors,) * 2)
    label = connected_components(graph, directed=False)[1]
    found = [np.flatnonzero(label == n) for n in np.unique(label)]
    alone = np.array([g[0] for g in found if len(g) == 1], dtype=np.int64)
    return sorted((g for g in found if len(g) > 1), key=lambda g: (-len(g), int(g[0]))), alone


def find_links(sums: CellSums, band: int, *, noise_var: float | None = None, device: str = "cpu") -> Links:
    """Groups, spectral gap and the standard error to expect.

    Parameters
    ----------
    noise_var : float, optional
        Variance of the noise of a value; estimated from the smallest eigenvalue of G by default.

    Raises
    ------
    BadInput
        No two detectors saw the same ground.
    """
    groups, unseen = groups_of(sums, band)
    if not groups:
        raise BadInput(
            "no two detectors saw the same ground: expected lines that overlap with different shifts across track"
        )
    gap, error, count = math.inf, 0.0, 0
    form = sums.form(band)
    for group in groups:
        part = torch.from_numpy(form[np.ix_(group, group)]).to(device)
        values = np.maximum(torch.linalg.eigvalsh(part).cpu().numpy(), 0)
        gap = min(gap, float((values[1] - values[0]) / values[-1]) if values[-1] > 0 else 0.0)
        share = len(group) / sums.detectors
        freedom = max((sums.seen[band] - sums.cells[band]) * share - len(group) + 1, 0)
        variance = noise_var if noise_var is not None else values[0] * len(group) / freedom if freedom else math.inf
        with np.errstate(divide="ignore"):
            error += float(variance * (1 / values[1:]).sum()) if len(values) > 1 else 0.0
        count += len(group)
    return Links(groups, unseen, gap, math.sqrt(error / max(count, 1)) if math.isfinite(error) else math.inf)


def describe_groups(groups: list[np.ndarray]) -> str:
    """Groups in words, detectors from 1."""
    said = []
    for group in groups[:_LISTED]:
        listed = ", ".join(str(int(d) + 1) for d in group[:4])
        said.append(f"{listed}{', ...' if len(group) > 4 else ''} ({len(group)} detectors)")
    return "; ".join(said) + ("; ..." if len(groups) > _LISTED else "")


def solve_band(
    sums: CellSums,
    band: int,
    *,
    groups: str = "refuse",
    offset: bool = False,
    noise_var: float | None = None,
    ridge: float = 0.0,
    device: str = "cpu",
) -> BandGains:
    """Gains of a band: least squares with the row sum(s) = number of detectors in each group.

    Parameters
    ----------
    groups : {"refuse", "each"}
        What to do with detectors that fall into groups without common ground: refuse, or calibrate each group by
        itself (its mean gain is 1, which says nothing between groups).
    offset : bool
        Find offsets too: ``s y + o = x`` with sum(o) = 0.
    noise_var : float, optional
        Variance of the noise of a value, taken off the diagonal.
    ridge : float
        Times trace(G) over detectors: pull towards 1.

    Raises
    ------
    BadInput
        Detectors without common ground, or unconnected groups with "refuse".
    """
    links = find_links(sums, band, noise_var=noise_var, device=device)
    if len(links.groups) > 1 and groups == "refuse":
        raise BadInput(
            f"the detectors fall into {len(links.groups)} unconnected groups: {describe_groups(links.groups)}; between "
            "groups nothing is known. Add a line whose shift across track breaks the pattern (shifts need a greatest "
            "common divisor of 1), or set groups=each to calibrate each group by itself"
        )
    m = sums.detectors
    gain, shift, error = (np.full(m, np.nan) for _ in range(3))
    form = sums.form(band, offset=offset)
    if noise_var is not None:
        form[np.arange(m), np.arange(m)] -= noise_var * sums.count[band]
    left = 0.0
    for group in links.groups:
        at = np.concatenate([group, group + m]) if offset else group
        part = form[np.ix_(at, at)]
        found, spread, energy = _solve_group(part, len(group), offset, ridge, device)
        gain[group], error[group] = found[: len(group)], spread[: len(group)]
        shift[group] = found[len(group) :] if offset else 0.0
        left += energy
    freedom = (
        int(sums.seen[band] - sums.cells[band]) - sum(len(g) * (1 + offset) for g in links.groups) + len(links.groups)
    )
    if noise_var is not None and left < -0.5 * noise_var * max(freedom, 1):
        raise BadInput(
            "the lines agree better than noise of the given snr allows: give a higher one, or none to have it estimated"
        )
    variance = noise_var if noise_var is not None else left / freedom if freedom > 0 else math.inf
    power = float(sums.power[band])
    notes = []
    if links.weak:
        notes.append(
            f"weakly linked: the relative spectral gap of G is {links.gap:.2g}, below {WEAK:g}; errors add up along the "
            f"chain of detectors (expected standard error {100 * links.predicted:.2g} %): add lines with larger and "
            "different shifts"
        )
    residual = math.sqrt(max(left, 0.0) / power) if power > 0 else 0.0
    return BandGains(gain, shift, error * math.sqrt(variance), links, residual, notes)


def _solve_group(
    form: np.ndarray, size: int, offset: bool, ridge: float, device: str
) -> tuple[np.ndarray, np.ndarray, float]:
    """Solution with mean gain 1 (and mean offset 0), its standard error for unit residual variance, and s^T G s."""
    level = np.trace(form[:size, :size]) / size
    scale = np.ones(len(form))
    if offset:
        # Offsets in units of the values: both halves of the form get the same size.
        scale[size:] = math.sqrt(level / max(np.trace(form[size:, size:]) / size, 1e-300))
    scaled = form * scale[:, None] * scale[None, :]
    row = np.zeros(len(form))
    row[:size] = 1 / size
    rows = [row]
    if offset:
        rows.append(np.r_[np.zeros(size), np.full(size, 1 / size)])
    penalty = size * level * sum(np.outer(r, r) for r in rows)
    full = scaled + penalty
    right = size * level * row
    if ridge:
        full[np.arange(size), np.arange(size)] += ridge * level
        right = right + ridge * level * np.r_[np.ones(size), np.zeros(len(form) - size)]
    try:
        inverse = torch.linalg.inv(torch.from_numpy(full).to(device)).cpu().numpy()
    except torch.linalg.LinAlgError:
        raise BadInput(
            "the gains of the detectors cannot be told apart: the ground that they share is constant or empty"
        ) from None
    solution = inverse @ right
    mean = solution[:size].mean()
    if not np.isfinite(solution).all() or abs(mean) < 1e-12:
        raise BadInput("the gains of the detectors cannot be told apart: is the ground that they share dark?")
    solution = solution / mean
    # The constraint takes the mean out of the error: project it off.
    free = np.eye(len(form)) - sum(np.outer(r, r) * size for r in rows)
    spread = np.sqrt(np.maximum(((free @ inverse) * free).sum(1), 0)) * scale
    found = solution * scale
    return found, spread, float(found @ form @ found)


def residual_energy(sums: CellSums, band: int, gain: np.ndarray, offset: np.ndarray | None = None) -> float:
    """s^T G s over the detectors whose gain is known, relative to sum (s y)^2 (1 - 1/n): what overlaps disagree by."""
    known = np.flatnonzero(np.isfinite(gain))
    s = gain[known]
    form = sums.form(band, offset=offset is not None)
    at = known
    if offset is not None:
        at = np.concatenate([known, known + sums.detectors])
        s = np.concatenate([s, offset[known]])
    part = form[np.ix_(at, at)]
    power = float((gain[known] ** 2 * sums.square[band][known]).sum())
    return float(s @ part @ s) / power if power > 0 else 0.0
