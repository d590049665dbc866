"""Sharpening from file to file: what the run file says, stopped and resumed runs, holes, guides in another CRS."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import yaml
from affine import Affine
from scipy.ndimage import distance_transform_cdt, maximum_filter
from scipy.ndimage import shift as moved

import torchspectral as ts
from torchspectral.engine.method import Input, SceneInfo, State, Tile, Window, is_fitted
from torchspectral.engine.roles import fit_grid
from torchspectral.errors import GridMismatch, Interrupted
from torchspectral.geo import grid_of, place, reproject
from torchspectral.registry import create
from torchspectral.result import Report
from torchspectral.sharpening.whole import WholeSource

CLASSICAL = [
    *("exp", "gsa", "bt-h", "bdsd-pc", "pracs", "awlp", "mf", "sr-d"),
    *("mtf-glp-fs", "mtf-glp-hpm", "mtf-glp-hpm-r"),
]
SIDE = 46


@lru_cache
def scene_of(ratio: int, bands: int = 4) -> tuple[xr.DataArray, xr.DataArray]:
    """A pair with strong detail, without nodata."""
    rng = np.random.default_rng(ratio)
    size = SIDE * ratio
    smooth = rng.standard_normal((3, size, size)).cumsum(1).cumsum(2)
    smooth = (smooth - smooth.mean((1, 2), keepdims=True)) / smooth.std((1, 2), keepdims=True)
    mix = rng.uniform(0.3, 1, (bands, 3))
    values = 8 + np.tensordot(mix, smooth + 0.15 * rng.standard_normal(smooth.shape), 1)
    cube = ts.make_cube(values.astype(np.float32), wavelength=np.linspace(450, 880, bands), quantity="radiance")
    pair = ts.simulate_wald(place(cube, Affine(10, 0, 4e5, 0, -10, 5e6), 32633), ratio)
    return pair["hs"].load(), pair["pan"].load()


@lru_cache
def learned(method: str, ratio: int) -> State | None:
    """What a method learns from the whole pair, so that two runs differ by what a hole does to pixels only."""
    hs, pan = scene_of(ratio)
    made = create("sharpening", method, {})
    unknown = np.full(hs.sizes["band"], np.nan)
    info = SceneInfo((SIDE, SIDE), unknown, unknown, ratio={"cube": 1, "pan": ratio})
    made.prepare(info)
    if not is_fitted(made):
        return None
    whole = Window(0, 0, SIDE, SIDE)
    data = {"cube": torch.tensor(hs.values)[None], "pan": torch.tensor(pan.values)[None]}
    tile = Tile(data, whole, whole, torch.ones(1, 1, SIDE, SIDE, dtype=torch.bool), info)
    state = made.fit(WholeSource(tile), 0, None)
    return state if isinstance(state, dict) else list(state)[-1][0]


@lru_cache
def without_holes(method: str, ratio: int) -> np.ndarray:
    """The sharpened pair of `scene_of`."""
    state = learned(method, ratio)
    return ts.sharpen(*scene_of(ratio), method=method, state=state, check_shift=False)["cube"].values


@pytest.mark.parametrize("method", CLASSICAL)
@pytest.mark.parametrize(("where", "reach"), [("cube", 1), ("pan", 0)])
def test_a_hole_stays_a_hole_and_reaches_no_further_than_the_kernels(method: str, where: str, reach: int) -> None:
    ratio = 2
    hs, pan = scene_of(ratio)
    options: dict[str, Any] = {"method": method, "state": learned(method, ratio), "check_shift": False}
    plain = without_holes(method, ratio)
    dead = np.zeros(plain.shape[-2:], dtype=bool)
    if where == "cube":
        hs = hs.copy(deep=True)
        hs.values[:, 4:6, 5:8] = np.nan
        dead[4 * ratio : 6 * ratio, 5 * ratio : 8 * ratio] = True
    else:
        pan = pan.copy(deep=True)
        pan.values[:, 9:13, 11:14] = np.nan
        dead[9:13, 11:14] = True
    dead = maximum_filter(dead, 2 * reach * ratio + 1)
    out = ts.sharpen(hs, pan, settings={"hole_reach": reach}, **options)
    values = out["cube"].values
    np.testing.assert_array_equal(np.isnan(values), np.broadcast_to(dead, values.shape))
    made = create("sharpening", method, {})
    made.prepare(SceneInfo((SIDE, SIDE), np.zeros(4), np.zeros(4), ratio={"cube": 1, "pan": ratio}))
    away = distance_transform_cdt(~dead, metric="chessboard") > made.halo * ratio
    assert away.any()
    np.testing.assert_allclose(values[:, away], plain[:, away], rtol=2e-6)
    near = ~away & ~dead
    # Around a hole values rest on what it was filled with: they stay within the scene's own range.
    assert np.abs(values[:, near] - plain[:, near]).max() < plain.std()
    if where == "cube":
        assert any("6 nodata pixels: filled from their surroundings" in line for line in out.report.filled)
        assert any("14 pixels of the cube within 1 pixel of the lead" in line for line in out.report.filled)


@pytest.mark.parametrize("tile", [(46, 46), (7, 11)])
def test_pixels_near_holes_of_both_images_are_marked_as_far_as_asked(tile: tuple[int, int]) -> None:
    hs, pan = (image.copy(deep=True) for image in scene_of(2))
    hs.values[:, 20, 5:7] = np.nan
    pan.values[:, 30:33, 60:62] = np.nan
    dead = np.zeros(pan.shape[-2:], dtype=bool)
    dead[40:42, 10:14] = dead[30:33, 60:62] = True
    for reach in (0, 3):
        out = ts.sharpen(hs, pan, method="exp", settings={"hole_reach": reach}, check_shift=False, tile=tile)
        wanted = maximum_filter(dead, 4 * reach + 1)
        np.testing.assert_array_equal(np.isnan(out["cube"].values), np.broadcast_to(wanted, out["cube"].shape))
        told = [line for line in out.report.filled if "hole_reach" in line]
        assert [line.split(" within")[0] for line in told] == (
            ["54 pixels of the cube", f"{15 * 14 - 6} pixels of the pan"] if reach else []
        )


@pytest.mark.parametrize("method", CLASSICAL)
def test_holes_hardly_change_what_is_learned(method: str) -> None:
    hs, pan = scene_of(2)
    plain = without_holes(method, 2)
    holed = hs.copy(deep=True)
    holed.values[:, :2, :2] = np.nan
    out = ts.sharpen(holed, pan, method=method, check_shift=False)["cube"].values
    far = (slice(None), slice(-60, None), slice(-60, None))
    assert np.isfinite(out[far]).all()
    assert np.abs(out[far] - plain[far]).mean() < 0.02 * plain.std()


def test_the_run_file_says_cuts_resampling_and_shift(tmp_path: Path) -> None:
    hs, pan = scene_of(3)
    shifted = pan.copy(data=moved(pan.values[0], (1.5, -0.9), order=3, mode="nearest")[None])
    small = shifted.isel(y=slice(6, None))
    result = ts.sharpen(hs, small, out=tmp_path / "out.tif")
    known = yaml.safe_load((tmp_path / "out.tif.run.yaml").read_text())
    assert known["figures"]["pan_shift"] == pytest.approx([0.5, -0.3], abs=0.05)
    assert any("coregister" in line for line in known["notes"])
    assert any("cube was cut" in line for line in known["dropped"])
    assert known["notes"] == result.report.notes
    other = reproject(pan, crs=32632, resolution=10, resampling="cubic").load()
    ts.sharpen(hs, other, out=tmp_path / "crs.tif", resample=True)
    assert "CRS" in yaml.safe_load((tmp_path / "crs.tif.run.yaml").read_text())["resampled"][0]
    ts.sharpen(hs, guides=shifted, out=tmp_path / "guided.tif")
    known = yaml.safe_load((tmp_path / "guided.tif.run.yaml").read_text())
    assert any("guides registered" in line for line in known["notes"])


@pytest.mark.parametrize("method", ["gsa", "rho-pnn", "guided"])
def test_a_stopped_run_goes_on_and_ends_alike(tmp_path: Path, method: str) -> None:
    hs, pan = scene_of(2)
    hs = hs.isel(band=[0, 2], y=slice(0, 24), x=slice(0, 20))
    pan = pan.isel(y=slice(0, 48), x=slice(0, 40))
    settings = {"ensemble": 1, "ensemble_epochs": 1, "epochs": 1, "sharpenings": 1, "eta": 0.0}
    options: dict[str, Any] = {"method": method, "tile": (8, 20), "check_shift": False}
    options |= {"settings": settings} if method == "rho-pnn" else {}
    options |= {"guides": pan} if method == "guided" else {"pan": pan}
    whole = ts.sharpen(hs, **options)["cube"].values

    def stop(step: Any) -> None:
        if step.stage == "apply" and step.fraction > 0.3:
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        ts.sharpen(hs, out=tmp_path / "out.tif", progress=stop, **options)
    assert not (tmp_path / "out.tif").exists() and (tmp_path / ".out.tif.partial").is_dir()
    seen = []
    result = ts.sharpen(hs, out=tmp_path / "out.tif", resume=True, progress=lambda s: seen.append(s), **options)
    np.testing.assert_array_equal(result["cube"].values, whole)
    assert min(s.fraction for s in seen if s.stage == "apply") > 0.4  # one of three tiles was kept


def test_a_finer_role_in_another_crs_keeps_its_pixel_size() -> None:
    hs, pan = scene_of(3)
    other = reproject(pan, crs=32632, resolution=10, resampling="cubic").load()
    report = Report()
    fitted, ratio = fit_grid(other, hs, Input("pan", ratio="finer"), True, report)
    assert ratio == 3 and fitted.shape[-2:] == (SIDE * 3, SIDE * 3)
    assert grid_of(fitted).crs == grid_of(hs).crs and "CRS" in report.resampled[0]
    same = reproject(hs.isel(band=[0]), crs=32632, resolution=30).load()
    with pytest.raises(GridMismatch, match=r"CRS.*twice as fine"):
        fit_grid(same, hs, Input("pan", ratio="finer"), True, Report())


def test_guides_are_simulated_by_a_public_function() -> None:
    hs, _ = scene_of(2)
    made = ts.simulate_guides(hs, bands=("B3", "B4"))
    assert made["guides"].shape == (2, SIDE, SIDE)
