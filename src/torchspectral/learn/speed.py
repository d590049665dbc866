"""How fast a training goes and how much memory it takes; validation and checkpoints are not counted."""

from __future__ import annotations

import sys
from time import perf_counter

import torch


class Speed:
    """Samples a second since `start`, and the most memory so far."""

    def __init__(self) -> None:
        self.device = torch.device("cpu")
        self.samples = 0
        self.begun = perf_counter()

    def start(self, device: torch.device) -> None:
        """Begin to count."""
        self.device, self.samples = device, 0
        self._wait()
        self.begun = perf_counter()

    def count(self, samples: int) -> None:
        """A step of so many samples, over all processes, is done."""
        self.samples += samples

    def figures(self) -> dict[str, float]:
        """``samples_per_second`` and ``peak_memory_mib``: of the accelerator, or of this process on a CPU."""
        self._wait()
        took = max(perf_counter() - self.begun, 1e-9)
        return {"samples_per_second": self.samples / took, "peak_memory_mib": peak_memory(self.device) / 2**20}

    def _wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)


def peak_memory(device: torch.device) -> int:
    """Bytes that were held at most: tensors on an accelerator, all of the process on a CPU."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    try:
        import resource
    except ModuleNotFoundError:  # Windows does not tell
        return 0
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
