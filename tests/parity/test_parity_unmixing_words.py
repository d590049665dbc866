"""Settings in the constructor lines of unmixing cases: all are read, and what is not known is never left out."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parent))

import unmixing_peers
from parity_case import Case, Unsupported


def case(line: str) -> Case:
    return Case("a", Path("."), {"system": "unmixing", "constructor": line, "inputs": {}, "output": {}})


@pytest.mark.parametrize(
    ("system", "line", "chosen"),
    [
        ("vca", "VCA().extract_endmembers(Y, p, seed=7)", {"seed": 7, "snr": None}),
        ("vca", "VCA().extract_endmembers(Y, p, seed=0, snr_input=12.5)", {"seed": 0, "snr": 12.5}),
        (
            "sunsal",
            "SUnSAL(**{'lambd': 0.0, 'addone': True, 'tol': 1e-06}).compute_abundances(Y, E)",
            {"l1": 0.0, "positive": True, "sum_to_one": True, "iterations": 1000, "tolerance": 1e-6},
        ),
        (
            "edaa",
            "EDAA(T=9, M=2).run(Y, p, seed=3)",
            {"seed": 3, "iterations": 9, "steps_a": 5, "steps_b": 5, "runs": 2},
        ),
    ],
)
def test_words_become_settings(system: str, line: str, chosen: dict) -> None:
    assert unmixing_peers.settings_of(system, case(line))[0] == chosen


def test_an_unknown_word_is_no_pass() -> None:
    with pytest.raises(Unsupported, match="sisal with verbosity"):
        unmixing_peers.settings_of("sisal", case("SISAL(verbosity=2).extract_endmembers(Y, p)"))
