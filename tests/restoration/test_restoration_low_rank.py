"""Low-rank denoisers: floors on cubes whose truth is known, and what each promises."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.errors import BadInput
from torchspectral.restoration.classical.lrmr import godec
from torchspectral.restoration.classical.lrtv import singular_value_threshold
from torchspectral.restoration.classical.ngmeet import _shrunk


@pytest.fixture(scope="module")
def recipe(parity_dir: Path):
    spec = importlib.util.spec_from_file_location("synthetic_cube", parity_dir / "restoration" / "synthetic_cube.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def decibels(recipe, method: str, kind: str, **settings) -> float:
    clean = recipe.clean()
    cube = ts.make_cube(recipe.noisy(clean, kind).transpose(2, 0, 1), quantity="reflectance")
    found = ts.restore(cube, method=method, settings=settings, account=False)["cube"].values
    return float(-10 * np.log10(np.mean((found - clean.transpose(2, 0, 1)) ** 2)))


@pytest.mark.parametrize(
    ("method", "floors"),
    [
        ("pca", (28.5, 20.5, 17.0)),
        ("lrmr", (25.8, 24.7, 21.2)),
        ("lrtv", (31.6, 31.8, 30.7)),
    ],
)
def test_floors(recipe, method, floors) -> None:
    for kind, floor in zip(("gaussian", "noniid", "mixture"), floors, strict=True):
        assert decibels(recipe, method, kind) > floor, kind


def test_ngmeet_is_for_white_noise(recipe) -> None:
    assert decibels(recipe, "ngmeet", "gaussian", iterations=2) > 35.0


def test_lower_rank_and_units_of_noise_help_lrmr(recipe) -> None:
    assert decibels(recipe, "lrmr", "noniid", rank=4, units="noise") > decibels(recipe, "lrmr", "noniid") + 4


def test_components_by_number_by_share_and_by_the_noise(recipe) -> None:
    cube = ts.make_cube(recipe.noisy(recipe.clean(), "gaussian").transpose(2, 0, 1), quantity="reflectance")
    own = ts.restore(cube, method="pca").report.figures["components"]
    assert 2 <= own <= 5
    five = ts.restore(cube, method="pca", settings={"components": 5})
    assert five.report.figures["components"] == 5
    flat = five["cube"].values.reshape(32, -1)
    assert np.linalg.matrix_rank(flat - flat.mean(1, keepdims=True), tol=1e-3) == 5
    share = ts.restore(cube, method="pca", settings={"variance": 0.9}).report.figures
    assert share["variance_kept"] >= 0.9 and share["components"] > own
    with pytest.raises(BadInput, match="components=40 for 32 bands"):
        ts.restore(cube, method="pca", settings={"components": 40})


def test_godec_parts_a_matrix_of_low_rank_from_outliers() -> None:
    gen = torch.Generator().manual_seed(0)
    low = torch.randn(2, 20, 3, generator=gen) @ torch.randn(2, 3, 200, generator=gen)
    hit = torch.rand(2, 20, 200, generator=gen) < 0.05
    found = godec(low + 5 * hit, torch.randn(20, 3, generator=gen), torch.full((20, 1), 0.05), 200)
    assert float((found - low).square().mean().sqrt()) < 0.02


def test_shrunk_singular_values() -> None:
    gen = torch.Generator().manual_seed(1)
    matrix = torch.randn(6, 50, generator=gen, dtype=torch.float64)
    u, s, v = torch.linalg.svd(matrix, full_matrices=False)
    wanted = (u * torch.where(torch.arange(6) < 4, (s - 0.5).clamp_min(0), 0.0)) @ v
    torch.testing.assert_close(singular_value_threshold(matrix, 0.5, 4), wanted)
    limit = 11.0
    closed = torch.where(s**2 > 4 * limit, (s + (s**2 - 4 * limit).clamp_min(0).sqrt()) / 2, 0.0)
    for one in (matrix, matrix.T):
        shrunk = _shrunk(one[None], torch.tensor([limit], dtype=torch.float64))[0]
        torch.testing.assert_close(torch.linalg.svdvals(shrunk), closed)
