"""Response of one sensor as seen by another: spectral weights of the PAN, and its blur on the PAN's grid.

References
----------
Simoes, Bioucas-Dias, Almeida, Chanussot, "A convex formulation for hyperspectral image superresolution via
subspace-based regularization", IEEE TGRS 53 (2015), section IV.
"""

from __future__ import annotations

import torch

KERNEL = 10
"""Side of the blur kernel [fine pixel]."""

BEFORE = 4
"""Pixels of the kernel before its centre."""

BOX = 9
RIDGE = 10.0


def circular_box(image: torch.Tensor, side: int) -> torch.Tensor:
    """Mean over a box of odd side with circular border, (band, y, x)."""
    for axis, size in ((-2, image.shape[-2]), (-1, image.shape[-1])):
        total = image.clone()
        for shift in range(1, side // 2 + 1):
            total += image.roll(shift % size, axis) + image.roll(-shift % size, axis)
        image = total / side
    return image


def differences(size: int, like: torch.Tensor) -> torch.Tensor:
    """First differences, (size - 1, size)."""
    eye = torch.eye(size, dtype=like.dtype, device=like.device)
    return eye[1:] - eye[:-1]


def spectral_response(
    low: torch.Tensor, pan: torch.Tensor, ratio: int, offset: int, covered: torch.Tensor
) -> torch.Tensor:
    """Weights of the bands in the PAN, smooth along the spectrum, zero outside `covered`.

    Parameters
    ----------
    low : Tensor, shape (band, y, x)
    pan : Tensor, shape (R * y, R * x)
    ratio, offset : int
        Coarse pixel k is compared with the fine pixel ``ratio * k + offset``, both strongly blurred.
    covered : Tensor of int64
        Bands that the PAN's range holds.
    """
    seen = circular_box(pan[None], BOX)[0, offset::ratio, offset::ratio].reshape(-1)
    bands = circular_box(low[covered], 2 * round(4 / ratio) + 1).flatten(1)
    step = differences(len(covered), low)
    system = bands @ bands.T + RIDGE * step.T @ step
    response = low.new_zeros(low.shape[0])
    response[covered] = torch.linalg.lstsq(system, (bands @ seen)[:, None]).solution[:, 0]
    return response


def spatial_response(mixed: torch.Tensor, pan: torch.Tensor, ratio: int, offset: int) -> torch.Tensor | None:
    """Blur kernel that turns the PAN into the weighted bands, (KERNEL, KERNEL); None where no kernel fits in.

    Entry (i, j) weighs the pixel ``i - BEFORE, j - BEFORE`` away; its sum is not 1.

    Parameters
    ----------
    mixed : Tensor, shape (y, x)
        The bands weighted by the spectral response.
    pan : Tensor, shape (R * y, R * x)
    """
    rows, cols = (_inside(n, ratio, offset) for n in pan.shape)
    if len(rows) * len(cols) == 0:
        return None
    windows = pan.unfold(0, KERNEL, 1).unfold(1, KERNEL, 1)
    gram = pan.new_zeros(KERNEL**2, KERNEL**2)
    right = pan.new_zeros(KERNEL**2)
    across = torch.tensor(cols, device=pan.device) * ratio + offset - BEFORE
    for row in rows:
        patch = windows[row * ratio + offset - BEFORE][across].transpose(1, 2).flatten(1)  # column by column
        gram.addmm_(patch.T, patch)
        right += patch.T @ mixed[row, cols]
    step = differences(KERNEL, pan)
    eye = torch.eye(KERNEL, dtype=pan.dtype, device=pan.device)
    down, over = torch.kron(step, eye), torch.kron(eye, step)
    found = torch.linalg.solve(gram + RIDGE * (down.T @ down + over.T @ over), right)
    return found.reshape(KERNEL, KERNEL).T.contiguous()


def _inside(size: int, ratio: int, offset: int) -> list[int]:
    """Coarse pixels around which the kernel lies inside the fine image."""
    places = [(k, k * ratio + offset) for k in range(size // ratio)]
    return [k for k, place in places if BEFORE <= place < size - (KERNEL - BEFORE - 1)]
