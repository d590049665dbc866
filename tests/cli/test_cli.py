"""The command: help, exit codes, lazy imports, batches."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from affine import Affine

import torchspectral as ts
from torchspectral.cli import main
from torchspectral.cli.app import VERBS
from torchspectral.cli.options import parse_bands, parse_tile
from torchspectral.errors import BadSettings
from torchspectral.geo.grids import place


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    rng = np.random.default_rng(0)
    cube = ts.make_cube(
        rng.random((6, 20, 24), np.float32),
        wavelength=np.linspace(450, 900, 6),
        fwhm=np.full(6, 10.0),
        quantity="reflectance",
    )
    path = tmp_path / "scene.tif"
    ts.save(place(cube, Affine(30, 0, 362175, 0, -30, 5809965), 32633), path)
    return path


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return int(stop.value.code or 0)


@pytest.mark.parametrize("verb", [*VERBS, "simulate wald", "bench sharpen", "weights inspect"])
def test_help_has_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(*verb.split(), "--help") == 0
    text = capsys.readouterr().out
    assert "Example:" in text or "Commands:" in text


def test_listing_imports_no_torch(scene: Path) -> None:
    calls = [["--help"], ["methods"], ["methods", "sharpening", "gsa"], ["methods", "io"], ["info", str(scene)]]
    code = (
        f"import sys\nfrom torchspectral.cli import main\nfor words in {calls!r}:\n"
        "    try:\n        main(words)\n    except SystemExit as s:\n        assert not s.code, (words, s.code)\n"
        "    heavy = {'torch', 'lightning', 'sklearn', 'matplotlib.pyplot'} & set(sys.modules)\n"
        "    assert not heavy, (words, heavy)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_info_json(scene: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", scene, "--json", "--stats") == 0
    known = json.loads(capsys.readouterr().out)
    assert known["grid"]["epsg"] == 32633 and len(known["stats"]) == 6
    values = ts.open(scene).values
    assert known["stats"][2]["mean"] == pytest.approx(values[2].mean(), rel=1e-5)
    assert known["stats"][2]["std"] == pytest.approx(values[2].std(), rel=1e-4)


def test_convert_quicklook_spectrum(scene: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.hdr"
    assert run("convert", scene, "-o", out, "--bands", "1-3,6") == 0
    np.testing.assert_array_equal(ts.open(out).values, ts.open(scene).values[[0, 1, 2, 5]])
    assert run("quicklook", scene, "-o", tmp_path / "rgb.png") == 0
    assert (tmp_path / "rgb.png").stat().st_size > 500
    assert run("spectrum", scene, "--at", 362190, 5809950, "-o", tmp_path / "s.csv") == 0
    assert run("spectrum", scene, "--at", 0, 0, "--pixel", "-o", tmp_path / "s.png") == 0
    assert (tmp_path / "s.png").stat().st_size > 500


def test_batch_tells_failures_at_the_end(scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "bad.tif").write_bytes(b"II*\x00nothing")
    lines = tmp_path / "list.txt"
    lines.write_text("scene.tif\nbad.tif\n")
    assert run("convert", lines, "-o", tmp_path / "many") == 2
    said = capfd.readouterr()
    rows = [json.loads(line) for line in said.out.splitlines()]
    assert [r["status"] for r in rows] == ["done", "failed"]
    assert "1 of 2" in said.err
    assert run("convert", lines, "-o", tmp_path / "many", "--skip-existing") == 2
    assert json.loads(capfd.readouterr().out.splitlines()[0])["status"] == "skipped"


def test_a_bug_exits_with_one(monkeypatch: pytest.MonkeyPatch, scene: Path, capfd: pytest.CaptureFixture[str]) -> None:
    import torchspectral.io

    def broken(path: object) -> None:
        raise ZeroDivisionError("inside")

    monkeypatch.setattr(torchspectral.io, "describe", broken, raising=False)
    assert run("info", scene) == 1
    assert "bug" in capfd.readouterr().err


def test_a_disk_that_refuses_is_no_bug(
    monkeypatch: pytest.MonkeyPatch, scene: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    import errno

    def refused(self: Path, *a: object, **k: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(self))

    monkeypatch.setattr(Path, "mkdir", refused)
    assert run("quicklook", scene, "-o", tmp_path / "new" / "a.png") == 2
    assert "cannot write" in capfd.readouterr().err
    monkeypatch.setattr("torchspectral.io.describe", refused)
    assert run("info", scene) == 2
    said = capfd.readouterr().err
    assert "the system refuses" in said and "bug" not in said


def test_the_reader_of_our_output_may_leave(scene: Path) -> None:
    command = f"{sys.executable} -m torchspectral info {' '.join([str(scene)] * 40)} --json | head -c 10"
    done = subprocess.run(["bash", "-c", f"set -o pipefail; {command}"], capture_output=True, text=True)
    assert done.returncode in (0, 141) and not done.stderr


def test_parsing() -> None:
    assert parse_bands("1-3,5") == [0, 1, 2, 4]
    assert parse_tile("64x32") == (64, 32)
    for text in ("0", "3-1", "a", ""):
        with pytest.raises(BadSettings):
            parse_bands(text)
    with pytest.raises(BadSettings):
        parse_tile("0x3")
