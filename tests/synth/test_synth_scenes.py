from __future__ import annotations

import numpy as np
import pytest

import torchspectral as ts
from torchspectral.errors import BadSettings
from torchspectral.synth import mixed_scene


def test_the_truth_adds_up_and_repeats() -> None:
    scene, again, other = mixed_scene(20, 30, 24), mixed_scene(20, 30, 24), mixed_scene(20, 30, 24, seed=1)
    assert np.array_equal(scene.values, again.values) and not np.array_equal(scene.values, other.values)
    assert np.allclose(scene.abundances.sum(0), 1, atol=1e-6) and scene.abundances.min() >= 0
    exact = mixed_scene(20, 30, 24, texture=0, snr=None)
    assert np.allclose(exact.values, np.tensordot(exact.spectra.T, exact.abundances, axes=1), atol=1e-6)
    noise = 20 * np.log10(np.sqrt((scene.clean**2).mean()) / (scene.values - scene.clean).std())
    assert noise == pytest.approx(40, abs=0.5)
    assert mixed_scene(1, 3, 2, materials=1).values.shape == (1, 3, 2)
    with pytest.raises(BadSettings):
        mixed_scene(0)


def test_every_sharpening_method_beats_interpolation_on_it() -> None:
    scene = mixed_scene(30, 96, 96, texture=0.1)
    truth = ts.make_cube(scene.values, wavelength=scene.wavelength, quantity="reflectance")
    pair = ts.simulate_wald(truth, 4)
    figures = {
        method: ts.score(ts.sharpen(pair["hs"], pair["pan"], method=method)["cube"], truth, ratio=4, metrics=["ergas"])
        for method in ("exp", "gsa", "bt-h", "mtf-glp-fs", "mtf-glp-hpm", "mtf-glp-hpm-r")
    }
    ergas = {method: result.report.figures["ERGAS"] for method, result in figures.items()}
    assert all(value < 0.95 * ergas["exp"] for method, value in ergas.items() if method != "exp"), ergas
