"""Spectral indices: the table, the bands taken, and the values."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.io
from test_spectra_resampling import lazy

from torchspectral.cube import make_cube, make_spectra
from torchspectral.errors import BadCube, BandMismatch, UnknownName
from torchspectral.spectra import list_indices, spectral_index
from torchspectral.spectra.lazy import is_lazy

WAVE = np.arange(400.0, 2500.0, 5.0)


def cube_at(values: dict[float, float]) -> object:
    spectrum = np.full(WAVE.size, 0.25, dtype=np.float32)
    for nm, value in values.items():
        spectrum[np.abs(WAVE - nm).argmin()] = value
    return make_cube(spectrum[:, None, None].repeat(2, 1).repeat(3, 2), wavelength=WAVE, quantity="reflectance")


@pytest.mark.parametrize("index", list_indices(), ids=lambda i: i.name)
def test_text_and_function_agree(index) -> None:
    """The formula that people read, evaluated, is the function that runs."""
    rng = np.random.default_rng(3)
    values = {symbol: rng.uniform(0.05, 0.6, 5) for symbol in index.bands}
    told = eval(index.text, {"log10": np.log10}, values)
    np.testing.assert_allclose(index.compute(*values.values()), told, rtol=1e-12)
    assert index.reference and index.title and index.tolerance > 0


def test_every_index_runs_on_a_full_spectrum_lazily_and_now() -> None:
    names = [i.name for i in list_indices()]
    assert len(set(names)) == len(names) >= 30
    rng = np.random.default_rng(0)
    cube = make_cube(rng.uniform(0.1, 0.5, (WAVE.size, 4, 3)).astype("f4"), wavelength=WAVE, quantity="reflectance")
    now = spectral_index(cube, *names)
    assert np.isfinite(now.values).all() and list(now["layer"].values) == names
    source, stored = lazy(cube)
    later = spectral_index(source, *names)
    assert is_lazy(later)
    np.testing.assert_array_equal(later.sel(layer="NDVI").values, now.sel(layer="NDVI").values)
    assert stored.read == [(2, 4, 3)]
    np.testing.assert_array_equal(later.values, now.values)


def test_hand_computed_values() -> None:
    cube = cube_at({670: 0.05, 800: 0.45, 700: 0.15, 550: 0.10, 740: 0.35, 780: 0.43, 531: 0.08, 570: 0.10})
    out = spectral_index(cube, "ndvi", "MCARI", "REP", "PRI")
    expect = [0.8, (0.10 - 0.2 * 0.05) * 3, 700 + 40 * (0.24 - 0.15) / 0.20, -0.02 / 0.18]
    np.testing.assert_allclose(out.values[:, 0, 0], expect, rtol=2e-3)
    assert out.attrs["units"] == "1, 1, nm, 1"
    assert out.attrs["bands"]["PRI"] == {"r531": 530.0, "r570": 570.0}


def test_division_by_zero_is_nan() -> None:
    out = spectral_index(cube_at({670: 0.0, 800: 0.0}), "NDVI")
    assert np.isnan(out.values).all()


def test_real_scene_has_green_vegetation(samples) -> None:
    mat = scipy.io.loadmat(samples / "aviris/aviris_vi_demo_90x90x224.mat")
    cube = make_cube(
        (mat["hsi_img"].transpose(2, 0, 1) * 1e-4).astype("f4"),
        wavelength=mat["wavelengths"].ravel().astype(float),
        quantity="reflectance",
    )
    out = spectral_index(cube, "NDVI", "REP", "NDWI1240")
    ndvi, rep = out.sel(layer="NDVI").values, out.sel(layer="REP").values
    green = ndvi > 0.6
    assert 0.05 < green.mean() < 0.95
    assert 700 < np.nanmedian(rep[green]) < 740
    assert np.isfinite(out.values).mean() > 0.99


def test_spectra_and_broad_bands() -> None:
    library = make_spectra(np.full((2, 3), 0.3) * [1, 2, 1], ["a", "b"], wavelength=[560, 665, 833], fwhm=[36, 31, 106])
    out = spectral_index(library, "NDVI", "NDWI")
    assert out.dims == ("layer", "spectrum")
    np.testing.assert_allclose(out.sel(layer="NDVI"), [-1 / 3, -1 / 3], rtol=1e-6)


def test_refusals() -> None:
    cube = cube_at({})
    with pytest.raises(UnknownName, match="NDVI"):
        spectral_index(cube, "NDVII")
    with pytest.raises(UnknownName, match="no spectral index named"):
        spectral_index(cube)
    with pytest.raises(BandMismatch, match=r"2200 nm .*allowed: give tolerance"):
        spectral_index(cube.isel(band=slice(0, 100)), "NBR")
    with pytest.raises(BadCube, match="reflectance"):
        spectral_index(cube.assign_attrs(quantity="radiance"), "EVI")
    near = cube.isel(band=slice(0, 81))  # ends at 800 nm
    with pytest.raises(BandMismatch):
        spectral_index(near, "EVI")
    assert spectral_index(near, "EVI", tolerance=60).shape == (1, 2, 3)
    with pytest.raises(BandMismatch, match="no good band"):
        spectral_index(cube.assign_coords(good=("band", np.zeros(WAVE.size, bool))), "NDVI")
