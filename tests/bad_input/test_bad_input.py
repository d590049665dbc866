"""Every bad input ends in one typed, one-line error with nothing left behind."""

from __future__ import annotations

import importlib.util
import re
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))


def _rows() -> list:
    found = []
    for file in sorted(HERE.glob("rows_*.py")):
        spec = importlib.util.spec_from_file_location(file.stem, file)
        module = importlib.util.module_from_spec(spec)
        sys.modules[file.stem] = module
        spec.loader.exec_module(module)
        found += [pytest.param(row, id=f"{file.stem[5:]}-{row.id}") for row in module.ROWS]
    return found


ROWS = _rows()


def _listing(folder: Path) -> set[str]:
    return {str(p.relative_to(folder)) for p in folder.rglob("*")}


@pytest.mark.parametrize("row", ROWS)
def test_library_says_what_is_wrong(row, tmp_path: Path) -> None:
    given = row.prepare(tmp_path) if row.prepare else tmp_path
    before = _listing(tmp_path)
    with pytest.raises(row.expect) as caught:
        row.make(given)
    message = str(caught.value)
    assert re.search(row.message, message), message
    assert "\n" not in message and len(message) < 600, message
    assert _listing(tmp_path) == before


@pytest.mark.parametrize("row", [p for p in ROWS if p.values[0].cli is not None])
def test_command_exits_with_two(row, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    from torchspectral.cli import main

    given = row.prepare(tmp_path) if row.prepare else tmp_path
    before = _listing(tmp_path)
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in row.cli(given)])
    assert stop.value.code == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.strip()]
    assert len(lines) == 1 and re.search(row.message, lines[0]), lines
    assert _listing(tmp_path) == before


def test_table_is_long_enough() -> None:
    assert len(ROWS) >= 60
    ids = [p.id for p in ROWS]
    assert len(ids) == len(set(ids))
