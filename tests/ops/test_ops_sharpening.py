from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage
from scipy.optimize import nnls as scipy_nnls

from torchspectral.ops.bilinear import bilinear_enlarge, bilinear_reduce
from torchspectral.ops.morphology import dilate, erode, half_gradient, half_gradient_lowpass
from torchspectral.ops.nnls import kkt_violation, nnls_gram
from torchspectral.ops.omp import pursue

CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]])


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 14), st.integers(1, 30), st.integers(0, 1000))
def test_nnls_is_exact(unknowns: int, samples: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    design = rng.normal(size=(samples, unknowns)) * 10.0 ** rng.integers(-3, 3, unknowns)
    design[:, unknowns // 2] = design[:, 0]  # dependent columns too
    wanted = rng.normal(size=(samples, 5))
    gram, right = torch.from_numpy(design.T @ design), torch.from_numpy(design.T @ wanted)
    ours = nnls_gram(gram, right)
    assert float(ours.min()) >= 0 and kkt_violation(gram, right, ours) < 1e-7
    for column in range(5):
        _, error = scipy_nnls(design, wanted[:, column])
        assert np.linalg.norm(design @ ours[:, column].numpy() - wanted[:, column]) == pytest.approx(error, abs=1e-6)


def test_nnls_of_many_similar_columns() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(8, 2000)).cumsum(1)
    design = (rng.random((120, 8)) @ base + 0.3 * rng.normal(size=(120, 2000))).T
    wanted = (rng.normal(size=(40, 8)) @ base).T
    gram, right = torch.from_numpy(design.T @ design), torch.from_numpy(design.T @ wanted)
    ours = nnls_gram(gram, right)
    assert kkt_violation(gram, right, ours) < 1e-9
    for column in (0, 17, 39):
        assert np.allclose(ours[:, column].numpy(), scipy_nnls(design, wanted[:, column])[0], atol=1e-7)


@pytest.mark.parametrize("shape", [(7, 9), (1, 5), (1, 1)])
def test_morphology_is_scipys_with_a_border_that_does_not_count(shape: tuple[int, int]) -> None:
    image = np.random.default_rng(1).normal(size=shape)
    tensor = torch.from_numpy(image)[None, None]
    wide = ndimage.grey_dilation(image, footprint=CROSS, mode="constant", cval=-np.inf)
    assert np.array_equal(dilate(tensor)[0, 0].numpy(), wide)
    thin = ndimage.grey_erosion(image, footprint=CROSS, mode="constant", cval=np.inf)
    assert np.array_equal(erode(tensor)[0, 0].numpy(), thin)
    inner, outer = image - thin, wide - image
    assert np.allclose(half_gradient(tensor)[0, 0].numpy(), image - (inner - outer) / 2)


@pytest.mark.parametrize("ratio", [2, 3, 4, 6, 8])
def test_half_gradient_pyramid(ratio: int) -> None:
    image = torch.from_numpy(np.random.default_rng(2).normal(size=(1, 1, 48, 72)))
    low = half_gradient_lowpass(image, ratio)
    assert low.shape == image.shape and float(low.std()) < 0.7 * float(image.std())
    assert torch.allclose(low, half_gradient_lowpass(image, ratio, stretch=True))  # sizes divide
    assert torch.allclose(half_gradient_lowpass(3 * image - 5, ratio), 3 * low - 5)
    odd = half_gradient_lowpass(image[..., :47, :71], ratio)
    assert odd.shape[-2:] == (47, 71) and torch.allclose(odd[..., :16, :16], low[..., :16, :16])
    edge = torch.zeros(1, 1, 48, 48, dtype=torch.float64)
    edge[..., 24:] = 1
    assert float(half_gradient_lowpass(edge, ratio)[..., 8:-8, 2].abs().max()) < 1e-12


@pytest.mark.parametrize("ratio", [2, 3, 6])
def test_bilinear_is_torchs(ratio: int) -> None:
    fine = torch.from_numpy(np.random.default_rng(3).normal(size=(2, 5 * ratio, 7 * ratio)))
    resize = torch.nn.functional.interpolate
    small = resize(fine[None], size=(5, 7), mode="bilinear", antialias=True)[0]
    assert torch.allclose(bilinear_reduce(fine, ratio), small)
    large = resize(small[None], scale_factor=ratio, mode="bilinear")[0]
    assert torch.allclose(bilinear_enlarge(small, ratio), large)


def _plain_pursuit(dictionary: np.ndarray, signal: np.ndarray, atoms: int, first: np.ndarray) -> np.ndarray:
    chosen = [first]
    for _ in range(atoms - 1):
        code = np.linalg.lstsq(np.stack(chosen, 1), signal, rcond=None)[0]
        rest = signal - np.stack(chosen, 1) @ code
        chosen.append(dictionary[:, np.abs(dictionary.T @ rest).argmax()])
    code = np.linalg.lstsq(np.stack(chosen, 1), signal, rcond=None)[0]
    return np.stack(chosen, 1) @ code


def test_pursuit_agrees_with_one_signal_at_a_time() -> None:
    rng = np.random.default_rng(5)
    dictionary, signals, first = rng.normal(size=(20, 50)), rng.normal(size=(7, 20)), rng.normal(size=(7, 20))
    found = pursue(*(torch.from_numpy(a) for a in (dictionary, signals)), 6, first=torch.from_numpy(first))
    codes = found.coefficients(torch.from_numpy(signals)[:, :, None])[:, :, 0].numpy()
    for number in range(7):
        atoms = np.stack([first[number], *dictionary.T[found.index[number, 1:].numpy()]], 1)
        expected = _plain_pursuit(dictionary, signals[number], 6, first[number])
        assert np.allclose(atoms @ codes[number], expected)


def test_pursuit_ends_where_nothing_is_left() -> None:
    dictionary = torch.eye(4, 3, dtype=torch.float64)
    signals = torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 3.0]], dtype=torch.float64)
    found = pursue(dictionary, signals, 4)
    assert (found.index >= 0).sum(1).tolist() == [2, 0, 0]
    assert found.index[0, :2].tolist() == [1, 0]
    codes = found.coefficients(signals[:, :, None])[..., 0]
    assert codes[0].tolist() == [2.0, 1.0, 0.0, 0.0] and not codes[1:].any()
    none = pursue(dictionary, signals, 2, first=torch.zeros(3, 4, dtype=torch.float64))
    assert not none.coefficients(signals[:, :, None]).any()
