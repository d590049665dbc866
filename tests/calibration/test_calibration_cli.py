"""`torchspectral calibrate gain` and `reflectance`, as typed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from gain_data import left, lines, texture

import torchspectral as ts
from torchspectral.calibration import read_gains
from torchspectral.cli.app import build, main


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return int(stop.value.code or 0)


def example(verb: str) -> list[str]:
    command = typer.main.get_command(build()).commands["calibrate"].commands[verb]
    return command.help.partition("Example: torchspectral ")[2].split()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    cubes, truth = lines(texture(2, 40, 60), (0, 7, 12), 40)
    for n, cube in enumerate(cubes, 1):
        ts.save(cube.assign_coords(wavelength=("band", [500.0, 600.0])), tmp_path / f"line{n}.hdr")
    np.save(tmp_path / "truth.npy", truth)
    return tmp_path


def test_gain_as_the_help_says(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    words = example("gain")
    assert run(*words, "--apply", "clean/", "--json") == 0
    told = json.loads(capfd.readouterr().out)
    assert told["outputs"]["gains"] == "gains.csv" and set(told["outputs"]) >= {"record", "line1.hdr", "line3.hdr"}
    truth = np.load(folder / "truth.npy")
    gains = read_gains("gains.csv")
    assert left(gains.gain, truth) < 1
    np.testing.assert_allclose(
        ts.open("clean/line2.hdr").values, ts.open("line2.hdr").values * gains.gain[:, None], rtol=1e-5
    )
    kept = yaml.safe_load(Path("gains.csv.run.yaml").read_text())
    assert kept["options"]["shift"] == ["0,0", "0,7", "0,12"] and len(kept["inputs"]["scenes"]) == 3
    assert run("calibrate", "gain", *kept["inputs"]["scenes"], "--config", "gains.csv.run.yaml", "-o", "again.npz") == 0
    np.testing.assert_allclose(read_gains("again.npz").gain, gains.gain, rtol=1e-12)
    assert run(*words) == 2
    assert run(*words, "--overwrite", "--apply", "clean/") == 0
    capfd.readouterr()


def test_gain_refuses_in_one_line(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for words, text in (
        (["line1.hdr"], "at least two that overlap"),
        (["line1.hdr", "line2.hdr"], "no georeference"),
        (["line1.hdr", "line2.hdr", "--shift", "0"], "ALONG,ACROSS"),
        (["line1.hdr", "line2.hdr", "--shift", "0,0", "--shift", "0,6"], "unconnected groups"),
        (["line1.hdr", "--method", "spectral"], "no library"),
        (["line1.hdr", "--method", "magic"], "magic"),
        (["line1.hdr", "--method", "moments", "--set", "levels=3"], "levels"),
    ):
        assert run("calibrate", "gain", *words, "-o", "g.csv") == 2, words
        error = capfd.readouterr().err.strip()
        assert text in error and "\n" not in error, error
    assert run("calibrate", "gain", "line1.hdr", "-o", "g.tif") == 2
    assert "g.tif" in capfd.readouterr().err
    assert not list(folder.glob("g.*"))


def test_gain_of_a_cut_and_dry_run(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ts.save(ts.make_cube(np.zeros((2, 3, 40), np.float32)), "dark.hdr")
    words = [
        "calibrate",
        "gain",
        "line1.hdr",
        "--method",
        "moments",
        "--bands",
        "2",
        "--dark",
        "dark.hdr",
        "-o",
        "m.csv",
    ]
    assert run(*words, "--dry-run") == 0 and not Path("m.csv").exists()
    assert run(*words) == 0
    gains = read_gains("m.csv")
    assert np.isnan(gains.gain[0]).all() and np.isfinite(gains.gain[1]).all()
    capfd.readouterr()


def capture(folder: Path) -> np.ndarray:
    random = np.random.default_rng(0)
    truth = random.uniform(0.1, 0.9, (3, 6, 5))
    dark = random.integers(80, 120, (3, 1, 5))
    light = random.integers(2000, 3000, (3, 1, 5))
    for name, values in (
        ("raw", dark + light * truth),
        ("white", np.repeat(dark + 0.99 * light, 4, 1)),
        ("dark", np.repeat(dark, 4, 1)),
    ):
        cube = ts.make_cube(np.rint(values).astype(np.uint16), wavelength=[500.0, 600.0, 700.0])
        ts.save(cube, folder / f"{name}.hdr")
    return truth


def test_reflectance_as_the_help_says(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    truth = capture(folder)
    assert run(*example("reflectance")) == 0
    np.testing.assert_allclose(ts.open("refl.hdr").values, truth, atol=2e-3)
    ts.save(ts.make_spectra([[0.99] * 41], ["panel"], wavelength=np.linspace(400, 800, 41)), "p.csv")
    words = ["calibrate", "reflectance", "raw.hdr", "--white", "white.hdr", "--dark", "dark.hdr", "--panel", "p.csv"]
    assert run(*words, "-o", "again.tif", "--dtype", "int16") == 0
    np.testing.assert_allclose(ts.open("again.tif").values, truth, atol=2e-3)
    assert run("calibrate", "reflectance", "raw.hdr", "--config", "again.tif.run.yaml", "-o", "third.tif") == 0
    np.testing.assert_allclose(ts.open("third.tif").values, ts.open("again.tif").values)
    capfd.readouterr()
    white = ts.open("white.hdr").load()
    ts.save(white.copy(data=np.full_like(white.values, 65535)), "full.hdr")
    assert run(*words[:4], "full.hdr", "--dark", "dark.hdr", "-o", "no.tif") == 2
    assert "white panel saturates" in capfd.readouterr().err
    assert run("calibrate", "reflectance", "line1.hdr", "-o", "no.tif") == 2
    assert "give --white" in capfd.readouterr().err


@pytest.mark.parametrize("output", ["white.img", "white.hdr", "dark.img", "raw.img"])
def test_a_reference_is_never_written_over(folder: Path, capfd: pytest.CaptureFixture[str], output: str) -> None:
    capture(folder)
    kept = {name: (folder / name).read_bytes() for name in (output, f"{output[:-3]}hdr")}
    assert run(*example("reflectance")[:-1], output, "--overwrite") == 2
    assert "is one of the inputs" in capfd.readouterr().err
    assert all((folder / name).read_bytes() == content for name, content in kept.items())


def test_references_beside_a_capture_are_found(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    truth = capture(folder)
    for name, text in (("raw", "scan_1"), ("white", "WHITEREF_scan_1"), ("dark", "DARKREF_scan_1")):
        cube = ts.open(f"{name}.hdr")
        values = np.ascontiguousarray(cube.values.transpose(1, 0, 2))
        (folder / f"{text}.raw").write_bytes(values.astype("<u2").tobytes())
        rows = values.shape[0]
        (folder / f"{text}.hdr").write_text(
            f"ENVI\ndescription = {{ File Imported into ENVI. }}\nsensor type = SPECIM FX10\nsamples = 5\nlines = {rows}\n"
            "bands = 3\nheader offset = 0\nfile type = ENVI Standard\ndata type = 12\ninterleave = bil\nbyte order = 0\n"
            "tint = 8.5\nwavelength = {500, 600, 700}\n"
        )
    assert run("calibrate", "reflectance", "scan_1.hdr", "--panel", "0.99", "-o", "found.hdr") == 0
    np.testing.assert_allclose(ts.open("found.hdr").values, truth, atol=2e-3)
    capfd.readouterr()


def test_interferometer_as_the_help_says(
    samples: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    source, target = samples / "irca" / "wfai_1", tmp_path / "acquisition"
    target.mkdir()
    for file in source.iterdir():
        if file.suffix == ".npy" and not file.name.startswith("central"):
            np.save(target / file.name, np.load(file)[:3])
        else:
            (target / file.name).write_bytes(file.read_bytes())
    assert run(*example("interferometer"), "--no-pictures") == 0
    assert json.loads((tmp_path / "device.json").read_text())
    assert run(*example("interferometer"), "--overwrite", "--solver", "qr") == 2
    assert "lm, trf" in capfd.readouterr().err
