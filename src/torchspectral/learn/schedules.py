"""Numbers that change over a training, each a function of the share of the steps that are done."""

from __future__ import annotations

import math


def cosine(first: float, last: float, done: float) -> float:
    """From `first` to `last` along half a cosine; `done` 0..1."""
    return last + (first - last) * (1 + math.cos(math.pi * min(max(done, 0.0), 1.0))) / 2


def warmed_up(step: int, steps: int, warm_up: float, last: float = 0.0) -> float:
    """Share of the learning rate at a step: up in a straight line, then down along a cosine.

    Parameters
    ----------
    step, steps : int
        Steps done, of all.
    warm_up : float
        Share of the steps in which the rate rises, 0..1.
    last : float
        Share of the rate after the last step.
    """
    rising = warm_up * steps
    if step < rising:
        return (step + 1) / (rising + 1)
    return cosine(1.0, last, (step - rising) / max(steps - rising, 1))


def stepped(done: float, drops: tuple[float, ...], factor: float = 0.1) -> float:
    """Share of the learning rate that is multiplied by `factor` at each of `drops` (shares of the steps)."""
    return float(factor ** sum(done >= drop for drop in drops))
