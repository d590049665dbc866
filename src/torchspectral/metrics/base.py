"""What every reference metric is: sums in float64 that strips of a scene add to, and that merge."""

from __future__ import annotations

from typing import ClassVar, Self

import torch

from torchspectral.errors import BadInput, BandMismatch, GridMismatch


class Metric:
    """Base of the metrics that compare an output with the truth.

    ``update`` is called once a strip of rows (the whole width of the scene), ``merge`` joins the sums of two workers,
    ``compute`` gives the figure. Whole images are one strip.

    Attributes
    ----------
    name : str
    best : {"low", "high"}
        Which way is better.
    ideal : float
        Value of identical images.
    align : int
        Strips must start at a multiple of so many rows, and all but the last have a multiple of them.
    context : int
        Rows below a strip that must be handed over with it (windows that start in the strip reach there).
    """

    name: ClassVar[str] = ""
    best: ClassVar[str] = "low"
    ideal: ClassVar[float] = 0.0
    align: int = 1
    context: int = 0

    def __init__(self) -> None:
        self.sums: dict[str, torch.Tensor] = {}

    def update(
        self, output: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor | None = None, context: int = 0
    ) -> Self:
        """Add a strip.

        Parameters
        ----------
        output, truth : Tensor, shape (band, y, x)
        valid : Tensor of bool, shape (y, x), optional
            Pixels that count; all by default.
        context : int
            How many of the rows at the end are context only.

        Raises
        ------
        GridMismatch, BandMismatch
            The shapes differ.
        """
        check_shapes(output, truth)
        if valid is None:
            valid = torch.ones(output.shape[-2:], dtype=torch.bool, device=output.device)
        self._add(self._strip(output.double(), truth.double(), valid, context))
        return self

    def _strip(
        self, output: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor, context: int
    ) -> dict[str, torch.Tensor]:
        """Sums of one strip; names that begin with "max_" merge by maximum, others by addition."""
        raise NotImplementedError

    def _add(self, sums: dict[str, torch.Tensor]) -> None:
        for key, value in sums.items():
            if key not in self.sums:
                self.sums[key] = value
            elif key.startswith("max_"):
                self.sums[key] = torch.maximum(self.sums[key], value)
            else:
                self.sums[key] = self.sums[key] + value

    def merge(self, other: Metric) -> Self:
        """Take in the sums of another instance with the same options."""
        self._add(other.sums)
        return self

    def reset(self) -> Self:
        """Forget all sums."""
        self.sums = {}
        return self

    def bands(self) -> torch.Tensor | None:
        """Figure of each band, shape (band,), where the metric has one."""
        return None

    def compute(self) -> float:
        """The figure.

        Raises
        ------
        BadInput
            No pixel was counted.
        """
        per_band = self.bands()
        assert per_band is not None
        return float(per_band.mean())

    def _counted(self, key: str = "n") -> torch.Tensor:
        count = self.sums.get(key)
        if count is None or not bool((count > 0).any()):
            raise BadInput(f"{self.name}: no valid pixel (or whole window) was compared: nothing to measure")
        return count


def check_shapes(output: torch.Tensor, truth: torch.Tensor) -> None:
    """Refuse images of different shapes.

    Raises
    ------
    GridMismatch, BandMismatch
    """
    if output.ndim != 3 or truth.ndim != 3:
        raise GridMismatch(f"got shapes {tuple(output.shape)} and {tuple(truth.shape)}, expected (band, y, x) twice")
    if output.shape[0] != truth.shape[0]:
        raise BandMismatch(f"got {output.shape[0]} bands to compare with {truth.shape[0]}: pick the same bands of both")
    if output.shape[-2:] != truth.shape[-2:]:
        raise GridMismatch(
            f"got {tuple(output.shape[-2:])} pixels to compare with {tuple(truth.shape[-2:])}: bring both to one grid"
        )


def measure(metric: Metric, output: torch.Tensor, truth: torch.Tensor, valid: torch.Tensor | None = None) -> float:
    """Figure of one pair of images, shape (band, y, x)."""
    return metric.reset().update(output, truth, valid).compute()
