"""train classify, classify and score as they are typed; sets of bands of the cross-spectral protocol."""

from __future__ import annotations

import json

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from typer.testing import CliRunner

import torchspectral as ts
from torchspectral.classification.protocol import cross_spectral, interpolated, response_matrix, spectral_configurations
from torchspectral.cli.app import build
from torchspectral.errors import BandMismatch, TorchspectralError
from torchspectral.geo import place

pytest.importorskip("lightning")
geopandas = pytest.importorskip("geopandas")


def typed(*words: object) -> str:
    result = CliRunner().invoke(build(), [str(w) for w in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def scene(bands: int = 80, side: int = 48):
    wave = np.linspace(420, 2400, bands)
    pure = np.stack([0.2 + 0.1 * k + 0.1 * np.sin(wave / (150 + 90 * k)) for k in range(3)])
    truth = np.repeat(np.arange(side)[:, None] * 3 // side, side, 1)
    truth = np.where(np.arange(side)[None] // 8 % 2, (truth + 1) % 3, truth)
    noise = np.random.default_rng(0).normal(0, 0.005, (bands, side, side))
    values = (pure[truth].transpose(2, 0, 1) + noise).astype(np.float32)
    cube = ts.make_cube(values, wavelength=wave, fwhm=np.full(bands, 25.0), quantity="reflectance")
    return place(cube, Affine(30, 0, 600000, 0, -30, 5000000), "EPSG:32633"), truth + 1


def test_from_polygons_to_scored_map(tmp_path) -> None:
    from shapely.geometry import Point

    cube, truth = scene()
    ts.save(cube, tmp_path / "scene.zarr")
    rng = np.random.default_rng(1)
    rows, cols = rng.integers(0, 48, 500), rng.integers(0, 48, 500)
    crops = np.array(["", "beet", "corn", "hay"])[truth[rows, cols]]
    points = [Point(600000 + 30 * (c + 0.5), 5000000 - 30 * (r + 0.5)) for r, c in zip(rows, cols, strict=True)]
    table = geopandas.GeoDataFrame({"crop": crops}, geometry=points, crs="EPSG:32633")
    table.to_file(tmp_path / "fields.gpkg")
    settings = [
        "initial=random",
        "arguments={dim: 24, depth: 1, heads: 3}",
        "steps=40",
        "patch=16",
        "validate_every=40",
    ]
    typed(
        "train", "classify", "--backbone", "spec-vit-t", "--data", tmp_path / "scene.zarr", "--labels",
        tmp_path / "fields.gpkg", "--field", "crop", *[w for s in settings for w in ("--set", s)], "-o", tmp_path / "run",
        "--device", "cpu",
    )  # fmt: skip
    command = (tmp_path / "run/run.yaml").read_text()
    assert "fields.gpkg" in command and "spec-vit-t" in command
    typed("classify", tmp_path / "scene.zarr", "--weights", tmp_path / "run", "-o", tmp_path / "map.tif")
    found = json.loads(
        typed("score", tmp_path / "map.tif", tmp_path / "fields.gpkg", "--classes", "--field", "crop", "--json",
              "--confusion", tmp_path / "c.csv")
    )  # fmt: skip
    assert found["oa"] > 0.7 and [row["class"] for row in found["per_class"]] == ["beet", "corn", "hay"]
    assert (tmp_path / "c.csv").is_file()
    for words in (
        ("train", "sharpen", "--backbone", "x", "--data", "y", "-m", "z"),
        ("train", "sharpen", "--data", "y"),
    ):
        with pytest.raises(TorchspectralError, match=r"train classify|no --method"):
            typed(*words, "-o", tmp_path / "no")


def test_sets_of_bands() -> None:
    sets = spectral_configurations()
    assert {k: len(v) for k, v in sets.items()} == {"id": 120, "ood_a": 120, "ood_complement": 82, "ood_full": 202}
    assert (sets["id"] <= 100).sum() == 80 and len(np.intersect1d(sets["id"], sets["ood_a"])) == 64
    assert len(np.intersect1d(sets["id"], sets["ood_complement"])) == 0
    with pytest.raises(BandMismatch):
        spectral_configurations(4)
    wave = np.linspace(400, 1000, 61)
    weights, kept = response_matrix(wave, [500.0, 700.0, 5000.0], 12.0)
    assert kept.tolist() == [0, 1] and np.allclose(weights.sum(1), 1)
    assert weights[0].argmax() == 10 and (weights[(weights > 0)] >= 1e-3 / weights.sum(1).max()).all()
    line = interpolated(2 * wave[::-1], wave[::-1], [405.0, 333.0])
    assert line.tolist() == [810.0, 800.0]


@pytest.mark.slow
def test_trained_on_some_bands_tested_on_others(tmp_path) -> None:
    cube, truth = scene(bands=160)
    data = xr.Dataset({"cube": cube, "labels": (("y", "x"), truth.astype(np.int16))})
    settings = {
        "backbone": "spec-vit-t", "initial": "random", "arguments": {"dim": 24, "depth": 1, "heads": 3}, "steps": 40,
        "patch": 16, "validate_every": 40,
    }  # fmt: skip
    table = cross_spectral([data], [data], settings=settings, out=tmp_path / "run").set_index(["configuration", "way"])
    assert set(table.index.get_level_values(0)) == {"id", "ood_a", "ood_complement", "ood_full"}
    assert table.loc[("id", "own"), "drop_iou_micro"] == 0 and ("ood_complement", "own") not in table.index
    assert table.loc[("ood_full", "interpolated"), "oa"] > table.loc[("ood_full", "own"), "oa"]
    assert table.loc[("ood_full", "interpolated"), "drop_oa"] < 15


def test_a_segmentation_is_set_up_in_one_file(tmp_path) -> None:
    """As TorchGeo's segmentation task: model, data and trainer in a YAML file; two steps on a cube with a mask."""
    cube, truth = scene(side=32)
    ts.save(cube, tmp_path / "scene.zarr")
    mask = place(
        ts.make_layers(truth[None].astype(np.uint8), ["labels"]), Affine(30, 0, 600000, 0, -30, 5000000), "EPSG:32633"
    )
    ts.save(mask, tmp_path / "mask.tif")
    (tmp_path / "config.yaml").write_text(
        "backbone: spec-vit-t\n"
        f"labels: [{tmp_path / 'mask.tif'}]\n"
        "steps: 2\nseed: 1\ndevice: cpu\n"
        "settings: {initial: random, arguments: {dim: 24, depth: 1, heads: 3}, tuning: full, head: fcn, patch: 16, batch: 2}\n"
    )
    typed(
        "train",
        "classify",
        "--config",
        tmp_path / "config.yaml",
        "--data",
        tmp_path / "scene.zarr",
        "-o",
        tmp_path / "run",
    )
    facts = (tmp_path / "run/run.yaml").read_text()
    assert (
        "head: fcn" in facts and "seed: 1" in facts and len((tmp_path / "run/curves.csv").read_text().splitlines()) > 1
    )


@pytest.mark.slow
def test_a_map_of_300_pixels_and_202_bands_takes_less_than_two_gigabytes(tmp_path) -> None:
    import os
    import subprocess
    import sys

    import rasterio

    bands = 202
    wave = np.linspace(420, 2445, bands)
    values = np.random.default_rng(0).random((bands, 300, 300), dtype=np.float32)
    cube = ts.make_cube(values, wavelength=wave, quantity="reflectance")
    ts.save(place(cube, Affine(30, 0, 600000, 0, -30, 5000000), "EPSG:32633"), tmp_path / "scene.tif")
    facts = {
        "backbone": "spec-vit-s", "arguments": {}, "bands": bands, "patch": 128, "class_names": ["a", "b"],
        "class_numbers": [1, 2], "class_colors": [[9, 9, 9], [99, 9, 9]],
    }  # fmt: skip
    card = ts.weights.WeightsCard(
        name="backbone-classifier.big", model="backbone-classifier", constructor=facts, wavelengths=wave.tolist()
    )
    state = ts.create_model("backbone-classifier", **facts).state_dict()
    ts.weights.save(tmp_path / "w.safetensors", state, card)
    words = ["classify", "scene.tif", "--weights", "w.safetensors", "--device", "cpu", "-o", "map.tif"]
    child = subprocess.Popen([sys.executable, "-m", "torchspectral", *words], cwd=tmp_path)
    _, status, usage = os.wait4(child.pid, 0)
    assert status == 0 and usage.ru_maxrss < 2 << 20, usage.ru_maxrss
    with rasterio.open(tmp_path / "scene.tif") as a, rasterio.open(tmp_path / "map.tif") as b:
        assert a.crs == b.crs and a.transform == b.transform and a.shape == b.shape
    print(f"peak {usage.ru_maxrss / 2**20:.2f} GB")
