"""Masks: one vocabulary, laziness, application."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine

sys.path.insert(0, str(Path(__file__).parent))
import enmap_miniature
import prisma_miniature

import torchspectral as ts
from torchspectral.errors import BadInput, BadSettings, GridMismatch, UnknownName
from torchspectral.geo import grid_of, place
from torchspectral.io.masks import VOCABULARY, apply_mask, clear_mask

UTM = Affine(30.0, 0, 362175.0, 0, -30.0, 5809965.0)


def test_enmap_masks_follow_the_rule(tmp_path: Path) -> None:
    meta, _, _ = enmap_miniature.write_product(tmp_path / "p")
    flags = {n: np.zeros((20, 24), bool) for n in ("cloud", "shadow", "cirrus", "water", "nodata")}
    flags["cloud"][10:12, 4:9] = True
    flags["shadow"][13:15, 4:9] = True
    flags["cirrus"][14, 2:6] = True
    flags["water"][5:8] = True
    flags["nodata"][0, :3] = True
    for rule, names in {
        "clear": ["cloud", "cirrus", "shadow", "nodata"],
        "cloud-free": ["cloud", "cirrus", "nodata"],
        "land": ["cloud", "cirrus", "shadow", "water", "nodata"],
        "water": ["cloud", "cirrus", "shadow", "nodata"],
        "shadow": ["shadow"],
    }.items():
        mask, used = clear_mask(meta, rule)
        want = ~np.any([flags[n] for n in names], axis=0)
        np.testing.assert_array_equal(mask.values[0], want)
        assert set(names) <= set(used) <= set(VOCABULARY) and mask.dtype == bool
    assert grid_of(mask).transform == UTM
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(mask)).values, mask.values)
    ds = ts.open(meta, layers=["cloud", "classes"])
    both, used = clear_mask(ds, ["cloud", "water"])
    np.testing.assert_array_equal(both.values[0], ~(flags["cloud"] | flags["water"]))
    assert used == ["cloud", "water"]


def test_masks_are_applied_lazily(tmp_path: Path) -> None:
    meta, _, _ = enmap_miniature.write_product(tmp_path / "p")
    cube = ts.open(meta)
    mask, _ = clear_mask(meta)
    for given in (mask, mask[0], meta):
        out = apply_mask(cube, given)
        want = np.where(mask.values, cube.values, np.nan)
        np.testing.assert_array_equal(out.values, want)
        np.testing.assert_array_equal(out[3:9:2, 8:16, 2:9].values, want[3:9:2, 8:16, 2:9])
    assert out.attrs["history"][-1] == "masked by cloud, cirrus, shadow, haze, nodata"
    assert grid_of(out) == grid_of(cube)
    raw = apply_mask(ts.open(meta, raw=True), mask)
    assert raw.dtype == np.int16 and (raw.values[:, ~mask.values[0]] == -32768).all()


def test_prisma_masks(tmp_path: Path) -> None:
    path = tmp_path / "PRS_L1_STD_x.he5"
    prisma_miniature.write_product(path, "L1")
    mask, used = clear_mask(path)
    assert used == ["cloud", "nodata"] and (~mask.values).sum() == 3 + 2
    assert "lon" in mask.coords


def test_any_raster_is_a_mask(tmp_path: Path) -> None:
    values = np.array([[0, 1, 2], [3, 255, 1]], np.uint8)
    path = tmp_path / "mask.tif"
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        width=3,
        height=2,
        count=1,
        dtype="uint8",
        nodata=255,
        transform=UTM,
        crs="EPSG:32633",
    ) as out:
        out.write(values[None])
    mask, used = clear_mask(path)
    assert used == ["mask"] and mask.values[0].tolist() == [[False, True, True], [True, False, True]]
    mask, used = clear_mask(path, flagged=[3, 0])
    assert used == ["flagged"] and mask.values[0].tolist() == [[False, True, True], [False, True, True]]


def test_cf_flags_and_named_layers() -> None:
    bits = xr.DataArray(np.array([[0, 1, 8], [16, 24, 2]]), dims=("y", "x"), name="qa_pixel")
    bits.attrs = {"flag_masks": [8, 16], "flag_meanings": "cloud cloud_shadow"}
    mask, used = clear_mask(bits)
    assert used == ["cloud", "shadow"]
    assert mask.values[0].tolist() == [[True, True, False], [False, False, True]]
    stack = xr.DataArray(
        np.zeros((3, 2, 2)), dims=("layer", "y", "x"), coords={"layer": ["Cloud", "Dilated Cloud", "AOD550"]}
    )
    stack[0, 0, 0] = stack[1, 1, 1] = stack[2, 0, 1] = 1
    mask, used = clear_mask(stack)
    assert used == ["cloud"] and mask.values[0].tolist() == [[False, True], [True, False]]


def test_real_emit_mask(samples) -> None:
    with h5py.File(samples / "emit" / "EMIT_L2A_MASK_001_20220827T060753_9999999_999.nc") as file:
        values = np.moveaxis(file["mask"][...], -1, 0)
        names = [n.decode() for n in file["sensor_band_parameters/mask_bands"][...]]
    layers = ts.make_layers(values, names)
    mask, used = clear_mask(layers, "land")
    assert {"cloud", "cirrus", "water"} <= set(used)
    index = [i for i, n in enumerate(names) if "cloud" in n.lower() or "cirrus" in n.lower() or "water" in n.lower()]
    assert len(index) == 4
    np.testing.assert_array_equal(mask.values[0], ~(values[index[:2]] != 0).any(0) & ~(values[index[2:]] != 0).any(0))


def test_bad_masks() -> None:
    cube = place(ts.make_cube(np.ones((2, 3, 4), np.float32)), UTM, 32633)
    with pytest.raises(UnknownName, match="cloud"):
        clear_mask(cube, "clouds")
    with pytest.raises(BadInput, match="none of the flags"):
        clear_mask(cube)
    with pytest.raises(GridMismatch, match="pixels"):
        apply_mask(cube, xr.DataArray(np.ones((3, 5)), dims=("y", "x")))
    off = place(ts.make_layers(np.ones((1, 3, 4)), ["clear"]), Affine(30.0, 0, 0, 0, -30.0, 0), 32633)
    with pytest.raises(GridMismatch, match="corner"):
        apply_mask(cube, off)
    with pytest.raises(BadSettings, match="nodata"):
        apply_mask(cube.astype(np.int16), xr.DataArray(np.ones((3, 4)), dims=("y", "x")))


def test_qa_pixel_file_is_read_by_its_bits(tmp_path: Path) -> None:
    """Its numbers are never 0 on the ground, so that as a plain mask it would keep clouds."""
    import rasterio

    path = tmp_path / "LC08_x_QA_PIXEL.TIF"
    values = np.array([[21824, 1, 22280, 23888, 5440, 21952]], dtype="u2")
    with rasterio.open(path, "w", driver="GTiff", width=6, height=1, count=1, dtype="uint16") as out:
        out.write(values, 1)
    mask, used = clear_mask(path)
    # clear, fill, cloud, shadow, clear, water
    assert mask.values[0, 0].tolist() == [True, False, False, False, True, True]
    assert used == ["cloud", "cirrus", "shadow", "nodata"]
    assert clear_mask(path, "water,cloud")[0].values[0, 0].tolist() == [True, True, False, True, True, False]
