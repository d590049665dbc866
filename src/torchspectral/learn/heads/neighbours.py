"""Classes by the labelled features that are nearest; the bank is part of the weights."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn.functional import normalize, one_hot

from torchspectral.errors import BadInput, BadSettings

BLOCK = 4096
"""Features that are compared at once."""


class NeighbourHead(nn.Module):
    """Weighted vote of the k nearest labelled features by cosine: weights exp(cosine / temperature).

    Parameters
    ----------
    features, classes : int
    size : int
        Places of the bank; it is filled once by `fill`, what is left stays empty.
    k : int
    temperature : float

    References
    ----------
    Wu et al., "Unsupervised feature learning via non-parametric instance discrimination", CVPR (2018); k = 20 and 0.07
    as in Caron et al., "Emerging properties in self-supervised vision transformers", ICCV (2021).
    """

    bank: torch.Tensor
    labels: torch.Tensor
    centre: torch.Tensor

    def __init__(self, features: int, classes: int, size: int, k: int = 20, temperature: float = 0.07) -> None:
        super().__init__()
        if min(features, classes, size, k) < 1 or temperature <= 0:
            raise BadSettings(f"got {features=}, {classes=}, {size=}, {k=}, {temperature=}, expected positive numbers")
        self.classes, self.k, self.temperature = classes, k, temperature
        self.register_buffer("bank", torch.zeros(size, features))
        self.register_buffer("labels", torch.full((size,), -1, dtype=torch.int64))
        self.register_buffer("centre", torch.zeros(features))

    def fill(self, features: torch.Tensor, labels: torch.Tensor) -> None:
        """Put labelled features (n, features) into the bank; their mean is taken off all.

        Raises
        ------
        BadInput
            None, or more than there are places.
        """
        count = len(features)
        if not 0 < count <= len(self.bank) or len(labels) != count:
            raise BadInput(f"got {count} features for a bank of {len(self.bank)}, expected at least 1 and no more")
        self.labels.fill_(-1)
        self.centre.copy_(features.mean(0))
        self.bank[:count] = normalize(features - self.centre, dim=1).to(self.bank)
        self.labels[:count] = labels.to(self.labels)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """Logarithms of the shares of votes, (n, classes), of features (n, features)."""
        known = self.labels >= 0
        if not bool(known.any()):
            raise BadInput("the bank of neighbours is empty: train with tuning=knn first")
        bank, votes = self.bank[known], one_hot(self.labels[known], self.classes).to(self.bank)
        k = min(self.k, len(bank))
        parts = []
        for part in features.split(BLOCK):
            cosine = normalize(part - self.centre, dim=1) @ bank.T
            best, index = cosine.topk(k, dim=1)
            weights = ((best - best[:, :1]) / self.temperature).exp()
            parts.append((votes[index] * weights[..., None]).sum(1) / weights.sum(1, keepdim=True))
        return torch.cat(parts).clamp_min(1e-6).log()
