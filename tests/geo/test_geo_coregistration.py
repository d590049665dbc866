"""Phase correlation and co-registration."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import fourier_shift, gaussian_filter

from torchspectral import coregister, make_cube
from torchspectral.errors import BadInput, BadSettings, BandMismatch, GridMismatch
from torchspectral.geo import grid_of, mosaic, place, place_swath
from torchspectral.geo.phase import refined_shift

UTM = Affine(30.0, 0, 362175.0, 0, -30.0, 5809965.0)


def ground(rows: int = 160, cols: int = 180, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return gaussian_filter(rng.standard_normal((rows, cols)), 1.2) * 100 + 1000


def shifted(image: np.ndarray, rows: float, cols: float) -> np.ndarray:
    return np.fft.ifft2(fourier_shift(np.fft.fft2(image), (rows, cols))).real


@settings(max_examples=15, deadline=None)
@given(st.floats(-12, 12), st.floats(-12, 12), st.integers(0, 5))
def test_shifts_are_found_to_a_twentieth_of_a_pixel(rows: float, cols: float, seed: int) -> None:
    image = ground(seed=seed)
    other = shifted(image, rows, cols) + np.random.default_rng(seed + 99).standard_normal(image.shape) * 2
    found = refined_shift(other[20:-20, 20:-20], image[20:-20, 20:-20])
    assert abs(found.rows - rows) < 0.06 and abs(found.cols - cols) < 0.06
    assert found.quality > 0.5 and found.contrast > 8 and found.second < 0.5


def test_a_scene_is_put_right_on_the_ground() -> None:
    truth = ground(200, 220)
    # The reference has pixels of 10 m; the moving scene of 30 m claims to lie 95 m too far east and 40 m too far north.
    fine = Affine(10.0, 0, 362175.0, 0, -10.0, 5809965.0)
    reference = place(make_cube(np.kron(truth, np.ones((3, 3)))[None], quantity="dn"), fine, 32633)
    wrong = Affine(30.0, 0, 362175.0 + 95 + 300, 0, -30.0, 5809965.0 + 40 - 300)
    part = truth[10:190, 10:200]
    moving = place(make_cube(np.stack([part, part]).astype(np.float32), wavelength=[650, 850]), wrong, 32633)
    result = coregister(moving, reference)
    figures = result.report.figures
    assert figures["correction_x"] == pytest.approx(-95, abs=3) and figures["correction_y"] == pytest.approx(-40, abs=3)
    assert figures["correction_metres"] == pytest.approx(np.hypot(95, 40), abs=4) and not figures["weak"]
    assert figures["correlation_after"] > 0.5 > figures["correlation_before"]
    fixed = result["cube"]
    assert grid_of(fixed).transform.c == pytest.approx(362475.0, abs=3)
    assert grid_of(fixed).transform.f == pytest.approx(5809665.0, abs=3)
    np.testing.assert_array_equal(fixed.values, moving.values)
    assert "co-registered" in fixed.attrs["history"][-1]
    resampled = coregister(moving, reference, resample=True)["cube"]
    assert grid_of(resampled) == grid_of(moving)
    inside = np.isfinite(resampled.values[0])
    assert inside.mean() > 0.9


def test_real_bands_of_one_scene_agree(samples) -> None:
    """Tiles of the real EnMAP scene, moved by whole pixels, against another band of the same ground."""
    cubes = []
    for name in ("96_96", "128_96", "160_96", "128_128", "160_128"):
        with rasterio.open(samples / "enmap" / "images" / f"enmap_potsdam_tile_{name}.tif") as src:
            cubes.append(place(make_cube(src.read([31, 46]), wavelength=[566, 654]), src.transform, src.crs))
    scene = mosaic(cubes).isel(y=slice(0, 32), x=slice(0, 96))
    t = grid_of(scene).transform
    moving = place(scene, Affine(30.0, 0, t.c + 90, 0, -30.0, t.f - 60), 32633)
    result = coregister(moving, scene, bands=[0], reference_bands=[1], max_shift=8)
    figures = result.report.figures
    assert figures["correction_x"] == pytest.approx(-90, abs=3) and figures["correction_y"] == pytest.approx(60, abs=3)


def test_strangers_are_called_weak() -> None:
    a = place(make_cube(ground(seed=1)[None]), UTM, 32633)
    b = place(make_cube(ground(seed=2)[None]), UTM, 32633)
    result = coregister(a, b)
    assert result.report.figures["weak"] and "do not trust" in result.report.notes[0]


def test_bad_calls() -> None:
    a = place(make_cube(ground()[None]), UTM, 32633)
    with pytest.raises(GridMismatch, match="share"):
        coregister(a, place(make_cube(ground()[None]), Affine(30.0, 0, 0, 0, -30.0, 0), 32633))
    with pytest.raises(GridMismatch, match="orthorectify"):
        coregister(place_swath(make_cube(ground()[None]), ground(), ground()), a)
    with pytest.raises(BadSettings, match="upsample"):
        coregister(a, a, upsample=0)
    with pytest.raises(BandMismatch, match=r"0\.\.0"):
        coregister(a, a, bands=[3])
    with pytest.raises(BadInput, match="constant"):
        coregister(a, place(make_cube(np.ones((1, 160, 180))), UTM, 32633))


def test_a_cube_is_held_against_a_finer_guide_through_its_response() -> None:
    truth, noise = ground(120, 130), np.random.default_rng(3)
    fine = Affine(10.0, 0, 4e5, 0, -10.0, 5e6)
    # The guide's broad band is the mean of bands 3 to 5; bands 1 and 2 show something else.
    guide = place(make_cube(np.kron(truth, np.ones((3, 3)))[None], wavelength=[665], fwhm=[60]), fine, 32633)
    other = [gaussian_filter(noise.standard_normal(truth.shape), 1.2) * 100 + 1000 for _ in range(2)]
    bands = [shifted(truth, 0.4, -0.3) + noise.standard_normal(truth.shape) * 20 for _ in range(3)]
    cube = make_cube(np.stack([*other, *bands]).astype(np.float32), wavelength=[450, 500, 645, 665, 685])
    moving = place(cube, Affine(30.0, 0, 4e5, 0, -30.0, 5e6), 32633)
    result = coregister(moving, guide)
    figures = result.report.figures
    assert (figures["shift_rows"], figures["shift_cols"]) == pytest.approx((0.4, -0.3), abs=0.06)
    assert figures["correction_east_metres"] == pytest.approx(9, abs=2)
    assert figures["correction_north_metres"] == pytest.approx(12, abs=2)
    assert result.report.settings["bands"] == [2, 3, 4] and not result.report.notes
    far = coregister(moving, place(guide, Affine(10.0, 0, 4e5 + 90, 0, -10.0, 5e6), 32633))
    assert any("more than one" in note for note in far.report.notes)
