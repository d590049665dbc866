"""Every method of the room on scenes that leave it little to go on: the right answer, or one clear error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

import torchspectral as ts
from torchspectral import registry
from torchspectral.errors import BadInput, BadSettings, BandMismatch

BANDS, SIDE, K = 12, 8, 3
WAVELENGTH = np.linspace(400, 2400, BANDS)
FLAT, DARK = 4, 7

CARDS = {c.name: c for c in registry.methods("unmixing") if c.name not in ("polygons", "label")}
NEEDS_LIBRARY = sorted(name for name, c in CARDS.items() if any(n.startswith("library") for n in c.needs))
BLIND = sorted(set(CARDS) - set(NEEDS_LIBRARY))
FACTORISATIONS = [name for name in BLIND if "factorisation" in CARDS[name].target]
TINY: dict[str, dict[str, Any]] = {
    "cnnaeu": {"epochs": 1, "patch": 8, "batch": 2},
    "deeptrans-hsu": {"epochs": 1, "patch": 4, "dim": 16},
    "edaa": {"iterations": 3, "runs": 2},
    "ppi": {"skewers": 50},
    "s2wsu": {"outer": 2},
    "sunaa": {"iterations": 3, "k": K},
}
WHOLE = {"cnnaeu", "misicnet", "msnet", "suncnn", "undip"}
"""Networks whose layers need more than a pixel."""


def settings(method: str) -> dict[str, Any]:
    if method in TINY:
        return TINY[method]
    fields = registry.load_target(CARDS[method].target).Settings.model_fields
    return {name: 1 if name == "epochs" else 2 for name in ("iterations", "epochs") if name in fields}


def scene(k: int = K) -> tuple[xr.DataArray, np.ndarray]:
    random = np.random.default_rng(0)
    spectra = random.random((k, BANDS)) * 0.8 + 0.1
    shares = random.dirichlet(np.full(k, 0.4), SIDE * SIDE).T
    noise = 0.002 * random.standard_normal((BANDS, SIDE * SIDE)) if k == K else 0.0
    values = (spectra.T @ shares + noise).reshape(BANDS, SIDE, SIDE).astype(np.float32)
    return ts.make_cube(values, wavelength=WAVELENGTH, quantity="reflectance"), spectra


def library(spectra: np.ndarray, wavelength: np.ndarray = WAVELENGTH) -> xr.DataArray:
    names = ["soil", "tree", "water"][: len(spectra)]
    return ts.make_spectra(spectra.astype(np.float32), names, wavelength=wavelength)


def run(method: str, cube: xr.DataArray, spectra: np.ndarray | xr.DataArray, k: int = K, **options: Any) -> Any:
    if CARDS[method].verb == "endmembers":
        return ts.endmembers(cube, k, method=method, settings=settings(method), **options)
    if method in NEEDS_LIBRARY:
        given = spectra if isinstance(spectra, xr.DataArray) else library(spectra)
        return ts.unmix(cube, library=given, method=method, settings=settings(method), **options)
    return ts.unmix(cube, k, method=method, settings=settings(method), **options)


def check(result: Any, method: str, shape: tuple[int, int] = (SIDE, SIDE)) -> None:
    assert np.isfinite(result["endmembers"].values).all()
    if CARDS[method].verb == "endmembers":
        return
    shares, rmse = result["abundances"].values, result["rmse"].values
    assert shares.shape[1:] == shape and np.isfinite(shares).all() and np.isfinite(rmse).all()
    assert rmse.min() >= 0
    if method != "s2wsu":  # may be negative, as published
        assert shares.min() >= 0


@pytest.mark.parametrize("method", BLIND)
def test_more_endmembers_than_the_scene_holds(method: str) -> None:
    flat = scene(2)[0]
    with pytest.raises(BadInput, match=r"span 1 dimensions around their mean.* at most 2 endmembers, got k=3"):
        run(method, flat, flat.values)
    cube, spectra = scene()
    with pytest.raises(BadInput, match=f"64 valid pixels for 70|at most {BANDS + 1}|got k=70 with {BANDS - 1} bands"):
        run(method, cube, spectra, 70)
    with pytest.raises(BadInput, match=r"zero|span 0"):
        run(method, cube * 0, spectra)


@pytest.mark.parametrize("method", sorted(CARDS))
def test_one_pixel(method: str) -> None:
    cube, spectra = scene()
    if method in BLIND or method in WHOLE:
        with pytest.raises(BadInput, match=r"got 1 valid pixels|got a scene of 1 x 1 pixels"):
            run(method, cube[:, :1, :1], spectra)
    else:
        check(run(method, cube[:, :1, :1], spectra), method, (1, 1))


@pytest.mark.parametrize("method", sorted(CARDS))
def test_constant_bands_and_negative_reflectance(method: str) -> None:
    cube, spectra = scene()
    cube.values[FLAT], cube.values[DARK] = 0.3, 0.0
    spectra[:, FLAT], spectra[:, DARK] = 0.3, 0.0
    cube.values[0, :2, :2] = -0.1
    result = run(method, cube, spectra)
    check(result, method)
    if method in FACTORISATIONS:
        assert result.report.figures["negative_values"] == 4
        assert "4 values below 0 were taken as 0" in result.report.notes


@pytest.mark.parametrize("method", NEEDS_LIBRARY)
def test_a_library_that_does_not_fit(method: str) -> None:
    cube, spectra = scene()
    with pytest.raises(BadInput, match=r"neither a library nor a state|.library. is missing"):
        ts.unmix(cube, method=method, settings=settings(method))
    with pytest.raises(BandMismatch, match=r"(500\.0 nm off the scene's bands|missing values in \d of the \d+ bands)"):
        run(method, cube, library(spectra, WAVELENGTH + 500))
    with pytest.raises(BandMismatch, match=r"missing values in \d of the \d+ bands that are used \(\d+-764 nm\)"):
        run(method, cube, library(spectra, WAVELENGTH + 500), resampling="gaussian")
    covered = run(method, cube, library(spectra, WAVELENGTH + 500), resampling="gaussian", uncovered="drop")
    assert covered["endmembers"].sizes["band"] <= BANDS - 3
    check(covered, method)
    with pytest.raises(BandMismatch, match="cover none of the 12 target bands"):
        run(method, cube, library(spectra, WAVELENGTH + 4000), resampling="linear", uncovered="drop")
    holes = spectra.copy()
    holes[1, 3] = np.nan
    with pytest.raises(BadInput, match=r"missing values in 1 of the \d+ bands"):
        run(method, cube, holes)


def test_bands_of_a_library_in_another_order_are_put_in_order() -> None:
    cube, spectra = scene()
    plain = ts.unmix(cube, library=library(spectra))
    turned = ts.unmix(cube, library=library(spectra[:, ::-1], WAVELENGTH[::-1]))
    np.testing.assert_array_equal(turned["abundances"].values, plain["abundances"].values)
    np.testing.assert_array_equal(turned["endmembers"].values, plain["endmembers"].values)


def test_a_library_in_other_units() -> None:
    cube, spectra = scene()
    with pytest.raises(BadInput, match="expected one unit"):
        ts.unmix(cube, library=library(100 * spectra))
    counts = (cube * 10_000).round().astype(np.int16)
    counts.attrs["quantity"] = "dn"
    with pytest.raises(BadInput, match="the scene, dn"):
        ts.unmix(counts, library=library(spectra), method="sunsal")
    believed = counts.assign_attrs(quantity="reflectance")  # DN that --open quantity=reflectance vouches for
    with pytest.raises(BadInput, match="the scene, reflectance"):
        ts.unmix(believed, library=library(spectra))
    unnamed = cube.assign_attrs(quantity="dn")  # a float file that says nothing, with a library in percent
    with pytest.raises(BadInput, match="the scene, dn"):
        ts.unmix(unnamed, library=library(100 * spectra))
    fitting = ts.unmix(counts, library=library(10_000 * spectra))
    np.testing.assert_allclose(
        fitting["abundances"].values, ts.unmix(cube, library=library(spectra))["abundances"].values, atol=2e-3
    )
    sized = ts.unmix(cube, library=library(100 * spectra), method="sma", settings={"normalisation": "brightness"})
    assert np.isfinite(sized["abundances"].values).all()
    misnamed = cube * 100  # percent that a file calls reflectance, with a library alike
    misnamed.attrs["quantity"] = "reflectance"
    assert np.isfinite(ts.unmix(misnamed, library=library(100 * spectra))["abundances"].values).all()


def test_spectra_that_depend_on_each_other_are_told() -> None:
    cube, spectra = scene()
    twin = np.vstack([spectra[:2], 0.5 * (spectra[0] + spectra[1])[None]])
    notes = ts.unmix(cube, library=library(twin)).report.notes
    assert any("the 3 spectra have rank 2" in note for note in notes)
    figures = ts.unmix(cube, library=library(spectra)).report
    assert figures.figures["condition_number"] > 1 and not figures.notes
    shaded = ts.unmix(cube, library=library(spectra), settings={"shade": True})  # zero is no mixture of the others
    assert not any("rank" in note for note in shaded.report.notes)


def test_endmembers_below_zero_are_told() -> None:
    cube, spectra = scene()
    spectra[1, 2:4] = -0.05
    notes = ts.unmix(cube, library=library(spectra)).report.notes
    assert notes == ["2 values of the endmembers are below zero: tree (2)"]


def test_counts_and_methods_that_do_not_go_together() -> None:
    cube, _ = scene()
    with pytest.raises(BadSettings, match="sunsal finds no endmembers"):
        ts.unmix(cube, 3, method="sunsal")
    with pytest.raises(BadSettings, match="nmf, which finds abundances too"):
        ts.endmembers(cube, 3, method="nmf")
