"""Losses at full resolution: against plain formulations, and their gradients."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchspectral.errors import BadInput
from torchspectral.ops.interpolate import ideal_interp
from torchspectral.ops.mtf import mtf_kernel
from torchspectral.sharpening.zero_shot.correlation import LocalCorrelation, box_sum, correlation_field
from torchspectral.sharpening.zero_shot.losses import (
    SensorView,
    correlation_threshold,
    loss_taps,
    reflected_filter,
    spectral_loss,
    structural_loss,
)


def plain_sums(x: torch.Tensor, half: int) -> torch.Tensor:
    total = torch.nn.functional.pad(x, (half, half, half, half)).cumsum(-1).cumsum(-2)
    w = 2 * half
    return total[..., w:, w:] - total[..., :-w, w:] - total[..., w:, :-w] + total[..., :-w, :-w]


def plain_field(a: torch.Tensor, b: torch.Tensor, half: int, clip_cross: bool) -> torch.Tensor:
    def limited(s: torch.Tensor) -> torch.Tensor:
        return torch.where((s > 1e-20) & (s < s.max()), s, s.detach().clamp_min(1e-20))

    a, b = (x - plain_sums(x, half) / (4 * half * half) for x in (a, b))
    cross = plain_sums(a * b, half)
    cross = limited(cross) if clip_cross else cross
    return cross / ((limited(plain_sums(a * a, half)) * limited(plain_sums(b * b, half))).sqrt() + 1e-20)


@settings(max_examples=25, deadline=None)
@given(rows=st.integers(1, 17), cols=st.integers(1, 17), half=st.integers(1, 11), seed=st.integers(0, 99))
def test_box_sums_are_those_of_integral_images_and_have_their_adjoint(rows, cols, half, seed):
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.rand(2, 1, 1, rows, cols, dtype=torch.float64, generator=generator)
    torch.testing.assert_close(box_sum(x, half), plain_sums(x, half))
    torch.testing.assert_close((box_sum(x, half) * y).sum(), (x * box_sum(y, half, adjoint=True)).sum())


@pytest.mark.parametrize("clip_cross", [False, True])
def test_the_field_and_its_gradient(clip_cross):
    generator = torch.Generator().manual_seed(3)
    a, b, weight = torch.rand(3, 2, 1, 21, 24, dtype=torch.float64, generator=generator)
    a.requires_grad_()
    want = plain_field(a, b, 3, clip_cross)
    got = correlation_field(a, b, 3, clip_cross=clip_cross)
    torch.testing.assert_close(got, want)
    gradients = [torch.autograd.grad((field * weight).sum(), a)[0] for field in (want, got)]
    torch.testing.assert_close(gradients[1], gradients[0])
    single = LocalCorrelation(b, 3, clip_cross=clip_cross)(a)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), want, rtol=1e-3, atol=1e-3)


def test_a_flat_guide_correlates_with_nothing():
    image = torch.rand(1, 1, 30, 30, generator=torch.Generator().manual_seed(0), requires_grad=True)
    field = LocalCorrelation(torch.zeros(1, 1, 30, 30), 3)(image)
    assert float(field.detach().abs().max()) == 0
    field.sum().backward()
    assert torch.isfinite(image.grad).all()


@pytest.mark.parametrize("ratio", [2, 3, 4, 6])
def test_the_view_is_a_strided_convolution_on_the_interpolators_grid(ratio):
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(2, 1, 16, 19, dtype=torch.float64, generator=generator)
    fine = ideal_interp(coarse, ratio)
    view = SensorView.of(ratio, 0.3)
    kernel = torch.from_numpy(mtf_kernel(float(ratio), 0.3, loss_taps(ratio)).copy())[None, None]
    start = ratio // 2
    want = torch.nn.functional.conv2d(fine[..., start:, start:], kernel, stride=ratio)
    torch.testing.assert_close(view(fine), want, rtol=1e-5, atol=1e-6)
    assert view(fine).shape == view.crop(coarse).shape
    assert float(spectral_loss(view(fine), view.crop(coarse))) < float(
        spectral_loss(view(fine), view.crop(coarse.flip(-1)))
    )


def test_too_small_an_image_is_refused():
    with pytest.raises(BadInput, match="at least 64 x 64"):
        SensorView.of(6, 0.3)(torch.zeros(1, 1, 60, 60))


def test_losses_count_what_is_weighted():
    seen, coarse = torch.zeros(1, 2, 4, 4), torch.ones(1, 2, 4, 4)
    coarse[..., 0] = 9
    weight = torch.ones(1, 1, 4, 4)
    weight[..., 0] = 0
    assert float(spectral_loss(seen, coarse, weight)) == 1
    assert float(spectral_loss(seen, coarse)) == 3
    field = torch.full((1, 2, 4, 4), 0.25)
    loss, plain = structural_loss(field, torch.full_like(field, 0.8), weight)
    assert float(loss) == 0 and float(plain) == 0.75
    assert float(structural_loss(field, torch.full_like(field, 0.7))[0]) == 0.75


def test_reflected_filter_and_threshold():
    image = torch.rand(1, 1, 50, 52, generator=torch.Generator().manual_seed(5))
    kernel = mtf_kernel(4.0, 0.3, 41)
    padded = torch.nn.functional.pad(image.double(), (20, 20, 20, 20), mode="reflect")
    want = torch.nn.functional.conv2d(padded, torch.from_numpy(kernel.copy())[None, None])
    smooth = reflected_filter(image, kernel)
    torch.testing.assert_close(smooth, want, rtol=1e-5, atol=1e-6)
    threshold = correlation_threshold(smooth, smooth, 6)
    assert threshold.dtype == torch.float64 and float(threshold.max()) < 1e-6
    assert np.isfinite(threshold.numpy()).all()
