"""Patch stores, scenes and augmentation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_recipe import ToyRecipe, ToySettings, toy_scene

from torchspectral.engine.method import Window
from torchspectral.errors import BadCube, BadInput, GridMismatch, JournalMismatch, ProductNotFound
from torchspectral.learn import patches as patches_module
from torchspectral.learn.augment import augment, turn
from torchspectral.learn.patches import PatchStore, areas_of, build_store, crop, padded
from torchspectral.learn.scenes import open_scenes, read_block
from torchspectral.learn.splits import HELD_OUT, TRAIN


def build(path: Path, *cubes, seed: int = 0, **fields) -> PatchStore:
    recipe = ToyRecipe(ToySettings.make(fields))
    scenes = open_scenes(list(cubes))
    recipe.prepare([s.scene for s in scenes])
    return build_store(path, recipe, scenes, seed=seed)


def test_samples_are_the_scene(tmp_path: Path) -> None:
    cubes = [toy_scene(seed=1), toy_scene(40, 44, seed=2)]
    store = build(tmp_path / "p.zarr", *cubes)
    assert store.roles == ["target", "input", "coarse"] and store.count(TRAIN) > store.count(HELD_OUT) > 0
    for part in (TRAIN, HELD_OUT):
        for i in range(store.count(part)):
            scene, row, col, height, width = store.windows[part][i]
            truth = cubes[scene].values[:, row : row + height, col : col + width]
            sample = store.sample(part, i)
            np.testing.assert_array_equal(sample["target"], truth)
            np.testing.assert_array_equal(sample["input"], truth * 2)
            np.testing.assert_array_equal(sample["coarse"], truth[:, ::2, ::2])
    assert {a.part for a in areas_of(store)} == {TRAIN, HELD_OUT}
    assert [p.name for p in tmp_path.iterdir()] == ["p.zarr"]


def test_block_size_and_cache_change_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cube = toy_scene(80, 72)
    whole = build(tmp_path / "a.zarr", cube, split="random")
    monkeypatch.setattr(patches_module, "block_side", lambda recipe, scenes: 16)
    small = build(tmp_path / "b.zarr", cube, split="random", cache=0)
    for part in (TRAIN, HELD_OUT):
        ours = {tuple(w): whole.sample(part, i)["target"] for i, w in enumerate(whole.windows[part])}
        theirs = {tuple(w): small.sample(part, i)["target"] for i, w in enumerate(small.windows[part])}
        assert ours.keys() == theirs.keys()
        assert all(np.array_equal(ours[k], theirs[k]) for k in ours)
    assert "too good" in small.attrs["leakage"]


def test_patches_with_nodata_are_left_out(tmp_path: Path) -> None:
    cube = toy_scene()
    cube[1, 10, 10] = np.nan
    store = build(tmp_path / "p.zarr", cube)
    assert store.attrs["dropped"] > 0
    for part in (TRAIN, HELD_OUT):
        for _, row, col, height, width in store.windows[part]:
            assert not (row <= 10 < row + height and col <= 10 < col + width)
    with pytest.raises(BadInput, match="nodata"):
        build(tmp_path / "q.zarr", xr.full_like(cube, np.nan))
    assert not (tmp_path / "q.zarr").exists()


def test_store_is_reused_only_for_the_same_thing(tmp_path: Path) -> None:
    path = tmp_path / "p.zarr"
    first = build(path, toy_scene(), steps=5)
    stamp = path.stat().st_mtime_ns
    again = build(path, toy_scene(), steps=50, learning_rate=0.5)
    assert again.attrs["key"] == first.attrs["key"] and path.stat().st_mtime_ns == stamp
    for other in ({"patch": 6}, {"held_out": 0.4}):
        with pytest.raises(JournalMismatch, match="other scenes, settings or seed"):
            build(path, toy_scene(), **other)
    with pytest.raises(JournalMismatch):
        build(path, toy_scene(seed=9))
    with pytest.raises(JournalMismatch):
        build(path, toy_scene(), seed=1)


def test_many_patches_are_thinned_and_seeded(tmp_path: Path) -> None:
    cube = toy_scene(100, 100)
    a, b = (build(tmp_path / f"{n}.zarr", cube, stride=2, patches=30) for n in "ab")
    assert a.count(TRAIN) == 30
    np.testing.assert_array_equal(a.windows[TRAIN], b.windows[TRAIN])


def test_a_wrong_recipe_is_told() -> None:
    recipe = ToyRecipe()
    read = Window(0, 0, 16, 16)
    with pytest.raises(BadCube, match="made 'target'"):
        crop({"target": np.zeros((1, 15, 16))}, recipe, read, Window(0, 0, 8, 8))
    with pytest.raises(BadCube, match="whole number"):
        crop({"target": np.zeros((1, 16, 16)), "odd": np.zeros((1, 5, 5))}, recipe, read, Window(0, 0, 8, 8))


@settings(max_examples=50, deadline=None)
@given(row=st.integers(0, 20), size=st.integers(1, 12), margin=st.integers(0, 20), multiple=st.sampled_from([1, 2, 4]))
def test_read_window_holds_its_patches(row: int, size: int, margin: int, multiple: int) -> None:
    row, size = row * multiple, size * multiple
    ground = Window(0, 0, 200, 200)
    read = padded([Window(row, row, size, size)], margin, multiple, ground, (150, 150))
    assert read.row <= row and read.row + read.height >= row + size
    assert read.row % multiple == 0 and read.row + read.height <= 150
    assert read.row >= max(row - margin, 0)


def test_scene_lists(tmp_path: Path) -> None:
    with pytest.raises(ProductNotFound, match="does not exist"):
        open_scenes(tmp_path / "no")
    with pytest.raises(BadInput, match="no scenes"):
        open_scenes([])
    with pytest.raises(BadInput, match="comes without pan"):
        open_scenes(toy_scene(), layers=("pan",))


def test_layers_are_read_over_the_same_ground() -> None:
    cube = toy_scene(20, 16)
    pan = xr.DataArray(np.arange(80.0 * 64).reshape(1, 80, 64), dims=("layer", "y_pan", "x_pan"))
    scene = xr.Dataset({"cube": cube, "pan": pan})
    block = read_block(scene, Window(4, 2, 8, 6))
    np.testing.assert_array_equal(block["pan"].values, pan.values[:, 16:48, 8:32])
    odd = xr.Dataset({"cube": cube, "pan": pan[:, :79]})
    with pytest.raises(GridMismatch, match="whole number"):
        read_block(odd, Window(4, 2, 8, 6))


@given(code=st.integers(0, 7))
def test_turns_keep_roles_together(code: int) -> None:
    fine = np.arange(64.0).reshape(1, 8, 8)
    coarse = fine.reshape(1, 4, 2, 4, 2).mean((2, 4))
    out = turn({"fine": fine, "coarse": coarse}, code)
    np.testing.assert_allclose(out["fine"].reshape(1, 4, 2, 4, 2).mean((2, 4)), out["coarse"])


def test_eight_turns_are_different_and_jitter_spares_other_roles() -> None:
    x = np.arange(9.0, dtype=np.float32).reshape(1, 3, 3)
    assert len({turn({"x": x}, code)["x"].tobytes() for code in range(8)}) == 8
    arrays = {"cube": np.ones((20, 4, 4), np.float32), "pan": np.ones((1, 4, 4), np.float32), "mask": x}
    out = augment(arrays, np.random.default_rng(0), flips=False, jitter=0.2, spectral=0.1, scaled=("cube", "pan"))
    assert out["mask"] is x and out["cube"].dtype == np.float32
    assert 0.7 < out["pan"].mean() < 1.33 and np.ptp(out["cube"][:, 0, 0]) > 0
    np.testing.assert_allclose(out["cube"].mean(), out["pan"].mean(), rtol=0.05)
