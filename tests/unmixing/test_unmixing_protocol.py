"""Scenes with known truth: synthetic images and labelled scenes seen by coarser pixels, in Python and on the command line."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from affine import Affine

import torchspectral as ts
from torchspectral.cli import main
from torchspectral.errors import BadInput, BadSettings, GridMismatch, OutputExists
from torchspectral.geo import grid_of, place
from torchspectral.io.libraries import read_library


def command(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 0


SMALL = {"bands": 20, "z": 4, "snr": 30.0}


def test_mixture_is_one_thing_in_memory_and_on_disk(tmp_path: Path) -> None:
    one = ts.simulate_mixture(3, settings=SMALL, seed=5)
    two = ts.simulate_mixture(3, settings=SMALL, seed=5, out=f"{tmp_path}/m/")
    assert list(one) == list(two) == ["cube", "abundances", "endmembers", "noise", "bands"]
    for name in ("cube", "abundances", "noise"):
        np.testing.assert_array_equal(np.asarray(two[name]), one[name].values)
    back = read_library(tmp_path / "m/endmembers.sli")
    np.testing.assert_allclose(back.values, one["endmembers"].values, atol=1e-7)
    np.testing.assert_allclose(back["wavelength"], one["cube"]["wavelength"])
    table = pd.read_csv(tmp_path / "m/bands.csv")
    assert list(table.columns) == ["band", "wavelength", "sigma", "outlier", "striped"] and len(table) == 20
    assert (tmp_path / "m/cube.tif.run.yaml").exists()
    assert one.report.figures["measured_snr"] == pytest.approx(30, abs=0.2)
    with pytest.raises(OutputExists):
        ts.simulate_mixture(3, settings=SMALL, out=f"{tmp_path}/m/")
    ts.simulate_mixture(2, settings=SMALL, out=f"{tmp_path}/m/", overwrite=True)
    with pytest.raises(BadSettings, match="folder"):
        ts.simulate_mixture(3, settings=SMALL, out=tmp_path / "m.tif")


def test_mixture_of_a_library_keeps_its_names() -> None:
    random = np.random.default_rng(0)
    wave = np.linspace(500, 900, 16)
    library = ts.make_spectra(random.random((9, 16)), [f"rock {i}" for i in range(9)], wavelength=wave)
    made = ts.simulate_mixture(4, library=library, settings={"z": 4})
    assert set(made["endmembers"]["spectrum"].values) <= set(library["spectrum"].values)
    np.testing.assert_array_equal(made["cube"]["wavelength"], wave)
    for name, spectrum in zip(made["endmembers"]["spectrum"].values, made["endmembers"].values, strict=True):
        np.testing.assert_allclose(spectrum, library.sel(spectrum=name).values, atol=1e-7)


def test_mixture_on_the_command_line(tmp_path: Path) -> None:
    words = ["simulate", "mixture", "-k", "3", "--set", "purity=0.8", "snr=30", "z=4", "-o", f"{tmp_path}/m/"]
    command(words)
    made = ts.open(tmp_path / "m/cube.tif")
    assert made.shape == (224, 16, 16)
    assert ts.open(tmp_path / "m/abundances.tif").values.max() <= 0.8
    (tmp_path / "snr.csv").write_text("snr\n" + "\n".join(["100"] * 20))
    more = ["--snr-profile", f"{tmp_path}/snr.csv", "--set", "bands=20", "snr=null", "z=4", "-o", f"{tmp_path}/n/"]
    command(["simulate", "mixture", *more])
    sigma = pd.read_csv(tmp_path / "n/bands.csv")["sigma"]
    assert (sigma > 0).all()


def labelled(rows: int = 17, cols: int = 14):
    """A scene of three classes in blocks, with its classes."""
    random = np.random.default_rng(0)
    spectra = random.random((3, 6)) + 0.2
    classes = (np.arange(rows)[:, None] // 6 + np.arange(cols)[None, :] // 5) % 3 + 1
    classes[0, :5] = 0
    values = spectra[classes - 1].transpose(2, 0, 1) * random.uniform(0.95, 1.05, (1, rows, cols))
    values = values + random.normal(0, 1e-3, values.shape)
    cube = ts.make_cube(values.astype(np.float32), wavelength=np.linspace(450, 900, 6), quantity="reflectance")
    cube = place(cube, Affine(10, 0, 500000, 0, -10, 5000000), "EPSG:32633")
    labels = ts.make_layers(classes[None].astype(np.uint8), ["classes"])[0]
    labels.attrs["class_names"] = ["none", "oak", "soil", "water"]
    return cube, labels, spectra


def test_a_coarse_pixel_is_the_share_and_the_mean_of_its_window() -> None:
    cube, labels, _ = labelled()
    made = ts.unmixing_set(cube, labels, settings={"window": 4})
    a, coarse = made["abundances"], made["cube"]
    assert a.shape == (3, 4, 3) and coarse.shape == (6, 4, 3)
    assert list(a["layer"].values) == ["oak", "soil", "water"]
    for i in range(4):
        for j in range(3):
            window = labels.values[4 * i : 4 * i + 4, 4 * j : 4 * j + 4]
            block = cube.values[:, 4 * i : 4 * i + 4, 4 * j : 4 * j + 4].reshape(6, -1)
            if (window == 0).any():
                assert np.isnan(a.values[:, i, j]).all() and np.isnan(coarse.values[:, i, j]).all()
                assert made["mask"].values[0, i, j] == 0
                continue
            np.testing.assert_allclose(a.values[:, i, j], [(window == n).mean() for n in (1, 2, 3)], atol=1e-6)
            np.testing.assert_allclose(coarse.values[:, i, j], block.mean(1), rtol=1e-5)
    assert grid_of(coarse) == grid_of(a) and grid_of(coarse).transform == Affine(40, 0, 500000, 0, -40, 5000000)
    assert any("1 rows" in line and "2 columns" in line for line in made.report.dropped)
    part = ts.unmixing_set(cube, labels, settings={"window": 4, "tau": 0.5})
    window, block = labels.values[:4, 4:8], cube.values[:, :4, 4:8]
    np.testing.assert_allclose(part["cube"].values[:, 0, 1], block[:, window > 0].mean(1), rtol=1e-5)
    np.testing.assert_allclose(
        part["abundances"].values[:, 0, 1], [(window == n).sum() / (window > 0).sum() for n in (1, 2, 3)], atol=1e-6
    )


@pytest.mark.parametrize("centre", ["mean", "medoid"])
def test_odd_pixels_stay_out_of_the_class_spectrum(centre: str) -> None:
    cube, labels, spectra = labelled()
    places = np.argwhere(labels.values == 2)
    for row, col in places[:2]:
        cube[:, row, col] = cube[:, row, col] + np.array([0, 3, 0, 3, 0, 3])
    made = ts.unmixing_set(cube, labels, settings={"window": 2, "centre": centre})
    table = made["classes"].set_index("name")
    assert table.loc["soil", "used"] <= 0.96 * table.loc["soil", "pixels"]
    angle = made["endmembers"].values[1] @ spectra[1]
    angle /= np.linalg.norm(made["endmembers"].values[1]) * np.linalg.norm(spectra[1])
    assert np.arccos(min(angle, 1)) < 0.01


def test_strips_change_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torchspectral.unmixing import coarsening

    cube, labels, _ = labelled()
    cube[:, 9, 3] = np.nan
    whole = ts.unmixing_set(cube, labels, settings={"window": 3, "centre": "medoid"})
    monkeypatch.setattr(coarsening, "STRIP_BYTES", 1)
    strips = ts.unmixing_set(cube, labels, settings={"window": 3, "centre": "medoid"}, out=f"{tmp_path}/set/")
    for name in ("cube", "abundances", "endmembers", "mask"):
        np.testing.assert_allclose(np.asarray(strips[name]), whole[name].values, atol=1e-6)
    assert {"cube.tif", "abundances.tif", "mask.tif", "endmembers.sli", "endmembers.csv", "classes.csv"} <= {
        p.name for p in (tmp_path / "set").iterdir()
    }


def test_fcls_finds_the_truth_of_a_set_again(tmp_path: Path) -> None:
    cube, labels, _ = labelled(40, 40)
    ts.save(cube, tmp_path / "scene.tif")
    table = pd.DataFrame(np.argwhere(labels.values > 0), columns=["row", "col"])
    table["class"] = [f"c{n}" for n in labels.values[labels.values > 0]]
    table.to_csv(tmp_path / "classes.csv", index=False)
    words = ["simulate", "unmixing-set", tmp_path / "scene.tif", "--labels", tmp_path / "classes.csv"]
    command([str(w) for w in [*words, "--set", "window=4", "tau=0.9", "-o", f"{tmp_path}/set/"]])
    truth = ts.open(tmp_path / "set/abundances.tif")
    found = ts.unmix(ts.open(tmp_path / "set/cube.tif"), library=read_library(tmp_path / "set/endmembers.sli"))
    assert float(np.nanmean(np.abs(found["abundances"].values - truth.values))) < 0.03


def test_sets_that_cannot_be_made_are_refused() -> None:
    cube, labels, _ = labelled()
    with pytest.raises(GridMismatch, match="as the cube"):
        ts.unmixing_set(cube, labels[:5])
    with pytest.raises(GridMismatch, match="at least one window"):
        ts.unmixing_set(cube, labels, settings={"window": 50})
    with pytest.raises(BadInput, match="at least 2 to mix"):
        ts.unmixing_set(cube, (labels > 0).astype(np.uint8))
    with pytest.raises(BadInput, match="whole numbers"):
        ts.unmixing_set(cube, labels.astype(float))
    with pytest.raises(BadInput, match="smaller window or tau"):
        ts.unmixing_set(cube, labels.where(labels.x > 0, 0).astype(np.uint8) * (np.arange(14) % 2).astype(np.uint8))
    empty = cube.where(labels.values != 3)
    with pytest.raises(BadInput, match="no labelled pixel of water"):
        ts.unmixing_set(empty, labels)
