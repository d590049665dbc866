"""Bad inputs of opening and reading."""

from __future__ import annotations

import zipfile
from pathlib import Path

import h5py
import numpy as np
import rasterio
import scipy.io
from table import Row, file_of, info

import torchspectral as ts
from torchspectral.errors import (
    BadCube,
    BadSettings,
    BandMismatch,
    BrokenProduct,
    GridMismatch,
    MissingMetadata,
    ProductNotFound,
    TooLarge,
    UnknownName,
    UnknownProduct,
    UnsafeInput,
)
from torchspectral.io import safety

HEADER = "ENVI\nsamples = 4\nlines = 3\nbands = 5\ndata type = 12\ninterleave = bsq\n"


def envi(extra: str = "", size: int = 120, header: str = HEADER):
    def prepare(folder: Path) -> Path:
        (folder / "a.img").write_bytes(bytes(size))
        (folder / "a.hdr").write_text(header + extra)
        return folder / "a.hdr"

    return prepare


def tiff(cut: int = 0):
    def prepare(folder: Path) -> Path:
        path = folder / "a.tif"
        with rasterio.open(path, "w", driver="GTiff", count=3, width=9, height=8, dtype="uint16") as target:
            target.write(np.ones((3, 8, 9), "u2"))
        if cut:
            path.write_bytes(path.read_bytes()[:cut])
        return path

    return prepare


def mat(**variables: object):
    def prepare(folder: Path) -> Path:
        scipy.io.savemat(folder / "a.mat", variables)
        return folder / "a.mat"

    return prepare


def hdf5(kind: str):
    def prepare(folder: Path) -> Path:
        path = folder / "a.mat"
        with h5py.File(path, "w") as target:
            target["data"] = np.zeros((3, 4, 5))
            if kind == "external":
                target["other"] = h5py.ExternalLink("/etc/passwd", "/x")
            elif kind == "storage":
                target.create_dataset("raw", (4,), "u1", external=[("/etc/passwd", 0, 4)])
            else:
                layout = h5py.VirtualLayout((4,), "u1")
                layout[:] = h5py.VirtualSource("/tmp/none.h5", "x", (4,))
                target.create_virtual_dataset("v", layout)
        return path

    return prepare


def empty_folder(folder: Path) -> Path:
    (folder / "sub").mkdir()
    return folder / "sub"


def pickled_zarr(folder: Path) -> Path:
    path = folder / "a.zarr" / "data"
    path.mkdir(parents=True)
    (folder / "a.zarr" / ".zgroup").write_text('{"zarr_format": 2}')
    (path / ".zarray").write_text(
        '{"zarr_format": 2, "shape": [2, 2, 2], "chunks": [2, 2, 2], "dtype": "|O", "order": "C", "fill_value": null, '
        '"compressor": null, "filters": [{"id": "pickle", "protocol": 5}]}'
    )
    return folder / "a.zarr"


def evil_zip(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr("../../evil", b"1")
    return folder / "a.zip"


def opens(path: Path) -> object:
    return ts.open(path)


ROWS = [
    Row(
        "missing",
        lambda tmp: ts.open(tmp / "no.tif"),
        ProductNotFound,
        "does not exist",
        cli=lambda tmp: info(tmp / "no.tif"),
    ),
    Row("no-path", lambda tmp: ts.open(""), ProductNotFound, "expected the path"),
    Row(
        "url",
        lambda tmp: ts.open("https://example.org/a.tif"),
        UnsafeInput,
        "remote",
        cli=lambda tmp: ["spectrum", "s3://bucket/a.tif", "--at", "1", "1", "-o", str(tmp / "s.csv")],
    ),
    Row("vsi", lambda tmp: ts.open("/vsicurl/http://example.org/a.tif"), UnsafeInput, "virtual"),
    Row("vrt", opens, UnsafeInput, "virtual raster", info, file_of("a.vrt", b"<VRTDataset/>")),
    Row("text", opens, UnknownProduct, "no reader recognises", info, file_of("a.doc", b"hello")),
    Row("empty-file", opens, UnknownProduct, "empty", info, file_of("a.tif", b"")),
    Row("empty-folder", opens, UnknownProduct, "folder sub", None, empty_folder),
    Row(
        "flat-without-header", opens, UnknownProduct, r"needs its ENVI header a\.hdr", info, file_of("a.img", bytes(50))
    ),
    Row("wrong-content", opens, UnknownProduct, "its name is that of", info, file_of("a.mat", b"PK no")),
    Row("envi-truncated", opens, BrokenProduct, "120 bytes|truncated", info, envi(size=119)),
    Row("envi-petabyte", opens, TooLarge, "promises", info, envi("lines = 4000000\nsamples = 4000000\nbands = 500\n")),
    Row("envi-too-short-for-header", opens, BrokenProduct, "truncated", info, envi("lines = 40000\n")),
    Row("envi-data-missing", opens, ProductNotFound, r"a\.img", info, file_of("a.hdr", HEADER.encode())),
    Row(
        "envi-no-samples",
        opens,
        BrokenProduct,
        "no 'samples'",
        info,
        envi(header="ENVI\nlines=3\nbands=5\ndata type=12\ninterleave=bsq\n"),
    ),
    Row("envi-type", opens, BrokenProduct, "data type 11", info, envi("data type = 11\n")),
    Row("envi-complex", opens, BadCube, "part=", info, envi("data type = 6\n", size=480)),
    Row("envi-frames", opens, BrokenProduct, "frame offsets", info, envi("major frame offsets = {8, 0}\n")),
    Row("envi-wavelength-count", opens, BandMismatch, "5 bands but states 2", info, envi("wavelength = {400, 500}\n")),
    Row(
        "envi-wavelength-units",
        opens,
        MissingMetadata,
        "wavelength_units",
        info,
        envi("wavelength = {50,60,70,80,90}\n"),
    ),
    Row("envi-list-open", opens, BrokenProduct, "not closed", info, envi("wavelength = {400,\n500\n")),
    Row("envi-crs", opens, BrokenProduct, "no WKT", info, envi("coordinate system string = {NONSENSE[}\n")),
    Row("tif-truncated", lambda p: ts.open(p).values, BrokenProduct, "is truncated", None, tiff(cut=-60)),
    Row("tif-cut-header", opens, BrokenProduct, "cannot be opened", info, tiff(cut=20)),
    Row(
        "option-name",
        lambda p: ts.open(p, boundingbox=(0, 0, 1, 1)),
        BadSettings,
        "no option 'boundingbox'",
        None,
        tiff(),
    ),
    Row("option-bbox-nowhere", lambda p: ts.open(p, bbox=(0, 0, 1, 1)), GridMismatch, "lies nowhere", None, tiff()),
    Row("option-window", lambda p: ts.open(p, window=(0, 0, 99, 1)), GridMismatch, "leaves the image", None, tiff()),
    Row("option-bands", lambda p: ts.open(p, bands=[7]), BadSettings, "expected bands 1 to 3", None, tiff()),
    Row(
        "option-wavelengths-unknown",
        lambda p: ts.open(p, bands=[650.0]),
        MissingMetadata,
        "give wavelength=",
        None,
        tiff(),
    ),
    Row("option-scale", lambda p: ts.open(p, scale="big"), BadSettings, "expected a number", None, tiff()),
    Row("option-scale-zero", lambda p: ts.open(p, scale=0), BadSettings, "other than 0", None, tiff()),
    Row("layer", lambda p: ts.open(p, layers=["pan"]), UnknownName, "no layer 'pan'", None, tiff()),
    Row("reader", lambda p: ts.open(p, reader="gdal"), UnknownName, "no reader 'gdal'", None, tiff()),
    Row("reader-forced", lambda p: ts.open(p, reader="prisma"), BrokenProduct, "HDF5|PRISMA", None, tiff()),
    Row("mat-two-cubes", opens, MissingMetadata, "give key=", info, mat(a=np.zeros((3, 4, 5)), b=np.zeros((3, 4, 6)))),
    Row("mat-no-cube", opens, BadCube, "no 2-D or 3-D", info, mat(a="text")),
    Row(
        "mat-key", lambda p: ts.open(p, key="x"), UnknownName, "it has a 3x4x5 double", None, mat(a=np.zeros((3, 4, 5)))
    ),
    Row(
        "mat-complex",
        lambda p: ts.open(p).values,
        BadCube,
        "3x4x5 complex",
        None,
        mat(a=np.zeros((3, 4, 5), "c16")),
    ),
    Row(
        "mat-garbage",
        opens,
        BrokenProduct,
        "MATLAB",
        info,
        file_of("a.mat", b"MATLAB 5.0 MAT-file".ljust(124) + b"\x00\x01IM" + b"\xff" * 90),
    ),
    Row("hdf5-external-link", opens, UnsafeInput, "links to another file", info, hdf5("external")),
    Row("hdf5-external-storage", opens, UnsafeInput, "values in another file", info, hdf5("storage")),
    Row("hdf5-virtual", opens, UnsafeInput, "virtual dataset", info, hdf5("virtual")),
    Row("zarr-pickle", opens, UnsafeInput, "pickle", info, pickled_zarr),
    Row("zip-path", safety.safe_zip_members, UnsafeInput, "leads out", None, evil_zip),
]
