"""Embeddings from a layer file: a fixed sample of its pixels, their labels and spectra, and a picture."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from torchspectral.diagnosis.embedded import LEAST, Embedded
from torchspectral.diagnosis.sampling import ground_groups, stratified
from torchspectral.errors import BadInput, GridMismatch
from torchspectral.geo import grid_of
from torchspectral.log import Progress, Step
from torchspectral.metrics.representation.overview import principal

STRIP_BYTES = 64 << 20
PICTURE = 512
"""Longest side of the picture [pixel]."""


def read_grid(
    layers: xr.DataArray,
    name: str,
    *,
    samples: int,
    seed: int,
    labels: Any = None,
    field: str | None = None,
    spectra: Any = None,
    progress: Progress,
) -> Embedded:
    """Sample embeddings that lie on a grid.

    With labels the samples are labelled pixels. Two passes over the layers, strip by strip.

    Parameters
    ----------
    layers : DataArray, dims (layer, y, x) or (band, y, x)
        Bands count as dimensions; those marked bad are left out.
    samples, seed : int
    labels : path or DataArray (y, x), optional
    field : str, optional
        Column of classes of a vector or table.
    spectra : path or cube, optional
        On the same pixels.

    Raises
    ------
    BadInput
        Too few pixels without nodata, or none of them labelled.
    GridMismatch
    """
    cube = layers.rename({layers.dims[0]: "band"}).transpose("band", "y", "x")
    if "good" in cube.coords and cube["good"].dims == ("band",):
        cube = cube.isel(band=np.flatnonzero(cube["good"].values))
    notes: list[str] = []
    classes = None
    names: list[str] = []
    if labels is not None:
        classes, names = _classes(labels, cube, field)
    valid = _valid(cube, progress)
    mask = valid if classes is None else valid & (classes > 0)
    share = float(valid.mean())
    if share < 1:
        notes.append(f"{1 - share:.1%} of the pixels are nodata and were not drawn")
    if mask.sum() < LEAST:
        what = "labelled pixels with embeddings" if classes is not None else "pixels without nodata"
        raise BadInput(f"{name} has {int(mask.sum())} {what}, expected at least {LEAST}")
    rows, cols = stratified(mask, samples, seed)
    values = _values(cube, rows, cols, progress)
    found = Embedded(
        name,
        values,
        pd.DataFrame({"row": rows, "col": cols}),
        groups=ground_groups(rows, cols, mask.shape),
        labels=None if classes is None else classes[rows, cols].astype(np.int64),
        class_names=names,
        picture=_picture(cube, values),
        notes=notes,
    )
    if spectra is not None:
        found = _with_spectra(found, cube, spectra, progress)
    return found


def _classes(labels: Any, cube: xr.DataArray, field: str | None) -> tuple[np.ndarray, list[str]]:
    from torchspectral.io.labels import labels_on, read_labels

    if not isinstance(labels, xr.DataArray):
        drawn = read_labels(labels, like=cube, field=field)
    elif labels.dims[-2:] == ("y", "x") and labels.ndim in (2, 3) and (labels.ndim == 2 or labels.shape[0] == 1):
        drawn = labels_on(labels[0] if labels.ndim == 3 else labels, cube)
    else:
        raise BadInput(f"got labels {labels.dims} of {labels.shape}, expected one layer of class numbers (y, x)")
    return np.asarray(drawn.values), [str(n) for n in drawn.attrs.get("class_names", [])]


def _strips(cube: xr.DataArray) -> list[slice]:
    rows = max(STRIP_BYTES // (4 * cube.sizes["band"] * cube.sizes["x"]), 1)
    return [slice(r, min(r + rows, cube.sizes["y"])) for r in range(0, cube.sizes["y"], rows)]


def _block(cube: xr.DataArray, rows: slice) -> np.ndarray:
    block = np.asarray(cube.isel(y=rows).values)
    if block.dtype.kind not in "fiu":
        raise BadInput(f"the layers hold {block.dtype}, expected numbers")
    nodata = cube.attrs.get("nodata")
    if block.dtype.kind in "iu":
        gone = block == nodata if nodata is not None else None
        block = block.astype(np.float32)
        if gone is not None:
            block[gone] = np.nan
    return block


def _valid(cube: xr.DataArray, progress: Progress) -> np.ndarray:
    mask = np.zeros((cube.sizes["y"], cube.sizes["x"]), dtype=bool)
    for rows in _strips(cube):
        mask[rows] = np.isfinite(_block(cube, rows)).all(0)
        progress(Step("nodata", rows.stop / cube.sizes["y"]))
    return mask


def _values(cube: xr.DataArray, rows: np.ndarray, cols: np.ndarray, progress: Progress) -> np.ndarray:
    values = np.empty((rows.size, cube.sizes["band"]), dtype=np.float64)
    for strip in _strips(cube):
        here = np.flatnonzero((rows >= strip.start) & (rows < strip.stop))
        if here.size:
            values[here] = _block(cube, strip)[:, rows[here] - strip.start, cols[here]].T
        progress(Step("sample", strip.stop / cube.sizes["y"]))
    return values


def _with_spectra(found: Embedded, like: xr.DataArray, spectra: Any, progress: Progress) -> Embedded:
    """Spectra of the samples from a cube on the same pixels."""
    from torchspectral.io import open_product

    cube = open_product(spectra) if isinstance(spectra, (str, Path)) else spectra
    if not isinstance(cube, xr.DataArray) or "band" not in cube.dims:
        raise BadInput("got spectra that are no cube (band, y, x), expected the scene that the embeddings were made of")
    here, there = grid_of(cube), grid_of(like)
    same = cube.shape[-2:] == like.shape[-2:] and (
        "none" in (here.kind, there.kind) or here.transform is None or here.transform.almost_equals(there.transform)
    )
    if not same:
        raise GridMismatch(
            f"the spectra have {cube.shape[-2]} x {cube.shape[-1]} pixels and the embeddings {like.shape[-2]} x "
            f"{like.shape[-1]}, or they lie elsewhere: give the scene that the embeddings were made of"
        )
    if "good" in cube.coords:
        cube = cube.isel(band=np.flatnonzero(cube["good"].values))
    rows, cols = (found.places[name].to_numpy() for name in ("row", "col"))
    values = _values(cube.transpose("band", "y", "x"), rows, cols, progress)
    keep = np.isfinite(values).all(1)
    if keep.sum() < LEAST:
        raise BadInput(f"{int(keep.sum())} of the samples have spectra without nodata, expected at least {LEAST}")
    if not keep.all():
        found.notes.append(f"{int((~keep).sum())} samples have no spectrum and were left out")
    found.spectra = values
    return found.take(np.flatnonzero(keep))


def _picture(cube: xr.DataArray, values: np.ndarray) -> np.ndarray:
    """The scene, thinned, in the colours of the first three principal components of the samples."""
    step = max(-(-max(cube.sizes["y"], cube.sizes["x"]) // PICTURE), 1)
    mean, axes, _ = principal(values)
    scores = (values - mean) @ axes.T
    low, high = np.percentile(scores, 2, axis=0), np.percentile(scores, 98, axis=0)
    lines = []
    for strip in _strips(cube):
        first = -strip.start % step
        block = _block(cube, strip)[:, first::step, ::step]
        if block.shape[1]:
            bent = np.einsum("kd,dyx->yxk", axes, block - mean[:, None, None])
            lines.append((bent - low) / np.where(high > low, high - low, 1.0))
    picture = np.concatenate(lines)
    picture = np.concatenate([picture, np.repeat(picture[..., -1:], 3 - picture.shape[-1], axis=-1)], axis=-1)
    return np.where(np.isfinite(picture).all(-1, keepdims=True), picture.clip(0, 1), 0.85)
