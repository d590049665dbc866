"""The method that docs/add-a-method.md builds works as it stands there."""

from __future__ import annotations

import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
import yaml

import torchspectral as ts
from torchspectral.registry import Card

TEXT = (Path(__file__).resolve().parents[2] / "docs" / "add-a-method.md").read_text(encoding="utf-8")


def block(language: str, number: int = 0) -> str:
    return re.findall(rf"```{language}\n(.*?)```", TEXT, flags=re.DOTALL)[number]


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
    made = types.ModuleType("documented_median")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    exec(compile(block("python"), "add-a-method.md", "exec"), made.__dict__)
    return made


def test_documented_method_runs_tiled_as_untiled(module: types.ModuleType) -> None:
    data = np.random.default_rng(0).random((4, 40, 33)).astype(np.float32)
    cube = ts.make_cube(data, wavelength=np.linspace(500, 800, 4), quantity="reflectance")
    method = module.Median(module.MedianSettings.make(radius=2))
    whole, tiled = (
        ts.run(method, {"cube": cube}, options=ts.RunOptions(tile=tile)).primary for tile in (None, (16, 16))
    )
    expected = np.stack([scipy.ndimage.median_filter(band, 5, mode="nearest") for band in data])
    np.testing.assert_allclose(whole.values, expected, atol=1e-6)
    np.testing.assert_array_equal(whole.values, tiled.values)


def test_documented_cards_are_cards() -> None:
    (row,) = yaml.safe_load(block("yaml"))
    assert Card(room="restoration", **row).scope == "local"
    from torchspectral.weights import ModelCard, models

    (row,) = yaml.safe_load(block("yaml", 1))
    assert models()["hyperpnn"].target == ModelCard(**row).target
