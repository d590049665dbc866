"""MATLAB scenes: miniatures of the key table, both file versions, and the real files."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.io

import torchspectral as ts
from torchspectral.errors import (
    BadCube,
    BandMismatch,
    BrokenProduct,
    MissingMetadata,
    TooLarge,
    UnknownName,
    UnsafeInput,
)


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
