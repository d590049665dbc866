"""Labelled scenes: every layout that circulates, orders of pixels and axes, truths that are transposed or of another scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import scipy.io

import torchspectral as ts
from torchspectral.errors import BadInput, BadSettings, BandMismatch, ProductNotFound, UnknownName
from torchspectral.unmixing.protocol import simulate_mixture
from torchspectral.unmixing.scenes import find_scenes, load_scene

ROWS, COLS, BANDS, K = 9, 7, 12, 3


def made(rows: int = ROWS, cols: int = COLS, bands: int = BANDS):
    """Cube (rows, cols, bands), spectra (bands, K) and maps (rows, cols, K) with little noise."""
    random = np.random.default_rng(1)
    e = 0.1 + random.random((bands, K))
    a = random.dirichlet(np.full(K, 0.4), (rows, cols))
    return a @ e.T + 0.001 * random.standard_normal((rows, cols, bands)), e, a


def columns(image: np.ndarray) -> np.ndarray:
    return image.transpose(1, 0, 2).reshape(-1, image.shape[2]).T


def by_rows(image: np.ndarray) -> np.ndarray:
    return image.reshape(-1, image.shape[2]).T


def write(folder: Path, layout: str) -> Path:
    y, e, a = made()
    names = np.array([["1-tree"], ["2-water"], ["3-soil"]], dtype=object)
    if layout == "zhu":
        scene = {
            "Y": (columns(y) * 5000).round().astype("u2"),
            "nRow": ROWS,
            "nCol": COLS,
            "nBand": 20,
            "maxValue": 5000,
        }
        scipy.io.savemat(folder / "zhu.mat", scene | {"SlectBands": np.arange(2, 14)[:, None]})
        scipy.io.savemat(folder / "end3.mat", {"M": e, "A": columns(a), "cood": names})
    elif layout == "zhu, old":
        scipy.io.savemat(
            folder / "old.mat", {"V": columns(y), "lines": ROWS, "cols": COLS, "GT": np.arange(1, 13)[:, None]}
        )
        scipy.io.savemat(folder / "end3.mat", {"M": e, "A": columns(a), "cood": names})
    elif layout == "cycu":
        scipy.io.savemat(
            folder / "cycu.mat", {"Y": columns(y), "M": e, "A": columns(a), "M1": e * 1.1, "nRow": ROWS, "nCol": COLS}
        )
    elif layout == "hu":
        scipy.io.savemat(folder / "hu.mat", {"Y": by_rows(y), "GT": e.T, "S_GT": a, "cols": COLS, "lines": ROWS})
    elif layout == "hu, turned":
        scipy.io.savemat(folder / "hu.mat", {"Y": by_rows(y).T, "GT": e.T, "S_GT": a, "cols": COLS, "lines": ROWS})
    elif layout == "triple":
        for name, value in (("Y_clean", y), ("E", e), ("A_true", a)):
            scipy.io.savemat(folder / f"{name}.mat", {name: value})
    else:
        sizes = {"H": ROWS, "W": COLS, "p": K, "L": BANDS, "N": ROWS * COLS}
        scipy.io.savemat(
            folder / "dc.mat", {"Y": by_rows(y), "E": e, "A": by_rows(a), **sizes, "D": np.eye(BANDS), "M": 4}
        )
    return folder


@pytest.mark.parametrize("layout", ["zhu", "zhu, old", "cycu", "hu", "hu, turned", "triple", "hysupp"])
def test_layouts(tmp_path: Path, layout: str) -> None:
    y, e, a = made()
    scene = load_scene(write(tmp_path, layout))
    assert scene.cube.shape == (BANDS, ROWS, COLS) and scene.k == K
    top = float(np.abs(y).max()) if layout != "zhu" else float((y * 5000).round().max() / 5000)
    np.testing.assert_allclose(scene.cube.values, y.transpose(2, 0, 1) / top, atol=2e-4)
    np.testing.assert_allclose(scene.endmembers.values, e.T, rtol=1e-6)
    np.testing.assert_allclose(scene.abundances.values, a.transpose(2, 0, 1), atol=1e-6)
    assert scene.fit.residuals[scene.fit.order] < 0.01 and not scene.warnings
    assert scene.names == (["tree", "water", "soil"] if "zhu" in layout else ["material 1", "material 2", "material 3"])
    if layout == "cycu":
        assert any("M1" in note and "no truth" in note for note in scene.notes)


def test_plain_opening_takes_the_same_layouts(tmp_path: Path) -> None:
    y, _, a = made()
    cube = ts.open(write(tmp_path, "hysupp") / "dc.mat")
    np.testing.assert_allclose(cube.values, y.transpose(2, 0, 1), rtol=1e-6)
    both = ts.open(tmp_path / "dc.mat", layers=("abundances",))
    np.testing.assert_allclose(both["abundances"].values, a.transpose(2, 0, 1), atol=1e-6)
    for turned in ("hu", "hu, turned"):
        cube = ts.open(write(tmp_path, turned) / "hu.mat", order="rows")
        np.testing.assert_allclose(
            cube.isel(band=[3, 1], y=slice(2, 5), x=[0, 6]).values,
            y[2:5][:, [0, 6]][:, :, [3, 1]].transpose(2, 0, 1),
            rtol=1e-6,
        )
    with pytest.raises(BadSettings, match="order"):
        ts.open(tmp_path / "hu.mat", order="diagonal")


@pytest.mark.parametrize("order", ["columns", "rows"])
@pytest.mark.parametrize("turned", [False, True])
def test_matrices_of_v73_are_read_as_those_of_v5(tmp_path: Path, order: str, turned: bool) -> None:
    import h5py

    y, _, _ = made()
    matrix = columns(y) if order == "columns" else by_rows(y)
    matrix = matrix.T if turned else matrix
    with h5py.File(tmp_path / "y.mat", "w", userblock_size=512) as file:
        for name, value in {"Y": matrix, "nRow": np.array([[ROWS]]), "nCol": np.array([[COLS]])}.items():
            file.create_dataset(name, data=np.asarray(value, float).T).attrs["MATLAB_class"] = np.bytes_("double")
    with (tmp_path / "y.mat").open("r+b") as file:
        file.write(b"MATLAB 7.3 MAT-file, Platform: GLNXA64".ljust(124) + b"\x00\x02IM")
    cube = ts.open(tmp_path / "y.mat", order=order)
    np.testing.assert_allclose(cube.values, y.transpose(2, 0, 1), rtol=1e-6)
    np.testing.assert_allclose(cube[[4, 0], 3:6, 2:4].values, y[3:6, 2:4][:, :, [4, 0]].transpose(2, 0, 1), rtol=1e-6)


def test_transposed_maps_are_told(tmp_path: Path) -> None:
    y, e, a = made(8, 8)
    scipy.io.savemat(tmp_path / "y.mat", {"Y": columns(y), "nRow": 8, "nCol": 8, "M": e, "A": by_rows(a)})
    scene = load_scene(tmp_path / "y.mat")
    assert any("transposed" in w for w in scene.warnings) and scene.fit.order == "rows"
    np.testing.assert_allclose(scene.abundances.values, a.transpose(2, 0, 1), atol=1e-6)
    forced = load_scene(tmp_path / "y.mat", order="columns")
    assert any("transposed" in w for w in forced.warnings) and forced.fit.residuals["columns"] > 0.1
    scipy.io.savemat(tmp_path / "y.mat", {"Y": y, "M": e, "A": a.transpose(1, 0, 2)})
    image = load_scene(tmp_path / "y.mat")
    assert any("transposed" in w for w in image.warnings)
    np.testing.assert_allclose(image.abundances.values, a.transpose(2, 0, 1), atol=1e-6)


def test_a_truth_of_another_scene_or_without_structure_is_told(tmp_path: Path) -> None:
    y, e, a = made()
    random = np.random.default_rng(5)
    scipy.io.savemat(
        tmp_path / "y.mat",
        {
            "Y": columns(y),
            "nRow": ROWS,
            "nCol": COLS,
            "M": random.random(e.shape) ** 4,
            "A": columns(random.dirichlet(np.full(K, 0.1), (ROWS, COLS))),
        },
    )
    assert any("of this scene" in w for w in load_scene(tmp_path / "y.mat").warnings)
    scipy.io.savemat(
        tmp_path / "y.mat", {"Y": columns(y), "nRow": ROWS, "nCol": COLS, "M": e, "A": columns(np.full_like(a, 1 / K))}
    )
    assert any("both orders" in w for w in load_scene(tmp_path / "y.mat").warnings)


def test_samson_and_jasper(samples: Path) -> None:
    samson = load_scene(samples / "unmixing/samson")
    assert samson.names == ["soil", "tree", "water"] and samson.truth == "v2" and samson.cube.shape == (156, 95, 95)
    assert samson.fit.order == "columns" and samson.fit.residuals["columns"] < 0.1 < 0.6 < samson.fit.residuals["rows"]
    assert samson.cube["wavelength"].values[[0, -1]].tolist() == [401, 889] and not samson.warnings
    wrong = load_scene(samples / "unmixing/samson", order="rows")
    assert any("transposed" in w for w in wrong.warnings)
    jasper = load_scene(samples / "unmixing/jasper", scale="stated")
    assert jasper.names == ["tree", "water", "dirt", "road"] and jasper.cube.shape == (198, 100, 100)
    assert float(jasper.cube.max()) == pytest.approx(5437 / 5000) and not jasper.warnings
    numbers = jasper.cube["number"].values
    assert set(range(1, 225)) - set(numbers.tolist()) == {
        *range(1, 4),
        *range(108, 113),
        *range(154, 167),
        *range(220, 225),
    }
    stored = scipy.io.loadmat(samples / "unmixing/jasper/AVIRIS_wavelengths.mat")["AVIRIS_wavlen"].ravel()
    np.testing.assert_allclose(jasper.cube["wavelength"].values, stored[numbers - 1])
    np.testing.assert_allclose(jasper.cube.hsi.grid.width, 100)


def test_the_two_truths_of_samson_are_kept_apart(samples: Path, tmp_path: Path) -> None:
    folder = samples / "unmixing/samson"
    v = scipy.io.loadmat(folder / "samson_1.mat")["V"]
    a = scipy.io.loadmat(folder / "A_true.mat")["A_true"]
    means = np.array([0.384, 0.377, 0.239])
    other = columns(a)
    for _ in range(200):  # abundances of other means that still sum to one
        other = other * (means / other.mean(1))[:, None]
        other = other / other.sum(0)
    spectra = v @ np.linalg.pinv(other)
    scipy.io.savemat(
        tmp_path / "samson_dataset.mat", {"Y": v, "M": spectra / spectra.max(0), "A": other, "nRow": 95, "nCol": 95}
    )
    for name in ("samson_1", "E", "A_true"):
        (tmp_path / f"{name}.mat").symlink_to(folder / f"{name}.mat")
    found = {p.name: load_scene(p) for p in find_scenes(tmp_path)}
    assert {name: scene.truth for name, scene in found.items()} == {"samson_1": "v2", "samson_dataset": "v1"}
    assert all(any("cannot be compared" in n for n in scene.notes) for scene in found.values())


def test_published_scenes_have_wavelengths_by_name_alone(tmp_path: Path) -> None:
    y = np.random.default_rng(0).random((6, 5, 162))
    scipy.io.savemat(tmp_path / "u.mat", {"Y": columns(y), "nRow": 6, "nCol": 5})
    urban = ts.open(tmp_path / "u.mat", scene="urban")
    assert urban["number"].values[:4].tolist() == [5, 6, 7, 8] and 400 < urban["wavelength"].values[0] < 460
    with pytest.raises(BandMismatch, match="188 as Cuprite"):
        ts.open(tmp_path / "u.mat", scene="Cuprite")
    with pytest.raises(UnknownName, match="published"):
        ts.open(tmp_path / "u.mat", scene="Atlantis")


def test_folders_of_our_own_and_several_truths(tmp_path: Path) -> None:
    simulate_mixture(3, settings={"z": 4}, out=f"{tmp_path}/mix/")
    (tmp_path / "zhu").mkdir()
    write(tmp_path / "zhu", "zhu")
    _, e, a = made()
    scipy.io.savemat(tmp_path / "zhu/end2.mat", {"M": e[:, :2], "A": columns(a)[:2] / columns(a)[:2].sum(0)})
    places = find_scenes(tmp_path)
    assert [p.name for p in places] == ["mix", "zhu (end2)", "zhu (end3)"]
    mix = load_scene(places[0])
    assert mix.k == 3 and mix.abundances.shape == (3, 16, 16) and list(mix.abundances["layer"].values) == mix.names
    with pytest.raises(BadInput, match="2 labelled scenes"):
        load_scene(tmp_path / "zhu")
    two = load_scene(places[1])
    assert two.k == 2


def test_refusals(tmp_path: Path) -> None:
    with pytest.raises(ProductNotFound):
        load_scene(tmp_path / "nothing")
    with pytest.raises(ProductNotFound, match="holds no scene"):
        load_scene(tmp_path)
    folder = write(tmp_path, "triple")
    with pytest.raises(BadSettings, match="scale"):
        load_scene(folder, scale="half")
    with pytest.raises(BadSettings, match="maxValue"):
        load_scene(folder, scale="stated")
    scipy.io.savemat(folder / "E.mat", {"E": made()[1][:5]})
    with pytest.raises(BandMismatch, match="12 bands"):
        load_scene(folder)
