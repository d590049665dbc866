"""Diagnosis: what is drawn, what is told, what is refused, what is written."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from affine import Affine

import torchspectral as ts
from torchspectral.diagnosis.sampling import stratified
from torchspectral.diagnosis.words import explain_curves
from torchspectral.errors import BadInput, BadSettings, BrokenProduct, GridMismatch, OutputExists, UnsafeInput
from torchspectral.geo import place

ROWS, COLS = 40, 48
TRANSFORM = Affine(30, 0, 500_000, 0, -30, 5_800_000)


def stripes() -> np.ndarray:
    """Four classes in a chequerboard, so that each lies in every block of ground."""
    rows, cols = np.indices((ROWS, COLS))
    return 1 + (rows // 3 % 2) * 2 + cols // 3 % 2


def embeddings(seed: int = 0, noise: float = 0.1, dims: int = 12):
    draw = np.random.default_rng(seed)
    centres = draw.standard_normal((5, dims))
    values = centres[stripes()] + noise * draw.standard_normal((ROWS, COLS, dims))
    values[:5] = np.nan
    layers = ts.make_layers(values.transpose(2, 0, 1).astype("f4"), [f"e{i}" for i in range(dims)])
    return place(layers, TRANSFORM, "EPSG:32633")


def labels():
    import xarray as xr

    drawn = xr.DataArray(stripes().astype(np.uint8), dims=("y", "x"), name="labels")
    drawn.attrs["class_names"] = ["unlabelled", "water", "soil", "meadow", "roof"]
    return place(drawn.expand_dims(layer=["labels"]), TRANSFORM, "EPSG:32633").isel(layer=0, drop=True)


def test_draw_is_fixed_valid_and_spread() -> None:
    mask = np.ones((100, 100), dtype=bool)
    mask[:, :20] = False
    rows, cols = stratified(mask, 64, seed=1)
    again = stratified(mask, 64, seed=1)
    assert (rows == again[0]).all() and (cols == again[1]).all() and mask[rows, cols].all()
    # Every 25 x 40 part of the valid ground has its share, which 64 random pixels would rarely give.
    parts = np.bincount(rows // 25 * 2 + (cols - 20) // 40, minlength=8)
    assert parts.size == 8 and parts.min() >= 5
    assert stratified(mask, 10**6, 0)[0].size == mask.sum()


def test_layers_with_labels_and_spectra(tmp_path: Path) -> None:
    ts.save(embeddings(), tmp_path / "emb.tif")
    cube = ts.make_cube(
        np.nan_to_num(embeddings().values) + 5, wavelength=np.linspace(450, 900, 12), quantity="radiance"
    )
    found = ts.diagnose(
        tmp_path / "emb.tif",
        labels=labels(),
        spectra=place(cube, TRANSFORM, "EPSG:32633"),
        settings={"samples": 300},
        out=tmp_path / "report",
    )
    n = found["numbers"]
    assert n["samples"] == 300 and n["classes"] == 4 and not found["alarms"]
    assert (found["samples"]["row"] >= 5).all()  # nodata is never drawn
    assert n["dsmi_labels"] > 5 * abs(n["dsmi_shuffled"])
    assert n["knn_overall"] == n["linear_overall"] == 1.0
    assert n["dsmi_input"] > 0.5
    page = (tmp_path / "report" / "report.html").read_text()
    assert "What it means" in page and page.count("data:image/png") == 3 and "<script" not in page
    kept = json.loads((tmp_path / "report" / "numbers.json").read_text())
    assert kept["numbers"]["dse"] == pytest.approx(n["dse"]) and kept["alarms"] == []
    assert len(pd.read_csv(tmp_path / "report" / "samples.csv")) == 300
    assert sorted(p.name for p in tmp_path.iterdir()) == ["emb.tif", "report"]
    with pytest.raises(OutputExists, match="overwrite"):
        ts.diagnose(tmp_path / "emb.tif", out=tmp_path / "report")


def test_same_pixels_for_two_encoders_and_the_better_one_tells_more() -> None:
    good, poor = (ts.diagnose(embeddings(noise=v), labels=labels(), settings={"samples": 300}) for v in (0.1, 3.0))
    assert good["samples"].equals(poor["samples"])
    assert good["numbers"]["dsmi_labels"] > 2 * poor["numbers"]["dsmi_labels"]
    assert good["numbers"]["knn_overall"] > poor["numbers"]["knn_overall"]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.tile(np.arange(1.0, 17.0), (60, 1)), "complete collapse"),
        (np.outer(np.linspace(-1, 1, 60), np.ones(16)) + 1e-4 * np.random.default_rng(0).random((60, 16)), "collapse"),
        (np.zeros((60, 16)), "zeros"),
    ],
)
def test_collapse_is_told(values: np.ndarray, words: str) -> None:
    assert any(words in sentence for sentence in ts.diagnose(values)["alarms"])


def test_a_kernel_that_sees_nothing_is_told() -> None:
    values = np.random.default_rng(0).standard_normal((60, 8)) * 1000
    notes = ts.diagnose(values, settings={"normalise": False, "sigma": 1.0}).report.notes
    assert any("region of its own" in note for note in notes)
    assert not ts.diagnose(values, settings={"normalise": False, "sigma": "median"}).report.notes


def test_tables_of_every_kind_give_the_same(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    values = draw.standard_normal((50, 4)).round(6)
    kinds = np.array(["a", "b"])[np.arange(50) % 2]
    np.save(tmp_path / "e.npy", values)
    np.savez(tmp_path / "e.npz", embeddings=values, labels=np.arange(50) % 2, other=values)
    frame = pd.DataFrame(values, columns=list("pqrs")).assign(row=range(50), label=kinds)
    frame.to_csv(tmp_path / "e.csv", index=False)
    frame[["label"]].to_csv(tmp_path / "l.csv", index=False)
    one = ts.diagnose(tmp_path / "e.npy", labels=tmp_path / "l.csv")["numbers"]
    assert one["dsmi_labels"] == pytest.approx(ts.diagnose(tmp_path / "e.npz")["numbers"]["dsmi_labels"])
    assert one == pytest.approx(ts.diagnose(tmp_path / "e.csv")["numbers"])
    assert one == pytest.approx(ts.diagnose(torch.from_numpy(values), labels=kinds)["numbers"])
    assert ts.diagnose(values, settings={"samples": 20})["numbers"]["samples"] == 20


def test_curves_in_words() -> None:
    steps = np.arange(12)
    up, flat = np.linspace(2, 5, 12), np.full(12, 0.5)
    told, alarming = explain_curves(pd.DataFrame({"step": steps, "dse": up, "dsmi_labels": flat}))
    assert not alarming and any("memorises" in s for s in told)
    told, _ = explain_curves(pd.DataFrame({"step": steps, "dse": up, "dsmi_labels": up / 4}))
    assert any("generalising" in s for s in told)
    _, alarming = explain_curves(pd.DataFrame({"step": steps, "dse": up[::-1] - 1.9}))
    assert alarming
    told, _ = explain_curves(pd.DataFrame({"step": steps, "train_loss": up[::-1], "held_out_loss": up}))
    assert any("by heart" in s for s in told)


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda tmp: ts.diagnose(np.zeros((5, 4))), BadInput, "at least 10"),
        (lambda tmp: ts.diagnose(np.zeros(5)), BadInput, "sample, dimension"),
        (lambda tmp: ts.diagnose(np.eye(20), labels=np.arange(19)), BadInput, "one for each"),
        (lambda tmp: ts.diagnose(np.eye(20), labels=np.arange(20) / 3), BadInput, "fractions"),
        (lambda tmp: ts.diagnose(np.eye(20), spectra=np.eye(19)), BadInput, "one for each"),
        (lambda tmp: ts.diagnose(np.eye(20), settings={"normalise": False}), BadSettings, "give sigma"),
        (lambda tmp: ts.diagnose(np.eye(20), settings={"samples": 5}), BadSettings, "samples"),
        (lambda tmp: ts.diagnose(embeddings() * np.nan), BadInput, "without nodata"),
        (lambda tmp: ts.diagnose(embeddings(), labels=labels() * 0), BadInput, "labelled pixels"),
        (
            lambda tmp: ts.diagnose(embeddings(), spectra=ts.make_cube(np.ones((3, 8, 8)), wavelength=[500, 600, 700])),
            GridMismatch,
            "8 x 8",
        ),
    ],
)
def test_refusals(tmp_path: Path, call, error, words) -> None:
    with pytest.raises(error, match=words):
        call(tmp_path)


def test_hostile_files(tmp_path: Path) -> None:
    np.save(tmp_path / "p.npy", np.array([{"a": 1}], dtype=object), allow_pickle=True)
    (tmp_path / "t.npy").write_bytes(b"hello")
    (tmp_path / "c.npz").write_bytes(b"PK\x03\x04broken")
    for name, error in (("p.npy", UnsafeInput), ("t.npy", BrokenProduct), ("c.npz", BrokenProduct)):
        with pytest.raises(error):
            ts.diagnose(tmp_path / name)
