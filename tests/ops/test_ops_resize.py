from __future__ import annotations

import pytest
import torch

from torchspectral.errors import BadSettings
from torchspectral.ops import filters, regression, resize


@pytest.mark.parametrize("scale", [0.25, 0.5, 2, 3, 1.5])
def test_constants_and_means_survive(scale: float) -> None:
    image = torch.full((1, 12, 20), 7.0)
    out = resize.imresize(image, scale)
    assert out.shape == (1, -(-int(12 * scale * 10) // 10), -(-int(20 * scale * 10) // 10))
    assert torch.allclose(out, torch.full_like(out, 7.0))


def test_upscaling_agrees_with_the_cubic_of_torch_inside() -> None:
    image = torch.rand(1, 1, 16, 16, dtype=torch.float64)
    ours = resize.imresize(image, 2)
    other = torch.nn.functional.interpolate(image, scale_factor=2, mode="bicubic", antialias=True)  # a = -0.5 too
    assert torch.allclose(ours[..., 6:-6, 6:-6], other[..., 6:-6, 6:-6], atol=1e-6)


def test_downscaling_agrees_with_the_antialiased_cubic_of_torch_inside() -> None:
    image = torch.rand(1, 1, 48, 48, dtype=torch.float64)
    ours = resize.imresize(image, 0.25)
    other = torch.nn.functional.interpolate(image, scale_factor=0.25, mode="bicubic", antialias=True)
    assert torch.allclose(ours[..., 3:-3, 3:-3], other[..., 3:-3, 3:-3], atol=1e-6)


@pytest.mark.parametrize("scale", [0, -1, float("nan"), float("inf")])
def test_bad_factors_are_refused(scale: float) -> None:
    with pytest.raises(BadSettings):
        resize.imresize(torch.zeros(1, 4, 4), scale)


@pytest.mark.parametrize("ratio", [2, 3, 4, 6])
def test_atrous_is_the_repeated_spline_inside_and_keeps_constants(ratio: int) -> None:
    levels, taps = filters.atrous_levels(ratio), torch.tensor([1.0, 4, 6, 4, 1], dtype=torch.float64) / 16
    image = torch.rand(1, 1, 8 * ratio + 48, 12 * ratio, dtype=torch.float64)
    line = image[..., 0]
    for _ in range(2 * levels):
        line = torch.nn.functional.conv1d(line, taps[None, None], padding=2)
    reach = filters.atrous_reach(ratio)
    ours = filters.atrous_operator(image.shape[-2], ratio).rows(image)[..., 0]
    assert torch.allclose(ours[..., reach:-reach], line[..., reach:-reach])
    ones = torch.ones(1, 6 * ratio, 2 * ratio, dtype=torch.float64)
    assert torch.allclose(filters.atrous_lowpass(ones, ratio), ones)
    assert filters.atrous_lowpass(ones, ratio, decimated=True).shape == (1, 6, 2)


def test_regressions_agree_and_take_the_least_norm() -> None:
    g = torch.Generator().manual_seed(0)
    on = torch.randn(4, 50, dtype=torch.float64, generator=g)
    on = torch.cat([on, on[:1]])  # a repeated band
    target = 2 * on[0] - on[2] + 0.01 * torch.randn(50, dtype=torch.float64, generator=g)
    direct = regression.regress(target, on)
    streamed = regression.min_norm_solve(on @ on.T, on @ target)
    assert torch.allclose(direct, streamed, atol=1e-9)
    assert torch.allclose(direct[0], direct[4]) and float(direct[0]) == pytest.approx(1, abs=0.02)
    wide = regression.regress(target[:3], on[:, :3], constant=True)
    assert wide.shape == (6,) and bool(torch.isfinite(wide).all())
    assert regression.regress(torch.stack([target, -target]), on).shape == (5, 2)
    assert torch.equal(regression.min_norm_solve(torch.zeros(2, 2), torch.zeros(2)), torch.zeros(2).double())
