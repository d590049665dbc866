"""Attention by the squared spectral correlation coefficient, linear in the number of tokens.

The keys are normalised over all tokens, so that a token's result depends on the others, but only through sums over
them: `Sums` holds these. Whoever has the sums of a whole scene can work on any part of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.nn import functional as F

from torchspectral.errors import BadSettings

EPSILON = 1e-7
"""Added to the sum of squares of a token before the division."""
TINY = 1e-12
"""Least norm that is divided by."""


@dataclass
class Sums:
    """What the attention of one pass needs to know of all its tokens.

    Attributes
    ----------
    cross : Tensor, shape (n, dim, dim)
        Sum of key times normalised token, before the keys are normalised over the tokens.
    total, square : Tensor, shape (n, dim)
        Sums of the keys and of their squares.
    count : Tensor, shape (n,)
        Tokens.
    """

    cross: torch.Tensor
    total: torch.Tensor
    square: torch.Tensor
    count: torch.Tensor

    def __add__(self, other: Sums) -> Sums:
        return Sums(
            self.cross + other.cross, self.total + other.total, self.square + other.square, self.count + other.count
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """The four by name."""
        return {"cross": self.cross, "total": self.total, "square": self.square, "count": self.count}


@dataclass
class Folded:
    """Weights of normalisation and attention in one: all act on tokens normalised without affine part.

    Attributes
    ----------
    query, key, value : tuple of Tensor
        Weight (dim, dim), to be multiplied from the right, and bias (dim,); query and key are centred over channels.
    """

    query: tuple[torch.Tensor, torch.Tensor]
    key: tuple[torch.Tensor, torch.Tensor]
    value: tuple[torch.Tensor, torch.Tensor]

    def sums(self, tokens: torch.Tensor) -> Sums:
        """Sums over normalised tokens of one image, (token, dim), as for one image."""
        keys = torch.addmm(self.key[1], tokens, self.key[0]).square_()
        keys /= keys.sum(-1, keepdim=True).add_(EPSILON)
        cross = (keys.T @ tokens).double()
        square = torch.linalg.vector_norm(keys, dim=0).double().square()
        count = torch.tensor([float(tokens.shape[0])], dtype=torch.float64, device=tokens.device)
        return Sums(cross[None], keys.sum(0).double()[None], square[None], count)

    def queries(self, tokens: torch.Tensor) -> torch.Tensor:
        """Normalised queries of normalised tokens, (token, dim)."""
        q = torch.addmm(self.query[1], tokens, self.query[0]).square_()
        share = q.sum(-1, keepdim=True).add_(EPSILON).reciprocal_()
        norm = torch.linalg.vector_norm(q, dim=-1, keepdim=True).mul_(share).clamp_min_(TINY)
        return q.mul_(share.div_(norm))

    def mixed(self, sums: Sums) -> torch.Tensor:
        """What the queries are multiplied with, (n, dim, dim): keys, normalised over tokens, times values."""
        weight, bias = (part.double() for part in self.value)
        cross = sums.cross.to(weight) @ weight + sums.total.to(weight)[:, :, None] * bias
        norm = sums.square.to(weight).sqrt().clamp_min(TINY)
        return cross / norm[:, :, None] / sums.count.to(weight).clamp_min(1).sqrt()[:, None, None]


class SpectralAttention(nn.Module):
    """The attention of ESSAformer, one head.

    Parameters
    ----------
    dim : int
        Channels.

    References
    ----------
    Zhang et al., "ESSAformer: efficient transformer for hyperspectral image super-resolution", ICCV 2023.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        if dim < 1:
            raise BadSettings(f"got dim={dim}, expected at least 1")
        self.lnqkv = nn.Linear(dim, 3 * dim)
        self.ln = nn.Linear(dim, dim)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        """Attend.

        Parameters
        ----------
        tokens : Tensor, shape (n, token, dim)

        Returns
        -------
        Tensor, shape (n, token, dim)
        """
        q, k, v = self.lnqkv(tokens).chunk(3, dim=-1)
        with torch.autocast(tokens.device.type, enabled=False):  # the normalisations need all their digits
            q, k = (_share(_float(part)) for part in (q, k))
            q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-2)
            mixed = k.transpose(-2, -1) @ _float(v)
            o = _float(v) + q @ mixed / tokens.shape[1] ** 0.5
        out: torch.Tensor = self.ln(o.to(v.dtype))
        return out

    def folded(self, norm: nn.LayerNorm) -> Folded:
        """Weights with those of the normalisation before them folded in."""
        gain, offset = norm.weight.double(), norm.bias.double()
        parts = []
        weights = zip(self.lnqkv.weight.double().chunk(3), self.lnqkv.bias.double().chunk(3), strict=True)
        for place, (weight, bias) in enumerate(weights):
            bias, weight = weight @ offset + bias, weight * gain
            if place < 2:
                weight, bias = weight - weight.mean(0), bias - bias.mean()
            parts.append((weight.T.to(norm.weight.dtype).contiguous(), bias.to(norm.weight.dtype)))
        return Folded(*parts)


def _float(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _share(x: torch.Tensor) -> torch.Tensor:
    """Each channel's share of a token's squared deviation from its mean."""
    square = (x - x.mean(-1, keepdim=True)).square()
    return square / (square.sum(-1, keepdim=True) + EPSILON)
