"""Bad EMIT, NEON, AVIRIS-3, PACE and CF netCDF files."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from table import Row, file_of, info, opens

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
import aviris_netcdf_miniature
import cf_netcdf_miniature
import emit_miniature
import neon_miniature
import pace_miniature

import torchspectral as ts
from torchspectral.errors import (
    BadCube,
    BadSettings,
    BandMismatch,
    BrokenProduct,
    GridMismatch,
    MissingMetadata,
    TooLarge,
    UnknownName,
    UnknownProduct,
    UnsafeInput,
)

Change = Callable[[h5py.File], None] | None


def changed(path: Path, change: Change) -> Path:
    if change:
        with h5py.File(path, "a") as file:
            change(file)
    return path


def emit(kind: str = "RFL", change: Change = None, beside: str = "", **more: Any) -> Callable[[Path], Path]:
    def prepare(folder: Path) -> Path:
        path, _ = emit_miniature.write_emit(folder, kind, **more)
        if beside:
            emit_miniature.write_emit(folder, beside, size=(5, 5))
        return changed(path, change)

    return prepare


def made(write: Callable[..., Any], name: str, change: Change = None, **more: Any) -> Callable[[Path], Path]:
    def prepare(folder: Path) -> Path:
        write(folder / name, **more)
        return changed(folder / name, change)

    return prepare


def neon(change: Change = None, **more: Any) -> Callable[[Path], Path]:
    return made(neon_miniature.write_neon, "NEON_D17_SOAP_DP3_reflectance.h5", change, **more)


def aviris(change: Change = None, **more: Any) -> Callable[[Path], Path]:
    return made(aviris_netcdf_miniature.write_aviris, "AV320231008t155205_RFL_ORT.nc", change, **more)


def cf(change: Change = None, **more: Any) -> Callable[[Path], Path]:
    return made(cf_netcdf_miniature.write_cf, "a.nc", change, **more)


def written(name: str, fill: Callable[[h5py.File], None]) -> Callable[[Path], Path]:
    def prepare(folder: Path) -> Path:
        with h5py.File(folder / name, "w") as file:
            fill(file)
        return folder / name

    return prepare


def drop(place: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file[place]

    return change


def put(place: str, values: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        if place in file:
            del file[place]
        file[place] = values

    return change


def attr(place: str, name: str, value: Any) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        file[place].attrs[name] = value

    return change


def promise(shape: tuple[int, ...], chunks: tuple[int, ...]) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        del file["reflectance"]
        file.create_dataset("reflectance", shape, np.float32, chunks=chunks)

    return change


def link_away(file: h5py.File) -> None:
    del file["reflectance"]
    file["reflectance"] = h5py.ExternalLink("elsewhere.h5", "/x")


def storage_away(place: str) -> Callable[[h5py.File], None]:
    def change(file: h5py.File) -> None:
        shape = file[place].shape
        del file[place]
        file.create_dataset(place, shape, np.int16, external=[("/etc/passwd", 0, h5py.h5f.UNLIMITED)])

    return change


def virtual(file: h5py.File) -> None:
    layout = h5py.VirtualLayout((3, 4, 5), np.uint8)
    layout[0] = h5py.VirtualSource("other.h5", "x", (4, 5))
    file.create_virtual_dataset("cube", layout)


def cut(prepare: Callable[[Path], Path], keep: int) -> Callable[[Path], Path]:
    def shorter(folder: Path) -> Path:
        path = prepare(folder)
        path.write_bytes(path.read_bytes()[:keep])
        return path

    return shorter


def endless_heap(folder: Path) -> Path:
    """A heap object of index 0 and size 0, over which the HDF5 library steps for ever."""
    path = emit("OBS")(folder)
    data = bytearray(path.read_bytes())
    at = data.index(b"GCOL") + 16
    data[at : at + 16] = bytes(16)
    path.write_bytes(data)
    return path


def endless_text(folder: Path) -> Path:
    """A reference into the heap of texts that promises 4 billion characters."""
    path = emit("OBS")(folder)
    data = bytearray(path.read_bytes())
    heaps = [at.start().to_bytes(8, "little") for at in re.finditer(b"GCOL", data)]
    reference = re.search(b"(....)(" + b"|".join(map(re.escape, heaps)) + rb")[\1-\10]\0\0\0", data, re.DOTALL)
    assert reference
    data[reference.start() : reference.start() + 4] = b"\xff\xff\xff\xf0"
    path.write_bytes(data)
    return path


def two_cubes(file: h5py.File) -> None:
    for name in ("first", "second"):
        file[name] = np.zeros((3, 4, 5), np.float32)
    file["wavelength"] = [500.0, 600.0, 700.0]


def reads(path: Path) -> Any:
    return ts.open(path).values


WAVE = "sensor_band_parameters/wavelengths"
NEON = "SOAP/Reflectance"
SPECTRAL = f"{NEON}/Metadata/Spectral_Data/Wavelength"
ROWS = [
    Row("emit-no-waves", opens(), MissingMetadata, "wavelengths", cli=info, prepare=emit(change=drop(WAVE))),
    Row("emit-waves-count", opens(), BandMismatch, "20 bands but", prepare=emit(change=put(WAVE, np.arange(400.0, 430)))),
    Row("emit-positions-size", opens(), BrokenProduct, "location/lon", prepare=emit(change=put("location/lon", np.ones((3, 4))))),
    Row("emit-table-shape", opens(), BrokenProduct, "equal 2-D tables", prepare=emit(change=put("location/glt_x", np.ones(4)))),
    Row(
        "emit-table-fractions",
        lambda path: ts.geo.orthorectify(ts.open(path)),
        GridMismatch,
        "fractions",
        prepare=emit(change=put("location/glt_x", np.full((12, 14), 1.5))),
    ),
    Row("emit-units", opens(), BrokenProduct, "uW/cm", prepare=emit("RAD", units="bananas")),
    Row("emit-flat", opens(), BrokenProduct, "downtrack", prepare=emit(change=put("reflectance", np.ones((3, 4, 2, 2))))),
    Row("emit-layer", opens(layers=["clouds"]), UnknownName, "elevation", prepare=emit()),
    Row("emit-companion-size", opens(layers=["cloud"]), BrokenProduct, r"\(5, 5\) pixels", prepare=emit(beside="MASK")),
    Row("emit-mask-bands", opens(), BrokenProduct, "expected 8", prepare=emit("MASK", put("mask", np.zeros((12, 9, 3), "f4")))),
    Row("emit-obs-names", opens(), BandMismatch, "observation_bands names 2", prepare=emit(
        "OBS", put("sensor_band_parameters/observation_bands", np.array([b"a", b"b"])))),
    Row("emit-packed", opens(layers=["interpolated"]), BrokenProduct, "bytes for 285 bands", prepare=emit(
        "MASK", put("band_mask", np.zeros((12, 9, 3), "u1")))),
    Row("emit-link", opens(), UnsafeInput, "links to another file", cli=info, prepare=emit(change=link_away)),
    Row("emit-petabyte", opens(), TooLarge, "promises", cli=info, prepare=emit(change=promise((10**6, 10**6, 285), (64, 64, 8)))),
    Row("emit-block", opens(), TooLarge, "blocks of", prepare=emit(change=promise((10**5, 10**5, 2), (40000, 40000, 1)))),
    Row("emit-read", reads, TooLarge, "at once", prepare=emit(change=promise((200000, 100000, 20), (64, 64, 20)), location=False)),
    Row("emit-option", opens(overlap="vnir"), BadSettings, "no option", prepare=emit()),
    Row("emit-cut", reads, BrokenProduct, "HDF5", prepare=cut(emit(), 3000)),
    Row("emit-heap", opens(), BrokenProduct, "damaged heap", cli=info, prepare=endless_heap),
    Row("emit-long-text", opens(), BrokenProduct, "damaged text", cli=info, prepare=endless_text),
    Row("emit-forced", opens(reader="emit"), BrokenProduct, "group location", prepare=neon()),
    Row("neon-no-waves", opens(), MissingMetadata, "Spectral_Data/Wavelength", cli=info, prepare=neon(drop(SPECTRAL))),
    Row("neon-waves-count", opens(), BandMismatch, "none of whose axes", prepare=neon(put(SPECTRAL, np.arange(400.0, 431)))),
    Row("neon-scale", opens(), BadCube, "Scale_Factor", prepare=neon(factor=0.0)),
    Row("neon-no-scale", opens(), MissingMetadata, "Scale_Factor", prepare=neon(factor=None)),
    Row("neon-map-info", opens(), BrokenProduct, "map info", prepare=neon(map_info="UTM, 1, 1, here, there, 1, 1, 11")),
    Row("neon-site", opens(key="SJER"), UnknownName, "SOAP", prepare=neon()),
    Row("neon-external", opens(), UnsafeInput, "another file", prepare=neon(storage_away(f"{NEON}/Reflectance_Data"))),
    Row("neon-forced", opens(reader="neon"), BrokenProduct, "/SITE/Reflectance", prepare=cf()),
    Row("aviris-units", opens(), BrokenProduct, "bananas", prepare=aviris(group="radiance", units="bananas")),
    Row("aviris-forced", opens(reader="aviris-netcdf"), BrokenProduct, "observation_parameters", prepare=neon()),
    Row("aviris-layer", opens(layers=["slope"]), UnknownName, "no layer", prepare=aviris()),
    Row("pace-overlap", opens(overlap="vnir"), BadSettings, "detector, blue, red", prepare=made(pace_miniature.write_l1b, "p.nc")),
    Row("pace-forced", opens(reader="pace"), BrokenProduct, "rhot_blue", prepare=neon()),
    Row("pace-no-waves", opens(), MissingMetadata, "blue_wavelength", prepare=made(
        pace_miniature.write_l1b, "p.nc", drop("sensor_band_parameters/blue_wavelength"))),
    Row("cf-two", opens(), MissingMetadata, "first, second", cli=info, prepare=written("a.nc", two_cubes)),
    Row("cf-key", opens(key="frist"), UnknownName, "first", prepare=written("a.nc", two_cubes)),
    Row("cf-axis", opens(), MissingMetadata, "band_axis", prepare=written("a.h5", put("v", np.zeros((3, 4, 5))))),
    Row("cf-axis-value", opens(band_axis=7), BadSettings, "0, 1 or 2", prepare=written("a.h5", put("v", np.zeros((3, 4, 5))))),
    Row("cf-scale", opens(), BrokenProduct, "scale_factor", prepare=cf(attr("reflectance", "scale_factor", 0.0))),
    Row("cf-scale-text", opens(), BrokenProduct, "expected a number", prepare=cf(attr("reflectance", "scale_factor", "much"))),
    Row("cf-fill-text", opens(), BrokenProduct, "_FillValue", prepare=cf(attr("reflectance", "_FillValue", "none"))),
    Row("cf-waves", opens(wavelength=[1.0, 2.0]), BandMismatch, "2 wavelengths for 6", prepare=cf()),
    Row("cf-no-cube", opens(), UnknownProduct, "with table", cli=info, prepare=written("a.h5", put("table", np.arange(4)))),
    Row("cf-empty", opens(), UnknownProduct, "empty", prepare=written("a.nc", lambda file: None)),
    Row("cf-virtual", opens(), UnsafeInput, "virtual dataset", prepare=written("a.h5", virtual)),
    Row("cf-netcdf3", opens(), UnknownProduct, "nccopy", cli=info, prepare=file_of("a.nc", b"CDF\x01" + bytes(60))),
    Row("cf-hdf4", opens(), UnknownProduct, "HDF4", prepare=file_of("a.hdf", b"\x0e\x03\x13\x01" + bytes(60))),
    Row("cf-text", opens(), UnknownProduct, "does not start as one", prepare=file_of("a.nc", b"not a netCDF file at all")),
    Row("cf-cut", opens(), BrokenProduct, "no readable HDF5", cli=info, prepare=cut(cf(), 1500)),
]  # fmt: skip
