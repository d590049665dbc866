"""Index, splits, training store and packing of patch sets."""

from __future__ import annotations

import json
import logging
import os
import pickle
from pathlib import Path

import miniatures
import numpy as np
import pytest
import toy_recipe

import torchspectral as ts
from torchspectral.errors import BadInput, BandMismatch, BrokenProduct, OutputExists
from torchspectral.learn.patch_sets import labels_of, open_patch_set, pack, scanning, simulate_patches
from torchspectral.learn.patch_sets.index import FILE, JOURNAL, load_index
from torchspectral.learn.patch_sets.places import split_rows
from torchspectral.learn.patch_sets.store import PatchSetStore
from torchspectral.learn.scenes import open_scenes


class ImageRecipe(toy_recipe.ToyRecipe):
    """Plain values, with all roles that a patch set can give."""

    room = "pretraining"
    lead = "image"
    uses = ("valid", "later", "label", "mask")
    multiple = 1

    def pairs(self, scene):
        return {"image": scene.values[self.index]}


def store_of(path: Path, recipe_class=ImageRecipe, broken: str = "refuse", **settings) -> PatchSetStore:
    recipe = recipe_class(toy_recipe.ToySettings.make({"patch": 8, "broken": broken, **settings}))
    scenes = open_scenes(path, broken=broken)
    recipe.prepare([scene.scene for scene in scenes])
    return PatchSetStore([scenes[0].patch_set], recipe, seed=0, broken=broken)


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("generated") / "set"
    simulate_patches(folder, 24, sensor="sentinel-2a", settings={"size": 8, "grain": 2, "second": 0.5, "holes": 0.5})
    return folder


def test_the_index_is_built_once_and_follows_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = miniatures.pretraining(tmp_path / "set", bands=3)
    looked: list[str] = []
    probe = scanning._look
    monkeypatch.setattr(scanning, "_look", lambda layout, entry: looked.append(entry.path) or probe(layout, entry))
    told: list[float] = []
    first = open_patch_set(root, progress=lambda step: told.append(step.fraction))
    assert len(looked) == 9 and told[-1] == 1.0 and (root / ".torchspectral" / FILE).is_file()
    again = open_patch_set(root)
    assert len(looked) == 9 and again.fingerprint() == first.fingerprint() and len(again) == 9
    miniatures.tif(root / "enmap" / "loc000" / "X_20230101.tif", np.zeros((3, 8, 8), dtype=np.int16), nodata=-32768)
    more = open_patch_set(root)
    # Only the new file is looked into.
    assert looked[9:] == ["enmap/loc000/X_20230101.tif"] and len(more) == 10
    assert more.fingerprint() != first.fingerprint()
    assert len(open_patch_set(root, rebuild=True)) == 10 and len(looked) == 20


def test_a_scan_that_was_stopped_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = miniatures.pretraining(tmp_path / "set", bands=3)
    probe = scanning._look
    looked: list[str] = []

    def stop(layout, entry):
        nonlocal looked
        looked.append(entry.path)
        if len(looked) == 5:
            raise KeyboardInterrupt
        return probe(layout, entry)

    monkeypatch.setattr(scanning, "_look", stop)
    monkeypatch.setattr(scanning, "THREADS", 1)
    with pytest.raises(KeyboardInterrupt):
        open_patch_set(root)
    journal = root / ".torchspectral" / JOURNAL
    kept = len(journal.read_text().splitlines()) - 1
    assert kept == 4
    with journal.open("a") as file:
        file.write('["cut off", 1')
    looked = ["counted before"] * 5
    assert len(open_patch_set(root)) == 9
    assert len(looked) == 5 + 9 - kept and not journal.exists()


def test_a_read_only_folder_is_indexed_in_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = miniatures.pretraining(tmp_path / "set", bands=3)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    made = Path.mkdir
    monkeypatch.setattr(
        Path,
        "mkdir",
        lambda p, *a, **k: (
            (_ for _ in ()).throw(PermissionError("read-only")) if ".torchspectral" in str(p) else made(p, *a, **k)
        ),
    )
    assert len(open_patch_set(root)) == 9 and not (root / ".torchspectral").exists()
    assert len(list((tmp_path / "cache").rglob(FILE))) == 1 and len(open_patch_set(root)) == 9


def test_an_index_is_not_trusted(tmp_path: Path) -> None:
    root = miniatures.pretraining(tmp_path / "set", bands=3)
    open_patch_set(root)
    folder = root / ".torchspectral"
    with np.load(folder / FILE) as stored:
        arrays = dict(stored)
    arrays["path"] = arrays["path"].astype("S80")
    arrays["path"][0] = b"../../../etc/passwd"
    np.savez(folder / FILE, **arrays)
    with pytest.raises(BrokenProduct, match="leads out of the folder"):
        load_index(folder)
    assert len(open_patch_set(root)) == 9
    (folder / FILE).write_bytes(b"PK\3\4 no archive")
    assert len(open_patch_set(root)) == 9
    np.savez(folder / FILE, meta=np.array([{"a": 1}], dtype=object))
    assert len(open_patch_set(root)) == 9


def test_broken_files_are_named_or_skipped(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = miniatures.pretraining(tmp_path / "set", bands=3)
    files = sorted((root / "enmap").rglob("*.tif"))
    files[0].write_bytes(b"no tiff")
    files[3].write_bytes(files[3].read_bytes()[:-50])
    with pytest.raises(BrokenProduct, match=r"2 of 9 files .* such as enmap/loc000/.*broken=skip"):
        open_patch_set(root)
    with caplog.at_level(logging.WARNING, "torchspectral"):
        found = open_patch_set(root, broken="skip")
    assert len(found) == 7 and "2 of 9 files" in caplog.text and len(found.skipped) == 2
    assert "truncated" in found.skipped[files[3].relative_to(root).as_posix()]
    store = store_of(root, broken="skip")
    assert "2 broken files are skipped" in store.attrs["leakage"] and len(store.attrs["broken"]) == 2
    # Cut off after it was indexed.
    whole = open_patch_set(root, broken="skip")
    row = int(whole.part("train")[0])
    path = root / whole.index.path(row)
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(BrokenProduct, match="cut off, or was written anew"):
        whole.values(row)


def test_broken_after_indexing_gives_way_to_the_next(tmp_path: Path) -> None:
    root = miniatures.pretraining(tmp_path / "set", bands=3)
    kept, refusing = (store_of(root, broken=policy, cache=0) for policy in ("skip", "refuse"))
    patches = kept.sets[0]
    path = root / patches.index.path(int(kept.items["train"][1][1][0]))
    path.unlink()
    with pytest.raises(BrokenProduct, match="is gone"):
        refusing.sample("train", 1)
    assert np.array_equal(kept.sample("train", 1)["image"], kept.sample("train", 2)["image"])


def test_the_first_file_may_be_broken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    root = miniatures.pretraining(tmp_path / "set", bands=3)
    whole = open_patch_set(root)
    first, second = (root / whole.index.path(int(row)) for row in whole.rows[:2])
    first.write_bytes(first.read_bytes()[:-50])
    second.write_bytes(b"no tiff")
    with pytest.raises(BrokenProduct, match=r"loc000/.*truncated.*broken=skip"):
        open_patch_set(root)
    with caplog.at_level(logging.WARNING, "torchspectral"):
        found = open_patch_set(root, broken="skip")
    assert len(found) == 7 and found.bands.scale == whole.bands.scale and found.bands.wavelength.size == 3
    names = {path.relative_to(root).as_posix() for path in (first, second)}
    assert set(found.skipped) == names and all(name in caplog.text for name in names)
    # One that breaks beyond the first is left out of what is computed over the set.
    chosen = int(found.part("train")[-1])
    (root / found.index.path(chosen)).unlink()
    sheet = found.sheet().values
    assert np.isnan(sheet).any() and np.isfinite(sheet).any() and np.isfinite(found.statistics()[0]).all()
    assert store_of(root, broken="skip", cache=0).sample("train", 0)["image"].shape == (3, 8, 8)
    for path in (root / found.index.path(int(row)) for row in found.rows):
        path.write_bytes(b"no tiff")
    with pytest.raises(BrokenProduct, match=r"every file|in a row"):
        open_patch_set(root, broken="skip")


def test_several_sensors_are_told_apart(tmp_path: Path) -> None:
    root = miniatures.pretraining(tmp_path / "set", places=4)
    for k in range(2):
        miniatures.tif(root / "enmap" / f"other{k}" / "a.tif", np.zeros((50, 8, 8), dtype=np.int16), east=6e5 + 1e4 * k)
    with pytest.raises(BandMismatch, match=r"6 of 202 bands \(int16, nodata -32768.0\), sensor=enmap; 2 of 50 bands"):
        open_patch_set(root)
    assert open_patch_set(root, sensor="50").shape[0] == 50 and len(open_patch_set(root, sensor="enmap")) == 6
    with pytest.raises(BandMismatch, match="names none or several"):
        open_patch_set(root, sensor="desis")


def test_places_stay_together_and_parts_lie_apart(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for row in range(8):
        for col in range(8):
            for date in range(1 + (row + col) % 3 // 2):
                miniatures.tif(
                    root / "enmap" / f"p{row}{col}" / f"s_2022060{date + 1}.tif", np.ones((2, 4, 4), dtype=np.int16),
                    east=4e5 + 120 * col, north=5e6 - 120 * row,
                )  # fmt: skip
    patches = open_patch_set(root)
    place = patches.index.columns["place"]
    for seed in range(3):
        found = patches.split(seed=seed)
        train, held = found.rows["train"], found.rows["held-out"]
        assert not set(place[train]) & set(place[held]) and train.size and held.size
        assert found.shared == 0 and found.near == 0 and found.left_out > 0
        box = patches.index.columns["box"]
        gap = np.maximum(
            np.abs(box[train][:, None, 0] - box[held][None, :, 0]),
            np.abs(box[train][:, None, 1] - box[held][None, :, 1]),
        )
        assert gap.min() >= 2 * 120 - 1
    leaky = split_rows(patches.index, patches.rows, how="random")
    assert leaky.shared > 0.3 and leaky.near > 0.9 and "too good" in leaky.sentence


def test_two_dates_of_a_place(tmp_path: Path) -> None:
    store = store_of(miniatures.pretraining(tmp_path, bands=3), cache=0)
    seen = set()
    for part in ("train", "held-out"):
        for index in range(store.count(part)):
            for draw in range(6):
                sample = store.sample(part, index, np.random.default_rng(draw))
                place, later = (round(float(sample[role][0, 0, 0]) * 1e4) for role in ("image", "later"))
                assert place // 1000 == later // 1000 == store.windows[part][index, 0]
                # Places of odd numbers have two dates, and the pair is of different ones.
                assert (place != later) == bool(place // 1000 % 2)
                seen.add(place)
    assert len(seen) == 9
    assert store.sample("train", 0)["later_valid"].shape == (1, 8, 8)


def test_crops_masks_labels_and_holes(generated: Path) -> None:
    store = store_of(generated, patch=4, holes=0.6)
    sample = store.sample("train", 0, np.random.default_rng(0))
    bands = store.sets[0].shape[0]
    assert {role: a.shape for role, a in sample.items()} == {
        "image": (bands, 4, 4), "valid": (1, 4, 4), "later": (bands, 4, 4), "later_valid": (1, 4, 4),
        "mask": (1, 4, 4), "label": (9, 1, 1),
    }  # fmt: skip
    assert all(a.dtype == np.float32 for a in sample.values())
    holes = 0
    for index in range(store.count("train")):
        s = store.sample("train", index, np.random.default_rng(index))
        gone = s["valid"][0] == 0
        holes += int(gone.any())
        assert np.all(s["image"][:, gone] == 0) and np.isfinite(s["image"]).all() and s["valid"].mean() >= 0.4
        assert s["mask"].max() < 9
    assert holes
    scenes = open_scenes(generated)
    assert (
        labels_of([scenes[0].scene], "pixels")["ignore"] == 9
        and len(scenes[0].scene.attrs["patch_set"]["labels"]["classes"]) == 9
    )
    with pytest.raises(BadInput, match="expected single"):
        labels_of([scenes[0].scene], "single")


def test_methods_without_masks_get_whole_patches(generated: Path) -> None:
    class Plain(ImageRecipe):
        uses = ()

    store = store_of(generated, Plain)
    patches = store.sets[0]
    whole = 0
    for index in range(store.count("train")):
        sample = store.sample("train", index)
        assert set(sample) == {"image"} and np.isfinite(sample["image"]).all()
        whole += np.isfinite(patches.values(int(store.items["train"][index][1][0]))).all()
    assert 0 < whole < store.count("train")


def test_the_store_survives_a_process_and_refuses_small_patches(generated: Path) -> None:
    store = store_of(generated, cache=0)
    copied = pickle.loads(pickle.dumps(store))
    assert np.array_equal(copied.sample("train", 1)["image"], store.sample("train", 1)["image"])
    with pytest.raises(BadInput, match="set patch=8"):
        store_of(generated, patch=16)


def test_a_packed_set_is_the_same(generated: Path, tmp_path: Path) -> None:
    patches = open_patch_set(generated)
    store = tmp_path / "patches.zarr"
    pack(patches, store)
    with pytest.raises(OutputExists):
        pack(patches, store)
    packed = open_patch_set(store)
    assert len(packed) == len(patches) and packed.labels == patches.labels
    assert np.allclose(packed.bands.wavelength, patches.bands.wavelength)
    for k in (0, len(packed) - 1):
        row = int(patches.rows[k])
        assert np.array_equal(packed.values(k), patches.values(row), equal_nan=True)
        assert np.array_equal(packed.mask(k), patches.mask(row)) and np.array_equal(packed.label(k), patches.label(row))
    a, b = store_of(generated), store_of(store)
    assert a.count("train") == b.count("train")
    for role, values in a.sample("train", 2, np.random.default_rng(1)).items():
        assert np.array_equal(values, b.sample("train", 2, np.random.default_rng(1))[role])


def test_training_on_a_patch_set(tmp_path: Path, toy: None) -> None:
    data = miniatures.pretraining(tmp_path / "set", places=8, bands=3)
    found = ts.train("sharpen", "toy", data, out=tmp_path / "run", steps=2, settings={"patch": 8})
    facts = (tmp_path / "run" / "run.yaml").read_text()
    assert "places one by one: 0%" in found.report.notes[0] and f"--data {data}" in facts
    assert not (tmp_path / "run" / "patches.zarr").exists() and len(found["curves"]) == 1
    with pytest.raises(BadInput, match="scenes beside patch sets"):
        ts.train("sharpen", "toy", [data, toy_recipe.toy_scene()], out=tmp_path / "mixed", steps=1)


def test_generated_sets(generated: Path, tmp_path: Path) -> None:
    facts = json.loads((generated / "patches.json").read_text())
    assert facts["patches"] == 24 and len(list((generated / "images").rglob("*.tif"))) == 24
    patches = open_patch_set(generated)
    assert patches.bands.quantity == "reflectance" and patches.shape[0] == len(patches.bands.wavelength)
    # Any reader opens its files, with wavelengths and scale.
    cube = ts.open(generated / patches.index.path(0))
    assert np.allclose(cube.values, patches.values(0), atol=1e-6, equal_nan=True)
    assert np.allclose(cube["wavelength"].values, patches.bands.wavelength, atol=1e-3)
    with pytest.raises(OutputExists):
        simulate_patches(generated, 4)
    simulate_patches(tmp_path / "one", 10, sensor="sentinel-2a", settings={"size": 8, "labels": "single"})
    single = open_patch_set(tmp_path / "one")
    assert single.labels["kind"] == "single" and len({int(single.label(r)[0]) for r in single.rows}) > 3


def test_statistics(generated: Path) -> None:
    patches = open_patch_set(generated)
    mean, std = patches.statistics(count=100)
    values = np.concatenate(
        [patches.values(int(r)).reshape(patches.shape[0], -1) for r in patches.part("train")], axis=1
    )
    assert np.allclose(mean, np.nanmean(values.astype(float), axis=1)) and np.allclose(
        std, np.nanstd(values.astype(float), axis=1)
    )


def test_a_second_open_does_not_touch_the_folder(tmp_path: Path) -> None:
    root = miniatures.pretraining(tmp_path / "set", places=2, bands=3)
    open_patch_set(root)
    before = os.stat(root).st_mtime_ns
    open_patch_set(root)
    assert os.stat(root).st_mtime_ns == before
