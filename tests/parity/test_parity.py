"""The parity cases: copies that travel with the tests, and all of the shared folder where there is one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import run as parity_run  # noqa: E402
from parity_case import shared_root  # noqa: E402


def _files() -> list:
    found: dict[str, Path] = {}
    for place in (HERE / "cases", (shared_root() or HERE / "absent") / "parity"):
        for file in parity_run.find_cases(place) if place.is_dir() else ():
            found.setdefault(f"{file.parent.name}/{file.stem}", file)
    built = {f.stem for f in (HERE / "adapters").glob("*.py")}
    return [pytest.param(f, id=name) for name, f in found.items() if name.split("/")[0].replace("-", "_") in built]


@pytest.mark.parametrize("file", _files())
def test_case(file: Path) -> None:
    row = parity_run.run_case(file)
    if row["status"] == "skip":
        pytest.xfail(row["reason"])  # not a missing sample: this part of the system is not built
    assert row["status"] == "pass", row["reason"] + row.get("traceback", "")


def test_copies_are_the_shared_ones(parity_dir: Path) -> None:
    for file in (HERE / "cases").rglob("*.*"):
        if file.suffix in (".json", ".npz"):
            assert file.read_bytes() == (parity_dir / file.relative_to(HERE / "cases")).read_bytes()


def _case(folder: Path, name: str, **changes) -> Path:
    meta = {
        "system": "nobody",
        "constructor": {},
        "inputs": {},
        "state": {},
        "output": {},
        "tolerance": {"rtol": 0},
    }
    file = folder / f"{name}.json"
    file.write_text(json.dumps(meta | changes))
    file.with_suffix(".npz").write_bytes(b"")
    return file


def test_unknown_system_is_skipped_with_a_reason(tmp_path: Path, capsys) -> None:
    _case(tmp_path, "a")
    assert parity_run.main([str(tmp_path), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["count"]["skip"] == 1 and "no adapter" in report["cases"][0]["reason"]


def test_nothing_to_read_is_told(tmp_path: Path, capsys) -> None:
    assert parity_run.main([str(tmp_path)]) == 2
    assert parity_run.main([str(tmp_path / "absent"), "--json"]) == 2
    (tmp_path / "broken.json").write_text('{"system": 1, "tolerance"')
    assert parity_run.main([str(tmp_path), "--json"]) == 2
    assert "cannot read" in capsys.readouterr().out


def test_a_wrong_output_fails(tmp_path: Path, monkeypatch, capsys) -> None:
    import numpy as np

    file = _case(tmp_path, "a", output={"x": {"shape": [4], "stored": "strided:3"}}, tolerance={"rtol": 0.1, "atol": 0})
    np.savez(file.with_suffix(".npz"), x=np.array([1.0, 4.0], np.float32))
    answers = iter([[1, 0, 0, 4.2], [1, 0, 0, 9], [1, 2], [1, 0, 0, np.nan]])
    monkeypatch.setattr(parity_run, "adapter", lambda system: lambda case: {"x": np.array(next(answers))})
    assert parity_run.main([str(tmp_path), "--json"]) == 0
    for _ in range(3):
        assert parity_run.main([str(tmp_path), "--json"]) == 1
    assert "shape [2], expected [4]" in capsys.readouterr().out
