"""Endmembers by vertex component analysis, abundances by constrained least squares: the field's first baseline."""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import numpy as np
import torch

from torchspectral.engine.method import (
    Input,
    Method,
    Output,
    Scope,
    Size,
    Source,
    State,
    Tile,
)
from torchspectral.errors import BadSettings, BandMismatch
from torchspectral.ops.fcls import AbundanceSolver, Constraint
from torchspectral.ops.gram import covariance, eigh_descending
from torchspectral.ops.vca import Extreme, VcaDraws, VcaProjection, find_extreme, vca_projection
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.counting import check_sums, choose_k
from torchspectral.unmixing.geometric.base import ENDMEMBERS, CountSettings, Extraction, endmember_names
from torchspectral.unmixing.library import bundles
from torchspectral.unmixing.library.base import library_state
from torchspectral.unmixing.picking import collect, core_index, farther, spectra_at

__all__ = ["ENDMEMBERS", "Fcls", "Vca", "VcaFcls", "VcaSettings", "endmember_names", "find_endmembers"]

RANK = 1e-6
"""Singular values below this share of the largest one are what rounding to float32 leaves of none."""


class VcaSettings(CountSettings):
    """Vertex component analysis; defaults of the paper."""

    snr: float | None = setting(None, "signal-to-noise ratio that chooses the projection; None: estimated", unit="dB")
    denoise: bool = setting(True, "return chosen pixels projected on the signal subspace, or as they are")
    draws: int = setting(1, "runs with random directions of their own; the one whose simplex is largest is kept", ge=1)
    projections: int = setting(
        256, "scenes whose k projections a pixel take more are read once for each endmember instead", unit="MB", ge=0
    )


class VcaFclsSettings(VcaSettings):
    """VCA and the constraints of the abundances."""

    constraint: Constraint = setting(
        "fcls", "fcls: non-negative, sum to one; scls: sum to one; nnls: non-negative; ucls: neither"
    )


class FclsSettings(Settings):
    """Abundances of given endmembers."""

    normalisation: bundles.Normalisation = setting(
        "none",
        "of spectra and pixels: none, l2, brightness (root mean square outside the water bands) or a wavelength [nm]; "
        "the residual stays in the cube's units",
    )
    shade: bool = setting(False, "a spectrum of zeros is one of the endmembers")

    constraint: Constraint = setting(
        "fcls", "fcls: non-negative, sum to one; scls: sum to one; nnls: non-negative; ucls: neither"
    )


class Vca(Extraction):
    """Endmembers alone: the spectra of the purest pixels.

    State
    -----
    endmembers : Tensor, shape (k, bands)
    endmember_names : list of str
    pixels : list of [row, col]
        Where each endmember was found.
    snr : float
        Estimated signal-to-noise ratio [dB].
    counts : dict
        With k=auto, what HySime, HFC and NWHFC counted.

    References
    ----------
    Nascimento and Bioucas-Dias, "Vertex component analysis: a fast algorithm to unmix hyperspectral data",
    IEEE TGRS 43(4), 2005.
    """

    Settings = VcaSettings
    told = ("snr", "projection")

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Find the endmembers; streams the scene four times, or k + 2 times where its projections do not fit."""
        if state is not None and "endmembers" in state:
            return state
        return find_endmembers(source, seed, self.settings)

    def memory(self, size: Size) -> dict[str, int]:
        """Float64 copies of one chunk and the kept projections."""
        pixels = size.rows * size.cols
        return {
            "fit": 2 * self.settings.projections * 2**20 + pixels * size.bands * 4,
            "apply": pixels * size.bands * 4,
        }


class Abundances(Method):
    """What methods with abundances share: one solver, abundances and the residual of each pixel."""

    outputs: tuple[Output, ...] = (
        Output("abundances", kind="layers", names="=endmember_names", undo_scale=False),
        Output("rmse", kind="layers", names=("rmse",), undo_scale=False),
        ENDMEMBERS,
    )

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self._solver: AbundanceSolver | None = None

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Abundances (n, k, y, x) and root mean square residual over the bands (n, 1, y, x), in the data's units."""
        cube = tile["cube"]
        return unmix_tile(cube, self._solver_for(self._spectra(tile, state), cube.shape[1]))

    @property
    def constraint(self) -> Constraint:
        """Of the abundances."""
        found: Constraint = self.settings.constraint
        return found

    def _spectra(self, tile: Tile, state: State) -> torch.Tensor:
        return state["endmembers"]

    def _solver_for(self, spectra: torch.Tensor, bands: int) -> AbundanceSolver:
        if spectra.shape[1] != bands:
            raise BandMismatch(
                f"the endmembers have {spectra.shape[1]} bands and the cube {bands}, expected the same: resample the "
                "spectra to the cube's wavelengths"
            )
        known = self._solver
        same = known is not None and known.endmembers.shape == spectra.shape
        if known is None or not same or not torch.equal(known.endmembers, spectra.to(known.endmembers)):
            self._solver = AbundanceSolver(spectra.detach(), self.constraint)
        assert self._solver is not None
        return self._solver

    def memory(self, size: Size) -> dict[str, int]:
        """Float64 copies of one chunk, abundances and reconstruction."""
        pixels = size.rows * size.cols
        kept = 2 * getattr(self.settings, "projections", 0) * 2**20
        return {"fit": kept + pixels * size.bands * 4, "apply": pixels * (size.bands * 8 + 800) + 64 * 2**20}


class VcaFcls(Abundances, Vca):
    """Endmembers by VCA, abundances by (fully) constrained least squares, exact.

    Outputs
    -------
    abundances : layers, one an endmember
    rmse : layer
        Root mean square residual over the bands, in the cube's units.
    endmembers : spectra

    References
    ----------
    Nascimento and Bioucas-Dias, IEEE TGRS 43(4), 2005. Heinz and Chang, IEEE TGRS 39(3), 2001.
    """

    Settings = VcaFclsSettings


class Fcls(Abundances):
    """Abundances of given endmembers: of a library, or of a state from `vca` or `vca-fcls`.

    References
    ----------
    Heinz and Chang, "Fully constrained least squares linear spectral mixture analysis method for material
    quantification in hyperspectral imagery", IEEE TGRS 39(3), 2001.
    """

    Settings = FclsSettings
    inputs = (Input("cube"), Input("library", kind="spectra", optional=True))
    scope = Scope.PIXEL

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        if self.settings.shade and self.settings.normalisation != "none":
            raise BadSettings("got shade=True with a normalisation, which removes shade: set normalisation=none")

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Put the library's spectra into the state; the scene's pixels are not looked at."""
        found = dict(library_state(source, state))
        found["wavelength"] = torch.from_numpy(np.asarray(source.info.wavelength, dtype=np.float64))
        if self.settings.shade:
            found["endmembers"] = torch.cat([found["endmembers"], torch.zeros_like(found["endmembers"][:1])])
            found["endmember_names"] = [*found["endmember_names"], "shade"]
        return found

    def figures(self, state: State) -> dict[str, Any]:
        """Condition number of the endmembers; a warning where the abundances are not unique."""
        if "endmembers" not in state:
            return {}
        spectra = state["endmembers"].to("cpu", torch.float64)
        values = torch.linalg.svdvals(spectra)
        rank = torch.linalg.matrix_rank(spectra, rtol=RANK)
        if self.settings.constraint in ("fcls", "scls"):
            ones = values[0].clamp_min(1e-300) * torch.ones_like(spectra[:, :1])
            rank = torch.linalg.matrix_rank(torch.cat([spectra, ones], dim=1), rtol=RANK)
        if int(rank) < len(spectra):
            return {
                "warnings": [
                    f"the {len(spectra)} spectra have rank {int(rank)}: abundances of those that depend on others are "
                    "one of many equally good answers"
                ]
            }
        return {"condition_number": float(f"{values[0] / values[-1].clamp_min(1e-300):.4g}")}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """As of every least squares; spectra and pixels are divided by their sizes first where that was asked for."""
        rule = self.settings.normalisation
        if rule == "none":
            return super().apply(tile, state)
        cube = tile["cube"]
        wavelength = state["wavelength"].cpu().numpy() if "wavelength" in state else tile.info.wavelength
        spectra = state["endmembers"].to(cube.device, torch.float64)
        spectra = spectra / bundles.sizes(spectra.T, rule, wavelength)[:, None]
        gauge = bundles.sizes(cube.movedim(1, 0).reshape(cube.shape[1], -1), rule, wavelength)
        gauge = gauge.reshape(cube.shape[0], 1, *cube.shape[2:])
        out = unmix_tile(cube / gauge, self._solver_for(spectra, cube.shape[1]))
        return {**out, "rmse": out["rmse"] * gauge}


def find_endmembers(source: Source, seed: int, settings: VcaSettings) -> State:
    """VCA on a streamed scene: sums first, then projections, never pixels by pixels.

    Raises
    ------
    BadInput
        No valid pixel, or a scene that does not span k endmembers.
    """
    gram = source.gram()
    n, total, cross = gram.n, gram.total.cpu(), gram.cross.cpu()
    check_sums(gram)
    k, counts = choose_k(settings.k, settings.most, n, total, cross)
    projection = vca_projection(n, total, cross, k, settings.snr)
    if not projection.high_snr:
        height = source.reduce(partial(_largest_norm, projection=projection), max)
        projection = projection.with_height(height)
    draws = [VcaDraws(k, seed if run == 0 else (seed, run)) for run in range(settings.draws)]
    if n * (k + 1) * 8 <= settings.projections * 2**20:
        every = _draw_from_kept(source, projection, draws)
    else:
        every = _draw_by_passes(source, projection, draws)
    candidates = [torch.stack([e.spectrum for e in found], dim=1) for found in every]
    if settings.denoise:
        candidates = [projection.denoised(spectra) for spectra in candidates]
    run = _largest(candidates, n, total, cross) if len(candidates) > 1 else 0
    found, spectra = every[run], candidates[run]
    cols = source.info.shape[1]
    return {
        "endmembers": spectra.T.contiguous(),
        "endmember_names": endmember_names(k),
        "pixels": [[e.index // cols, e.index % cols] for e in found],
        "k": k,
        "counts": counts,
        "snr": round(projection.snr, 4) if math.isfinite(projection.snr) else str(projection.snr),
        "projection": "projective" if projection.high_snr else "orthogonal",
    }


def _largest_norm(tile: Tile, projection: VcaProjection) -> float:
    return projection.largest_norm(tile.core_pixels("cube"))


def _farthest(tile: Tile, projection: VcaProjection, directions: list[torch.Tensor]) -> list[Extreme | None]:
    pixels, index = tile.core_pixels("cube"), core_index(tile)
    coordinates = projection.coordinates(pixels)
    return [find_extreme(coordinates, direction, index, pixels) for direction in directions]


def _all_farther(one: list[Extreme | None], other: list[Extreme | None]) -> list[Extreme | None]:
    return [farther(a, b) for a, b in zip(one, other, strict=True)]


def _draw_from_kept(source: Source, projection: VcaProjection, runs: list[VcaDraws]) -> list[list[Extreme]]:
    coordinates, index = collect(source, projection.coordinates)
    for draws in runs:
        for _ in range(projection.k):
            draws.accept(find_extreme(coordinates, draws.direction(), index))
    spectra = iter(spectra_at(source, [e.index for draws in runs for e in draws.found]))
    return [[Extreme(e.score, e.index, e.coordinates, next(spectra)) for e in draws.found] for draws in runs]


def _draw_by_passes(source: Source, projection: VcaProjection, runs: list[VcaDraws]) -> list[list[Extreme]]:
    for _ in range(projection.k):
        f = partial(_farthest, projection=projection, directions=[draws.direction() for draws in runs])
        for draws, found in zip(runs, source.reduce(f, _all_farther), strict=True):
            draws.accept(found)
    return [draws.found for draws in runs]


def _largest(candidates: list[torch.Tensor], n: int, total: torch.Tensor, cross: torch.Tensor) -> int:
    """Which of the sets of endmembers (bands, k) spans the largest volume along the scene's principal axes."""
    k = candidates[0].shape[1]
    axes = eigh_descending(covariance(n, total, cross))[1][:, : k - 1]
    corners = [axes.T @ (spectra - (total / n)[:, None]) for spectra in candidates]
    volumes = [torch.linalg.slogdet(torch.cat([torch.ones_like(c[:1]), c]))[1] for c in corners]
    return int(torch.stack(volumes).argmax())


def unmix_tile(cube: torch.Tensor, solver: AbundanceSolver) -> dict[str, torch.Tensor]:
    """Abundances (n, k, y, x) and root mean square residual over the bands (n, 1, y, x) of (n, bands, y, x)."""
    n, bands, rows, cols = cube.shape
    pixels = cube.movedim(1, 0).reshape(bands, -1)
    abundances = solver.solve(pixels)
    spectra = solver.endmembers.to(cube.device, pixels.dtype)
    rmse = torch.empty(pixels.shape[1], dtype=pixels.dtype, device=pixels.device)
    chunk = 32_768
    for start in range(0, pixels.shape[1], chunk):
        part = slice(start, start + chunk)
        model = spectra.T @ abundances[:, part].to(pixels.dtype)
        rmse[part] = (pixels[:, part] - model).square_().mean(0).sqrt_()
    return {
        "abundances": abundances.reshape(-1, n, rows, cols).movedim(1, 0).to(cube.dtype),
        "rmse": rmse.reshape(n, 1, rows, cols),
    }
