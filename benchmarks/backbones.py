"""Speed and memory of backbones: ``python benchmarks/backbones.py [--only TEXT] [--repeats N] [--json]``.

Each row holds the library's formulation against a plain one that gives the same numbers (the largest difference stands
beside); one thread, each in a process of its own, so that the largest memory is its own. Rows come from the files
``backbones_*.py`` beside this one: a function ``rows()`` that returns `Row`s. The machine's matrix product and copy
speed stand above the figures.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from machine import best_of, measure
from torchspectral.engine.memory import PeakMemory

Call = Callable[[], torch.Tensor]
HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes
    ----------
    name : str
    plain, ours : callable
        Build the formulation, seeded alike, and return the call that is measured; its tensor is compared. A call
        that trains returns its loss and clears its gradients itself.
    faster : float
        How many times faster ours is to be; 0: no aim.
    memory : float
        Largest share of the plain memory that ours may take; 0: no aim.
    """

    name: str
    plain: Callable[[], Call]
    ours: Callable[[], Call]
    faster: float = 0.0
    memory: float = 0.0


def all_rows() -> dict[str, Row]:
    """Rows of all files, by name."""
    found: dict[str, Row] = {}
    for file in sorted(HERE.glob("backbones_*.py")):
        for row in importlib.import_module(file.stem).rows():
            if row.name in found:
                raise ValueError(f"two rows are called {row.name!r}")
            found[row.name] = row
    return found


def one(row: Row, kind: str, repeats: int, place: Path) -> dict[str, float]:
    """Seconds and largest memory of one formulation, in this process; its result goes to a file."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    call: Call = getattr(row, kind)()
    torch.save(call().detach(), place)
    with PeakMemory(0.002) as memory:
        start = memory.peak
        call()
    return {"seconds": best_of(repeats, call), "memory": (memory.peak - start) / 1e6}


def compare(row: Row, repeats: int) -> dict[str, Any]:
    """Both formulations of a row, each in a process of its own."""
    found, results = {}, {}
    with tempfile.TemporaryDirectory() as folder:
        for kind in ("plain", "ours"):
            place = Path(folder) / kind
            command = [sys.executable, __file__, "--one", row.name, "--kind", kind, "--repeats", str(repeats)]
            done = subprocess.run([*command, "--place", str(place)], check=True, capture_output=True, text=True)
            found[kind] = json.loads(done.stdout.splitlines()[-1])
            results[kind] = torch.load(place, weights_only=True)
    plain, ours = found["plain"], found["ours"]
    return {
        "row": row.name,
        "plain [s]": plain["seconds"],
        "ours [s]": ours["seconds"],
        "faster": plain["seconds"] / ours["seconds"],
        "aim": row.faster,
        "plain [MB]": plain["memory"],
        "ours [MB]": ours["memory"],
        "memory": ours["memory"] / max(plain["memory"], 1e-9),
        "memory aim": row.memory,
        "difference": float((results["plain"].double() - results["ours"].double()).abs().max()),
    }


def line(found: dict[str, Any]) -> str:
    """A comparison for people."""
    aims = [f"aim {found['aim']:g} x"] * bool(found["aim"]) + [f"aim {found['memory aim']:g}"] * bool(
        found["memory aim"]
    )
    return (
        f"{found['row']:44s} {found['plain [s]']:8.3f} s {found['ours [s]']:8.3f} s  {found['faster']:5.2f} x  "
        f"{found['plain [MB]']:7.0f} MB {found['ours [MB]']:7.0f} MB ({found['memory']:.2f})  "
        f"difference {found['difference']:.1e}  {', '.join(aims)}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    for hidden in ("--one", "--kind", "--place"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    rows = all_rows()
    if given.one:
        print(json.dumps(one(rows[given.one], given.kind, given.repeats, Path(given.place))))
        return
    machine = measure()
    if not given.json:
        print(machine)
    found = []
    for row in rows.values():
        if given.only in row.name:
            found.append(compare(row, given.repeats))
            if not given.json:
                print(line(found[-1]), flush=True)
    if given.json:
        print(json.dumps({"machine": str(machine), "rows": found}, indent=1))


if __name__ == "__main__":
    sys.modules.setdefault("backbones", sys.modules["__main__"])
    main()
