"""Tuning of one band in rho-PNN: spectral loss first, structural loss under hysteresis, averaged weights."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from torchspectral.sharpening.zero_shot.guard import Trace
from torchspectral.sharpening.zero_shot.hysteresis import Hysteresis, adapt_beta
from torchspectral.sharpening.zero_shot.losses import LocalCorrelation, spectral_loss, weighted_mean
from torchspectral.sharpening.zero_shot.networks import RPNNNetwork
from torchspectral.sharpening.zero_shot.salience import equal_pieces, grid_pieces
from torchspectral.sharpening.zero_shot.stack import Stack

if TYPE_CHECKING:
    from torchspectral.sharpening.zero_shot.rho_pnn import RhoPNN


class Batch:
    """The pieces that bands are tuned on.

    Parameters
    ----------
    method : RhoPNN
    stack : Stack
    chosen : list of int
        Which of the equal pieces.
    """

    def __init__(self, method: RhoPNN, stack: Stack, chosen: list[int]) -> None:
        self.method, self.stack, self.chosen = method, stack, chosen
        self.view = method.view(stack.ratio)
        valid = stack.valid
        self.weight = None if valid is None else self.view.crop(self._coarse(valid))
        self.pan = self._fine(stack.pan)
        fine = stack.fine_valid
        self.fine_weight = None if fine is None else self._fine(fine)
        self.field = LocalCorrelation(self.pan, -(-stack.ratio // 2))

    def _coarse(self, image: torch.Tensor) -> torch.Tensor:
        return equal_pieces(image, self.method.settings.tuning_patch)[self.chosen]

    def _fine(self, image: torch.Tensor) -> torch.Tensor:
        ratio, side = self.stack.ratio, self.method.settings.tuning_patch
        rows, cols = (n // ratio for n in image.shape[-2:])
        height, width = (size // -(-size // side) * ratio for size in (rows, cols))
        return grid_pieces(image, height, width)[self.chosen]

    def band(self, number: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Network's input and the coarse band that its output is held against."""
        x = self.method.padded(self._fine(self.stack.up(number)), self.pan)
        return x, self.view.crop(self._coarse(self.stack.low(number)))


class Objective:
    """Spectral and structural loss of an output of the network.

    Parameters
    ----------
    view : SensorView
    low : Tensor
        The coarse band, cropped.
    field : LocalCorrelation
        With the PAN.
    weight, fine_weight : Tensor or None
        Of valid pixels on both grids.
    """

    def __init__(self, view: Any, low: torch.Tensor, field: LocalCorrelation, weight: Any, fine_weight: Any) -> None:
        self.view, self.low, self.field = view, low, field
        self.weight, self.fine_weight = weight, fine_weight

    def spectral(self, out: torch.Tensor) -> torch.Tensor:
        """Spectral loss."""
        return spectral_loss(self.view(out), self.low, self.weight)

    def structural(self, out: torch.Tensor) -> torch.Tensor:
        """Mean of 1 - |c|."""
        return weighted_mean(1 - self.field(out).abs(), self.fine_weight)


class BandTuning:
    """One band: what `run` leaves in the network are the weights that the band is predicted with.

    Attributes
    ----------
    beta : float
        Adapted weight of the structural loss; NaN where it was never asked for.
    reached : bool
        Whether the spectral loss ever fell below the low limit.
    iterations : int
    """

    def __init__(
        self, method: RhoPNN, net: RPNNNetwork, optimiser: torch.optim.Optimizer, batch: Batch, band: int
    ) -> None:
        s = method.settings
        self.settings, self.net, self.optimiser, self.number = s, net, optimiser, band
        self.x, low = batch.band(band)
        self.objective = Objective(batch.view, low, batch.field, batch.weight, batch.fine_weight)
        with torch.no_grad():
            reference = float(self.objective.spectral(self.x[:, :1]))
        self.switch = Hysteresis(reference, s.of_mode("spectral_quality"), s.gamma_low)
        self.beta, self.reached, self.iterations = float("nan"), False, 0
        self._average: dict[str, torch.Tensor] | None = None

    def run(self, most: int, trace: Trace | None = None) -> None:
        """Iterate until the band was sharpened often enough, at most `most` times."""
        left = wanted = int(self.settings.of_mode("sharpenings"))
        best, saved, weight = np.inf, None, 0.0
        while self.iterations < most and left:
            colour, detail, weight = self._step(weight)
            if trace is not None:
                trace.add(self.number, self.iterations, colour, detail, weight, colour + weight * detail)
            self.iterations += 1
            if colour < self.switch.low and not self.reached:
                self.beta = self._adapted_beta()
                self.reached = True
            if self.reached:
                self._follow()
            if weight > 0:
                left -= 1
                if detail <= best:
                    best, saved = detail, self._weights()
        if left < wanted and saved is not None:
            self.net.load_state_dict(saved)
        if self._average is not None:
            self.net.load_state_dict(self._average)

    def _step(self, weight: float) -> tuple[float, float, float]:
        """One step; the losses before it and the weight that counted."""
        self.optimiser.zero_grad()
        out = self.net(self.x)
        spectral = self.objective.spectral(out)
        colour = float(spectral.detach())
        if self.reached:
            weight = self.beta if self.switch.update(colour) else 0.0
        if weight > 0:
            structural = self.objective.structural(out)
            (spectral + weight * structural).backward()
        else:
            with torch.no_grad():
                structural = self.objective.structural(out)
            spectral.backward()
        self.optimiser.step()
        return colour, float(structural.detach()), weight

    def _adapted_beta(self) -> float:
        """The largest weight that two steps bear; network and optimiser are left as they were."""
        weights, moments = self._weights(), deepcopy(self.optimiser.state_dict())
        with torch.no_grad():
            now = float(self.objective.spectral(self.net(self.x)))

        def trial(beta: float) -> float:
            for _ in range(2):
                self.optimiser.zero_grad()
                out = self.net(self.x)
                (self.objective.spectral(out) + beta * self.objective.structural(out)).backward()
                self.optimiser.step()
            with torch.no_grad():
                after = float(self.objective.spectral(self.net(self.x)))
            self.net.load_state_dict(weights)
            self.optimiser.load_state_dict(deepcopy(moments))
            return after

        s = self.settings
        return adapt_beta(s.of_mode("beta"), s.of_mode("tolerance"), now, trial)

    def _follow(self) -> None:
        """Moving average of the weights."""
        self._average = moving_average(self._average, self.net, self.settings.decay)

    def _weights(self) -> dict[str, torch.Tensor]:
        return {key: value.clone() for key, value in self.net.state_dict().items()}


def moving_average(
    average: dict[str, torch.Tensor] | None, net: torch.nn.Module, decay: float
) -> dict[str, torch.Tensor]:
    """``decay * average + (1 - decay) * weights``; the weights themselves the first time."""
    now = net.state_dict()
    if average is None:
        return {key: value.clone() for key, value in now.items()}
    return {key: average[key].mul_(decay).add_(value, alpha=1 - decay) for key, value in now.items()}
