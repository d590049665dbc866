"""What the methods that add PAN detail to an interpolated image have in common."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch

from torchspectral.engine.method import SceneInfo, Size, State, Tile
from torchspectral.errors import BadInput
from torchspectral.ops.interpolate import interpolation_halo
from torchspectral.ops.mtf import HS_GAIN, kernel_size, mtf_filter
from torchspectral.ops.resize import imresize
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.fusion import Fusion, FusionSettings


class InjectionSettings(FusionSettings):
    """Settings that all classical sharpening methods share."""

    compat: Literal["", "authors-code"] = setting(
        "", "'authors-code': unnormalised MTF kernels, circular border and no guards, as the benchmark's code"
    )


class SensorSettings(InjectionSettings):
    """Settings of the methods that model the sensor's MTF."""

    mtf_gain: float = setting(
        0.0, "amplitude of the sensor's MTF at Nyquist; 0: the sensor's own, 0.3 where unknown", ge=0, lt=1
    )


class Injection(Fusion):
    """Base of the classical methods: halo, MTF gain, the interpolated image."""

    Settings: ClassVar[type[Settings]] = InjectionSettings
    uses_mtf: ClassVar[bool] = False
    """Whether the PAN is low-passed with a 41-tap kernel."""

    def prepare(self, info: SceneInfo) -> None:
        """Set the halo from the ratio.

        Raises
        ------
        GridMismatch
            The PAN is not finer than the cube.
        """
        ratio = self.check_ratio(info)
        self.halo = interpolation_halo(ratio) + (-(-(kernel_size(ratio) // 2) // ratio) if self.uses_mtf else 0)

    def gain(self, info: SceneInfo) -> float:
        """MTF gain of the hyperspectral sensor."""
        known = float(info.mtf.get("cube", 0.0) or 0.0)
        chosen: float = getattr(self.settings, "mtf_gain", 0.0) or (known if 0 < known < 1 else HS_GAIN)
        return chosen

    def coarse_pan(self, tile: Tile, ratio: int) -> torch.Tensor:
        """The PAN as the hyperspectral sensor would see it, (n, 1, y, x) on the lead grid."""
        return mtf_filter(tile["pan"], ratio, self.gain(tile.info), normalize=not self.as_authors, decimated=True)

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes beside the inputs: the interpolated tile twice, and float64 copies of the coarse one."""
        coarse = size.bands * size.rows * size.cols
        band = size.rows * size.cols * size.zoom**2
        fine = size.bands * band
        return {"fit": 32 * coarse + 4 * fine + 40 * band, "apply": 4 * coarse + 12 * fine + 40 * band}


def merge_sums(left: State, right: State) -> State:
    """Add two dictionaries of sums; names that begin with "min_" or "max_" keep the extreme."""
    joined = {}
    for key, value in left.items():
        other = right[key]
        if key.startswith("min_"):
            joined[key] = torch.minimum(value, other)
        elif key.startswith("max_"):
            joined[key] = torch.maximum(value, other)
        else:
            joined[key] = value + other
    return joined


def check_count(n: Any, what: str, least: int = 2) -> int:
    """Refuse scenes without enough valid pixels.

    Raises
    ------
    BadInput
    """
    if int(n) < least:
        raise BadInput(f"got {int(n)} valid pixels for the statistics of {what}, expected at least {least}")
    return int(n)


RESIZE_REACH = 6
"""Coarse pixels that reducing and enlarging again with the bicubic kernel looks at on each side."""


def reduce_enlarge(fine: torch.Tensor, ratio: int) -> torch.Tensor:
    """Low-pass of a fine image: bicubic reduction with antialiasing and bicubic enlargement, same shape."""
    return imresize(imresize(fine, 1 / ratio), ratio)


def safe_ratio(above: torch.Tensor, below: torch.Tensor) -> torch.Tensor:
    """``above / below``, 0 where `below` is 0 (a constant band or PAN injects nothing)."""
    return torch.where(below > 0, above / torch.where(below > 0, below, 1.0), 0.0)


def per_band(values: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """Vector (band,) as (1, band, 1, 1) in the dtype of an image."""
    return values.to(device=like.device, dtype=like.dtype).reshape(1, -1, 1, 1)
