"""Which reader opens what, errors that tell three cases apart, safety checks, samples, describe."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

import torchspectral as ts
from torchspectral.errors import (
    BadSettings,
    BrokenProduct,
    GridMismatch,
    MissingDependency,
    ProductNotFound,
    TooLarge,
    UnknownName,
    UnknownProduct,
    UnsafeInput,
)
from torchspectral.io import Reader, describe, is_product, opening, reader_cards, safety
from torchspectral.io.readers import facts, wavelengths
from torchspectral.io.readers.base import StoredArray, as_cube, decode_values
from torchspectral.io.samples import indian_pines


def envi(folder: Path, stem: str = "a") -> Path:
    np.arange(24, dtype="<u2").tofile(folder / f"{stem}.img")
    path = folder / f"{stem}.hdr"
    path.write_text(
        "ENVI\nsamples = 4\nlines = 3\nbands = 2\ndata type = 12\ninterleave = bsq\nwavelength = {400, 500}\n"
    )
    return path


def test_three_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ProductNotFound, match="does not exist"):
        ts.open(tmp_path / "no.tif")
    (tmp_path / "a.xyz").write_bytes(b"nothing")
    with pytest.raises(UnknownProduct, match=r"tried geotiff, envi, matlab, zarr, enmap, prisma"):
        ts.open(tmp_path / "a.xyz")
    (tmp_path / "b.mat").write_bytes(b"MATLAB 5.0 MAT-file".ljust(128))
    load = opening._load
    gone = MissingDependency("the matlab reader needs scipy, which is not installed: pip install scipy")
    monkeypatch.setattr(opening, "_load", lambda name: gone if name == "matlab" else load(name))
    with pytest.raises(MissingDependency, match="pip install scipy"):
        ts.open(tmp_path / "b.mat")


def test_content_decides_over_the_name(tmp_path: Path, samples: Path) -> None:
    source = samples / "enmap" / "images" / "enmap_potsdam_tile_128_0.tif"
    (tmp_path / "a.dat").write_bytes(source.read_bytes())
    assert describe(tmp_path / "a.dat")["reader"] == "geotiff"
    with pytest.raises(UnknownName, match="no reader 'geotif'"):
        ts.open(source, reader="geotif")


def test_options_and_layers_are_checked(tmp_path: Path) -> None:
    path = envi(tmp_path)
    with pytest.raises(BadSettings, match=r"no option 'band'.*bands"):
        ts.open(path, band=3)
    with pytest.raises(UnknownName, match="no layer 'pan'"):
        ts.open(path, layers="pan")
    for bands in ([5], [-1], "best", [], {"a": 1}, [True]):
        with pytest.raises(BadSettings):
            ts.open(path, bands=bands)
    for window in ((0, 0, 9, 9), (-1, 0, 1, 1)):
        with pytest.raises(GridMismatch):
            ts.open(path, window=window)
    with pytest.raises(BadSettings, match="row, col"):
        ts.open(path, window=(1, 2))
    with pytest.raises(BadSettings, match="quantity"):
        ts.open(path, quantity="brightness")
    with pytest.raises(BadSettings, match="wavelength_units"):
        ts.open(path, wavelength_units="inch")
    assert ts.open(path, bands=slice(1, 2)).shape == (1, 3, 4)
    assert ts.open(path, bands=[False, True]).number.values.tolist() == [2]


def test_remote_and_virtual_paths_are_refused() -> None:
    for path in ("https://example.org/a.tif", "/vsicurl/http://example.org/a.tif", "/vsizip/a.zip/b.tif"):
        with pytest.raises(UnsafeInput, match="remote or virtual"):
            ts.open(path)
    for path in ("", None, "a\0b"):
        with pytest.raises(ProductNotFound):
            ts.open(path)  # type: ignore[arg-type]


def test_virtual_rasters_are_no_product(tmp_path: Path) -> None:
    (tmp_path / "a.vrt").write_text('<VRTDataset rasterXSize="1" rasterYSize="1"></VRTDataset>')
    with pytest.raises(UnsafeInput, match="virtual raster"):
        ts.open(tmp_path / "a.vrt")


def test_broken_plugin_is_skipped(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    good = metadata.EntryPoint("good", f"{__name__}:Toy", "torchspectral.readers")
    bad = metadata.EntryPoint("bad", "no_such_module:Reader", "torchspectral.readers")
    monkeypatch.setattr(metadata, "entry_points", lambda group: [bad, good] if group == "torchspectral.readers" else [])
    monkeypatch.setitem(sys.modules, __name__, sys.modules[__name__])
    opening._cards.cache_clear()
    try:
        with caplog.at_level(logging.WARNING, logger="torchspectral"):
            names = [row["name"] for row in reader_cards()]
        assert "toy" in names and "bad" not in names and "bad skipped" in caplog.text
        (tmp_path / "a.toy").write_bytes(b"toy")
        assert ts.open(tmp_path / "a.toy").shape == (2, 3, 4)
    finally:
        opening._cards.cache_clear()
        opening._load.cache_clear()


class ToyArray(StoredArray):
    def read(self, bands, rows, cols):
        return np.ones((2, 3, 4), "i2")[bands, rows, cols]


class Toy(Reader):
    name = "toy"
    title = "Toy"
    patterns = ("*.toy",)

    def recognise(self, path: Path) -> float:
        return float(path.suffix == ".toy")

    def open(self, path: Path, raw: bool = False, **options: object) -> xr.DataArray:
        return as_cube(ToyArray((2, 3, 4), "i2", source=path), quantity="dn", raw=raw)


def test_opening_does_not_import_torch(tmp_path: Path) -> None:
    path = envi(tmp_path)
    code = (
        "import sys, torchspectral as ts; ts.open(sys.argv[1]); ts.describe(sys.argv[1]); "
        "print([m for m in ('torch', 'distributed', 'sklearn', 'matplotlib', 'geopandas') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_products_of_a_folder(tmp_path: Path) -> None:
    path = envi(tmp_path)
    (tmp_path / "notes.txt").write_text("x")
    assert is_product(path) and not is_product(tmp_path / "a.img") and not is_product(tmp_path / "notes.txt")


def test_decode_is_exact_and_in_place() -> None:
    stored = np.arange(-5, 10001, 1, dtype="i2").reshape(2, -1, 1)
    out = decode_values(stored, 1e-4, 0.0, -5)
    np.testing.assert_array_equal(out.ravel()[1:], (stored.ravel()[1:] / 10000).astype("f4"))
    assert np.isnan(out.ravel()[0])
    floats = np.array([[[1.0, -9999.0]]], "f4")
    assert decode_values(floats, nodata=-9999.0) is floats and np.isnan(floats[0, 0, 1])
    # 0.1 has no exact float32: nodata is compared as the file stores it.
    assert np.isnan(decode_values(np.array([[[0.1]]], "f4"), nodata=0.1)).all()


def test_reads_beyond_memory_are_refused(tmp_path: Path) -> None:
    cube = ts.open(envi(tmp_path))
    safety.set_limits(read_bytes=20)
    try:
        with pytest.raises(TooLarge, match="read windows"):
            _ = cube.values
        assert cube[0, :1].values.shape == (1, 4)
    finally:
        safety.set_limits()
    safety.set_limits(scene_bytes=20)
    try:
        with pytest.raises(TooLarge, match="TORCHSPECTRAL_MAX_SCENE_BYTES"):
            ts.open(tmp_path / "a.hdr")
    finally:
        safety.set_limits()


@pytest.mark.parametrize(
    ("name", "message"),
    [("../evil.xml", "leads out"), ("/etc/x", "leads out"), ("a\\b", "leads out"), ("C:evil", "leads out")],
)
def test_archive_names(tmp_path: Path, name: str, message: str) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        info = zipfile.ZipInfo("x")
        info.filename = name
        archive.writestr(info, b"1")
    with pytest.raises(UnsafeInput, match=message):
        safety.safe_zip_members(tmp_path / "a.zip")


def test_archive_bombs_and_links(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("zeros", bytes(70 << 20))
    with pytest.raises(UnsafeInput, match="more than 200 times"):
        safety.safe_zip_members(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        info = zipfile.ZipInfo("link")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(UnsafeInput, match="link"):
        safety.safe_zip_members(tmp_path / "b.zip")
    with zipfile.ZipFile(tmp_path / "c.zip", "w") as archive:
        archive.writestr("folder/a.xml", "1")
    assert [m.filename for m in safety.safe_zip_members(tmp_path / "c.zip")] == ["folder/a.xml"]
    (tmp_path / "d.zip").write_bytes(b"PK\x03\x04")
    with pytest.raises(BrokenProduct):
        safety.safe_zip_members(tmp_path / "d.zip")


def test_hostile_xml() -> None:
    bomb = '<!DOCTYPE a [<!ENTITY x "1"><!ENTITY y SYSTEM "file:///etc/passwd">]><a>&y;</a>'
    with pytest.raises(UnsafeInput, match="entities"):
        safety.parse_xml(bomb)
    with pytest.raises(BrokenProduct, match="no readable XML"):
        safety.parse_xml("<a>")
    assert safety.parse_xml("<a><b>1</b></a>").findtext("b") == "1"


def test_hdf5_that_reaches_outside(tmp_path: Path) -> None:
    path = tmp_path / "a.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("x", (4,), "u1", external=[(str(tmp_path / "secret"), 0, 4)])
    with pytest.raises(UnsafeInput, match="values in another file"):
        safety.open_hdf5(path)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        layout = h5py.VirtualLayout((4,), "u1")
        layout[:] = h5py.VirtualSource(str(tmp_path / "c.h5"), "x", (4,))
        file.create_virtual_dataset("deep/v", layout)
    with pytest.raises(UnsafeInput, match="virtual dataset"):
        safety.open_hdf5(tmp_path / "b.h5")
    with h5py.File(tmp_path / "d.h5", "w") as file:
        file["x"] = np.zeros(3)
        file["loop"] = h5py.SoftLink("/loop")
        file["again"] = file["/"]
    safety.open_hdf5(tmp_path / "d.h5").close()
    (tmp_path / "e.h5").write_bytes(b"\x89HDF\r\n\x1a\n")
    with pytest.raises(BrokenProduct):
        safety.open_hdf5(tmp_path / "e.h5")


def test_units_of_wavelengths() -> None:
    assert wavelengths.to_nanometres([0.4, 2.5])[0].tolist() == [400, 2500]
    assert wavelengths.to_nanometres([400, 0, -1])[0].tolist()[0] == 400
    assert np.isnan(wavelengths.to_nanometres([1, 2, 3], "Index")[0]).all()
    assert wavelengths.from_names(["b (0.5 um)", "b (0.6 um)"]) is not None
    assert wavelengths.from_names(["B1", "B2"]) is None
    assert wavelengths.plain_names(["band 1 (400 nm)", "Band 2"]) is None
    assert facts.iso_time("2020-01-02T03:04:05+02:00") == "2020-01-02T01:04:05Z" and facts.iso_time("soon") == ""


def test_indian_pines() -> None:
    pytest.importorskip("tensorly", reason="the package that carries the scene is not installed")
    cube, labels = indian_pines()
    assert (
        cube.shape == (200, 145, 145) and cube.dtype == np.uint16 and int(cube.min()) == 955 and int(cube.max()) == 9604
    )
    np.testing.assert_allclose(cube.wavelength[168:174], [2192.37, 2202.30, 2212.22, 2222.15, 2232.07, 2241.99])
    # Two true detector steps remain.
    assert (np.diff(cube.wavelength.values) < 0).sum() == 2
    assert cube.number.values[[0, 103, 199]].tolist() == [1, 109, 219]
    assert sum("misprint" in line for line in cube.attrs["history"]) == 2
    assert labels.shape == (1, 145, 145) and len(labels.attrs["class_names"]) == 17 and int(labels.max()) == 16
    assert cube.attrs["sensor"] == "AVIRIS-Classic" and cube.attrs["quantity"] == "dn"


def test_indian_pines_without_its_package(monkeypatch: pytest.MonkeyPatch) -> None:
    from torchspectral.io import samples as module

    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match="pip install tensorly"):
        indian_pines()


def test_describe_reads_no_pixels(samples: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(StoredArray, "_outer", lambda *a: pytest.fail("pixels were read"))
    known = describe(samples / "enmap" / "images" / "enmap_potsdam_tile_128_0.tif")
    json.dumps(known)
    assert known["shape"] == [224, 32, 32] and known["bad_bands"] == [130, 131, 132, 133, 134, 135]
    assert known["grid"]["epsg"] == 32633 and known["grid"]["kind"] == "map" and known["layers"] == []
    assert known["storage"]["scale"] == 1e-4 and known["storage"]["nodata"] == -32768
    library = describe(samples / "speclib" / "library_berlin.sli")
    assert library["kind"] == "spectra" and library["bands"]["count"] == 177
    known = describe(samples / "aviris" / "salton_sea_roi.mat")
    assert known["layers"] == ["rgb"] and known["bands"]["wavelength_nm"][1] > 2490


def test_every_card_loads_and_agrees() -> None:
    for row in reader_cards():
        reader = opening.get_reader(row["name"])
        assert reader.name == row["name"] and reader.evidence == row["evidence"], row["name"]
        assert row["evidence"] in ("seen-real", "miniature-only")


@pytest.mark.parametrize("sensor", ["hyperion", "enmap", "desis"])
def test_a_folder_of_scenes_is_no_product(tmp_path: Path, sensor: str) -> None:
    import desis_miniature
    import enmap_miniature
    import hyperion_miniature

    write = {
        "hyperion": lambda folder: hyperion_miniature.write_scene(folder, bands=[8, 9]),
        "enmap": enmap_miniature.write_product,
        "desis": desis_miniature.write_product,
    }[sensor]
    archive = tmp_path / "archive"
    write(archive / "one")
    (archive / "readme.txt").write_text("unpacked here")
    (archive / ".hidden").write_bytes(b"1")
    assert opening.find_reader(archive)[0].name == sensor  # a folder around one unpacked product is that product
    np.save(archive / "scene.npy", np.ones((3, 4, 5), "f4"))
    assert not is_product(archive)  # else the other scene would be lost
    (archive / "scene.npy").unlink()
    write(archive / "two")  # the same product processed twice: parts of one must not go into the other
    assert not is_product(archive) and is_product(archive / "one") and is_product(archive / "two")
