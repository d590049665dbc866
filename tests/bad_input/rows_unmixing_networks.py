"""Bad inputs of the unmixing networks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from table import Row

import torchspectral as ts
from torchspectral.errors import BadInput, BadSettings, BadWeights, BandMismatch, MissingWeights, TooLarge


def _cube(bands: int = 8, rows: int = 12, cols: int = 12) -> xr.DataArray:
    values = np.random.default_rng(0).random((bands, rows, cols)).astype(np.float32)
    return ts.make_cube(values, wavelength=np.linspace(400, 2400, bands), quantity="reflectance")


def _unmix(method: str, k: Any = 3, scene: xr.DataArray | None = None, **more: Any) -> Any:
    settings = more.pop("settings", {})
    return ts.unmix(_cube() if scene is None else scene, k, method=method, settings=settings, **more)


def _weights(folder: Path, name: str, **sizes: int) -> Path:
    torch.manual_seed(0)
    path = folder / "weights.pth"
    torch.save(ts.create_model(name, **sizes).state_dict(), path)
    return path


def _with(name: str, **sizes: int) -> Any:
    return lambda folder: _weights(folder, name, **sizes)


ROWS = [
    Row("network-k-missing", lambda tmp: _unmix("msnet", None), BadSettings, "msnet needs k, the number of endmembers"),
    Row("network-k-one", lambda tmp: _unmix("pgmsu", 1), BadSettings, "at least 2 endmembers"),
    Row("network-k-more-than-bands", lambda tmp: _unmix("admmnet", 12), BadInput, "at most 9"),
    Row("network-patch-too-large", lambda tmp: _unmix("cnnaeu"), BadSettings, "40 x 40 .* set patch=12 or less"),
    Row("network-scene-too-small", lambda tmp: _unmix("undip", scene=_cube(8, 2, 9)), BadInput, "at least 3"),
    Row("network-library-missing", lambda tmp: _unmix("suncnn", None), BadInput, "library"),
    Row("network-kernel-even", lambda tmp: _unmix("undip", settings={"kernel": 4}), BadSettings, "an odd side"),
    Row(
        "network-size-no-multiple",
        lambda tmp: _unmix("deeptrans-hsu", settings={"size": 12, "patch": 5}),
        BadSettings,
        "a multiple of the patch",
    ),
    Row(
        "network-token-indivisible",
        lambda tmp: _unmix("deeptrans-hsu", settings={"patch": 5, "dim": 8}),
        BadSettings,
        "dim \\* k = 24 a multiple of patch",
    ),
    Row(
        "network-overlap-too-large",
        lambda tmp: _unmix("deeptrans-hsu", settings={"size": 8, "patch": 4, "dim": 16, "overlap": 8}),
        BadSettings,
        "expected less",
    ),
    Row(
        "network-too-large",
        lambda tmp: _unmix("misicnet", max_memory="1MB"),
        TooLarge,
        "at once needs",
    ),
    Row(
        "network-weights-of-other-bands",
        lambda path: _unmix("cycu-net", None, weights=path),
        BandMismatch,
        "for 5 bands and the scene has 8",
        prepare=_with("cycu-net", bands=5, k=3),
    ),
    Row(
        "network-weights-of-other-k",
        lambda path: _unmix("msnet", 4, weights=path),
        BadSettings,
        "k=4 and weights for 3",
        prepare=_with("msnet", bands=8, k=3),
    ),
    Row(
        "network-weights-of-another-size",
        lambda path: _unmix("deeptrans-hsu", None, weights=path, settings={"size": 12}),
        BadWeights,
        "of another shape",
        prepare=_with("deeptrans-hsu", bands=8, k=3, size=8, patch=4, dim=16),
    ),
    Row(
        "network-weights-of-another-network",
        lambda path: _unmix("pgmsu", None, weights=path),
        BadWeights,
        "expected those of pgmsu",
        prepare=_with("msnet", bands=8, k=3),
    ),
    Row(
        "network-weights-without-network",
        lambda path: ts.unmix(_cube(), 3, weights=path),
        BadSettings,
        "got weights for vca-fcls, which has none",
        prepare=_with("msnet", bands=8, k=3),
    ),
    Row(
        "network-weights-missing",
        lambda tmp: _unmix("admmnet", None, weights="admmnet.nowhere"),
        MissingWeights,
        "admmnet.nowhere",
    ),
]
