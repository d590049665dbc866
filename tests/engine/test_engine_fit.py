"""What `fit` sees of a scene, and what becomes of its state."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from engine_methods import Diffuse, Learn, Negate, Whole, scene
from torch.nn import functional

import torchspectral as ts
from torchspectral.errors import BadInput, BadWeights, TooLarge
from torchspectral.log import Step


def run(method, cube, state=None, progress=None, **options):
    more = {} if progress is None else {"progress": progress}
    return ts.run(method, {"cube": cube}, options=ts.RunOptions(**options), state=state, **more)


def state_of(method, cube, **options):
    """The state that a run fits, as `apply` gets it."""
    seen = {}

    class Spy(type(method)):
        def apply(self, tile, state):
            seen.update(state)
            return super().apply(tile, state)

    Spy.__module__ = type(method).__module__
    run(Spy(method.settings), cube, **options)
    return seen


def valid_pixels(cube):
    values = cube.values[cube["good"].values]
    keep = ~np.isnan(values).all(0)
    return keep, values


def test_gram_sample_reduce_and_patches():
    cube = scene()
    cube = cube.fillna(cube.mean("band"))
    keep, values = valid_pixels(cube)
    pixels = values[:, keep].astype(np.float64)
    found = state_of(Learn(), cube, tile=(16, 16))
    assert found["n"] == found["count"] == keep.sum()
    np.testing.assert_allclose(found["mean"], pixels.mean(1), rtol=1e-5)
    np.testing.assert_allclose(found["covariance"], np.cov(pixels), rtol=1e-8)
    assert found["covariance"].dtype == torch.float64
    assert found["peak"] == pytest.approx(np.abs(pixels).max())
    np.testing.assert_array_equal(found["ends"][0], pixels.max(1).astype(np.float32))
    sample = found["sample"].numpy()
    assert sample.shape == (4, 40)
    places = {tuple(p) for p in pixels.astype(np.float32).T}
    assert all(tuple(s) in places for s in sample.T) and len({tuple(s) for s in sample.T}) == 40
    assert found["patches"].shape == (3, 4, 4, 4) and not torch.equal(found["patches"][:2], found["more"])


def test_fit_does_not_depend_on_tiles_or_workers(two_workers):
    cube = scene()
    a, b = state_of(Learn(), cube, tile=(64, 64)), state_of(Learn(), cube, tile=(7, 13))
    for name in ("sample", "patches", "more", "ends"):
        assert torch.equal(a[name], b[name]), name
    np.testing.assert_allclose(a["covariance"], b["covariance"], rtol=1e-10)
    one, two = run(Learn(), cube, tile=(16, 16)), two_workers(Learn(), cube)
    for name in ("cube", "ends"):
        np.testing.assert_array_equal(one[name], two[name])


def test_seeds():
    cube = scene()
    a, b, c = (state_of(Learn(), cube, seed=s) for s in (1, 1, 2))
    assert torch.equal(a["sample"], b["sample"]) and torch.equal(a["patches"], b["patches"])
    assert not torch.equal(a["sample"], c["sample"]) and not torch.equal(a["patches"], c["patches"])


def test_values_from_the_state():
    cube = scene()
    result = run(Learn(), cube)
    assert list(result) == ["cube", "ends", "bands"]
    ends = result["ends"]
    assert ends.dims == ("spectrum", "band") and list(ends["spectrum"].values) == ["highest", "lowest"]
    np.testing.assert_array_equal(ends["wavelength"], cube["wavelength"][cube["good"].values])
    assert list(result["bands"].columns) == ["wavelength", "mean"] and len(result["bands"]) == 4
    assert result.report.figures["count"] == valid_pixels(cube)[0].sum()


def test_a_given_state_skips_fit_and_may_start_it():
    cube = scene()
    fitted = state_of(Learn(), cube)
    shifted = {**fitted, "mean": fitted["mean"] + 1}
    out = run(Learn(), cube, state=shifted)
    np.testing.assert_allclose(out["cube"], run(Learn(), cube)["cube"] - 1, atol=1e-6)

    class Starts(Negate):
        starts_from_state = True

        def fit(self, source, seed, state):
            return {"n": state["n"] + 1}

        def apply(self, tile, state):
            return {"cube": torch.full_like(tile.lead, float(state["n"]))}

    assert float(np.nanmax(run(Starts(), cube, state={"n": 4}).primary)) == 5
    with pytest.raises(BadWeights, match="expected a mapping"):
        run(Learn(), cube, state=[1, 2])


def diffused(cube, rounds, kicks):
    """Plain formulation on the whole filled scene."""
    u = cube
    for k, p in kicks:
        u = functional.avg_pool2d(functional.pad(u, (1, 1, 1, 1), mode="replicate"), 3, 1) + 0.01 * k * p
    return u


def test_map_reads_the_old_array_and_writes_the_new(two_workers):
    cube = scene(holes=False)
    method = Diffuse(Diffuse.Settings.make(rounds=4))
    whole = run(method, cube, tile=(64, 64))
    tiled = run(method, cube, tile=(16, 16))
    np.testing.assert_allclose(whole.primary, tiled.primary, rtol=1e-6)
    # Without the kicks' constant part the plain formulation says what must come out.
    random = torch.Generator().manual_seed(0)
    kicks = [float(torch.rand(1, generator=random)) for _ in range(4)]
    u = torch.from_numpy(cube.values)[None]
    plain = diffused(u, 4, [(k, 0.0) for k in kicks])[0].numpy()
    difference = whole.primary.values - plain
    np.testing.assert_allclose(difference, difference.mean(), atol=1e-5)
    np.testing.assert_array_equal(tiled.primary, two_workers(method, cube).primary)


def test_whole_is_held_to_memory():
    cube = scene(holes=False)
    out = run(Whole(), cube).primary
    assert float(np.median(out.values)) == pytest.approx(0, abs=1e-3)
    with pytest.raises(TooLarge, match="max_memory"):
        run(Whole(), cube, max_memory="1kB")


def test_progress_is_told():
    steps: list[Step] = []
    run(Learn(), scene(), progress=steps.append, tile=(16, 16))
    stages = {s.stage for s in steps}
    assert "apply" in stages and any(s.startswith("fit") for s in stages)
    assert [s.fraction for s in steps if s.stage == "apply"][-1] == 1
    assert all(0 <= s.fraction <= 1 for s in steps)


def test_scenes_without_data_are_refused():
    cube = scene()
    empty = cube.where(False)
    for method in (Learn(), Negate()):
        with pytest.raises(BadInput, match="nodata"):
            run(method, empty)
    scarce = cube.where((cube["x"] < float(cube["x"][3])) & (cube["y"] > float(cube["y"][3])))
    with pytest.raises(BadInput, match="patches"):
        run(Learn(), scarce)


def test_the_callers_random_state_is_left_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    run(Learn(), scene())
    assert torch.rand(1) == expected
