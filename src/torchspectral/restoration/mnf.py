"""Minimum noise fraction: keep the components in which signal stands above noise, and turn back."""

from __future__ import annotations

import math
from statistics import median
from typing import Any, Literal

import torch

from torchspectral.engine.method import Input, Method, Output, Scope, Size, Source, State, Tile
from torchspectral.errors import BadInput, BandMismatch
from torchspectral.ops.gram import add_sums, covariance, eigh_descending
from torchspectral.ops.noise import difference_sums, regression_noise, shift_noise
from torchspectral.restoration.subspace import is_flat
from torchspectral.settings import Settings, setting

FLOOR = 1e-10
"""Smallest noise variance, relative to the data's: below it a direction counts as free of noise."""


class MnfSettings(Settings):
    """Minimum noise fraction."""

    components: int | None = setting(None, "components to keep; None: those above `snr`", ge=1)
    snr: float = setting(1.0, "least signal-to-noise ratio (power) of a component that is kept", ge=0)
    noise: Literal["shift", "regression"] = setting(
        "shift", "noise from differences of neighbouring pixels, or from regressing each band on the others"
    )
    direction: Literal["both", "x", "y"] = setting("both", "neighbours that are subtracted; x is across-track")
    write_components: bool = setting(False, "return the kept components as layers, unit noise variance")


class Mnf(Method):
    """Minimum noise fraction denoising.

    State
    -----
    mean : Tensor, shape (bands,)
    forward : Tensor, shape (k, bands)
        Pixels minus the mean to components of unit noise variance.
    basis, project : Tensor, shapes (bands, k) and (k, bands)
        The filter as basis @ project, with orthonormal columns in `basis`, so that float32 keeps its digits.
    component_names : list of str
    component_snr : list of float
        Of all components, descending (power ratio).
    bands : dict of str to list
        The table below, by column.

    Outputs
    -------
    cube
    bands : table, one row a band
        ``wavelength`` [nm], ``noise_before, noise_after`` (standard deviations) and ``removed`` (root mean square of
        what was taken away) in the cube's units, ``snr_before, snr_after`` [dB].
    components : layers, where asked for

    References
    ----------
    Green et al., "A transformation for ordering multispectral data in terms of image quality with implications for
    noise removal", IEEE TGRS 26(1), 1988. Lee, Woodyatt and Berman, "Enhancement of high spectral resolution remote
    sensing data by a noise-adjusted principal components transform", IEEE TGRS 28(3), 1990.
    """

    Settings = MnfSettings
    inputs = (Input("cube"),)
    scope = Scope.LOCAL
    halo = 1
    needs_fit = True
    state_keys = ("mean", "forward", "basis", "project", "components", "component_names", "component_snr", "bands")

    @property
    def outputs(self) -> tuple[Output, ...]:  # type: ignore[override]
        """The cube, what it cost each band, and the components where asked for."""
        always = Output("cube", kind="cube"), Output("bands", kind="table", from_state=True)
        if not self.settings.write_components:
            return always
        return *always, Output("components", kind="layers", names="=component_names", undo_scale=False)

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Data and noise covariances in one pass each, then one generalised eigenproblem of bands x bands."""
        if state is not None and "forward" in state:
            return state
        gram = source.gram()
        n, total, cross = gram.n, gram.total.cpu(), gram.cross.cpu()
        if n < 2:
            raise BadInput(f"got {n} valid pixels, expected at least 2: check the mask and nodata")
        spread = covariance(n, total, cross)
        if is_flat(total / n, spread) or len(total) < 2:
            # Nothing to tell noise from signal by: all is signal.
            noise = torch.zeros_like(spread)
        elif self.settings.noise == "shift":
            sums = source.reduce(self._differences, add_sums)
            noise = shift_noise(*sums)
        else:
            # Residuals of regressions are correlated even where the noise is not: only their variances are used.
            noise = torch.diag(regression_noise(n, spread * n)[1].diagonal())
        found = mnf_state(n, total / n, spread, noise, self.settings.components, self.settings.snr)
        wavelength = [float(w) for w in source.info.wavelength]
        return {**found, "bands": {"wavelength": wavelength, **found["bands"]}}

    def _differences(self, tile: Tile) -> tuple[int, torch.Tensor, torch.Tensor]:
        """Each core pixel minus its right and lower neighbour, which may lie in the halo."""
        cube, valid = tile["cube"][0], tile.valid[0, 0]
        top, left = tile.inner.row - tile.window.row, tile.inner.col - tile.window.col
        bottom, right = top + tile.inner.height, left + tile.inner.width
        across, down = min(right + 1, cube.shape[2]), min(bottom + 1, cube.shape[1])
        parts = []
        if self.settings.direction != "y":
            one, other = (slice(top, bottom), slice(left, across - 1)), (slice(top, bottom), slice(left + 1, across))
            parts.append(difference_sums(cube[:, *one], cube[:, *other], valid[one] & valid[other]))
        if self.settings.direction != "x":
            one, other = (slice(top, down - 1), slice(left, right)), (slice(top + 1, down), slice(left, right))
            parts.append(difference_sums(cube[:, *one], cube[:, *other], valid[one] & valid[other]))
        n, total, cross = parts[0] if len(parts) == 1 else add_sums(*parts)
        return n, total.cpu(), cross.cpu()

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Project on the kept components and back, (n, bands, y, x)."""
        cube = tile["cube"]
        if state["mean"].shape[0] != cube.shape[1]:
            raise BandMismatch(
                f"the filter was fitted on {state['mean'].shape[0]} bands and the cube has {cube.shape[1]}, expected "
                "the same: fit it on this scene"
            )
        work = {key: state[key].to(cube.device, cube.dtype) for key in ("mean", "forward", "basis", "project")}
        centred = cube - work["mean"][:, None, None]
        kept = torch.einsum("kb,nbyx->nkyx", work["project"], centred)
        out = {"cube": torch.einsum("bk,nkyx->nbyx", work["basis"], kept).add_(work["mean"][:, None, None])}
        if self.settings.write_components:
            out["components"] = torch.einsum("kb,nbyx->nkyx", work["forward"], centred)
        return out

    def memory(self, size: Size) -> dict[str, int]:
        """A centred copy, the components and the answer."""
        pixels = size.rows * size.cols * size.bands * 4
        return {"fit": 2 * pixels, "apply": 4 * pixels}

    def figures(self, state: State) -> dict[str, Any]:
        """Components kept with their signal-to-noise ratios (power); medians over the bands."""
        k = state["components"]
        out: dict[str, Any] = {"components": k, "component_snr": state["component_snr"][:k]}
        for key, values in state.get("bands", {}).items():
            known = [v for v in values if v is not None]
            if key != "wavelength" and known:
                out[f"median_{key}"] = median(known)
        return out


def mnf_state(
    n: int, mean: torch.Tensor, spread: torch.Tensor, noise: torch.Tensor, components: int | None, snr: float
) -> State:
    """Solve the eigenproblem and describe the filter.

    Parameters
    ----------
    n : int
        Pixels.
    mean, spread, noise : Tensor, shapes (bands,), (bands, bands), (bands, bands)
        Mean, data covariance and noise covariance.
    components : int or None
        To keep; None keeps those whose signal-to-noise ratio is above `snr`.

    Raises
    ------
    BadInput
        More components are asked for than there are.

    Notes
    -----
    Bands without variance pass unchanged (the filter returns their mean). A noise covariance that is singular is
    floored relative to the data, so that duplicated and noise-free bands are kept rather than divided by zero. A scene
    whose pixels are all equal passes unchanged.
    """
    live = (spread.diagonal() > FLOOR * spread.diagonal().max()).nonzero()[:, 0]
    if is_flat(mean, spread):
        return _unchanged(mean, noise)
    if components is not None and components > len(live):
        raise BadInput(f"got components={components}, but only {len(live)} bands vary: keep at most that many")
    data, level = spread[live][:, live], noise[live][:, live]
    scale = data.diagonal().sqrt()
    data, level = data / torch.outer(scale, scale), level / torch.outer(scale, scale)
    variances, axes = eigh_descending(level)
    variances = variances.clamp_min(FLOOR * max(float(variances.max()), 1.0))
    whiten = (axes / variances.sqrt()).T
    power, vectors = eigh_descending(whiten @ data @ whiten.T)
    ratio = (power - 1).clamp_min(0)
    k = components if components is not None else max(1, int((ratio > snr).sum()))
    bands = len(mean)
    forward, inverse = spread.new_zeros(k, bands), spread.new_zeros(bands, k)
    forward[:, live] = (vectors[:, :k].T @ whiten) / scale
    inverse[live] = ((axes * variances.sqrt()) @ vectors[:, :k]) * scale[:, None]
    basis, triangle = torch.linalg.qr(inverse)
    project = triangle @ forward
    keep = basis @ project
    rest = torch.eye(bands, dtype=keep.dtype) - keep
    removed = (rest @ spread @ rest.T).diagonal().clamp_min(0)
    after = (keep @ noise @ keep.T).diagonal().clamp_min(0)
    before = noise.diagonal().clamp_min(0)
    mean_square = mean.square()
    return {
        "mean": mean,
        "forward": forward,
        "basis": basis,
        "project": project,
        "components": k,
        "component_names": [f"component {i}" for i in range(1, k + 1)],
        "component_snr": [round(float(v), 6) for v in ratio],
        "bands": {
            "noise_before": _plain(before.sqrt()),
            "noise_after": _plain(after.sqrt()),
            "removed": _plain(removed.sqrt()),
            "snr_before": _decibel(mean_square + spread.diagonal() - before, before),
            "snr_after": _decibel(mean_square + (keep @ spread @ keep.T).diagonal() - after, after),
        },
    }


def _unchanged(mean: torch.Tensor, noise: torch.Tensor) -> State:
    """Filter of a scene whose pixels are all equal: one empty component beside the mean."""
    bands = len(mean)
    zero = noise.diagonal() * 0
    return {
        "mean": mean,
        "forward": mean.new_zeros(1, bands),
        "basis": mean.new_zeros(bands, 1),
        "project": mean.new_zeros(1, bands),
        "components": 1,
        "component_names": ["component 1"],
        "component_snr": [0.0] * bands,
        "bands": {key: _plain(zero) for key in ("noise_before", "noise_after", "removed")}
        | {key: [None] * bands for key in ("snr_before", "snr_after")},
    }


def _plain(values: torch.Tensor) -> list[float]:
    return [float(f"{v:.6g}") for v in values.tolist()]


def _decibel(signal: torch.Tensor, noise: torch.Tensor) -> list[float | None]:
    pairs = zip(signal.tolist(), noise.tolist(), strict=True)
    return [round(10 * math.log10(s / v), 3) if s > 0 and v > 0 else None for s, v in pairs]
