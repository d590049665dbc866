"""ENVI: miniatures written byte by byte here, and the real files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import rasterio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import torchspectral as ts
from torchspectral.errors import BadCube, BandMismatch, BrokenProduct, MissingMetadata, ProductNotFound, TooLarge
from torchspectral.geo import grid_of
from torchspectral.io.readers.envi.header import parse_header

CODES = {"u1": 1, "i2": 2, "i4": 3, "f4": 4, "f8": 5, "u2": 12, "u4": 13, "i8": 14, "u8": 15}
ORDER = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}


def write(
    folder: Path, values: np.ndarray, interleave="bsq", order="<", offset=0, extra="", stem="scene", suffix=".img"
) -> Path:
    """A pair of files as ENVI's manual describes them; `values` is (band, y, x)."""
    data = np.ascontiguousarray(values.transpose(ORDER[interleave])).astype(values.dtype.newbyteorder(order))
    (folder / f"{stem}{suffix}").write_bytes(b"\xaa" * offset + data.tobytes())
    bands, lines, samples = values.shape
    code = CODES[values.dtype.str[1:]] if values.dtype.kind != "c" else {8: 6, 16: 9}[values.dtype.itemsize]
    text = f"ENVI\nsamples = {samples}\nlines   = {lines}\nbands = {bands}\ndata type = {code}\n"
    text += f"interleave = {interleave}\n"
    text += f"header offset = {offset}\n" if offset else ""
    text += "byte order = 1\n" if order == ">" else ""
    header = folder / f"{stem}.hdr"
    header.write_text(text + extra, encoding="utf-8")
    return header


def ramp(dtype: str, shape=(5, 7, 9)) -> np.ndarray:
    return (np.arange(np.prod(shape)) % 119).reshape(shape).astype(dtype)


@pytest.mark.parametrize("dtype", CODES)
@pytest.mark.parametrize("interleave", ORDER)
def test_every_type_interleave_and_byte_order(tmp_path: Path, dtype: str, interleave: str) -> None:
    values = ramp(dtype)
    for order, offset in (("<", 0), (">", 37)):
        cube = ts.open(write(tmp_path, values, interleave, order, offset))
        assert cube.dtype == (values.dtype if values.dtype.kind in "iu" else np.float32)
        np.testing.assert_array_equal(cube.values, values)
        np.testing.assert_array_equal(cube[[3, 1], 2:5, ::2].values, values[[3, 1], 2:5, ::2])
        np.testing.assert_array_equal(cube[1].values, values[1])


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_windows_are_numpy_windows(tmp_path: Path, data: st.DataObject) -> None:
    interleave = data.draw(st.sampled_from(sorted(ORDER)))
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 40), st.integers(1, 60)))
    values = np.random.default_rng(0).integers(-50, 50, shape).astype("i2")
    extra = "reflectance scale factor = 10\ndata ignore value = -50\n"
    cube = ts.open(write(tmp_path, values, interleave, extra=extra))
    expected = np.where(values == -50, np.nan, values.astype("f4") / np.float32(10))
    key = tuple(
        data.draw(
            st.one_of(
                st.slices(n),
                st.integers(0, n - 1),
                st.lists(st.integers(-n, n - 1), min_size=1, max_size=4),
            )
        )
        for n in shape
    )
    wanted = expected
    for axis, part in reversed(list(enumerate(key))):
        wanted = wanted[(slice(None),) * axis + (part,)]
    np.testing.assert_array_equal(cube[key].values, wanted)


@pytest.mark.parametrize("interleave", ORDER)
def test_narrow_windows_and_large_reads_agree(tmp_path: Path, interleave: str) -> None:
    rng = np.random.default_rng(3)
    values = rng.integers(0, 9999, (40, 130, 300)).astype("u2")
    values[:, 5, 5] = 7
    cube = ts.open(
        write(tmp_path, values, interleave, extra="reflectance scale factor = 10000\ndata ignore value = 7\n")
    )
    expected = values.astype("f4") / np.float32(10000)
    expected[values == 7] = np.nan
    np.testing.assert_array_equal(cube.values, expected)
    for row, col in rng.integers(0, 60, (8, 2)):
        np.testing.assert_array_equal(
            cube[:, row : row + 50, col : col + 60].values, expected[:, row : row + 50, col : col + 60]
        )
    raw = ts.open(tmp_path / "scene.hdr", raw=True)
    np.testing.assert_array_equal(raw[:, 3:60, 4:90].values, values[:, 3:60, 4:90])
    assert raw.attrs["packing"] == {"scale": [1e-4], "offset": [0.0], "nodata": 7}


def test_large_reads_come_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchspectral.io.readers import base

    monkeypatch.setattr(base, "PIECE", 4096)
    values = np.random.default_rng(3).integers(-5, 5, (12, 64, 40)).astype("i2")
    gains = ", ".join(str(0.1 * (n + 1)) for n in range(12))
    expected = values.astype("f8") * (0.1 * np.arange(1, 13))[:, None, None] + 1
    expected[values == -5] = np.nan
    for interleave in ORDER:
        extra = (
            f"data gain values = {{{gains}}}\ndata offset values = {{{', '.join('1' * 12)}}}\ndata ignore value = -5\n"
        )
        cube = ts.open(write(tmp_path, values, interleave, extra=extra))
        np.testing.assert_allclose(cube.values, expected, rtol=1e-6)
        np.testing.assert_allclose(cube[[7, 2, 2]].values, expected[[7, 2, 2]], rtol=1e-6)
        np.testing.assert_allclose(cube[:, ::17].values, expected[:, ::17], rtol=1e-6)


def test_header_or_data_file_and_their_names(tmp_path: Path) -> None:
    values = ramp("u2")
    for suffix in ("", ".img", ".dat", ".RAW", ".bil"):
        folder = tmp_path / f"x{suffix}"
        folder.mkdir()
        header = write(folder, values, suffix=suffix)
        for given_path in (header, folder / f"scene{suffix}"):
            np.testing.assert_array_equal(ts.open(given_path).values, values)
    (folder / "scene.hdr").rename(folder / "scene.bil.hdr")
    np.testing.assert_array_equal(ts.open(folder / "scene.bil.hdr").values, values)
    np.testing.assert_array_equal(ts.open(folder / "scene.bil").values, values)
    # A foreign ending counts where name and size fit.
    (folder / "scene.bil").rename(folder / "scene.pix")
    (folder / "scene.bil.hdr").rename(folder / "scene.hdr")
    np.testing.assert_array_equal(ts.open(folder / "scene.hdr").values, values)


def test_header_with_comments_and_comma_first_lists() -> None:
    text = (
        "\ufeffENVI \r\n; a comment = {1\r\nSamples = 4\r\nLINES=2\nBands  =  3\ndata type = 4\nInterleave = BIL\n"
        "wavelength units = nm\nwavelength = {\n 400.5\n,500\n; inside\n,600.25\n}\ndescription = {a = b, {c}\n d}\n"
        "band names = { one , two,three , }\n"
    )
    header = parse_header(text, Path("x.hdr"))
    assert header.shape == (3, 2, 4) and header.interleave == "bil" and header.byteorder == "<"
    np.testing.assert_array_equal(header.numbers("wavelength"), [400.5, 500, 600.25])
    assert header.items("band names") == ["one", "two", "three"]
    assert header.text("description") == "a = b, {c} d"


def test_band_facts_units_and_quantity(tmp_path: Path) -> None:
    values = ramp("i2", (3, 4, 5))
    extra = (
        "wavelength = {0.45, 0.55, 0.65}\nwavelength units = Micrometers\nfwhm = {0.01, 0.012, 0.014}\n"
        "bbl = {1, 0, 1}\n"
        "reflectance scale factor = 10000\nsensor type = AVIRIS\nacquisition time = 2020-06-01T10:11:12Z\n"
        "sun elevation = 40\ndefault bands = {3, 2, 1}\n"
    )
    cube = ts.open(write(tmp_path, values, extra=extra))
    np.testing.assert_allclose(cube.wavelength, [450, 550, 650], rtol=0, atol=1e-9)
    np.testing.assert_allclose(cube.fwhm, [10, 12, 14], rtol=0, atol=1e-9)
    assert cube.good.values.tolist() == [True, False, True]
    assert cube.attrs["quantity"] == "reflectance" and cube.dtype == np.float32
    assert cube.attrs["sensor"] == "AVIRIS" and cube.attrs["acquired"] == "2020-06-01T10:11:12Z"
    assert cube.attrs["sun_zenith"] == 50 and cube.attrs["default_bands"] == [3, 2, 1]
    np.testing.assert_array_equal(cube.values, values.astype("f4") / np.float32(10000))
    units = ts.open(
        write(tmp_path, values, extra="wavelength = {10000, 20000, 25000}\nwavelength units = Wavenumber\n")
    )
    np.testing.assert_allclose(units.wavelength, [1000, 500, 400])
    radiance = ts.open(write(tmp_path, values, extra="data units = uW/(cm^2 sr nm)\n"))
    assert radiance.attrs["quantity"] == "radiance"
    np.testing.assert_allclose(radiance.values, values * 10.0)


@pytest.mark.parametrize("rotation", [0, 34, -12.5])
@pytest.mark.parametrize("reference", [(1, 1), (3, 2), (1.5, 1.5)])
def test_map_info_lies_where_gdal_puts_it(tmp_path: Path, rotation: float, reference: tuple[float, float]) -> None:
    turn = f", rotation={rotation}" if rotation else ""
    extra = (
        f"map info = {{UTM, {reference[0]}, {reference[1]}, 579717.18, 3714550.7, 16.9, 16.9, 11, North, WGS-84, "
        f"units=Meters{turn}}}\n"
    )
    path = write(tmp_path, ramp("u1"), extra=extra)
    grid = grid_of(ts.open(path))
    assert grid.kind == ("rotated" if rotation else "map") and grid.crs is not None and grid.crs.to_epsg() == 32611
    with rasterio.open(tmp_path / "scene.img") as plain:
        if rotation and reference != (1, 1):
            # The reference pixel itself must lie on its coordinates, whichever way the image is turned.
            x, y = grid.transform * (reference[0] - 1, reference[1] - 1)
            np.testing.assert_allclose([x, y], [579717.18, 3714550.7])
        else:
            np.testing.assert_allclose(grid.transform[:6], plain.transform[:6], rtol=1e-9)


def test_crs_from_wkt_and_geographic(tmp_path: Path, samples: Path) -> None:
    text = (samples / "envi_headers" / "envi_wl_fwhm.hdr").read_text()
    (tmp_path / "a.hdr").write_text(text)
    np.arange(20, dtype="<i4").tofile(tmp_path / "a.bsq")
    cube = ts.open(tmp_path / "a.hdr")
    grid = grid_of(cube)
    assert grid.crs is not None and grid.crs.to_epsg() == 4326 and grid.transform.a == 0.25
    assert cube.wavelength.values.tolist() == [400, 500] and cube.fwhm.values.tolist() == [10, 20]
    assert cube.good.values.tolist() == [False, True]
    for name in ("nm", "um"):
        (tmp_path / "b.hdr").write_text((samples / "envi_headers" / f"envi_wl_implicit_{name}.hdr").read_text())
        np.arange(20, dtype="<i4").tofile(tmp_path / "b.bsq")
        cube = ts.open(tmp_path / "b.hdr")
        assert cube.wavelength.values.tolist() == [400, 500]
        assert any("without units" in line for line in cube.attrs["history"])


def test_complex_numbers_need_a_part(tmp_path: Path) -> None:
    values = (ramp("f4") + 1j * ramp("f4")[::-1]).astype("c8")
    path = write(tmp_path, values)
    with pytest.raises(BadCube, match="part="):
        ts.open(path)
    np.testing.assert_allclose(ts.open(path, part="magnitude").values, np.abs(values), rtol=1e-6)
    np.testing.assert_array_equal(ts.open(path, part="imag")[2, 1:3].values, values.imag[2, 1:3])


def test_classification_is_a_layer_with_names(tmp_path: Path) -> None:
    values = np.array([[[0, 1, 2], [2, 1, 0]]], dtype="u1")
    extra = (
        "file type = ENVI Classification\nclasses = 3\nclass names = {Unclassified, water, tree}\n"
        "class lookup = {0,0,0, 0,0,255, 0,128,0}\n"
    )
    path = write(tmp_path, values, extra=extra)
    assert ts.layers(path) == ["labels"]
    found = ts.open(path, layers="labels")
    assert found["labels"].dims == ("y", "x") and found["labels"].dtype == np.uint8
    np.testing.assert_array_equal(found["labels"].values, values[0])
    assert found["labels"].attrs["class_names"] == ["Unclassified", "water", "tree"]
    assert found["labels"].attrs["class_colors"][2] == [0, 128, 0]


@pytest.mark.parametrize(
    ("extra", "error", "message"),
    [
        ("wavelength = {400, 500}\n", BandMismatch, "5 bands but states 2"),
        ("wavelength = {40,41,42,43,44}\n", MissingMetadata, "wavelength_units"),
        ("wavelength units = furlongs\nwavelength = {1,2,3,4,5}\n", MissingMetadata, "furlongs"),
        ("wavelength = {a,b,c,d,e}\n", BrokenProduct, "expected numbers"),
        ("wavelength = {1,2\n", BrokenProduct, "not closed"),
        ("major frame offsets = {4, 4}\n", BrokenProduct, "frame offsets"),
        ("file compression = 1\n", BrokenProduct, "compressed"),
        ("map info = {UTM, 1, 1, here, 2, 3, 4}\n", BrokenProduct, "map info"),
        ("data ignore value = none\n", BrokenProduct, "data ignore value"),
        ("lines = 100000000\nbands = 5000\n", TooLarge, "along an axis"),
        ("lines = 10000000\nbands = 5000\n", BrokenProduct, "truncated"),
        ("lines = -4\n", BrokenProduct, "at least one"),
        ("data type = 77\n", BrokenProduct, "data type 77"),
        ("interleave = tiled\n", BrokenProduct, "tiled"),
    ],
)
def test_what_is_refused(tmp_path: Path, extra: str, error: type[Exception], message: str) -> None:
    path = write(tmp_path, ramp("u2"), extra=extra)
    with pytest.raises(error, match=message):
        ts.open(path)


def test_missing_and_truncated_data(tmp_path: Path) -> None:
    path = write(tmp_path, ramp("u2"))
    data = tmp_path / "scene.img"
    data.write_bytes(data.read_bytes()[:-1])
    with pytest.raises(BrokenProduct, match="629 bytes, expected 630"):
        ts.open(path)
    data.unlink()
    with pytest.raises(ProductNotFound, match=r"scene\.img"):
        ts.open(path)


def test_cut_short_while_open(tmp_path: Path) -> None:
    cube = ts.open(write(tmp_path, np.ones((20, 60, 200), "f4"), "bil"))
    with (tmp_path / "scene.img").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(BrokenProduct):
        _ = cube[:, :40, :40].values


def test_lazy_picklable_and_not_cached(tmp_path: Path) -> None:
    path = write(tmp_path, ramp("i2"), extra="reflectance scale factor = 100\n")
    cube = ts.open(path)
    again = pickle.loads(pickle.dumps(cube))
    np.testing.assert_array_equal(again.values, cube.values)
    assert cube.variable._data.__class__.__name__ == "LazilyIndexedArray"
    assert cube.encoding["dtype"] == "int16"


def test_real_headwall(samples: Path) -> None:
    cube = ts.open(samples / "headwall" / "corn-kernel-hyperspectral.raw")
    plain = np.fromfile(samples / "headwall" / "corn-kernel-hyperspectral.raw", "<u2").reshape(31, 580, 43)
    np.testing.assert_array_equal(cube.values, plain.transpose(1, 0, 2))
    assert cube.attrs["quantity"] == "dn" and cube.wavelength.values[[0, -1]].tolist() == [366.551, 1048.421]
    dark = ts.open(samples / "headwall" / "darkReference.hdr")
    assert dark.shape == (978, 1, 1600) and dark.wavelength.values[1] == 379.663
    np.testing.assert_array_equal(
        dark.values[:, 0], np.fromfile(samples / "headwall" / "darkReference", "<u2").reshape(978, 1600)
    )


def test_real_emit_aviris_and_gamsberg(samples: Path) -> None:
    base = samples / "unmixing" / "emit" / "emit20250324t221005_jpl_unmix_ex"
    cube = ts.open(base, quantity="reflectance")
    plain = np.fromfile(base, "<f4").reshape(10, 285, 10).transpose(1, 0, 2)
    np.testing.assert_array_equal(cube.values, np.where(plain == -9999, np.nan, plain))
    assert cube.attrs["quantity"] == "reflectance" and abs(float(cube.wavelength[0]) - 381.0055927) < 1e-9
    rdn = ts.open(samples / "aviris" / "pixels" / "AV320250308t200738_rdn.img")
    assert rdn.shape == (284, 1, 1) and float(rdn.wavelength[0]) == 389.75
    obs = ts.open(samples / "aviris" / "pixels" / "AV320250308t200738_obs.hdr")
    assert str(obs["name"].values[4]) == "To-sun zenith (deg)"
    gamsberg = ts.open(samples / "envi_headers" / "engeomap" / "cubus_gamsberg_subset")
    assert gamsberg.shape == (189, 25, 10) and float(gamsberg.wavelength[1]) == 436.98999
    with rasterio.open(samples / "envi_headers" / "engeomap" / "cubus_gamsberg_subset") as plain_file:
        np.testing.assert_array_equal(gamsberg.values, plain_file.read())


def test_real_spectral_libraries(samples: Path) -> None:
    berlin = ts.open(samples / "speclib" / "library_berlin.sli")
    plain = np.fromfile(samples / "speclib" / "library_berlin.sli", "<f8").reshape(75, 177)
    assert berlin.dims == ("spectrum", "band") and str(berlin.spectrum.values[0]) == "red clay tile 1"
    np.testing.assert_allclose(berlin.values, plain / 10000, rtol=1e-12)
    assert berlin.wavelength.values[0] == 460 and np.isfinite(berlin.fwhm).all()
    roberts = ts.open(samples / "speclib" / "roberts2017_urban.hdr")
    assert roberts.shape == (3725, 224) and str(roberts.spectrum.values[0]) == "DTR_26_X3641_Y130"
    np.testing.assert_array_equal(
        roberts.values, np.fromfile(samples / "speclib" / "roberts2017_urban.sli", "<f4").reshape(3725, 224)
    )
    snow = ts.open(samples / "speclib" / "ecostress_snow_mixtures")
    assert snow.dims == ("band", "y", "x") and snow.shape == (216, 500, 1)


def test_faults_of_other_readers(tmp_path: Path) -> None:
    """No byte order, no header offset, no file type, comments, a list that goes on with a comma: all are ENVI."""
    values = ramp("u2", (3, 4, 5))
    header = write(tmp_path, values, "bil", extra="; cut out with a script\nwavelength units = nm\n")
    header.write_text(header.read_text() + "wavelength = {\n400.5\n,500.5\n; the last one\n,600.5}\n")
    text = header.read_text()
    assert not any(key in text for key in ("byte order", "header offset", "file type"))
    cube = ts.open(header)
    assert cube.wavelength.values.tolist() == [400.5, 500.5, 600.5]
    np.testing.assert_array_equal(cube.values, values)


@pytest.mark.parametrize(
    "names",
    ["Band 1 (0.45 Micrometers), Band 2 (0.55 Micrometers), Band 3 (0.65 Micrometers)",
     "Resize (Band 1:x) (450.0), Resize (Band 2:x) (550.0), Resize (Band 3:x) (650.0)",
     "450 nm, 550 nm, 650 nm"],
)  # fmt: skip
def test_wavelengths_only_inside_band_names(tmp_path: Path, names: str) -> None:
    cube = ts.open(write(tmp_path, ramp("u2", (3, 4, 5)), extra=f"band names = {{\n{names}}}\n"))
    np.testing.assert_allclose(cube.wavelength, [450, 550, 650])
    assert any("band names" in line for line in cube.attrs["history"])


def test_text_beside_a_header_is_not_its_pixels(tmp_path: Path) -> None:
    header = write(tmp_path, ramp("u1"), stem="ang20171108t184227_rdn_x")
    text = tmp_path / "ang20171108t184227_rdn_x.txt"
    text.write_text("\n".join(f"{400 + n} {n / 100}" for n in range(100)))
    assert ts.open(header).shape == (5, 7, 9)
    assert ts.open(text).dims == ("spectrum", "band")
