"""Fitting a deep prior on one scene: the image that a network draws out of noise must look like the scene."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from torchspectral.engine.method import State
from torchspectral.ops.axis import AxisOperator, apply, gather
from torchspectral.ops.mtf import HS_GAIN, mtf_filter
from torchspectral.sharpening.deep.moments import adam_state, fill_adam, fill_network, network_state
from torchspectral.sharpening.deep.priors import SMALLEST_CANVAS, DHPNetwork, DIPNetwork, PanPrediction, lanczos

ROUND = 5
"""Iterations between two states that can be journaled."""
NOISE = 0.1
"""Largest value of the uniform noise that the network gets."""
DHP_TAPS = 9


@dataclass(frozen=True)
class PriorPlan:
    """How a prior is fitted.

    Attributes
    ----------
    kind : {"dip", "dhp"}
        DIP is held against the coarse image through a Lanczos window, and against the PAN by `PanPrediction`, which
        is learned beside it; DHP against the coarse image only, through an MTF kernel of 9 taps.
    iterations : int
        Steps of Adam.
    learning_rate : float
    drop : int
        Step after which the rate is a tenth; 0: never.
    pan_weight : float
        Weight of the PAN in the loss of DIP.
    channels : int
        Of the network's levels.
    mtf_gain : float
        Amplitude of the sensor's MTF at Nyquist, for DHP.
    as_authors : bool
        Decimate DIP's image at the middle of each coarse pixel, half a fine pixel off the interpolator's grid at even
        ratios, and do not normalise DHP's kernel.
    """

    kind: Literal["dip", "dhp"]
    iterations: int
    learning_rate: float
    drop: int = 0
    pan_weight: float = 0.6
    channels: int = 128
    mtf_gain: float = HS_GAIN
    as_authors: bool = False


@dataclass(frozen=True)
class PriorScene:
    """What a prior is fitted on.

    Attributes
    ----------
    low : Tensor, shape (1, bands, y, x)
        Finite everywhere.
    pan : Tensor, shape (1, 1, R * y, R * x)
    valid : Tensor, shape (1, 1, y, x)
        1 where a coarse pixel counts, 0 where it is nodata.
    """

    low: torch.Tensor
    pan: torch.Tensor
    valid: torch.Tensor

    @property
    def ratio(self) -> int:
        """Fine pixels per coarse pixel."""
        return self.pan.shape[-1] // self.low.shape[-1]


def build(plan: PriorPlan, bands: int) -> nn.Module:
    """The plan's network with fresh weights."""
    if plan.kind == "dip":
        return DIPNetwork(bands, channels=plan.channels)
    return DHPNetwork(bands, channels=plan.channels)


def noise(plan: PriorPlan, bands: int, rows: int, cols: int, seed: int) -> torch.Tensor:
    """The network's input: even sides that are not smaller than the network can stand."""
    channels = 32 if plan.kind == "dip" else bands
    height, width = (max(SMALLEST_CANVAS, size + size % 2) for size in (rows, cols))
    generator = torch.Generator().manual_seed(seed)
    return NOISE * torch.rand(1, channels, height, width, generator=generator)


def fit_prior(plan: PriorPlan, scene: PriorScene, seed: int, found: State, prefix: str = "prior.") -> Iterator[float]:
    """Fit a prior; yields the fraction done after each round.

    Parameters
    ----------
    plan : PriorPlan
    scene : PriorScene
    seed : int
        Of the noise and of the fresh weights.
    found : State
        Gets the weights (``<prefix>net.``), and while it lasts moments and the step number, from which it goes on.
    prefix : str
    """
    bands, (rows, cols) = scene.low.shape[1], scene.pan.shape[-2:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        networks = nn.ModuleDict({"net": build(plan, bands)})
        if plan.kind == "dip":
            networks["pan"] = PanPrediction(bands)
    networks = networks.to(scene.low).train()
    source = noise(plan, bands, rows, cols, seed).to(scene.low)
    optimiser = torch.optim.Adam([p for p in networks.parameters() if p.requires_grad], lr=plan.learning_rate)
    first = int(found.get(f"{prefix}step", 0))
    losses = list(found.get(f"{prefix}losses", []))
    if first:
        fill_network(networks, found, prefix)
        fill_adam(optimiser, found, f"{prefix}adam.")
    objective = _Objective(plan, scene)
    kept = max(1, plan.iterations // 50)
    for step in range(first, plan.iterations):
        for group in optimiser.param_groups:
            group["lr"] = plan.learning_rate * (0.1 if plan.drop and step >= plan.drop else 1.0)
        optimiser.zero_grad()
        image = networks["net"](source)[..., :rows, :cols]
        loss = objective(image, networks["pan"](image) if "pan" in networks else None)
        loss.backward()
        optimiser.step()
        if step % kept == 0 or step + 1 == plan.iterations:
            losses.append(float(loss.detach()))
        if (step + 1) % ROUND == 0 and step + 1 < plan.iterations:
            found |= network_state(networks, prefix) | adam_state(optimiser, f"{prefix}adam.")
            found |= {f"{prefix}step": step + 1, f"{prefix}losses": losses}
            yield (step + 1) / plan.iterations
    for key in [key for key in found if key.startswith(prefix)]:
        del found[key]
    found |= network_state(networks["net"], f"{prefix}net.")
    found |= {f"{prefix}done": True, f"{prefix}seed": seed, f"{prefix}losses": losses}
    yield 1.0


def draw_prior(plan: PriorPlan, found: State, pan: torch.Tensor, bands: int, prefix: str = "prior.") -> torch.Tensor:
    """The image of a fitted prior, (1, bands, y, x) on the PAN's grid.

    Norms use the statistics of the image itself, as they did in the fit.
    """
    rows, cols = pan.shape[-2:]
    network = build(plan, bands).to(pan).train()
    fill_network(network, found, f"{prefix}net.")
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.0
    with torch.no_grad():
        image: torch.Tensor = network(noise(plan, bands, rows, cols, int(found[f"{prefix}seed"])).to(pan))
    return image[..., :rows, :cols]


class _Objective:
    """Mean absolute differences over valid pixels."""

    def __init__(self, plan: PriorPlan, scene: PriorScene) -> None:
        self.plan, self.scene, self.ratio = plan, scene, scene.ratio
        hole = bool((scene.valid < 1).any())
        self.weight = scene.valid if hole else None
        fine = scene.valid.repeat_interleave(self.ratio, -2).repeat_interleave(self.ratio, -1)
        self.fine_weight = fine if hole else None

    def __call__(self, image: torch.Tensor, predicted: torch.Tensor | None) -> torch.Tensor:
        loss = _mean((self.coarse(image) - self.scene.low).abs(), self.weight)
        if predicted is not None:
            loss = loss + self.plan.pan_weight * _mean((predicted - self.scene.pan).abs(), self.fine_weight)
        return loss

    def coarse(self, image: torch.Tensor) -> torch.Tensor:
        if self.plan.kind == "dhp":
            return mtf_filter(
                image, self.ratio, self.plan.mtf_gain, size=DHP_TAPS, normalize=not self.plan.as_authors, decimated=True
            )
        rows, cols = (lanczos_operator(size, self.ratio, self.plan.as_authors) for size in image.shape[-2:])
        return apply(image, rows, cols)


def _mean(values: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
    if weight is None:
        return values.mean()
    return (values * weight).sum() / (weight.sum() * values.shape[1]).clamp_min(1)


@lru_cache(maxsize=32)
def lanczos_operator(size: int, ratio: int, as_authors: bool = False) -> AxisOperator:
    """Lanczos-2 decimation along one axis, (size // ratio, size), edges repeated.

    The coarse sample k is taken at ``R k + R // 2``, the interpolator's grid, or as in the authors' code between two
    samples near the middle of the coarse pixel.
    """
    taps = lanczos(ratio, 0.5 if as_authors else 0.0)
    first = -int(1.5 * ratio) if as_authors else ratio // 2 - taps.size // 2
    index = np.arange(0, size, ratio)[:, None] + first + np.arange(taps.size)[None, :]
    return gather(index, taps, size, "edge")


def prior_image(plan: PriorPlan, scene: PriorScene, seed: int) -> torch.Tensor:
    """Fit and draw in one call, (1, bands, y, x)."""
    found: dict[str, Any] = {}
    for _ in fit_prior(plan, scene, seed, found):
        pass
    return draw_prior(plan, found, scene.pan, scene.low.shape[1])
