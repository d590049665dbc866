"""Patch tokens of LESS ViT, and what tells them where and at which wavelength they are."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from torchspectral.errors import BadSettings

ENMAP_RANGE = (418.24, 2445.53)
"""Wavelengths [nm] that the published rotary models map to 0 and 1."""


class TiedPatchEmbed(nn.Module):
    """Patches of each band by itself, with the same weights for all: linear to 2 D, ReLU, linear to D.

    Parameters
    ----------
    patch_size : int
        Pixels a side.
    dim : int
        Width D of a token.

    References
    ----------
    Si et al., "Towards Scalable Foundation Model for Multi-modal and Hyperspectral Geospatial Data", arXiv 2503.12843
    (2025), section 3.1.
    """

    ROWS = 1024  # patches at a time without gradients: what is 2 D wide then stays in the cache

    def __init__(self, patch_size: int, dim: int) -> None:
        super().__init__()
        size = (1, patch_size, patch_size)
        self.patch_size, self.dim = patch_size, dim
        self.plain = False
        self.proj = nn.Sequential(nn.Conv3d(1, 2 * dim, size, stride=size), nn.ReLU(), nn.Conv3d(2 * dim, dim, 1))

    def patches(self, x: torch.Tensor) -> torch.Tensor:
        """Pixels of each patch, (n, C, H, W) -> (n, C, N, p * p), patches in rows from the upper left."""
        p = self.patch_size
        n, c, h, w = x.shape
        return x.reshape(n, c, h // p, p, w // p, p).transpose(3, 4).reshape(n, c, (h // p) * (w // p), p * p)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Tokens of an image, (n, C, H, W) -> (n, C, N, D)."""
        if self.plain:
            return self.proj(x[:, None]).flatten(-2).permute(0, 2, 3, 1)
        return self.embed(self.patches(x))

    def embed(self, patches: torch.Tensor) -> torch.Tensor:
        """Tokens of patches that were cut (and picked) before, (..., p * p) -> (..., D)."""
        rows = patches.reshape(-1, patches.shape[-1])
        if torch.is_grad_enabled() or not rows.is_cpu or len(rows) <= self.ROWS:
            return self._rows(rows).reshape(*patches.shape[:-1], self.dim)
        out = rows.new_empty(len(rows), self.dim)
        for start in range(0, len(rows), self.ROWS):
            out[start : start + self.ROWS] = self._rows(rows[start : start + self.ROWS])
        return out.reshape(*patches.shape[:-1], self.dim)

    def _rows(self, rows: torch.Tensor) -> torch.Tensor:
        first, last = self.get_submodule("proj.0"), self.get_submodule("proj.2")
        assert isinstance(first, nn.Conv3d) and isinstance(last, nn.Conv3d)
        wide = nn.functional.linear(rows, first.weight.flatten(1), first.bias).relu_()
        return nn.functional.linear(wide, last.weight.flatten(1), last.bias)


def sinusoids(values: torch.Tensor, width: int) -> torch.Tensor:
    """Sines, then cosines, of values times ``10000 ** (-i / (width / 2))``, (...,) -> (..., width), in float32."""
    # numpy's powers: an omega one bit off is already seen in the sine of 2500 nm.
    omega = 1.0 / 10000 ** (np.arange(width // 2, dtype=np.float32) / np.float32(width / 2))
    angle = values.float()[..., None] * torch.from_numpy(omega.astype(np.float32)).to(values.device)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


class SinCosEmbedding:
    """Embedding of wavelength and place of the first paper, added once before the blocks.

    Parameters
    ----------
    dim : int
        Width of a token, a multiple of 4.
    """

    def __init__(self, dim: int) -> None:
        if dim % 4:
            raise BadSettings(f"got tokens {dim} wide, expected a multiple of 4 for sines and cosines of two axes")
        self.dim = dim

    def positions(self, rows: int, cols: int, resolution: float, device: torch.device | None = None) -> torch.Tensor:
        """Place of each patch, (1 + rows * cols, dim): the column in the first half; entry 0 (no place) is zero.

        ``resolution`` [m] multiplies the grid index, as in the authors' code.
        """
        index = torch.arange(rows * cols, device=device)
        east = sinusoids((index % cols).float() * resolution, self.dim // 2)
        south = sinusoids(torch.div(index, cols, rounding_mode="floor").float() * resolution, self.dim // 2)
        return nn.functional.pad(torch.cat([east, south], dim=-1), (0, 0, 1, 0))

    def channels(self, wavelengths: torch.Tensor) -> torch.Tensor:
        """Wavelengths [nm] (n, C) -> (n, 1 + C, dim); entry 0 (all channels) is zero."""
        return nn.functional.pad(sinusoids(wavelengths, self.dim), (0, 0, 1, 0))

    def __call__(self, wavelengths: torch.Tensor, rows: int, cols: int, resolution: float) -> torch.Tensor:
        """Embedding of the whole grid, (n, 1 + C, 1 + N, dim): the mean of both parts."""
        places = self.positions(rows, cols, resolution, wavelengths.device)
        return (self.channels(wavelengths)[:, :, None] + places[None, None]) / 2


class SpatialSpectralRoPE(nn.Module):
    """Rotary embedding of the second paper: angles from place and wavelength, for queries and keys of both branches.

    Parameters
    ----------
    spatial_width, channel_width : int
        Width of a head in the spatial branch (multiple of 4) and in the channel branch (even).
    base : float
        Ratio of the longest period to the shortest.

    References
    ----------
    "LESSViT: Robust Hyperspectral Representation Learning under Spectral Configuration Shift", arXiv 2605.18541.
    """

    periods_hw: torch.Tensor
    periods_c: torch.Tensor

    def __init__(self, spatial_width: int, channel_width: int, base: float = 100.0) -> None:
        super().__init__()
        if spatial_width % 4 or channel_width % 2:
            raise BadSettings(
                f"got heads {spatial_width} (space) and {channel_width} (channels) wide, expected a multiple of 4 and of "
                "2 for rotary embedding"
            )
        quarter, half = torch.arange(spatial_width // 4), torch.arange(channel_width // 2)
        self.register_buffer("periods_hw", base ** (2 * quarter / (spatial_width // 2)))
        self.register_buffer("periods_c", base ** (2 * half / channel_width))

    def spatial(self, rows: int, cols: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Sines and cosines of each patch, (rows * cols, spatial_width)."""
        device = self.periods_hw.device
        south = (torch.arange(rows, device=device) + 0.5) / rows * 2 - 1
        east = (torch.arange(cols, device=device) + 0.5) / cols * 2 - 1
        place = torch.stack(torch.meshgrid(south, east, indexing="ij"), dim=-1).reshape(-1, 2, 1)
        angle = (2 * torch.pi * place / self.periods_hw).flatten(1)
        angle = torch.cat([angle, angle], dim=-1)
        return angle.sin(), angle.cos()

    def spectral(self, share: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Sines and cosines of channels, (..., C) -> (..., C, channel_width).

        ``share`` is the wavelength, 0 and 1 at the ends of the range that the model was trained on.
        """
        angle = 2 * torch.pi * (2 * share - 1)[..., None] / self.periods_c
        angle = torch.cat([angle, angle], dim=-1)
        return angle.sin(), angle.cos()


Angles = tuple[torch.Tensor, torch.Tensor]


def rotate(x: torch.Tensor, angles: Angles | None) -> torch.Tensor:
    """Rotate all tokens but the first, which stands for a whole axis.

    Parameters
    ----------
    x : Tensor (..., 1 + tokens, width)
    angles : (sines, cosines), each broadcastable to (..., tokens, width), or None
    """
    if angles is None:
        return x
    sine, cosine = angles
    head, rest = x[..., :1, :], x[..., 1:, :]
    first, second = rest.chunk(2, dim=-1)
    turned = rest * cosine + torch.cat([-second, first], dim=-1) * sine
    return torch.cat([head, turned.to(x.dtype)], dim=-2)


def perception_mask(
    rows: int,
    cols: int,
    patch_size: int,
    resolution: float,
    radius: float,
    *,
    cls_token: bool = True,
    device: torch.device | None = None,
) -> torch.Tensor:
    """Which patches see each other: those whose centres are at most ``radius`` apart.

    Parameters
    ----------
    rows, cols : int
        Of the grid of patches.
    patch_size : int
        Pixels a side.
    resolution, radius : float
        [m] a pixel, and [m].
    cls_token : bool
        Put a token in front that sees all and is seen by all.

    Returns
    -------
    Tensor of bool, (N, N), or (1 + N, 1 + N)
    """
    index = torch.arange(rows * cols, device=device)
    places = torch.stack([torch.div(index, cols, rounding_mode="floor"), index % cols], dim=-1).double()
    apart = (places[:, None] - places[None]).square().sum(-1).sqrt()
    allowed = apart * patch_size * resolution <= radius
    return nn.functional.pad(allowed, (1, 0, 1, 0), value=True) if cls_token else allowed
