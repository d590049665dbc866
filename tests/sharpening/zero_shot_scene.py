"""The simulated scene of the reference runs: twelve bands, ratio 6, Wald's protocol."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

import torchspectral as ts
from torchspectral import metrics
from torchspectral.ops.interpolate import ideal_interp
from torchspectral.sharpening.zero_shot.stack import Stack

CASES = Path(__file__).resolve().parent.parent / "parity" / "cases" / "pansharpening-toolbox"


def make(bands: int = 12, lr: int = 34, ratio: int = 6, seed: int = 777, materials: int = 6) -> dict[str, np.ndarray]:
    """The recipe of the parity cases."""
    sys.path.insert(0, str(CASES.parent.parent))
    try:
        spec = importlib.util.spec_from_file_location("_zero_shot_scene", CASES / "scene.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.make_scene(bands, lr, ratio, seed, materials=materials)
    finally:
        sys.path.remove(str(CASES.parent.parent))


def reference_scene() -> tuple[Stack, Any]:
    """Stack in the authors' units, and the truth; wavelengths 450 to 1000 nm."""
    scene = make()
    cube = ts.make_cube(scene["gt"], wavelength=np.linspace(450, 1000, 12))
    pair = ts.simulate_wald(cube, 6, ts.make_cube(scene["pan"][None]), rounding="round", normalize=False)
    low, pan = (torch.from_numpy(pair[name].values).float() for name in ("hs", "pan"))
    fine = ideal_interp(low, 6, border="wrap").round().clamp(0, 65535) / 65536
    low, pan = low / 65536, pan / 65536
    stack = Stack(pan[None], lambda bands: low[None, bands], 12, np.linspace(450, 1000, 12), fine=fine[None])
    return stack, pair["truth"]


def quality(method: Any, stack: Stack, state: dict[str, Any], truth: Any) -> list[float]:
    """ERGAS, SAM [deg] and Q2n as the benchmark crops them."""
    bands = [method.predict(state["networks"][b], stack.up(b), stack.pan) for b in range(stack.bands)]
    out = truth.copy(data=(torch.cat(bands, 1)[0] * 65536).round().clamp(0, 65535).numpy())
    kinds = [metrics.ERGAS(6), metrics.SAM(), metrics.Q2n(rounding=True)]
    return ts.score(out, truth, metrics=kinds, crop=(10, 11))["scores"]["value"].tolist()
