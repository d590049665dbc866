"""The notebooks in docs/tutorials run as they stand, and show what they say."""

from __future__ import annotations

import contextlib
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "tutorials"
NAMES = ("open-and-convert", "sharpen", "unmix", "denoise-and-classify", "train")
LARGEST_OUTPUT = 80_000
"""Characters that one cell may store."""


def cells(name: str) -> list[dict[str, Any]]:
    book = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert (book["nbformat"], book["nbformat_minor"]) == (4, 5)
    found: list[dict[str, Any]] = book["cells"]
    return found


def run(name: str) -> dict[str, Any]:
    """Names that the notebook leaves, its code run in the current folder."""
    space: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells(name)):
        if cell["cell_type"] == "code":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile("".join(cell["source"]), f"{name}.ipynb cell {number}", "exec"), space)
    return space


@pytest.fixture(autouse=True)
def _aside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")


@pytest.fixture
def _needs_scene() -> None:
    pytest.importorskip("tensorly", reason="the Indian Pines scene ships with tensorly")


def test_open_and_convert() -> None:
    left = run("open-and-convert")
    assert left["same"]
    assert left["small"].primary.shape == (97, 40, 50) and left["sentinel"].primary.sizes["band"] == 13
    assert Path("tutorial-output/small.tif.run.yaml").is_file()


@pytest.mark.usefixtures("_needs_scene")
def test_sharpen() -> None:
    left = run("sharpen")
    assert left["table"].loc["bt-h", "ERGAS"] < left["table"].loc["exp", "ERGAS"]
    others = left["table"].drop("guided")
    assert left["table"].loc["guided", "ERGAS"] < others["ERGAS"].min()
    np.testing.assert_allclose(
        [left["guided"].report.figures[f"shift_{n}"] for n in ("rows", "cols")], [0.9, -0.6], atol=0.02
    )
    assert left["written"].primary.shape == left["pair"]["truth"].shape
    np.testing.assert_allclose(left["written"].primary.values, left["fused"]["bt-h"].values, rtol=1e-6)


@pytest.mark.usefixtures("_needs_scene")
def test_unmix() -> None:
    left = run("unmix")
    assert left["scored"].figures["rmse"] < 0.03
    assert left["inside"][left["best"]] > 2 * left["outside"][left["best"]]
    np.testing.assert_allclose(left["again"]["abundances"].values, left["pines"]["abundances"].values, atol=1e-3)


@pytest.mark.usefixtures("_needs_scene")
def test_denoise_and_classify() -> None:
    left = run("denoise-and-classify")
    noisiest = left["clean"]["bands"].sort_values("snr_before").iloc[0]
    assert noisiest["snr_after"] > noisiest["snr_before"] + 10
    # Fifteen and more classes: the share that guessing the largest would get is 0.25.
    assert min(left["accuracy"].values()) > 0.4
    assert left["written"].primary.attrs["class_names"][1] == "Alfalfa"


@pytest.mark.usefixtures("_needs_scene")
def test_train() -> None:
    pytest.importorskip("lightning", reason="training needs the extra 'train'")
    left = run("train")
    losses = left["longer"]["curves"]["held_out_loss"].to_numpy()
    assert len(losses) == 3 and losses[-1] < losses[0]
    assert left["sharp"].primary.shape == left["pair"]["truth"].shape
    assert Path("tutorial-output/run/weights.safetensors").is_file()


def test_every_notebook_has_a_test_and_is_tidy() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == sorted(NAMES)
    for name in NAMES:
        for number, cell in enumerate(cells(name)):
            place = f"{name} cell {number}"
            assert len(json.dumps(cell.get("outputs", []))) < LARGEST_OUTPUT, place
            assert cell.get("execution_count") is None, place
            for output in cell.get("outputs", []):
                assert output["output_type"] != "error", place
                assert output.get("name") != "stderr", place
        assert "/home/" not in (text := (FOLDER / f"{name}.ipynb").read_text(encoding="utf-8")) and "/tmp/" not in text
