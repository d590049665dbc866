"""Every real sample opens to what its README states, with the values that an independent path finds."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import xarray as xr

import torchspectral as ts
from torchspectral.geo import grid_of, orthorectify
from torchspectral.io.labels import read_labels
from torchspectral.io.libraries import read_library

sys.path.insert(0, str(Path(__file__).parent))
from samples_table import HEADERS, NO_PRODUCT, OWN_LISTS, ROWS, Sample


def opened(row: Sample, path: Path) -> xr.DataArray:
    if row.opens == "library":
        return read_library(path)
    if row.opens == "labels":
        return read_labels(path, **row.options)
    return ts.open(path, **row.options)


@pytest.mark.parametrize("row", [r for r in ROWS if r.opens != "vectors"], ids=lambda row: row.path)
def test_sample_opens_as_its_readme_states(samples: Path, row: Sample) -> None:
    path = samples / row.path
    value = opened(row, path)
    assert value.shape == row.shape
    assert value.attrs.get("quantity", "dn") == row.quantity
    if row.dtype:
        assert str(value.dtype) == row.dtype
    if row.wavelength is not None:
        np.testing.assert_allclose(value.wavelength.values[[0, -1]], row.wavelength, rtol=0, atol=row.within)
    if row.fwhm is not None:
        low, high = row.fwhm
        assert ((value.fwhm.values > low) & (value.fwhm.values < high)).all()
    if isinstance(row.bad, list):
        assert value.number.values[~value.good.values].tolist() == row.bad
    if row.history:
        assert any(row.history in line for line in value.attrs["history"])
    if row.nodata is not None or row.scale == 1e-4 or row.scale == 2.75e-5:
        check_storage(row, path, value)
    check_ground(row, value)
    check_values(row, path, value)
    if row.layers:
        assert set(row.layers) <= set(ts.layers(path))


def check_storage(row: Sample, path: Path, value: xr.DataArray) -> None:
    """Nodata and scale: of raw integers, or of the packed form of physical values."""
    if row.opens == "library":
        assert row.scale is None or row.quantity == "reflectance"
        return
    if row.quantity == "dn":
        assert value.attrs.get("nodata") == row.nodata
        return
    packing = ts.open(path, raw=True, **row.options).attrs["packing"]
    if row.nodata is not None and packing["nodata"] is not None:
        assert packing["nodata"] == row.nodata
    if row.scale is not None:
        np.testing.assert_allclose(packing["scale"], row.scale, rtol=1e-9)


def check_ground(row: Sample, value: xr.DataArray) -> None:
    if row.opens == "library":
        return
    grid = grid_of(value)
    if row.kind:
        assert grid.kind == row.kind
    if row.epsg is not None:
        assert grid.crs is not None and grid.crs.to_epsg() == row.epsg
    if row.transform is not None:
        assert grid.transform.to_gdal() == row.transform


def check_values(row: Sample, path: Path, value: xr.DataArray) -> None:
    plain = np.asarray(row.plain(path))
    if row.scale == 10.0:  # stated in other units
        plain = plain * row.scale
    got = value.values
    if row.opens == "labels":
        assert got.dtype.kind == "u"
        if row.classes is not None:
            count = len(np.unique(got))
            assert count == row.classes if row.classes > 6 else int(got.max()) <= row.classes
    if row.rtol:
        np.testing.assert_allclose(got, plain, rtol=row.rtol, atol=row.rtol * 1e-1)
    elif got.dtype == np.float32:
        np.testing.assert_array_equal(got, plain.astype(np.float32))
    else:
        np.testing.assert_array_equal(got, plain)


@pytest.mark.parametrize("row", [r for r in ROWS if r.opens == "vectors"], ids=lambda row: row.path)
def test_vectors_have_the_number_of_points_stated(samples: Path, row: Sample) -> None:
    from torchspectral.io.labels.vectors import read_vectors

    pytest.importorskip("geopandas")
    table = read_vectors(samples / row.path)
    assert len(table) == row.shape[0]


@pytest.mark.parametrize("name", HEADERS)
def test_headers_without_data(samples: Path, tmp_path: Path, name: str) -> None:
    wavelength, fwhm, good = HEADERS[name]
    shutil.copy(samples / name, tmp_path / "a.hdr")
    np.arange(20, dtype="<i4").tofile(tmp_path / "a.bsq")
    cube = ts.open(tmp_path / "a.hdr")
    assert cube.wavelength.values.tolist() == wavelength and cube.good.values.tolist() == good
    np.testing.assert_array_equal(cube.fwhm, fwhm)
    assert grid_of(cube).crs.to_epsg() == 4326
    np.testing.assert_array_equal(cube.values.reshape(-1), np.arange(20))


@pytest.mark.parametrize("name", ["EMIT_L1B_OBS", "EMIT_L2A_MASK"])
def test_emit_lookup_is_that_of_the_product(samples: Path, name: str) -> None:
    path = samples / "emit" / f"{name}_001_20220827T060753_9999999_999.nc"
    value = ts.open(path)
    with h5py.File(samples / "emit" / "EMIT_L1B_OBS_001_20220827T060753_9999999_999.nc", "r") as file:
        glt = np.stack([file["location/glt_x"][()], file["location/glt_y"][()]])
    seen = (glt != 0).all(axis=0)
    assert glt.shape[1:] == (318, 354) and round(100 * seen.mean(), 1) == 50.7
    stored = value.values
    expected = np.full((len(stored), 318, 354), np.nan, np.float32)
    expected[:, seen] = stored[:, glt[1][seen] - 1, glt[0][seen] - 1]
    on_map = orthorectify(value)
    np.testing.assert_array_equal(on_map.values, expected)
    np.testing.assert_allclose(
        grid_of(on_map).transform.to_gdal(), (61.6401745, 5.42232520e-04, 0, 36.3916118, 0, -5.42232520e-04), rtol=1e-8
    )


def test_emit_bands_that_were_interpolated(samples: Path) -> None:
    path = samples / "emit" / "EMIT_L2A_MASK_001_20220827T060753_9999999_999.nc"
    found = ts.open(path, layers="interpolated_bands")["interpolated_bands"]
    with h5py.File(path, "r") as file:
        bits = np.unpackbits(file["band_mask"][()], axis=-1)[..., :285]
    np.testing.assert_array_equal(found.values, bits.transpose(2, 0, 1))


def test_sentinel_bands_of_other_sizes(samples: Path) -> None:
    import rasterio

    found = ts.open(samples / "sentinel2", layers=["bands_20m", "bands_60m", "scl"])
    for layer, names in (("bands_20m", ["B05", "B06", "B07", "B8A", "B11", "B12"]), ("bands_60m", ["B01", "B09"])):
        for number, name in enumerate(names):
            with rasterio.open(samples / "sentinel2" / f"{name}.tif") as file:
                stored = file.read(1)
            plain = np.where(stored == 0, np.nan, stored * 1e-4)
            np.testing.assert_allclose(found[layer].values[number], plain, rtol=1e-6)
    with rasterio.open(samples / "sentinel2" / "SCL.tif") as file:
        np.testing.assert_array_equal(found["scl"].values, file.read(1))


def test_maps_of_anomalies_have_the_pixels_stated(samples: Path) -> None:
    for name, count in (("aviris/sandiego_plane.mat", 134), ("hydice/HYDICE_data.mat", 19)):
        assert int(read_labels(samples / name).values.sum()) == count


def test_no_file_is_forgotten(samples: Path) -> None:
    """Each file of the list has a row, or a reason why it has none."""
    covered = {row.path.rstrip("/") for row in ROWS} | set(HEADERS) | set(NO_PRODUCT)
    missing = []
    for file in samples.rglob("*"):
        name = str(file.relative_to(samples))
        if not file.is_file() or name.split("/")[0] in OWN_LISTS or name in covered:
            continue
        # A header goes with its data file.
        if not any(c in covered for c in (name.removesuffix(".hdr"), f"{name[:-4]}.img", f"{name[:-4]}.raw")):
            missing.append(name)
    assert not missing
