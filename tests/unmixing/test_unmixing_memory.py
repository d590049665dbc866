"""Streamed methods need no more memory for a larger scene: as the benchmark measures it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
def test_four_times_the_pixels_take_the_same_memory() -> None:
    words = [sys.executable, str(BENCHMARKS / "unmix.py"), "--only", "memory", "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=1200)
    rows = json.loads(done.stdout)["memory"]
    assert {r["what"].split(":")[0] for r in rows} == {"fcls", "vca-fcls", "sunsal", "nmf", "rrlbs"}
    assert all(r["holds"] for r in rows), rows
