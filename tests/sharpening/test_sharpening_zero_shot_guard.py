"""The guard: what it measures, what it says, what it hands out."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.sharpening.zero_shot.guard import Guard, Trace

QUICK = {"ensemble": 1, "ensemble_epochs": 1, "epochs": 1, "sharpenings": 1, "eta": 0.0}


def guard() -> Guard:
    made = Guard(4)
    made.note(0, reference=2.0, spectral=1.0, correlation=0.9, iterations=7, target=0.62)
    made.note(1, reference=2.0, spectral=3.0, correlation=0.8, iterations=7, target=0.62)
    made.note(2, reference=2.0, spectral=1.9, correlation=0.7, iterations=9, target=0.62, reached=False)
    return made


def test_bands_are_named_by_what_is_wrong_with_them():
    made = guard()
    assert made.above() == [1] and made.saturated() == [2]
    lines = made.warnings(["a", "b", "c", "d"])
    assert len(lines) == 3
    assert "did not converge (b)" in lines[0] and "(c)" in lines[1] and "skipped" in lines[2] and "(d)" in lines[2]
    assert made.fall_back() == [1] and made.interpolated() == [False, True, False, True]
    assert "are interpolated (b)" in made.warnings(["a", "b", "c", "d"])[0]
    table = made.table(np.arange(4.0))
    assert table["converged"] == [True, False, False, False]
    assert table["spectral_ratio"][:2] == [0.5, 1.5] and np.isnan(table["spectral_ratio"][3])


def test_guard_and_trace_survive_a_state():
    made = guard()
    again = Guard.unpack(made.pack())
    assert again.table(np.zeros(4)).keys() == made.table(np.zeros(4)).keys()
    np.testing.assert_equal(again.table(np.zeros(4)), made.table(np.zeros(4)))
    trace = Trace()
    trace.add(1, 0, 0.5, 0.4, 0.3, 0.62)
    more = Trace(trace.rows())
    more.add(2, 1, 0.1, 0.2, 0.3, 0.16)
    assert Trace.table(more.rows())["band"].tolist() == [2, 3] and more.rows().shape == (2, 6)


@pytest.fixture(scope="module")
def pair():
    from torchspectral.synth.scenes import mixed_scene

    made = mixed_scene(3, 22, 22, seed=2)
    values = made.values.copy()
    values[1] = 0.25
    cube = ts.make_cube(values, wavelength=[650.0, 550.0, 450.0], quantity="reflectance")
    pan = np.repeat(np.repeat(values.mean(0), 2, 0), 2, 1)[None]
    return cube, ts.make_cube(pan, quantity="reflectance")


def test_empty_bands_are_skipped_and_interpolated(pair):
    result = ts.sharpen(*pair, method="rho-pnn", settings=QUICK, check_shift=False)
    table = result["bands"]
    assert table["status"].tolist() == ["adapted", "skipped", "adapted"]
    np.testing.assert_allclose(result["cube"][1].values, 0.25, rtol=1e-5)
    assert any("skipped" in line and "550 nm" in line for line in result.report.notes)
    # The sweep goes by wavelength, whatever the order of the bands.
    assert result["trace"]["band"].tolist()[0] == 3


def test_fallback_hands_out_the_interpolated_band(pair):
    torch.manual_seed(0)
    wild = dict(QUICK, learning_rate=0.3)
    kept = ts.sharpen(*pair, method="rho-pnn", settings=wild, check_shift=False)
    assert kept["bands"]["status"].tolist()[0] == "adapted"
    assert kept.report.figures["spectral_ratio_worst"] > 1
    assert any("did not converge" in line for line in kept.report.notes)
    fallen = ts.sharpen(*pair, method="rho-pnn", settings=dict(wild, fallback=True), check_shift=False)
    plain = ts.sharpen(*pair, method="exp", check_shift=False)
    for band in np.flatnonzero(fallen["bands"]["status"] == "interpolated"):
        np.testing.assert_allclose(fallen["cube"][band].values, plain["cube"][band].values, atol=1e-6)
    assert (fallen["bands"]["status"] == "interpolated").any()
