"""Heads on backbones."""

from __future__ import annotations

import pytest
import torch

from torchspectral.errors import BadSettings
from torchspectral.learn.heads.dense import ConvHead, FCNHead
from torchspectral.learn.heads.linear import LinearHead, RegressionHead


@pytest.mark.parametrize(("patch", "widths"), [(2, [5]), (4, [128, 5]), (8, [128, 64, 5]), (16, [128, 64, 32, 5])])
def test_the_conv_head_doubles_up_to_the_image(patch: int, widths: list[int]) -> None:
    head = ConvHead(24, 5, patch)
    assert head(torch.zeros(1, 24, 3, 2)).shape == (1, 5, 3 * patch, 2 * patch)
    assert [m.out_channels for m in head.modules() if isinstance(m, torch.nn.Conv2d)] == widths
    last = list(head.segmentation_conv)[-1]
    assert isinstance(last, torch.nn.Conv2d)


@pytest.mark.parametrize("patch", [1, 3, 12])
def test_other_patches_are_refused(patch: int) -> None:
    with pytest.raises(BadSettings, match="power of 2"):
        ConvHead(24, 5, patch)


def test_fcn_head_resizes_on_request() -> None:
    head = FCNHead(32, 4).eval()
    x = torch.randn(1, 32, 5, 6)
    assert head(x).shape == (1, 4, 5, 6) and head(x, (10, 12)).shape == (1, 4, 10, 12)
    assert head[0].bias is None and head[0].out_channels == 256


def test_linear_head_joins_layers() -> None:
    parts = [torch.randn(6, 3), torch.randn(6, 4)]
    head = LinearHead([3, 4], 2, norm=True)
    assert torch.equal(head(parts), head(torch.cat(parts, 1))) and head(parts).shape == (6, 2)
    with pytest.raises(BadSettings):
        LinearHead(0, 2)


def test_regression_head_is_three_layers_after_a_norm() -> None:
    head = RegressionHead(12)
    assert [type(m).__name__ for m in head] == [
        "BatchNorm1d", "Linear", "ReLU", "Dropout", "Linear", "ReLU", "Dropout", "Linear"
    ]  # fmt: skip
    assert [m.out_features for m in head if isinstance(m, torch.nn.Linear)] == [2048, 1024, 4]
    assert head(torch.randn(3, 12)).shape == (3, 4)
