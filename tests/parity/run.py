"""Run parity cases: ``python tests/parity/run.py DIR... [--json]``.

DIR is a folder of cases, a folder of such folders, or one NAME.json. Cases whose system has no adapter, or whose
part of it is not built, are listed as skipped with the reason. Exit 0: no case failed; 1: a case failed or could not
be read; 2: nothing to run was found.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import math
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
for place in (str(HERE), str(HERE.parent.parent / "src")):
    if place not in sys.path:
        sys.path.insert(0, place)

from parity_case import BrokenCase, Case, Unsupported  # noqa: E402


def find_cases(place: Path) -> Iterator[Path]:
    """Case files at or below a path, in order."""
    if place.is_file():
        yield place
        return
    for file in sorted(place.rglob("*.json")):
        if file.with_suffix(".npz").exists() or _looks_like_a_case(file):
            yield file


def _looks_like_a_case(file: Path) -> bool:
    try:
        head = file.read_text(encoding="utf-8", errors="replace")[:4096]
    except OSError:
        return False
    return '"system"' in head and ('"tolerance"' in head or '"inputs"' in head)


def adapter(system: str) -> Callable[[Case], dict[str, Any]]:
    """The `run` function for a system."""
    name = system.replace("-", "_")
    file = HERE / "adapters" / f"{name}.py"
    if not name.isidentifier() or not file.is_file():
        raise Unsupported(f"no adapter for the system {system!r}")
    spec = importlib.util.spec_from_file_location(f"_parity_adapter_{name}", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.run


def run_case(file: Path) -> dict[str, Any]:
    """Run one case; returns a row with ``status`` pass, fail, skip or unreadable."""
    row: dict[str, Any] = {"name": file.stem, "system": file.parent.name, "path": str(file)}
    start = time.perf_counter()
    try:
        case = Case.read(file)
        row["system"] = case.system
        with contextlib.redirect_stdout(sys.stderr):
            runner = adapter(case.system)
            got = runner(case)
        # Cases whose stored values are one of many answers are compared by what is unique about them.
        row["outputs"] = getattr(runner, "compare", Case.compare)(case, got)
        wrong = [f"{name}: {o['reason']}" for name, o in row["outputs"].items() if not o["ok"]]
        row |= {"status": "fail" if wrong else "pass", "reason": "; ".join(wrong)}
    except Unsupported as error:
        row |= {"status": "skip", "reason": str(error)}
    except BrokenCase as error:
        row |= {"status": "unreadable", "reason": str(error)}
    except Exception as error:  # a broken adapter is a failed case, and the others still run
        row |= {
            "status": "fail",
            "reason": f"{type(error).__name__}: {error}",
            "traceback": traceback.format_exc(),
        }
    row["seconds"] = round(time.perf_counter() - start, 3)
    return row


def plain(value: Any) -> Any:
    """Strict JSON: infinities and NaN become strings."""
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value


def line(row: dict[str, Any]) -> str:
    """One line for people."""
    worst = max((o.get("of_allowed", 0.0) for o in row.get("outputs", {}).values()), default=0.0)
    text = f"{row['status']:10s} {row['system']}/{row['name']}  {row['seconds']:.2f} s"
    return text + (f"  {worst:.3g} of what is allowed" if row["status"] == "pass" else f"  {row['reason']}")


def main(words: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(description="Run parity cases.")
    parser.add_argument("places", nargs="+", type=Path, metavar="DIR", help="folders of cases, or case files")
    parser.add_argument("--json", action="store_true", help="one JSON document on standard output")
    parser.add_argument("--only", default="", help="run only cases whose system/name contains this")
    given = parser.parse_args(words)
    rows: list[dict[str, Any]] = []
    problems: list[str] = []
    for place in given.places:
        if not place.exists():
            problems.append(f"{place} does not exist")
            continue
        files = [f for f in find_cases(place) if given.only in f"{f.parent.name}/{f.stem}"]
        if not files:
            problems.append(f"no case found in {place}")
        for file in files:
            rows.append(run_case(file))
            if not given.json:
                print(line(rows[-1]), flush=True)
    count = {status: sum(r["status"] == status for r in rows) for status in ("pass", "fail", "skip", "unreadable")}
    read = len(rows) - count["unreadable"]
    status = 2 if not read else 1 if count["fail"] or count["unreadable"] or problems else 0
    if given.json:
        print(
            json.dumps(
                plain({"cases": rows, "count": count, "problems": problems, "exit": status}),
                indent=1,
                allow_nan=False,
            )
        )
    else:
        for problem in problems:
            print(problem, file=sys.stderr)
        print(
            f"{count['pass']} passed, {count['fail']} failed, {count['skip']} skipped, {count['unreadable']} unreadable"
        )
    return status


if __name__ == "__main__":
    sys.exit(main())
