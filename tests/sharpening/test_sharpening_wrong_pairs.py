"""Every method of the room against pairs that are wrong, or not quite right: the right result, or one clear error."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from affine import Affine

import torchspectral as ts
from torchspectral import registry
from torchspectral.errors import BadInput, BandMismatch, GridMismatch
from torchspectral.geo import grid_of, place, reproject
from torchspectral.ops.mtf import mtf_filter

METHODS = [card.name for card in registry.methods("sharpening")]
FAMILIES = ["exp", "sr-d", "tv", "rho-pnn", "z-pnn", "pca-z-pnn", "hspenet", "dhp-darn", "guided"]
"""One method of each base class: what is done before a method sees anything, or held by the contract test for all."""
BANDS, RATIO, ROWS, COLS = 4, 2, 24, 22
PRIOR = {"iterations": 2, "channels": 8, "gain": 1.0}
QUICK: dict[str, dict[str, Any]] = {
    "r-pnn": {"first_iterations": 1, "most_iterations": 1},
    "rho-pnn": {"ensemble": 1, "ensemble_epochs": 1, "epochs": 1, "sharpenings": 1, "eta": 0.0},
    "z-pnn": {"epochs": 1},
    "z-pnn-scratch": {"epochs": 1},
    "pca-z-pnn": {"iterations": 2},
    "dhp-darn": PRIOR,
    "dip-hyperkite": PRIOR | {"block": 16, "prior": "interpolated"},
    "tv": {"iterations": 3},
    "hysure": {"iterations": 3, "p": 3},
}
PLAIN_WHERE_FLAT = [*("exp", "gsa", "bt-h", "bdsd-pc", "pracs", "awlp", "mf", "sr-d"), "guided"]
PLAIN_WHERE_FLAT += ["mtf-glp-fs", "mtf-glp-hpm", "mtf-glp-hpm-r"]
"""Methods that can say of a PAN without detail that it has none."""


@pytest.fixture(scope="module")
def pair() -> dict[str, xr.DataArray]:
    rng = np.random.default_rng(0)
    pure = rng.random((3, BANDS)).cumsum(1) / BANDS + 0.2
    size = (3, ROWS * RATIO, COLS * RATIO)
    share = mtf_filter(torch.from_numpy(rng.random(size)), RATIO, 0.3, normalize=True).numpy()
    values = np.einsum("kyx,kb->byx", share, pure).astype(np.float32) / 3
    scene = ts.make_cube(values, wavelength=np.linspace(450, 880, BANDS), quantity="reflectance")
    made = ts.simulate_wald(place(scene, Affine(10, 0, 4e5, 0, -10, 5e6), 32633), RATIO)
    images = {name: made[name].load() for name in ("hs", "pan", "truth")}
    images["far"] = place(images["pan"], Affine(10, 0, 4.5e5, 0, -10, 5e6), 32633)
    images["other crs"] = reproject(images["pan"], crs=32632, resolution=10, resampling="cubic").load()
    images["odd ratio"] = reproject(images["pan"], resolution=8.7, resampling="cubic").load()
    images["flat"] = images["pan"].copy(data=np.full_like(images["pan"].values, 0.25))
    images["plain"] = ts.sharpen(images["hs"], images["pan"], method="exp", check_shift=False)["cube"]
    return images


SMALL = {"dhp-darn": {"features": 8}, "dip-hyperkite": {"features": 4}, "hspenet": {"features": 8, "growth": 4}}


@lru_cache
def weights_of(method: str, bands: int) -> dict[str, Any] | None:
    """Weights of the right shape for methods that cannot do without: what comes out need not be good."""
    if "weights" not in registry.card("sharpening", method).needs:
        return None
    torch.manual_seed(0)
    if method == "z-pnn":
        from torchspectral.sharpening.zero_shot.networks import PNN

        return dict(PNN(bands).state_dict())
    if method == "r-pnn":
        from torchspectral.sharpening.zero_shot.networks import RPNNNetwork

        return dict(RPNNNetwork().state_dict())
    return dict(ts.create_model(method, bands=bands, **SMALL.get(method, {})).state_dict())


def sharpened(method: str, hs: xr.DataArray, pan: xr.DataArray, **options: Any) -> Any:
    sees = {"guides": pan} if method == "guided" else {"pan": pan}
    return ts.sharpen(
        hs,
        method=method,
        settings=QUICK.get(method, {}),
        state=weights_of(method, hs.sizes["band"]),
        check_shift=False,
        **sees,
        **options,
    )


WRONG: dict[str, tuple[Callable[[Any], tuple[Any, Any]], type[Exception], str]] = {
    "no-overlap": (lambda p: (p["hs"], p["far"]), GridMismatch, "do not overlap"),
    "other-crs": (lambda p: (p["hs"], p["other crs"]), GridMismatch, "CRS is WGS 84 / UTM zone 32N.*--align"),
    "ratio": (lambda p: (p["hs"], p["odd ratio"]), GridMismatch, "no whole number.*--align"),
    "same-size": (lambda p: (p["hs"], p["hs"].isel(band=[0])), GridMismatch, "half as large"),
    "exchanged": (lambda p: (p["pan"], p["hs"].isel(band=[0])), GridMismatch, "exchange the images"),
    "cube-empty": (lambda p: (p["hs"] * np.nan, p["pan"]), BadInput, "valid|nodata"),
}


@pytest.mark.parametrize("method", FAMILIES)
@pytest.mark.parametrize("case", WRONG)
def test_what_cannot_be_sharpened_is_refused_in_one_line(pair, method: str, case: str) -> None:
    make, kind, message = WRONG[case]
    hs, pan = make(pair)
    with pytest.raises(kind, match=message) as caught:
        sharpened(method, hs, pan)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("method", [m for m in FAMILIES if m != "guided"])
def test_a_pan_of_several_bands_or_of_none_is_refused(pair, method: str) -> None:
    several = pair["truth"].isel(band=[0, 1])
    with pytest.raises(BandMismatch, match="expected one band"):
        sharpened(method, pair["hs"], several)
    with pytest.raises(BadInput, match="input pan are nodata"):
        sharpened(method, pair["hs"], pair["pan"] * np.nan)


@pytest.mark.parametrize("method", FAMILIES)
def test_another_crs_and_ratio_are_resampled_on_request_and_said(pair, method: str, caplog) -> None:
    for name, zoom, why in (("other crs", 2, "its CRS is"), ("odd ratio", 2, "no whole number")):
        out = sharpened(method, pair["hs"], pair[name], resample=True)
        assert out["cube"].shape == (BANDS, ROWS * zoom, COLS * zoom)
        assert grid_of(out["cube"]).crs == grid_of(pair["hs"]).crs
        assert len(out.report.resampled) == 1 and why in out.report.resampled[0]
        assert np.isfinite(out["cube"].values[:, 8:-8, 8:-8]).all()


@pytest.mark.parametrize("method", METHODS)
def test_one_band_and_a_flat_pan(pair, method: str, caplog) -> None:
    with caplog.at_level(logging.ERROR):
        one = sharpened(method, pair["hs"].isel(band=[2]), pair["pan"])["cube"]
        without = sharpened(method, pair["hs"], pair["flat"])["cube"]
    assert one.shape == (1, ROWS * RATIO, COLS * RATIO) and np.isfinite(one.values).all()
    assert np.isfinite(without.values).all()
    if method in PLAIN_WHERE_FLAT:
        centres = 0.05 if method == "guided" else 1e-5  # footprints, where the cube was not simulated
        np.testing.assert_allclose(without.values, pair["plain"].values, atol=centres)


@pytest.mark.parametrize("method", FAMILIES)
def test_empty_tiles_stay_empty_and_touch_no_other(pair, method: str) -> None:
    holed = pair["hs"].copy(deep=True)
    holed.values[:, :, :6] = np.nan
    out = sharpened(method, holed, pair["pan"], tile=(6, 6))["cube"].values
    assert np.isnan(out[:, :, : 7 * RATIO]).all() and np.isfinite(out[:, :, 7 * RATIO :]).all()


@pytest.mark.parametrize("method", FAMILIES)
def test_a_pan_that_covers_less_cuts_the_cube_and_a_guide_does_not(pair, method: str) -> None:
    small = pair["pan"].isel(y=slice(5, None), x=slice(0, 41))
    out = sharpened(method, pair["hs"], small)
    if method == "guided":
        assert out["cube"].shape == (BANDS, ROWS * RATIO, COLS * RATIO) and np.isfinite(out["cube"].values).all()
        return
    assert out["cube"].shape == (BANDS, 21 * RATIO, 20 * RATIO)
    assert any("rows 4-24 and columns 1-20" in line for line in out.report.dropped)
    assert (float(out["cube"]["x"][0]), float(out["cube"]["y"][0])) == (4e5 + 5, 5e6 - 65)


@pytest.mark.parametrize("method", FAMILIES)
def test_bad_bands_come_back_empty_and_said(pair, method: str) -> None:
    cube = pair["hs"].assign_coords(good=("band", [True, False, True, True]))
    sees = {"guides": pair["pan"]} if method == "guided" else {"pan": pair["pan"]}
    out = ts.sharpen(
        cube, method=method, settings=QUICK.get(method, {}), state=weights_of(method, 3), check_shift=False, **sees
    )
    assert np.isnan(out["cube"].values[1]).all() and np.isfinite(out["cube"].values[[0, 2, 3]]).all()
    assert out["cube"]["good"].values.tolist() == [True, False, True, True]
    assert any("1 of 4 bands marked bad: 2" in line for line in out.report.dropped)
