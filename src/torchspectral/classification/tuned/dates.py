"""Scenes of two dates on the same pixels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from torchspectral.errors import BadInput, BadSettings, BandMismatch, GridMismatch
from torchspectral.geo.grids import grid_of
from torchspectral.learn.scenes import OpenedScene, open_scenes


def with_later(
    scenes: Sequence[OpenedScene], files: Sequence[str], fitted: Callable[[OpenedScene], OpenedScene]
) -> list[OpenedScene]:
    """Put the later scene beside each; Datasets may have it already as ``later``.

    Raises
    ------
    BadSettings, BadInput
        Not one later scene for each.
    GridMismatch, BandMismatch
        They do not show the same pixels, or not in the same bands.
    """
    if files and len(files) != len(scenes):
        raise BadSettings(f"got {len(files)} later scenes for {len(scenes)}, expected one for each (later=[..])")
    made = []
    for number, scene in enumerate(scenes):
        if not files:
            if not isinstance(scene.scene, xr.Dataset) or "later" not in scene.scene:
                raise BadInput(f"{scene.name} comes without a later date: give --set later=[FILE, ..], one a scene")
            made.append(scene)
            continue
        (opened,) = open_scenes(Path(files[number]))
        later = fitted(opened).cube
        check_later(scene.cube, later)
        more = {} if not isinstance(scene.scene, xr.Dataset) else {n: a for n, a in scene.scene.items() if n != "later"}
        plain = xr.Variable(("band", "y", "x"), later.variable._data, later.attrs)
        both = xr.Dataset({**(more or {"cube": scene.cube}), "later": plain}, attrs=scene.scene.attrs)
        made.append(replace(scene, scene=both, fingerprint=f"{scene.fingerprint} {opened.fingerprint}"))
    return made


def check_later(cube: xr.DataArray, later: xr.DataArray) -> None:
    """Refuse a later scene on other pixels or in other bands.

    Raises
    ------
    GridMismatch, BandMismatch
    """
    here, there = grid_of(cube), grid_of(later)
    if cube.shape[-2:] != later.shape[-2:] or (here.kind != "none" and there.kind != "none" and here != there):
        raise GridMismatch(
            f"the later scene has {later.shape[-2]} x {later.shape[-1]} pixels at another place or of another size, "
            f"expected the {cube.shape[-2]} x {cube.shape[-1]} of the first: bring it there (torchspectral coregister)"
        )
    if cube.sizes["band"] != later.sizes["band"]:
        raise BandMismatch(f"the later scene has {later.sizes['band']} bands, expected {cube.sizes['band']}")
    gap = np.abs(np.asarray(cube["wavelength"].values) - np.asarray(later["wavelength"].values))
    if np.isfinite(gap).any() and float(np.nanmax(gap)) > 5:
        raise BandMismatch(f"the later scene lies up to {np.nanmax(gap):.1f} nm off the first, expected at most 5 nm")
