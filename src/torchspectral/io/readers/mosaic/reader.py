"""Raw frames of snapshot-mosaic sensors (IMEC and others): PNG, TIFF or ENVI, with the sensor's calibration XML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.errors import BadCube, BadSettings, BandMismatch, BrokenProduct, GridMismatch, MissingMetadata
from torchspectral.geo.grids import place
from torchspectral.io.readers.base import Reader, StoredArray, as_cube
from torchspectral.io.readers.envi.header import find_header
from torchspectral.io.readers.envi.reader import EnviArray, files_of, raw_array
from torchspectral.io.readers.facts import Values, band_facts, guess_quantity, read_options
from torchspectral.io.readers.geotiff import RasterArray, open_tiff
from torchspectral.io.readers.handles import Handle
from torchspectral.io.readers.mosaic.arrays import BilinearArray, CorrectedArray, LatticeArray
from torchspectral.io.readers.mosaic.calibration import (
    Calibration,
    calibration_beside,
    check_pattern,
    read_calibration,
)
from torchspectral.io.safety import check_raster, check_scene, existing_path, open_raster

DEMOSAIC = ("none", "bilinear")
_PNG = b"\x89PNG\r\n\x1a\n"
_TIFF = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


def open_png(path: str) -> Any:
    """Open dataset of a checked PNG."""
    dataset = open_raster(path, drivers=("PNG",))
    check_raster(dataset)
    return dataset


class MosaicReader(Reader):
    """Reader of mosaic frames; one with ``FRAME.xml`` beside it is found by itself, others by ``reader="mosaic"``."""

    name = "mosaic"
    title = "raw frame of a snapshot-mosaic sensor (PNG, TIFF, ENVI)"
    patterns = ("*.png",)
    options = (
        "pattern", "calibration", "area", "demosaic", "correction", "wavelength", "wavelength_units", "quantity", "scale",
        "nodata",
    )  # fmt: skip
    evidence = "miniature-only"

    def recognise(self, path: Path) -> float:
        """A PNG of one band, or a frame with a calibration XML beside it."""
        if not path.is_file():
            return 0.0
        with path.open("rb") as file:
            start = file.read(8)
        if start == _PNG:
            return 0.5 if Handle(open_png, path, per_thread=True).get().count == 1 else 0.0
        if start[:4] in _TIFF or path.suffix.lower() == ".hdr" or find_header(path) is not None:
            return 0.96 if calibration_beside(path) is not None else 0.0
        return 0.0

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open as a lazy cube, a band a filter, sorted by wavelength.

        A pixel of band b in row i and column j was seen at row ``area[0] + i * pattern[0] + phase[0]`` and column
        ``area[1] + j * pattern[1] + phase[1]`` of the frame: ``attrs["mosaic"]`` has the pattern, the area and, by band
        number (1 is the filter in the first row and column, counted row by row), the phase of each band.

        Parameters
        ----------
        pattern : (rows, columns), optional
            Of the repeated filters, (4, 4) or (5, 5) say; the calibration file states it too.
        calibration : path, optional
            The sensor's XML file; ``FRAME.xml`` beside the frame by default.
        area : (row, column, height, width), optional
            Active area of the frame; by default that of the calibration file, else the whole frame.
        demosaic : {"none", "bilinear"}
            Leave each filter on its own lattice (default, stored numbers), or interpolate it to every pixel.
        correction : str or bool
            Apply a correction matrix of the calibration file: its name, or True for the only one. The bands are then
            its virtual bands.

        Raises
        ------
        MissingMetadata
            Neither pattern nor calibration file.
        BadSettings, BadCube, BandMismatch, GridMismatch, BrokenProduct, UnknownName
        """
        given = read_options(options)
        demosaic, correction = options.get("demosaic", "none"), options.get("correction", False)
        if demosaic not in DEMOSAIC:
            raise BadSettings(f"got demosaic={demosaic!r}, expected one of {', '.join(DEMOSAIC)}")
        known = _calibration(path, options.get("calibration"))
        pattern = _pattern(path, options.get("pattern"), known)
        frame, kind = _frame(path)
        area, cut = _area(frame, pattern, options.get("area"), known)
        filters = pattern[0] * pattern[1]
        wavelength, fwhm = (
            (known.wavelength, known.fwhm) if known else (np.full(filters, np.nan), np.full(filters, np.nan))
        )
        notes = [f"opened {path.name} ({kind}, mosaic of {pattern[0]} x {pattern[1]} filters)", *cut]
        if known is not None:
            notes.append(f"filters from {known.path.name}")
        virtual = None
        if correction not in (False, "none"):
            if known is None:
                raise MissingMetadata(
                    f"correction={correction!r} needs the calibration file of the sensor: calibration="
                )
            virtual = known.correction(correction)
            wavelength, fwhm = virtual.wavelength, virtual.fwhm
        facts = band_facts(
            len(wavelength), path.name, wavelength=wavelength if np.isfinite(wavelength).any() else (), units="nm",
            fwhm=fwhm if np.isfinite(fwhm).any() else (), given=given,
            searched="the calibration XML and the option wavelength=",
        )  # fmt: skip
        values = guess_quantity(
            Values(np.ones(1), np.zeros(1), None, "", []), floats=frame.stored.kind == "f", given=given
        )
        # Bands without a wavelength keep their order, after the others.
        order = np.argsort(facts.wavelength, kind="stable")
        meaning = {"scale": values.scale[0], "offset": values.offset[0], "nodata": values.nodata}
        array: StoredArray
        if virtual is None:
            lattice = LatticeArray(frame, pattern, area, order, **meaning)
            array = BilinearArray(lattice) if demosaic == "bilinear" else lattice
        else:
            lattice = LatticeArray(frame, pattern, area, np.arange(filters), **meaning)
            array = CorrectedArray(BilinearArray(lattice) if demosaic == "bilinear" else lattice, virtual.matrix[order])
            notes.append(f"{len(order)} virtual bands by the correction {virtual.name!r}")
        if demosaic == "bilinear":
            notes.append("every filter interpolated bilinearly to all pixels")
        attrs = {
            "source": [str(path), *([str(known.path)] if known else [])],
            "mosaic": _phases(pattern, area, demosaic == "bilinear", virtual is not None),
            "history": [*notes, *facts.notes, *values.notes],
        }
        if known is not None and known.sensor:
            attrs["sensor"] = known.sensor
        cube = as_cube(
            array, quantity=values.quantity, raw=raw, attrs=attrs, number=order + 1,
            wavelength=facts.wavelength[order], fwhm=facts.fwhm[order], good=facts.good[order],
        )  # fmt: skip
        return place(cube, None)


def _phases(pattern: tuple[int, int], area: tuple[int, ...], full: bool, virtual: bool) -> dict[str, Any]:
    """``attrs["mosaic"]``: pattern, area, step of the cube's pixels, and where in the pattern each filter lies."""
    found: dict[str, Any] = {"pattern": list(pattern), "area": [int(n) for n in area]}
    found["step"] = [1, 1] if full else list(pattern)
    if not virtual:
        # Interpolated bands lie on the frame's own pixels: no phase is left.
        found["phase"] = {
            str(n + 1): [0, 0] if full else [n // pattern[1], n % pattern[1]] for n in range(pattern[0] * pattern[1])
        }
    return found


def _calibration(path: Path, given: Any) -> Calibration | None:
    if given is not None:
        return read_calibration(existing_path(given))
    found = calibration_beside(path)
    return None if found is None else read_calibration(found)


def _pattern(path: Path, given: Any, known: Calibration | None) -> tuple[int, int]:
    if given is None:
        if known is None:
            raise MissingMetadata(
                f"{path.name} is one raw band: give pattern=(4, 4) where it is the frame of a mosaic sensor, or "
                "calibration= with the sensor's XML file"
            )
        return known.pattern
    try:
        rows, cols = (int(n) for n in given)
    except (TypeError, ValueError):
        raise BadSettings(f"got pattern={str(given)[:40]!r}, expected (rows, columns) of the filters") from None
    try:
        check_pattern((rows, cols), "the option pattern")
    except BrokenProduct as error:
        raise BadSettings(str(error)) from None
    if known is not None and known.pattern != (rows, cols):
        raise BandMismatch(
            f"got pattern=({rows}, {cols}), but {known.path.name} describes {known.pattern[0]} x {known.pattern[1]} filters"
        )
    return rows, cols


def _frame(path: Path) -> tuple[StoredArray, str]:
    """The frame as a lazy array of one band, and its format."""
    with path.open("rb") as file:
        start = file.read(8)
    frame: StoredArray
    if start == _PNG:
        frame, kind = RasterArray(Handle(open_png, path, per_thread=True), decode=False), "PNG"
    elif start[:4] in _TIFF:
        frame, kind = RasterArray(Handle(open_tiff, path, per_thread=True), decode=False), "TIFF"
    else:
        header, data = files_of(path)
        frame, kind = EnviArray(raw_array(header, data), decode=False), "ENVI"
    if frame.shape[0] != 1 or frame.stored.kind not in "iuf":
        raise BadCube(
            f"{path.name} has {frame.shape[0]} bands of {frame.stored}, expected the one band of a raw mosaic frame"
        )
    check_scene(frame.shape, frame.stored, path)
    return frame, kind


def _area(
    frame: StoredArray, pattern: tuple[int, int], given: Any, known: Calibration | None
) -> tuple[tuple[int, int, int, int], list[str]]:
    """Active area in whole patterns, and lines on what lies outside."""
    _, rows, cols = frame.shape
    area = (0, 0, rows, cols)
    stated = "the frame"
    if given is not None:
        try:
            row, col, height, width = (int(n) for n in given)
        except (TypeError, ValueError):
            raise BadSettings(f"got area={str(given)[:40]!r}, expected (row, column, height, width)") from None
        area, stated = (row, col, height, width), "the option area"
    elif known is not None and known.area is not None:
        area, stated = known.area, known.path.name
    row, col, height, width = area
    if row < 0 or col < 0 or height < 1 or width < 1 or row + height > rows or col + width > cols:
        raise GridMismatch(
            f"the active area of {stated}, {height} x {width} at row {row} and column {col}, leaves the frame of "
            f"{rows} x {cols} pixels: was the frame cut?"
        )
    whole = height // pattern[0] * pattern[0], width // pattern[1] * pattern[1]
    if 0 in whole:
        raise GridMismatch(
            f"{stated} has {height} x {width} pixels, less than one pattern of {pattern[0]} x {pattern[1]}"
        )
    lines = []
    if (row, col, *whole) != (0, 0, rows, cols):
        lines.append(
            f"active area: {whole[0]} x {whole[1]} pixels at row {row}, column {col} of {rows} x {cols}; the rest left out"
        )
    return (row, col, *whole), lines
