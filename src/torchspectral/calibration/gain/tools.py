"""The practical tools by name, each from `task.Task` to gains."""

from __future__ import annotations

from torchspectral.calibration.gain.by_columns import flat, histogram, moments, polynomial
from torchspectral.calibration.gain.by_overlap import overlap
from torchspectral.calibration.gain.by_spectra import spectral
from torchspectral.errors import BadSettings, closest

TOOLS = {
    "overlap": overlap, "spectral": spectral, "flat": flat, "moments": moments, "histogram": histogram,
    "polynomial": polynomial,
}  # fmt: skip


def unknown(method: str) -> BadSettings:
    """Error about a method that does not exist."""
    return BadSettings(f"unknown gain method {method!r}: {closest(method, tuple(TOOLS))}")
