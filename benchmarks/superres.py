"""Seconds and memory of the super-resolution networks against their plain formulations.

``python benchmarks/superres.py [--repeats N]``. The plain formulations are those of the tests, as the papers'
code states them; they are compared with ours before they are timed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

import torchspectral as ts
from machine import measure

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests" / "parity"))
import plain_networks

WANTED = {"essaformer": 1.3, "spectral-mixup": 1.5}


def peak_of(call: Callable[[], object]) -> float:
    """Largest memory held by tensors during a call, beyond what was held before [MiB]."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    held, most = 0, 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 2**20


def compare(
    name: str, ours: Callable[[], torch.Tensor], plain: Callable[[], torch.Tensor], repeats: int
) -> dict[str, float]:
    """Figures of one network; processor seconds, as the machine is shared."""
    off = float((ours() - plain()).abs().max() / plain().std())
    assert off < 1e-3, f"{name}: the two differ by {off} of the output's deviation"
    best = {"ours": float("inf"), "plain": float("inf")}
    for _ in range(repeats):
        for kind, call in (("plain", plain), ("ours", ours)):
            start = time.process_time()
            call()
            best[kind] = min(best[kind], time.process_time() - start)
    return {
        "plain_s": best["plain"],
        "ours_s": best["ours"],
        "times_faster": best["plain"] / best["ours"],
        "plain_mib": peak_of(plain),
        "ours_mib": peak_of(ours),
        "off": off,
    }


def rows(repeats: int = 3, names: tuple[str, ...] = tuple(WANTED)) -> dict[str, dict[str, float]]:
    """Figures by network, one thread, published widths, x4."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {}
    try:
        with torch.no_grad():
            torch.manual_seed(0)
            if "essaformer" in names:
                network = ts.create_model("essaformer", bands=128).eval()
                weights = network.state_dict()
                x = torch.rand(1, 128, 32, 32)
                found["essaformer"] = compare(
                    "essaformer", lambda: network(x), lambda: plain_networks.essaformer(weights, x, 4), repeats
                )
            if "spectral-mixup" in names:
                share = ts.create_model("spectral-mixup", bands=31).eval()
                own = share.state_dict()
                low, lms = torch.rand(1, 31, 32, 32), torch.rand(1, 31, 128, 128)
                found["spectral-mixup"] = compare(
                    "spectral-mixup",
                    lambda: share(low, lms),
                    lambda: plain_networks.deepshare(own, low, lms, "spectral", 8, 2, 4, 0.1),
                    repeats,
                )
    finally:
        torch.set_num_threads(threads)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(WANTED))
    given = parser.parse_args()
    print(measure())
    print(f"{'network':16} {'plain':>8} {'ours':>8} {'faster':>8} {'wanted':>7} {'plain memory':>14} {'ours':>10}")
    for name, row in rows(given.repeats, tuple(given.only)).items():
        print(
            f"{name:16} {row['plain_s']:6.2f} s {row['ours_s']:6.2f} s {row['times_faster']:6.2f} x {WANTED[name]:5.1f} x "
            f"{row['plain_mib']:10.0f} MiB {row['ours_mib']:6.0f} MiB"
        )


if __name__ == "__main__":
    main()
