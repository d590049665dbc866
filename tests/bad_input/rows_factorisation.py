"""Bad inputs of the NMF family, RRLbS and of scenes with known truth."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from table import Row

import torchspectral as ts
from torchspectral.errors import BadInput, BadSettings, BandMismatch, GridMismatch, UnknownName


def cube(bands: int = 8, rows: int = 6, cols: int = 5) -> xr.DataArray:
    values = np.random.default_rng(0).random((bands, rows, cols)).astype(np.float32)
    return ts.make_cube(values, wavelength=np.linspace(400, 2400, bands), quantity="reflectance")


def flat(value: float) -> xr.DataArray:
    return cube().copy(data=np.full((8, 6, 5), value, dtype=np.float32))


def unmix(scene: xr.DataArray, method: str, k: int = 3, **settings: Any) -> Any:
    return ts.unmix(scene, k, method=method, settings={"iterations": 2, **settings})


def state_of(method: str, scene: xr.DataArray) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    made = ts.create_method("unmixing", method, {"k": 3, "iterations": 2})
    fit = made.fit

    def spy(source: Any, seed: int, state: Any) -> Any:
        for found, done in fit(source, seed, state):
            kept.update(found)
            yield found, done

    made.fit = spy  # type: ignore[method-assign]
    ts.run(made, {"cube": scene})
    return kept


def labels(rows: int = 6) -> xr.DataArray:
    return ts.make_layers((np.arange(rows * 5).reshape(1, rows, 5) % 3).astype(np.uint8), ["classes"])[0]


ROWS = [
    Row("nmf-constant", lambda tmp: unmix(flat(0.5), "nmf"), BadInput, "span 0 dimensions"),
    Row(
        "rrlbs-constant", lambda tmp: unmix(flat(0.5), "rrlbs"), BadInput, "span 0 dimensions|no channel varies|at most"
    ),
    Row("nmf-negative", lambda tmp: unmix(flat(-0.5), "nmf"), BadInput, "above zero"),
    Row("nmf-nodata", lambda tmp: unmix(flat(np.nan), "nmf"), BadInput, "no valid pixel"),
    Row("nmf-one-pixel", lambda tmp: unmix(cube(8, 1, 1), "nmf"), BadInput, "1 valid pixels for 3"),
    Row("g-nmf-one-pixel", lambda tmp: unmix(cube(8, 1, 1), "g-nmf"), BadInput, "1 valid pixels for 3"),
    Row("nmf-k-too-large", lambda tmp: unmix(cube(3), "nmf", 5), BadInput, "at most 4"),
    Row("nmf-one-band", lambda tmp: unmix(cube(1), "nmf", 2), BandMismatch, "at least 2"),
    Row("nmf-k-one", lambda tmp: unmix(cube(), "nmf", 1), BadSettings, "at least 2 endmembers"),
    Row("nmf-iterations", lambda tmp: unmix(cube(), "nmf", iterations=0), BadSettings, "iterations=0"),
    Row("nmf-row", lambda tmp: unmix(cube(), "nmf", d=-1), BadSettings, "d=-1"),
    Row("nmf-start", lambda tmp: unmix(cube(), "nmf", start="zero"), BadSettings, "start='zero'"),
    Row("l12-nmf-lam", lambda tmp: unmix(cube(), "l12-nmf", lam=-0.1), BadSettings, "lam=-0.1"),
    Row("g-nmf-graph", lambda tmp: unmix(cube(), "g-nmf", graph="full"), BadSettings, "graph='full'"),
    Row("rrlbs-h", lambda tmp: unmix(cube(), "rrlbs", h=1.0), BadSettings, "h=1.0"),
    Row("rrlbs-guide", lambda tmp: unmix(cube(), "rrlbs", guide="mine"), BadSettings, "guide='mine'"),
    Row(
        "rrlbs-smooth",
        lambda tmp: unmix(cube(), "rrlbs", guide="none", smooth="mean"),
        BadSettings,
        "only a learned map is filtered",
    ),
    Row("nmf-name", lambda tmp: unmix(cube(), "l12nmf"), UnknownName, "did you mean l12-nmf"),
    Row(
        "nmf-library",
        lambda tmp: ts.unmix(
            cube(),
            method="nmf",
            library=ts.make_spectra(np.ones((2, 8)), ["a", "b"], wavelength=np.linspace(400, 2400, 8)),
        ),
        UnknownName,
        "no input 'library'",
    ),
    Row(
        "nmf-state-of-spectra",
        lambda tmp: ts.unmix(cube(), method="nmf", state={"endmembers": np.ones((3, 8))}),
        BadInput,
        "use fcls",
    ),
    Row(
        "nmf-state-of-other-bands",
        lambda tmp: ts.unmix(cube(9), method="nmf", state=state_of("nmf", cube())),
        BandMismatch,
        "the state has 8 bands and the cube 9",
    ),
    Row(
        "g-nmf-state-of-another-scene",
        lambda tmp: ts.unmix(cube(8, 7), method="g-nmf", state=state_of("g-nmf", cube())),
        BadInput,
        "belongs to a scene of 6 x 5 pixels",
    ),
    Row("mixture-k-one", lambda tmp: ts.simulate_mixture(1), BadSettings, "at least 2 endmembers"),
    Row(
        "mixture-setting",
        lambda tmp: ts.simulate_mixture(3, settings={"purty": 0.8}, out=f"{tmp}/m/"),
        BadSettings,
        "purity",
        cli=lambda tmp: ["simulate", "mixture", "-k", "3", "--set", "purty=0.8", "-o", f"{tmp}/m/"],
    ),
    Row(
        "mixture-word",
        lambda tmp: ts.simulate_mixture(3, settings={"snr": "loud"}, out=f"{tmp}/m/"),
        BadSettings,
        "snr|unexpected extra argument",
        cli=lambda tmp: ["simulate", "mixture", "-k", "3", "--set", "purity=0.8", "loud", "-o", f"{tmp}/m/"],
    ),
    Row("set-labels-size", lambda tmp: ts.unmixing_set(cube(), labels(7)), GridMismatch, "as the cube"),
    Row("set-array", lambda tmp: ts.unmixing_set(cube(), np.ones((6, 5))), BadInput, "ndarray as labels"),
    Row(
        "set-window",
        lambda tmp: ts.unmixing_set(cube(), labels(), settings={"window": 0}),
        BadSettings,
        "window=0",
    ),
    Row(
        "set-unlabelled",
        lambda tmp: ts.unmixing_set(cube(), labels() * 0),
        BadInput,
        "got 0 classes",
    ),
]
