"""Speed of this machine, printed beside every figure: one line that makes benchmarks of two machines comparable."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


def best_of(repeats: int, call: Callable[[], object]) -> float:
    """Shortest wall time of a call [s]."""
    best = float("inf")
    for _ in range(repeats):
        start = time.perf_counter()
        call()
        best = min(best, time.perf_counter() - start)
    return best


@dataclass(frozen=True)
class Machine:
    """Single-thread speeds.

    Attributes
    ----------
    sgemm : float
        Matrix product of 1024 x 1024 float32 [GFLOP/s].
    copy : float
        Copy of 128 MiB, bytes read and written together [GB/s].
    name, cores, load : str, int, float
        Processor, logical cores, and load average of the last minute where the system tells.
    """

    sgemm: float
    copy: float
    name: str
    cores: int
    load: float

    def __str__(self) -> str:
        return (
            f"machine: sgemm {self.sgemm:.1f} GFLOP/s, copy {self.copy:.1f} GB/s (one thread), {self.cores} cores, "
            f"load {self.load:.1f}, {self.name}"
        )


def measure() -> Machine:
    """Measure the machine, with torch on one thread."""
    import numpy as np
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        one, two = torch.rand(1024, 1024), torch.rand(1024, 1024)
        seconds = best_of(5, lambda: one @ two)
        source = np.ones(128 << 20, dtype=np.uint8)
        target = np.empty_like(source)
        copied = best_of(5, lambda: np.copyto(target, source))
    finally:
        torch.set_num_threads(threads)
    load = os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")
    return Machine(2 * 1024**3 / seconds / 1e9, 2 * source.nbytes / copied / 1e9, _name(), os.cpu_count() or 1, load)


def _name() -> str:
    try:
        with Path("/proc/cpuinfo").open() as file:
            for line in file:
                if line.startswith("model name"):
                    return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    print(measure())
