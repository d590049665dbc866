"""How long `import torchspectral` takes, against `import xarray, rioxarray` in the same breath.

Fresh processes in turn, so that a busy machine slows both; prints the medians, their ratio and the target.

    python benchmarks/import_time.py [--runs 9] [--json]
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys

TARGET = 1.3
STATEMENTS = {
    "peer": "import xarray, rioxarray",
    "torchspectral": "import torchspectral",
    "torchspectral, opening": "import torchspectral as ts; ts.open",
    "python alone": "pass",
}


def seconds(statement: str) -> float:
    """Time of one statement in a fresh interpreter, without the interpreter's own start."""
    code = f"import time; t = time.perf_counter()\n{statement}\nprint(time.perf_counter() - t)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def measure(runs: int) -> dict[str, list[float]]:
    """Times by statement; one warm-up round fills the file cache and the byte code."""
    for statement in STATEMENTS.values():
        seconds(statement)
    found: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    for _ in range(runs):
        for name, statement in STATEMENTS.items():
            found[name].append(seconds(statement))
    return found


def main() -> int:
    """Print the comparison; exit 1 where the target is missed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    times = measure(max(1, options.runs))
    medians = {name: statistics.median(values) for name, values in times.items()}
    # Pairs of one round share the machine's mood: the median of their ratios is steadier than the ratio of medians.
    ratio = statistics.median(a / b for a, b in zip(times["torchspectral"], times["peer"], strict=True))
    if options.json:
        print(json.dumps({"seconds": medians, "ratio": ratio, "target": TARGET, "python": platform.python_version()}))
    else:
        print(f"Python {platform.python_version()}, {options.runs} fresh processes each, median seconds")
        for name, value in medians.items():
            print(f"  {name:<24}{value:7.3f}   {STATEMENTS[name]}")
        print(f"ratio {ratio:.2f}, at most {TARGET} wanted: {'holds' if ratio <= TARGET else 'MISSED'}")
    return 0 if ratio <= TARGET else 1


if __name__ == "__main__":
    sys.exit(main())
