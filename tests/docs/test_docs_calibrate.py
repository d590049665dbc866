"""The page on calibration runs from top to bottom, as it stands."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from torchspectral.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "calibrate.md"


def run(words: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    left: dict[str, Any] = {"__name__": "__main__"}
    for language, body in re.findall(
        r"^```(\w+)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    ):
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(body, PAGE.name, "exec"), left)
            continue
        for line in body.splitlines():
            assert run(shlex.split(line)[1:]) == 0, (line, capfd.readouterr().err)
    assert np.median(left["away"]) < 1e-3 and left["away"].max() < 0.1 and left["device"].good.sum() > 40
    assert left["error"] < 0.05 and Path("device.fits.png").is_file()
    assert left["left"] < 0.005 and Path("clean/line3.hdr").is_file()
    np.testing.assert_allclose(left["again"].values, left["ts"].open("clean/line1.hdr").values)
    np.testing.assert_allclose(left["reflectance"].values, left["leaf"], atol=2e-3)
