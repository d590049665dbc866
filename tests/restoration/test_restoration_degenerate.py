"""Every method that needs no weights, on cubes that have something wrong with them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest

import torchspectral as ts
from torchspectral import registry

METHODS = [c.name for c in registry.methods("restoration") if "weights" not in c.needs]
QUICK = {
    "ngmeet": {"iterations": 1, "similar": 20, "search": 6},
    "lrmr": {"iterations": 10},
    "lrtv": {"iterations": 12},
    "lrtdtv": {"iterations": 12},
    "l1hymixde": {"k": 3, "search": 4, "iterations": 1, "window": 5},
    "hyres": {"levels": 3},
    "hyminor": {"levels": 3},
    "forpdn": {"levels": 3},
    "wsrrr": {"iterations": 4},
    "otvca": {"iterations": 4},
    "fasthyde": {"k": 3, "search": 4},
    "fasthyin": {"k": 3, "search": 4},
    "fast-eigen": {"search": 4, "loops": 2},
}
CHANGE_CONSTANT_BANDS = ("savitzky-golay", "despike", "lrtdtv", "tv", "ngmeet")
"""They look along the bands, or at all bands at once."""
KEEP_COPIES_ALIKE = ("fast-eigen", "fasthyde", "fasthyin", "l1hymixde", "hyres", "wsrrr", "otvca", "forpdn")
CLEAN = {
    "fasthyde": 30,
    "fasthyin": 30,
    "l1hymixde": 30,
    "hyres": 30,
    "hyminor": 25,
    "wsrrr": 30,
    "otvca": 30,
    "forpdn": 30,
}
"""Least PSNR of what comes back where there is no noise [dB]; the others smooth what is clean, too."""
TABLE = [(case, m) for case in ("dead", "nan", "empty", "copy", "constant", "one", "tiny") for m in METHODS]
TABLE += [("clean", m) for m in CLEAN]


@pytest.fixture(scope="module")
def cubes(parity_dir: Path) -> dict[str, np.ndarray]:
    spec = importlib.util.spec_from_file_location("synthetic_cube", parity_dir / "restoration" / "synthetic_cube.py")
    assert spec is not None and spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(recipe)
    clean = recipe.clean(16, 24, 12).transpose(2, 0, 1).copy()
    noisy = recipe.noisy(recipe.clean(16, 24, 12), "gaussian").transpose(2, 0, 1).copy()
    made = {name: noisy.copy() for name in ("dead", "nan", "empty", "copy", "constant")} | {"clean": clean}
    made["dead"][4] = 0.25
    made["nan"][:, 5:8] = np.nan
    made["empty"][6] = np.nan
    made["copy"][3] = made["copy"][2]
    made["constant"][:] = 0.3
    made["one"] = noisy[:1]
    # More bands than pixels.
    made["tiny"] = np.concatenate([noisy, noisy[::-1] + 0.01 * noisy[:1], noisy**2], 0)[:, :7, :5]
    return made


@pytest.mark.parametrize(("case", "method"), TABLE)
def test_degenerate_cubes(cubes, case, method) -> None:
    values = cubes[case].astype(np.float32)
    before = values.copy()
    cube = ts.make_cube(values, quantity="dn")
    result = ts.restore(cube, method=method, settings=QUICK.get(method), account=False)
    out = result["cube"].values
    np.testing.assert_array_equal(values, before)
    seen = np.isfinite(values)
    if case == "empty" and method == "bad-pixels":
        seen[6] = True  # whose task it is to fill them
    np.testing.assert_array_equal(np.isfinite(out), seen)
    if case == "empty" and method != "bad-pixels":
        assert any("without any data stay so: 7" in note for note in result.report.notes)
    if case == "dead" and method not in CHANGE_CONSTANT_BANDS:
        np.testing.assert_allclose(out[4], 0.25, atol=1e-5)
    if case == "copy" and method in KEEP_COPIES_ALIKE:
        np.testing.assert_allclose(out[3], out[2], atol=1e-4)
    if case == "constant":
        np.testing.assert_allclose(out, 0.3, atol=1e-5)
    if case == "clean":
        assert -10 * np.log10(np.mean((out.astype(np.float64) - before) ** 2)) > CLEAN[method]
