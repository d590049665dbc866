"""True spectra and abundances as published files hold them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.errors import BadInput, BandMismatch
from torchspectral.io.readers.matlab.files import small, variables
from torchspectral.io.readers.matlab.spectra import names_for
from torchspectral.unmixing.places import MAPS, SPECTRA, first_of, is_matlab

SAMSON = {"v1": (0.239, 0.377, 0.384), "v2": (0.262, 0.297, 0.441)}
"""Mean abundances, sorted, of the two truths that circulate for Samson: papers' figures on one cannot be held against
those on the other. v1: CyCU-Net, JAG-MSNet, hu_autoencoders; v2: MiSiCNet, exactly FCLS of its own spectra."""


def read_spectra(file: Path, bands: int) -> tuple[np.ndarray, list[str]]:
    """True spectra (material, band), turned as their bands tell, and their names where the file has any."""
    if not is_matlab(file):
        from torchspectral.io.libraries import read_library

        library = read_library(file)
        return np.asarray(library.values, dtype=np.float64), [str(n) for n in library["spectrum"].values]
    known = variables(file)
    name = first_of(known, SPECTRA, file)
    if not name:
        raise BadInput(f"{file.name} has no endmembers, expected a variable named {', '.join(SPECTRA[:4])}")
    values = small(file, name).astype(np.float64)
    if bands not in values.shape or values.ndim != 2:
        raise BandMismatch(f"{name} of {file.name} is {values.shape}, expected one axis of {bands} bands as the scene")
    values = values.T if values.shape[0] == bands else values
    return values, names_for(file, known, len(values))


def read_maps(file: Path, k: int, size: Sequence[int]) -> tuple[str, dict[str, np.ndarray]]:
    """True abundances (material, y, x) under both orders of the pixels; "image" where the file has images."""
    if not is_matlab(file):
        from torchspectral.io import open_product

        return "image", {"rows": np.asarray(open_product(file).values, dtype=np.float64)}
    known = variables(file)
    name = first_of(known, MAPS, file)
    if not name:
        raise BadInput(f"{file.name} has no abundances, expected a variable named {', '.join(MAPS[:3])}")
    values = small(file, name).astype(np.float64)
    rows, cols = size
    if values.ndim == 2:
        values = values if values.shape == (k, rows * cols) else values.T
        if values.shape != (k, rows * cols):
            raise BandMismatch(
                f"{name} of {file.name} is {values.shape[::-1]}, expected {k} materials and {rows * cols} pixels"
            )
        return "matrix", {
            "rows": values.reshape(k, rows, cols),
            "columns": values.reshape(k, cols, rows).transpose(0, 2, 1),
        }
    axis = [n for n in (2, 0) if values.shape[n] == k]
    if values.ndim != 3 or not axis:
        raise BandMismatch(f"{name} of {file.name} is {values.shape}, expected rows, columns and {k} materials")
    planes = np.moveaxis(values, axis[0], 0)
    found = {"rows": planes} if planes.shape[1:] == (rows, cols) else {}
    if planes.shape[2:0:-1] == (rows, cols):
        found["columns"] = planes.transpose(0, 2, 1)
    if not found:
        raise BandMismatch(
            f"{name} of {file.name} has {planes.shape[1]} x {planes.shape[2]} pixels, expected {rows} x {cols}"
        )
    return "image", found


def materials_of(row: dict[str, Any] | None, k: int) -> list[str]:
    """Names of a published scene's materials, where its table has a list of that many."""
    return next((list(m) for m in (row or {}).get("materials", []) if len(m) == k), [])


def truth_of(row: dict[str, Any] | None, maps: np.ndarray) -> str:
    """Which of Samson's two truths this is."""
    if row is None or row["pixels"] != "Samson" or len(maps) != 3:
        return ""
    means = np.sort(maps.mean((1, 2)))
    off = {name: float(np.abs(means - np.array(known)).max()) for name, known in SAMSON.items()}
    best = min(off, key=lambda name: off[name])
    return best if off[best] < 0.02 else ""
