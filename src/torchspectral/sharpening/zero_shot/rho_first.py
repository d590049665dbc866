"""First phase of rho-PNN: an ensemble on the first band, averaged, then epochs under hysteresis."""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch

from torchspectral.sharpening.zero_shot.hysteresis import Hysteresis
from torchspectral.sharpening.zero_shot.losses import LOSS_BORDER, LocalCorrelation
from torchspectral.sharpening.zero_shot.networks import RPNNNetwork
from torchspectral.sharpening.zero_shot.rho_tuning import Objective, moving_average
from torchspectral.sharpening.zero_shot.salience import grid_pieces
from torchspectral.sharpening.zero_shot.stack import Stack

if TYPE_CHECKING:
    from torchspectral.sharpening.zero_shot.rho_pnn import RhoPNN


def is_first_phase(running: dict[str, Any]) -> bool:
    """Whether what an interrupted adaptation kept is of this phase."""
    return "phase" in running


def first_phase(
    method: RhoPNN,
    net: RPNNNetwork,
    optimiser: torch.optim.Optimizer,
    stack: Stack,
    band: int,
    running: dict[str, Any],
    seed: int,
    facts: dict[str, Any],
) -> Iterator[tuple[dict[str, Any], float]]:
    """Train `net` on one band; yields what a resumed run needs, and the fraction done.

    Parameters
    ----------
    method : RhoPNN
    net, optimiser
        Trained in place; the optimiser's moments are those of the epochs, not of the ensemble.
    stack : Stack
    band : int
    running : dict
        What was yielded last, or empty.
    seed : int
        Of the shuffling.
    facts : dict
        Gets ``first_band_ratio``: spectral loss at the end against the interpolated band's.
    """
    s = method.settings
    patches = _Patches(method, stack, band)
    generator = torch.Generator().manual_seed(seed)
    if running:
        generator.set_state(running["generator"].cpu())
    total = s.ensemble * s.ensemble_epochs + s.epochs
    phase, done = running.get("phase", "ensemble"), int(running.get("step", 0))
    if phase == "ensemble":
        sums: dict[str, torch.Tensor] | None = running.get("sums")
        for number in range(done, s.ensemble):
            copy = deepcopy(net)
            own = torch.optim.Adam(copy.parameters(), lr=s.learning_rate)
            for _ in range(s.ensemble_epochs):
                for objective, x in patches.batches(generator):
                    own.zero_grad()
                    objective.spectral(copy(x)).backward()
                    own.step()
            now = copy.state_dict()
            sums = {k: v.double() + (sums[k] if sums else 0.0) for k, v in now.items()}
            kept = {"phase": "ensemble", "step": number + 1, "network": dict(net.state_dict()), "sums": sums}
            yield {**kept, "generator": generator.get_state()}, (number + 1) * s.ensemble_epochs / max(total, 1)
        assert sums is not None
        net.load_state_dict({k: (v / s.ensemble).float() for k, v in sums.items()})
        done, average, weight = 0, None, 0.0
    else:
        optimiser.load_state_dict(running["optimiser"])
        average, weight = running["average"], running["weight"]
    for epoch in range(done, s.epochs):
        for objective, x in patches.batches(generator):
            average, weight = _hysteresis_step(method, net, optimiser, objective, x, average, weight)
        kept = {"phase": "epochs", "step": epoch + 1, "network": dict(net.state_dict()), "average": average}
        kept |= {"optimiser": optimiser.state_dict(), "weight": weight, "generator": generator.get_state()}
        yield kept, (s.ensemble * s.ensemble_epochs + epoch + 1) / max(total, 1)
    if average is not None:
        net.load_state_dict(average)
    facts["first_band_ratio"] = patches.ratio(net)
    facts["first_band_reached"] = average is not None


def _hysteresis_step(
    method: RhoPNN,
    net: RPNNNetwork,
    optimiser: torch.optim.Optimizer,
    objective: Objective,
    x: torch.Tensor,
    average: dict[str, torch.Tensor] | None,
    weight: float,
) -> tuple[dict[str, torch.Tensor] | None, float]:
    s = method.settings
    with torch.no_grad():
        reference = float(objective.spectral(x[:, :1]))
    switch = Hysteresis(reference, s.of_mode("spectral_quality"), s.gamma_low)
    switch.on = weight > 0
    optimiser.zero_grad()
    out = net(x)
    spectral = objective.spectral(out)
    colour = float(spectral.detach())
    weight = s.first_beta if switch.update(colour) else 0.0
    loss = spectral + weight * objective.structural(out) if weight > 0 else spectral
    loss.backward()
    optimiser.step()
    if average is not None or colour < switch.low:
        average = moving_average(average, net, s.decay)
    return average, weight


class _Patches:
    """Non-overlapping patches of the first band, in shuffled batches."""

    def __init__(self, method: RhoPNN, stack: Stack, band: int) -> None:
        s, ratio = method.settings, stack.ratio
        self.method, self.view, self.size = method, method.view(ratio), s.batch
        coarse = stack.low(band)
        rows, cols = coarse.shape[-2:]
        side = max(int(s.of_mode("train_patch")) // ratio, 2 * LOSS_BORDER + 2)
        height, width = min(side, rows), min(side, cols)
        self.low = grid_pieces(coarse, height, width)
        self.pan = grid_pieces(stack.pan, height * ratio, width * ratio)
        self.up = grid_pieces(stack.up(band), height * ratio, width * ratio)
        self.valid = self.fine_valid = None
        fine = stack.fine_valid
        if stack.valid is not None and fine is not None:
            valid, fine = grid_pieces(stack.valid, height, width), grid_pieces(fine, height * ratio, width * ratio)
            keep = self.view.crop(valid).flatten(1).sum(1) > 0
            if bool(keep.any()):
                self.low, self.pan, self.up = self.low[keep], self.pan[keep], self.up[keep]
                self.valid, self.fine_valid = valid[keep], fine[keep]
        self.half = -(-ratio // 2)

    def batches(self, generator: torch.Generator) -> Iterator[tuple[Objective, torch.Tensor]]:
        """One epoch."""
        places = torch.randperm(len(self.low), generator=generator)
        for start in range(0, len(places), self.size):
            yield self.pick(places[start : start + self.size])

    def pick(self, which: torch.Tensor) -> tuple[Objective, torch.Tensor]:
        """Losses and input of some patches."""
        which = which.to(self.low.device)
        pan = self.pan[which]
        weight = None if self.valid is None else self.view.crop(self.valid[which])
        fine = None if self.fine_valid is None else self.fine_valid[which]
        low = self.view.crop(self.low[which])
        objective = Objective(self.view, low, LocalCorrelation(pan, self.half), weight, fine)
        return objective, self.method.padded(self.up[which], pan)

    def ratio(self, net: RPNNNetwork) -> float:
        """Spectral loss of the network over that of the interpolated band."""
        above = below = 0.0
        with torch.no_grad():
            for start in range(0, len(self.low), self.size):
                objective, x = self.pick(torch.arange(start, min(start + self.size, len(self.low))))
                above += float(objective.spectral(net(x))) * len(x)
                below += float(objective.spectral(x[:, :1])) * len(x)
        return above / below if below > 0 else float("nan")
