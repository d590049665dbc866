"""NumPy files: every order of axes in both memory orders, and what is refused."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import numpy as np
import pytest

import torchspectral as ts
from torchspectral.errors import BadCube, BadSettings, BrokenProduct, MissingMetadata, UnknownName, UnsafeInput

CUBE = np.arange(4 * 5 * 6).reshape(4, 5, 6)


@pytest.mark.parametrize("axes", ["yxb", "byx", "ybx"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", ["<u2", ">i4", "<f8"])
def test_every_order(tmp_path: Path, axes: str, order: str, dtype: str) -> None:
    stored = np.array(CUBE.astype(dtype).transpose(["byx".index(a) for a in axes]), order=order)
    np.save(tmp_path / "a.npy", stored)
    np.savez_compressed(tmp_path / "a.npz", cube=stored)
    for name in ("a.npy", "a.npz"):
        cube = ts.open(tmp_path / name, axes=axes)
        assert cube.dtype == (np.float32 if dtype == "<f8" else np.dtype(dtype).newbyteorder("="))
        np.testing.assert_array_equal(cube.values, CUBE)
        np.testing.assert_array_equal(cube[[2, 0], 1:4, ::2].values, CUBE[[2, 0], 1:4, ::2])
        np.testing.assert_array_equal(pickle.loads(pickle.dumps(cube)).values, CUBE)


def test_default_axes_are_said(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", CUBE.transpose(1, 2, 0))
    cube = ts.open(tmp_path / "a.npy")
    assert cube.shape == (4, 5, 6) and any("rows, columns, bands" in line for line in cube.attrs["history"])
    np.save(tmp_path / "b.npy", CUBE[0])
    np.testing.assert_array_equal(ts.open(tmp_path / "b.npy").values, CUBE[:1])
    with pytest.raises(BadSettings, match="yxb, byx, ybx"):
        ts.open(tmp_path / "a.npy", axes="xyb")


def test_several_arrays(tmp_path: Path) -> None:
    image, gt = CUBE.transpose(1, 2, 0), np.ones((5, 6), "u1")
    np.savez(tmp_path / "a.npz", data=image, gt=gt, wavelengths=np.linspace(400, 700, 4))
    found = ts.open(tmp_path / "a.npz", layers="labels")
    assert found["cube"].wavelength.values.tolist() == [400, 500, 600, 700]
    np.testing.assert_array_equal(found["labels"].values, gt)
    np.savez(tmp_path / "b.npz", one=image, two=image + 1)
    with pytest.raises(MissingMetadata, match="give key="):
        ts.open(tmp_path / "b.npz")
    np.testing.assert_array_equal(ts.open(tmp_path / "b.npz", key="two").values, CUBE + 1)
    with pytest.raises(UnknownName, match="no array 'three'"):
        ts.open(tmp_path / "b.npz", key="three")


def test_pickled_objects_are_never_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("a pickle was loaded",))

    trap = np.array([Trap()], dtype=object)
    np.save(tmp_path / "a.npy", trap, allow_pickle=True)
    np.savez(tmp_path / "a.npz", cube=np.zeros((2, 3, 4)), trap=trap)
    for name in ("a.npy", "a.npz"):
        with pytest.raises(UnsafeInput, match="pickled objects, which are never loaded"):
            ts.open(tmp_path / name)


def test_damaged_files(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, CUBE)
    data = path.read_bytes()
    path.write_bytes(data[:-5])
    with pytest.raises(BrokenProduct, match="truncated"):
        ts.open(path)
    path.write_bytes(data.replace(b"(4, 5, 6)", b"(4, 5, -)"))
    with pytest.raises(BrokenProduct, match="no readable NumPy"):
        ts.open(path)
    path.write_bytes(data.replace(b"'shape': (4, 5, 6), }        ", b"'shape': (40000, 50000, 60000)"[:29].ljust(29)))
    with pytest.raises(BrokenProduct):
        ts.open(path)
    np.save(path, np.zeros((2, 3, 4), "c8"))
    with pytest.raises(BadCube, match="real numbers"):
        ts.open(path)
    np.savez(tmp_path / "a.npz", cube=CUBE)
    (tmp_path / "a.npz").write_bytes((tmp_path / "a.npz").read_bytes()[:200])
    with pytest.raises(BrokenProduct):
        ts.open(tmp_path / "a.npz")


def test_archives_are_checked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as out:
        out.writestr("../up.npy", b"")
    with pytest.raises(UnsafeInput, match="leads out"):
        ts.open(tmp_path / "a.npz")


def test_real_measurements(samples: Path) -> None:
    path = samples / "irca" / "imagaz_1" / "data.npy"
    plain = np.load(path, allow_pickle=False)
    np.testing.assert_array_equal(ts.open(path).values[0], plain.astype("f4"))
