from __future__ import annotations

import numpy as np
import pytest
from affine import Affine

import torchspectral as ts
from torchspectral import metrics
from torchspectral.errors import BadInput, BadSettings, BandMismatch, GridMismatch, MissingDependency, UnknownName
from torchspectral.geo import place
from torchspectral.metrics import score as score_module


def _cubes(bands: int = 4, rows: int = 70, cols: int = 45, dtype: str = "float32"):
    rng = np.random.default_rng(0)
    truth = rng.uniform(0.1, 0.6, (bands, rows, cols))
    out = truth + rng.normal(0, 0.02, truth.shape)
    wave = np.linspace(500, 900, bands)
    made = [ts.make_cube(a.astype(dtype), wavelength=wave, quantity="reflectance") for a in (out, truth)]
    return [place(c, Affine(30, 0, 5e5, 0, -30, 6e6), "EPSG:32633") for c in made]


def test_scores_and_curves() -> None:
    out, truth = _cubes()
    result = ts.score(out, truth, ratio=4, crop=3)
    scores = result["scores"].set_index("metric")["value"]
    assert list(scores.index) == list(score_module.DEFAULTS)
    assert scores["RMSE"] == pytest.approx(0.02, rel=0.05)
    cut = (slice(None), slice(3, -3), slice(3, -3))
    import torch

    direct = metrics.measure(metrics.ERGAS(4), torch.from_numpy(out.values[cut]), torch.from_numpy(truth.values[cut]))
    assert scores["ERGAS"] == pytest.approx(direct)
    assert len(result["bands"]) == 4 and {"wavelength", "RMSE", "SSIM"} <= set(result["bands"])
    assert result.report.figures["SAM"] == pytest.approx(scores["SAM"])


def test_strips_change_nothing(monkeypatch) -> None:
    out, truth = _cubes()
    whole = ts.score(out, truth)["scores"]
    monkeypatch.setattr(score_module, "STRIP_BYTES", 1)
    strips = ts.score(out, truth)["scores"]
    assert np.allclose(whole["value"], strips["value"], rtol=1e-10)


def test_nodata_is_left_out_and_told() -> None:
    out, truth = _cubes()
    out.values[2] = np.nan
    truth.values[:, 5, 6] = np.nan
    out.values[0, 7, 7] = np.inf
    result = ts.score(out, truth, metrics=["rmse", "sam"])
    assert len(result["bands"]) == 3 and result["bands"]["band"].tolist() == [1, 2, 4]
    assert any("1 of 4 bands" in line for line in result.report.dropped)
    assert any("2 of 3150 pixels" in line for line in result.report.dropped)
    assert np.isfinite(result["scores"]["value"]).all()


def test_integer_cubes_with_nodata() -> None:
    values = np.random.default_rng(1).integers(100, 4000, (2, 20, 20)).astype(np.uint16)
    truth = ts.make_cube(values, attrs={"nodata": 0})
    out = ts.make_cube(values.copy(), attrs={"nodata": 0})
    out.values[:, 3, 3] = 0
    result = ts.score(out, truth, metrics=[metrics.MAE(), "psnr"])
    assert result["scores"]["value"][0] == 0 and np.isinf(result["scores"]["value"][1])
    assert any("perfect" in note for note in result.report.notes)


def test_small_images_leave_windows_out_of_the_default_set_only() -> None:
    out, truth = _cubes(rows=6, cols=6)
    result = ts.score(out, truth)
    assert "SSIM" not in result.report.figures and any("SSIM" in n for n in result.report.notes)
    with pytest.raises(BadInput):
        ts.score(out, truth, metrics=["SSIM"])


def test_what_does_not_fit_is_refused() -> None:
    out, truth = _cubes()
    cases = [
        (BandMismatch, lambda: ts.score(out.isel(band=slice(0, 3)), truth)),
        (BandMismatch, lambda: ts.score(out.assign_coords(wavelength=("band", np.linspace(510, 910, 4))), truth)),
        (GridMismatch, lambda: ts.score(out.isel(x=slice(0, 40)), truth)),
        (GridMismatch, lambda: ts.score(place(out, Affine(30, 0, 500030, 0, -30, 6e6), "EPSG:32633"), truth)),
        (GridMismatch, lambda: ts.score(place(out, Affine(30, 0, 5e5, 0, -30, 6e6), "EPSG:32634"), truth)),
        (UnknownName, lambda: ts.score(out, truth, metrics=["ergass"])),
        (BadSettings, lambda: ts.score(out, truth, metrics=[])),
        (BadSettings, lambda: ts.score(out, truth, crop=40)),
        (BadSettings, lambda: ts.score(out, truth, device="toaster")),
        (BadInput, lambda: ts.score(out * np.nan, truth)),
    ]
    for expected, call in cases:
        with pytest.raises(expected):
            call()


@pytest.mark.parametrize(
    "options",
    [{"ratio": 0}, {"ratio": "a"}, {"crop": "x"}, {"crop": (1, 2, 3)}, {"data_range": "x"}, {"metrics": 5},
     {"metrics": "SAM"}],
    ids=str,
)  # fmt: skip
def test_score_options_of_the_wrong_kind(options):
    cube = ts.make_cube(np.ones((2, 8, 8)))
    with pytest.raises(BadSettings, match=next(iter(options))):
        ts.score(cube, cube, **options)


def test_without_torch_the_error_says_what_to_install(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "torch", None)
    cube = ts.make_cube(np.ones((2, 4, 4), np.float32))
    with pytest.raises(MissingDependency, match="pip install"):
        ts.score(cube, cube)
