"""Speed and memory of backbones: ``python benchmarks/backbones.py [--only TEXT] [--repeats N] [--json]``.

Each row holds the library's formulation against a plain one that gives the same numbers (the largest difference stands
beside). Both run by turns in one process, on one thread, and their CPU time counts, the least of the runs and the
median: other work on the machine slows both alike. Memory is measured in a process each: what a call adds at its
height after a first call, and the height of the whole process, weights and libraries included. Rows come from the
files ``backbones_*.py`` beside this one: a function ``rows()`` that returns `Row`s. The machine's matrix product and copy
speed stand above the figures.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from machine import measure
from torchspectral.engine.memory import PeakMemory

Call = Callable[[], torch.Tensor]
HERE = Path(__file__).resolve().parent
KINDS = ("plain", "ours")


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


def memory(row: Row, kind: str) -> dict[str, float]:
    """Memory of one formulation [MB], in this process: added by a call after the first, and of the whole process."""
    call = built(row, kind)
    call()
    with PeakMemory(0.002) as found:
        start = found.peak
        call()
    return {"added": (found.peak - start) / 1e6, "process": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3}


def seconds(row: Row, repeats: int) -> dict[str, Any]:
    """CPU seconds of both formulations, run by turns in this process, and the largest difference of their results."""
    calls = {kind: built(row, kind) for kind in KINDS}
    results = {kind: call().detach().clone().double() for kind, call in calls.items()}
    spent: dict[str, list[float]] = {kind: [] for kind in KINDS}
    for _ in range(repeats):
        for kind, call in calls.items():
            start = time.process_time()
            call()
            spent[kind].append(time.process_time() - start)
    return {**spent, "difference": float((results["plain"] - results["ours"]).abs().max())}


def built(row: Row, kind: str) -> Call:
    """A formulation, seeded, on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    made: Call = getattr(row, kind)()
    return made


def child(name: str, what: str, repeats: int) -> dict[str, Any]:
    """Figures of a row from a process of its own."""
    command = [sys.executable, __file__, "--one", name, "--kind", what, "--repeats", str(repeats)]
    # Freed memory goes back at once, so that the height of a call is seen whatever was freed before.
    environment = os.environ if what == "time" else {**os.environ, "MALLOC_MMAP_THRESHOLD_": "65536"}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=dict(environment))
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def compare(row: Row, repeats: int) -> dict[str, Any]:
    """Both formulations of a row."""
    held = {kind: child(row.name, kind, 1) for kind in KINDS}
    spent = child(row.name, "time", repeats)
    least = {kind: min(spent[kind]) for kind in KINDS}
    middle = {kind: statistics.median(spent[kind]) for kind in KINDS}
    return {
        "row": row.name,
        "plain [s]": least["plain"],
        "ours [s]": least["ours"],
        "faster": least["plain"] / least["ours"],
        "faster, medians": middle["plain"] / middle["ours"],
        "aim": row.faster,
        "plain [MB]": held["plain"]["added"],
        "ours [MB]": held["ours"]["added"],
        "memory": held["ours"]["added"] / max(held["plain"]["added"], 1e-9),
        "memory aim": row.memory,
        "plain process [MB]": held["plain"]["process"],
        "ours process [MB]": held["ours"]["process"],
        "difference": spent["difference"],
    }


def line(found: dict[str, Any]) -> str:
    """A comparison for people."""
    aims = [f"aim {found['aim']:g} x"] * bool(found["aim"])
    aims += [f"memory aim {found['memory aim']:.2f}"] * bool(found["memory aim"])
    return (
        f"{found['row']:46s} {found['plain [s]']:7.3f} s {found['ours [s]']:7.3f} s  {found['faster']:5.2f} x "
        f"(medians {found['faster, medians']:.2f})  {found['plain [MB]']:6.0f} MB {found['ours [MB]']:6.0f} MB "
        f"({found['memory']:.2f})  process {found['plain process [MB]']:.0f} MB {found['ours process [MB]']:.0f} MB  "
        f"difference {found['difference']:.1e}  {', '.join(aims)}"
    )


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    for hidden in ("--one", "--kind"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    given = parser.parse_args()
    rows = all_rows()
    if given.one:
        row = rows[given.one]
        print(json.dumps(seconds(row, given.repeats) if given.kind == "time" else memory(row, given.kind)))
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
