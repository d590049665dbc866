"""Simulated interferograms of a scene, as a file with its record."""

from __future__ import annotations

import time
from pathlib import Path

import xarray as xr

from torchspectral.calibration.interferometer.characterization import Characterization
from torchspectral.calibration.interferometer.device_files import load_device
from torchspectral.calibration.interferometer.forward import Response, simulate
from torchspectral.errors import BadSettings
from torchspectral.result import Report, Result


def simulate_scene(
    cube: xr.DataArray,
    instrument: Characterization | str | Path,
    *,
    response: Response = "relative",
    noise: float = 0.0,
    seed: int = 0,
    mosaic: bool = False,
    out: str | Path | None = None,
    overwrite: bool = False,
) -> Result:
    """Simulate what an instrument sees of a scene, and write it.

    Parameters
    ----------
    cube, response, noise, seed, mosaic
        As for `simulate`.
    instrument : Characterization, or path of a device file
    out : path, optional
        Raster; OUT.run.yaml stands beside it.

    Returns
    -------
    Result
        ``interferogram``.

    Raises
    ------
    BadCube, BadInput, BadSettings, MissingMetadata, OutputExists, OutputFailed
    """
    import torchspectral
    from torchspectral.io import save

    if not 0 <= noise < 1e6:
        raise BadSettings(f"got noise={noise:g}, expected a share of the mean from 0")
    started = time.perf_counter()
    device = instrument if isinstance(instrument, Characterization) else load_device(instrument)
    made = simulate(cube, device, response=response, noise=noise, seed=seed, mosaic=mosaic)
    report = Report(
        method="calibration/simulate-interferogram",
        options={"response": response, "noise": noise, "mosaic": mosaic},
        figures={"interferometers": device.count, "flagged": int((~device.good).sum())},
        seed=seed,
        version=torchspectral.__version__,
    )
    report.seconds["total"] = round(time.perf_counter() - started, 3)
    paths = {}
    if out is not None:
        paths["interferogram"] = str(save(made, Path(out), overwrite=overwrite, report=report))
    return Result({"interferogram": made}, report, paths)
