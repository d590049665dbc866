"""Heads on one feature vector an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from torchspectral.errors import BadSettings


class LinearHead(nn.Module):
    """Linear classifier on a feature, or on the features of several layers joined.

    Parameters
    ----------
    features : int or sequence of int
        Length of the feature, or of each part.
    outputs : int
    norm : bool
        Batch normalisation without scale before it, as linear probes of masked autoencoders have.
    """

    def __init__(self, features: int | Sequence[int], outputs: int, norm: bool = False) -> None:
        super().__init__()
        width = features if isinstance(features, int) else sum(features)
        check_widths(width, outputs)
        self.norm = nn.BatchNorm1d(width, affine=False, eps=1e-6) if norm else nn.Identity()
        self.linear = nn.Linear(width, outputs)
        nn.init.normal_(self.linear.weight, std=0.01)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """Outputs (n, outputs) of features (n, width), or of a sequence of them."""
        if not isinstance(features, torch.Tensor):
            features = torch.cat(list(features), 1)
        return self.linear(self.norm(features))


class RegressionHead(nn.Sequential):
    """Batch normalisation and three linear layers, as SpectralEarth has for HyperView.

    Parameters
    ----------
    features : int
    outputs : int
        4 for HyperView: P, K, Mg, pH.
    hidden : sequence of int
    dropout : float
        Between the layers, 0..1.

    References
    ----------
    Braham et al., "SpectralEarth: Training Hyperspectral Foundation Models at Scale", IEEE JSTARS (2025).
    """

    def __init__(
        self, features: int, outputs: int = 4, hidden: Sequence[int] = (2048, 1024), dropout: float = 0.2
    ) -> None:
        check_widths(features, outputs)
        layers: list[nn.Module] = [nn.BatchNorm1d(features)]
        width = features
        for after in hidden:
            layers += [nn.Linear(width, after), nn.ReLU(), nn.Dropout(dropout)]
            width = after
        super().__init__(*layers, nn.Linear(width, outputs))


def check_widths(features: int, outputs: int) -> None:
    """Refuse heads without inputs or outputs.

    Raises
    ------
    BadSettings
    """
    if features < 1 or outputs < 1:
        raise BadSettings(f"a head of {features} features and {outputs} outputs asked for, expected at least 1 of each")
