"""EnMAP: miniatures with the names, XML, orders and extensions of real products."""

from __future__ import annotations

import pickle
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

sys.path.insert(0, str(Path(__file__).parent))
from enmap_miniature import SWIR, VNIR, bands, write_product, write_raster, xml, zip_product

import torchspectral as ts
from torchspectral.errors import BadSettings, BandMismatch, BrokenProduct, MissingMetadata, UnknownName, UnsafeInput
from torchspectral.geo import grid_of
from torchspectral.io.readers.enmap.metadata import guess_detectors


def physical(values: np.ndarray, gain: float = 1e-4, offset: float = 0.0, nodata: int | None = -32768) -> np.ndarray:
    out = values.astype(np.float64) * gain + offset
    if nodata is not None:
        out[values == nodata] = np.nan
    return out


def check_l2a(cube, values, table) -> None:
    waves = [w for w, _, _ in table]
    order = sorted(range(len(waves)), key=lambda i: waves[i])
    np.testing.assert_allclose(cube.values, physical(values)[order], rtol=2e-7)
    assert cube["wavelength"].values.tolist() == [waves[i] for i in order]
    assert cube["fwhm"].values.tolist() == [table[i][1] for i in order]
    assert cube["detector"].values.tolist() == [table[i][2] for i in order]
    assert cube["number"].values.tolist() == [i + 1 for i in order]
    assert cube["wavelength"].values[~cube["good"].values].tolist() == [1390.0, 1400.0]
    assert cube.dtype == np.float32 and cube.attrs["quantity"] == "reflectance"


@pytest.mark.parametrize(
    "shape",
    [
        {}, {"order": "detector"}, {"lower": True, "suffix": ".tif"}, {"cog": True, "suffix": ".tiff", "lower": True},
        {"suffix": ".GEOTIFF"}, {"suffix": ".bsq"}, {"scale": 1e-4}, {"lists": False}, {"statistics": False},
        {"lists": False, "order": "detector"}, {"nodata": None},
    ],
    ids=lambda s: "-".join(f"{k}={v}" for k, v in s.items()) or "plain",
)  # fmt: skip
def test_every_way_a_product_is_named_and_written(tmp_path: Path, shape: dict) -> None:
    meta, values, table = write_product(tmp_path / "p", **shape)
    image = next(p for p in meta.parent.iterdir() if "SPECTRAL_IMAGE" in p.name and p.suffix not in (".hdr", ".xml"))
    for path in (meta, meta.parent, image):
        cube = ts.open(path)
        check_l2a(cube, values, table)
    assert grid_of(cube).transform == Affine(30.0, 0, 362175.0, 0, -30.0, 5809965.0)
    assert grid_of(cube).crs.to_epsg() == 32633


def test_attributes(tmp_path: Path) -> None:
    meta, _, _ = write_product(tmp_path / "p")
    attrs = ts.open(meta).attrs
    assert attrs["sun_zenith"] == 34.75 and attrs["sun_azimuth"] == 151.5 and attrs["view_zenith"] == 7.5
    assert (
        attrs["acquired"].startswith("2022-07-24T10:45:26") and attrs["level"] == "L2A" and attrs["sensor"] == "EnMAP"
    )
    assert attrs["aerosol_optical_thickness"] == pytest.approx(0.15) and attrs["water_vapour"] == pytest.approx(2.5)
    assert attrs["corners"] == {"upper_left": [12.9, 52.4]}


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_zip_is_read_where_it_lies(tmp_path: Path, method: int) -> None:
    meta, values, table = write_product(tmp_path / "p")
    archive = zip_product(meta.parent, tmp_path / "a b (1).ZIP", method)
    before = sorted(tmp_path.rglob("*"))
    cube = ts.open(archive)
    check_l2a(cube, values, table)
    clone = pickle.loads(pickle.dumps(cube))
    np.testing.assert_array_equal(clone[3:6, 4:9, 2:5].values, cube.values[3:6, 4:9, 2:5])
    assert "cloud" in ts.layers(archive)
    assert int(ts.open(archive, layers=["cloud"])["cloud"].sum()) == 10
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("level, gain", [("L1B", 2.5e-6), ("L1C", 3e-6)])
def test_radiance_is_per_micrometre(tmp_path: Path, level: str, gain: float) -> None:
    meta, values, table = write_product(tmp_path / "p", level, gain=gain, offset=1e-5, nodata=None, suffix=".TIF")
    cube = ts.open(meta.parent)
    waves = np.array([w for w, _, _ in table])
    order = np.argsort(waves, kind="stable")
    np.testing.assert_allclose(cube.values, physical(values, gain * 1000, 1e-5 * 1000, None)[order], rtol=1e-6)
    assert cube.attrs["quantity"] == "radiance" and cube.attrs["units"] == "W m-2 sr-1 um-1"
    assert grid_of(cube).kind == ("none" if level == "L1B" else "map")
    assert cube["detector"].values.tolist() == [table[i][2] for i in order]


def test_l1b_detectors_can_be_opened_alone(tmp_path: Path) -> None:
    meta, values, _ = write_product(tmp_path / "p", "L1B", gain=1e-6)
    swir = next(meta.parent.glob("*SPECTRAL_IMAGE_SWIR*"))
    cube = ts.open(swir)
    assert set(cube["detector"].values) == {"swir"} and cube["number"].values[0] == len(VNIR) + 1
    assert cube["wavelength"].values.tolist() == [w for w, _ in SWIR]
    np.testing.assert_allclose(cube.values, values[len(VNIR) :] * 1e-3, rtol=1e-6)
    write_raster(swir, values[len(VNIR) :, :10], placed=False)
    with pytest.raises(BrokenProduct, match="by its own name"):
        ts.open(meta)
    assert ts.open(swir).shape == (len(SWIR), 10, 24)


def test_overlap_rules(tmp_path: Path) -> None:
    meta, values, table = write_product(tmp_path / "p")
    first_swir, last_vnir = SWIR[0][0], VNIR[-1][0]
    want = {
        "detector": [w for w, _ in VNIR] + [w for w, _ in SWIR],
        "vnir": [w for w, _ in VNIR] + [w for w, _ in SWIR if w > last_vnir],
        "swir": [w for w, _ in VNIR if w < first_swir] + [w for w, _ in SWIR],
    }
    for rule, waves in want.items():
        cube = ts.open(meta, overlap=rule)
        assert cube["wavelength"].values.tolist() == waves
        at = [next(i for i, b in enumerate(table) if b[0] == w) for w in waves]
        np.testing.assert_allclose(cube.values, physical(values)[at], rtol=2e-7)
    with pytest.raises(BadSettings, match="overlap"):
        ts.open(meta, overlap="mean")


@pytest.mark.parametrize("order", ["wavelength", "detector"])
def test_detectors_are_found_without_lists(order: str) -> None:
    table = bands(order)
    found, _ = guess_detectors(np.array([w for w, _, _ in table]), np.array([f for _, f, _ in table]))
    assert found == [d for _, _, d in table]
    unknown, how = guess_detectors(np.array(sorted(w for w, _, _ in table)), np.full(len(table), np.nan))
    assert unknown.count("") == 22 and "unknown" in how


def test_detectors_of_the_real_scene(samples) -> None:
    with rasterio.open(samples / "enmap" / "images" / "enmap_potsdam_tile_96_96.tif") as src:
        tags = [src.tags(i) for i in src.indexes]
    wave, fwhm = (np.array([float(t[k]) for t in tags]) for k in ("wavelength", "fwhm"))
    found, _ = guess_detectors(wave, fwhm)
    assert found == ["vnir"] * 91 + ["swir"] * 133
    order = np.argsort(wave)
    again, how = guess_detectors(wave[order], fwhm[order])
    assert again == [found[i] for i in order] and "jumps" in how


def test_raw_and_scale(tmp_path: Path) -> None:
    meta, values, table = write_product(tmp_path / "p", scale=1e-4)
    raw = ts.open(meta, raw=True)
    order = np.argsort([w for w, _, _ in table], kind="stable")
    np.testing.assert_array_equal(raw.values, values[order])
    assert raw.dtype == np.int16 and raw.attrs["packing"] == {"scale": [1e-4], "offset": [0.0], "nodata": -32768}
    assert float(ts.open(meta, scale=0.5).max()) == pytest.approx(values.max() * 0.5)
    wrong, _, _ = write_product(tmp_path / "q", scale=2e-4)
    with pytest.raises(BrokenProduct, match=r"TIFF says.*0\.0002.*XML.*0\.0001"):
        ts.open(wrong)
    assert float(ts.open(wrong, scale=1e-4).max()) == pytest.approx(values.max() * 1e-4)


def test_quality_layers(tmp_path: Path) -> None:
    meta, _, _ = write_product(tmp_path / "p")
    names = ts.layers(meta)
    assert {"classes", "cloud", "shadow", "cirrus", "haze", "snow", "testflags_vnir", "pixelmask"} < set(names)
    ds = ts.open(meta, layers=["classes", "water", "nodata", "cirrus", "pixelmask"])
    assert ds["water"].dtype == bool and ds["water"].values.sum() == 3 * 24 and ds["nodata"].values.sum() == 3
    assert ds["cirrus"].values[14, 2:6].tolist() == [1, 2, 3, 1]
    assert ds["pixelmask"].shape == (3, 20, 24) and ds["pixelmask"].values.sum() == 1
    assert ds["classes"].attrs["flag_meanings"] == ["land", "water", "background"]
    with pytest.raises(UnknownName, match="cloud"):
        ts.open(meta, layers=["clouds"])


def test_an_image_alone_needs_its_own_tags(tmp_path: Path) -> None:
    meta, values, table = write_product(tmp_path / "p")
    image = next(meta.parent.glob("*SPECTRAL_IMAGE*"))
    meta.unlink()
    with pytest.raises(MissingMetadata, match=r"METADATA\.XML beside it, the band tags and the band descriptions"):
        ts.open(image)
    tags = [{"wavelength": str(w), "wavelength_units": "Nanometers", "fwhm": str(f)} for w, f, _ in table]
    write_raster(image, values, nodata=-32768, scale=1e-4, tags=tags)
    cube = ts.open(image, overlap="swir")
    assert cube.sizes["band"] == 8 + len(SWIR) and cube.attrs["sensor"] == "EnMAP"
    np.testing.assert_allclose(cube.values[0], physical(values)[0], rtol=1e-6)


def test_real_tiles_still_open_as_what_they_are(samples) -> None:
    cube = ts.open(samples / "enmap" / "images" / "enmap_potsdam_tile_96_96.tif")
    assert cube.sizes["band"] == 224 and (~cube["good"].values).sum() == 6


def test_products_that_do_not_fit_together(tmp_path: Path) -> None:
    meta, _, table = write_product(tmp_path / "p")
    image = next(meta.parent.glob("*SPECTRAL_IMAGE*"))
    write_raster(image, np.ones((5, 20, 24), np.int16))
    with pytest.raises(BandMismatch, match=f"5 bands but the XML describes {len(table)}"):
        ts.open(meta)
    image.unlink()
    with pytest.raises(BrokenProduct, match=r"expected .*SPECTRAL_IMAGE.TIF"):
        ts.open(meta)
    meta.write_text(xml(table, "L2A").replace("<wavelengthCenterOfBand>800.0", "<wavelengthCenterOfBand>"))
    with pytest.raises(BrokenProduct, match="no wavelength"):
        ts.open(meta)
    meta.write_text('<!DOCTYPE x [<!ENTITY a "b">]><level_X><bandCharacterisation/></level_X>')
    with pytest.raises(UnsafeInput):
        ts.open(meta)


def test_hostile_zip(tmp_path: Path) -> None:
    meta, _, _ = write_product(tmp_path / "p")
    archive = zip_product(meta.parent, tmp_path / "x.zip")
    with zipfile.ZipFile(archive, "a") as out:
        out.writestr("../../escape.txt", "x")
    with pytest.raises(UnsafeInput, match="leads out"):
        ts.open(archive, reader="enmap")


def test_two_products_in_one_folder(tmp_path: Path) -> None:
    write_product(tmp_path / "p")
    write_product(tmp_path / "p", "L1C", nodata=None)
    with pytest.raises(BrokenProduct, match="2 EnMAP products"):
        ts.open(tmp_path / "p", reader="enmap")


def test_a_full_size_scene_opens_without_reading_pixels(tmp_path: Path) -> None:
    table = [(420 + 9.0 * i, 8.0, "vnir" if i < 60 else "swir") for i in range(224)]
    stem = "ENMAP01-____L2A-DT0000000001_20230101T000000Z_001_V010400_20230102T000000Z"
    meta = tmp_path / f"{stem}-METADATA.XML"
    meta.write_text(xml(table, "L2A", empty=(130,)))
    image = tmp_path / f"{stem}-SPECTRAL_IMAGE.TIF"
    with rasterio.open(
        image, "w", driver="GTiff", width=1200, height=1000, count=224, dtype="int16", nodata=-32768, tiled=True,
        sparse_ok=True, interleave="band", compress="deflate", crs="EPSG:32633", transform=Affine(30, 0, 0, 0, -30, 0),
    ):  # fmt: skip
        pass
    # What stands in for pixels is damaged: reading any would fail.
    assert image.stat().st_size < 5e6
    ts.open(meta)
    start = time.perf_counter()
    cube = ts.open(meta)
    seconds = time.perf_counter() - start
    assert cube.shape == (224, 1000, 1200) and seconds < 1.0
    assert np.isnan(cube[3, 500:510, 600:610].values).all()


def test_opening_reads_no_pixel(tmp_path: Path, monkeypatch) -> None:
    from torchspectral.io.readers.stacks import StackArray

    meta, _, _ = write_product(tmp_path / "p")
    reads = []
    real = StackArray.read
    monkeypatch.setattr(StackArray, "read", lambda self, *a: reads.append(a) or real(self, *a))
    cube = ts.open(meta)
    assert reads == []
    cube[5:7, 2:4, 3:6].values  # noqa: B018
    assert len(reads) == 1
    bad = ts.open(meta, bad_bands="scan")
    assert (~bad["good"].values).sum() == 2


def test_average_in_the_overlap(tmp_path: Path) -> None:
    meta, values, table = write_product(tmp_path / "p")
    cube = ts.open(meta, overlap="average")
    waves = np.array([w for w, _, _ in table])
    swir = np.array([w for w, _ in SWIR])
    real = physical(values)
    want = []
    for wave, _ in VNIR:
        own = real[int(np.flatnonzero((waves == wave) & (np.array([d for _, _, d in table]) == "vnir"))[0])]
        if wave >= swir[0]:
            at = int(np.searchsorted(swir, wave))
            low, high = (
                real[next(i for i, b in enumerate(table) if b[0] == w and b[2] == "swir")]
                for w in swir[at - 1 : at + 1]
            )
            share = (wave - swir[at - 1]) / (swir[at] - swir[at - 1])
            own = 0.5 * own + 0.5 * ((1 - share) * low + share * high)
        want.append(own)
    np.testing.assert_allclose(cube.values[: len(VNIR)], want, rtol=1e-5)
    assert cube["wavelength"].values.tolist() == [w for w, _ in VNIR] + [w for w in swir if w > VNIR[-1][0]]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube))[3, 4:6].values, cube[3, 4:6].values)
    assert "12 VNIR bands" in cube.attrs["history"][-1]
    raw = ts.open(meta, overlap="average", raw=True)
    assert raw.dtype == np.float32 and "packing" not in raw.attrs


def test_rational_polynomials_are_kept(tmp_path: Path) -> None:
    meta, _, table = write_product(tmp_path / "p", "L1B", gain=1e-6, rpc=True)
    cube = ts.open(meta, overlap="detector")
    assert set(cube.attrs["rpc"]) == {str(i + 1) for i in range(len(table))}
    assert cube.attrs["rpc"]["3"]["row_off"] == 512.25 + 3 and cube.attrs["rpc"]["3"]["line_num_coeff"] == [
        0.5,
        3.0,
        -1e-6,
    ]
    alone = ts.open(next(meta.parent.glob("*SPECTRAL_IMAGE_SWIR*")))
    assert set(alone.attrs["rpc"]) == {str(n) for n in alone["number"].values}
    assert ts.open(write_product(tmp_path / "q")[0]).attrs["corner_angles"]["sun_elevation"] == {
        "upper_left": 1.0, "center": 55.25,
    }  # fmt: skip
