"""The super-resolution bench: rows, the floor, scenes, weights, what is skipped and why."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.bench.superresolution import bench_superresolution
from torchspectral.cli import main
from torchspectral.errors import BadInput, BadSettings, OutputExists
from torchspectral.weights import WeightsCard, save


def scene(seed: int = 0, bands: int = 5, rows: int = 42, cols: int = 38):
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:rows, :cols] / 6
    values = 0.5 + 0.2 * np.sin(y + np.arange(bands)[:, None, None] / 4) * np.cos(x) + 0.2 * (x > 3)
    values += 0.01 * rng.standard_normal(values.shape)
    return ts.make_cube(values.astype(np.float32), wavelength=np.linspace(450, 900, bands), quantity="reflectance")


def weights(folder: Path) -> Path:
    torch.manual_seed(0)
    network = ts.create_model("essaformer", bands=5, dim=8, scale=2)
    card = WeightsCard(
        name="essaformer.test",
        model="essaformer",
        constructor={"bands": 5, "dim": 8, "scale": 2},
        quantity="reflectance",
    )
    path = folder / "essaformer.test.safetensors"
    save(path, network.state_dict(), card)
    return path


def test_command_compares_methods(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for n in range(2):
        ts.save(scene(n), tmp_path / f"s{n}.tif")
    words = f"bench superres {tmp_path}/s0.tif {tmp_path}/s1.tif -o {tmp_path}/bench/ --set scale=2 --json "
    with pytest.raises(SystemExit) as stop:
        main([*words.split(), "--weights", str(weights(tmp_path))])
    assert stop.value.code == 0
    told = json.loads(capsys.readouterr().out)
    assert any("spectral-mixup was skipped: BandMismatch" in note for note in told["report"]["notes"])
    rows = {row["method"]: row for row in csv.DictReader((tmp_path / "bench" / "scores.csv").open())}
    assert list(rows)[:3] == ["bicubic", "lanczos", "pca-bicubic"] and "expect" in rows["spectral-mixup"]["note"]
    each = list(csv.DictReader((tmp_path / "bench" / "scenes.csv").open()))
    assert {row["scene"] for row in each} == {"s0", "s1"} and len(each) == 2 * len(rows)
    psnr = [float(row["MPSNR"]) for row in each if row["method"] == "bicubic"]
    assert min(psnr) > 22 and all(float(row["ERGAS"]) > 0 for row in each if row["method"] == "essaformer")
    assert {p.name for p in (tmp_path / "bench").glob("*.png")} == {"pictures.png", "error-maps.png", "bands.png"}
    assert "essaformer" in (tmp_path / "bench" / "report.html").read_text()


def test_bicubic_is_the_protocol_s(tmp_path: Path) -> None:
    from torchspectral.ops.resize import imresize
    from torchspectral.superresolution import quality

    cube = scene(rows=40, cols=36)
    result = bench_superresolution([cube], methods=["interpolation"], out=tmp_path, scale=4)
    truth = torch.from_numpy(cube.values / cube.values.max())
    expected = quality(imresize(imresize(truth, 1 / 4), 4.0), truth, 4.0)
    row = result["scores"][0]
    for name, value in expected.items():
        assert row[name] == pytest.approx(value, rel=1e-4), name
    again = bench_superresolution([cube], methods=["interpolation"], out=tmp_path, scale=4, resume=True)
    assert again["scores"] == result["scores"]
    with pytest.raises(OutputExists, match="has a bench already"):
        bench_superresolution([cube], out=tmp_path)


def test_nodata_and_bad_bands_do_not_count(tmp_path: Path) -> None:
    cube = scene()
    cube.values[:, :6, :6] = np.nan
    cube.values[2] = np.nan
    cube = cube.assign_coords(good=("band", [True, True, True, True, False]))
    result = bench_superresolution([cube], methods=["interpolation"], out=tmp_path, scale=2, tiles=2)
    row = result["scores"][0]
    assert np.isfinite(row["MPSNR"]) and np.isfinite(row["SAM"])
    assert any("2 bands without use" in note for note in result.report.notes)


def test_what_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no scene"):
        bench_superresolution([], out=tmp_path)
    with pytest.raises(BadInput, match="to degrade 4 times"):
        bench_superresolution([scene(rows=7)], out=tmp_path)
    with pytest.raises(BadInput, match="no positive value"):
        bench_superresolution([scene() * 0], out=tmp_path)
    with pytest.raises(BadSettings, match="none twice"):
        bench_superresolution([scene(), scene()], names=["a", "a"], out=tmp_path)
    with pytest.raises(BadSettings, match="not compared"):
        bench_superresolution([scene()], methods=["interpolation"], weights={"essaformer": "x"}, out=tmp_path)
