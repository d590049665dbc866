"""Raw numbers to reflectance: known reflectance comes back; saturation, exposure, dark, panels, bad pixels."""

from __future__ import annotations

import numpy as np
import pytest

import torchspectral as ts
from torchspectral.calibration.references import ceiling_of, frame_of
from torchspectral.errors import BadInput, BadSettings, BandMismatch, GridMismatch, MissingMetadata

BANDS, ROWS, COLS = 6, 12, 9
WAVELENGTH = np.linspace(450, 950, BANDS)


def scene(time: float = 10.0, white_time: float = 10.0, noise: float = 0.0, drift: bool = False):
    """Raw, white, dark cubes in counts, the true reflectance, and the panel's reflectance of each band."""
    random = np.random.default_rng(0)
    truth = random.uniform(0.05, 0.6, (BANDS, ROWS, COLS))
    panel = np.linspace(0.99, 0.95, BANDS)
    light = 200 * random.uniform(0.8, 1.2, (BANDS, 1, COLS))
    dark = random.uniform(90, 110, (BANDS, 1, COLS))
    lines = np.linspace(0, 30, ROWS)[None, :, None] if drift else 0.0

    def cube(values, ms, **attrs):
        values = values + noise * random.normal(size=values.shape)
        attrs |= {"integration_time": ms}
        return ts.make_cube(
            np.rint(values * 8).astype(np.uint16), wavelength=WAVELENGTH, fwhm=np.full(BANDS, 5.0), attrs=attrs
        )

    raw = cube(dark + lines + light * time * truth / 10, time)
    white = cube(np.repeat(dark + light * white_time * panel[:, None, None] / 10, 20, 1), white_time)
    shut = cube(np.broadcast_to(dark + lines, (BANDS, ROWS, COLS)) if drift else np.repeat(dark, 8, 1), time)
    return raw, white, shut, truth, panel


def plate(panel, low=400.0, high=1000.0):
    at = np.linspace(low, high, 301)
    return ts.make_spectra(np.interp(at, WAVELENGTH, panel)[None], ["panel"], wavelength=at)


def test_known_reflectance_comes_back():
    raw, white, dark, truth, panel = scene()
    result = ts.calibrate_reflectance(raw, white, dark, panel=plate(panel))
    found = result["cube"]
    np.testing.assert_allclose(found.values, truth, atol=2e-3)
    assert found.dtype == np.float32 and found.attrs["quantity"] == "reflectance" and found.attrs["units"] == "1"
    np.testing.assert_array_equal(found["wavelength"], WAVELENGTH)
    assert found.attrs["integration_time"] == 10.0 and found.attrs["history"]
    plain = ts.calibrate_reflectance(raw, white, dark)["cube"].values
    np.testing.assert_allclose(plain * panel[:, None, None], found.values, rtol=2e-3)
    half = ts.calibrate_reflectance(raw, white, dark, panel=0.5)["cube"].values
    np.testing.assert_allclose(half, plain / 2, rtol=1e-6)


def test_exposure_ratio_is_accounted_for():
    raw, white, dark, truth, panel = scene(time=20.0, white_time=5.0)
    result = ts.calibrate_reflectance(raw, white, dark, panel=plate(panel), white_dark=dark)
    np.testing.assert_allclose(result["cube"].values, truth, atol=4e-3)
    assert result.report.figures["integration_time_ratio"] == 0.25
    told = ts.calibrate_reflectance(raw, white, dark, integration_time=20, white_integration_time=10)
    assert told.report.figures["integration_time_ratio"] == 0.5
    assert any("white_dark" in note for note in told.report.notes)
    for cube in (raw, white, dark):
        del cube.attrs["integration_time"]
    unknown = ts.calibrate_reflectance(raw, white, dark)
    assert any("not known" in note for note in unknown.report.notes)
    with pytest.raises(MissingMetadata, match="integration time of the white panel"):
        ts.calibrate_reflectance(raw, white, dark, integration_time=3)
    with pytest.raises(BadSettings, match="milliseconds"):
        ts.calibrate_reflectance(raw, white, dark, integration_time=-3)


def test_dark_line_by_line_follows_its_drift():
    raw, white, dark, truth, panel = scene(drift=True)
    level = dark.isel(y=slice(0, 1))
    rows = ts.calibrate_reflectance(
        raw, white, dark, white_dark=level, panel=plate(panel), settings={"dark": "rows", "spread": 1e6}
    )
    mean = ts.calibrate_reflectance(raw, white, dark, white_dark=level, panel=plate(panel), settings={"spread": 1e6})
    np.testing.assert_allclose(rows["cube"].values, truth, atol=3e-3)
    assert np.abs(mean["cube"].values - truth).max() > 0.04
    with pytest.raises(GridMismatch, match="line by line"):
        ts.calibrate_reflectance(raw, white, level, settings={"dark": "rows"})
    with pytest.raises(GridMismatch, match="a level"):
        ts.calibrate_reflectance(raw, white, 800.0, settings={"dark": "rows"})


def test_a_panel_that_saturates_is_one_clear_error():
    raw, white, dark, *_ = scene()
    full = white.copy(data=np.minimum(white.values.astype(int) * 40, 65535).astype(np.uint16))
    with pytest.raises(BadInput, match=r"white panel saturates: in 6 of 6 bands .* 65535 .* shorter integration time"):
        ts.calibrate_reflectance(raw, full, dark)
    stated = white.assign_attrs(ceiling=float(white.values[2].min()))
    with pytest.raises(BadInput, match="white panel saturates"):
        ts.calibrate_reflectance(raw, stated, dark)
    with pytest.raises(BadInput, match="white panel saturates"):
        ts.calibrate_reflectance(raw, white, dark, settings={"saturation": 1000})


def test_saturated_scene_and_bad_pixels_are_nodata():
    raw, white, dark, truth, panel = scene()
    raw.values[2, 3, 4] = 65535
    white.values[1, :, 5] = dark.values[1, 0, 5]
    dark.values[4, ::2, 6] += 4000
    dark.values[:] += np.random.default_rng(1).integers(0, 3, dark.shape).astype(np.uint16)
    given = np.zeros((BANDS, COLS), bool)
    given[0, 0] = True
    result = ts.calibrate_reflectance(raw, white, dark, panel=plate(panel), bad_pixels=given)
    missing = np.isnan(result["cube"].values)
    assert missing[2, 3, 4] and missing[1, :, 5].all() and missing[4, :, 6].all() and missing[0, :, 0].all()
    assert missing.sum() == 1 + 3 * ROWS
    assert result.report.figures["bad_detector_pixels"] == 3 and result.report.figures["ceiling"] == 65535
    np.testing.assert_allclose(result["cube"].values[~missing], truth[~missing], atol=5e-3)
    with pytest.raises(GridMismatch, match="bad pixels"):
        ts.calibrate_reflectance(raw, white, dark, bad_pixels=given.T)


def test_part_of_the_width_is_panel():
    raw, white, dark, truth, panel = scene()
    small = white.isel(x=slice(2, 5))
    with pytest.raises(GridMismatch, match="white=spectrum"):
        ts.calibrate_reflectance(raw, small, dark)
    found = ts.calibrate_reflectance(raw, small, dark, panel=plate(panel), settings={"white": "spectrum"})[
        "cube"
    ].values
    ratio = found / truth
    assert np.ptp(ratio.mean(1), axis=1).max() > 0.1 and np.abs(ratio.mean() - 1) < 0.2


def test_refusals():
    raw, white, dark, _, panel = scene()
    for options, error, text in (
        ({"panel": 99}, BadSettings, "0.99, not 99"),
        ({"panel": plate(panel, 600)}, BandMismatch, "does not cover"),
        ({"panel": plate(100 * panel)}, BadInput, "in percent"),
        ({"dark": float("nan")}, BadSettings, "finite level"),
        ({"dark": dark.isel(band=[0])}, BandMismatch, "the dark has 1 bands"),
        ({"dark": dark.isel(x=[0, 1])}, GridMismatch, "columns"),
        ({"dark": white, "white": dark}, BadInput, "mixed up"),
        ({"white": white.isel(band=[0, 1])}, BandMismatch, "white reference has 2 bands"),
        ({"white": 4000.0}, BadInput, "lines of the panel"),
        ({"raw": raw.assign_attrs(quantity="reflectance")}, BadInput, "reflectance already"),
        ({"settings": {"dark": "median"}}, BadSettings, "dark"),
    ):
        with pytest.raises(error, match=text):
            ts.calibrate_reflectance(**{"raw": raw, "white": white, "dark": dark, **options})


def test_files_streamed_and_scaled(tmp_path):
    raw, white, dark, truth, panel = scene()
    paths = {}
    for name, cube in (("raw", raw), ("white", white), ("dark", dark)):
        paths[name] = tmp_path / f"{name}.hdr"
        ts.save(cube, paths[name])
    out = tmp_path / "refl.hdr"
    opened = {name: ts.open(path) for name, path in paths.items()}
    opened["raw"].attrs["integration_time"] = opened["white"].attrs["integration_time"] = 10.0
    ts.calibrate_reflectance(**opened, panel=plate(panel), out=out, dtype="int16", tile=(5, COLS))
    again = ts.open(out)
    np.testing.assert_allclose(again.values, truth, atol=3e-3)
    assert again.attrs["quantity"] == "reflectance" and ts.open(out, raw=True).dtype == np.int16
    assert (tmp_path / "refl.hdr.run.yaml").is_file()


def test_real_dark_frames(samples):
    dark = ts.open(samples / "headwall" / "darkReference.hdr")
    frame = frame_of(dark)
    np.testing.assert_allclose(frame.mean, dark.values.mean(1, dtype=float), rtol=1e-9)
    assert frame.lines == dark.sizes["y"] and ceiling_of(dark) is None
