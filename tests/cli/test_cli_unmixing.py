"""unmix and endmembers on the command line: libraries, classes, polygons, counts, names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import torchspectral as ts
from torchspectral.cli import main
from torchspectral.io.libraries import read_library


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    random = np.random.default_rng(0)
    wavelength = np.linspace(450, 2400, 30)
    spectra = 0.1 + random.random((4, 30)).cumsum(1) / 30
    shares = random.dirichlet(np.full(4, 0.5), 400).T
    shares[:, [5, 105, 205, 305]] = np.eye(4)
    values = (spectra.T @ shares + 0.001 * random.standard_normal((30, 400))).reshape(30, 20, 20)
    ts.save(ts.make_cube(values.astype(np.float32), wavelength=wavelength, quantity="reflectance"), tmp_path / "s.tif")
    names = ["oak", "soil", "water", "road"]
    ts.save(ts.make_spectra(spectra.astype(np.float32), names, wavelength=wavelength), tmp_path / "lib.sli")
    rows = [",".join(["kind", *(f"{w:.3f}" for w in wavelength)])]
    rows += [
        ",".join([k, *(f"{v:.6f}" for v in s)]) for k, s in zip(["green", "bare", "bare", "bare"], spectra, strict=True)
    ]
    (tmp_path / "classes.csv").write_text("\n".join(rows))
    (tmp_path / "pixels.csv").write_text("row,col,class\n0,5,oak\n5,5,soil\n")
    return tmp_path


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return int(stop.value.code or 0)


@pytest.mark.parametrize("method", ["sunsal-tv", "sunsal", "mesma", "sma", "fcls"])
def test_unmix_with_a_library(folder: Path, method: str) -> None:
    extra = ["--ignore", "1310-1490"] if method == "fcls" else ["--set", "iterations=20"] if "sunsal" in method else []
    assert (
        run(
            "unmix",
            f"{folder}/s.tif",
            "--library",
            f"{folder}/lib.sli",
            "-m",
            method,
            "-o",
            f"{folder}/u/",
            "--no-pictures",
            *extra,
        )
        == 0
    )
    found = ts.open(folder / "u/abundances.tif")
    assert list(found["layer"].values) == ["oak", "soil", "water", "road"]
    assert (folder / "u/endmembers.sli").exists() and (folder / "u/endmembers.csv").exists()


def test_classes_normalisation_and_draws(folder: Path) -> None:
    words = ["--class-column", "kind", "-m", "sma", "--set", "n_mc=3", "--set", "sigma=0.01"]
    words += ["--set", "normalisation=none", "--set", "ignore=[[1310,1490]]"]
    assert (
        run(
            "unmix",
            f"{folder}/s.tif",
            "--library",
            f"{folder}/classes.csv",
            *words,
            "--no-pictures",
            "-o",
            f"{folder}/u/",
        )
        == 0
    )
    assert list(ts.open(folder / "u/abundances.tif")["layer"].values) == ["green", "bare"]
    assert list(ts.open(folder / "u/uncertainty.tif")["layer"].values) == ["green", "bare", "brightness"]


@pytest.mark.parametrize("method", ["vca", "n-findr", "sivm", "atgp", "ppi", "sisal"])
def test_endmembers_counted_and_named(folder: Path, method: str, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--names-from", f"{folder}/lib.sli", "-o", f"{folder}/e.csv"]
    words += ["--set", "skewers=500"] if method == "ppi" else []
    assert run("endmembers", folder / "s.tif", "-k", "auto", "-m", method, *words) == 0
    captured = capsys.readouterr()
    said = captured.out + captured.err
    for word in ("hysime", "hfc", "nwhfc", "elbow", "upper bound"):
        assert word in said
    names = {str(n).partition(" (")[0] for n in read_library(folder / "e.csv")["spectrum"].values}
    assert {"oak", "soil", "water", "road"} <= names


def test_endmembers_of_polygons(folder: Path) -> None:
    assert run("endmembers", f"{folder}/s.tif", "--polygons", f"{folder}/pixels.csv", "-o", f"{folder}/e.csv") == 0
    found = read_library(folder / "e.csv")
    assert list(found["spectrum"].values) == ["oak", "soil"]
    scene = ts.open(folder / "s.tif")
    np.testing.assert_allclose(found.values[0], scene.values[:, 0, 5], atol=1e-6)


def test_library_that_does_not_fit_is_one_line(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    lib = ts.open(folder / "lib.sli").isel(band=slice(0, 12))
    ts.save(lib, folder / "short.sli")
    words = ["unmix", f"{folder}/s.tif", "--library", f"{folder}/short.sli", "--no-pictures", "-o", f"{folder}/u/"]
    assert run(*words, "--resample-library", "linear") == 2
    assert "--drop-uncovered" in capsys.readouterr().err
    assert run(*words, "--resample-library", "linear", "--drop-uncovered") == 0
