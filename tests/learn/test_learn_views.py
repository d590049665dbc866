"""Views: cuts, symmetries, holes, spectra; schedules; followers."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchspectral.errors import BadSettings
from torchspectral.learn.average import follow, follower
from torchspectral.learn.schedules import cosine, stepped, warmed_up
from torchspectral.learn.views import (
    FLIP_COLS,
    FLIP_ROWS,
    GAIN,
    HEIGHT,
    LEFT,
    SIGMA,
    TOP,
    TURN,
    WIDTH,
    ViewPlan,
    kernel_side,
    make_view,
)

PLAIN = ViewPlan(size=16, scale=(1.0, 1.0), ratio=(1.0, 1.0), flips=False)
ALL = ViewPlan(
    size=24, turns=True, blur=0.7, gain=0.2, offset=0.1, masked_bands=0.3, scale=(0.05, 1.0), sigma=(0.5, 2.0)
)


def images(n: int = 3, bands: int = 5, side: int = 16, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, bands, side, side, generator=torch.Generator().manual_seed(seed))


def drawn(plan: ViewPlan, n: int, bands: int, side: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(np.stack([plan.draw(side, side, bands, rng) for _ in range(n)]))


def test_whole_views_are_the_images_and_symmetries_those_of_the_square() -> None:
    x = images()
    numbers = drawn(PLAIN, 3, 5, 16)
    torch.testing.assert_close(make_view(x, numbers, PLAIN).values, x, atol=2e-6, rtol=0)
    made = set()
    for turn in range(4):
        for mirrored in (0, 1):
            numbers[:, TURN], numbers[:, FLIP_COLS], numbers[:, FLIP_ROWS] = turn, mirrored, 0
            got = make_view(x, numbers, PLAIN).values
            same = [
                (k, f)
                for k in range(4)
                for f in (False, True)
                if torch.allclose(got, torch.rot90(x.flip(-1) if f else x, k, (-2, -1)), atol=1e-5)
            ]
            assert len(same) == 1
            made.add(same[0])
    assert len(made) == 8
    cut = drawn(PLAIN, 3, 5, 16)
    cut[:, [TOP, LEFT, HEIGHT, WIDTH]] = torch.tensor([3.0, 5.0, 8.0, 6.0])
    small = ViewPlan(size=8, flips=False)
    expected = torch.nn.functional.interpolate(x[..., 3:11, 5:11], (8, 8), mode="bilinear", align_corners=False)
    # Inside, where the interpolation does not look beyond the cut.
    torch.testing.assert_close(make_view(x, cut, small).values[..., 1:-1], expected[..., 1:-1], atol=1e-5, rtol=0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 9), st.integers(8, 40))
def test_spectra_keep_their_shape_and_draws_stay_inside(seed: int, bands: int, side: int) -> None:
    spectrum = torch.rand(bands, generator=torch.Generator().manual_seed(seed)) + 0.1
    x = images(2, 1, side, seed) * spectrum[None, :, None, None]
    plan = ViewPlan(size=24, turns=True, blur=0.7, gain=0.2, scale=(0.05, 1.0))
    numbers = drawn(plan, 2, bands, side, seed)
    assert (numbers[:, TOP] + numbers[:, HEIGHT] <= side).all() and (numbers[:, LEFT] + numbers[:, WIDTH] <= side).all()
    assert (numbers[:, [HEIGHT, WIDTH]] >= 1).all() and (numbers[:, [TOP, LEFT]] >= 0).all()
    made = make_view(x, numbers, plan)
    ratio = made.values / spectrum[None, :, None, None]
    torch.testing.assert_close(ratio, ratio[:, :1].expand_as(ratio), rtol=1e-4, atol=1e-6)
    assert made.valid is None and made.bands is None


def test_nodata_gives_nothing_to_its_neighbours() -> None:
    x, valid = images(4, 3, 20) * 0 + 0.5, torch.ones(4, 1, 20, 20)
    valid[:, :, 4:9, 6:12] = 0
    x = torch.where(valid > 0, x, torch.nan)
    plan = ViewPlan(size=20, blur=1.0, sigma=(1.0, 2.0), scale=(0.5, 1.0), turns=True)
    made = make_view(x, drawn(plan, 4, 3, 20), plan, valid)
    assert made.valid is not None and made.valid.dtype == torch.bool and not made.valid.all()
    seen = made.valid.expand_as(made.values)
    torch.testing.assert_close(made.values[seen], torch.full_like(made.values[seen], 0.5), rtol=1e-5, atol=1e-6)
    assert (made.values[~seen] == 0).all()
    assert make_view(x.nan_to_num(0.5), drawn(plan, 4, 3, 20), plan, valid * 0 + 1).valid is None


def test_a_sample_has_its_own_view_whatever_stands_beside_it() -> None:
    x, numbers = images(4, 6, 32), drawn(ALL, 4, 6, 32)
    whole = make_view(x, numbers, ALL)
    alone = make_view(x[2:3], numbers[2:3], ALL)
    torch.testing.assert_close(whole.values[2:3], alone.values, rtol=1e-5, atol=1e-6)
    assert whole.bands is not None and (whole.bands.sum(1) == 6 - int(0.3 * 6)).all()
    assert whole.seen is not None and whole.seen.shape == (4, 6, 1, 1)
    assert len({tuple(row) for row in numbers[:, :4].tolist()}) > 1
    assert kernel_side(128) == 13 and kernel_side(48) == 5 and kernel_side(8) == 1
    assert (numbers[:, SIGMA] > 0).any() and numbers[:, GAIN].min() >= 0.8
    bent = ViewPlan(size=32, scale=(1.0, 1.0), ratio=(1.0, 1.0), flips=False, spectral=0.3)
    numbers = drawn(bent, 4, 6, 32)
    assert (make_view(x, numbers, bent).values / x).std(1).mean() > 0.02
    for wrong in ({"scale": (0.0, 1.0)}, {"scale": (0.5, 1.5)}, {"sigma": (2.0, 1.0)}):
        with pytest.raises(BadSettings):
            ViewPlan(size=8, **wrong)


def test_schedules() -> None:
    assert cosine(0.996, 1.0, 0.0) == pytest.approx(0.996) and cosine(0.996, 1.0, 2.0) == 1.0
    rates = [warmed_up(step, 100, 0.2) for step in range(101)]
    assert 0 < rates[0] < rates[10] < rates[20] == 1.0 and rates[60] == pytest.approx(0.5) and rates[100] == 0.0
    assert [stepped(done, (0.6, 0.8)) for done in (0.5, 0.6, 0.9)] == pytest.approx([1, 0.1, 0.01])


def test_a_follower_moves_and_learns_nothing() -> None:
    torch.manual_seed(0)
    network = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    teacher = follower(network)
    before = [p.clone() for p in teacher.parameters()]
    with torch.no_grad():
        for p in network.parameters():
            p += 1
    network(torch.rand(5, 3))
    follow(teacher, network, 0.9)
    for p, old in zip(teacher.parameters(), before, strict=True):
        torch.testing.assert_close(p, old + 0.1)
        assert not p.requires_grad
    assert teacher[1].num_batches_tracked == 0 and network[1].num_batches_tracked == 1
