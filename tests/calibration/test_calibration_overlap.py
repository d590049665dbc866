"""Detector gains from common ground: the figures of the real band, groups, weak links, georeference, memory."""

from __future__ import annotations

import json

import numpy as np
import pytest
from affine import Affine
from gain_data import WELL_LINKED, jasper, left, lines, texture
from hypothesis import given, settings
from hypothesis import strategies as st

import torchspectral as ts
from torchspectral.calibration import SelfCal, read_gains
from torchspectral.calibration.gain.cells import CellSums
from torchspectral.errors import BadInput, BadSettings, BandMismatch, GridMismatch, OutputExists
from torchspectral.geo import place, place_swath


def shifted(cubes, shifts, **options):
    return ts.calibrate_gain(cubes, shifts=[(0, s) for s in shifts], **options)


def test_figures_of_the_real_band(samples):
    scene = jasper(samples)[0][60:61]
    found = []
    for seed in range(5):
        cubes, truth = lines(scene, WELL_LINKED, 64, seed=seed)
        result = shifted(cubes, WELL_LINKED)
        found.append(left(result["gains"].gain, truth))
        assert 0.5 < 100 * result.report.figures["standard_error"] / found[-1] < 2
        assert not result.report.notes
    assert np.mean(found) <= 0.07 and max(found) <= 0.07
    assert np.mean(found) == pytest.approx(0.051, rel=0.3)


@pytest.mark.parametrize(
    ("shifts", "snr", "expected"), [((0, 7, 12), 30, 1.8), ((0, 7, 12), 60, 0.055), (WELL_LINKED, 60, 0.005)]
)
def test_more_of_the_table(samples, shifts, snr, expected):
    scene = jasper(samples)[0][60:61]
    found = []
    for seed in range(5):
        cubes, truth = lines(scene, shifts, 64, snr, seed=seed)
        found.append(left(shifted(cubes, shifts)["gains"].gain, truth))
    assert np.mean(found) == pytest.approx(expected, rel=0.3)


def test_unconnected_groups_are_refused_or_told(samples):
    cubes, _ = lines(jasper(samples)[0][60:61], (0, 5), 64)
    with pytest.raises(BadInput, match=r"5 unconnected groups.*greatest common divisor"):
        shifted(cubes, (0, 5))
    result = shifted(cubes, (0, 5), settings={"groups": "each"})
    assert any("5 unconnected groups" in note for note in result.report.notes)
    gains = result["gains"]
    assert gains.record["bands"][0]["groups"] == 5
    for first in range(5):
        assert gains.gain[0, first::5].mean() == pytest.approx(1)


def test_weak_links_are_told(samples):
    cubes, _ = lines(jasper(samples)[0][60:61], (0, 1), 64)
    result = shifted(cubes, (0, 1))
    assert any("weakly linked" in note for note in result.report.notes)
    band = result["gains"].record["bands"][0]
    assert band["weakly_linked"] and band["spectral_gap"] < 1e-4 and band["predicted_error"] > 0.005


def test_baselines_leave_more_on_few_lines(samples):
    cubes, truth = lines(jasper(samples)[0][60:61], WELL_LINKED, 64)
    overlap = left(shifted(cubes, WELL_LINKED)["gains"].gain, truth)
    for method in ("moments", "histogram", "polynomial"):
        result = ts.calibrate_gain(cubes, method=method)
        assert left(result["gains"].gain, truth) > 50 * overlap
        assert any("baseline" in note for note in result.report.notes)


@settings(max_examples=10, deadline=None)
@given(
    detectors=st.integers(5, 14),
    rows=st.integers(2, 8),
    count=st.integers(2, 4),
    seed=st.integers(0, 99),
    holes=st.booleans(),
)
def test_form_is_that_of_the_dense_stack(detectors, rows, count, seed, holes):
    random = np.random.default_rng(seed)
    shifts = random.integers(0, 5, count)
    values = random.uniform(0.5, 2, (count, rows, detectors))
    if holes:
        values[random.random(values.shape) < 0.2] = np.nan
    sums = CellSums(detectors, 1)
    cell = np.stack([np.arange(rows)[:, None] * 50 + np.arange(detectors) + s for s in shifts])
    detector = np.broadcast_to(np.arange(detectors), cell.shape)
    sums.add(cell.ravel(), detector.ravel(), values.reshape(1, -1))
    form = np.zeros((detectors, detectors))
    for c in np.unique(cell):
        at = np.nonzero((cell == c) & np.isfinite(values))
        if len(at[0]):
            v = np.zeros((len(at[0]), detectors))
            v[np.arange(len(at[0])), at[2]] = values[at]
            form += v.T @ (np.eye(len(v)) - 1 / len(v)) @ v
    np.testing.assert_allclose(sums.form(0), form, atol=1e-12)
    ones = sums.links(0)
    np.testing.assert_allclose(ones.sum(1), 0, atol=1e-12)


def test_selection_equals_the_general_model():
    scene = texture(1, 12, 30)
    cubes, _ = lines(scene, (0, 3, 7), 20, 30)
    found = shifted(cubes, (0, 3, 7))["gains"].gain[0]
    rows = []
    measured = []
    for cube, shift in zip(cubes, (0, 3, 7), strict=True):
        for t in range(12):
            a = np.zeros((20, 12 * 30))
            a[np.arange(20), t * 30 + shift + np.arange(20)] = 1
            rows.append(a)
            measured.append(cube.values[0, t])
    other = SelfCal("a").fit(np.array(measured), np.array(rows))
    np.testing.assert_allclose(found, other.s / other.s.mean(), rtol=1e-8)


def test_offsets_dark_and_never_seen_detectors():
    scene = texture(2, 60, 60)
    cubes, truth = lines(scene, (0, 3, 7, 12), 40, 60)
    random = np.random.default_rng(1)
    dark = random.uniform(0.05, 0.2, (2, 40))
    raw = [c + dark[:, None] for c in cubes]
    frames = ts.make_cube(np.repeat(dark[:, None], 5, 1))
    with_dark = shifted(raw, (0, 3, 7, 12), dark=frames)["gains"]
    assert left(with_dark.gain, truth) < 0.05
    clean = ts.apply_gains(raw[0], with_dark)["cube"].values / scene[:, :, :40]
    assert (clean / clean.mean((1, 2), keepdims=True)).std() < 0.005
    solved = shifted(raw, (0, 3, 7, 12), settings={"offset": "solve"})["gains"]
    assert left(solved.gain, truth) < 0.3 and np.abs(solved.offset.mean(1)).max() < 1e-9
    # What offsets there are beside the mean of all and what a level times the gains hides.
    both = solved.gain * dark + solved.offset
    assert np.ptp(both, axis=1).max() < 0.1 * np.ptp(dark, axis=1).min()
    for cube in cubes:
        cube.values[:, :, 5] = np.nan
    gains = shifted(cubes, (0, 3, 7, 12))["gains"]
    assert np.isnan(gains.gain[:, 5]).all() and np.isfinite(np.delete(gains.gain, 5, 1)).all()
    assert np.isnan(ts.apply_gains(cubes[0], gains)["cube"].values[:, :, 5]).all()


def test_saturated_values_are_masked():
    scene = 1000 * texture(1, 60, 60)
    cubes, truth = lines(scene, (0, 3, 7, 12), 40, 60)
    counts = [
        ts.make_cube(np.clip(np.rint(c.values), 0, 1500).astype(np.uint16), attrs={"ceiling": 1500}) for c in cubes
    ]
    found = shifted(counts, (0, 3, 7, 12))["gains"]
    assert found.record["ceiling"] == 1500 and left(found.gain, truth) < 0.1
    blind = shifted(counts, (0, 3, 7, 12), settings={"saturation": 1e9})["gains"]
    assert left(blind.gain, truth) > 3 * left(found.gain, truth)


def test_georeference_places_lines(tmp_path):
    scene = texture(1, 80, 60)
    cubes, truth = lines(scene, (0, 3, 7, 12), 40, 50)
    placed = [
        place(c, Affine(2, 0, 500000 + 2 * s, 0, -2, 5000000), "EPSG:32633")
        for c, s in zip(cubes, (0, 3, 7, 12), strict=True)
    ]
    by_map = ts.calibrate_gain(placed)
    same = shifted(cubes, (0, 3, 7, 12))
    np.testing.assert_allclose(by_map["gains"].gain, same["gains"].gain, rtol=1e-9)
    assert any("columns of the raster" in note for note in by_map.report.notes)
    from pyproj import Transformer

    to_lonlat = Transformer.from_crs(32633, 4326, always_xy=True)
    swaths = []
    for cube, shift in zip(cubes, (0, 3, 7, 12), strict=True):
        x = 500000 + 2 * (np.arange(40) + shift + 0.5)
        y = 5000000 - 2 * (np.arange(80) + 0.5)
        swaths.append(place_swath(cube, *to_lonlat.transform(*np.meshgrid(x, y))))
    by_swath = ts.calibrate_gain(swaths, settings={"cell": 2.0})
    assert left(by_swath["gains"].gain, truth) < 0.3
    with pytest.raises(GridMismatch, match="line 1 has no georeference"):
        ts.calibrate_gain(cubes)


def test_side_slither_and_bilinear_registration():
    # A line at right angles: every detector goes over the same ground.
    scene = texture(1, 60, 60)
    _, truth = lines(scene, (0,), 40, 60)
    turned = ts.make_cube(truth[:, None] * scene[:, :60, :40].transpose(0, 2, 1)[:, :40, :40], quantity="dn")
    straight = ts.make_cube(truth[:, None] * scene[:, :40, :40], quantity="dn")
    one = place(straight, Affine(1, 0, 0, 0, -1, 0), "EPSG:32633")
    other = place(turned, Affine(0, 1, 0, -1, 0, 0), "EPSG:32633")
    assert left(ts.calibrate_gain([one, other])["gains"].gain, truth) < 1e-6
    # Half a pixel between lines: nearest neighbours see different ground, four cells between them the same.
    fine = texture(1, 40, 40, 4)[:, :, :, None]
    smooth = np.repeat(np.repeat(fine[..., 0], 1, 1), 1, 2)
    placed = []
    for shift in (0.0, 2.5, 6.0, 9.5):
        low = int(shift)
        part = shift - low
        ground = smooth[:, :, low : low + 24] * (1 - part) + smooth[:, :, low + 1 : low + 25] * part
        cube = ts.make_cube(truth[:, :24][:, None] * ground, quantity="dn")
        placed.append(place(cube, Affine(1, 0, shift, 0, -1, 0), "EPSG:32633"))
    near = left(ts.calibrate_gain(placed)["gains"].gain, truth[:, :24])
    between = ts.calibrate_gain(placed, settings={"registration": "bilinear"})["gains"]
    assert left(between.gain, truth[:, :24]) < 0.05 < near
    record = between.record["bands"][0]
    assert record["held_out_after"] < 0.1 * record["held_out_before"]
    # Lines that were moved after they were placed agree on nothing.
    moved = [c.copy(data=np.roll(c.values, 5 * n, axis=1)) for n, c in enumerate(placed)]
    try:
        told = ts.calibrate_gain(moved, settings={"registration": "bilinear"}).report.notes
    except BadInput as refused:
        told = [str(refused)]
    assert any("explain little" in line or "no gains written" in line for line in told)


def test_blocks_of_ground_change_nothing(monkeypatch):
    from torchspectral.calibration.gain import ground

    cubes, _ = lines(texture(3, 50, 60), (0, 3, 7), 40)
    whole = shifted(cubes, (0, 3, 7))["gains"].gain
    monkeypatch.setattr(ground, "BLOCK_VALUES", 1000)
    np.testing.assert_allclose(shifted(cubes, (0, 3, 7))["gains"].gain, whole, rtol=1e-9)


def test_wrong_shifts_are_refused_by_held_out_ground():
    scene = np.random.default_rng(0).uniform(0.5, 1.5, (1, 120, 80))
    cubes, _ = lines(scene, (0, 9, 22), 40, 50, spread=0.001)
    with pytest.raises(BadInput, match="are the shifts or the georeference right"):
        shifted(cubes, (0, 2, 17))


@pytest.mark.parametrize("suffix", [".csv", ".npz", ".hdr"])
def test_files_round_trip(tmp_path, suffix):
    cubes, _ = lines(texture(3, 40, 60), (0, 3, 7), 40)
    path = tmp_path / f"gains{suffix}"
    cubes[0].values[1, :, 4] = np.nan
    gains = shifted(cubes, (0, 3, 7), out=path)["gains"]
    again = read_gains(path)
    for name in ("gain", "offset", "error", "wavelength"):
        np.testing.assert_allclose(getattr(again, name), getattr(gains, name), rtol=1e-12)
    record = json.loads((tmp_path / "gains.json").read_text())
    assert (
        record["method"] == "overlap" and record["bands"][2]["held_out_after"] < record["bands"][2]["held_out_before"]
    )
    assert record["lines"][0]["lines"] == [1, 40] and record["shifts"] == [[0, 0], [0, 3], [0, 7]]
    assert (tmp_path / f"gains{suffix}.run.yaml").is_file()
    with pytest.raises(OutputExists):
        shifted(cubes, (0, 3, 7), out=path)
    shifted(cubes, (0, 3, 7), out=path, overwrite=True)


def test_refusals():
    cubes, _ = lines(texture(2, 20, 40), (0, 3), 20)
    with pytest.raises(BadInput, match="at least two that overlap"):
        ts.calibrate_gain(cubes[0])
    with pytest.raises(BadInput, match="no two detectors"):
        shifted(cubes, (0, 100))
    with pytest.raises(BadSettings, match="one pair"):
        ts.calibrate_gain(cubes, shifts=[(0, 0)])
    with pytest.raises(BadInput, match="columns"):
        shifted([cubes[0], cubes[1].isel(x=slice(0, 10))], (0, 3))
    with pytest.raises(BandMismatch):
        shifted([cubes[0], cubes[1].isel(band=[0])], (0, 3))
    with pytest.raises(BadSettings, match=r"did you mean|known"):
        ts.calibrate_gain(cubes, method="overlaps")
    cubes, _ = lines(texture(2, 20, 40), (0, 3, 7), 20)
    gains = shifted(cubes, (0, 3, 7))["gains"]
    with pytest.raises(GridMismatch, match="one column a detector"):
        ts.apply_gains(cubes[0].isel(x=slice(0, 5)), gains)
