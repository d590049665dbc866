"""Speed of the denoising networks: ``python benchmarks/restore_networks.py [--cases DIR] [--repeats N] [--json]``.

Each network in the library's formulation against the plain one that the tests hold it to, one thread, without gradients;
each in a process of its own, so that the largest memory is its own. With ``--cases`` (the folder of parity cases) both
are first held against the published outputs. The machine's matrix product and copy speed stand beside the figures.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

import torchspectral as ts
from machine import best_of, measure
from torchspectral.engine.memory import PeakMemory

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "parity"))
import plain_networks

ROWS: dict[str, tuple[str, dict[str, Any], tuple[int, int, int]]] = {
    "hsdt-s 31x128x128": ("hsdt-s", {}, (31, 128, 128)),
    "hsdt-m 31x128x128": ("hsdt-m", {}, (31, 128, 128)),
    "man-m 31x128x128": ("man-m", {}, (31, 128, 128)),
    "man-s 224x64x64": ("man-s", {}, (224, 64, 64)),
    "man-m 224x64x64": ("man-m", {}, (224, 64, 64)),
}
CASES = {"hsdt-m": "hsdt/hsdt_m", "man-m": "man/man_v2_m"}


def formulation(model: str, arguments: dict[str, Any], plain: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    """The network as a function of a volume, with seeded weights."""
    torch.manual_seed(0)
    network = ts.create_model(model, **arguments).eval()
    if not plain:
        return network
    return plainly(network, model)


def plainly(network: torch.nn.Module, model: str) -> Callable[[torch.Tensor], torch.Tensor]:
    """The plain formulation with the weights of a network of five layers."""
    state, form = dict(network.state_dict()), getattr(plain_networks, model.split("-")[0])
    return lambda x: form(state, x, 5, (1, 3))


def one(row: str, plain: bool, repeats: int) -> dict[str, float]:
    """Seconds and largest memory of one formulation, in this process."""
    model, arguments, shape = ROWS[row]
    torch.set_num_threads(1)
    call, x = formulation(model, arguments, plain), torch.rand(1, 1, *shape)
    with torch.no_grad():
        call(x[..., :32, :32])
        with PeakMemory(0.002) as memory:
            start = memory.peak
            call(x)
        seconds = best_of(repeats, lambda: call(x))
    return {"seconds": seconds, "memory [MB]": (memory.peak - start) / 1e6}


def compare(row: str, repeats: int) -> dict[str, Any]:
    """Both formulations of a row, each in a process of its own."""
    found = {}
    for kind in ("plain", "ours"):
        command = [sys.executable, __file__, "--one", row, "--kind", kind, "--repeats", str(repeats)]
        found[kind] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    plain, ours = found["plain"], found["ours"]
    return {
        "row": row,
        "plain [s]": plain["seconds"],
        "ours [s]": ours["seconds"],
        "times as fast": plain["seconds"] / ours["seconds"],
        "plain [MB]": plain["memory [MB]"],
        "ours [MB]": ours["memory [MB]"],
    }


def parity(folder: Path) -> list[dict[str, Any]]:
    """Largest error of both formulations over what a case allows, in float64."""
    from parity_case import Case

    found = []
    for model, name in CASES.items():
        case = Case.read(folder / f"{name}.json")
        (x,) = case.tensors("x", dtype="float64")
        network = case.load_into(ts.create_model(model)).double()
        with torch.no_grad():
            for kind, out in (("ours", network(x)), ("plain", plainly(network, model)(x))):
                row = case.compare({"output": out})["output"]
                found.append(
                    {"row": f"{model} parity {kind}", "of what is allowed": row["of_allowed"], "ok": row["ok"]}
                )
    return found


def rows(repeats: int = 3) -> list[dict[str, Any]]:
    """Every comparison."""
    return [compare(row, repeats) for row in ROWS]


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--cases", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="rows whose name contains this")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--one", choices=list(ROWS), help="one row in this process, as JSON")
    parser.add_argument("--kind", choices=("plain", "ours"), default="ours")
    options = parser.parse_args()
    if options.one:
        print(json.dumps(one(options.one, options.kind == "plain", options.repeats)))
        return
    found = parity(options.cases) if options.cases else []
    found += [compare(row, options.repeats) for row in ROWS if options.only in row]
    machine = measure()
    if options.json:
        print(json.dumps({"machine": asdict(machine), "rows": found}, indent=1))
        return
    print(machine)
    for row in found:
        print("  ".join(f"{k} {v:.3g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()))


if __name__ == "__main__":
    main()
