"""Spectral resampling: exact where it must be, honest where it cannot be."""

from __future__ import annotations

import pickle

import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from xarray.backends import BackendArray
from xarray.core import indexing

from torchspectral import sensors
from torchspectral.cube import make_cube, make_spectra
from torchspectral.errors import BadCube, BadSettings, BandMismatch, MissingMetadata, UnknownName
from torchspectral.spectra import Bands, apply_matrix, resample, spectral_matrix
from torchspectral.spectra.lazy import is_lazy

WAVE = np.arange(400.0, 2501.0, 10.0)


class Stored(BackendArray):
    """An array that counts what is read of it."""

    def __init__(self, values: np.ndarray) -> None:
        self.values, self.shape, self.dtype, self.read = values, values.shape, values.dtype, []

    def __getitem__(self, key: indexing.ExplicitIndexer) -> np.ndarray:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._get)

    def _get(self, key: tuple) -> np.ndarray:
        out = self.values
        for axis, k in reversed(list(enumerate(key))):
            out = out[(slice(None),) * axis + (k,)]
        self.read.append(out.shape)
        return out


def lazy(cube: xr.DataArray) -> tuple[xr.DataArray, Stored]:
    stored = Stored(cube.values)
    variable = xr.Variable(cube.dims, indexing.LazilyIndexedArray(stored))
    return xr.DataArray(variable, coords=cube.coords, attrs=cube.attrs, name=cube.name), stored


def cube_of(values: np.ndarray, wave: np.ndarray = WAVE, fwhm: float | None = 12.0, **facts) -> xr.DataArray:
    width = None if fwhm is None else np.full(wave.size, fwhm)
    return make_cube(values, wavelength=wave, fwhm=width, quantity="reflectance", **facts)


def scene(rows: int = 6, cols: int = 5, **facts) -> xr.DataArray:
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(size=(WAVE.size, rows, cols)), axis=0) / 40 + 0.5
    return cube_of(smooth.astype(np.float32), **facts)


@pytest.mark.parametrize("method", ["srf", "gaussian", "linear"])
@pytest.mark.parametrize("target", ["sentinel-2a", "worldview-3", "enmap", "emit", "prisma"])
def test_constant_and_linear_spectra_come_out_exact(method: str, target: str) -> None:
    weights, coverage = spectral_matrix(cube_of(np.zeros((WAVE.size, 1, 1))), target, method=method, min_coverage=1e-3)
    ok = coverage.share > 0.999
    assert ok.sum() >= 0.7 * ok.size
    np.testing.assert_allclose(weights[coverage.good].sum(axis=1), 1, atol=1e-12)
    reach = 0.8 * coverage.fwhm
    ok &= (coverage.wavelength - reach > WAVE[0]) & (coverage.wavelength + reach < WAVE[-1])
    # Symmetric responses: a ramp in wavelength gives the target's centre.
    np.testing.assert_allclose(weights[ok] @ WAVE, coverage.wavelength[ok], atol=0.02)
    assert (weights[coverage.good] >= 0).all()


def test_to_its_own_bands_is_the_identity() -> None:
    enmap = sensors.get("enmap")
    bands = Bands(enmap.wavelength, enmap.fwhm, enmap.good)
    weights, coverage = spectral_matrix(bands, "enmap")
    np.testing.assert_array_equal(coverage.good, enmap.good)
    np.testing.assert_array_equal(weights[enmap.good], np.eye(224)[enmap.good])


def test_gaussian_reaches_the_targets_width_and_no_more() -> None:
    """A narrow Gaussian feature seen at 12 nm and brought to 40 nm has the variance of one seen at 40 nm."""
    fine = np.arange(900.0, 1100.0, 2.0)
    source = Bands(fine, np.full(fine.size, 12.0), np.ones(fine.size, dtype=bool))
    weights, _ = spectral_matrix(source, (np.array([1000.0]), 40.0), method="gaussian")
    spread = np.sqrt(np.sum(weights[0] * (fine - 1000) ** 2))
    to_sigma = 2 * np.sqrt(2 * np.log(2))
    total = np.hypot(spread, 12 / to_sigma)
    assert total * to_sigma == pytest.approx(40.0, rel=0.01)


def test_srf_against_plain_integration() -> None:
    """Flat-topped response: the weighted mean of a fine spectrum by brute force."""
    s2 = sensors.get("s2a")
    fine = np.arange(380.0, 2500.0, 1.0)
    values = 0.3 + 0.2 * np.sin(fine / 37) + 0.1 * np.cos(fine / 11)
    source = Bands(fine, np.full(fine.size, 1.0), np.ones(fine.size, dtype=bool))
    weights, coverage = spectral_matrix(source, s2)
    dense = np.arange(380.0, 2500.0, 0.05)
    response = s2.response(dense)
    truth = (response * np.interp(dense, fine, values)).sum(axis=1) / response.sum(axis=1)
    np.testing.assert_allclose(weights @ values, truth, atol=2e-4)
    assert coverage.good.all() and coverage.names == s2.names


def test_bad_bands_are_not_used_and_leave_a_hole() -> None:
    good = np.ones(WAVE.size, dtype=bool)
    good[(WAVE >= 1340) & (WAVE <= 1440)] = False
    cube = scene(good=good)
    cube.values[~good] = 1e6
    out = resample(cube, "sentinel-2a")
    flags = dict(zip(sensors.get("s2").names, out["good"].values, strict=True))
    assert not flags["B10"] and sum(flags.values()) == 12
    assert np.isnan(out.values[10]).all() and np.nanmax(out.values) < 10
    assert out["coverage"].values[10] < 0.5 < out["coverage"].values[0]
    assert "B10" in out.attrs["history"][-1]


def test_one_dropped_band_is_a_hole_for_a_target_as_narrow() -> None:
    good = np.ones(WAVE.size, dtype=bool)
    good[50] = False
    _, coverage = spectral_matrix(cube_of(np.zeros((WAVE.size, 1, 1)), fwhm=10.0, good=good), (WAVE, 10.0))
    assert list(np.flatnonzero(~coverage.good)) == [50]


def test_a_multispectral_cube_does_not_become_hyperspectral() -> None:
    s2 = sensors.get("s2")
    source = Bands(s2.wavelength, s2.fwhm, np.ones(13, dtype=bool))
    _, coverage = spectral_matrix(source, "emit")
    assert coverage.good.mean() < 0.3
    assert coverage.resolved[coverage.good].mean() < 0.2
    assert "narrower than the input resolves" in coverage.summary() and "coarser" in coverage.lines()[0]


def test_overlapping_detectors_and_equal_centres() -> None:
    wave = np.array([500.0, 510.0, 510.0, 520.0, 505.0, 515.0])
    bands = Bands(wave, np.full(6, 10.0), np.ones(6, dtype=bool))
    weights, _ = spectral_matrix(bands, np.array([510.0]), method="linear")
    np.testing.assert_allclose(weights, [[0, 0.5, 0.5, 0, 0, 0]])


@given(st.lists(st.floats(400, 2400), min_size=3, max_size=30, unique=True), st.floats(5, 60))
def test_weights_are_means_for_any_sampling(wave: list[float], width: float) -> None:
    bands = Bands(np.array(wave), np.full(len(wave), np.nan), np.ones(len(wave), dtype=bool))
    weights, coverage = spectral_matrix(bands, (np.array(wave[:2]), width), min_coverage=0.01)
    rows = weights[coverage.good]
    np.testing.assert_allclose(rows.sum(axis=1), 1, atol=1e-9)
    assert (rows >= 0).all() and (coverage.share >= 0).all() and (coverage.share <= 1 + 1e-12).all()


def test_nan_pixels() -> None:
    cube = scene()
    cube.values[:, 0, 0] = np.nan
    cube.values[20, 1, 1] = np.nan
    weights, coverage = spectral_matrix(cube, "sentinel-2a")
    out = apply_matrix(cube.values, weights)
    assert np.isnan(out[:, 0, 0]).all()
    whole = apply_matrix(np.nan_to_num(cube.values), weights)
    others = np.ones(out.shape[1:], dtype=bool)
    others[0, 0] = others[1, 1] = False
    np.testing.assert_allclose(out[:, others], whole[:, others], rtol=2e-5)
    # Band 20 (600 nm) carries weight in no band but B4's neighbours: the rest of the pixel stays.
    assert np.isfinite(out[coverage.good][:, 1, 1]).sum() >= coverage.good.sum() - 1
    strict = apply_matrix(cube.values, weights, min_valid=1.0)
    touched = (np.nan_to_num(weights)[:, 20] > 0) & coverage.good
    assert np.isnan(strict[touched][:, 1, 1]).all()


def test_lazy_cubes_stay_lazy_and_read_little() -> None:
    cube = scene(rows=40, cols=30)
    source, stored = lazy(cube)
    out = resample(source, "sentinel-2a")
    assert is_lazy(out) and not stored.read
    now = resample(cube, "sentinel-2a")
    part = out.isel(band=3, y=slice(4, 20, 2), x=7).values
    np.testing.assert_array_equal(part, now.isel(band=3, y=slice(4, 20, 2), x=7).values)
    assert sum(np.prod(s) for s in stored.read) <= 8 * 12
    again = pickle.loads(pickle.dumps(out))
    np.testing.assert_array_equal(again.values, now.values)
    np.testing.assert_array_equal(out.isel(band=[10, 2], y=[5, 1]).values, now.isel(band=[10, 2], y=[5, 1]).values)


def test_dask_cubes_stay_dask() -> None:
    cube = scene()
    chunked = cube.copy(data=dask.array.from_array(cube.values, chunks=(50, 3, 2)))
    out = resample(chunked, "emit")
    assert out.chunks is not None
    np.testing.assert_allclose(out.values, resample(cube, "emit").values, rtol=1e-5)


def test_integers_with_nodata_videos_and_spectra() -> None:
    cube = scene()
    stored = make_cube(
        np.where(cube.values < 0.3, -9999, cube.values * 1e4).astype(np.int16), wavelength=WAVE, attrs={"nodata": -9999}
    )
    out = resample(stored, "s2")
    assert out.dtype == np.float32 and "nodata" not in out.attrs and np.isnan(out.values).any()
    video = make_cube(np.stack([cube.values, 2 * cube.values]), wavelength=WAVE, quantity="reflectance")
    np.testing.assert_allclose(resample(video, "s2").values[1], 2 * resample(cube, "s2").values, rtol=1e-3, atol=1e-6)
    library = make_spectra(cube.values[:, 0].T, list("abcde"), wavelength=WAVE, fwhm=np.full(WAVE.size, 12.0))
    got = resample(library, cube.isel(band=slice(10, 40)))
    assert got.dims == ("spectrum", "band") and got.shape == (5, 30)
    np.testing.assert_allclose(got.values, cube.values[10:40, 0].T, rtol=1e-6)
    assert list(got["spectrum"].values) == list("abcde")


def test_ground_and_attributes_stay() -> None:
    from affine import Affine

    from torchspectral.geo.grids import grid_of, place

    cube = place(scene(attrs={"sensor": "aviris", "acquired": "2020-01-01"}), Affine(30, 0, 5e5, 0, -30, 5e6), 32633)
    out = resample(cube, "emit")
    assert grid_of(out) == grid_of(cube)
    assert (out.attrs["sensor"], out.attrs["resampled_from"], out.attrs["acquired"]) == ("emit", "aviris", "2020-01-01")
    plain = resample(cube, np.array([500.0, 600.0]))
    assert "sensor" not in plain.attrs and plain["fwhm"].values.tolist() == [100.0, 100.0]


def test_coverage_rows_and_lines() -> None:
    _, coverage = spectral_matrix(scene(), (np.array([300.0, 500.0]), 10.0))
    assert coverage.lines() == [
        "target band 300 nm left empty: good input bands cover 0 % of its response, 90 % are needed"
    ]
    assert coverage.rows()[1]["good"] is True and coverage.rows()[0]["coverage"] == 0.0


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda c: resample(c, "sentinel-9"), UnknownName, "sentinel-2a"),
        (lambda c: resample(c, np.array([0.5, 0.6])), BandMismatch, "nanometres"),
        (lambda c: resample(c, np.array([5000.0])), BandMismatch, "cover none"),
        (lambda c: resample(c, object()), BandMismatch, "expected a sensor"),
        (lambda c: resample(c, ([500.0, 600.0], [10.0])), BandMismatch, "two equal lists"),
        (lambda c: resample(c, ([500.0], [-1.0])), BandMismatch, "positive widths"),
        (lambda c: resample(c, "s2", method="cubic"), BadSettings, "srf, gaussian, linear"),
        (lambda c: resample(c, "s2", min_coverage=0.0), BadSettings, "min_coverage"),
        (lambda c: resample(c.drop_vars("wavelength"), "s2"), MissingMetadata, "no wavelengths"),
        (
            lambda c: resample(c.assign_coords(good=("band", np.zeros(WAVE.size, bool))), "s2"),
            BandMismatch,
            "no good band",
        ),
        (lambda c: resample(c.assign_attrs(packing={"scale": [1]}), "s2"), BadCube, "raw=True"),
        (lambda c: apply_matrix(np.zeros((3, 2, 2)), np.zeros((1, 4))), BadCube, "4, y, x"),
    ],
)
def test_what_cannot_be_done(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make(scene())
