"""Bounded least squares and simplex least squares from cross products, against SciPy and optimality conditions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import lsq_linear

from torchspectral.ops.bvls import bvls_gram, simplex_gram
from torchspectral.ops.fcls import fcls
from torchspectral.ops.superpixels import means_of, slic


@pytest.mark.parametrize(("p", "bands", "low", "high"), [(3, 10, 0.0, 1.0), (6, 9, 0.1, 0.4), (12, 20, -0.2, 0.3)])
def test_bvls_is_scipys(p: int, bands: int, low: float, high: float) -> None:
    random = np.random.default_rng(p)
    e = random.random((bands, p)) * random.uniform(0.1, 10, p)
    y = e @ random.uniform(-0.5, 1.5, (p, 40)) + 0.1 * random.standard_normal((bands, 40))
    found = bvls_gram(torch.from_numpy(e.T @ e), torch.from_numpy(e.T @ y), low, high).numpy()
    for n in range(y.shape[1]):
        want = lsq_linear(e, y[:, n], bounds=(low, high), tol=1e-14, max_iter=500).x
        np.testing.assert_allclose(found[:, n], want, atol=2e-6)
    assert found.min() >= low and found.max() <= high


def test_bvls_of_dependent_columns_is_optimal() -> None:
    random = np.random.default_rng(0)
    e = np.repeat(random.random((8, 4)), 3, axis=1)
    y = random.random((8, 50)) * 3
    gram, right = torch.from_numpy(e.T @ e), torch.from_numpy(e.T @ y)
    x = bvls_gram(gram, right)
    slope = gram @ x - right
    assert float((slope.abs() * ((x > 1e-9) & (x < 1 - 1e-9))).max()) < 1e-8
    assert float((-slope * (x <= 1e-9)).max()) < 1e-8 and float((slope * (x >= 1 - 1e-9)).max()) < 1e-8


def test_simplex_is_fcls() -> None:
    random = np.random.default_rng(3)
    e, y = torch.from_numpy(random.random((5, 12))), torch.from_numpy(random.random((12, 60)))
    np.testing.assert_allclose(simplex_gram(e @ e.T, e @ y), fcls(y, e), atol=1e-9)


def test_superpixels_follow_edges_and_holes() -> None:
    cube = torch.zeros((3, 24, 30), dtype=torch.float64)
    cube[:, :, 13:] = 1.0
    valid = torch.ones((24, 30), dtype=torch.bool)
    valid[3:6, 4:9] = False
    labels = slic(cube, 6, 0.005, valid)
    assert bool((labels[~valid] == -1).all()) and int(labels.min()) == -1
    found = labels[valid]
    assert found.unique().tolist() == list(range(int(found.max()) + 1)) and 10 < int(found.max()) < 40
    means = means_of(cube[:, valid], found)
    assert bool(((means == 0) | (means == 1)).all()), "a superpixel crosses the edge"
