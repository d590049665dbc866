"""How the field evaluates super-resolution: bicubic degradation, figures of merit, the parts of Chikusei.

References
----------
Jiang, Sun, Liu, Ma, "Learning spatial-spectral prior for super-resolution of hyperspectral imagery", IEEE TCI 6 (2020)
(SSPSR, whose degradation and figures later papers share); Li, Dai, Konukoglu, Van Gool, arXiv 2101.07589 (2021).
"""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from torchspectral.cube import check_cube, make_cube
from torchspectral.errors import BadCube, BadInput
from torchspectral.geo import grid_of, place
from torchspectral.metrics import ERGAS, MPSNR, MSSIM, SAM, UQI, measure
from torchspectral.metrics.base import check_shapes
from torchspectral.ops.resize import imresize

CHIKUSEI = (slice(106, 2410), slice(143, 2191))
"""Rows and columns of the part of Chikusei that is used, 2304 x 2048 pixels."""
CHIKUSEI_TEST = 512


def degrade(cube: xr.DataArray, scale: int) -> xr.DataArray:
    """Lose resolution as MATLAB's ``imresize(cube, 1 / scale)`` does: bicubic, antialiased.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        Read into memory; rows and columns that do not fill a coarse pixel are cut off below and at the right.
    scale : int

    Returns
    -------
    DataArray, dims (band, y, x)
        On the coarser grid; NaN where a coarse pixel touches nodata.

    Raises
    ------
    BadCube
        Smaller than one coarse pixel.
    """
    cube = check_cube(cube)
    rows, cols = (cube.sizes[d] // scale * scale for d in ("y", "x"))
    if not rows or not cols:
        raise BadCube(f"got {cube.sizes['y']} x {cube.sizes['x']} pixels, expected at least {scale} x {scale}")
    values = torch.from_numpy(np.asarray(cube.values[:, :rows, :cols], dtype=np.float32))
    low = _coarser(values, scale).numpy()
    made = make_cube(
        low,
        wavelength=cube["wavelength"].values,
        fwhm=cube["fwhm"].values if "fwhm" in cube.coords else None,
        quantity=cube.attrs.get("quantity", "dn"),
    )
    if "good" in cube.coords:
        made = made.assign_coords(good=("band", np.asarray(cube["good"].values)))
    grid = grid_of(cube)
    if grid.kind in ("map", "rotated"):
        made = place(made, grid.transform @ type(grid.transform).scale(scale), grid.crs)
    return made


def _coarser(values: torch.Tensor, scale: int) -> torch.Tensor:
    """`imresize` of (band, y, x); NaN where the kernel touches NaN, and nowhere else."""
    lost = ~values.isfinite()
    if not bool(lost.any()):
        return imresize(values, 1 / scale)
    low = imresize(values.masked_fill(lost, 0.0), 1 / scale)
    return low.masked_fill(imresize(lost.to(values.dtype), 1 / scale).abs() > 1e-6, torch.nan)


def consistency(cube: xr.DataArray, fine: xr.DataArray, strip: int = 64) -> dict[str, float]:
    """Degrade a super-resolved scene and hold it against the scene itself; real scenes have no other truth.

    Parameters
    ----------
    cube, fine : DataArray, dims (band, y, x)
        The scene and what was made of it, a whole number of times finer; lazy ones are streamed.
    strip : int
        Rows of the scene worked on at a time.

    Returns
    -------
    dict of str to float
        ``psnr`` [dB, peak: the largest value of each band of the scene] and ``sam`` [deg]; pixels within 2 of nodata,
        and bands without values, do not count.

    Raises
    ------
    BadCube
        The sizes do not belong together.
    BadInput
        No valid pixel.
    """
    cube, fine = check_cube(cube), check_cube(fine, what="fine")
    scale = fine.sizes["x"] // max(cube.sizes["x"], 1)
    if fine.shape != (cube.sizes["band"], cube.sizes["y"] * scale, cube.sizes["x"] * scale):
        raise BadCube(f"got shapes {cube.shape} and {fine.shape}, expected the second a whole number of times finer")
    from torchspectral.metrics import PSNR

    psnr, angle, margin = PSNR(), SAM(), 3
    live = None
    for top in range(0, cube.sizes["y"], strip):
        bottom = min(top + strip, cube.sizes["y"])
        first, last = max(top - margin, 0), min(bottom + margin, cube.sizes["y"])
        high = torch.from_numpy(np.asarray(fine[:, first * scale : last * scale].values, dtype=np.float32))
        back = _coarser(high, scale)[:, top - first : bottom - first]
        own = torch.from_numpy(np.asarray(cube[:, top:bottom].values, dtype=np.float32))
        if live is None:
            good = np.asarray(cube["good"].values) if "good" in cube.coords else np.ones(cube.sizes["band"], bool)
            live = torch.from_numpy(good)
        back, own = back[live], own[live]
        valid = (back.isfinite() & own.isfinite()).all(0)
        psnr.update(back.nan_to_num(), own.nan_to_num(), valid)
        angle.update(back.nan_to_num(), own.nan_to_num(), valid)
    return {"psnr": psnr.compute(), "sam": angle.compute()}


def chikusei_parts(cube: xr.DataArray) -> tuple[xr.DataArray, list[xr.DataArray]]:
    """The training part and the four test images of Chikusei: centre crop, top 512 rows for the test.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        The scene as published, 2517 x 2335 pixels; not scaled here (the protocol divides by the largest value).

    Returns
    -------
    train : DataArray, 1792 x 2048 pixels
    test : list of 4 DataArray, 512 x 512 pixels

    Raises
    ------
    BadCube
        The scene is smaller than the crop.
    """
    cube = check_cube(cube)
    if cube.sizes["y"] < CHIKUSEI[0].stop or cube.sizes["x"] < CHIKUSEI[1].stop:
        raise BadCube(f"got {cube.sizes['y']} x {cube.sizes['x']} pixels, expected Chikusei as published, 2517 x 2335")
    crop = cube.isel(y=CHIKUSEI[0], x=CHIKUSEI[1])
    side = CHIKUSEI_TEST
    test = [crop.isel(y=slice(0, side), x=slice(k * side, (k + 1) * side)) for k in range(4)]
    return crop.isel(y=slice(side, None)), test


def quality(
    output: torch.Tensor,
    truth: torch.Tensor,
    ratio: float = 4.0,
    *,
    extras: bool = False,
    valid: torch.Tensor | None = None,
) -> dict[str, float]:
    """The field's figures of one image, data range 1.

    Parameters
    ----------
    output, truth : Tensor, shape (band, y, x)
    ratio : float
        Of ERGAS. The authors of spectral mixup always say 4, at scale 8 too.
    extras : bool
        SID, APPSA, MARE and QAVE too, which they compute and do not print; of whole images only.
    valid : Tensor of bool, shape (y, x), optional
        Pixels that count.

    Returns
    -------
    dict of str to float
        ``MPSNR`` [dB], ``MSSIM``, ``ERGAS``, ``SAM`` [deg], ``CrossCorrelation`` (bands that are constant do not
        count), ``RMSE``.

    Raises
    ------
    GridMismatch, BandMismatch, BadInput
    """
    check_shapes(output, truth)
    if extras and valid is not None:
        raise BadInput("got extras and a mask, expected one of them: the further figures are of whole images")
    p, t = output.double(), truth.double()
    every = valid if valid is not None else torch.ones(p.shape[1:], dtype=torch.bool, device=p.device)
    found = {
        "MPSNR": measure(MPSNR(1.0), p, t, valid),
        "MSSIM": measure(MSSIM(1.0), p, t, valid),
        "ERGAS": measure(ERGAS(ratio), p, t, valid),
        "SAM": measure(SAM(), p, t, (p != 0).any(0) & (t != 0).any(0) & every),
        "CrossCorrelation": _correlation(p[:, every], t[:, every]),
        "RMSE": float((p - t)[:, every].square().mean().sqrt()),
    }
    if extras:
        found |= {
            "SID": _divergence(p, t),
            "APPSA": _angle(output, truth),
            "MARE": float(((t - p).abs() / (t + 1)).mean()),
        }
        found |= {"QAVE": measure(UQI(8), p, t)}
    return found


def _correlation(p: torch.Tensor, t: torch.Tensor) -> float:
    p, t = p.flatten(1), t.flatten(1)
    p, t = p - p.mean(1, keepdim=True), t - t.mean(1, keepdim=True)
    norm = p.norm(dim=1) * t.norm(dim=1)
    live = norm > 0
    if not bool(live.any()):
        raise BadInput("all bands are constant: there is no correlation to measure")
    return float(((p * t).sum(1)[live] / norm[live]).mean())


def _divergence(p: torch.Tensor, t: torch.Tensor, e: float = 1e-3) -> float:
    """Spectral information divergence without making the bands distributions."""
    log = torch.log10((p + e) / (t + e))
    return float(((p * log).mean((1, 2)) - (t * log).mean((1, 2))).abs().mean())


def _angle(p: torch.Tensor, t: torch.Tensor, e: float = 1e-3) -> float:
    """Mean spectral angle [rad] with `e` added to the product of the norms, in the precision of the images."""
    cosine = (p * t).sum(0) / (p.norm(dim=0) * t.norm(dim=0) + e)
    return float(torch.acos(cosine.clamp(-1, 1)).mean())
