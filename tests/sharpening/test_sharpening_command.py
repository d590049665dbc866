"""`sharpen` and `coregister` on the command line, with inputs that are not quite right."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from affine import Affine

import torchspectral as ts
from torchspectral.cli import main
from torchspectral.geo import grid_of, place, reproject

SIDE, RATIO = 20, 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cube of 30 m, and its PAN in some guises."""
    found = tmp_path_factory.mktemp("pairs")
    fine = np.random.default_rng(0).random((3, SIDE * RATIO, SIDE * RATIO)).astype(np.float32) + 1
    pan = place(ts.make_cube(fine.mean(0)[None]), Affine(15, 0, 4e5, 0, -15, 5e6), 32633)
    hs = ts.make_cube(fine.reshape(3, SIDE, RATIO, SIDE, RATIO).mean((2, 4)), wavelength=[480, 560, 650])
    ts.save(place(hs, Affine(30, 0, 4e5, 0, -30, 5e6), 32633), found / "hs.tif")
    ts.save(pan, found / "pan.tif")
    ts.save(ts.make_cube(pan.values), found / "nowhere.tif")
    ts.save(reproject(pan, crs=4326, resampling="cubic").load(), found / "degrees.tif")
    ts.save(place(pan, Affine(15, 0, 4e5, 0, 15, 5e6 - 15 * SIDE * RATIO), 32633), found / "flipped.tif")
    return found


def command(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def test_a_window_of_the_cube_and_a_pan_in_another_crs(folder: Path, tmp_path: Path) -> None:
    out, box = tmp_path / "new" / "out.tif", ("400090", "4999490", "400500", "4999900")
    words = ["sharpen", folder / "hs.tif", folder / "degrees.tif", "--bbox", *box, "--align", "-o", out]
    assert command(*words) == 0
    made = ts.open(out)
    assert made.shape == (3, 28, 28) and grid_of(made).crs.to_epsg() == 32633 and np.isfinite(made.values).all()


def test_a_pan_without_a_place_is_told(folder: Path, tmp_path: Path) -> None:
    assert command("sharpen", folder / "hs.tif", folder / "nowhere.tif", "-m", "exp", "-o", tmp_path / "out.tif") == 0
    notes = yaml.safe_load((tmp_path / "out.tif.run.yaml").read_text())["notes"]
    assert "the PAN has no georeference: taken to cover exactly the cube's ground" in notes


def test_a_pan_that_runs_another_way_is_named_as_such(folder: Path, tmp_path: Path, capsys) -> None:
    assert command("sharpen", folder / "hs.tif", folder / "flipped.tif", "-o", tmp_path / "out.tif") == 2
    assert "rows and columns run another way" in capsys.readouterr().err


def test_coregister_counts_bands_from_1_and_makes_its_folder_once(folder: Path, tmp_path: Path, capsys) -> None:
    words = ["coregister", folder / "hs.tif", folder / "pan.tif", "-o", tmp_path / "new" / "out.tif"]
    assert command(*words, "--bands", "2-9") == 2
    assert "got --bands 4, 5, 6, 7, 8, 9, expected numbers from 1 to 3" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()
    assert command(*words) == 0 and (tmp_path / "new" / "out.tif").is_file()
    assert command(*words) == 2
    assert "--overwrite" in capsys.readouterr().err
