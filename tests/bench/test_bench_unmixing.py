"""The unmixing bench: tables under both matchings, failures, resuming, processes, scenes without truth."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import torchspectral as ts
from torchspectral.bench import unmixing as bench
from torchspectral.bench import unmixing_pages as pages
from torchspectral.bench.unmixing import SEEDLESS, UnmixBenchSettings, bench_unmixing
from torchspectral.cli import main
from torchspectral.errors import BadInput, BadSettings, OutputExists, UnknownName
from torchspectral.log import Step
from torchspectral.unmixing.protocol import simulate_mixture
from torchspectral.unmixing.scenes import LabelledScene, find_scenes, load_scene


@pytest.fixture(scope="module")
def scene() -> LabelledScene:
    made = simulate_mixture(3, settings={"z": 4, "snr": 40.0, "purity": 1.0, "bands": 40}, seed=3)
    return LabelledScene("small/scene", made["cube"], made["endmembers"], made["abundances"])


@pytest.fixture
def no_figures(monkeypatch) -> None:
    """Pictures take seconds."""
    monkeypatch.setattr(pages, "_figure", lambda one: None)


def test_tables_and_figures(scene: LabelledScene, tmp_path: Path) -> None:
    result = bench_unmixing(
        [scene],
        methods=["vca-fcls", "fcls", "sivm", "sunsal", "mesma", "nmf", "polygons"],
        out=tmp_path,
        seeds=2,
        method_settings={"nmf": {"iterations": 5}},
    )
    rows = {row["method"]: row for row in result["scores"]}
    assert rows["fcls"]["SAD [rad]"] == pytest.approx(0, abs=1e-6) and rows["fcls"]["seeds"] == 1
    assert rows["fcls"]["given"] == "true spectra" and rows["sivm"]["given"] == ""
    assert rows["mesma"]["SAD [rad]"] < 1e-3  # though it leaves bands out
    assert rows["nmf"]["SAD [rad]"].n == 2 and rows["vca-fcls"]["RMSE"].n == 2
    assert rows["fcls"]["RMSE"] < rows["vca-fcls"]["RMSE"].mean
    assert "drawn areas" in rows["polygons"]["note"] and rows["polygons"]["RMSE"] is None
    assert {row["method"] for row in result["scores-abundance"]} == set(rows)
    classes = [row for row in result["classes"] if row["method"] == "vca-fcls"]
    assert [row["class"] for row in classes] == scene.names
    assert np.mean([row["SAD [rad]"].mean for row in classes]) == pytest.approx(rows["vca-fcls"]["SAD [rad]"].mean)
    for table in ("scores", "scores-abundance", "classes", "classes-abundance"):
        with (tmp_path / f"{table}.csv").open() as file:
            assert len(list(csv.DictReader(file))) == len(result[table])
        assert "| vca-fcls |" in (tmp_path / f"{table}.md").read_text()
    assert Image.open(tmp_path / "small-scene.png").size[0] > 500
    page = (tmp_path / "report.html").read_text()
    assert "Hungarian" in page and "HySUPP" in page


def test_figures_are_those_of_the_scores(scene: LabelledScene, tmp_path: Path, no_figures: None) -> None:
    from torchspectral.unmixing import score

    result = bench_unmixing([scene], methods=["vca-fcls"], out=tmp_path, seeds=1, seed=7, units="hysupp")
    found = ts.unmix(scene.cube, 3, seed=7)
    for table, matching in (("scores", "angle"), ("scores-abundance", "abundance")):
        want = score(
            found["endmembers"], found["abundances"], scene.endmembers, scene.abundances,
            matching=matching, pixels=scene.cube.values,
        ).figures  # fmt: skip
        row = result[table][0]
        assert row["SAD [deg]"] == pytest.approx(np.degrees(want["mean_angle"]), rel=1e-5)
        assert row["RMSE"] == pytest.approx(100 * want["rmse"], rel=1e-5)
        assert row["SRE [dB]"] == pytest.approx(want["sre"], rel=1e-5)
        assert row["RE"] == pytest.approx(want["re"], rel=1e-5)


def test_a_stopped_bench_goes_on_and_measures_nothing_twice(scene, tmp_path, monkeypatch, no_figures) -> None:
    calls: list[tuple[str, int]] = []
    first = bench._unmixed

    def counting(task, seed):
        calls.append((task.method, seed))
        if len(calls) == 3:
            raise KeyboardInterrupt
        return first(task, seed)

    monkeypatch.setattr(bench, "_unmixed", counting)
    with pytest.raises(KeyboardInterrupt):
        bench_unmixing([scene], methods=["vca-fcls", "fcls"], out=tmp_path, seeds=3)
    bench_unmixing([scene], methods=["vca-fcls", "fcls"], out=tmp_path, seeds=3, resume=True)
    assert calls == [("vca-fcls", 0), ("vca-fcls", 1), ("vca-fcls", 2), ("vca-fcls", 2), ("fcls", 0)]
    with pytest.raises(OutputExists):
        bench_unmixing([scene], methods=["fcls"], out=tmp_path, seeds=1)
    bench_unmixing([scene], methods=["fcls"], out=tmp_path, seeds=1, resume=True, k=2)
    assert calls[-1] == ("fcls", 0) and len(calls) == 6  # other settings: measured again


def test_budget_leaves_seeds_out_and_says_so(scene: LabelledScene, tmp_path: Path, no_figures: None) -> None:
    result = bench_unmixing([scene], methods=["vca-fcls"], out=tmp_path, seeds=5, budget=1e-6)
    assert result["scores"][0]["seeds"] == 1
    assert any("1 of 5 seeds within the budget" in note for note in result.report.notes)


def test_scenes_without_truth_and_counts_that_differ(scene: LabelledScene, tmp_path: Path) -> None:
    bare = replace(scene, name="bare", endmembers=None, abundances=None)
    with pytest.raises(BadInput, match="how many endmembers"):
        bench_unmixing([bare], methods=["vca-fcls"], out=tmp_path / "a")
    found = bench_unmixing([bare], methods=["vca-fcls", "fcls"], out=tmp_path / "b", seeds=2, k=2)
    rows = {row["method"]: row for row in found["scores"]}
    assert rows["vca-fcls"]["RE"].n == 2 and "library" in rows["fcls"]["note"]
    assert (tmp_path / "b/bare.png").exists()
    fewer = bench_unmixing([scene], methods=["vca-fcls"], out=tmp_path / "c", seeds=1, k=2)
    assert any("unmatched true" in note for note in fewer.report.notes)


def test_all_leaves_out_what_repeats_another_or_takes_hours() -> None:
    left = bench._left_out("cpu")
    assert {"vca", "label", "polygons", "undip", "misicnet", "msnet", "suncnn"} == set(left)
    assert "GPU" in left["undip"]


def test_refusals(scene: LabelledScene, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="no scene"):
        bench_unmixing([], out=tmp_path)
    with pytest.raises(UnknownName):
        bench_unmixing([scene], methods=["nnnmf"], out=tmp_path)
    with pytest.raises(BadSettings, match="names that differ"):
        bench_unmixing([scene, scene], methods=["fcls"], out=tmp_path)
    with pytest.raises(BadSettings, match="not compared"):
        bench_unmixing([scene], methods=["fcls"], out=tmp_path, method_settings={"nmf": {}})
    with pytest.raises(BadSettings, match="jobs"):
        bench_unmixing([scene], methods=["fcls"], out=tmp_path, jobs=0)


@pytest.mark.parametrize("method", sorted(SEEDLESS))
def test_methods_that_run_once_do_not_depend_on_the_seed(scene: LabelledScene, tmp_path: Path, method: str) -> None:
    short = {
        "sunsal-tv": {"iterations": 10},
        "clsunsal": {"iterations": 10},
        "s2wsu": {"outer": 2},
        "mua": {"iterations": 10},
    }
    task = bench._Task(scene, method, short.get(method, {}), None, UnmixBenchSettings(), 0, None)  # type: ignore[arg-type]
    one, two = (bench._unmixed(task, seed) for seed in (0, 11))
    for name in ("endmembers", "abundances"):
        np.testing.assert_array_equal(one[name].values, two[name].values)


@pytest.mark.slow
def test_a_killed_bench_keeps_what_it_measured(scene: LabelledScene, tmp_path: Path, no_figures: None) -> None:
    simulate_mixture(3, settings={"z": 4, "bands": 40}, out=f"{tmp_path}/scenes/one/")
    words = ["bench", "unmix", "--scenes", f"{tmp_path}/scenes", "-m", "vca-fcls", "-o", f"{tmp_path}/out"]
    code = f"from torchspectral.cli import main; main({[*words, '--set', 'seeds=10000']!r})"
    running = subprocess.Popen([sys.executable, "-c", code])
    parts = tmp_path / "out/parts/one"
    try:
        while len(list(parts.glob("*.json"))) < 3:
            assert running.poll() is None
            time.sleep(0.02)
    finally:
        running.kill()
        running.wait()
    kept = {file.name: file.stat().st_mtime_ns for file in parts.glob("vca-fcls-*.json")}
    steps: list[Step] = []
    places = find_scenes(tmp_path / "scenes")
    seeds = len(kept) + 1
    found = bench_unmixing(
        places, methods=["vca-fcls"], out=tmp_path / "out", seeds=seeds, resume=True, progress=steps.append
    )
    assert found["scores"][0]["seeds"] == seeds and (tmp_path / "out/scores.csv").is_file()
    assert all((parts / name).stat().st_mtime_ns == then for name, then in kept.items())
    assert [s.detail for s in steps][-1] == f"vca-fcls, seed {seeds} of {seeds}" and steps[-1].fraction == 1


def test_command(tmp_path: Path, no_figures: None, capfd: pytest.CaptureFixture[str]) -> None:
    simulate_mixture(3, settings={"z": 4, "bands": 40}, out=f"{tmp_path}/scenes/one/")
    words = ["bench", "unmix", "--scenes", f"{tmp_path}/scenes", "-m", "vca-fcls,fcls", "--set", "seeds=2"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "-o", f"{tmp_path}/out"])
    assert not stop.value.code
    with (tmp_path / "out/scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["scene"], row["method"]) for row in rows] == [("one", "vca-fcls"), ("one", "fcls")]
    with pytest.raises(SystemExit) as stop:
        main([*words, "-o", f"{tmp_path}/other", "--set", "seed=3"])
    assert stop.value.code == 2 and "--set seed" in capfd.readouterr().err


@pytest.mark.slow
def test_processes_change_nothing(scene: LabelledScene, tmp_path: Path) -> None:
    one, two = (
        bench_unmixing([scene], methods=["vca-fcls", "nmf"], out=tmp_path / str(n), seeds=2, jobs=n)["scores"]
        for n in (1, 2)
    )
    for first, second in zip(one, two, strict=True):
        assert first["method"] == second["method"] and first["RMSE"] == second["RMSE"]


def test_samson_by_vca_reaches_the_published_figures(samples: Path, tmp_path: Path, no_figures: None) -> None:
    scenes = [load_scene(p) for p in find_scenes(samples / "unmixing/samson")]
    result = bench_unmixing(scenes, methods=["vca-fcls", "fcls", "sivm"], out=tmp_path, seeds=3)
    rows = {row["method"]: row for row in result["scores"]}
    assert rows["fcls"]["RMSE"] < 1e-4
    assert rows["sivm"]["SAD [rad]"] == pytest.approx(0.091, abs=0.001)
    assert rows["sivm"]["RMSE"] == pytest.approx(0.177, abs=0.001)
    parts = tmp_path / "parts/samson_1"
    runs = [json.loads((parts / f"vca-fcls-{n}.json").read_text())["figures"][0] for n in range(3)]
    errors = [run["angle|RMSE"] for run in runs]
    assert min(errors) < 0.10
    np.testing.assert_allclose(errors, [0.080, 0.139, 0.080], atol=0.001)
    np.testing.assert_allclose([run["angle|SAD"] for run in runs], [0.102, 0.093, 0.102], atol=0.001)
