"""Fitting a deep prior: losses fall, fits resume bit for bit, the decimation stands on the interpolator's grid."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.errors import BadWeights, TooLarge
from torchspectral.ops.interpolate import decimate, ideal_interp
from torchspectral.sharpening.deep.prior_fit import (
    PriorPlan,
    PriorScene,
    draw_prior,
    fit_prior,
    lanczos_operator,
    prior_image,
)
from torchspectral.sharpening.deep.priors import lanczos

PLANS = {
    "dip": PriorPlan("dip", 30, 1e-2, drop=25, channels=8),
    "dhp": PriorPlan("dhp", 30, 1e-2, channels=8),
}
SHORT = {"dip": PriorPlan("dip", 12, 1e-2, drop=8, channels=8), "dhp": PriorPlan("dhp", 12, 1e-2, channels=8)}
"""Two rounds and a part: what the structure of a fit needs."""


def _scene(rows: int = 18, cols: int = 21, ratio: int = 2, hole: bool = False) -> PriorScene:
    torch.manual_seed(1)
    low = torch.rand(1, 4, rows // 3, cols // 3).repeat_interleave(3, -1).repeat_interleave(3, -2) * 0.5
    valid = torch.ones(1, 1, rows, cols)
    if hole:
        valid[..., 4:9, 3:7] = 0
    return PriorScene(low, ideal_interp(low.mean(1, keepdim=True), ratio), valid)


@pytest.mark.parametrize("kind", PLANS)
def test_the_loss_falls(kind: str) -> None:
    found: dict = {}
    fractions = list(fit_prior(PLANS[kind], _scene(), 0, found))
    losses = found["prior.losses"]
    assert fractions == sorted(fractions) and fractions[-1] == 1 and losses[-1] < 0.7 * losses[0]
    assert not any(".adam." in key for key in found)
    drawn = draw_prior(PLANS[kind], found, _scene().pan, 4)
    assert drawn.shape == (1, 4, 36, 42)
    assert torch.equal(drawn, draw_prior(PLANS[kind], found, _scene().pan, 4))


@pytest.mark.parametrize("kind", SHORT)
def test_a_stopped_fit_goes_on_bit_for_bit(kind: str) -> None:
    whole: dict = {}
    list(fit_prior(SHORT[kind], _scene(), 3, whole))
    found: dict = {}
    rounds = fit_prior(SHORT[kind], _scene(), 3, found)
    for _ in range(2):
        next(rounds)
    kept = {key: value.clone() if isinstance(value, torch.Tensor) else value for key, value in found.items()}
    assert any(".adam." in key for key in kept)
    list(fit_prior(SHORT[kind], _scene(), 3, kept))
    assert set(kept) == set(whole)
    for key, value in whole.items():
        assert torch.equal(value, kept[key]) if isinstance(value, torch.Tensor) else value == kept[key]
    assert torch.equal(draw_prior(SHORT[kind], whole, _scene().pan, 4), prior_image(SHORT[kind], _scene(), 3))


def test_what_nodata_holds_does_not_matter() -> None:
    scene = _scene(hole=True)
    other = PriorScene(scene.low.clone(), scene.pan.clone(), scene.valid)
    other.low[..., 4:9, 3:7] = 7.0
    other.pan[..., 8:18, 6:14] = -3.0
    for plan in SHORT.values():
        assert torch.equal(prior_image(plan, scene, 0), prior_image(plan, other, 0))


@pytest.mark.parametrize("ratio", [2, 3, 6])
def test_lanczos_decimates_on_the_interpolators_grid(ratio: int) -> None:
    line = torch.linspace(0, 1, 30 * ratio, dtype=torch.float64)
    image = line[:, None] + line[None, :]
    matrix = torch.from_numpy(lanczos_operator(30 * ratio, ratio).matrix.toarray())
    inner = slice(3, -3)
    mine = (matrix @ image @ matrix.T)[inner, inner]
    torch.testing.assert_close(mine, decimate(image, ratio)[inner, inner])
    theirs = torch.from_numpy(lanczos_operator(30 * ratio, ratio, True).matrix.toarray()) @ line
    shift = (theirs - matrix @ line)[inner] / line[1]
    assert torch.allclose(shift, torch.full_like(shift, -0.5 if ratio % 2 == 0 else 0.5))
    assert lanczos(ratio, 0.5).size == 4 * ratio and lanczos(2, 0).size == 9


def test_small_and_odd_scenes_have_a_larger_canvas() -> None:
    for size in ((1, 3), (9, 17)):
        assert prior_image(SHORT["dip"], _scene_of(*size), 0).shape == (1, 2, 3 * size[0], 3 * size[1])


def _scene_of(rows: int, cols: int) -> PriorScene:
    return PriorScene(torch.rand(1, 2, rows, cols), torch.rand(1, 1, 3 * rows, 3 * cols), torch.ones(1, 1, rows, cols))


def _pair(bands: int = 4):
    rng = np.random.default_rng(0)
    hs = ts.make_cube(rng.uniform(0.1, 0.5, (bands, 12, 12)).astype(np.float32), quantity="reflectance")
    return hs, ts.make_cube(rng.uniform(0.1, 0.5, (1, 24, 24)).astype(np.float32))


def _state(name: str, bands: int = 4) -> dict:
    torch.manual_seed(0)
    return dict(ts.create_model(name, bands=bands, features=4).state_dict())


@pytest.mark.parametrize("name", ["dhp-darn", "dip-hyperkite"])
def test_the_network_corrects_the_prior_and_the_result_is_clipped(name: str) -> None:
    hs, pan = _pair()
    settings = {"iterations": 6, "channels": 4, "gain": 0.4}
    result = ts.sharpen(hs, pan, method=name, state=_state(name), settings=settings)
    assert len(result.report.figures["prior losses"]) == 6
    assert float(result["cube"].min()) >= 0 and float(result["cube"].max()) <= np.float32(0.4)
    free = ts.sharpen(hs, pan, method=name, state=_state(name), settings={**settings, "clip": False})["cube"]
    assert float(free.min()) < 0 or float(free.max()) > 0.4
    plain = ts.sharpen(hs, pan, method=name, state=_state(name), settings={"prior": "interpolated", "gain": 1.0})
    low, fine = torch.from_numpy(hs.values)[None], torch.from_numpy(pan.values)[None]
    network = ts.create_model(name, bands=4, features=4).eval()
    network.load_state_dict(_state(name))
    with torch.no_grad():
        expected = network(fine, ideal_interp(low, 2).clamp(0, 1)).clamp(0, 1)[0]
    assert np.abs(plain["cube"].values - expected.numpy()).max() < 1e-5


def test_memory_is_asked_before_the_work_and_states_must_fit() -> None:
    hs, pan = _pair()
    with pytest.raises(TooLarge):
        ts.sharpen(hs, pan, method="dhp-darn", state=_state("dhp-darn"), max_memory="1MB")
    found: dict = {}
    list(fit_prior(SHORT["dip"], _scene(), 0, found))
    with pytest.raises(BadWeights, match="fit this scene again"):
        draw_prior(PLANS["dip"], found, _scene().pan, 5)
