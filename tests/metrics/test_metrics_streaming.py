from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchspectral import metrics
from torchspectral.errors import BadInput, BadSettings, BandMismatch, GridMismatch
from torchspectral.metrics.q2n import cayley_dickson_signs

ALL = [
    lambda: metrics.RMSE(),
    lambda: metrics.MAE(),
    lambda: metrics.PSNR(),
    lambda: metrics.R2(),
    lambda: metrics.ERGAS(4),
    lambda: metrics.SAM(),
    lambda: metrics.SSIM(),
    lambda: metrics.UQI(8),
    lambda: metrics.Q2n(8),
]
NAMES = [make().name for make in ALL]


def _pair(bands: int = 3, rows: int = 37, cols: int = 29) -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(bands)
    truth = 3000 + 900 * torch.rand(bands, rows, cols, dtype=torch.float64, generator=g)
    return truth + 150 * torch.randn(truth.shape, dtype=torch.float64, generator=g), truth


@pytest.mark.parametrize("make", ALL, ids=NAMES)
def test_identical_images_are_ideal(make) -> None:
    _, truth = _pair()
    assert metrics.measure(make(), truth, truth) == pytest.approx(make().ideal, abs=1e-5)


@pytest.mark.parametrize("make", ALL, ids=NAMES)
@pytest.mark.parametrize("holes", [False, True])
def test_strips_and_merges_agree_with_the_whole(make, holes: bool) -> None:
    out, truth = _pair()
    valid = torch.ones(out.shape[-2:], dtype=torch.bool)
    if holes:
        valid[3, 5] = valid[30, 20] = False
    whole = make().update(out, truth, valid)
    parts = [make(), make()]
    for part, (start, stop) in zip(parts, ((0, 16), (16, 37)), strict=True):
        end = min(stop + part.context, 37)
        rows = slice(start, end)
        part.update(out[:, rows], truth[:, rows], valid[rows], context=end - stop)
    joined = parts[0].merge(parts[1])
    assert joined.compute() == pytest.approx(whole.compute(), rel=1e-10)
    if whole.bands() is not None:
        assert torch.allclose(joined.bands(), whole.bands(), rtol=1e-9)
    streamed = make().update(out[:, : 16 + make().context], truth[:, : 16 + make().context],
                             valid[: 16 + make().context], context=make().context)  # fmt: skip
    streamed.update(out[:, 16:], truth[:, 16:], valid[16:])
    assert streamed.compute() == pytest.approx(whole.compute(), rel=1e-10)


@pytest.mark.parametrize("make", ALL, ids=NAMES)
def test_invalid_pixels_do_not_count(make) -> None:
    out, truth = _pair()
    valid = torch.ones(out.shape[-2:], dtype=torch.bool)
    valid[2, 3] = False
    spoiled = out.clone()
    spoiled[:, 2, 3] = 1e6
    assert make().update(spoiled, truth, valid).compute() == pytest.approx(make().update(out, truth, valid).compute())


@pytest.mark.parametrize("make", ALL, ids=NAMES)
def test_nothing_valid_is_told(make) -> None:
    out, truth = _pair()
    with pytest.raises(BadInput):
        make().update(out, truth, torch.zeros(out.shape[-2:], dtype=torch.bool)).compute()


def test_shapes_are_checked() -> None:
    with pytest.raises(BandMismatch):
        metrics.RMSE().update(torch.zeros(2, 4, 4), torch.zeros(3, 4, 4))
    with pytest.raises(GridMismatch):
        metrics.RMSE().update(torch.zeros(2, 4, 4), torch.zeros(2, 4, 5))
    with pytest.raises(GridMismatch):
        metrics.RMSE().update(torch.zeros(4, 4), torch.zeros(4, 4))
    for bad in (lambda: metrics.PSNR(0), lambda: metrics.SSIM(-1), lambda: metrics.UQI(1), lambda: metrics.Q2n(1),
                lambda: metrics.ERGAS(0), lambda: metrics.SSIM(1, "box")):  # fmt: skip
        with pytest.raises(BadSettings):
            bad()


def test_small_images_and_one_band() -> None:
    out, truth = _pair(1, 5, 4)
    assert 0 < metrics.measure(metrics.Q2n(), out, truth) <= 1
    with pytest.raises(BadInput, match="7 x 7"):
        metrics.measure(metrics.SSIM(), out, truth)


@given(st.integers(0, 3))
def test_products_of_units_are_a_composition_algebra_up_to_octonions(power: int) -> None:
    n = 2**power
    signs = cayley_dickson_signs(n)
    rng = np.random.default_rng(power)
    a, b = rng.standard_normal(n), rng.standard_normal(n)
    product = np.zeros(n)
    for i in range(n):
        for j in range(n):
            product[i ^ j] += signs[i, j] * a[i] * b[j]
    assert np.linalg.norm(product) == pytest.approx(np.linalg.norm(a) * np.linalg.norm(b))


@settings(max_examples=10, deadline=None)
@given(st.floats(0.1, 50), st.floats(-2, 2))
def test_uqi_of_one_band_is_between_minus_one_and_one(gain: float, shift: float) -> None:
    _, truth = _pair(1)
    value = metrics.measure(metrics.UQI(8), gain * truth + shift, truth)
    assert -1 <= value <= 1


def test_psnr_of_a_perfect_band_is_infinite() -> None:
    _, truth = _pair()
    assert math.isinf(metrics.PSNR().update(truth, truth).compute())


def test_full_resolution_of_a_consistent_image() -> None:
    from torchspectral.ops.interpolate import ideal_interp

    g = torch.Generator().manual_seed(0)
    hs = 1000 + 50 * torch.randn(4, 16, 16, dtype=torch.float64, generator=g).cumsum(1)
    fused = ideal_interp(hs, 4)
    pan = fused.mean(0, keepdim=True) + torch.rand(1, 64, 64, dtype=torch.float64, generator=g)
    full = metrics.qnr(fused, hs, pan)
    assert 0 <= full["D_lambda"] < 0.2 and 0 <= full["D_sR"] < 0.01
    assert full["QNR"] == pytest.approx((1 - full["D_lambda"]) * (1 - full["D_sR"]))
    halves = metrics.DsR().update(fused[:, :20], pan[:, :20]).merge(metrics.DsR().update(fused[:, 20:], pan[:, 20:]))
    assert halves.compute() == pytest.approx(full["D_sR"], abs=1e-9)
    assert metrics.d_s(fused, hs, pan, block=16) >= 0
    assert metrics.d_rho(pan.expand(2, 64, 64), pan, 4).abs().max() < 1e-6
    with pytest.raises(BadInput):
        metrics.d_sr(fused, torch.ones(1, 64, 64))
    with pytest.raises(GridMismatch):
        metrics.d_lambda(fused[:, :62], hs)
