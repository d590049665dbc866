"""What the parity cases of Z-PNN, R-PNN and rho-PNN share: their scene, box means, the sample in MATLAB format."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from parity_case import Case


def scene_stack(case: Case, scale: float = 65536.0) -> tuple[Any, torch.Tensor]:
    """The case's scene as a stack of the band-wise methods, in working units, and its coarse bands."""
    from torchspectral.sharpening.zero_shot.stack import Stack

    spec = case.params["scene"]
    toolbox = Case("scene", case.folder, {**case.meta, "system": "pansharpening-toolbox"})
    made = toolbox.recipe_module("scene").make_scene(spec["bands"], spec["lr"], spec["ratio"], spec["seed"])
    pan, low, fine = (torch.from_numpy(made[name]) / scale for name in ("pan", "ms_lr", "ms"))
    wavelength = made["wavelengths"].astype(np.float64)
    return Stack(pan[None, None], lambda bands: low[None, bands], len(low), wavelength, fine=fine[None]), low


def fused(method: Any, stack: Any, state: Any, scale: float = 65536.0) -> torch.Tensor:
    """All bands of a finished adaptation in rounded counts, (band, y, x)."""
    bands = [method.predict(state["networks"][b], stack.up(b), stack.pan) for b in range(stack.bands)]
    return (torch.cat(bands, 1)[0] * scale).round().clamp(0, 65535)


def box_mean(image: torch.Tensor, side: int) -> torch.Tensor:
    """Box mean with replicated border."""
    wide = torch.nn.functional.pad(image, (side // 2,) * 4, mode="replicate")
    return torch.nn.functional.avg_pool2d(wide, side, 1)
