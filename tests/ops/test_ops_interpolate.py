from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchspectral.errors import BadSettings, GridMismatch
from torchspectral.ops import interpolate
from torchspectral.ops.axis import BLOCK, AxisOperator, apply, border_index, correlation

RATIOS = [2, 3, 4, 5, 6, 7, 8, 9, 10, 12]


@settings(max_examples=20, deadline=None)
@given(st.sampled_from(RATIOS), st.integers(1, 9), st.integers(1, 9), st.sampled_from(["symmetric", "wrap"]))
def test_samples_stay_and_decimation_undoes_it(ratio: int, rows: int, cols: int, border: str) -> None:
    image = torch.rand(2, rows, cols, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    fine = interpolate.ideal_interp(image, ratio, border=border)
    assert fine.shape == (2, ratio * rows, ratio * cols)
    assert torch.allclose(interpolate.decimate(fine, ratio), image, atol=1e-9)


@pytest.mark.parametrize("ratio", RATIOS)
def test_constants_and_smooth_waves_are_kept(ratio: int) -> None:
    ones = torch.ones(1, 5, 40, dtype=torch.float64)
    assert torch.allclose(interpolate.ideal_interp(ones, ratio), torch.ones(()).double(), atol=1e-8)
    place = torch.arange(200, dtype=torch.float64)
    wave = torch.sin(2 * np.pi * place / 9)[None, None]
    fine = interpolate.ideal_operator(200, ratio).cols(wave)[0, 0]
    truth = torch.sin(2 * np.pi * (torch.arange(200 * ratio) - ratio // 2) / ratio / 9)
    middle = slice(40 * ratio, 160 * ratio)
    assert float((fine - truth)[middle].abs().max()) < 0.02


@pytest.mark.parametrize("ratio", RATIOS)
@pytest.mark.parametrize("border", ["symmetric", "wrap"])
def test_halo_covers_the_support(ratio: int, border: str) -> None:
    halo = interpolate.interpolation_halo(ratio)
    size = 2 * halo + 21
    whole = interpolate.ideal_operator(size, ratio, border).matrix.toarray()
    cut = interpolate.ideal_operator(2 * halo + 1, ratio, border).matrix.toarray()
    centre = 10 + halo
    inner = whole[centre * ratio : (centre + 1) * ratio]
    assert np.abs(np.delete(inner, np.arange(centre - halo, centre + halo + 1), axis=1)).max() == 0
    assert np.allclose(inner[:, centre - halo : centre + halo + 1], cut[halo * ratio : (halo + 1) * ratio], atol=1e-15)


def test_blocks_change_nothing() -> None:
    operator = interpolate.ideal_operator(150, 4)
    image = torch.rand(3, 150, 7, dtype=torch.float64)
    assert operator.shape[0] > 2 * BLOCK
    dense = torch.from_numpy(operator.matrix.toarray())
    assert torch.allclose(operator.rows(image), dense @ image, atol=1e-12)
    assert torch.allclose(operator.cols(image.mT), (dense @ image).mT, atol=1e-12)


def test_adjoint_is_exact() -> None:
    rows, cols = interpolate.ideal_operator(11, 6), interpolate.ideal_operator(8, 6)
    x, y = torch.rand(1, 11, 8).double(), torch.rand(1, 66, 48).double()
    forward = (apply(x, rows, cols) * y).sum()
    backward = (x * apply(y, rows.adjoint(), cols.adjoint())).sum()
    assert torch.allclose(forward, backward)


def test_large_images_cost_no_dense_matrix() -> None:
    operator = interpolate.ideal_operator(5000, 2)
    assert operator.matrix.nnz < 5000 * 2 * 13
    assert max(piece.numel() for *_, piece in operator.blocks(torch.float32, torch.device("cpu"))) < BLOCK * (
        BLOCK + 64
    )


@pytest.mark.parametrize("ratio", [1, 0, -2, 2.5, "4", True])
def test_bad_ratios_are_refused(ratio: object) -> None:
    with pytest.raises(BadSettings):
        interpolate.ideal_interp(torch.zeros(1, 4, 4), ratio)  # type: ignore[arg-type]


def test_ragged_decimation_is_refused() -> None:
    with pytest.raises(GridMismatch):
        interpolate.decimate(torch.zeros(1, 9, 8), 4)


@given(st.integers(1, 6), st.integers(-20, 20), st.sampled_from(["symmetric", "reflect", "edge", "wrap"]))
def test_border_is_numpys(size: int, index: int, border: str) -> None:
    padded = np.pad(np.arange(size), 20, mode=border if size > 1 or border == "wrap" else "edge")
    assert border_index(np.array([index]), size, border)[0] == padded[min(index, size + 19) + 20] or index >= size + 20


def test_correlation_and_empty_rows() -> None:
    image = torch.arange(6.0).double().reshape(1, 1, 6)
    assert correlation(6, [1, 0, 0], "edge").cols(image).tolist() == [[[0, 0, 1, 2, 3, 4]]]
    assert AxisOperator(np.zeros((3, 6))).cols(image).tolist() == [[[0, 0, 0]]]
