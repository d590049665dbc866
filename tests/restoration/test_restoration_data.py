"""Data sets in the layouts in which they are distributed, as miniatures that this file writes."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import rasterio
from scipy.io import savemat

from torchspectral.cli import main
from torchspectral.errors import (
    BadSettings,
    BandMismatch,
    BrokenProduct,
    ProductNotFound,
    UnknownName,
    UnsafeInput,
)
from torchspectral.restoration import data
from torchspectral.synth import low_rank_cube

RNG = np.random.default_rng(0)


def v73(path: Path, **variables: np.ndarray) -> Path:
    """As MATLAB writes version 7.3: axes reversed, a user block that says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w", userblock_size=512) as file:
        for name, value in variables.items():
            stored = file.create_dataset(name, data=np.ascontiguousarray(value.T))
            stored.attrs["MATLAB_class"] = np.bytes_({"f8": "double", "f4": "single"}[value.dtype.str[1:]])
    with path.open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    return path


def png(path: Path, image: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    planes = image if image.ndim == 3 else image[None]
    with rasterio.open(
        path, "w", driver="PNG", height=planes.shape[1], width=planes.shape[2], count=len(planes), dtype=planes.dtype
    ) as file:
        file.write(planes)


def cave(folder: Path, name: str, dtype: str = "uint16", channels: int = 1) -> np.ndarray:
    top = np.iinfo(dtype).max
    values = RNG.integers(0, top, (31, 12, 10), dtype=dtype)
    for band, plane in enumerate(values, start=1):
        stack = plane if channels == 1 else np.stack([plane] * channels)
        png(folder / name / name / f"{name}_{band:02d}.png", stack)
    png(folder / name / name / f"{name.removesuffix('_ms')}_RGB.png", np.zeros((3, 12, 10), np.uint8))
    return values / top


def test_icvl(tmp_path: Path) -> None:
    values = RNG.integers(0, 4096, (14, 12, 31)).astype(np.float64)
    extra = {"rgb": RNG.random((14, 12, 3)), "bands": np.linspace(400, 700, 31)[None]}
    for name in ("nachal_0823-1127", "lehavim_0910-1600x", "other"):
        v73(tmp_path / "images" / f"{name}.mat", rad=values, **extra)
    (name, cube), *rest = data.open_dataset(tmp_path, "icvl", "mp-hsir-test", missing="skip")
    assert name == "nachal_0823-1127" and not rest
    assert not cube.variable._in_memory
    np.testing.assert_allclose(cube.values, values.transpose(2, 0, 1) / 4095, rtol=1e-6)
    np.testing.assert_array_equal(cube["wavelength"], np.linspace(400, 700, 31))
    assert [n for n, _ in data.open_dataset(tmp_path, "icvl")] == ["lehavim_0910-1600x", "nachal_0823-1127", "other"]
    with pytest.raises(ProductNotFound, match="lacks 100 of 100"):
        data.open_dataset(tmp_path, "icvl", "train")


@pytest.mark.parametrize(("dtype", "channels"), [("uint16", 1), ("uint8", 3)])
def test_cave(tmp_path: Path, dtype: str, channels: int) -> None:
    values = cave(tmp_path, "jelly_beans_ms", dtype, channels)
    cave(tmp_path, "balloons_ms")
    ((name, cube),) = data.open_dataset(tmp_path, "cave", "test", missing="skip")
    assert name == "jelly_beans_ms" and cube.shape == (31, 12, 10) and cube.attrs["quantity"] == "reflectance"
    np.testing.assert_allclose(cube.values, values, rtol=1e-6)
    np.testing.assert_allclose(cube.isel(band=[30, 2], y=slice(3, 5)).values, values[[30, 2], 3:5], rtol=1e-6)
    assert {n for n, _ in data.open_dataset(tmp_path, "cave")} == {"balloons_ms", "jelly_beans_ms"}


def test_harvard_and_arad(tmp_path: Path) -> None:
    values = RNG.random((10, 9, 31)) * 0.05
    (tmp_path / "h").mkdir()
    savemat(tmp_path / "h" / "imgc7.mat", {"ref": values, "lbl": np.ones((10, 9), np.uint8)})
    savemat(tmp_path / "h" / "calib.mat", {"calibration": np.ones((1, 31))})
    ((name, cube),) = data.open_dataset(tmp_path / "h", "harvard", "test", missing="skip")
    assert name == "imgc7"
    np.testing.assert_allclose(cube.values, values.transpose(2, 0, 1) * 20, rtol=1e-5)
    assert cube["wavelength"].values[[0, -1]].tolist() == [420, 720]
    clean = RNG.random((12, 11, 31)).astype(np.float32)
    v73(tmp_path / "a" / "ARAD_1K_0901.mat", cube=clean, bands=np.linspace(400, 700, 31)[None])
    ((name, cube),) = data.open_dataset(tmp_path / "a", "arad", "test", missing="skip")
    np.testing.assert_allclose(cube.values, clean.transpose(2, 0, 1), rtol=1e-6)


def test_scenes_are_cut_into_their_tiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.arange(40 * 50 * 4, dtype=np.float64).reshape(40, 50, 4)
    v73(tmp_path / "HyperspecVNIR_Chikusei_20140729.mat", chikusei=values)
    row = data.dataset("chikusei")
    assert row.crop == (106, 2410, 143, 2191) and row.tiles["test"][3] == (0, 1536, 512, 512)
    small = data.Dataset(
        "chikusei", row.title, "mat", row.pattern, 4, row.wavelength, key="chikusei", crop=(4, 36, 6, 46),
        tiles={"test": [(0, 0, 8, 8), (0, 8, 8, 8)]},
    )  # fmt: skip
    monkeypatch.setattr(data, "datasets", lambda: {"chikusei": small})
    tiles = dict(data.open_dataset(tmp_path, "chikusei", "test"))
    assert [n[-2:] for n in tiles] == ["_1", "_2"]
    np.testing.assert_array_equal(list(tiles.values())[1].values, values.transpose(2, 0, 1)[:, 4:12, 14:22])
    ((_, whole),) = data.open_dataset(tmp_path, "chikusei")
    assert whole.shape == (4, 32, 40)


def test_pavia(tmp_path: Path) -> None:
    savemat(tmp_path / "PaviaU.mat", {"paviaU": np.arange(410 * 340 * 103, dtype=np.uint16).reshape(410, 340, 103)})
    savemat(tmp_path / "PaviaU_gt.mat", {"paviaU_gt": np.zeros((410, 340), np.uint8)})
    ((_, tile),) = data.open_dataset(tmp_path, "pavia-university", "mp-hsir-test")
    assert tile.shape == (103, 200, 340) and tile["wavelength"].values[-1] == 860


def test_splits_are_the_published_ones(samples: Path) -> None:
    known = json.loads((samples / "restoration_splits.json").read_text())
    icvl = data.dataset("icvl").splits
    for ours, theirs in (
        ("train", "qrnn3d_train"),
        ("test-gaussian", "qrnn3d_test_gaussian"),
        ("test-complex", "qrnn3d_test_complex"),
        ("mp-hsir-test", "mp_hsir_test"),
    ):
        assert icvl[ours] == [n.removesuffix(".mat") for n in known[theirs]]
    for name in ("cave", "harvard"):
        for part in ("train", "test"):
            assert data.dataset(name).splits[part] == known[f"{name}_{part}_hsir"]
    for row in data.datasets().values():
        train = set(row.splits.get("train", ()))
        assert not train & {n for split, names in row.splits.items() if split == "test" for n in names}


def test_patches_of_the_published_builders() -> None:
    image = np.random.default_rng(1).random((3, 150, 140)).astype(np.float32)
    made = data.icvl_patches(image, crop=128, size=16, strides=(16, 8, 8))
    assert made.shape == (64 + 49 + 9, 3, 16, 16) and made.dtype == np.float32
    middle = (image - image.min()) / (image.max() - image.min())
    np.testing.assert_allclose(made[1], middle[:, 11:27, 22:38], rtol=1e-6)
    turned = data.icvl_patches(image, np.random.default_rng(0), crop=128, size=16, strides=(16, 8, 8))
    assert not np.array_equal(turned, made)
    np.testing.assert_allclose(np.sort(turned, axis=None), np.sort(made, axis=None))
    whole = [(1024 // 64) ** 2, ((512 - 64) // 32 + 1) ** 2, ((256 - 64) // 32 + 1) ** 2]
    assert sum(whole) == 530


def test_what_is_wrong_is_said(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean"):
        data.open_dataset(tmp_path, "icvll")
    with pytest.raises(UnknownName, match="no split"):
        data.open_dataset(tmp_path, "icvl", "validation")
    with pytest.raises(BadSettings, match="refuse or skip"):
        data.open_dataset(tmp_path, "icvl", missing="ignore")
    with pytest.raises(ProductNotFound, match="does not exist"):
        data.open_dataset(tmp_path / "nothing", "icvl")
    with pytest.raises(ProductNotFound, match="holds no image of CAVE"):
        data.open_dataset(tmp_path, "cave")
    v73(tmp_path / "few" / "bulb_0822-0909.mat", rad=RNG.random((8, 9, 7)))
    with pytest.raises(BandMismatch, match="7 bands"):
        list(data.open_dataset(tmp_path / "few", "icvl"))
    cave(tmp_path / "c", "balloons_ms")
    png(tmp_path / "c/balloons_ms/balloons_ms/balloons_ms_07.png", np.zeros((9, 9), np.uint16))
    with pytest.raises(BrokenProduct, match="differ in size"):
        list(data.open_dataset(tmp_path / "c", "cave"))
    (tmp_path / "c/balloons_ms/balloons_ms/balloons_ms_07.png").write_bytes(b"no image")
    with pytest.raises((BrokenProduct, UnsafeInput)):
        list(data.open_dataset(tmp_path / "c", "cave"))
    v73(tmp_path / "s" / "chikusei.mat", chikusei=RNG.random((8, 9, 128)))
    with pytest.raises(BrokenProduct, match="expected at least 2410"):
        list(data.open_dataset(tmp_path / "s", "chikusei", "test"))
    with pytest.raises(BadSettings, match="as many"):
        data.icvl_patches(RNG.random((2, 20, 20)), crop=16, scales=(1.0,), size=8)


def test_generated_cube_is_that_of_the_figures(parity_dir: Path) -> None:
    spec = importlib.util.spec_from_file_location("known", parity_dir / "restoration" / "synthetic_cube.py")
    known = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(known)
    np.testing.assert_array_equal(low_rank_cube(32, 48, 40), known.clean(48, 40, 32).transpose(2, 0, 1))


def test_training_data_in_words(tmp_path: Path) -> None:
    cave(tmp_path, "balloons_ms")
    path, *cubes = data.training_data([tmp_path / "scene.tif", "generated:2x5x20", f"cave:all:{tmp_path}"])
    assert path == tmp_path / "scene.tif"
    assert [c.shape for c in cubes] == [(5, 20, 20), (5, 20, 20), (31, 12, 10)]
    assert not np.array_equal(cubes[0], cubes[1]) and 0 <= cubes[0].min() < cubes[0].max() <= 1
    with pytest.raises(BadSettings, match="COUNTxBANDSxSIDE"):
        data.training_data(["generated:many"])
    with pytest.raises(BadSettings, match="cave:SPLIT:FOLDER"):
        data.training_data(["cave:train"])


def test_command_trains_on_generated_cubes(tmp_path: Path) -> None:
    words = ["train", "restore", "--method", "man-s", "--data", "generated:2x4x64", "--steps", "1", "--set", "patch=8"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "--set", "batch=2", "--set", "patches=8", "--device", "cpu", "-o", str(tmp_path / "run")])
    assert stop.value.code == 0 and (tmp_path / "run" / "weights.safetensors").is_file()
