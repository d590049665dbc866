"""What diffusion spectral entropy costs, and a look of the monitor against an epoch: `python benchmarks/representation.py`.

Times are those of the process (CPU seconds of all its threads), so that other work on the machine does not show.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch

import torchspectral as ts
from machine import measure
from torchspectral.learn.monitor import RepresentationMonitor
from torchspectral.metrics import representation as r


def seconds(work: Callable[[], Any], least: int = 3) -> float:
    """CPU seconds of the quickest of some runs."""
    found = []
    for _ in range(least):
        start = time.process_time()
        work()
        found.append(time.process_time() - start)
    return min(found)


def measures() -> None:
    draw = np.random.default_rng(0)
    for n in (1000, 2000):
        x, labels = draw.standard_normal((n, 512)), np.arange(n) % 10
        print(f"DSE  n={n} d=512: numpy {seconds(lambda x=x: r.dse(x)):.2f} s, ", end="")
        print(f"torch {seconds(lambda x=x: r.dse(torch.from_numpy(x))):.2f} s, ", end="")
        print(f"Renyi-2 {seconds(lambda x=x: r.renyi2(x)):.2f} s, ", end="")
        print(f"200 landmarks {seconds(lambda x=x: r.dse(x, landmarks=200)):.2f} s")
        print(f"DSMI n={n} d=512, 10 classes: {seconds(lambda x=x, y=labels: r.dsmi(x, clusters=y)):.2f} s")


def overhead(model: str, bands: int, side: int, patches: int, samples: int, batch: int) -> None:
    """A look at `samples` patches, in percent of an epoch of `patches` (one step timed, times their number)."""
    torch.manual_seed(0)
    network = ts.create_model(model, bands=bands)
    head = torch.nn.Linear(network.dim, 10)
    optimiser = torch.optim.SGD([*network.parameters(), *head.parameters()], lr=1e-3)
    x = torch.randn(batch, bands, side, side)

    def step() -> None:
        optimiser.zero_grad()
        head(network.forward_features(x)).square().mean().backward()
        optimiser.step()

    with tempfile.TemporaryDirectory() as folder:
        held = torch.randn(samples, bands, side, side)
        monitor = RepresentationMonitor(
            lambda: held.split(batch), lambda net, b: net.forward_features(b), folder, labels=np.arange(samples) % 10,
            inputs=held.mean((2, 3)).numpy(),
        )  # fmt: skip
        network.device = torch.device("cpu")
        trainer = SimpleNamespace(global_step=0)
        monitor.look(trainer, network)  # the input is clustered once
        look = seconds(lambda: monitor.look(trainer, network), least=2)
    epoch = seconds(step) * patches / batch
    print(
        f"{model}, {bands} bands, {side} px: a look at {samples} takes {look:.2f} s, an epoch of {patches} patches "
        f"{epoch:.0f} s: {look / epoch:.1%}"
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="intl-resnet18-cifar")
    parser.add_argument("--bands", type=int, default=32)
    parser.add_argument("--side", type=int, default=16)
    parser.add_argument("--patches", type=int, default=20_000)
    parser.add_argument("--samples", type=int, default=1000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    print(measure())
    measures()
    overhead(given.model, given.bands, given.side, given.patches, given.samples, 50)
