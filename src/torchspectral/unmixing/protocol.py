"""Scenes with known truth for unmixing: complex synthetic images, and labelled scenes seen by coarser pixels.

References
----------
Zhu, "Hyperspectral unmixing: ground truth labeling, datasets, benchmark performances and survey", arXiv 1708.05125 (2017).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from torchspectral.cube import check_cube, is_packed, make_cube, make_layers, make_spectra
from torchspectral.errors import BadCube, BadInput, BadSettings, GridMismatch, OutputExists, OutputFailed
from torchspectral.geo import grid_of, place_coarser
from torchspectral.log import Progress, Step, no_progress
from torchspectral.result import Report, Result
from torchspectral.synth.mixtures import MixtureSettings, mixture
from torchspectral.unmixing.coarsening import UnmixingSetSettings, class_spectra, coarsen
from torchspectral.unmixing.libraries import check_library


def simulate_mixture(
    k: int = 4,
    *,
    library: xr.DataArray | None = None,
    snr_profile: Any = None,
    seed: int = 0,
    out: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Result:
    """Make a complex synthetic image with its truth.

    Parameters
    ----------
    k : int
        Endmembers, from 2.
    library : DataArray, dims (spectrum, band), optional
        Spectra to draw the endmembers from; without it smooth ones are generated (none are bundled).
    snr_profile : array_like, shape (band,), or DataArray (band,), optional
        Signal-to-noise ratio of each band of a sensor (of amplitudes), see `synth.mixtures.mixture`.
    seed : int
        The same arguments and seed give the same bits.
    out : path, optional
        Folder for cube.tif, abundances.tif, endmembers.sli and .csv, noise.tif, bands.csv.
    settings : mapping, optional
        Fields of `synth.mixtures.MixtureSettings`.
    overwrite : bool
    progress : callable

    Returns
    -------
    Result
        ``cube`` (reflectance), ``abundances`` (layers), ``endmembers`` (spectra), ``noise`` (what the cube has beyond
        the clean image), ``bands`` (table: wavelength, sigma of the white noise, outlier, striped).

    Raises
    ------
    BadSettings, BadInput, OutputExists, OutputFailed

    Examples
    --------
    >>> import torchspectral as ts
    >>> made = ts.simulate_mixture(6, settings={"purity": 0.8, "snr": 30})
    >>> made["abundances"].sizes["layer"], made["cube"].shape
    (6, (224, 64, 64))
    """
    files = _files(out, {"cube": ".tif", "abundances": ".tif", "endmembers": ".sli", "noise": ".tif", "bands": ".csv"})
    _refuse_existing([*files.values(), *([files["endmembers"].with_suffix(".csv")] if files else [])], overwrite)
    spectra = check_library(library) if library is not None else None
    made = mixture(
        k,
        seed,
        spectra=None if spectra is None else np.asarray(spectra.values, dtype=np.float64),
        wavelength=None if spectra is None else np.asarray(spectra["wavelength"].values, dtype=np.float64),
        names=None if spectra is None else [str(n) for n in spectra["spectrum"].values],
        snr_profile=None if snr_profile is None else np.asarray(snr_profile, dtype=np.float64),
        settings=settings,
    )
    history = [f"simulated mixture of {k} endmembers, seed {seed}"]
    names = _unique(made.names)
    values: dict[str, Any] = {
        "cube": make_cube(
            made.values.astype(np.float32),
            wavelength=made.wavelength,
            quantity="reflectance",
            attrs={"history": history},
        ),
        "abundances": make_layers(made.abundances.astype(np.float32), names, attrs={"history": history}),
        "endmembers": make_spectra(
            made.endmembers.astype(np.float32),
            names,
            wavelength=made.wavelength,
            attrs={"quantity": "reflectance", "history": history},
        ),
        "noise": make_cube(
            made.noise.astype(np.float32),
            wavelength=made.wavelength,
            quantity="reflectance",
            attrs={"history": history},
            name="noise",
        ),
        "bands": pd.DataFrame(
            {
                "band": np.arange(1, made.wavelength.size + 1),
                "wavelength": made.wavelength,
                "sigma": made.sigma,
                "outlier": made.outlier.astype(int),
                "striped": made.striped.astype(int),
            }
        ),
    }
    report = Report(
        method="unmixing/mixture", settings=MixtureSettings.make(settings).model_dump() | {"k": k}, seed=seed
    )
    report.figures = {n: v for n, v in made.record.items() if n not in report.settings and n != "seed"}
    report.history = history
    if made.record["clipped_values"]:
        report.notes.append(f"{made.record['clipped_values']} values below 0 were set to 0")
    return _written(values, files, report, overwrite, progress) if files else Result(values, report)


def read_snr_profile(path: Path | str) -> np.ndarray:
    """Signal-to-noise ratios of a sensor from a CSV with a column ``snr``, a row a band.

    Raises
    ------
    BadInput
        No such file or column, or values that are no numbers.
    """
    try:
        table = pd.read_csv(path, nrows=100_000)
    except (OSError, ValueError) as error:
        raise BadInput(f"cannot read {path} as CSV ({error}): expected a column snr, a row a band") from None
    if "snr" not in table:
        raise BadInput(f"{path} has columns {', '.join(map(str, table.columns))}, expected one named snr")
    try:
        return table["snr"].to_numpy(dtype=np.float64)
    except (TypeError, ValueError):
        raise BadInput(f"the column snr of {path} has values that are no numbers") from None


def unmixing_set(
    cube: xr.DataArray,
    labels: xr.DataArray,
    *,
    out: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Result:
    """Turn a classification scene into an unmixing scene.

    Abundances of a coarse pixel are the shares of the classes among the labelled pixels of its window, its spectrum is
    the mean of the window's labelled pixels; endmembers are the class spectra.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        Lazy cubes are read in strips; what is kept is the coarse scene and one angle for each labelled pixel.
    labels : DataArray, dims (y, x)
        Whole numbers, 0: unlabelled; ``attrs["class_names"]`` names them. See `io.labels.read_labels`.
    out : path, optional
        Folder for cube, abundances and mask (.tif; .zarr of swaths), endmembers.sli and .csv, classes.csv.
    settings : mapping, optional
        Fields of `UnmixingSetSettings`.
    overwrite : bool
    progress : callable

    Returns
    -------
    Result
        ``cube`` (band, y / s, x / s), ``abundances`` (layers), ``endmembers`` (spectra of the good bands' scene, all
        bands), ``mask`` (layer, 1 where the truth is kept), ``classes`` (table: pixels and pixels left out of the
        spectrum). Coarse pixels with too small a labelled share are nodata.

    Raises
    ------
    BadInput, BadSettings, BadCube, GridMismatch, OutputExists, OutputFailed
    """
    made = UnmixingSetSettings.make(settings)
    cube = check_cube(cube)
    if cube.ndim != 3 or is_packed(cube):
        raise BadCube(f"got dims {cube.dims}, expected one image of physical values, (band, y, x)")
    suffix = ".zarr" if grid_of(cube).kind == "swath" else ".tif"
    kinds = {"cube": suffix, "abundances": suffix, "endmembers": ".sli", "mask": suffix, "classes": ".csv"}
    files = _files(out, kinds)
    _refuse_existing([*files.values(), *([files["endmembers"].with_suffix(".csv")] if files else [])], overwrite)
    classes, numbers, names = _classes(labels, cube)
    s = made.window
    rows, cols = cube.sizes["y"] // s, cube.sizes["x"] // s
    if min(rows, cols) == 0:
        raise GridMismatch(
            f"got a scene of {cube.sizes['y']} x {cube.sizes['x']} pixels, expected at least one window of {s} x {s}"
        )
    spectra, table = class_spectra(cube, classes, numbers, names, made, progress)
    coarse, shares, kept = coarsen(cube, classes, numbers, made, progress)
    history = [*cube.attrs.get("history", []), f"unmixing set: windows of {s} x {s}, labelled share from {made.tau:g}"]
    report = Report(method="unmixing/unmixing-set", settings=made.model_dump())
    cut = cube.sizes["y"] - rows * s, cube.sizes["x"] - cols * s
    if any(cut):
        report.dropped.append(f"{cut[0]} rows at the bottom and {cut[1]} columns at the right, to a multiple of {s}")
    report.figures = {"pixels": rows * cols, "kept": int(kept.sum()), "classes": len(numbers)}
    if not kept.any():
        raise BadInput(
            f"no window of {s} x {s} pixels is labelled to a share of {made.tau:g}: take a smaller window or tau"
        )
    attrs = {k: v for k, v in cube.attrs.items() if k not in ("glt", "nodata", "packing")}
    coords = {n: c.values for n, c in cube.coords.items() if c.dims == ("band",)}
    out_cube = make_cube(
        coarse,
        quantity=cube.attrs["quantity"],
        attrs={**attrs, "history": history},
        **{n: coords[n] for n in ("wavelength", "fwhm", "good", "number", "detector")},
    )
    values: dict[str, Any] = {
        "cube": place_coarser(out_cube, cube, s),
        "abundances": place_coarser(make_layers(shares, names, attrs={"history": history}), cube, s),
        "endmembers": make_spectra(
            spectra.astype(np.float32),
            names,
            wavelength=coords["wavelength"],
            fwhm=coords["fwhm"],
            attrs={"quantity": cube.attrs["quantity"], "history": history},
        ),
        "mask": place_coarser(
            make_layers(kept[None].astype(np.uint8), ["kept"], name="mask", attrs={"history": history}), cube, s
        ),
        "classes": table,
    }
    report.history = history
    return _written(values, files, report, overwrite, progress) if files else Result(values, report)


def _classes(labels: Any, cube: xr.DataArray) -> tuple[np.ndarray, list[int], list[str]]:
    """Label map, the class numbers that occur, and their names."""
    if not isinstance(labels, xr.DataArray):
        raise BadInput(f"got {type(labels).__name__} as labels, expected a DataArray (y, x): see io.labels.read_labels")
    if labels.ndim == 3 and labels.shape[0] == 1:
        labels = labels[0]
    if labels.shape != cube.shape[-2:]:
        raise GridMismatch(
            f"got labels of {labels.shape}, expected {cube.shape[-2:]} as the cube: read them with like="
        )
    values = np.asarray(labels.values)
    if values.dtype.kind not in "iu":
        raise BadInput(f"got labels of type {values.dtype}, expected whole numbers")
    numbers = [int(n) for n in np.unique(values) if n > 0]
    if len(numbers) < 2:
        raise BadInput(f"got {len(numbers)} classes, expected at least 2 to mix")
    known = list(labels.attrs.get("class_names", []))
    names = [str(known[n]) if n < len(known) and known[n] else f"class {n}" for n in numbers]
    return values, numbers, _unique(names)


def _unique(names: Any) -> list[str]:
    seen: dict[str, int] = {}
    found = []
    for name in map(str, names):
        seen[name] = seen.get(name, 0) + 1
        found.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return found


def _files(out: Path | str | None, kinds: Mapping[str, str]) -> dict[str, Path]:
    if out is None:
        return {}
    folder = Path(out)
    if folder.suffix and not folder.is_dir() and not str(out).endswith("/"):
        raise BadSettings(f"got {str(out)!r} as output, expected a folder (DIR/): there are several values")
    return {name: folder / f"{name}{suffix}" for name, suffix in kinds.items()}


def _refuse_existing(paths: list[Path], overwrite: bool) -> None:
    for path in paths:
        if path.exists() and not overwrite:
            raise OutputExists(f"{path} exists: overwrite=True (--overwrite) replaces it")


def _written(
    values: dict[str, Any], files: Mapping[str, Path], report: Report, overwrite: bool, progress: Progress
) -> Result:
    from torchspectral.io import open_product, save

    folder = next(iter(files.values())).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"cannot make the folder {folder}: {error.strerror or error}") from None
    paths: dict[str, str] = {}
    for number, (name, value) in enumerate(values.items()):
        raster = isinstance(value, xr.DataArray) and "x" in value.dims
        more: dict[str, Any] = {"orthorectify": False} if raster else {}
        path = save(value, files[name], overwrite=overwrite, report=report if name == "cube" else None, **more)
        paths[name] = str(path)
        if name == "endmembers":
            paths["endmembers.csv"] = str(save(value, files[name].with_suffix(".csv"), overwrite=overwrite))
        values[name] = open_product(path) if raster else value
        progress(Step(f"write {name}", (number + 1) / len(values)))
    return Result(values, report, paths)
