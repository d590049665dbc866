"""The page on unmixing runs from top to bottom, as it stands."""

from __future__ import annotations

import contextlib
import io
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from torchspectral.cli import main

PAGE = Path(__file__).resolve().parents[2] / "docs" / "unmix.md"


def run(words: list[str]) -> int:
    with pytest.raises(SystemExit) as stop:
        main(words)
    return int(stop.value.code or 0)


def test_the_page_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    left: dict[str, Any] = {"__name__": "__main__"}
    page = PAGE.read_text(encoding="utf-8")
    for language, body in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.DOTALL | re.MULTILINE):
        if language == "python":
            with contextlib.redirect_stdout(io.StringIO()):
                exec(compile(body, PAGE.name, "exec"), left)
            continue
        for line in body.splitlines():
            pictures = [] if " unmix " not in line or "maps/" in line else ["--no-pictures"]
            assert run([*shlex.split(line)[1:], *pictures]) == 0, (line, capfd.readouterr().err)
    for name in ("abundances.tif", "rmse.tif", "endmembers.sli", "endmembers.csv", "report.html"):
        assert Path("maps", name).is_file(), name
    assert Path("robust/band_quality.csv").is_file()
    assert "material" in Path("named/endmembers.csv").read_text(encoding="utf-8").splitlines()[0]
    assert float(left["result"]["rmse"].max()) < 0.1 and 0 < float(left["share"].mean()) < 1
