from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchspectral.errors import BadSettings
from torchspectral.ops import mtf


def _direct(image: torch.Tensor, kernel: np.ndarray) -> torch.Tensor:
    half = kernel.shape[0] // 2
    padded = torch.nn.functional.pad(image[:, None], (half,) * 4, mode="replicate")
    return torch.nn.functional.conv2d(padded, torch.from_numpy(kernel.copy())[None, None])[:, 0]


@pytest.mark.parametrize(
    ("ratio", "gain", "size", "total"),
    [(6, 0.3, 41, 0.99719), (6, 0.3, 61, 0.99877), (6, 0.2, 41, 0.99625), (4, 0.3, 41, 0.99874), (3, 0.3, 41, 0.99929)],
)
def test_kernels_sum_as_published(ratio: int, gain: float, size: int, total: float) -> None:
    assert mtf.mtf_kernel(ratio, gain, size).sum() == pytest.approx(total, abs=1e-5)
    assert mtf.mtf_kernel(ratio, gain, size, normalize=True).sum() == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("ratio", [2, 3, 6, 12, 20])
def test_separable_terms_are_the_kernel(ratio: int) -> None:
    kernel = mtf.mtf_kernel(ratio)
    terms = mtf.separable_terms(kernel)
    assert np.abs(sum(np.outer(a, b) for a, b in terms) - kernel).sum() < 1e-7
    assert len(terms) < 20


@settings(max_examples=12, deadline=None)
@given(st.sampled_from([2, 3, 4, 6]), st.integers(1, 4), st.integers(1, 5), st.floats(0.05, 0.6))
def test_filter_is_the_plain_convolution(ratio: int, rows: int, cols: int, gain: float) -> None:
    image = torch.rand(2, ratio * rows, ratio * cols, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    plain = _direct(image, mtf.mtf_kernel(ratio, gain))
    assert torch.allclose(mtf.mtf_filter(image, ratio, gain), plain, atol=1e-6)
    picked = mtf.mtf_filter(image, ratio, gain, decimated=True)
    assert torch.allclose(picked, plain[:, ratio // 2 :: ratio, ratio // 2 :: ratio], atol=1e-6)


def test_normalised_filter_keeps_constants() -> None:
    image = torch.full((1, 30, 24), 5000.0)
    assert torch.allclose(mtf.mtf_filter(image, 6, normalize=True), image, rtol=1e-6)
    assert float(mtf.mtf_filter(image, 6).max()) < 4990


def test_gauss_is_wider_than_the_mtf_kernel() -> None:
    narrow, wide = mtf.mtf_kernel(6, normalize=True), mtf.mtf_kernel(6, normalize=True, gauss=True)
    assert narrow[20, 20] < wide[20, 20]


@pytest.mark.parametrize("arguments", [{"gain": 0.0}, {"gain": 1.0}, {"size": 40}, {"size": 1}, {"ratio": 0.5}])
def test_bad_kernels_are_refused(arguments: dict) -> None:
    with pytest.raises(BadSettings):
        mtf.mtf_kernel(**{"ratio": 4, **arguments})
