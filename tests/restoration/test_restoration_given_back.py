"""What fast-eigen removes from clear bands is white, and nothing else changes for it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.metrics.restoration import residual_autocorrelation
from torchspectral.restoration.given_back import give, shares_to_give, smoothed
from torchspectral.synth import mixed_scene

QUICK = {"search": 4, "robust": "off"}


def scene(tied: float, rows: int = 48, cols: int = 52, level: float = 0.002) -> tuple[np.ndarray, np.ndarray]:
    """A clean scene, and with noise whose neighbours across track correlate by ``tied / (1 + tied**2)``."""
    clean = mixed_scene(16, rows, cols, snr=None, seed=5).values
    noise = np.random.default_rng(6).normal(0, level, (16, rows, cols + 1))
    return clean, (clean + noise[:, :, 1:] + tied * noise[:, :, :-1]).astype(np.float32)


def removed(values: np.ndarray, **settings) -> tuple[ts.Result, torch.Tensor]:
    result = ts.restore(
        ts.make_cube(values, quantity="reflectance"), method="fast-eigen", settings=QUICK | settings, account=False
    )
    return result, torch.from_numpy(values.astype(np.float64) - result["cube"].values)


def test_tied_noise_is_removed_no_further_than_it_is_white() -> None:
    clean, values = scene(0.5)
    before = residual_autocorrelation(removed(values, likeness=1)[1])
    result, rest = removed(values)
    assert before.median() > 0.3 and result["bands"]["snr"].min() > 30
    for lag in ((0, 1), (1, 0)):
        assert residual_autocorrelation(rest, lag).max() < 0.085
    figures, table = result.report.figures, result["bands"]["given_back"].to_numpy()
    assert figures["given_back_bands"] == (table > 0).sum() == 16 and 0.1 < figures["median_given_back"] < 0.6
    assert any("given back" in note for note in result.report.notes)
    # Most of the noise goes all the same.
    assert np.square(result["cube"].values - clean).mean() < 0.45 * np.square(values - clean).mean()


def test_white_noise_and_bands_that_are_not_clear_give_nothing_back() -> None:
    for values in (scene(0.0)[1], scene(0.5, level=0.05)[1]):
        result, rest = removed(values)
        assert result.report.figures["given_back_bands"] == 0
        torch.testing.assert_close(rest, removed(values, likeness=1)[1], rtol=0, atol=0)


def test_tiles_and_scale_and_a_turned_scene_give_the_same_back() -> None:
    values = scene(0.5)[1]
    result, rest = removed(values)
    cube = ts.make_cube(values, quantity="reflectance")
    tiled = ts.restore(cube, method="fast-eigen", settings=QUICK, account=False, tile=(24, 20))["cube"].values
    np.testing.assert_allclose(tiled, result["cube"].values, atol=1e-5 * np.ptp(values))
    assert tiled.shape == values.shape
    large, _ = removed(values * 1000)
    np.testing.assert_allclose(large["bands"]["given_back"], result["bands"]["given_back"], atol=2e-3)
    turned, other = removed(values.transpose(0, 2, 1).copy())
    np.testing.assert_allclose(turned["bands"]["given_back"], result["bands"]["given_back"], atol=0.03)
    assert (other.mT - rest).square().mean().sqrt() < 0.1 * rest.square().mean().sqrt()


def test_what_lies_on_nodata_reaches_no_neighbour() -> None:
    values = scene(0.5)[1]
    values[:, 20:23, 10:40] = np.nan
    values[:, :, 50] = np.nan
    result, _ = removed(values)
    full, whole = removed(values, likeness=1)
    assert result.report.figures["given_back_bands"] == 16
    np.testing.assert_array_equal(np.isfinite(result["cube"].values), np.isfinite(values))
    back = torch.from_numpy(result["cube"].values.astype(np.float64) - full["cube"].values).nan_to_num()
    empty = whole.nan_to_num()
    for band in range(16):
        kernels = torch.stack([smoothed(empty[band], -1), smoothed(empty[band], -2)])
        kernels = torch.where(whole[band].isfinite(), kernels, 0.0).flatten(1).T
        left = (
            back[band].flatten() - kernels @ torch.linalg.lstsq(kernels, back[band].flatten()[:, None]).solution[:, 0]
        )
        assert left.abs().max() < 1e-3 * whole[band].nan_to_num().std()


class Plain:
    """A source of one tile."""

    def __init__(self, values: torch.Tensor) -> None:
        from torchspectral.engine.method import SceneInfo, Tile, Window

        window = Window(0, 0, *values.shape[1:])
        valid = torch.ones(1, 1, *values.shape[1:], dtype=torch.bool)
        info = SceneInfo(tuple(values.shape[1:]), np.full(len(values), np.nan), np.full(len(values), np.nan))
        self.tile = Tile({"cube": values[None]}, window, window, valid, info)

    def reduce(self, f, merge):
        return f(self.tile)


@pytest.mark.parametrize("likeness", [0.0, 0.08, 0.3])
@pytest.mark.parametrize("ties", [(0.6, 0.0), (0.0, 0.4), (0.5, 0.5), (0.9, 0.2)])
def test_the_least_share_meets_the_limit_in_both_directions(likeness, ties) -> None:
    noise = torch.from_numpy(np.random.default_rng(0).normal(size=(2, 90, 81)))
    noise = noise[:, :, 1:] + ties[0] * noise[:, :, :-1]
    noise = noise[:, 1:] + ties[1] * noise[:, :-1]
    shares, given = shares_to_give(Plain(noise), lambda tile: tile["cube"], torch.arange(2), likeness)
    assert (shares >= 0).all() and (shares.sum(0) <= 1).all() and ((given >= 0) & (given < 1)).all()
    rest = noise - give(noise[None], shares)[0]
    likes = torch.stack([residual_autocorrelation(rest, lag) for lag in ((0, 1), (1, 0))])
    assert likes.max() < likeness + 5e-3
    # No further than asked for: where something goes back the limit is met, not passed.
    assert (likes[shares > 0] > likeness - 5e-3).all()
    raw = torch.stack([residual_autocorrelation(noise, lag) for lag in ((0, 1), (1, 0))])
    assert ((shares == 0) | (raw > likeness - 0.05)).all()


def test_smoothing_is_the_kernel_in_both_directions_and_on_single_lines() -> None:
    values = torch.tensor([[[0.0, 4, 0, 0]]])
    assert smoothed(values, -1).tolist() == [[[1, 2, 1, 0]]]
    assert smoothed(values, -2).tolist() == [[[0, 2, 0, 0]]]
    power = smoothed(torch.eye(9, dtype=torch.float64)[None], -1)[0]
    strengths = torch.linalg.eigvalsh(power)
    assert strengths.min() > 0 and strengths.max() < 1
