"""DeepTrans-HSU's network: a convolutional encoder, a small vision transformer, and the abundances from its class token."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from torchspectral.errors import BadSettings

HEADS = 8
DEPTH = 2
HIDDEN = 12


class _ClassAttention(nn.Module):
    """Attention of the class token over all tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.wq = nn.Linear(width, width, bias=False)
        self.wk = nn.Linear(width, width, bias=False)
        self.wv = nn.Linear(width, width, bias=False)
        self.proj = nn.Linear(width, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        n, _, width = tokens.shape
        each = width // HEADS
        query, key, value = (
            layer(x).view(n, -1, HEADS, each).transpose(1, 2)
            for layer, x in ((self.wq, tokens[:, :1]), (self.wk, tokens), (self.wv, tokens))
        )
        weight = (query @ key.transpose(-2, -1) * each**-0.5).softmax(-1)
        out: torch.Tensor = self.proj((weight @ value).transpose(1, 2).reshape(n, 1, width))
        return out


class _ClassBlock(nn.Module):
    """The class token of normalised tokens, and what it attends to; the norm of its own is only in the files."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attn = _ClassAttention(width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = tokens[:, :1] + self.attn(tokens)
        return out


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(width, HIDDEN), nn.GELU(), nn.Dropout(0.0), nn.Linear(HIDDEN, width), nn.Dropout(0.0)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.net(tokens)
        return out


class _PreNorm(nn.Module):
    def __init__(self, width: int, fn: nn.Module) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fn = fn

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.fn(self.norm(tokens))
        return out


class _Transformer(nn.Module):
    """Layers that share one norm for the patch tokens."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.layers = nn.ModuleList(
            nn.ModuleList([_PreNorm(width, _ClassBlock(width)), _PreNorm(width, _FeedForward(width))])
            for _ in range(DEPTH)
        )

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        layer: Any
        for layer in self.layers:
            tokens = torch.cat([layer[0](tokens), self.norm(tokens[:, 1:])], dim=1)
            tokens = tokens + layer[1](tokens)
        return tokens


class _ViT(nn.Module):
    """Class token of an image cut into patches."""

    def __init__(self, size: int, patch: int, width: int) -> None:
        super().__init__()
        self.patch = patch
        self.pos_embedding = nn.Parameter(torch.randn(1, (size // patch) ** 2 + 1, width))
        self.cls_token = nn.Parameter(torch.randn(1, 1, width))
        self.transformer = _Transformer(width)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        n, channels, rows, cols = features.shape
        p = self.patch
        # Tokens hold a patch's values by row, column, channel.
        cut = features.view(n, channels, rows // p, p, cols // p, p).permute(0, 2, 4, 3, 5, 1)
        tokens = cut.reshape(n, (rows // p) * (cols // p), p * p * channels)
        tokens = torch.cat([self.cls_token.expand(n, -1, -1), tokens], dim=1) + self.pos_embedding
        out: torch.Tensor = self.transformer(tokens)[:, 0]
        return out


class DeepTransHSUNetwork(nn.Module):
    """DeepTrans-HSU's autoencoder for square images of one size.

    Parameters
    ----------
    bands, k : int
        Bands and endmembers.
    size : int
        Side of the image [pixel], a multiple of `patch`.
    patch : int
        Side of a patch [pixel].
    dim : int
        Width of a token for each endmember; dim * k must be a multiple of patch * patch and of 8.
    dropout : float
        Share of the first layer's values that training drops.

    Raises
    ------
    BadSettings
        Sizes that do not divide each other.
    """

    def __init__(
        self, bands: int, k: int, size: int = 95, patch: int = 5, dim: int = 200, dropout: float = 0.25
    ) -> None:
        super().__init__()
        width = dim * k
        if size % patch or width % patch**2 or width % HEADS:
            raise BadSettings(
                f"got size={size}, patch={patch}, dim={dim} with {k} endmembers, expected a size that is a multiple of "
                f"the patch, and dim * k = {width} a multiple of patch * patch = {patch**2} and of {HEADS}"
            )
        self.k, self.size, self.dim = k, size, dim
        self.encoder = nn.Sequential(
            nn.Conv2d(bands, 128, 1),
            nn.BatchNorm2d(128, momentum=0.9),
            nn.Dropout(dropout),
            nn.LeakyReLU(),
            nn.Conv2d(128, 64, 1),
            nn.BatchNorm2d(64, momentum=0.9),
            nn.LeakyReLU(),
            nn.Conv2d(64, width // patch**2, 1),
            nn.BatchNorm2d(width // patch**2, momentum=0.5),
        )
        self.vtrans = _ViT(size, patch, width)
        self.upscale = nn.Sequential(nn.Linear(dim, size**2))
        self.smooth = nn.Sequential(nn.Conv2d(k, k, 3, padding=1))
        self.decoder = nn.Sequential(nn.Conv2d(k, bands, 1, bias=False), nn.ReLU())

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Abundances (n, k, size, size) and reconstruction of an image (n, bands, size, size)."""
        token = self.vtrans(self.encoder(image)).view(-1, self.k, self.dim)
        maps = self.upscale(token).view(-1, self.k, self.size, self.size)
        abundances = torch.softmax(self.smooth(maps), dim=1)
        return abundances, self.decoder(abundances)
