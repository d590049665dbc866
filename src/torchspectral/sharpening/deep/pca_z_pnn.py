"""PCA-Z-PNN: a small network fitted on the scene that sharpens the first principal components of two spectral blocks."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from torchspectral.engine.method import Round, Scale, SceneInfo, Size, Source, State, Tile
from torchspectral.ops.axis import AxisOperator, apply
from torchspectral.ops.interpolate import ideal_interp, interpolation_halo
from torchspectral.ops.mtf import HS_GAIN, mtf_kernel
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.deep.moments import adam_state, fill_adam, fill_network, network_state
from torchspectral.sharpening.fusion import Fusion, FusionSettings
from torchspectral.sharpening.tiles import narrowed, widened
from torchspectral.sharpening.upsampled import Upsampled
from torchspectral.sharpening.zero_shot.losses import (
    LocalCorrelation,
    SensorView,
    correlation_threshold,
    reflected_filter,
    spectral_loss,
    structural_loss,
)

REACH = 6
"""Fine pixels that the three layers look over an edge."""
ROUND = 5
"""Iterations between two states that can be journaled."""


class PCAZPNNNetwork(nn.Module):
    """Three layers and a skip.

    Parameters
    ----------
    components : int
        Principal components that it sharpens.
    """

    def __init__(self, components: int = 4) -> None:
        super().__init__()
        same: dict[str, Any] = {"padding": "same", "padding_mode": "reflect"}
        self.conv1 = nn.Conv2d(components + 1, 48, 7, **same)
        self.conv2 = nn.Conv2d(48, 32, 5, **same)
        self.conv3 = nn.Conv2d(32, components, 3, **same)

    def detail(self, x: torch.Tensor) -> torch.Tensor:
        """What is added to the components."""
        out: torch.Tensor = self.conv3(torch.relu(self.conv2(torch.relu(self.conv1(x)))))
        return out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(n, components + 1, y, x), the PAN last, to (n, components, y, x); at least 4 pixels a side."""
        return self.detail(x) + x[:, :-1]


class PCAZPNNSettings(FusionSettings):
    """Settings of PCA-Z-PNN."""

    iterations: int = setting(1000, "optimiser steps in each of the two blocks", ge=1)
    learning_rate: float = setting(5e-5, "learning rate of Adam", gt=0)
    components: int = setting(4, "principal components of each block that are sharpened", ge=1)
    split: float = setting(770.0, "the second block begins at the first band from here", unit="nm", gt=0)
    structural: float = setting(0.5, "weight of the structural loss in the first block", ge=0)
    structural_far: float = setting(0.25, "weight of the structural loss in the second block", ge=0)
    gain: float = setting(0.0, "values are divided by it; 0: 65536 for raw numbers, 1 for physical ones", ge=0)
    mtf_gain: float = setting(
        0.0, "amplitude of the sensor's MTF at Nyquist; 0: the sensor's own, 0.3 where unknown", ge=0, lt=1
    )
    compat: Literal["", "authors-code"] = setting(
        "", "'authors-code': cubic-spline interpolation, half a pixel off at even ratios, and unnormalised MTF kernels"
    )


class PCAZPNN(Fusion):
    """Zero-shot sharpening of the first principal components of a VNIR and a SWIR block.

    Principal components of the spectra are not centred, so that the first looks like the scene and correlates with the
    PAN. A network of three layers adds detail to the first four of each block; it starts from scratch and is fitted on
    the whole scene by how the result looks to the hyperspectral sensor (all four) and by its local correlation with
    the PAN (the first). The other components are interpolated. Bands without wavelengths form one block.

    References
    ----------
    Ciotola et al., "Hyperspectral pansharpening: critical review, tools and future perspectives", arXiv 2407.01355
    (2024); Ciotola, Vitale, Mazza, Poggi, Scarpa, "Pansharpening by convolutional neural networks in the full
    resolution framework", IEEE TGRS (2022).
    """

    Settings: ClassVar[type[Settings]] = PCAZPNNSettings

    def prepare(self, info: SceneInfo) -> None:
        """Set the working scale and the halo."""
        ratio = self.check_ratio(info)
        gain = self.settings.gain or (65536.0 if info.quantity == "dn" else 1.0)
        self.scale = Scale("fixed", gain=gain)
        self.halo = interpolation_halo(ratio) + -(-REACH // ratio)

    def fit(self, source: Source, seed: int, state: State | None) -> Iterator[Round]:
        """Fit the network of each block; a round is five iterations."""
        found = dict(state or {})
        blocks = blocks_of(source.info.wavelength, self.settings.split)
        if "blocks" not in found:
            covariance = source.gram().covariance
            for number, index in enumerate(blocks):
                place = torch.from_numpy(index).to(covariance.device)
                found[f"{number}.bands"] = place
                found[f"{number}.loadings"] = loadings(covariance[place][:, place], self.settings.components)
            found |= {"blocks": len(blocks), "losses": []}
        source.map("components", partial(_projected, [_axes(found, n) for n in range(len(blocks))]))
        whole, pan = source.whole("components"), source.whole("pan")
        start = 0
        for number in range(len(blocks)):
            count = found[f"{number}.loadings"].shape[1]
            if not found.get(f"{number}.done"):
                part = whole[:, start : start + count]
                for done in self._fit_block(number, part, whole[:, -1:], pan, source.info, seed, found):
                    yield dict(found), (number + done) / len(blocks)
            start += count
        yield found, 1.0

    def _fit_block(
        self,
        number: int,
        low: torch.Tensor,
        valid: torch.Tensor,
        pan: torch.Tensor,
        info: SceneInfo,
        seed: int,
        found: State,
    ) -> Iterator[float]:
        s = self.settings
        ratio = int(info.ratio["pan"])
        objective = _Objective(
            low, valid, pan, self.upsampled(low, ratio), ratio, self._mtf(info), not s.compat,
            s.structural_far if number else s.structural,
        )  # fmt: skip
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed + number)
            network = PCAZPNNNetwork(low.shape[1])
        network = network.to(low)
        optimiser = torch.optim.Adam(network.parameters(), lr=s.learning_rate)
        first, best = 0, float("inf")
        if f"{number}.iteration" in found:
            fill_network(network, found, f"{number}.now.")
            fill_adam(optimiser, found, f"{number}.adam.")
            first, best = int(found[f"{number}.iteration"]), float(found[f"{number}.least"])
        else:
            found["losses"] = [*found["losses"], []]
        for step in range(first, s.iterations):
            optimiser.zero_grad()
            total, parts = objective(network)
            total.backward()
            optimiser.step()
            if parts[0] < best:
                best = parts[0]
                found |= network_state(network, f"{number}.net.")  # weights after the step, as published
            if step % ROUND == 0 or step + 1 == s.iterations:
                found["losses"] = [*found["losses"][:-1], [*found["losses"][-1], parts]]
            if (step + 1) % ROUND == 0 and step + 1 < s.iterations:
                found |= network_state(network, f"{number}.now.") | adam_state(optimiser, f"{number}.adam.")
                found |= {f"{number}.iteration": step + 1, f"{number}.least": best}
                yield (step + 1) / s.iterations
        for key in [k for k in found if k.startswith((f"{number}.now.", f"{number}.adam."))]:
            del found[key]
        fill_network(network, found, f"{number}.net.")
        with torch.no_grad():
            _, parts = objective(network)
        found |= {f"{number}.done": True, f"{number}.guard": [parts[1], objective.plain]}
        yield 1.0

    def upsampled(self, low: torch.Tensor, ratio: int) -> torch.Tensor:
        """An image of the lead grid on the PAN's grid."""
        if not self.settings.compat:
            return ideal_interp(low, ratio)
        return apply(low, spline_operator(low.shape[-2], ratio), spline_operator(low.shape[-1], ratio))

    def _mtf(self, info: SceneInfo) -> float:
        known = float(info.mtf.get("cube", 0.0) or 0.0)
        chosen: float = self.settings.mtf_gain or (known if 0 < known < 1 else HS_GAIN)
        return chosen

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Interpolate, and add the detail of the sharpened components."""
        ratio = tile.info.ratio["pan"]
        wide = widened(tile, -(-REACH // ratio))
        up = Upsampled(wide, "symmetric")
        image = self.upsampled(tile["cube"], ratio) if self.settings.compat else up.image()
        out = image.clone()
        for number in range(int(state["blocks"])):
            index, axes = (t.to(image.device) for t in _axes(state, number))
            axes = axes.to(image)
            part = torch.einsum("bk,nbyx->nkyx", axes, image[:, index]) / len(index)
            network = PCAZPNNNetwork(axes.shape[1]).to(image)
            fill_network(network, {k: v for k, v in state.items() if k.startswith(f"{number}.net.")}, f"{number}.net.")
            with torch.no_grad():
                detail = network.detail(torch.cat([part, up.pan], 1))
            # The band that both blocks share comes from the second.
            out[:, index] = image[:, index] + torch.einsum("bk,nkyx->nbyx", axes, detail)
        return {"cube": narrowed(out, wide, tile)}

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the features with their gradients and the float64 fields for `fit`, of three images for `apply`."""
        pixels = size.rows * size.cols * size.zoom**2
        return {"fit": 2400 * pixels, "apply": 4 * pixels * (3 * size.bands + 2 * 80)}

    def figures(self, state: State) -> dict[str, Any]:
        """Losses on the way, and the guard: the spectral loss of each block against plain interpolation's."""
        blocks = range(int(state["blocks"]))
        guard = {}
        for number in blocks:
            final, plain = state[f"{number}.guard"]
            guard[f"block {number + 1}"] = {
                "spectral loss": final,
                "of interpolation": plain,
                "worse than interpolation": bool(final > plain),
            }
        return {
            "losses": {f"block {n + 1} (total, spectral, structural)": state["losses"][n] for n in blocks},
            "guard": guard,
        }


class _Objective:
    """The two losses of one block on the whole scene."""

    def __init__(
        self,
        low: torch.Tensor,
        valid: torch.Tensor,
        pan: torch.Tensor,
        upsampled: torch.Tensor,
        ratio: int,
        gain: float,
        normalize: bool,
        weight: float,
    ) -> None:
        self.inputs = torch.cat([upsampled, pan], 1)
        self.weight = weight
        self.view = SensorView.of(ratio, gain, normalize=normalize)
        self.low = self.view.crop(low)
        hole = bool((valid < 1).any())
        self.valid = self.view.crop(valid) if hole else None
        self.fine_valid = valid.repeat_interleave(ratio, -2).repeat_interleave(ratio, -1) if hole else None
        smooth = reflected_filter(pan, mtf_kernel(float(ratio), gain, normalize=normalize))
        self.allowed = correlation_threshold(upsampled[:, :1], smooth, 3 * ratio).to(pan)
        self.field = LocalCorrelation(pan, -(-ratio // 2))
        self.plain = float(spectral_loss(self.view(upsampled), self.low, self.valid))

    def __call__(self, network: PCAZPNNNetwork) -> tuple[torch.Tensor, list[float]]:
        """Total to minimise; total, spectral and unthresholded structural loss as numbers."""
        out = network(self.inputs)
        spectral = spectral_loss(self.view(out), self.low, self.valid)
        structural, plain = structural_loss(self.field(out[:, :1]), self.allowed, self.fine_valid)
        total = spectral + self.weight * structural
        return total, [float(total.detach()), float(spectral.detach()), float(plain)]


def blocks_of(wavelength: np.ndarray, split: float) -> list[np.ndarray]:
    """Bands of the two blocks; the first band from `split` on is in both. One block where wavelengths are unknown."""
    every = np.arange(wavelength.size)
    if not np.isfinite(wavelength).all():
        return [every]
    far = np.flatnonzero(wavelength >= split)
    if far.size in (0, every.size):
        return [every]
    near = np.setdiff1d(every, far)
    return [np.append(near, far[np.argmin(wavelength[far])]), far]


def loadings(covariance: torch.Tensor, count: int) -> torch.Tensor:
    """First principal axes, (band, count), float64, each with a positive sum so that the first is a brightness."""
    _, vectors = torch.linalg.eigh(covariance)
    axes = vectors.flip(-1)[:, :count]
    return axes * torch.where(axes.sum(0) < 0, -1.0, 1.0)


def _axes(state: State, number: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Bands of a block, and its axes scaled so that components have the size of band values."""
    index = state[f"{number}.bands"]
    return index, state[f"{number}.loadings"] * len(index) ** 0.5


def _projected(axes: list[tuple[torch.Tensor, torch.Tensor]], tile: Tile) -> torch.Tensor:
    """Components of every block, and 1 where a pixel is valid."""
    cube = tile["cube"]
    parts = [
        torch.einsum("bk,nbyx->nkyx", scaled.to(cube), cube[:, index.to(cube.device)]) / len(index)
        for index, scaled in axes
    ]
    return torch.cat([*parts, tile.valid.to(cube)], 1)


@lru_cache(maxsize=16)
def spline_operator(size: int, ratio: int) -> AxisOperator:
    """Cubic-spline interpolation along one axis with corners that agree, (ratio * size, size)."""
    from scipy.ndimage import zoom

    matrix = zoom(np.eye(size), (ratio, 1), order=3, mode="mirror", grid_mode=True)
    matrix[np.abs(matrix) < 1e-12] = 0.0
    return AxisOperator(matrix)
