"""A scene of 1000 x 1200 x 230 opens by its metadata alone; what each card says of real products is what is opened."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
import scipy.io

import torchspectral as ts
from torchspectral.io.opening import reader_cards
from torchspectral.io.readers.base import StoredArray

sys.path.insert(0, str(Path(__file__).parent))

BANDS, ROWS, COLS = 230, 1000, 1200
WAVES = np.linspace(400.0, 2500.0, BANDS)


def envi(folder: Path) -> Path:
    waves = ", ".join(f"{w:.3f}" for w in WAVES)
    (folder / "a.hdr").write_text(
        f"ENVI\nsamples = {COLS}\nlines = {ROWS}\nbands = {BANDS}\ndata type = 2\ninterleave = bil\nbyte order = 0\n"
        f"wavelength units = Nanometers\nwavelength = {{{waves}}}\n"
    )
    with (folder / "a.img").open("wb") as file:
        file.truncate(BANDS * ROWS * COLS * 2)
    return folder / "a.hdr"


def geotiff(folder: Path) -> Path:
    with rasterio.open(
        folder / "a.tif", "w", driver="GTiff", width=COLS, height=ROWS, count=BANDS, dtype="int16", tiled=True,
        blockxsize=256, blockysize=256, interleave="band", sparse_ok=True, crs="EPSG:32633",
        transform=rasterio.transform.from_origin(4e5, 5e6, 30, 30),
    ) as out:  # fmt: skip
        for band, wave in enumerate(WAVES, 1):
            out.update_tags(band, wavelength=f"{wave:.3f}", wavelength_units="Nanometers")
    return folder / "a.tif"


def npy(folder: Path) -> Path:
    np.lib.format.open_memmap(folder / "a.npy", mode="w+", dtype="i2", shape=(ROWS, COLS, BANDS))
    return folder / "a.npy"


def matlab_v73(folder: Path) -> Path:
    with h5py.File(folder / "a.mat", "w", userblock_size=512) as file:
        cube = file.create_dataset("cube", (BANDS, COLS, ROWS), "i2", chunks=(10, 100, 100))
        cube.attrs["MATLAB_class"] = np.bytes_("int16")
    with (folder / "a.mat").open("r+b") as out:
        out.write(b"MATLAB 7.3 MAT-file".ljust(124) + b"\x00\x02IM")
    return folder / "a.mat"


def matlab_v5(folder: Path) -> Path:
    scipy.io.savemat(folder / "a.mat", {"cube": np.zeros((2, 2, 2), "i2")})
    data = bytearray((folder / "a.mat").read_bytes())
    size = ROWS * COLS * BANDS * 2
    at = data.index(np.array([2, 2, 2], "<i4").tobytes(), 128)
    data[at : at + 12] = np.array([ROWS, COLS, BANDS], "<i4").tobytes()
    values = data.index(np.array([3, 16], "<u4").tobytes(), at)  # numbers of 16 bits, 16 bytes of them
    data[values + 4 : values + 8] = np.array([size], "<u4").tobytes()
    data[132:136] = np.array([values + 8 - 136 + size], "<u4").tobytes()
    with (folder / "a.mat").open("wb") as file:
        file.write(data[: values + 8])
        file.truncate(values + 8 + size)
    return folder / "a.mat"


def zarr_store(folder: Path) -> Path:
    import zarr

    group = zarr.open_group(str(folder / "a.zarr"), mode="w")
    group.create_array(
        "reflectance", shape=(BANDS, ROWS, COLS), chunks=(BANDS, 64, 64), dtype="f4", dimension_names=("band", "y", "x")
    )
    waves = group.create_array("wavelength", shape=(BANDS,), dtype="f8", dimension_names=("band",))
    waves[:] = WAVES
    waves.attrs["units"] = "nm"
    return folder / "a.zarr"


def cf_netcdf(folder: Path) -> Path:
    with h5py.File(folder / "a.nc", "w") as file:
        for name, values in (("wavelength", WAVES), ("y", np.arange(ROWS) * -30.0), ("x", np.arange(COLS) * 30.0)):
            file[name] = values
            file[name].make_scale(name)
        file["wavelength"].attrs["units"] = "nm"
        cube = file.create_dataset("reflectance", (BANDS, ROWS, COLS), "f4", chunks=(10, 100, 100))
        for axis, name in enumerate(("wavelength", "y", "x")):
            cube.dims[axis].attach_scale(file[name])
    return folder / "a.nc"


def neon(folder: Path) -> Path:
    path = folder / "NEON_D01_SITE_DP3_x_reflectance.h5"
    with h5py.File(path, "w") as file:
        top = file.create_group("SITE/Reflectance")
        cube = top.create_dataset("Reflectance_Data", (ROWS, COLS, BANDS), "i2", chunks=(100, 100, 10))
        cube.attrs["Scale_Factor"], cube.attrs["Data_Ignore_Value"] = [10000.0], [-9999.0]
        top["Metadata/Spectral_Data/Wavelength"] = WAVES
        top["Metadata/Spectral_Data/FWHM"] = np.full(BANDS, 9.0)
        top["Metadata/Coordinate_System/Map_Info"] = b"UTM, 1, 1, 257000, 4112000, 1, 1, 11, North, WGS-84"
        top["Metadata/Coordinate_System/EPSG Code"] = b"32611"
    return path


@pytest.mark.parametrize("write", [envi, geotiff, npy, matlab_v73, matlab_v5, zarr_store, cf_netcdf, neon])
def test_a_full_size_scene_opens_without_reading_a_pixel(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], Path]
) -> None:
    path = write(tmp_path)
    reads: list[str] = []
    plain = StoredArray._outer

    def counted(self: StoredArray, key: tuple[object, ...]) -> np.ndarray:
        reads.append(self.source)
        return plain(self, key)

    monkeypatch.setattr(StoredArray, "_outer", counted)
    cube = ts.open(path)
    assert cube.shape == (BANDS, ROWS, COLS)
    ts.describe(path)
    ts.layers(path)
    assert reads == []
    assert cube[0, 0, 0].load().size == 1 and len(reads) == 1


REAL = {
    "geotiff": "enmap/images/enmap_potsdam_tile_128_0.tif",
    "envi": "envi_headers/engeomap/cubus_gamsberg_subset.hdr",
    "matlab": "aviris/salton_sea_roi.mat",
    "field-spectra": "speclib/ribb00001.asd",
    "aviris": "aviris/pixels/AV320250308t200738_rdn.hdr",
    "emit": "emit/EMIT_L1B_OBS_001_20220827T060753_9999999_999.nc",
    "neon": "neon/neon_sjer_subset.h5",
    "landsat": "landsat/LT05_L1/LT52240631988227CUB02_MTL.txt",
    "line-scan": "headwall/corn-kernel-hyperspectral.hdr",
    "sentinel2": "sentinel2/S2A_29RKH_20200219_0_L2A.json",
    "stac": "landsat/LC08_L2SP/LC08_L2SP_001062_20201031_20201106_02_T2_SR_stac.json",
    "numpy": "irca/imagaz_1/data.npy",
}


def test_cards_say_which_readers_have_seen_real_products() -> None:
    assert {c["name"] for c in reader_cards() if c["evidence"] == "seen-real"} == set(REAL)


@pytest.mark.parametrize("name", REAL)
def test_seen_real_is_true(samples: Path, name: str) -> None:
    value = ts.open(samples / REAL[name], **({"reader": "stac"} if name == "stac" else {}))
    assert value.size and np.isfinite(value.isel({d: slice(0, 20) for d in value.dims}).values).any()
    assert name == "stac" or ts.describe(samples / REAL[name])["reader"] == name
