"""EMIT: the real OBS and MASK crops, and miniatures of the products that could not be had."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
from affine import Affine

sys.path.insert(0, str(Path(__file__).parent))
from emit_miniature import GEOTRANSFORM, name_of, write_emit

import torchspectral as ts
from torchspectral.errors import BandMismatch, BrokenProduct, UnknownName
from torchspectral.geo import grid_of, orthorectify
from torchspectral.io.masks import apply_mask, clear_mask
from torchspectral.io.opening import find_reader, get_reader

REAL = {
    "obs": "EMIT_L1B_OBS_001_20220827T060753_9999999_999.nc",
    "mask": "EMIT_L2A_MASK_001_20220827T060753_9999999_999.nc",
}
STATED = (61.6401745, 5.42232520e-04, -0.0, 36.3916118, -0.0, -5.42232520e-04)


def stored_in(path: Path, *names: str) -> list[np.ndarray]:
    with h5py.File(path, "r") as file:
        return [file[name][()] for name in names]


def by_formula(data: np.ndarray, glt_x: np.ndarray, glt_y: np.ndarray) -> np.ndarray:
    """The published formula: 1-based, empty where either is 0; (y, x, band) to (band, y, x)."""
    out = np.full((*glt_x.shape, data.shape[2]), np.nan, np.float32)
    valid = (glt_x != 0) & (glt_y != 0)
    out[valid] = np.where(data == -9999, np.nan, data)[glt_y[valid] - 1, glt_x[valid] - 1]
    return out.transpose(2, 0, 1)


@pytest.mark.parametrize("variable", ["obs", "mask"])
def test_real_crops_orthorectify_by_the_formula(samples: Path, tmp_path: Path, variable: str) -> None:
    path = samples / "emit" / REAL[variable]
    layers = ts.open(path)
    assert layers.dims == ("layer", "y", "x") and layers.shape == ({"obs": 11, "mask": 8}[variable], 200, 200)
    data, glt_x, glt_y, lon = stored_in(path, variable, "location/glt_x", "location/glt_y", "location/lon")
    np.testing.assert_array_equal(layers.values, data.transpose(2, 0, 1))
    np.testing.assert_array_equal(layers["lon"].values, lon)
    assert layers.attrs["acquired"] == "2022-08-27T06:07:53Z" and layers.attrs["sensor"] == "EMIT"
    want = by_formula(data, glt_x, glt_y)
    flat = orthorectify(layers)
    np.testing.assert_array_equal(flat.values, want)
    np.testing.assert_allclose(grid_of(flat).transform.to_gdal(), STATED, rtol=1e-8)
    assert grid_of(flat).crs.to_epsg() == 4326
    # Coordinates are centres, not upper left corners.
    np.testing.assert_allclose(
        flat["x"].values[[0, 7]], STATED[0] + np.array([0.5, 7.5]) * STATED[1], rtol=0, atol=1e-6
    )
    ts.save(layers, tmp_path / "out.tif")
    with rasterio.open(tmp_path / "out.tif") as saved:
        np.testing.assert_array_equal(saved.read(), want)
        np.testing.assert_allclose(saved.transform.to_gdal(), STATED, rtol=1e-8)
        assert saved.descriptions == tuple(layers["layer"].values)


def test_real_masks(samples: Path) -> None:
    path = samples / "emit" / REAL["mask"]
    mask, packed, elev = stored_in(path, "mask", "band_mask", "location/elev")
    found = ts.open(
        path, layers=["cloud", "water", "nodata", "interpolated", "interpolated_bands", "aod550", "elevation"]
    )
    np.testing.assert_array_equal(found["cloud"].values, (mask[..., 0] == 1) | (mask[..., 4] == 1))
    np.testing.assert_array_equal(found["water"].values, mask[..., 2] == 1)
    np.testing.assert_array_equal(found["nodata"].values, mask[..., 3] != 0)
    np.testing.assert_array_equal(found["aod550"].values, mask[..., 5])
    bits = np.unpackbits(packed, axis=-1)[..., :285].transpose(2, 0, 1)
    assert bits.sum() > 0 and found["interpolated_bands"].shape == (285, 200, 200)
    np.testing.assert_array_equal(found["interpolated_bands"].values, bits)
    np.testing.assert_array_equal(
        found["interpolated_bands"][[3, 280, 17], 5:9, 150].values, bits[[3, 280, 17], 5:9, 150]
    )
    np.testing.assert_array_equal(found["interpolated"].values, bits.any(axis=0))
    for _ in range(2):  # a reader that decrements in place is wrong the second time
        np.testing.assert_array_equal(ts.open(path, layers=["elevation"])["elevation"].values, elev)
    clear, flags = clear_mask(path, "clear")
    assert flags == ["cloud", "cirrus", "nodata"]
    bad = ((mask[..., [0, 1, 3, 4]] == 1) | (mask[..., [0, 1, 3, 4]] == -9999)).any(axis=-1)
    np.testing.assert_array_equal(clear.values[0], ~bad)


def test_real_observations_as_layers(samples: Path) -> None:
    path = samples / "emit" / REAL["obs"]
    (obs,) = stored_in(path, "obs")
    assert {"sensor_zenith", "sun_azimuth", "elevation", "cosine_i"} <= set(ts.layers(path))
    angle = ts.open(path, layers=["sun_zenith"])["sun_zenith"]
    np.testing.assert_array_equal(angle.values, obs[..., 4])
    assert angle.attrs["units"] == "deg"
    info = ts.describe(path)
    assert info["reader"] == "emit" and info["grid"]["glt"] == [318, 354]


def test_real_patch_without_units(samples: Path) -> None:
    cube = ts.open(samples / "unmixing" / "emit" / "emit20250324t221005_jpl_unmix_ex.hdr")
    assert cube.shape == (285, 10, 10) and abs(float(cube["wavelength"][0]) - 381.0055927) < 1e-6
    assert "nanometres" in " ".join(cube.attrs["history"])


@pytest.mark.parametrize("kind", ["RAD", "RFL", "RFLUNCERT"])
def test_cubes(tmp_path: Path, kind: str) -> None:
    path, stored = write_emit(tmp_path, kind)
    cube = ts.open(path)
    variable = {"RAD": "radiance", "RFL": "reflectance", "RFLUNCERT": "reflectance_uncertainty"}[kind]
    want = np.where(stored[variable] == -9999, np.nan, stored[variable]).transpose(2, 0, 1)
    np.testing.assert_allclose(cube.values, want * (10 if kind == "RAD" else 1), rtol=1e-6)
    # 0 is a value: only -9999 stands for nodata; negative reflectance is a value, too.
    assert cube.values[4, 3, 3] == 0 and np.isnan(cube.values[:, 0, :2]).all() and (cube.values < 0).any()
    np.testing.assert_allclose(cube["wavelength"].values, stored["wavelengths"].astype(np.float64), rtol=0, atol=1e-8)
    np.testing.assert_allclose(cube["fwhm"].values, 8.41, rtol=1e-6)
    assert (
        cube["good"].values.tolist() == (stored["good"] == 1).tolist() if kind != "RAD" else cube["good"].values.all()
    )
    assert cube.attrs["quantity"] == ("radiance" if kind == "RAD" else "reflectance")
    np.testing.assert_array_equal(
        cube[[3, 17, 4], 2:8, 5].values, (want * (10 if kind == "RAD" else 1))[[3, 17, 4], 2:8, 5].astype("f4")
    )
    flat = orthorectify(cube)
    np.testing.assert_array_equal(
        flat.values, by_formula(np.moveaxis(cube.values, 0, 2), stored["glt_x"], stored["glt_y"])
    )
    assert grid_of(flat).transform.almost_equals(Affine.from_gdal(*GEOTRANSFORM), 1e-12)
    clone = pickle.loads(pickle.dumps(cube))
    np.testing.assert_array_equal(clone.values, cube.values)
    np.testing.assert_array_equal(orthorectify(clone).values, flat.values)
    raw = ts.open(path, raw=True)
    np.testing.assert_array_equal(raw.values, stored[variable].transpose(2, 0, 1))
    assert raw.attrs["packing"]["nodata"] == -9999


def test_window_of_a_swath_orthorectifies(tmp_path: Path) -> None:
    path, stored = write_emit(tmp_path, "RFL")
    whole = by_formula(stored["reflectance"], stored["glt_x"], stored["glt_y"])
    flat = orthorectify(ts.open(path, window=(2, 1, 6, 5)))
    west, north = flat["x"].values[0], flat["y"].values[0]
    col, row = round((west - 10.0) / 0.0005 - 0.5), round((50.0 - north) / 0.0005 - 0.5)
    part = whole[:, row : row + flat.shape[1], col : col + flat.shape[2]]
    seen = np.isfinite(flat.values)
    np.testing.assert_array_equal(flat.values[seen], part[seen])
    assert seen.any()


def test_float_tables_with_nan(tmp_path: Path) -> None:
    path, stored = write_emit(tmp_path, "RFL", float_glt=True)
    want = by_formula(stored["reflectance"], stored["glt_x"], stored["glt_y"])
    np.testing.assert_array_equal(orthorectify(ts.open(path)).values, want)


def test_companions_beside_it(tmp_path: Path) -> None:
    path, _ = write_emit(tmp_path, "RFL")
    history = " ".join(ts.open(path).attrs["history"])
    assert "not found beside it: EMIT_L2A_RFLUNCERT_*" in history and "EMIT_L1B_OBS_*" in history
    assert ts.layers(path) == ["elevation"]
    with pytest.raises(UnknownName, match="EMIT_L2A_MASK_"):
        get_reader("emit").open_layer(path, "cloud")
    _, sigma = write_emit(tmp_path, "RFLUNCERT", seed=1)
    _, masks = write_emit(tmp_path, "MASK", seed=2)
    _, obs = write_emit(tmp_path, "OBS", seed=3, version="002")
    assert "beside it: RFLUNCERT, MASK, OBS" in " ".join(ts.open(path).attrs["history"])
    both = ts.open(
        path, layers=["uncertainty", "cloud", "nodata", "mask", "interpolated_bands", "sun_zenith", "water_vapour"]
    )
    want = sigma["reflectance_uncertainty"].transpose(2, 0, 1)
    np.testing.assert_array_equal(both["uncertainty"].values, np.where(want == -9999, np.nan, want))
    m = masks["mask"]
    np.testing.assert_array_equal(both["cloud"].values, (m[..., 0] == 1) | (m[..., 4] == 1))
    np.testing.assert_array_equal(both["nodata"].values, (m[..., 3] == 1) | (m[..., 0] == -9999))
    assert both["mask"].shape == (8, 12, 9) and both["interpolated_bands"].shape == (20, 12, 9)
    np.testing.assert_array_equal(both["sun_zenith"].values, obs["obs"][..., 4])
    clear, flags = clear_mask(path, "cloud-free")
    assert flags == ["cloud", "cirrus", "nodata"]
    masked = apply_mask(ts.open(path), clear)
    np.testing.assert_array_equal(np.isfinite(masked.values[0]), clear.values[0] & np.isfinite(ts.open(path).values[0]))


def test_companion_of_another_size(tmp_path: Path) -> None:
    path, _ = write_emit(tmp_path, "RAD")
    write_emit(tmp_path, "MASK", size=(11, 9))
    with pytest.raises(BrokenProduct, match=r"\(11, 9\) pixels, expected \(12, 9\)"):
        ts.open(path, layers=["cloud"])


def test_minerals(tmp_path: Path) -> None:
    path, stored = write_emit(tmp_path, "MIN")
    _, more = write_emit(tmp_path, "MINUNCERT", seed=5)
    layers = ts.open(path)
    names = ["group_1_mineral_id", "group_1_band_depth", "group_2_mineral_id", "group_2_band_depth"]
    assert layers["layer"].values.tolist() == names
    np.testing.assert_array_equal(layers.values[0], stored["group_1_mineral_id"])
    depth = np.where(stored["group_2_band_depth"] == -9999, np.nan, stored["group_2_band_depth"])
    np.testing.assert_array_equal(layers.values[3], depth)
    assert dict(zip(layers.attrs["flag_values"], layers.attrs["flag_meanings"], strict=True))[3] == "Kaolinite KGa-1"
    both = ts.open(path, layers=["group_1_mineral_id", "group_2_fit"])
    assert both["group_1_mineral_id"].dtype == np.int16 and both["group_1_mineral_id"].attrs["flag_values"] == [
        0,
        1,
        2,
        3,
    ]
    np.testing.assert_array_equal(both["group_2_fit"].values[1:], more["group_2_fit"][1:])
    assert orthorectify(layers).shape[0] == 4


@pytest.mark.parametrize(("kind", "name"), [("CH4ENH", "methane_enhancement"), ("CO2PLM", "carbon_dioxide_plume")])
def test_gas_maps(tmp_path: Path, kind: str, name: str) -> None:
    path = tmp_path / f"EMIT_L2B_{kind}_001_20220810T064957_2222205_033.tif"
    values = np.random.default_rng(0).normal(0, 300, (1, 6, 8)).astype(np.float32)
    values[0, 0, :3] = -9999
    with rasterio.open(
        path, "w", driver="GTiff", width=8, height=6, count=1, dtype="float32", nodata=-9999, crs="EPSG:4326",
        transform=Affine(0.0005, 0, 10, 0, -0.0005, 50),
    ) as out:  # fmt: skip
        out.write(values)
    layers = ts.open(path)
    assert layers.dims == ("layer", "y", "x") and layers["layer"].values.tolist() == [name]
    assert layers.attrs["units"] == "ppm m" and grid_of(layers).kind == "map"
    np.testing.assert_array_equal(layers.values, np.where(values == -9999, np.nan, values))
    ts.save(layers, tmp_path / "out.tif")
    assert find_reader(path)[0].name == "emit" and find_reader(tmp_path / "out.tif")[0].name == "geotiff"


def test_opening_reads_no_pixel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, _ = write_emit(tmp_path, "RFL", size=(1000, 1200), bands=230, chunks=(64, 64, 230), data=False)
    touched: list[tuple[str, int]] = []
    plain = h5py.Dataset.__getitem__

    def counted(self: h5py.Dataset, key: object, *more: object) -> object:
        found = plain(self, key, *more)
        touched.append((self.name, int(np.size(found))))
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", counted)
    facts = ts.describe(path)
    assert facts["shape"] == [230, 1000, 1200]
    assert max((size for _, size in touched), default=0) <= 230, touched
    cube = ts.open(path)
    assert not any(name == "/reflectance" for name, _ in touched)
    cube[5:9, 100:120, 30:50].values  # noqa: B018
    assert sum(size for name, size in touched if name == "/reflectance") == 4 * 20 * 20


def test_without_positions(tmp_path: Path) -> None:
    path, _ = write_emit(tmp_path, "RFL", location=False, name="crop.nc")
    cube = ts.open(path)
    assert grid_of(cube).kind == "none" and "placed nowhere" in " ".join(cube.attrs["history"])
    assert "tells no companions" in " ".join(cube.attrs["history"])


def test_what_is_said_of_units_and_fill(tmp_path: Path) -> None:
    path, stored = write_emit(tmp_path, "RAD", units=None, fill=False)
    cube = ts.open(path)
    assert "taken as uW" in " ".join(cube.attrs["history"])
    np.testing.assert_allclose(cube.values[3, 4], stored["radiance"][4, :, 3] * 10, rtol=1e-6)
    assert np.isnan(cube.values[:, 0, :2]).all()
    other, _ = write_emit(tmp_path, "RAD", units="W/m^2/sr/um", name="other.nc")
    np.testing.assert_allclose(ts.open(other).values[3, 4], stored["radiance"][4, :, 3], rtol=1e-6)
    odd, _ = write_emit(tmp_path, "RAD", units="furlongs", name="odd.nc")
    with pytest.raises(BrokenProduct, match="furlongs"):
        ts.open(odd)


def test_lists_of_another_length(tmp_path: Path) -> None:
    path, _ = write_emit(tmp_path, "RFL")
    with h5py.File(path, "a") as file:
        del file["sensor_band_parameters/wavelengths"]
        file["sensor_band_parameters/wavelengths"] = np.arange(400.0, 419.0)
    with pytest.raises(BandMismatch, match="20 bands but states 19"):
        ts.open(path)
    assert name_of("RFL").startswith("EMIT_L2A")


def test_names_of_a_gigabyte_are_refused(tmp_path) -> None:
    path, _ = write_emit(tmp_path, "MIN")
    with h5py.File(path, "r+") as file:
        group = file["mineral_metadata"]
        del group["name"]
        group.create_dataset("name", shape=(4,), dtype="S400000000")
    with pytest.raises(BrokenProduct, match="expected a list of texts"):
        ts.open(path)
