"""Reconstruction of spectra as methods of the engine: the instrument is the state, interferograms stream through it."""

from __future__ import annotations

from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch

from torchspectral.calibration.interferometer.forward import nearest_ring
from torchspectral.calibration.interferometer.geometry import off_axis_cosines
from torchspectral.calibration.interferometer.inversion import make_solver
from torchspectral.calibration.interferometer.settings import (
    IdctSettings,
    LorisVerhoevenSettings,
    PinvSettings,
    RidgeSettings,
    TsvdSettings,
    TwomeySettings,
)
from torchspectral.calibration.interferometer.solvers import Solver
from torchspectral.calibration.interferometer.strength import choose_strength
from torchspectral.engine.method import Input, Method, Output, SceneInfo, Scope, Size, Source, State, Tile
from torchspectral.errors import BadInput, BandMismatch
from torchspectral.settings import Settings

SAMPLE = 1024
"""Interferograms of the scene by which a strength is chosen."""


class _Reconstruction(Method):
    """What all inversions share.

    State
    -----
    matrix : Tensor, shape (rings, I, K)
        The instrument for each direction, see `forward_matrix`.
    rows : list of int
        Interferometers that are used, of the bands handed over.
    rings : list of float
        Cosine of each direction.
    field_of_view : float
        Angle at the corner of the scene [deg].
    wavelength : list
        Of the K bands [nm].
    opd, wavenumber : Tensor, shapes (I,) and (K,)
        Used by the cosine transform.
    strength : float or None
        Ratio or regularisation, chosen on the scene where the settings and the state leave it open.
    """

    name: ClassVar[str] = ""
    inputs = (Input("interferogram"),)
    outputs: tuple[Output, ...] = (
        Output("spectra", names="=wavelength", undo_scale=False),
        Output("rmse", kind="layers", names=("rmse",), undo_scale=False),
    )
    scope = Scope.PIXEL
    fill = "none"
    needs_fit = True
    starts_from_state = True

    def __init__(self, settings: Settings | None = None) -> None:
        super().__init__(settings)
        self._solvers: dict[tuple[int, str], tuple[torch.Tensor, float | None, Solver]] = {}
        self._shape = (0, 0)

    def prepare(self, info: SceneInfo) -> None:
        """Remember how large the scene is: directions are counted from its centre."""
        self._shape = info.shape

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Check the instrument against the scene, and choose the regularisation on some of its interferograms."""
        if state is None or "matrix" not in state:
            raise BadInput(
                "got no instrument to reconstruct with: use ts.reconstruct(interferogram, instrument), or --device"
            )
        if state["matrix"].shape[1] != source.info.bands:
            raise BandMismatch(
                f"got interferograms of {source.info.bands} bands for a device of {state['matrix'].shape[1]} "
                "interferometers, expected as many"
            )
        state = dict(state)
        if "strength" not in state:
            ring, y = self._sample(source, state)
            y = y[:, torch.isfinite(y).all(dim=0)].double()
            open_choice = any(isinstance(v, str) for k, v in self.settings if k in ("regularisation", "ratio"))
            if open_choice and not y.shape[1]:
                raise BadInput("no pixel has all interferograms, expected some to choose the regularisation by")
            rows = torch.as_tensor(state["rows"], device=y.device)
            chosen = choose_strength(self.name, state["matrix"][ring].to(y.device)[rows], self.settings, y[rows])
            state |= {"strength": chosen.value, "chosen_by": chosen.how}
        return state

    def _sample(self, source: Source, state: State) -> tuple[int, torch.Tensor]:
        """Some interferograms (I, n) that share a direction, and which."""
        rings = np.asarray(state.get("rings", [1.0]))
        if rings.size == 1:
            return 0, source.sample(SAMPLE)
        cosines = off_axis_cosines(self._shape, float(state.get("field_of_view", 0.0)))
        ring = int(np.bincount(nearest_ring(cosines, rings).ravel()).argmax())
        return ring, source.reduce(partial(self._pixels_of, ring=ring, state=state), _joined)

    def _pixels_of(self, tile: Tile, ring: int, state: State) -> torch.Tensor:
        here = self._ring_of(tile, state).reshape(1, 1, tile.window.height, tile.window.width)
        keep = (tile.core(here)[0, 0] == ring) & tile.core(tile.valid)[0, 0].cpu()
        return tile.core("interferogram")[0][:, keep][:, :SAMPLE]

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Spectra (n, K, y, x) and root mean square of T x - y (n, 1, y, x)."""
        y = tile["interferogram"]
        matrices = state["matrix"].to(y.device, torch.float64)
        if matrices.shape[1] != y.shape[1]:
            raise BandMismatch(
                f"got interferograms of {y.shape[1]} bands for a device of {matrices.shape[1]} interferometers, expected "
                "as many"
            )
        rows = torch.as_tensor(state["rows"], device=y.device)
        n, height, width = y.shape[0], y.shape[2], y.shape[3]
        flat = y[:, rows].movedim(1, 0).reshape(len(rows), -1).double()
        whole = torch.isfinite(flat).all(dim=0)
        ring = self._ring_of(tile, state).to(y.device).repeat(n)
        spectra = flat.new_full((matrices.shape[2], flat.shape[1]), float("nan"))
        rmse = flat.new_full((1, flat.shape[1]), float("nan"))
        for number in range(len(matrices)):
            here = (whole & (ring == number)).nonzero()[:, 0]
            if len(here):
                matrix = matrices[number, rows]
                x = self._solver(number, matrix, state).solve(flat[:, here])
                spectra[:, here] = x
                rmse[0, here] = (matrix @ x - flat[:, here]).square().mean(dim=0).sqrt()
        return {
            name: value.reshape(-1, n, height, width).movedim(1, 0).float()
            for name, value in (("spectra", spectra), ("rmse", rmse))
        }

    def _ring_of(self, tile: Tile, state: State) -> torch.Tensor:
        window = tile.window
        rings = np.asarray(state.get("rings", [1.0]))
        if rings.size == 1:
            return torch.zeros(window.height * window.width, dtype=torch.long)
        cosines = off_axis_cosines(self._shape, float(state.get("field_of_view", 0.0)))[window.slices]
        return torch.from_numpy(nearest_ring(cosines, rings)).reshape(-1)

    def _solver(self, number: int, matrix: torch.Tensor, state: State) -> Solver:
        strength = state.get("strength")
        key = (number, str(matrix.device))
        known = self._solvers.get(key)
        if known is None or known[1] != strength or not torch.equal(known[0], matrix):
            axes = {}
            if self.name == "idct":
                rows = torch.as_tensor(state["rows"], device=matrix.device)
                axes = {"opd": state["opd"].to(matrix.device)[rows], "wavenumber": state["wavenumber"]}
            known = (matrix, strength, make_solver(self.name, matrix, self.settings, strength, **axes))
            self._solvers[key] = known
        return known[2]

    def memory(self, size: Size) -> dict[str, int]:
        """Float64 copies of interferograms and spectra, and of the solvers' matrices."""
        pixels = size.rows * size.cols
        return {"fit": SAMPLE * size.bands * 32 + 64 * 2**20, "apply": pixels * size.bands * 48 + 64 * 2**20}

    def figures(self, state: State) -> dict[str, Any]:
        """Interferometers used, and the regularisation."""
        found: dict[str, Any] = {"interferometers": len(state.get("rows", []))}
        if state.get("strength") is not None:
            found |= {"strength": float(state["strength"]), "chosen_by": state.get("chosen_by", "given")}
        return found


def _joined(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    return torch.cat([one, other], dim=1)[:, :SAMPLE]


class InverseCosine(_Reconstruction):
    """Inverse cosine transform along the path difference; for regular path differences from 0 alone.

    References
    ----------
    Jouni, Picone, Dalla Mura, "Reconstruction of spectra from interferograms in multiple-beam interference
    spectroscopy" (2024).
    """

    name = "idct"
    Settings = IdctSettings


class PseudoInverse(_Reconstruction):
    """Least squares of smallest norm; amplifies noise where the instrument hardly tells spectra apart.

    References
    ----------
    Penrose, "A generalized inverse for matrices", Proc. Cambridge Phil. Soc. 51(3), 1955.
    """

    name = "pinv"
    Settings = PinvSettings


class TruncatedSvd(_Reconstruction):
    """Least squares on the leading singular vectors.

    References
    ----------
    Hansen, "The truncated SVD as a method for regularization", BIT 27, 1987.
    """

    name = "tsvd"
    Settings = TsvdSettings


class RidgeRegression(_Reconstruction):
    """Tikhonov's regularisation, with lambda by generalised cross-validation unless it is given.

    References
    ----------
    Golub, Heath, Wahba, "Generalized cross-validation as a method for choosing a good ridge parameter",
    Technometrics 21(2), 1979.
    """

    name = "ridge"
    Settings = RidgeSettings


class PhillipsTwomey(_Reconstruction):
    """Smoothest spectra that fit, with lambda by generalised cross-validation unless it is given.

    References
    ----------
    Phillips, "A technique for the numerical solution of certain integral equations of the first kind", J. ACM 9(1),
    1962. Twomey, "On the numerical solution of Fredholm integral equations of the first kind by the inversion of the
    linear system produced by quadrature", J. ACM 10(1), 1963.
    """

    name = "phillips-twomey"
    Settings = TwomeySettings


class LorisVerhoevenSparse(_Reconstruction):
    """Sparse spectra (in the cosine domain, as they are, or in their differences) by a primal-dual iteration.

    References
    ----------
    Loris and Verhoeven, Inverse Problems 27, 2011. Jouni, Picone, Dalla Mura, "Reconstruction of spectra from
    interferograms in multiple-beam interference spectroscopy" (2024).
    """

    name = "loris-verhoeven"
    Settings = LorisVerhoevenSettings
