"""The sharpening bench: tables, failures, resuming, guides, figures of others."""

from __future__ import annotations

import json

import numpy as np
import pytest
from affine import Affine

import torchspectral as ts
from torchspectral.bench import sharpening as bench
from torchspectral.bench.sharpening import bench_sharpening
from torchspectral.errors import BadInput, BadSettings, OutputExists, UnknownName
from torchspectral.geo import place
from torchspectral.ops.mtf import mtf_filter


@pytest.fixture(scope="module")
def scene():
    import torch

    rng = np.random.default_rng(0)
    wave = np.linspace(430, 1000, 14)
    pure = rng.random((4, 14)).cumsum(1) / 14 + 0.1
    share = mtf_filter(torch.from_numpy(rng.random((4, 80, 80))), 3, 0.3, normalize=True).numpy()
    cube = ts.make_cube(
        (np.einsum("kyx,kb->byx", share, pure) * 2000).astype(np.float32), wavelength=wave, fwhm=np.full(14, 45.0)
    )
    return place(cube, Affine(30, 0, 4e5, 0, -30, 5e6), 32633)


@pytest.fixture
def no_pictures(monkeypatch) -> None:
    """Pictures are looked at where they are the point."""
    monkeypatch.setattr(bench._Bench, "_figures", lambda self: [])


def test_tables_with_failures_curves_and_maps(scene, tmp_path) -> None:
    result = bench_sharpening(
        scene, methods=["exp", "gsa", "guided", "hyperpnn"], ratio=2, out=tmp_path, seeds=2, tiles=2, crop=4, snr=55.0
    )
    rows = {row["method"]: row for row in result["reduced"]}
    assert rows["hyperpnn"]["ERGAS"] is None and "BandMismatch" in rows["hyperpnn"]["note"]
    assert rows["exp"]["ERGAS"].n == 8 and rows["exp"]["ERGAS"].std > 0
    assert rows["guided"]["ERGAS"].mean < rows["gsa"]["ERGAS"].mean < rows["exp"]["ERGAS"].mean
    assert rows["gsa"]["seconds"].mean >= 0 and "full" not in result
    assert set(result["bands"]) == {"exp", "gsa", "guided"} and len(result["bands"]["exp"]) == 14
    text = (tmp_path / "reduced.csv").read_text()
    assert "hyperpnn" in text and "Sentinel-2" in " ".join(result.report.notes)
    assert any("hyperpnn was not run" in note for note in result.report.notes)
    for name in ("report.html", "reduced.md", "reduced.tex", "pictures.png", "error-maps.png", "bands.png"):
        assert (tmp_path / name).stat().st_size > 100


def test_a_stopped_bench_goes_on_and_measures_nothing_twice(scene, tmp_path, monkeypatch, no_pictures) -> None:
    calls = []

    def counting(*args, **kw):
        calls.append(kw["method"])
        if kw["method"] == "gsa" and len(calls) == 2:
            raise KeyboardInterrupt
        return ts.sharpen(*args, **kw)

    monkeypatch.setattr(bench, "sharpen", counting)
    options = {"methods": ["exp", "gsa"], "ratio": 2, "out": tmp_path, "crop": 4}
    with pytest.raises(KeyboardInterrupt):
        bench_sharpening(scene, **options)
    first = bench_sharpening(scene, resume=True, **options)
    assert calls == ["exp", "gsa", "gsa"]
    again = bench_sharpening(scene, resume=True, **options)
    assert calls == ["exp", "gsa", "gsa"] and again["reduced"] == first["reduced"]
    bench_sharpening(scene, resume=True, **{**options, "crop": 6})
    assert calls[3:] == ["exp", "gsa"]
    bench_sharpening(scene, resume=True, method_settings={"gsa": {"compat": "authors-code"}}, **{**options, "crop": 6})
    assert calls[5:] == ["gsa"]


def test_full_resolution_with_a_pan_and_with_guides(scene, tmp_path, no_pictures) -> None:
    pair = ts.simulate_wald(scene, 2)
    guides = scene.isel(band=[1, 4, 7, 10])
    result = bench_sharpening(
        pair["hs"], pair["pan"], guides=guides, methods=["exp", "mtf-glp-fs", "guided"], out=tmp_path, crop=0
    )
    rows = {row["method"]: row for row in result["full"]}
    assert set(rows) == {"exp", "mtf-glp-fs", "guided"} and all(0 <= rows[m]["QNR"] <= 1 for m in rows)
    assert rows["guided"]["D_rho"] < rows["exp"]["D_rho"]
    assert any("guides seen through an MTF" in note for note in result.report.notes)
    assert json.loads((tmp_path / "runs.json").read_text())[0]["method"] == "sharpening/exp"


def test_figures_of_others_stand_beside_ours(enmap_block, tmp_path, no_pictures) -> None:
    result = bench_sharpening(
        enmap_block, methods=["exp", "gsa", "guided"], ratio=4, out=tmp_path, crop=4, protocol="toolbox"
    )
    for row in result["reduced"]:
        for metric in ("ERGAS", "SAM", "Q2n"):
            # The guides of the table's authors were made with other responses and borders: 10 % for them.
            assert row[metric] == pytest.approx(
                row[f"{metric} (paper)"], rel=0.1 if row["method"] == "guided" else 0.02
            )
    assert any("arXiv 2407.01355" in note for note in result.report.notes)
    other = bench_sharpening(enmap_block, methods=["exp"], ratio=4, out=tmp_path / "2", crop=4)
    assert "ERGAS (paper)" not in other["reduced"][0]


def test_bad_calls(scene, tmp_path) -> None:
    with pytest.raises(UnknownName, match="gsa"):
        bench_sharpening(scene, methods=["gsaa"], out=tmp_path)
    with pytest.raises(BadSettings, match="not compared"):
        bench_sharpening(scene, methods=["exp"], method_settings={"gsa": {}}, out=tmp_path)
    with pytest.raises(BadInput, match="no method could be run"):
        bench_sharpening(scene, methods=["hyperpnn"], out=tmp_path)
    (tmp_path / "report.html").write_text("x")
    with pytest.raises(OutputExists):
        bench_sharpening(scene, methods=["exp"], out=tmp_path)


def test_a_box_and_what_a_method_says_of_each_band(scene, tmp_path) -> None:
    quick = {"ensemble": 1, "ensemble_epochs": 1, "epochs": 1, "sharpenings": 1, "eta": 0.0, "resolution": "reduced"}
    result = bench_sharpening(
        scene.isel(band=[0, 5, 9]), bbox=(400300, 4998900, 401140, 4999790), methods=["exp", "rho-pnn"], ratio=2,
        out=tmp_path, crop=0, method_settings={"rho-pnn": quick},
    )  # fmt: skip
    assert result["spectral"]["rho-pnn"]["target_ratio"] == [0.62] * 3 and "exp" not in result["spectral"]
    rows = (tmp_path / "spectral-rho-pnn.csv").read_text().splitlines()
    assert len(rows) == 4 and "spectral_ratio" in rows[0] and (tmp_path / "spectral-loss.png").stat().st_size > 100
    assert "cut to 30 x 28 pixels (west, south, east, north 400300, 4998900, 401140, 4999790)" in result.report.notes[0]
