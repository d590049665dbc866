"""Training a network on the very scene that it is to work on: one loop, whose rounds the engine journals and resumes."""

from __future__ import annotations

import math
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import nn

from torchspectral.engine.method import Round, State
from torchspectral.errors import BadInput
from torchspectral.learn.sampling import seed_of

ROUNDS = 200
"""States on the way that can be journaled."""
LOSSES = 50
"""Losses on the way that are kept."""


@dataclass(frozen=True)
class FitPlan:
    """How long and how fast a network is trained.

    Attributes
    ----------
    steps : int
        Optimiser steps.
    learning_rate : float
    optimiser : {"adam", "rmsprop"}
    weight_decay : float
    decay, decay_every : float, int
        The rate is multiplied by `decay` after every `decay_every` steps; 0: never.
    clip, clip_norm : float
        Largest norm of the gradient (0: any), and which norm.
    """

    steps: int
    learning_rate: float
    optimiser: Literal["adam", "rmsprop"] = "adam"
    weight_decay: float = 0.0
    decay: float = 1.0
    decay_every: int = 0
    clip: float = 0.0
    clip_norm: float = 2.0

    def rate(self, step: int) -> float:
        """Learning rate of a step, from 0."""
        return self.learning_rate * (self.decay ** (step // self.decay_every) if self.decay_every else 1.0)

    def optimiser_of(self, network: nn.Module) -> torch.optim.Optimizer:
        """A fresh optimiser for what can be learned."""
        learned = [p for p in network.parameters() if p.requires_grad]
        kind = torch.optim.Adam if self.optimiser == "adam" else torch.optim.RMSprop
        return kind(learned, lr=self.learning_rate, weight_decay=self.weight_decay)


class SceneObjective:
    """What a network is trained for on a scene; `train_on_scene` asks it for the loss of each step.

    All that is drawn at random must follow from the step alone, or come from torch's own generator, which is seeded for
    every step: then a fit that was stopped goes on as if it had not been.
    """

    def loss(self, step: int) -> torch.Tensor:
        """Loss of a step, from 0, with its graph."""
        raise NotImplementedError

    def after(self, step: int) -> None:
        """What is done after the optimiser's step: keep weights in bounds, note an average."""

    def kept(self) -> State:
        """What a resumed fit must know beside weights, optimiser and step."""
        return {}

    def restore(self, kept: State) -> None:
        """Take back what `kept` gave."""


def train_on_scene(
    network: nn.Module,
    objective: SceneObjective,
    plan: FitPlan,
    seed: int,
    running: State | None = None,
    carried: State | None = None,
) -> Generator[Round, None, list[float]]:
    """Train a network in rounds.

    Parameters
    ----------
    network : Module
        On its device, with the weights to start from; holds the trained ones when the rounds are over.
    objective : SceneObjective
    plan : FitPlan
    seed : int
    running : State, optional
        ``state["running"]`` of the last journaled round, from which it goes on.
    carried : State, optional
        Values that every round's state repeats, such as what the fit started from.

    Yields
    ------
    state, fraction
        ``{"running": ...}`` and the share done, below 1. The state refers to the weights that are being trained: it
        must be written, as the engine does, before the next round is asked for.

    Returns
    -------
    list of float
        Losses on the way, the last one included.

    Raises
    ------
    BadInput
        The loss is no number any more.
    """
    optimiser = plan.optimiser_of(network)
    first, losses = 0, []
    if running:
        network.load_state_dict(running["network"])
        optimiser.load_state_dict(running["optimiser"])
        objective.restore(running["kept"])
        first, losses = int(running["step"]), list(running["losses"])
    network.train()
    every, noted = max(1, plan.steps // ROUNDS), max(1, plan.steps // LOSSES)
    for step in range(first, plan.steps):
        torch.manual_seed(seed_of(seed, step))
        for group in optimiser.param_groups:
            group["lr"] = plan.rate(step)
        optimiser.zero_grad()
        loss = objective.loss(step)
        loss.backward()
        if plan.clip:
            nn.utils.clip_grad_norm_(network.parameters(), plan.clip, plan.clip_norm)
        optimiser.step()
        objective.after(step)
        if step % noted == 0 or step + 1 == plan.steps:
            losses.append(_checked(float(loss.detach()), step))
        if (step + 1) % every == 0 and step + 1 < plan.steps:
            now: dict[str, Any] = {
                **(carried or {}),
                "step": step + 1,
                "losses": losses,
                "network": network.state_dict(),
                "optimiser": optimiser.state_dict(),
                "kept": objective.kept(),
            }
            yield {"running": now}, (step + 1) / plan.steps
    return losses


def _checked(loss: float, step: int) -> float:
    if not math.isfinite(loss):
        raise BadInput(
            f"the fit diverged at step {step + 1} (loss {loss}): set a smaller learning rate, or mask pixels that are "
            "far off the others"
        )
    return loss
