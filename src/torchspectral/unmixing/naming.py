"""Names for endmembers: those of the spectra of a library that are nearest by angle.

No library is bundled: spectral libraries have licences of their own. Any that `read_library` reads will do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.engine.method import Method, SceneInfo, Source, State
from torchspectral.errors import BandMismatch, MissingMetadata
from torchspectral.unmixing.scoring import angle_matrix

MAX_ANGLE = 0.2
"""Largest angle [rad] at which an endmember takes a library's name."""
LEAST_BANDS = 3


@dataclass
class Naming:
    """Names from a library.

    Attributes
    ----------
    values : ndarray, shape (spectrum, band)
    wavelength : ndarray, shape (band,)
        [nm]
    names : list of str
    max_angle : float
        [rad]; endmembers farther than this from every spectrum keep their name.
    found : dict
        After a fit: for each endmember its name, the nearest spectrum and the angle [rad].
    """

    values: np.ndarray
    wavelength: np.ndarray
    names: list[str]
    max_angle: float = MAX_ANGLE
    found: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, library: xr.DataArray, max_angle: float = MAX_ANGLE) -> Naming:
        """From spectra with wavelengths.

        Raises
        ------
        MissingMetadata
            They have none.
        """
        wavelength = np.asarray(library["wavelength"].values, dtype=np.float64)
        if not np.isfinite(wavelength).any():
            raise MissingMetadata("the library to take names from has no wavelengths, expected them in nm")
        values = np.asarray(library.values, dtype=np.float64)
        return cls(values, wavelength, [str(n) for n in library["spectrum"].values], max_angle)

    def on(self, wavelength: np.ndarray) -> np.ndarray:
        """The spectra at other wavelengths (linear between bands), NaN beyond their ends."""
        out = np.full((len(self.values), len(wavelength)), np.nan)
        for row, spectrum in zip(out, self.values, strict=True):
            keep = np.isfinite(spectrum) & np.isfinite(self.wavelength)
            order = np.argsort(self.wavelength[keep])
            if keep.sum() > 1:
                at, of = self.wavelength[keep][order], spectrum[keep][order]
                row[:] = np.interp(wavelength, at, of, left=np.nan, right=np.nan)
        return out

    def match(self, spectra: np.ndarray, wavelength: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Nearest spectrum of the library for each endmember (k, bands), and the angle [rad].

        Raises
        ------
        MissingMetadata
            The endmembers have no wavelengths.
        BandMismatch
            No spectrum of the library shares three bands with them.
        """
        if not np.isfinite(wavelength).any():
            raise MissingMetadata("the scene has no wavelengths, so that no library can name its endmembers: set them")
        known = self.on(wavelength)
        able = np.isfinite(known).sum(1) >= LEAST_BANDS
        if not able.any():
            raise BandMismatch(
                f"the library to take names from covers {np.nanmin(self.wavelength):.0f} to "
                f"{np.nanmax(self.wavelength):.0f} nm and the scene {np.nanmin(wavelength):.0f} to "
                f"{np.nanmax(wavelength):.0f} nm, expected at least {LEAST_BANDS} bands in common"
            )
        angles = np.full((len(spectra), len(known)), np.inf)
        # Spectra that cover the same bands are compared at once.
        patterns, group = np.unique(np.isfinite(known), axis=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            rows = np.flatnonzero((group.reshape(-1) == number) & able)
            if rows.size:
                angles[:, rows] = angle_matrix(spectra[:, pattern], known[rows][:, pattern])
        angles = np.nan_to_num(angles, nan=np.inf)
        best = angles.argmin(1)
        return best, angles[np.arange(len(spectra)), best]

    def rename(self, state: Mapping[str, Any], info: SceneInfo) -> State:
        """The state with names of the library where an endmember is near enough."""
        if "endmembers" not in state or "endmember_names" not in state:
            return dict(state)
        given = state["endmembers"]
        spectra = np.asarray(given.detach().cpu() if hasattr(given, "detach") else given, dtype=np.float64)
        if spectra.shape[1] != info.bands:
            return dict(state)
        best, angle = self.match(spectra, np.asarray(info.wavelength))
        before = [str(n) for n in state["endmember_names"]]
        near = angle <= self.max_angle
        names = [self.names[b] if ok else old for b, ok, old in zip(best, near, before, strict=True)]
        names = [n if names.count(n) == 1 else f"{n} ({names[: i + 1].count(n)})" for i, n in enumerate(names)]
        self.found = {
            name: {"was": old, "nearest": self.names[b], "angle": round(float(a), 4) if np.isfinite(a) else None}
            for name, old, b, a in zip(names, before, best, angle, strict=True)
        }
        return {**state, "endmember_names": names}


@dataclass
class NamedFit:
    """A method's `fit` whose endmembers are named."""

    method: Method
    naming: Naming

    def __call__(self, source: Source, seed: int, state: State | None) -> Any:
        """See `Method.fit`."""
        found = type(self.method).fit(self.method, source, seed, state)
        if isinstance(found, Mapping):
            return self.naming.rename(found, source.info)
        return self._rounds(found, source)

    def _rounds(self, rounds: Any, source: Source) -> Iterator[tuple[State, float]]:
        for state, fraction in rounds:
            yield self.naming.rename(state, source.info), fraction
