"""The weights that come with the methods: they load by default and beat interpolation on ground that trained nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import xarray as xr

import torchspectral as ts
from torchspectral.errors import BadSettings, BandMismatch
from torchspectral.io.samples import indian_pines
from torchspectral.superresolution import degrade, quality

VISIBLE = np.arange(400.0, 701.0, 10.0)


def _held_out(wavelength: np.ndarray | None = None) -> xr.DataArray:
    """Rows 108 to 143 of Indian Pines: some of its bands, or interpolated ones."""
    cube = indian_pines()[0]
    own, values = cube["wavelength"].values, cube.values[:, 108:144, 40:104].astype(np.float32) / 1e4
    if wavelength is None:
        return ts.make_cube(values[12:48], wavelength=own[12:48], quantity="reflectance")
    order = np.argsort(own)
    flat = values[order].reshape(own.size, -1).T
    made = np.stack([np.interp(wavelength, own[order], spectrum) for spectrum in flat], 1)
    return ts.make_cube(
        made.reshape(-1, *values.shape[1:]).astype(np.float32), wavelength=wavelength, quantity="reflectance"
    )


def _figures(fine: xr.DataArray, truth: xr.DataArray) -> dict[str, float]:
    return quality(*(torch.from_numpy(np.asarray(c.values, np.float32)) for c in (fine, truth)), ratio=4)


@pytest.mark.parametrize(
    ("method", "name"),
    [("essaformer", "essaformer.generated-16"), ("spectral-mixup", "spectral-mixup.generated-31")],
)
def test_shipped_weights_beat_interpolation_where_they_were_not_trained(method, name) -> None:
    truth = _held_out(None if method == "essaformer" else VISIBLE)
    low = degrade(truth, 4)
    result = ts.superres(low, method=method)
    assert result.report.weights == name
    assert result["cube"].shape == truth.shape
    made, plain = (_figures(r["cube"], truth) for r in (result, ts.superres(low, scale=4, check=False)))
    assert made["MPSNR"] > plain["MPSNR"] + 0.1 and made["MSSIM"] > plain["MSSIM"], (plain, made)
    assert made["ERGAS"] < plain["ERGAS"] and made["SAM"] < plain["SAM"], (plain, made)
    if method == "essaformer":
        assert result.report.figures["band_groups"] == 3 and "groups" in " ".join(result.report.notes)


def test_shipped_weights_say_what_they_do_not_fit() -> None:
    low = degrade(_held_out(), 4)
    with pytest.raises(BandMismatch, match="16 bands and the scene has 7"):
        ts.superres(low[:7], method="essaformer")
    with pytest.raises(BandMismatch, match="expect 16"):
        ts.superres(low, method="essaformer", settings={"band_groups": False})
    with pytest.raises(BadSettings, match="enlarge 4 times and scale=2"):
        ts.superres(low, method="essaformer", scale=2)
    with pytest.raises(BandMismatch):
        ts.superres(low, method="spectral-mixup")
