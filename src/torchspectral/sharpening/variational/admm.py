"""The solver of HySure: alternating directions, with one Fourier transform there and back a round."""

from __future__ import annotations

import torch


def fuse_in_subspace(
    products: torch.Tensor,
    pan: torch.Tensor,
    endmembers: torch.Tensor,
    response: torch.Tensor,
    blur: torch.Tensor,
    *,
    ratio: int,
    offset: int,
    before: int,
    iterations: int,
    mu: float,
    lambda_m: float,
    lambda_phi: float,
) -> torch.Tensor:
    """Minimise over X ``|Y - E M B X|^2 / 2 + lambda_m |P - r^T E X|^2 / 2 + lambda_phi TV(X)``.

    B blurs (circular border), M keeps the pixels ``ratio * k + offset``, TV is the vector total variation: the norm over
    both differences and all components. Split by V1 = B X, V2 = X, V3, V4 = differences of X.

    Parameters
    ----------
    products : Tensor, shape (p, y, x)
        ``E^T Y``, on the coarse grid.
    pan : Tensor, shape (R * y, R * x)
    endmembers : Tensor, shape (band, p), float64
    response : Tensor, shape (band,), float64
    blur : Tensor, shape (k, k)
        Sum 1; entry (i, j) weighs the pixel ``i - before, j - before`` away.
    ratio, offset, before, iterations : int
    mu, lambda_m, lambda_phi : float

    Returns
    -------
    Tensor, shape (p, R * y, R * x)

    Notes
    -----
    V1 differs from B X at the coarse pixels only, so that it is never held: its part of the linear system is what the
    spectrum of X already says, and a sparse correction. Six fine images of p components live at a time.
    """
    p, dtype = products.shape[0], products.dtype
    size = pan.shape
    eye = torch.eye(p, dtype=torch.float64, device=pan.device)
    seen = endmembers.T @ response
    on_bands = torch.linalg.inv(endmembers.T @ endmembers + mu * eye).to(dtype)
    on_pan = torch.linalg.inv(lambda_m * torch.outer(seen, seen) + mu * eye).to(dtype)
    pan_part = lambda_m * (on_pan @ seen.to(dtype))
    sampler = Sampler(blur, size, ratio, offset, before)
    power, divisor = _spectra(blur, size, before)
    tau = lambda_phi / mu

    spectrum = torch.fft.rfft2(torch.zeros(p, *size, dtype=dtype, device=pan.device))
    d1 = torch.zeros_like(products)
    d2, d3, d4 = (torch.zeros(p, *size, dtype=dtype, device=pan.device) for _ in range(3))
    right = torch.zeros_like(d2)
    x = right
    for _ in range(iterations):
        spectrum = (spectrum * power + torch.fft.rfft2(right)) / divisor
        x = torch.fft.irfft2(spectrum, s=size)
        blurred = sampler.sample(x)
        n1 = blurred - d1
        v1 = torch.einsum("pq,qyx->pyx", on_bands, products + mu * n1)
        d1 = v1 - n1
        n2 = x - d2
        v2 = torch.einsum("pq,qyx->pyx", on_pan, mu * n2).addcmul_(pan_part[:, None, None], pan)
        d2 = v2 - n2
        n3, n4 = x - x.roll(-1, 2) - d3, x - x.roll(-1, 1) - d4
        norm = (n3.square().sum(0) + n4.square().sum(0)).sqrt()
        kept = (norm - tau).clamp_min(0)
        share = kept / (kept + tau) if tau > 0 else torch.ones_like(kept)
        # V - N = (share - 1) N and V + D = (2 share - 1) N.
        right = v2.add_(d2)
        d3 = n3 * (share - 1)
        n3 *= 2 * share - 1
        right += n3 - n3.roll(1, 2)
        d4 = n4 * (share - 1)
        n4 *= 2 * share - 1
        right += n4 - n4.roll(1, 1)
        right += sampler.spread(v1 + d1 - blurred)
    return x


class Sampler:
    """Circular blur followed by sampling, and its adjoint; the kernel is small, so both are done in place."""

    def __init__(self, blur: torch.Tensor, size: tuple[int, ...], ratio: int, offset: int, before: int) -> None:
        side = blur.shape[0]
        after = side - 1 - before
        # A convolution reads backwards: pixel i needs i - after .. i + before.
        self.weights = blur.flip(0, 1)[None, None]
        self.ratio, self.size = ratio, size
        index = [torch.arange(-after, n + before, device=blur.device) % n for n in size]
        self.rows, self.cols = index
        self.offset = offset

    def sample(self, image: torch.Tensor) -> torch.Tensor:
        """(p, Y, X) to (p, y, x)."""
        padded = image[:, self.rows][:, :, self.cols][:, self.offset :, self.offset :]
        found = torch.nn.functional.conv2d(padded[:, None], self.weights, stride=self.ratio)[:, 0]
        return found[:, : self.size[0] // self.ratio, : self.size[1] // self.ratio]

    def spread(self, coarse: torch.Tensor) -> torch.Tensor:
        """(p, y, x) to (p, Y, X), the adjoint of `sample`."""
        image = torch.nn.functional.conv_transpose2d(coarse[:, None], self.weights, stride=self.ratio)[:, 0]
        out = coarse.new_zeros(coarse.shape[0], *self.size)
        rows = self.rows[self.offset : self.offset + image.shape[1]]
        cols = self.cols[self.offset : self.offset + image.shape[2]]
        across = coarse.new_zeros(coarse.shape[0], image.shape[1], self.size[1]).index_add_(2, cols, image)
        return out.index_add_(1, rows, across)


def _spectra(blur: torch.Tensor, size: tuple[int, ...], before: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Power of the blur, and the divisor of the linear system, on the half plane of `rfft2`."""
    kernel = torch.zeros(size, dtype=torch.float64, device=blur.device)
    side = blur.shape[0]
    rows, cols = ((torch.arange(side, device=blur.device) - before) % n for n in size)
    kernel.index_put_((rows[:, None], cols[None, :]), blur.double(), accumulate=True)
    power = torch.fft.rfft2(kernel).abs().square()
    parts = [power, torch.ones_like(power)]
    for axis, n in enumerate(size):
        if n > 1:
            step = torch.zeros(size, dtype=torch.float64, device=blur.device)
            step[0, 0] = 1
            step[(-1, 0) if axis == 0 else (0, -1)] -= 1
            parts.append(torch.fft.rfft2(step).abs().square())
    return power.to(blur.dtype), torch.stack(parts).sum(0).to(blur.dtype)
