"""MATLAB scenes: miniatures of the key table, both file versions, and the real files."""

from __future__ import annotations

import pickle
import sys
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

import torchspectral as ts
from torchspectral.errors import (
    BadCube,
    BadSettings,
    BandMismatch,
    BrokenProduct,
    MissingMetadata,
    TooLarge,
    UnknownName,
    UnsafeInput,
)
from torchspectral.io.readers.matlab.elements import elements, read_numbers
from torchspectral.io.readers.matlab.nested import read_nested

sys.path.insert(0, str(Path(__file__).parent))
import matlab_miniature as mini


@pytest.fixture
def image() -> np.ndarray:
    """Rows, columns, bands: 6 x 5 x 8, all values different."""
    return np.arange(240, dtype="i2").reshape(6, 5, 8)


def save_v73(path: Path, **variables: np.ndarray) -> Path:
    """As MATLAB does: axes reversed, class as an attribute."""
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            dataset = file.create_dataset(name, data=np.asarray(value).transpose())
            dataset.attrs["MATLAB_class"] = np.bytes_(
                {"f8": "double", "i2": "int16", "u1": "uint8"}[value.dtype.str[1:]]
            )
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


@pytest.mark.parametrize("key", ["indian_pines_corrected", "paviaU", "KSC", "data", "anything"])
def test_the_one_cube(tmp_path: Path, image: np.ndarray, key: str) -> None:
    labels = np.ones((6, 5), "u1")
    path = tmp_path / "a.mat"
    scipy.io.savemat(
        path, {key: image, "map": labels, "note": "text", "wl": np.linspace(0.4, 0.9, 8)}, do_compression=True
    )
    cube = ts.open(path)
    assert cube.shape == (8, 6, 5) and cube.dtype == np.int16
    np.testing.assert_array_equal(cube.values, image.transpose(2, 0, 1))
    np.testing.assert_array_equal(cube[[5, 2], 1:4, ::-1].values, image.transpose(2, 0, 1)[[5, 2], 1:4, ::-1])
    np.testing.assert_allclose(cube.wavelength[[0, -1]], [400, 900])
    assert ts.layers(path) == ["map"]
    np.testing.assert_array_equal(ts.open(path, layers="map")["map"].values, labels)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube)).values, cube.values)


def test_v73_axes_are_reversed(tmp_path: Path, image: np.ndarray) -> None:
    path = save_v73(tmp_path / "a.mat", data=image, map=np.eye(6, 5), wavelengths=np.linspace(400, 900, 8)[None])
    cube = ts.open(path)
    np.testing.assert_array_equal(cube.values, image.transpose(2, 0, 1))
    np.testing.assert_array_equal(cube[[5, 2, 2], 1:4, 2:].values, image.transpose(2, 0, 1)[[5, 2, 2], 1:4, 2:])
    assert cube.wavelength.values[0] == 400
    np.testing.assert_array_equal(ts.open(path, layers="map")["map"].values, np.eye(6, 5))


@pytest.mark.parametrize("version", ["v5", "v7.3"])
@pytest.mark.parametrize(("name", "sizes"), [("Y", ("nRow", "nCol")), ("V", ("nRow", "nCol")), ("Y", ("H", "W"))])
def test_pixels_of_a_matrix_run_down_the_columns(
    tmp_path: Path, image: np.ndarray, version: str, name: str, sizes
) -> None:
    matrix = image.reshape(30, 8, order="F").T
    variables = {
        name: matrix.copy(), sizes[0]: np.array([[6.0]]), sizes[1]: np.array([[5.0]]),
        "SlectBands": np.array([[1.0], [2], [3], [10], [11], [12], [13], [20]]),
    }  # fmt: skip
    path = tmp_path / "a.mat"
    if version == "v5":
        scipy.io.savemat(path, variables)
    else:
        save_v73(path, **variables)
    cube = ts.open(path)
    np.testing.assert_array_equal(cube.values, image.transpose(2, 0, 1))
    np.testing.assert_array_equal(cube[2:5, 1:3, 3:].values, image.transpose(2, 0, 1)[2:5, 1:3, 3:])
    assert cube.number.values.tolist() == [1, 2, 3, 10, 11, 12, 13, 20]


def test_choice_by_key(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"one": image, "two": image + 1, "name": "x"})
    with pytest.raises(MissingMetadata, match=r"give key=.*one 6x5x8 int16, two"):
        ts.open(path)
    np.testing.assert_array_equal(ts.open(path, key="two").values, image.transpose(2, 0, 1) + 1)
    with pytest.raises(UnknownName, match="no variable 'three'"):
        ts.open(path, key="three")
    with pytest.raises(BadCube, match="expected a 2-D or 3-D array"):
        ts.open(path, key="name")


def test_wavelengths_must_fit(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"data": image, "wl": np.linspace(0.4, 0.9, 7)})
    assert np.isnan(ts.open(path).wavelength).all()
    with pytest.raises(BandMismatch):
        ts.open(path, wavelength=np.linspace(400, 900, 7))
    assert ts.open(path, wavelength=np.linspace(400, 900, 8)).wavelength.values[-1] == 900


def test_labels_beside_a_known_scene(tmp_path: Path, image: np.ndarray) -> None:
    scipy.io.savemat(tmp_path / "Salinas_corrected.mat", {"salinas_corrected": image})
    scipy.io.savemat(tmp_path / "Salinas_gt.mat", {"salinas_gt": np.ones((6, 5), "u1")})
    found = ts.open(tmp_path / "Salinas_corrected.mat", layers="labels")
    assert (
        found["labels"].attrs["class_names"][1] == "Brocoli_green_weeds_1"
        and len(found["labels"].attrs["class_names"]) == 17
    )
    assert found["cube"].attrs["sensor"] == "AVIRIS-Classic"


def test_damaged_objects_and_links(tmp_path: Path, image: np.ndarray) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"data": np.random.default_rng(0).random((30, 30, 20))}, do_compression=True)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(BrokenProduct):
        _ = ts.open(path).values
    objects = np.empty((3, 3, 3), dtype=object)
    objects[:] = "x"
    scipy.io.savemat(tmp_path / "b.mat", {"data": objects})
    with pytest.raises(BadCube, match="cell"):
        ts.open(tmp_path / "b.mat")
    save_v73(tmp_path / "c.mat", data=image)
    with h5py.File(tmp_path / "c.mat", "r+") as file:
        file["other"] = h5py.ExternalLink("/etc/hostname", "/x")
    with pytest.raises(UnsafeInput, match="links to another file"):
        ts.open(tmp_path / "c.mat")


def test_header_that_promises_too_much(tmp_path: Path) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"data": np.zeros((2, 3, 4))})
    data = bytearray(path.read_bytes())
    at = data.index(np.array([2, 3, 4], "<i4").tobytes())
    data[at : at + 12] = np.array([200000, 30000, 40000], "<i4").tobytes()
    path.write_bytes(bytes(data))
    with pytest.raises((BrokenProduct, TooLarge)):
        _ = ts.open(path).values


REAL = {
    "aviris/sandiego_plane.mat": ("data", 189, ["map"]),
    "aviris/salton_sea_roi.mat": ("I", 224, ["rgb"]),
    "aviris/aviris_vi_demo_90x90x224.mat": ("hsi_img", 224, []),
    "hydice/HYDICE_data.mat": ("data", 162, ["map"]),
    "casi/an_hsi_image_sub_for_demo.mat": ("hsi_img_sub", 72, ["mask_sub"]),
    "casi/an_hsi_img_for_tgt_det_demo.mat": ("hsi_sub", 72, ["gtImg_sub"]),
    "rosis/pavia_fusion_pair.mat": ("I1", 103, ["rgb1"]),
    "unmixing/sim1/Y_clean.mat": ("Y_clean", 224, []),
    "pansharpening/WV3_example.mat": ("I_MS_LR", 8, ["pan"]),
}


@pytest.mark.parametrize("name", REAL)
def test_real_cubes(samples: Path, name: str) -> None:
    key, bands, layers = REAL[name]
    cube = ts.open(samples / name)
    plain = scipy.io.loadmat(samples / name)[key]
    assert cube.sizes["band"] == bands and ts.layers(samples / name) == layers
    np.testing.assert_array_equal(cube.values, plain.transpose(2, 0, 1).astype(cube.dtype))


def test_real_facts(samples: Path) -> None:
    salton = ts.open(samples / "aviris/salton_sea_roi.mat")
    assert abs(float(salton.wavelength[0]) - 365.9136593) < 1e-6 and 0 < (~salton.good.values).sum() < 60
    assert any("micrometres" in line for line in salton.attrs["history"])
    casi = ts.open(samples / "casi/an_hsi_img_for_class_demo.mat")
    assert abs(float(casi.wavelength[-1]) - 1043.4) < 1e-3
    pair = ts.open(samples / "pansharpening/WV3_example.mat", layers="pan")
    assert pair["pan"].dims == ("y_pan", "x_pan") and pair["pan"].shape == (128, 128)
    cut = ts.open(samples / "pansharpening/WV3_example.mat", layers="pan", window=(3, 4, 10, 12))
    np.testing.assert_array_equal(cut["pan"].values, pair["pan"].values[12:52, 16:64])


def test_real_matrices(samples: Path) -> None:
    jasper = ts.open(samples / "unmixing/jasper/jasperRidge2_R198.mat")
    plain = scipy.io.loadmat(samples / "unmixing/jasper/jasperRidge2_R198.mat")
    expected = np.stack([row.reshape(100, 100, order="F") for row in plain["Y"]])
    np.testing.assert_array_equal(jasper.values, expected)
    assert jasper.number.values[0] == 4 and jasper.number.values[-1] == 219
    samson = ts.open(samples / "unmixing/samson/samson_1.mat")
    v = scipy.io.loadmat(samples / "unmixing/samson/samson_1.mat")["V"]
    np.testing.assert_array_equal(samson.values, np.stack([r.reshape(95, 95, order="F") for r in v]).astype("f4"))
    assert ts.open(samples / "unmixing/moffett/Moffett_vca.mat").shape == (189, 50, 50)
    labels = ts.open(samples / "labels/PaviaU_gt.mat", layers="labels")["labels"]
    assert labels.shape == (610, 340) and labels.attrs["class_names"][9] == "Shadows"


@pytest.mark.parametrize("row", mini.SCENES, ids=[row[0] for row in mini.SCENES])
@pytest.mark.parametrize("version", ["v5", "v7.3"])
def test_every_benchmark_scene(tmp_path: Path, row, version: str) -> None:
    made = mini.scene(tmp_path, row, version, sizes=(*row[3][:2], 6))
    path = tmp_path / f"{row[1]}.mat"
    cube = ts.open(path, layers="labels")
    assert cube["cube"].shape == (6, *row[3][:2]) and cube["cube"].attrs["sensor"]
    np.testing.assert_array_equal(
        cube["cube"][[4, 1], 3:9, 2:5].values, made["cube"][3:9, 2:5].transpose(2, 0, 1)[[4, 1]]
    )
    np.testing.assert_array_equal(cube["labels"].values, made["labels"])
    assert len(cube["labels"].attrs["class_names"]) == row[5] + 1
    assert any("another cut" in line for line in cube["cube"].attrs["history"])
    # Names of sensors are no wavelengths: nothing is guessed.
    assert np.isnan(cube["cube"].wavelength).all()


@pytest.mark.parametrize("version", ["v5", "v7.3"])
def test_houston_has_labels_of_training_and_test(tmp_path: Path, version: str) -> None:
    masks = {name: (np.arange(54).reshape(6, 9) % 16).astype("u1") for name in ("mask_train", "mask_test")}
    mini.save(tmp_path / "h.mat", version, Houston=np.zeros((6, 9, 144), "u2"), **masks)
    assert ts.layers(tmp_path / "h.mat") == ["mask_train", "mask_test"] or set(ts.layers(tmp_path / "h.mat")) == set(
        masks
    )
    found = ts.open(tmp_path / "h.mat", layers=["mask_test"])["mask_test"]
    assert found.attrs["class_names"][15] == "Running track"


def test_labels_of_another_size_are_told(tmp_path: Path, image: np.ndarray) -> None:
    scipy.io.savemat(tmp_path / "PaviaU.mat", {"paviaU": image})
    scipy.io.savemat(tmp_path / "PaviaU_gt.mat", {"paviaU_gt": np.ones((5, 6), "u1")})
    with pytest.raises(BrokenProduct, match="5 x 6 pixels, expected 6 x 5 as paviaU"):
        ts.open(tmp_path / "PaviaU.mat", layers="labels")


def test_metadata_of_a_large_scene_without_its_values(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchspectral.io.readers.matlab import files

    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"cube": np.zeros((100, 120, 230), "u2"), "d": np.eye(3)}, do_compression=True)
    monkeypatch.setattr(files, "load", lambda *a: pytest.fail("values were read"))
    cube = ts.open(path)
    assert cube.shape == (230, 100, 120) and cube.dtype == np.uint16
    assert ts.describe(path)["storage"]["dtype"] == "uint16"


@pytest.mark.parametrize(("bands", "side"), [(156, 95), (198, 100), (162, 307)])
def test_known_matrices_need_no_size(tmp_path: Path, bands: int, side: int) -> None:
    pixels = np.arange(side * side, dtype="f4") % 1000
    matrix = np.broadcast_to(pixels, (bands, side * side)).copy()
    matrix[3] += 0.5
    scipy.io.savemat(tmp_path / "a.mat", {"V": matrix}, do_compression=True)
    cube = ts.open(tmp_path / "a.mat")
    assert cube.shape == (bands, side, side) and any("as the scene" in line for line in cube.attrs["history"])
    np.testing.assert_array_equal(cube[3, :, 1].values, pixels[side : 2 * side] + 0.5)


def test_size_of_other_matrices_is_given(tmp_path: Path, image: np.ndarray) -> None:
    scipy.io.savemat(tmp_path / "a.mat", {"Y": image.reshape(30, 8, order="F").T.copy()})
    cube = ts.open(tmp_path / "a.mat", size=(6, 5))
    np.testing.assert_array_equal(cube.values, image.transpose(2, 0, 1))
    with pytest.raises(BadSettings, match="rows, columns"):
        ts.open(tmp_path / "a.mat", size=6)


@pytest.mark.parametrize("version", ["v5", "v7.3"])
@pytest.mark.parametrize("flat", [True, False])
def test_truth_in_the_file(tmp_path: Path, image: np.ndarray, version: str, flat: bool) -> None:
    truth = np.random.default_rng(1).random((3, 6, 5))
    a = np.stack([t.reshape(-1, order="F") for t in truth]) if flat else truth.transpose(1, 2, 0).copy()
    path = mini.save(
        tmp_path / "a.mat", version, Y=image.reshape(30, 8, order="F").T.astype("f8"), M=np.arange(24.0).reshape(8, 3),
        A=a, nRow=np.array([[6.0]]), nCol=np.array([[5.0]]), wl=np.linspace(400, 900, 8)[None],
    )  # fmt: skip
    # A stack of rows and columns is a cube like others: then the matrix has to be named.
    key = {} if flat else {"key": "Y"}
    if flat:
        found = ts.open(path, layers="abundances", **key)
        np.testing.assert_array_equal(found["abundances"].values, truth)
    ends = ts.open(path, key="M")
    assert ends.dims == ("spectrum", "band") and ends.wavelength.values[0] == 400
    np.testing.assert_array_equal(ends.values, np.arange(24.0).reshape(8, 3).T)


def test_truth_beside_a_scene(samples: Path) -> None:
    path = samples / "unmixing/jasper/jasperRidge2_R198.mat"
    found = ts.open(path, layers="abundances")
    plain = scipy.io.loadmat(samples / "unmixing/jasper/end4.mat")
    expected = np.stack([row.reshape(100, 100, order="F") for row in plain["A"]])
    np.testing.assert_array_equal(found["abundances"].values, expected)
    assert found["layer_abundances"].values.tolist() == ["tree", "water", "dirt", "road"]
    ends = ts.open(samples / "unmixing/jasper/end4.mat")
    np.testing.assert_array_equal(ends.values, plain["M"].T)
    assert ends.spectrum.values.tolist() == ["tree", "water", "dirt", "road"]


def test_wavelengths_of_a_sensor_only_by_name(samples: Path) -> None:
    path = samples / "unmixing/jasper/jasperRidge2_R198.mat"
    assert np.isnan(ts.open(path).wavelength).all()
    named = ts.open(path, sensor="AVIRIS-Classic")
    plain = scipy.io.loadmat(samples / "unmixing/jasper/AVIRIS_wavelengths.mat")["AVIRIS_wavlen"].reshape(-1)
    kept = scipy.io.loadmat(path)["SlectBands"].reshape(-1) - 1
    # Centres of another decade's calibration: little more than a band apart.
    assert np.abs(named.wavelength.values - plain[kept]).max() < 12
    with pytest.raises(BandMismatch, match="189 bands but aviris-classic has 224"):
        ts.open(samples / "aviris/sandiego_plane.mat", sensor="aviris-classic")
    with pytest.raises(UnknownName, match="no sensor"):
        ts.open(path, sensor="aviris-9")


def test_maps_of_anomalies_have_names(samples: Path) -> None:
    for name in ("aviris/sandiego_plane.mat", "hydice/HYDICE_data.mat"):
        assert ts.open(samples / name, layers="map")["map"].attrs["class_names"] == ["background", "anomaly"]


def test_spectra_of_structs_and_libraries(samples: Path) -> None:
    lab = ts.open(samples / "casi/tgt_lab_spectra.mat")
    plain = scipy.io.loadmat(samples / "casi/tgt_lab_spectra.mat")["spectralSignatures"]
    assert lab.shape == (9, 2301) and lab.attrs["quantity"] == "reflectance" and lab.wavelength.values[-1] == 2500
    np.testing.assert_array_equal(lab.values[2], plain[2, 0]["reflectance"].reshape(-1))
    assert lab.spectrum.values[0] == "Baseline"
    usgs = ts.open(samples / "unmixing/libraries/USGS_1995_Library.mat")
    assert usgs.shape == (498, 224) and float(np.nanmin(usgs)) > -1 and abs(usgs.wavelength.values[-1] - 2508.2) < 1e-3
    target = ts.open(samples / "casi/an_hsi_img_for_tgt_det_demo.mat", key="tgt_spectra")
    assert target.shape == (1, 72) and abs(float(target.wavelength[0]) - 367.7) < 1e-3
    train = ts.open(samples / "casi/an_hsi_img_for_class_demo.mat", key="train_data")
    assert train.spectrum.values[0] == "Blue Calibration Panel 1" and train.sizes["band"] == 72


def test_header_inside_a_struct(samples: Path) -> None:
    cube = ts.open(samples / "aviris/salton_sea_roi.mat")
    params = scipy.io.loadmat(samples / "aviris/salton_sea_roi.mat")["params"][0, 0]
    np.testing.assert_allclose(cube.fwhm, params["fwhm"].reshape(-1), rtol=1e-12)
    assert cube.correction_factor.values[1] == 0.78438 and cube.sizes["band"] == 224
    assert any("map info" in line for line in cube.attrs["history"])


@pytest.mark.parametrize(("code", "kind"), [(3, "object"), (16, "function")])
def test_objects_are_refused(tmp_path: Path, code: int, kind: str) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"net": np.zeros((2, 2))})
    data = bytearray(path.read_bytes())
    data[128 + 16] = code  # the class of the only variable
    path.write_bytes(bytes(data))
    with pytest.raises(UnsafeInput, match=f"MATLAB {kind}, which is never loaded"):
        ts.open(path)


@pytest.mark.parametrize("packed", [False, True])
def test_structs_that_promise_too_much(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "a.mat"
    entry = np.array([[(np.ones((9, 1)), "x")]], dtype=[("reflectance", "O"), ("name", "O")])
    scipy.io.savemat(path, {"sig": entry})
    data = bytearray(path.read_bytes())
    # The sizes of the struct itself, then those of the array inside it.
    for sizes, promised in (((1, 1), (30000, 60000)), ((9, 1), (90000, 90000))):
        at = data.index(np.array(sizes, "<i4").tobytes(), 128)
        bad = bytearray(data)
        bad[at : at + 8] = np.array(promised, "<i4").tobytes()
        if packed:
            body = zlib.compress(bytes(bad[128:]))
            bad = bad[:128] + np.array([15, len(body)], "<u4").tobytes() + body
        path.write_bytes(bytes(bad))
        with pytest.raises(BrokenProduct, match=r"promises|cannot be read"):
            ts.open(path)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(
    ("at", "value", "says"),
    [
        (4, 1 << 30, "truncated|promises|unpacked|longer"),  # bytes of the element
        (16, 40, "class 40"),
        (28, 3, "0.75 axes|axes"),
        (28, 4000, "axes"),
        (32, -2, "shape -2 x"),
        (32, 1 << 30, "promises|cannot hold"),
        (56, 77, "type 77|type that does not exist"),
        (60, 8, "promises 5 x 6 x 7 numbers"),
        (60, 1 << 31, "promises 5 x 6 x 7 numbers"),
    ],
)
def test_damaged_numbers_never_reach_a_library(tmp_path: Path, packed: bool, at: int, value: int, says: str) -> None:
    path = tmp_path / "a.mat"
    scipy.io.savemat(path, {"data": np.arange(210.0).reshape(5, 6, 7)})
    data = bytearray(path.read_bytes())
    data[128 + at : 132 + at] = (value % (1 << 32)).to_bytes(4, "little")
    if packed:
        body = zlib.compress(bytes(data[128:]))
        data = data[:128] + np.array([15, len(body)], "<u4").tobytes() + body
    path.write_bytes(bytes(data))
    with pytest.raises((BrokenProduct, TooLarge), match=says):
        ts.open(path).load()


@pytest.mark.parametrize("compressed", [False, True])
def test_nested_values_are_those_of_scipy(tmp_path: Path, compressed: bool) -> None:
    path = tmp_path / "a.mat"
    inner = np.array([[(np.arange(6.0).reshape(2, 3), "äß", np.array([["a", 3]], dtype=object))]],
                     dtype=[("x", "O"), ("text", "O"), ("list", "O")])  # fmt: skip
    rows = np.array(["ab ", "cde"])
    scipy.io.savemat(path, {"s": inner, "rows": rows, "flag": np.eye(2, dtype=bool), "z": np.ones((2, 2)) * 1j,
                            "none": np.zeros((0, 3))}, do_compression=compressed)  # fmt: skip
    found = elements(path)
    assert {name: e.kind for name, e in found.items()} == {
        "s": "struct", "rows": "char", "flag": "logical", "z": "complex", "none": "double",
    }  # fmt: skip
    (entry,) = read_nested(path, found["s"])
    assert entry["text"] == "äß" and entry["list"][0] == "a" and entry["list"][1] == 3
    np.testing.assert_array_equal(entry["x"], [[0, 1, 2], [3, 4, 5]])
    assert read_nested(path, found["rows"]) == "ab cde" and read_nested(path, found["z"]) is None
    np.testing.assert_array_equal(read_numbers(path, found["flag"]), np.eye(2, dtype=np.uint8))
    assert read_numbers(path, found["none"]).shape == (0, 3)
