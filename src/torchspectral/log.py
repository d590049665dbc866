"""Logging and progress: the library logs through the standard library and never prints."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass


def get_logger(name: str = "") -> logging.Logger:
    """Logger below ``torchspectral``; silent until the application configures logging."""
    return logging.getLogger(f"torchspectral.{name}" if name else "torchspectral")


logging.getLogger("torchspectral").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Step:
    """One progress report.

    Attributes
    ----------
    stage : str
        What is running, for people ("fit", "apply", "write cog").
    fraction : float
        Share of this stage that is done, 0..1.
    detail : str
        Short free text (loss, block number).
    """

    stage: str
    fraction: float
    detail: str = ""


Progress = Callable[[Step], None]


def no_progress(step: Step) -> None:
    """Progress callback that does nothing."""
