"""Pages of commands run from top to bottom, as they stand."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchspectral.cli import main

PAGES = Path(__file__).resolve().parents[2] / "docs"


def run(words: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


@pytest.fixture
def play(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[[str], dict[str, Any]]:
    """Runs a page in an empty folder and returns the names that its Python leaves."""

    def playing(name: str) -> dict[str, Any]:
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MPLBACKEND", "Agg")
        left: dict[str, Any] = {"__name__": "__main__"}
        page = (PAGES / name).read_text(encoding="utf-8")
        for language, body in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
            if language == "python":
                with contextlib.redirect_stdout(io.StringIO()):
                    exec(compile(body, name, "exec"), left)
                continue
            for line in body.splitlines():
                pictures = [] if " unmix " not in line or "maps/" in line else ["--no-pictures"]
                assert run([*shlex.split(line)[1:], *pictures]) == 0, (line, capfd.readouterr().err)
        return left

    return playing


def test_unmixing(play: Callable[[str], dict[str, Any]]) -> None:
    left = play("unmix.md")
    for name in ("abundances.tif", "rmse.tif", "endmembers.sli", "endmembers.csv", "report.html"):
        assert Path("maps", name).is_file(), name
    assert Path("robust/band_quality.csv").is_file()
    assert "material" in Path("named/endmembers.csv").read_text(encoding="utf-8").splitlines()[0]
    assert float(left["result"]["rmse"].max()) < 0.1 and 0 < float(left["share"].mean()) < 1


def test_calibration(play: Callable[[str], dict[str, Any]]) -> None:
    left = play("calibrate.md")
    assert np.median(left["away"]) < 1e-3 and left["away"].max() < 0.1 and left["device"].good.sum() > 40
    assert left["error"] < 0.05 and Path("device.fits.png").is_file()
    assert left["left"] < 0.005 and Path("clean/line3.hdr").is_file()
    np.testing.assert_allclose(left["again"].values, left["ts"].open("clean/line1.hdr").values)
    np.testing.assert_allclose(left["reflectance"].values, left["leaf"], atol=2e-3)
