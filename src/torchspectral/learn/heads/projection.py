"""Projection heads of self-supervised training."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import normalize
from torch.nn.utils.parametrizations import weight_norm

from torchspectral.learn.heads.linear import check_widths


class ContrastiveProjection(nn.Sequential):
    """Two linear layers with batch normalisation and ReLU between, as MoCo-v2 and SpectralEarth have.

    Parameters
    ----------
    features, hidden, outputs : int
    """

    def __init__(self, features: int, hidden: int = 2048, outputs: int = 128) -> None:
        check_widths(features, outputs)
        super().__init__(
            nn.Linear(features, hidden, bias=False), nn.BatchNorm1d(hidden), nn.ReLU(), nn.Linear(hidden, outputs)
        )


class DINOProjection(nn.Module):
    """Three linear layers, a bottleneck on the unit sphere and a weight-normalised last layer.

    Parameters
    ----------
    features : int
    outputs : int
        128 in SpectralEarth's runs, 32768 by default.
    hidden, bottleneck : int
    norm : bool
        Batch normalisation in the hidden layers.
    frozen_epochs : int
        First epochs in which the last layer does not learn: call `drop_last_gradient` in each step.

    References
    ----------
    Caron et al., "Emerging properties in self-supervised vision transformers", ICCV (2021).
    """

    def __init__(
        self,
        features: int,
        outputs: int = 32768,
        hidden: int = 2048,
        bottleneck: int = 256,
        norm: bool = False,
        frozen_epochs: int = 1,
    ) -> None:
        super().__init__()
        check_widths(features, outputs)
        layers: list[nn.Module] = []
        for before, after in ((features, hidden), (hidden, hidden)):
            layers += [nn.Linear(before, after, bias=not norm), nn.BatchNorm1d(after) if norm else nn.Identity()]
            layers.append(nn.GELU())
        self.layers = nn.Sequential(*layers, nn.Linear(hidden, bottleneck))
        for module in self.layers:
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.last_layer = weight_norm(nn.Linear(bottleneck, outputs, bias=False))
        length = self.last_layer.parametrizations.weight.original0
        length.data.fill_(1)
        length.requires_grad_(False)
        self.frozen_epochs = frozen_epochs

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Projections (n, outputs) of features (n, features)."""
        return self.last_layer(normalize(self.layers(features), dim=-1))

    def drop_last_gradient(self, epoch: int) -> None:
        """Drop the last layer's gradient in the first epochs (counted from 0), before the optimiser's step."""
        if epoch < self.frozen_epochs:
            for parameter in self.last_layer.parameters():
                parameter.grad = None
