"""Fixed positions of tokens on a grid."""

from __future__ import annotations

import torch

from torchspectral.errors import BadSettings


def sincos_positions(dim: int, side: int, *, class_token: bool = True) -> torch.Tensor:
    """Sines and cosines of column and row, as masked autoencoders use them.

    Parameters
    ----------
    dim : int
        Width, a multiple of 4: the first half tells the column, the second the row.
    side : int
        Tokens a side.
    class_token : bool
        A first row of zeros.

    Returns
    -------
    Tensor (1, side * side + class_token, dim), float32

    References
    ----------
    He et al., "Masked autoencoders are scalable vision learners", CVPR (2022).
    """
    if dim % 4:
        raise BadSettings(f"positions of width {dim} asked for, expected a multiple of 4")
    rates = 10000.0 ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim / 4))
    waves = torch.arange(side, dtype=torch.float64)[:, None] * rates
    line = torch.cat([waves.sin(), waves.cos()], 1)
    table = torch.cat([line.repeat(side, 1), line.repeat_interleave(side, 0)], 1)
    if class_token:
        table = torch.cat([table.new_zeros(1, dim), table])
    return table[None].float()
