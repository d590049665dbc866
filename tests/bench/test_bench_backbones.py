"""The bench of backbones: generated sets of all tasks, missing sets, resuming, bands that change, refusals."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from torchspectral.bench import backbones as bench
from torchspectral.bench.backbone_sets import find_sets
from torchspectral.bench.backbones import bench_backbones, published
from torchspectral.cli import main
from torchspectral.errors import BadInput, BadSettings, OutputExists, UnknownName
from torchspectral.learn.patch_sets import simulate_patches
from torchspectral.learn.patch_sets.facts import facts
from torchspectral.log import Step

SMALL: dict[str, Any] = {
    "steps": 2, "batch": 4, "patch": 8, "arguments": {"depth": 1, "patch_size": 4, "dim": 24, "heads": 1},
}  # fmt: skip
RANDOM = ["spec-vit-t=random"]


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set of pixels that has a published name, one of whole patches, and a stranger."""
    root = tmp_path_factory.mktemp("sets")
    simulate_patches(root / "EnMAP_NLCD", 14, settings={"size": 8, "grain": 3.0})
    simulate_patches(root / "single", 16, settings={"size": 8, "labels": "single", "holes": 0.0})
    (root / "notes").mkdir()
    return root


def test_tables_of_sets_and_what_is_missing(sets: Path, tmp_path: Path) -> None:
    done: list[Step] = []
    options: dict[str, Any] = {"training": SMALL, "backbones": [*RANDOM, "spec-vit-s=nowhere.safetensors"]}
    result = bench_backbones(
        sets,
        out=tmp_path,
        seeds=2,
        tuning=("knn",),
        sets=["enmap-nlcd"],
        progress=done.append,
        **options,
    )
    rows = {row["method"]: row for row in csv.DictReader((tmp_path / "set-enmap-nlcd.csv").open())}
    assert set(rows) == {"spec-vit-t (random), knn", "spec-vit-s (nowhere.safetensors), knn"}
    assert "nowhere.safetensors" in rows["spec-vit-s (nowhere.safetensors), knn"]["note"]
    assert {"oa", "iou_micro", "iou_macro"} <= {name.split(" ")[0] for name in rows["spec-vit-t (random), knn"]}
    (ours, other) = result["scores"]
    assert ours["figure"] == "iou_micro" and other["note"]
    assert 0 <= ours["value"].mean <= 1
    assert not any((tmp_path / "runs").glob("*/*"))
    assert done[-1].fraction == pytest.approx(1.0)


@pytest.mark.slow
def test_resumes_and_tells_missing_sets(sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options: dict[str, Any] = {"training": SMALL, "backbones": RANDOM, "tuning": ("linear",), "seeds": 1}
    options["cross_spectral"] = True
    first = bench_backbones(sets, suite="gfm-bench", out=tmp_path, **options)
    assert {row["set"]: row["figure"] for row in first["scores"]} == {"EnMAP_NLCD": "oa", "single": "oa"}
    bands = {(row["bands"], row["way"]) for row in first["cross-spectral"]}
    assert ("id", "own") in bands and {("ood_full", "own"), ("ood_complement", "interpolated")} <= bands
    assert {row["set"] for row in first["missing"]} == set(published("gfm-bench")["sets"])
    with pytest.raises(OutputExists):
        bench_backbones(sets, suite="gfm-bench", out=tmp_path, **options)
    monkeypatch.setattr(bench._Bench, "_tuned", lambda *_: pytest.fail("it was measured before"))
    again = bench_backbones(sets, suite="gfm-bench", out=tmp_path, resume=True, **options)
    assert [row["value"] for row in again["scores"]] == [row["value"] for row in first["scores"]]


def test_published_names_are_those_of_the_sets() -> None:
    assert list(published("spectralearth")["sets"]) != []
    assert set(published("spectralearth")["sets"]) == {s["name"] for s in facts()["spectralearth"]}
    for suite in bench.SUITES:
        for name in published(suite)["cross_spectral"]:
            assert name in published(suite)["sets"]


def test_refuses(sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for error, options in (
        (UnknownName, {"suite": "imagenet"}),
        (UnknownName, {"tuning": ("prompt",)}),
        (UnknownName, {"sets": ["cifar"]}),
        (BadSettings, {"backbones": ["=random"]}),
        (BadSettings, {"backbones": []}),
        (BadSettings, {"seeds": 0}),
    ):
        with pytest.raises(error):
            bench_backbones(sets, out=tmp_path, **options)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no other patch set"):
        bench_backbones(sets / "notes", out=tmp_path)
    with pytest.raises(BadInput, match="no folder"):
        find_sets(tmp_path / "nothing", [])
    for words in (["--suite", "x"], ["--set", "tune.steps=3"]):
        with pytest.raises(SystemExit) as stopped:
            main(["bench", "backbones", "--data", str(sets), "-o", str(tmp_path / "o"), *words])
        assert stopped.value.code == 2
    assert "train.FIELD=VALUE" in capsys.readouterr().err
    assert json.dumps(published("gfm-bench"))
