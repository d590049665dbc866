"""Pictures, the lines of spectra, and statistics of regions."""

from __future__ import annotations

import numpy as np
import pytest
from test_spectra_resampling import lazy

from torchspectral.cube import make_cube
from torchspectral.errors import BadInput, BadSettings, BandMismatch, GridMismatch
from torchspectral.spectra import rgb_bands, rgb_picture
from torchspectral.spectra.axes import with_gaps
from torchspectral.spectra.statistics import region_spectrum

WAVE = np.arange(400.0, 1000.0, 25.0)


def scene(rows: int = 20, cols: int = 30):
    rng = np.random.default_rng(0)
    return make_cube(rng.random((WAVE.size, rows, cols)).astype("f4"), wavelength=WAVE, quantity="reflectance")


def test_bands_of_a_picture() -> None:
    assert [WAVE[b] for b in rgb_bands(scene())] == [650, 550, 475]
    good = np.ones(WAVE.size, dtype=bool)
    good[10] = False
    assert next(WAVE[b] for b in rgb_bands(scene().assign_coords(good=("band", good)))) in (625, 675)
    infrared = scene().assign_coords(wavelength=("band", WAVE + 1000))
    red, green, blue = rgb_bands(infrared)
    assert red > green > blue
    assert rgb_bands(scene().assign_coords(wavelength=("band", np.full(WAVE.size, np.nan)))) == (19, 12, 4)
    assert rgb_bands(scene().isel(band=[0])) == (0, 0, 0)
    with pytest.raises(BandMismatch, match="expected three"):
        rgb_bands(scene(), [600.0])


def test_stretch_limits_gamma_and_nodata() -> None:
    cube = scene()
    cube.values[:, 0, 0] = np.nan
    picture = rgb_picture(cube, stretch=(0, 100))
    assert picture.dims == ("y", "x", "colour") and picture.dtype == np.float32
    assert picture.values[0, 0].tolist() == [0, 0, 0, 0] and (picture.values[1:, :, 3] == 1).all()
    red = cube.isel(band=10).values
    expect = (red - np.nanmin(red)) / (np.nanmax(red) - np.nanmin(red))
    np.testing.assert_allclose(picture.values[..., 0][1:], expect[1:], rtol=1e-5)
    again = rgb_picture(cube * 0.5, limits=picture.attrs["limits"])
    np.testing.assert_allclose(again.values[5, 5, 0], np.clip(picture.values[5, 5, 0] / 2, 0, 1), atol=0.02)
    brighter = rgb_picture(cube, stretch=(0, 100), gamma=2.0)
    np.testing.assert_allclose(brighter.values[..., :3], np.sqrt(picture.values[..., :3]), rtol=1e-5)
    with pytest.raises(BadSettings, match="percentiles"):
        rgb_picture(cube, stretch=(98, 2))


def test_large_lazy_scenes_are_thinned_while_reading() -> None:
    cube = scene(200, 300)
    source, stored = lazy(cube)
    picture = rgb_picture(source, max_size=50)
    assert picture.shape == (33, 50, 4)
    assert stored.read == [(3, 33, 50)]
    np.testing.assert_allclose(picture["x"].values[:2], [3.5, 9.5])


def test_integers() -> None:
    cube = make_cube((scene().values * 1e4).astype(np.int16), wavelength=WAVE, attrs={"nodata": 0})
    cube.values[:, 3, 3] = 0
    assert rgb_picture(cube).values[3, 3, 3] == 0


def test_lines_break_at_gaps_and_detectors() -> None:
    x = np.concatenate([np.arange(40) * 10.0, 1000 + np.arange(40) * 10.0, 1350 + np.arange(20) * 10.0])
    at, values = with_gaps(x, np.ones(100))
    assert np.flatnonzero(np.isnan(values)).tolist() == [40, 81]
    assert at.size == values.size == 102
    mixed = np.random.default_rng(0).permutation(np.arange(50.0))
    assert (np.diff(with_gaps(mixed, mixed)[0]) > 0).all()
    few = with_gaps(np.array([443.0, 490, 1600, 2200]), np.arange(4.0))
    assert np.isfinite(few[1]).all()


def test_region_statistics(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torchspectral.spectra.statistics._BLOCK_BYTES", 40_000)
    cube = scene() + 1000
    cube.values[3, 2, :] = np.nan
    cube.values[5] = np.nan
    mask = np.random.default_rng(1).random((20, 30)) < 0.3
    out = region_spectrum(lazy(cube)[0], mask, ("mean", "std", "min", "max"))
    inside = cube.values[:, mask].astype(float)
    kept = [i for i in range(WAVE.size) if i != 5]
    np.testing.assert_allclose(out.sel(spectrum="mean").values[kept], np.nanmean(inside[kept], axis=1), rtol=1e-12)
    np.testing.assert_allclose(out.sel(spectrum="std").values[kept], np.nanstd(inside[kept], axis=1), rtol=1e-9)
    np.testing.assert_allclose(out.sel(spectrum="max").values[kept], np.nanmax(inside[kept], axis=1))
    assert np.isnan(out.values[:, 5]).all() and out["pixels"].values[5] == 0
    with pytest.raises(GridMismatch, match="mask has shape"):
        region_spectrum(cube, mask[:4])
    with pytest.raises(BadInput, match="no valid pixel"):
        region_spectrum(cube, mask & False)
    with pytest.raises(BadSettings, match="median"):
        region_spectrum(cube, None, ["median"])
