"""Recipes: pairs, the schedule of parts, losses that fall."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.errors import BadSettings, BandMismatch, UnknownName
from torchspectral.superresolution.spectral_mixup.losses import hybrid_loss, tv_spatial, tv_spectral
from torchspectral.superresolution.spectral_mixup.projection import CAMERA, cube_to_eight
from torchspectral.superresolution.training import recipe

SMALL = {
    "essaformer": {"dim": 8, "scale": 2, "dropout": 0.0, "residual": "bicubic"},
    "spectral-mixup": {"n_feats": 16, "scale": 2, "n_subs": 8},
}


def _cube(bands: int = 10, size: int = 32, low: float = 420, high: float = 900):
    rng = np.random.default_rng(0)
    smooth = rng.standard_normal((2, size, size)).cumsum(1).cumsum(2)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    values = (0.1 + 0.4 * np.tensordot(rng.uniform(0, 1, (bands, 2)), smooth, 1)).astype(np.float32)
    return ts.make_cube(values, wavelength=np.linspace(low, high, bands), quantity="reflectance")


def _batch(made, cube):
    return {role: torch.from_numpy(a)[None] for role, a in made.pairs(cube).items()}


@pytest.mark.parametrize("method", SMALL)
def test_a_few_steps_lower_the_loss(method) -> None:
    made = recipe(method, {"learning_rate": 2e-3, "steps": 40, "batch": 1, **SMALL[method]})
    made.prepare([_cube()])
    batch = _batch(made, _cube())
    torch.manual_seed(0)
    network = made.build().eval()
    optimiser = made.optimiser(network.parameters())
    plan = made.schedule(optimiser)
    before = made.validate(network, batch)["loss"]
    for _ in range(40):
        optimiser.zero_grad()
        loss = made.loss(network, batch)
        assert torch.isfinite(loss)
        loss.backward()
        optimiser.step()
        if plan is not None:
            plan.step()
    assert made.validate(network, batch)["loss"] < 0.8 * before
    assert made.card()["ratio"] == 2 and len(made.card()["wavelengths"]) == 10


@pytest.mark.parametrize("method", SMALL)
def test_a_quiet_start_is_interpolation_and_learns(method) -> None:
    made = recipe(method, {**SMALL[method], "quiet_start": True})
    made.prepare([_cube()])
    batch = _batch(made, _cube())
    torch.manual_seed(0)
    network = made.build()
    out = made.predict(network, batch)
    torch.testing.assert_close(out, batch["upsampled"], rtol=0, atol=1e-5)
    made.loss(network, batch).backward()
    assert sum(bool(p.grad is not None and p.grad.abs().sum() > 0) for p in network.parameters()) >= 2
    if method == "spectral-mixup":
        made = recipe(method, {**SMALL[method], "quiet_start": True})
        made.prepare([_cube(17)])
        with pytest.raises(BadSettings, match="17 bands"):
            made.build()


def test_parts_of_an_iteration_and_the_rate() -> None:
    made = recipe("spectral-mixup", {"steps": 80, "mixups": 1, "rgb_batches": 2, "unlabelled_batches": 1})
    parts = [made.part_of(step) for step in range(80)]
    assert parts[:5] == ["labelled", "mixed", "rgb", "rgb", "unlabelled"]
    assert "unlabelled" in parts[:40] and "unlabelled" not in parts[40:]
    assert parts[40:44] == ["labelled", "mixed", "rgb", "rgb"]
    assert [made._rate(s) for s in (0, 31, 32, 71)] == pytest.approx([1, 1, 0.3, 0.3])
    assert made._rate(79) == pytest.approx(0.3**3)


def test_projection() -> None:
    own = cube_to_eight(np.arange(400, 701, 10.0))
    assert own.shape == (31, 8) and CAMERA.sum(0) == pytest.approx(0.987, abs=2e-3)
    finer = cube_to_eight(np.linspace(400, 2500, 200), mended=True)
    assert (finer >= 0).all() and finer[:, 0].sum() == pytest.approx(1, abs=1e-5)
    with pytest.raises(BandMismatch, match="400 to 700"):
        cube_to_eight(np.linspace(900, 2500, 100))
    made = recipe("spectral-mixup", SMALL["spectral-mixup"])
    with pytest.raises(BandMismatch, match="400 to 700"):
        made.prepare([_cube(low=1000, high=2400)])
    made = recipe("spectral-mixup", SMALL["spectral-mixup"] | {"rgb_batches": 0, "unlabelled_batches": 0})
    made.prepare([_cube(low=1000, high=2400)])


def test_variations_are_their_loops() -> None:
    x = torch.rand(2, 3, 4, 5, dtype=torch.float64)
    down = sum(float((x[:, :, i + 1] - x[:, :, i]).square().sum()) for i in range(3)) / (2 * 3 * 3 * 5)
    across = sum(float((x[..., i + 1] - x[..., i]).square().sum()) for i in range(4)) / (2 * 3 * 4 * 4)
    bands = sum(float((x[:, i + 1] - x[:, i]).square().sum()) for i in range(2)) / (2 * 2 * 4 * 5)
    assert float(tv_spatial(x)) == pytest.approx(1e-3 * (down + across))
    assert float(tv_spectral(x)) == pytest.approx(2e-3 * bands)
    assert float(hybrid_loss(x, x)) == pytest.approx(float(tv_spatial(x) + tv_spectral(x)))


def test_unknown_method() -> None:
    with pytest.raises(UnknownName, match="interpolation"):
        recipe("interpolation")


@pytest.mark.slow
@pytest.mark.parametrize(("scale", "residual", "steps"), [(4, "bicubic", 60), (4, "none", 300), (2, "none", 300)])
def test_essaformer_learns_a_patch(scale, residual, steps) -> None:
    """60 steps with the bicubic residual, or 300 without, bring a 16 x 16 patch above bicubic interpolation."""
    made = recipe(
        "essaformer", {"dim": 48, "scale": scale, "dropout": 0.0, "residual": residual, "learning_rate": 1e-3}
    )
    cube = _cube(31, 16)
    made.prepare([cube])
    batch = _batch(made, cube)
    torch.manual_seed(0)
    network = made.build()
    optimiser = made.optimiser(network.parameters())
    for _ in range(steps):
        optimiser.zero_grad()
        made.loss(network, batch).backward()
        optimiser.step()
    network.eval()
    figures = made.validate(network, batch)
    assert figures["psnr"] > figures["psnr_bicubic"]
