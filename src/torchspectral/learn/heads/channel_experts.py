"""Mixture of experts over channels: each expert classifies from the channels that its gate finds fit."""

from __future__ import annotations

import torch
from torch import nn

from torchspectral.errors import BadInput, BadSettings


class ChannelExperts(nn.Module):
    """Classes of an image from the tokens of its channels.

    A linear gate with softmax over the experts rates each channel for each expert; an expert takes its `top` channels,
    averages their tokens by those rates and classifies; logits are averaged over experts.

    Parameters
    ----------
    dim : int
        Width of a token.
    num_classes, experts : int
    top : int
        Channels an expert takes; all, where there are fewer.

    References
    ----------
    Si et al., arXiv 2503.12843 (2025); choice by experts: Zhou et al., NeurIPS (2022).
    """

    def __init__(self, dim: int, num_classes: int, experts: int = 4, top: int = 4) -> None:
        super().__init__()
        if min(dim, num_classes, experts, top) < 1:
            raise BadSettings(f"got {dim=}, {num_classes=}, {experts=}, {top=}, expected at least 1 each")
        self.top = top
        self.gate = nn.Linear(dim, experts)
        self.experts = nn.ModuleList(nn.Linear(dim, num_classes) for _ in range(experts))

    def forward(self, channels: torch.Tensor) -> torch.Tensor:
        """Logits (n, classes) from tokens of channels (n, C, dim): ``tokens[:, 1:, 0]`` of LESS ViT."""
        if channels.ndim != 3:
            raise BadInput(f"got tokens of shape {tuple(channels.shape)}, expected (images, channels, width)")
        rates = self.gate(channels).softmax(dim=-1).transpose(1, 2)  # n, experts, C
        best, index = rates.topk(min(self.top, channels.shape[1]), dim=-1)
        image = torch.arange(len(channels), device=channels.device)[:, None, None]
        taken = channels[image, index]  # n, experts, top, dim
        pooled = (taken * (best / best.sum(-1, keepdim=True))[..., None]).sum(2)
        return torch.stack([expert(pooled[:, i]) for i, expert in enumerate(self.experts)]).mean(0)
