"""`coregister`: several scenes to one reference."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

import torchspectral as ts
from torchspectral.cli import main
from torchspectral.geo import grid_of, place


def test_several_scenes_are_shifted_onto_one_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(1)
    scene = np.kron(rng.random((2, 16, 16)), np.ones((1, 4, 4))).astype(np.float32)
    for name, shift in (("a", 1), ("b", -2), ("reference", 0)):
        cube = ts.make_cube(np.roll(scene, shift, 2)[:, 4:60, 4:60], quantity="dn")
        ts.save(place(cube, Affine(10, 0, 500000, 0, -10, 4000000), "EPSG:32632"), tmp_path / f"{name}.tif")
    (tmp_path / "bad.tif").write_text("nothing")
    words = ["coregister", *(f"{tmp_path}/{n}.tif" for n in ("a", "bad", "b", "reference")), "-o", f"{tmp_path}/out/"]
    with pytest.raises(SystemExit) as stop:
        main(words)
    assert stop.value.code == 2
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["status"] for line in lines] == ["done", "failed", "done"]
    for name, shift in (("a", 1), ("b", -2)):
        left = grid_of(ts.open(tmp_path / "out" / f"{name}.tif")).transform.c
        assert left == pytest.approx(500000 - 10 * shift, abs=0.5)
    words.remove(f"{tmp_path}/bad.tif")
    with pytest.raises(SystemExit) as stop:
        main([*words, "--skip-existing"])
    assert not stop.value.code
    assert all(json.loads(line)["status"] == "skipped" for line in capsys.readouterr().out.splitlines())
