"""The loop that trains networks on a scene: resumed as if never stopped, rates, bounds, divergence."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from torchspectral.engine.states import load_state, save_state
from torchspectral.errors import BadInput
from torchspectral.learn.on_scene import FitPlan, SceneObjective, train_on_scene


class Recover(SceneObjective):
    """A linear map from noisy samples, with dropout, and a running mean of the loss."""

    def __init__(self, network: nn.Module) -> None:
        self.network, self.mean, self.wide = network, torch.zeros(()), 0

    def loss(self, step: int) -> torch.Tensor:
        x = torch.rand(16, 3)
        loss = (self.network(x) - x.sum(1, keepdim=True)).square().mean()
        self.mean = 0.9 * self.mean + 0.1 * loss.detach()
        return loss

    def after(self, step: int) -> None:
        self.wide = step

    def kept(self):
        return {"mean": self.mean}

    def restore(self, kept) -> None:
        self.mean = kept["mean"]


def _network() -> nn.Module:
    torch.manual_seed(3)
    return nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Dropout(0.2), nn.Linear(8, 1))


def _finish(rounds):
    seen = []
    while True:
        try:
            seen.append(next(rounds))
        except StopIteration as stop:
            return seen, stop.value


PLANS = [
    FitPlan(12, 1e-2),
    FitPlan(12, 1e-2, optimiser="rmsprop", weight_decay=1e-3, decay=0.5, decay_every=5, clip=0.1, clip_norm=1.0),
]


@pytest.mark.parametrize("plan", PLANS)
@pytest.mark.parametrize("stop", [1, 7])
def test_resumed_is_uninterrupted(plan, stop, tmp_path) -> None:
    whole, objective = _network(), None
    objective = Recover(whole)
    seen, losses = _finish(train_on_scene(whole, objective, plan, 5, None, {"start": {"k": 3}}))
    assert len(seen) == plan.steps - 1 and all(0 < fraction < 1 for _, fraction in seen)
    assert seen[0][0]["running"]["start"] == {"k": 3}

    first = _network()
    for number, (state, _) in enumerate(train_on_scene(first, Recover(first), plan, 5), start=1):
        if number == stop:
            save_state(tmp_path / "state", state)
            break
    torch.manual_seed(99)
    second = _network()
    again = Recover(second)
    running = load_state(tmp_path / "state")["running"]
    _, resumed = _finish(train_on_scene(second, again, plan, 5, running))
    assert resumed == losses
    assert torch.equal(again.mean, objective.mean)
    for key, value in whole.state_dict().items():
        assert torch.equal(value, second.state_dict()[key]), key


def test_the_rate_falls_in_steps() -> None:
    plan = FitPlan(10, 1.0, decay=0.5, decay_every=4)
    assert [plan.rate(step) for step in (0, 3, 4, 8)] == [1.0, 1.0, 0.5, 0.25]
    assert FitPlan(10, 1.0).rate(9) == 1.0


def test_another_seed_is_another_fit() -> None:
    results = []
    for seed in (0, 0, 1):
        network = _network()
        results.append(_finish(train_on_scene(network, Recover(network), PLANS[0], seed))[1])
    assert results[0] == results[1] != results[2]


def test_a_fit_that_diverges_says_so() -> None:
    class Broken(Recover):
        def loss(self, step: int) -> torch.Tensor:
            return super().loss(step) * (math.nan if step == 3 else 1.0)

    network = _network()
    with pytest.raises(BadInput, match=r"diverged at step 4 .* smaller learning rate"):
        _finish(train_on_scene(network, Broken(network), PLANS[0], 0))
