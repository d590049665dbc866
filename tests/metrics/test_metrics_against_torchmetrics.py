"""Our figures against those of torchmetrics, where both define the same thing."""

from __future__ import annotations

import pytest
import torch

from torchspectral import metrics

functional = pytest.importorskip("torchmetrics.functional")
image = pytest.importorskip("torchmetrics.functional.image")


@pytest.fixture
def pair() -> tuple[torch.Tensor, torch.Tensor]:
    g = torch.Generator().manual_seed(3)
    truth = torch.rand(5, 40, 37, dtype=torch.float64, generator=g) + 0.2
    return truth + 0.1 * torch.randn(truth.shape, dtype=torch.float64, generator=g), truth


def test_pointwise(pair) -> None:
    out, truth = pair
    flat = out.flatten(1).T.contiguous(), truth.flatten(1).T.contiguous()
    assert metrics.measure(metrics.RMSE(), out, truth) == pytest.approx(
        float(functional.mean_squared_error(*flat, squared=False))
    )
    assert metrics.measure(metrics.MAE(), out, truth) == pytest.approx(float(functional.mean_absolute_error(*flat)))
    assert metrics.measure(metrics.R2(), out, truth) == pytest.approx(float(functional.r2_score(*flat)))
    psnr = image.peak_signal_noise_ratio(out[:, None], truth[:, None], data_range=1.2, dim=(1, 2, 3))
    assert metrics.measure(metrics.PSNR(1.2), out, truth) == pytest.approx(float(psnr))


def test_spectral(pair) -> None:
    out, truth = pair
    sam = torch.rad2deg(image.spectral_angle_mapper(out[None], truth[None]))
    assert metrics.measure(metrics.SAM(), out, truth) == pytest.approx(float(sam))
    ergas = image.error_relative_global_dimensionless_synthesis(out[None], truth[None], ratio=4)
    assert metrics.measure(metrics.ERGAS(4), out, truth) == pytest.approx(float(ergas))


def test_ssim_with_a_gaussian_window(pair) -> None:
    out, truth = pair
    _, field = image.structural_similarity_index_measure(
        out[None], truth[None], gaussian_kernel=True, sigma=1.5, kernel_size=11, data_range=1.2, return_full_image=True
    )
    ours = metrics.measure(metrics.SSIM(1.2, "gaussian"), out, truth)
    assert ours == pytest.approx(float(field[..., 5:-5, 5:-5].mean()), rel=1e-6)
