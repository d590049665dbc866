"""Labelled scenes of the field: the cube, and the spectra and abundances that are held to be true of it.

Known layouts: Zhu's files (cube, and ``endK.mat`` beside it), CyCU-Net's and JAG-MSNet's (one file: Y, M, A), those of
hu_autoencoders (Y, GT, S_GT, lines, cols), of MiSiCNet and UnDIP (three files: Y_clean, E, A_true), HySUPP's (Y, E, A,
H, W, p), and folders that `simulate_mixture` and `unmixing_set` write.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube, make_layers, make_spectra
from torchspectral.errors import BadInput, BadSettings, BandMismatch
from torchspectral.geo import place_coarser
from torchspectral.io.readers.matlab.files import Variable, small, variables
from torchspectral.io.readers.matlab.scenes import (
    ORDERS,
    find_scene,
    identify,
    kept_bands,
    order_option,
    size_option,
)
from torchspectral.unmixing.places import Place, find_scenes, is_matlab, one_place
from torchspectral.unmixing.truth import Fit, pick_order
from torchspectral.unmixing.truth_files import materials_of, read_maps, read_spectra, truth_of

__all__ = ["LabelledScene", "Place", "find_scenes", "load_scene"]

STARTS = ("M1", "M0", "A0")
SCALES = ("max", "stated", "none")


@dataclass
class LabelledScene:
    """A scene for unmixing, with its truth where there is one.

    Attributes
    ----------
    name : str
    cube : DataArray, dims (band, y, x)
    endmembers : DataArray (spectrum, band), optional
    abundances : DataArray (layer, y, x), optional
        Named as the endmembers.
    truth : str
        Which of several truths of the scene this is.
    fit : truth.Fit, optional
        How spectra and abundances explain the scene, for both orders of its pixels.
    notes, warnings : list of str
        What was assumed, and what a person should check.
    """

    name: str
    cube: xr.DataArray
    endmembers: xr.DataArray | None = None
    abundances: xr.DataArray | None = None
    truth: str = ""
    fit: Fit | None = None
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def k(self) -> int | None:
        """Endmembers of the truth."""
        return None if self.endmembers is None else self.endmembers.sizes["spectrum"]

    @property
    def names(self) -> list[str]:
        """Of the true endmembers."""
        return [] if self.endmembers is None else [str(n) for n in self.endmembers["spectrum"].values]


def load_scene(
    path: str | Path | Place,
    *,
    endmembers: str | Path | None = None,
    abundances: str | Path | None = None,
    size: Sequence[int] | None = None,
    order: Literal["columns", "rows"] | None = None,
    scale: Literal["max", "stated", "none"] = "max",
    name: str | None = None,
    **options: Any,
) -> LabelledScene:
    """Read a scene and its truth, and check them against each other.

    Parameters
    ----------
    path : path or Place
        A product, a .mat file of any of the layouts, or a folder with one.
    endmembers, abundances : path, optional
        Files of the truth, instead of those in the file or beside it.
    size : (rows, columns), optional
        Of a matrix of pixels whose file does not state it.
    order : {"columns", "rows"}, optional
        Force how the pixels of matrices run. By default the order under which endmembers and abundances explain the
        scene is taken where they decide it, else columns (MATLAB's), or rows for HySUPP's files.
    scale : {"max", "stated", "none"}
        Raw numbers are divided by the scene's largest value, by the value that the file states (``maxValue``: Jasper
        Ridge 5000), or left alone; FCLS depends on it. Physical values are left alone.
    name : str, optional
    **options
        Of the reader.

    Raises
    ------
    ProductNotFound, BandMismatch, GridMismatch, BadSettings, BadInput
    """
    if scale not in SCALES:
        raise BadSettings(f"got scale={scale!r}, expected one of {', '.join(SCALES)}")
    spot = path if isinstance(path, Place) else one_place(Path(path))
    spot = Place(
        name or spot.name,
        spot.cube,
        Path(endmembers) if endmembers else spot.endmembers,
        Path(abundances) if abundances else spot.abundances,
    )
    given = {**options, **({"size": tuple(size)} if size is not None else {})}
    if is_matlab(spot.cube):
        return _load_matlab(spot, order_option(order), scale, given)
    if order is not None:
        raise BadSettings(f"got order={order!r} for {spot.cube.name}, expected it for matrices of pixels alone")
    return _load_product(spot, scale, given)


def _load_product(spot: Place, scale: str, given: dict[str, Any]) -> LabelledScene:
    from torchspectral.io import open_product
    from torchspectral.io.libraries import read_library

    cube = check_cube(open_product(spot.cube, **given))
    scene = LabelledScene(spot.name, cube)
    if spot.endmembers is not None:
        scene.endmembers = read_library(spot.endmembers)
    if spot.abundances is not None and scene.endmembers is not None:
        layers = open_product(spot.abundances).load()
        if layers.sizes["layer"] != scene.endmembers.sizes["spectrum"]:
            raise BandMismatch(
                f"{spot.abundances.name} has {layers.sizes['layer']} layers and {scene.endmembers.sizes['spectrum']} "
                "endmembers beside it, expected one for each"
            )
        scene.abundances = layers.assign_coords(layer=scene.names)
        y, a = np.asarray(cube.values, dtype=np.float64), np.asarray(layers.values, dtype=np.float64)
        turned = a.transpose(0, 2, 1)
        tried = {"rows": a} | ({"columns": turned} if turned.shape == a.shape else {})
        scene.fit = pick_order(dict.fromkeys(tried, y), scene.endmembers.values, tried, forced="rows")
        scene.warnings += scene.fit.warnings
    _rescale(scene, scale, None)
    return scene


def _load_matlab(spot: Place, order: str | None, scale: str, given: dict[str, Any]) -> LabelledScene:
    from torchspectral.io import open_product

    known = variables(spot.cube)
    found = find_scene(spot.cube, known, given.get("key"), size_option(given.get("size")), order)
    number = small(spot.cube, "SlectBands").reshape(-1) if "SlectBands" in known else None
    row = identify(found.shape, number)
    notes: list[str] = []
    if row is not None and not {"scene", "sensor", "wavelength"} & given.keys():
        if ("removed" in row or "wavelengths" in row) and not _own_wavelengths(known, found.shape[0]):
            given = {**given, **_wavelengths(spot.cube.parent, row)}
        notes.append(f"taken as the published scene {row['pixels']} by its size")
    notes += [
        f"{n} of {spot.cube.name} is an estimate that training starts from, no truth" for n in STARTS if n in known
    ]
    taken = found.order
    fit: Fit | None = None
    spectra = maps = None
    names: list[str] = []
    if spot.endmembers is not None:
        spectra, names = read_spectra(spot.endmembers, found.shape[0])
    if spot.abundances is not None and spectra is not None:
        kind, planes = read_maps(spot.abundances, len(spectra), found.shape[1:])
        cubes = (
            {o: np.asarray(open_product(spot.cube, **{**given, "order": o}).values) for o in ORDERS}
            if found.form == "matrix"
            else {}
        )
        if kind == "image" and cubes:
            # The maps are images: they say how the pixels of the matrix run.
            both = dict.fromkeys(ORDERS, planes["rows"])
            fit = pick_order(cubes, spectra, both, forced=order)
            taken, maps = fit.order, planes["rows"]
        else:
            y = cubes.get(taken)
            y = y if y is not None else np.asarray(open_product(spot.cube, **given).values)
            fit = pick_order(dict.fromkeys(ORDERS, y), spectra, planes, forced=order if cubes or order else None)
            maps = planes[fit.order]
        expected = "rows" if kind == "image" and (not cubes or "S_GT" in known) else found.order
        if fit.order != expected and order is None:
            notes.append(f"pixels taken by {fit.order}, as spectra and abundances say")
            fit.warnings.append(
                f"spectra and abundances explain the scene with pixels taken by {fit.order} (residual "
                f"{fit.residuals[fit.order]:.3g} of the signal), expected {expected} for this layout: the abundance maps "
                "are transposed"
            )
    if found.form == "matrix":
        given = {**given, "order": taken}
    cube = open_product(spot.cube, **given)
    scene = LabelledScene(spot.name, cube, fit=fit, notes=notes)
    if spectra is not None:
        if not names:
            names = materials_of(row, len(spectra)) or [f"material {n + 1}" for n in range(len(spectra))]
        scene.endmembers = make_spectra(spectra.astype(np.float32), names, wavelength=cube["wavelength"].values)
    if maps is not None and scene.endmembers is not None:
        layers = make_layers(maps.astype(np.float32), names, name="abundances")
        scene.abundances = place_coarser(layers, cube, 1)
        scene.truth = truth_of(row, maps)
        if scene.truth:
            notes.append(
                f"truth {scene.truth} of {row['pixels']}: figures on another one cannot be compared" if row else ""
            )
    scene.warnings += fit.warnings if fit is not None else []
    if "maxValue" in known:
        stated = float(small(spot.cube, "maxValue").reshape(-1)[0])
    else:
        stated = None
    _rescale(scene, scale, stated)
    return scene


def _wavelengths(folder: Path, row: dict[str, Any]) -> dict[str, Any]:
    """Options that give a published scene its wavelengths: a table of all the sensor's bands beside it, else by name."""
    kept = kept_bands(row)
    if kept is None:
        return {"scene": row["pixels"]}
    for file in sorted(folder.glob("*avelength*.mat")):
        for name, variable in variables(file).items() if is_matlab(file) else ():
            if variable.numeric and variable.vector and int(np.prod(variable.shape)) == row["of"]:
                return {"wavelength": small(file, name).reshape(-1)[kept - 1].astype(float).tolist()}
    return {"scene": row["pixels"]}


def _own_wavelengths(known: dict[str, Variable], bands: int) -> bool:
    return any(
        "wav" in n.lower() and int(np.prod(v.shape)) == bands for n, v in known.items() if v.numeric and v.vector
    )


def _rescale(scene: LabelledScene, scale: str, stated: float | None) -> None:
    """Raw numbers divided as asked; what was done stands in the notes."""
    if scale == "none" or scene.cube.attrs.get("quantity") != "dn":
        return
    cube = scene.cube.load()
    nodata = cube.attrs.get("nodata")
    values = cube.values.astype(np.float32)
    if nodata is not None:
        values[cube.values == nodata] = np.nan
    if scale == "stated" and stated is None:
        raise BadSettings(f"{scene.name} states no largest value (maxValue), expected one: take scale=max or none")
    gain = float(stated) if scale == "stated" and stated is not None else float(np.nanmax(np.abs(values)))
    if not np.isfinite(gain) or gain <= 0:
        raise BadInput(f"{scene.name} has no positive value: there is nothing to unmix")
    if gain == 1 and nodata is None:
        return
    attrs = {k: v for k, v in cube.attrs.items() if k not in ("nodata", "packing")}
    said = f"divided by {gain:g}, {'its largest value' if scale == 'max' else 'as the file states'}"
    scene.cube = cube.copy(data=values / np.float32(gain))
    scene.cube.attrs = {**attrs, "history": [*attrs.get("history", []), said]}
    scene.notes.append(said)
