"""Labelling as a tool: given spectra, drawn areas, checks, record; and the pictures of an output folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import scipy.io
from affine import Affine
from PIL import Image

import torchspectral as ts
from torchspectral.cli import main
from torchspectral.errors import BadInput, BadSettings, OutputExists
from torchspectral.geo import grid_of, place
from torchspectral.unmixing.scoring import rmse


@pytest.fixture
def placed():
    """A scene on the ground with pure corners and two pixels without data; its spectra."""
    random = np.random.default_rng(0)
    wavelength = np.linspace(450, 900, 20)
    spectra = 0.1 + random.random((3, 20)).cumsum(1) / 20
    shares = random.dirichlet(np.full(3, 0.5), (14, 12)).transpose(2, 0, 1)
    for k in range(3):
        shares[:, :2, k] = np.eye(3)[k][:, None]
    values = np.einsum("kb,kyx->byx", spectra, shares).astype(np.float32)
    values[:, 13, 10:] = np.nan
    cube = ts.make_cube(values, wavelength=wavelength, quantity="reflectance")
    return place(cube, Affine(30, 0, 4e5, 0, -30, 5e6), 32633), spectra, shares


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return int(stop.value.code or 0)


def test_samson_label_set_is_made_again_on_the_command_line(samples: Path, tmp_path: Path) -> None:
    folder = samples / "unmixing/samson"
    spectra = ts.open(folder / "E.mat")
    ts.save(spectra.assign_coords(spectrum=["soil", "tree", "water"]), tmp_path / "e.csv")
    words = ("--endmembers", f"{tmp_path}/e.csv", "--method", "label", "-o", f"{tmp_path}/out/")
    assert run("unmix", folder / "samson_1.mat", *words) == 0
    truth = scipy.io.loadmat(folder / "A_true.mat")["A_true"].transpose(2, 0, 1)
    found = ts.open(tmp_path / "out/abundances.tif")
    assert float(np.abs(found.values - truth).max()) < 1e-4
    assert list(found["layer"].values) == ["soil", "tree", "water"]
    for name in ("endmembers", "composite", "abundances", "rmse"):
        assert Image.open(tmp_path / f"out/{name}.png").size[0] > 200
    page = (tmp_path / "out/report.html").read_text()
    assert page.count("data:image/png;base64") == 4 and "labels.json" in page
    record = json.loads((tmp_path / "out/labels.json").read_text())
    assert record["checks"]["condition_number"] == pytest.approx(28.848, abs=0.01)
    np.testing.assert_allclose(record["endmembers"]["values"], spectra.values, rtol=1e-6)
    angles = record["checks"]["angles_rad"]
    assert angles["endmember"] == ["soil", "tree", "water"] and angles["soil"][0] == 0 and angles["soil"][1] > 0.3


def test_jasper_labels_need_the_scale_that_its_scene_was_divided_by(samples: Path) -> None:
    folder = samples / "unmixing/jasper"
    cube, spectra = ts.open(folder / "jasperRidge2_R198.mat"), ts.open(folder / "end4.mat")
    truth = scipy.io.loadmat(folder / "end4.mat")["A"].reshape(4, 100, 100).transpose(0, 2, 1)
    wrong = ts.unmix(cube, library=spectra, method="label")
    assert any("same units" in w for w in wrong.report.notes)
    right = ts.unmix(cube, library=spectra, method="label", settings={"scene_scale": "max"})
    assert right.report.figures["scene_scale"] == pytest.approx(5437)
    assert rmse(right["abundances"].values, truth) == pytest.approx(0.078, abs=0.001)
    assert not any("same units" in w for w in right.report.notes)
    assert 50 < float(right["rmse"].mean()) < 500  # in the cube's counts


def test_areas_give_mean_spread_and_a_record_that_makes_them_again(placed, tmp_path: Path) -> None:
    cube, _, shares = placed
    ts.save(cube, tmp_path / "s.tif")
    rows = [f"{r},{c},{n}" for c, n in enumerate(("oak", "soil", "road")) for r in (0, 1)]
    (tmp_path / "p.csv").write_text("row,col,class\n" + "\n".join(rows))
    words = ("-m", "label", "-o", f"{tmp_path}/out/")
    assert run("unmix", f"{tmp_path}/s.tif", "--polygons", f"{tmp_path}/p.csv", *words) == 0
    record = json.loads((tmp_path / "out/labels.json").read_text())
    assert record["endmembers"]["pixels_row_col"] == {
        "oak": [[0, 0], [1, 0]],
        "soil": [[0, 1], [1, 1]],
        "road": [[0, 2], [1, 2]],
    }
    assert record["endmembers"]["pixels_of_class"] == {"oak": 2, "road": 2, "soil": 2}
    found = ts.open(tmp_path / "out/abundances.tif")
    assert grid_of(found).crs == grid_of(cube).crs and grid_of(found).transform == grid_of(cube).transform
    names = list(found["layer"].values)
    want = shares[[("oak", "soil", "road").index(n) for n in names]]
    np.testing.assert_allclose(found.values[:, :13], want[:, :13], atol=1e-4)
    assert np.isnan(found.values[:, 13, 10:]).all()
    composite = np.asarray(Image.open(tmp_path / "out/composite.png").convert("RGB"))
    assert (composite[composite.shape[0] // 2] != 255).any()
    again = [f"{r},{c},{n}" for n, pixels in record["endmembers"]["pixels_row_col"].items() for r, c in pixels]
    (tmp_path / "again.csv").write_text("row,col,class\n" + "\n".join(again))
    words = ("--polygons", f"{tmp_path}/again.csv", "-m", "label", "-o", f"{tmp_path}/b/", "--no-pictures")
    assert run("unmix", f"{tmp_path}/s.tif", *words) == 0
    np.testing.assert_array_equal(ts.open(tmp_path / "b/abundances.tif").values, found.values)


def test_spread_is_the_deviation_of_the_pixels_however_the_scene_is_cut(placed) -> None:
    cube, _, _ = placed
    labels = np.zeros((14, 12), dtype=np.uint8)
    labels[2:9], labels[9:, :9] = 1, 2
    drawn = place(
        ts.make_layers(labels[None], ["labels"])[0].drop_vars("layer"), Affine(30, 0, 4e5, 0, -30, 5e6), 32633
    )
    for statistic in ("mean", "median"):
        one = ts.unmix(cube, labels=drawn, settings={"statistic": statistic})
        two = ts.unmix(cube, labels=drawn, settings={"statistic": statistic}, tile=(4, 5))
        inside = cube.values[:, labels == 1].astype(np.float64)
        np.testing.assert_allclose(one["spread"].values[0], inside.std(1, ddof=1), rtol=1e-5)
        np.testing.assert_allclose(one["endmembers"].values[0], getattr(np, statistic)(inside, axis=1), rtol=0.05)
        for name in ("endmembers", "spread", "abundances"):
            np.testing.assert_allclose(one[name].values, two[name].values, atol=2e-6)


def test_a_library_is_compared_with_and_renames_nothing(placed) -> None:
    cube, spectra, _ = placed
    wavelength = cube["wavelength"].values
    mine = ts.make_spectra(spectra.astype(np.float32), ["a", "b", "c"], wavelength=wavelength)
    known = ts.make_spectra(spectra.astype(np.float32)[::-1], ["water", "soil", "oak"], wavelength=wavelength)
    found = ts.unmix(cube, library=mine, method="label", names_from=known)
    assert list(found["abundances"]["layer"].values) == ["a", "b", "c"]
    assert {k: v["nearest"] for k, v in found.report.figures["names"].items()} == {
        "a": "oak",
        "b": "soil",
        "c": "water",
    }


def test_refusals(placed, tmp_path: Path) -> None:
    cube, spectra, _ = placed
    mine = ts.make_spectra(spectra.astype(np.float32), ["a", "b", "c"], wavelength=cube["wavelength"].values)
    with pytest.raises(BadInput, match="no endmembers to label with"):
        ts.unmix(cube, method="label")
    drawn = place(
        ts.make_layers(np.ones((1, 14, 12), np.uint8), ["labels"])[0].drop_vars("layer"), grid_of(cube).transform, 32633
    )
    with pytest.raises(BadInput, match="one of them"):
        ts.unmix(cube, method="label", library=mine, labels=drawn)
    with pytest.raises(BadSettings, match="expected label"):
        ts.unmix(cube, 3, method="nmf", labels=drawn)
    with pytest.raises(BadInput, match="positive"):
        ts.unmix(cube, method="label", library=mine, settings={"scene_scale": -2.0})
    twins = ts.make_spectra(
        np.vstack([spectra, spectra[:1] * 1.001]).astype(np.float32), list("abcd"), wavelength=cube["wavelength"].values
    )
    assert any("hard to tell apart" in w for w in ts.unmix(cube, method="label", library=twins).report.notes)
    (tmp_path / "report.html").write_text("mine")
    with pytest.raises(OutputExists, match=r"report\.html"):
        ts.unmix(cube, library=mine, out=f"{tmp_path}/")
    plain = ts.unmix(cube, library=mine, out=f"{tmp_path}/plain/", pictures=False)
    assert not list((tmp_path / "plain").glob("*.png")) and "report" not in plain.paths


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("samson/samson_1.mat", marks=pytest.mark.slow),
        pytest.param("jasper/jasperRidge2_R198.mat", marks=pytest.mark.slow),
        "moffett/Moffett_vca.mat",
        "emit/emit20250324t221005_jpl_unmix_ex",
    ],
)
def test_real_scenes_give_maps_plots_and_residuals_without_options(samples: Path, tmp_path: Path, name: str) -> None:
    assert run("unmix", samples / "unmixing" / name, "-o", f"{tmp_path}/out/") == 0
    maps, residual = ts.open(tmp_path / "out/abundances.tif"), ts.open(tmp_path / "out/rmse.tif")
    known = np.isfinite(maps.values).all(0)
    assert known.any() and maps.sizes["layer"] >= 2
    np.testing.assert_allclose(maps.values[:, known].sum(0), 1, atol=1e-4)
    scene = ts.open(samples / "unmixing" / name)
    assert float(np.nanmean(residual.values)) < 0.5 * float(np.nanstd(scene.values))
    for picture in ("endmembers", "composite", "abundances", "rmse"):
        assert np.asarray(Image.open(tmp_path / f"out/{picture}.png").convert("L")).std() > 5
    assert "Residual" in (tmp_path / "out/report.html").read_text()
