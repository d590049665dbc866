"""Endmembers by vertex component analysis, abundances by constrained least squares: the field's first baseline."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import torch

from torchspectral.engine.method import (
    BandRule,
    Gram,
    Input,
    Method,
    Output,
    SceneInfo,
    Scope,
    Size,
    Source,
    State,
    Tile,
)
from torchspectral.errors import BadInput, BadSettings, BandMismatch
from torchspectral.ops.fcls import AbundanceSolver, Constraint
from torchspectral.ops.noise import hfc, hysime
from torchspectral.ops.vca import Extreme, VcaDraws, VcaProjection, find_extreme, vca_projection
from torchspectral.settings import Settings, setting

ENDMEMBERS = Output("endmembers", kind="spectra", names="=endmember_names", undo_scale=True, from_state=True)


class VcaSettings(Settings):
    """Vertex component analysis; defaults of the paper."""

    k: int | Literal["auto"] = setting(
        "auto", 'endmembers p, at least 2; "auto" counts signal dimensions by HySime, an upper bound on real scenes'
    )
    most: int = setting(20, "largest number that k=auto may choose", ge=2)
    snr: float | None = setting(None, "signal-to-noise ratio that chooses the projection; None: estimated", unit="dB")
    denoise: bool = setting(True, "return chosen pixels projected on the signal subspace, or as they are")
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

    constraint: Constraint = setting(
        "fcls", "fcls: non-negative, sum to one; scls: sum to one; nnls: non-negative; ucls: neither"
    )


class Vca(Method):
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
    inputs = (Input("cube"),)
    outputs: tuple[Output, ...] = (ENDMEMBERS,)
    scope = Scope.PIXEL
    bands = BandRule(least=2)
    needs_fit = True

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        if self.settings.k != "auto" and self.settings.k < 2:
            raise BadSettings(f"got k={self.settings.k}, expected at least 2 endmembers: one leaves nothing to unmix")

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Find the endmembers; streams the scene four times, or k + 2 times where its projections do not fit."""
        if state is not None and "endmembers" in state:
            return state
        return find_endmembers(source, seed, self.settings)

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Nothing a pixel: the spectra come from the state."""
        return {}

    def memory(self, size: Size) -> dict[str, int]:
        """Float64 copies of one chunk and the kept projections."""
        pixels = size.rows * size.cols
        return {
            "fit": 2 * self.settings.projections * 2**20 + pixels * size.bands * 4,
            "apply": pixels * size.bands * 4,
        }

    def figures(self, state: State) -> dict[str, Any]:
        """Endmembers found, where, and how."""
        return {
            key: state[key]
            for key in ("k", "counts", "snr", "projection", "pixels")
            if state.get(key) not in (None, {})
        }


class _Abundances(Method):
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
        return _unmix_tile(cube, self._solver_for(self._spectra(tile, state), cube.shape[1]))

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
            self._solver = AbundanceSolver(spectra.detach(), self.settings.constraint)
        assert self._solver is not None
        return self._solver

    def memory(self, size: Size) -> dict[str, int]:
        """Float64 copies of one chunk, abundances and reconstruction."""
        pixels = size.rows * size.cols
        kept = 2 * getattr(self.settings, "projections", 0) * 2**20
        return {"fit": kept + pixels * size.bands * 4, "apply": pixels * (size.bands * 8 + 800) + 64 * 2**20}


class VcaFcls(_Abundances, Vca):
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


class Fcls(_Abundances):
    """Abundances of given endmembers: of a library, or of a state from `vca` or `vca-fcls`.

    References
    ----------
    Heinz and Chang, "Fully constrained least squares linear spectral mixture analysis method for material
    quantification in hyperspectral imagery", IEEE TGRS 39(3), 2001.
    """

    Settings = FclsSettings
    inputs = (Input("cube"), Input("library", kind="spectra", optional=True))
    scope = Scope.PIXEL

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Put the library's spectra into the state; the scene's pixels are not looked at."""
        if state is not None and "endmembers" in state:
            return state
        tile = next(iter(source.tiles()))
        if "library" not in tile:
            raise BadInput(
                'got neither a library nor a state with "endmembers", expected the spectra to unmix with: pass '
                "library=, or use vca-fcls"
            )
        spectra = tile["library"].to("cpu", torch.float64)
        return {"endmembers": spectra, "endmember_names": _library_names(source.info, len(spectra))}


def _library_names(info: SceneInfo, count: int) -> list[str]:
    names = list(info.names.get("library", ()))
    return [str(n) for n in names] if len(names) == count else endmember_names(count)


def endmember_names(k: int) -> list[str]:
    """The names that extracted endmembers get, in the order of extraction."""
    return [f"endmember {i}" for i in range(1, k + 1)]


def find_endmembers(source: Source, seed: int, settings: VcaSettings) -> State:
    """VCA on a streamed scene: sums first, then projections, never pixels by pixels.

    Raises
    ------
    BadInput
        No valid pixel, or a scene that does not span k endmembers.
    """
    gram = source.gram()
    n, total, cross = gram.n, gram.total.cpu(), gram.cross.cpu()
    _check(gram)
    k, counts = _count(n, total, cross, settings)
    projection = vca_projection(n, total, cross, k, settings.snr)
    if not projection.high_snr:
        height = source.reduce(partial(_largest_norm, projection=projection), max)
        projection = projection.with_height(height)
    if n * (k + 1) * 8 <= settings.projections * 2**20:
        found = _draw_from_kept(source, projection, seed)
    else:
        found = _draw_by_passes(source, projection, seed)
    spectra = torch.stack([e.spectrum for e in found], dim=1)
    if settings.denoise:
        spectra = projection.denoised(spectra)
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


def _check(gram: Gram) -> None:
    if gram.n < 2:
        raise BadInput(f"got {gram.n} valid pixels, expected at least 2 to find endmembers: check the mask and nodata")
    if not math.isfinite(gram.peak) or not bool(torch.isfinite(gram.cross).all()):
        raise BadInput("got pixels with infinite values, expected finite ones or nodata: mask them first")
    if not bool((gram.cross.diagonal() > 0).any()):
        raise BadInput("all valid pixels are zero, expected spectra")


def _count(
    n: int, total: torch.Tensor, cross: torch.Tensor, settings: VcaSettings
) -> tuple[int, dict[str, int | list[int]]]:
    """Endmembers to find, and what the estimators said: HFC and NWHFC at false alarms of 1e-3, 1e-4, 1e-5."""
    if settings.k != "auto":
        return int(settings.k), {}
    found = hysime(n, cross)
    counts: dict[str, int | list[int]] = {
        "hysime": found.k,
        "hfc": list(hfc(n, total, cross)),
        "nwhfc": list(hfc(n, total, cross, noise=found.noise)),
    }
    return min(max(found.k, 2), settings.most, cross.shape[0]), counts


def _core_index(tile: Tile) -> torch.Tensor:
    """Row-major scene index of each valid core pixel."""
    keep = tile.core(tile.valid)[0, 0]
    inner, cols = tile.inner, tile.info.shape[1]
    rows = torch.arange(inner.row, inner.row + inner.height, device=keep.device)
    columns = torch.arange(inner.col, inner.col + inner.width, device=keep.device)
    return (rows[:, None] * cols + columns[None, :])[keep]


def _largest_norm(tile: Tile, projection: VcaProjection) -> float:
    return projection.largest_norm(tile.core_pixels("cube"))


def _project(tile: Tile, projection: VcaProjection) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(projection.coordinates(tile.core_pixels("cube")).cpu(), _core_index(tile).cpu())]


def _farthest(tile: Tile, projection: VcaProjection, direction: torch.Tensor) -> Extreme | None:
    pixels = tile.core_pixels("cube")
    return find_extreme(projection.coordinates(pixels), direction, _core_index(tile), pixels)


def _farther(one: Extreme | None, other: Extreme | None) -> Extreme | None:
    if one is None or other is None:
        return other if one is None else one
    return one.farther(other)


def _pick(tile: Tile, wanted: tuple[int, ...]) -> dict[int, torch.Tensor]:
    index, pixels = _core_index(tile).cpu(), tile.core_pixels("cube")
    return {w: pixels[:, int(at)].to("cpu", torch.float64) for w in wanted for at in (index == w).nonzero()[:, 0]}


def _draw_from_kept(source: Source, projection: VcaProjection, seed: int) -> list[Extreme]:
    parts = source.reduce(partial(_project, projection=projection), _joined)
    coordinates = torch.cat([c for c, _ in parts], dim=1)
    index = torch.cat([i for _, i in parts])
    draws = VcaDraws(projection.k, seed)
    for _ in range(projection.k):
        draws.accept(find_extreme(coordinates, draws.direction(), index))
    wanted = tuple(sorted({e.index for e in draws.found}))
    spectra = source.reduce(partial(_pick, wanted=wanted), _united)
    return [Extreme(e.score, e.index, e.coordinates, spectra[e.index]) for e in draws.found]


def _draw_by_passes(source: Source, projection: VcaProjection, seed: int) -> list[Extreme]:
    draws = VcaDraws(projection.k, seed)
    for _ in range(projection.k):
        draws.accept(source.reduce(partial(_farthest, projection=projection, direction=draws.direction()), _farther))
    return draws.found


def _joined(one: list[Any], other: list[Any]) -> list[Any]:
    return [*one, *other]


def _united(one: dict[int, torch.Tensor], other: dict[int, torch.Tensor]) -> dict[int, torch.Tensor]:
    return {**one, **other}


def _unmix_tile(cube: torch.Tensor, solver: AbundanceSolver) -> dict[str, torch.Tensor]:
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
