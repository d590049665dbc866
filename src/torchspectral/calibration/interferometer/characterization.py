"""What is known of an instrument after its characterisation: parameters of each interferometer, their fit, their flags."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from torchspectral.calibration.interferometer.formation import phase, transfer
from torchspectral.calibration.interferometer.geometry import Geometry
from torchspectral.calibration.interferometer.polynomials import Domain, check_family, convert, evaluate
from torchspectral.calibration.interferometer.regression import Bounds
from torchspectral.errors import BadInput

if TYPE_CHECKING:
    from pathlib import Path

PARAMETERS = ("opd", "gain", "reflectivity", "phase_shift")
FARTHEST = 1e7
"""Longest path difference [um]."""
MOST_COEFFICIENTS = 64
FLAGS = {
    "peak at the edge": "the path difference lies at the edge of the range that was searched",
    "not searched": "no path difference near the nominal one can be told from the wavenumbers",
    "large residual": "its residual is more than 3 robust standard deviations above the others'",
    "not converged": "the regression did not come to an end",
    "short path": "the path difference makes less than two and a half fringes over the wavenumbers",
    "left its fringe": "the regression moved the path difference by more than half a fringe",
    "poorly determined": "the standard error of the path difference exceeds a tenth of a fringe over the wavenumbers",
    "no signal": "the mean response, or the flat field, is not positive",
    "marked bad": "who edited the device file says so",
    "unphysical": "the fitted reflectivity leaves -1..1 within the wavenumbers",
}
"""What each flag means."""

FAILED = ("large residual", "no signal", "marked bad", "unphysical")
"""Flags that question the transmittance itself. The others question what it is made of: a path of few fringes
cannot be told from gain and reflectivity, but the three together are right within the lines, and short paths are what
smooth spectra are known by."""


@dataclass(frozen=True)
class Characterization:
    """Transmittance of I interferometers.

    Attributes
    ----------
    opd, gain, reflectivity, phase_shift : ndarray, shape (I, degree + 1)
        Coefficients of polynomials in the wavenumber: optical path difference [um], gain [units of the data],
        reflectivity [1], phase shift [rad].
    waves : int
        Waves that interfere; 0: infinitely many (Airy's function).
    family : str
        Of the polynomials.
    domain : (float, float), optional
        Wavenumbers [1/um] mapped to -1 and 1 before evaluation; None: raw wavenumbers, as the authors store them.
    bounds : Bounds, optional
        The reflectivity is the sigmoid of its polynomial between these.
    wavenumber : ndarray, shape (K,), optional
        At which it was characterised, ascending [1/um].
    rmse : ndarray, shape (I,), optional
        Root mean square of fit - data over the row's mean.
    opd_error : ndarray, shape (I,), optional
        Standard error of the path difference [um].
    nominal_opd : ndarray, shape (I,), optional
        As designed [um].
    flags : tuple of tuple of str
        Of each interferometer, see `FLAGS`; empty where nothing is wrong.
    name : str
    geometry : Geometry, optional
    recipe : list of dict
        Steps that made it.
    notes : tuple of str
    """

    opd: np.ndarray
    gain: np.ndarray
    reflectivity: np.ndarray
    phase_shift: np.ndarray
    waves: int = 0
    family: str = "Polynomial"
    domain: Domain | None = None
    bounds: Bounds | None = None
    wavenumber: np.ndarray | None = None
    rmse: np.ndarray | None = None
    opd_error: np.ndarray | None = None
    nominal_opd: np.ndarray | None = None
    flags: tuple[tuple[str, ...], ...] = ()
    name: str = ""
    geometry: Geometry | None = None
    recipe: list[dict[str, Any]] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_family(self.family)
        count = None
        for name in PARAMETERS:
            try:
                value = np.asarray(getattr(self, name), dtype=np.float64)
            except (TypeError, ValueError):
                raise BadInput(f"got {name} that are no numbers, expected (interferometer, coefficient)") from None
            value = value[:, None] if value.ndim == 1 else value
            count = len(value) if count is None else count
            if value.ndim != 2 or 0 in value.shape or len(value) != count or value.shape[1] > MOST_COEFFICIENTS:
                raise BadInput(
                    f"got {name} of shape {value.shape}, expected ({count}, coefficients), at most {MOST_COEFFICIENTS}"
                )
            if not np.isfinite(value).all():
                raise BadInput(f"got {name} that are not finite, expected numbers for every interferometer")
            object.__setattr__(self, name, value)
        self._check_axes()
        far = np.abs(self.mean_opd())
        if not (far < FARTHEST).all():
            raise BadInput(f"got path differences of up to {far.max():.3g} um, expected less than {FARTHEST:g}")
        if self.flags and len(self.flags) != count:
            raise BadInput(f"got flags of {len(self.flags)} interferometers, expected {count}")
        if not self.flags:
            object.__setattr__(self, "flags", ((),) * int(count or 0))
        for name in ("rmse", "opd_error", "nominal_opd"):
            value = getattr(self, name)
            if value is not None and np.shape(value) != (count,):
                raise BadInput(
                    f"got {name} of shape {np.shape(value)}, expected one for each of {count} interferometers"
                )

    def _check_axes(self) -> None:
        if self.domain is not None and not (len(self.domain) == 2 and 0 < self.domain[0] < self.domain[1] < 1e6):
            raise BadInput(f"got the domain {self.domain}, expected two ascending wavenumbers [1/um]")
        if self.wavenumber is None:
            return
        known = np.asarray(self.wavenumber, dtype=np.float64)
        if known.ndim != 1 or known.size < 2 or not (np.diff(known) > 0).all() or not 0 < known[0] < known[-1] < 1e6:
            raise BadInput(
                f"got {known.size} wavenumbers that do not ascend, expected at least 2 above 0 in order [1/um]"
            )

    @property
    def count(self) -> int:
        """Interferometers."""
        return len(self.opd)

    @property
    def good(self) -> np.ndarray:
        """False for interferometers with a flag, shape (I,)."""
        return np.array([not f for f in self.flags], dtype=bool)

    @property
    def usable(self) -> np.ndarray:
        """True for interferometers whose transmittance is known, whatever its path difference, shape (I,): see `FAILED`."""
        return np.array([not set(f) & set(FAILED) for f in self.flags], dtype=bool)

    def at(self, wavenumber: np.ndarray) -> dict[str, np.ndarray]:
        """The four parameters sampled at wavenumbers (K,) [1/um]: arrays (I, K)."""
        values = {n: evaluate(getattr(self, n), wavenumber, self.family, self.domain) for n in PARAMETERS}
        if self.bounds is not None:
            values["reflectivity"] = self.bounds.forward(values["reflectivity"])
        return values

    def transfer(self, wavenumber: np.ndarray, cosine: float = 1.0) -> np.ndarray:
        """Transmittance at wavenumbers (K,) [1/um], shape (I, K), in units of the characterised data.

        Parameters
        ----------
        cosine : float
            Of the angle under which the light comes: it shortens the path difference.
        """
        v = self.at(np.asarray(wavenumber, dtype=np.float64))
        return transfer(
            phase(v["opd"] * cosine, wavenumber, v["phase_shift"]), v["reflectivity"], v["gain"], self.waves
        )

    def mean_opd(self) -> np.ndarray:
        """Path difference of each interferometer, averaged over the wavenumbers [um], shape (I,)."""
        return np.asarray(self.at(self.known_wavenumber())["opd"].mean(axis=1))

    def known_wavenumber(self) -> np.ndarray:
        """Wavenumbers at which it was characterised, else over its domain, else 1 to 2 [1/um]."""
        if self.wavenumber is not None:
            return np.asarray(self.wavenumber)
        return np.linspace(*self.domain, 101) if self.domain is not None else np.linspace(1.0, 2.0, 101)

    def raw(self) -> Characterization:
        """The same with coefficients on the raw wavenumber.

        Raises
        ------
        BadInput
            The reflectivity is bounded: its sigmoid is no polynomial.
        """
        if self.bounds is not None:
            raise BadInput(
                "the reflectivity is the sigmoid of a polynomial, which raw coefficients cannot say: fit without bounds"
            )
        if self.domain is None:
            return self
        found: dict[str, Any] = {
            n: convert(getattr(self, n), self.family, self.domain, self.family, None) for n in PARAMETERS
        }
        return replace(self, domain=None, **found)

    def rows(self, index: Any) -> Characterization:
        """Some of the interferometers."""
        chosen = np.arange(self.count)[index]
        found: dict[str, Any] = {}
        for name in (*PARAMETERS, "rmse", "opd_error", "nominal_opd"):
            value = getattr(self, name)
            found[name] = None if value is None else value[chosen]
        return replace(self, flags=tuple(self.flags[i] for i in chosen), geometry=None, **found)

    def table(self) -> list[dict[str, Any]]:
        """One row an interferometer: path difference [um], its error, nominal one, reflectivity and gain at the middle
        wavenumber, phase shift [rad], relative RMSE, flags.
        """
        wavenumber = self.known_wavenumber()
        middle = self.at(np.array([(wavenumber[0] + wavenumber[-1]) / 2]))
        opd = self.mean_opd()
        rows = []
        for i in range(self.count):
            row: dict[str, Any] = {"interferometer": i, "opd [um]": float(opd[i])}
            for title, value in (
                ("opd error [um]", self.opd_error),
                ("nominal opd [um]", self.nominal_opd),
            ):
                if value is not None:
                    row[title] = float(value[i])
            row["reflectivity"] = float(middle["reflectivity"][i, 0])
            row["gain"] = float(middle["gain"][i, 0])
            row["phase shift [rad]"] = float(middle["phase_shift"][i, 0])
            if self.rmse is not None:
                row["rmse"] = float(self.rmse[i])
            row["flags"] = "; ".join(self.flags[i])
            rows.append(row)
        return rows

    def figures(self) -> dict[str, Any]:
        """Numbers that sum it up."""
        opd = self.mean_opd()
        found: dict[str, Any] = {
            "interferometers": self.count,
            "flagged": int((~self.good).sum()),
            "failed": int((~self.usable).sum()),
            "opd_min": float(opd.min()),
            "opd_max": float(opd.max()),
        }
        if self.rmse is not None:
            found |= {"rmse_mean": float(self.rmse.mean()), "rmse_median": float(np.median(self.rmse))}
        return found

    def save(self, path: str | Path, *, overwrite: bool = False) -> Path:
        """Write ``FILE.json``, or a folder in the authors' layout; see `device_files`."""
        from torchspectral.calibration.interferometer.device_files import save_device

        return save_device(self, path, overwrite=overwrite)
