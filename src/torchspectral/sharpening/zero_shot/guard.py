"""The guard beside the zero-shot methods: says for every band whether its adaptation can be trusted.

The authors' losses have no truth to hold on to. A band whose spectral loss ends above that of the plainly interpolated
band has lost colour for sharpness; the guard measures that, names such bands, and can put the interpolated band in
their place. It never changes how a method learns.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

ADAPTED, SKIPPED, FALLEN_BACK = "adapted", "skipped", "interpolated"


@dataclass
class Guard:
    """Per-band record of an adaptation, in the order of the scene's bands.

    Attributes
    ----------
    reference : ndarray, shape (bands,)
        m_b: spectral loss of the interpolated band, in working units.
    spectral : ndarray, shape (bands,)
        Spectral loss of the sharpened band.
    correlation : ndarray, shape (bands,)
        Mean absolute local correlation with the PAN.
    target : ndarray, shape (bands,)
        Largest spectral / reference that counts as converged; 1 where the method sets none.
    iterations : ndarray of int, shape (bands,)
    status : list of str
        "adapted", "skipped" or "interpolated" (fallen back).
    reached : list of bool
        Whether a method with a limit ever came below it.
    """

    bands: int
    reference: np.ndarray = field(init=False)
    spectral: np.ndarray = field(init=False)
    correlation: np.ndarray = field(init=False)
    target: np.ndarray = field(init=False)
    iterations: np.ndarray = field(init=False)
    status: list[str] = field(init=False)
    reached: list[bool] = field(init=False)

    def __post_init__(self) -> None:
        for name in ("reference", "spectral", "correlation"):
            setattr(self, name, np.full(self.bands, np.nan))
        self.target = np.ones(self.bands)
        self.iterations = np.zeros(self.bands, dtype=np.int64)
        self.status = [SKIPPED] * self.bands
        self.reached = [True] * self.bands

    @property
    def ratio(self) -> np.ndarray:
        """L_spec / m_b of each band; NaN where nothing was measured."""
        ok = self.reference > 0
        return np.where(ok, self.spectral / np.where(ok, self.reference, 1.0), np.nan)

    def note(
        self,
        band: int,
        *,
        reference: float,
        spectral: float,
        correlation: float,
        iterations: int,
        target: float = 1.0,
        reached: bool = True,
    ) -> None:
        """Record a band that was adapted."""
        self.reference[band], self.spectral[band] = reference, spectral
        self.correlation[band], self.iterations[band] = correlation, iterations
        self.target[band], self.reached[band] = target, reached
        self.status[band] = ADAPTED

    def above(self, limit: float = 1.0) -> list[int]:
        """Bands whose spectral loss exceeds `limit` times the interpolated band's."""
        return [int(b) for b in np.flatnonzero(np.nan_to_num(self.ratio, nan=0.0) > limit)]

    def saturated(self) -> list[int]:
        """Adapted bands that never came below the limit of the method."""
        return [b for b in range(self.bands) if self.status[b] == ADAPTED and not self.reached[b]]

    def fall_back(self) -> list[int]:
        """Mark the bands that are worse than interpolation as interpolated; returns them."""
        chosen = [b for b in self.above() if self.status[b] == ADAPTED]
        for band in chosen:
            self.status[band] = FALLEN_BACK
        return chosen

    def interpolated(self) -> list[bool]:
        """For each band, whether the interpolated band is handed out."""
        return [status != ADAPTED for status in self.status]

    def warnings(self, names: Sequence[str]) -> list[str]:
        """What a reader of the result must know, one sentence each.

        Parameters
        ----------
        names : sequence of str
            How to call the bands.
        """
        lines = []
        worse, fallen = self.above(), [b for b, s in enumerate(self.status) if s == FALLEN_BACK]
        kept = [b for b in worse if b not in fallen]
        if kept:
            lines.append(
                f"{len(kept)} of {self.bands} bands ended with a larger spectral loss than plain interpolation, did not "
                f"converge ({_listed(kept, names)}): their colours are not to be trusted; fallback=true hands out "
                "the interpolated bands instead"
            )
        if fallen:
            lines.append(f"{len(fallen)} bands did not converge and are interpolated ({_listed(fallen, names)})")
        slow = [b for b in self.saturated() if b not in worse]
        if slow:
            lines.append(
                f"{len(slow)} of {self.bands} bands never reached the spectral limit, so that no detail was asked of "
                f"them ({_listed(slow, names)})"
            )
        skipped = [b for b, s in enumerate(self.status) if s == SKIPPED]
        if skipped:
            lines.append(
                f"{len(skipped)} bands were skipped as empty or noise and are interpolated ({_listed(skipped, names)})"
            )
        return lines

    def table(self, wavelength: np.ndarray) -> dict[str, list[Any]]:
        """Columns of the per-band table; bands count from 1."""
        return {
            "band": list(range(1, self.bands + 1)),
            "wavelength": [float(w) for w in wavelength],
            "status": list(self.status),
            "iterations": [int(n) for n in self.iterations],
            "spectral_loss": [float(v) for v in self.spectral],
            "interpolated_loss": [float(v) for v in self.reference],
            "spectral_ratio": [float(v) for v in self.ratio],
            "target_ratio": [float(v) for v in self.target],
            "correlation": [float(v) for v in self.correlation],
            "converged": [
                bool(s == ADAPTED and ok and not r > 1)
                for s, ok, r in zip(self.status, self.reached, self.ratio, strict=True)
            ],
        }

    def pack(self) -> dict[str, Any]:
        """Plain values for a state."""
        return {
            "numbers": torch.from_numpy(
                np.stack([self.reference, self.spectral, self.correlation, self.target, self.iterations.astype(float)])
            ),
            "status": list(self.status),
            "reached": [bool(r) for r in self.reached],
        }

    @classmethod
    def unpack(cls, packed: dict[str, Any]) -> Guard:
        """From `pack`."""
        numbers = packed["numbers"].cpu().numpy()
        out = cls(numbers.shape[1])
        out.reference, out.spectral, out.correlation, out.target = (np.array(row) for row in numbers[:4])
        out.iterations = numbers[4].astype(np.int64)
        out.status, out.reached = list(packed["status"]), [bool(r) for r in packed["reached"]]
        return out


class Trace:
    """Losses of every iteration: band, iteration, spectral, structural (unthresholded), its weight, what was minimised."""

    COLUMNS = ("band", "iteration", "spectral", "structural", "weight", "total")

    def __init__(self, rows: torch.Tensor | None = None) -> None:
        self._done = rows if rows is not None else torch.empty(0, len(self.COLUMNS), dtype=torch.float64)
        self._new: list[tuple[float, ...]] = []

    def add(self, band: int, iteration: int, spectral: float, structural: float, weight: float, total: float) -> None:
        """Record one iteration of a band (from 0)."""
        self._new.append((band, iteration, spectral, structural, weight, total))

    def rows(self) -> torch.Tensor:
        """All rows so far, (n, 6) float64."""
        if self._new:
            self._done = torch.cat([self._done.cpu(), torch.tensor(self._new, dtype=torch.float64)])
            self._new = []
        return self._done

    @classmethod
    def table(cls, rows: torch.Tensor) -> dict[str, torch.Tensor]:
        """Columns of the table of all iterations; bands count from 1."""
        band, iteration, *numbers = rows.cpu().T
        whole = {"band": band.long() + 1, "iteration": iteration.long()}
        return whole | {name: column.float() for name, column in zip(cls.COLUMNS[2:], numbers, strict=True)}


def measure(
    sharp_seen: torch.Tensor, up_seen: torch.Tensor, low: torch.Tensor, field_: torch.Tensor, weight: Any, fine: Any
) -> tuple[float, float, float]:
    """Spectral loss of the sharp and of the interpolated band, and mean |c|.

    Parameters
    ----------
    sharp_seen, up_seen, low : Tensor, shape (n, 1, y, x)
        Views of both (see `losses.SensorView`) and the coarse band, cropped alike.
    field_ : Tensor, shape (n, 1, y', x')
        Local correlation of the sharp band with the PAN.
    weight, fine : Tensor or None
        Weights of both grids.
    """
    from torchspectral.sharpening.zero_shot.losses import spectral_loss, weighted_mean

    return (
        float(spectral_loss(sharp_seen, low, weight)),
        float(spectral_loss(up_seen, low, weight)),
        float(weighted_mean(field_.abs(), fine)),
    )


def _listed(bands: Sequence[int], names: Sequence[str], most: int = 12) -> str:
    shown = ", ".join(names[b] for b in bands[:most])
    return shown + (", .." if len(bands) > most else "")
