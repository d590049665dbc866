"""Recipes of the sharpening networks: their pairs, their losses, and a run that is stopped and resumed."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.errors import UnknownName
from torchspectral.sharpening.deep.prior_method import INTERPOLATED_PRIOR
from torchspectral.sharpening.training import recipe

NETWORKS = {
    "hyperpnn": {"features": 8},
    "hspenet": {"features": 8, "growth": 4},
    "hyper-dsnet": {"features": 4},
    "dhp-darn": {"features": 8, "prior_iterations": 6, "prior_channels": 4},
    "dip-hyperkite": {"features": 4, "prior_iterations": 6, "prior_channels": 4},
}


def _cube(size: int = 32, bands: int = 5):
    rng = np.random.default_rng(0)
    smooth = rng.standard_normal((2, size, size)).cumsum(1).cumsum(2)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    return ts.make_cube(
        (0.1 + 0.4 * np.tensordot(rng.uniform(0, 1, (bands, 2)), smooth, 1)).astype(np.float32),
        wavelength=np.linspace(450, 900, bands), quantity="reflectance",
    )  # fmt: skip


def _prepared(method: str, **more):
    made = recipe(method, {"ratio": 2, "learning_rate": 2e-3, **NETWORKS[method], **more})
    made.prepare([_cube()])
    return made


@pytest.mark.parametrize("method", NETWORKS)
def test_a_few_steps_lower_the_loss(method: str) -> None:
    made = _prepared(method)
    arrays = made.pairs(_cube())
    assert {"target", "upsampled", *made.network_inputs} == set(arrays)
    assert all(np.isfinite(a).all() and a.dtype == np.float32 for a in arrays.values())
    torch.manual_seed(0)
    network = made.build()
    batch = {n: torch.from_numpy(a)[None] for n, a in arrays.items()}
    optimiser = made.optimiser(p for p in network.parameters() if p.requires_grad)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        loss = made.loss(network, batch)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    figures = made.evaluate(network, _cube())
    assert set(figures) == {"loss", "ergas", "ergas_exp", "sam"}
    assert made.card()["ratio"] == 2 and len(made.card()["wavelengths"]) == 5


def test_the_losses_are_the_papers() -> None:
    a, b = torch.rand(2, 5, 4, 4), torch.rand(2, 5, 4, 4)
    cosine = torch.nn.functional.cosine_similarity(a, b, dim=1).mean()
    expected = 0.9 * ((a - b) ** 2).mean() + 0.1 * (1 - cosine)
    assert torch.allclose(recipe("hspenet").distance(a, b), expected)
    assert torch.allclose(recipe("hyper-dsnet").distance(a, b), ((a - b) ** 2).mean())
    for method in ("dhp-darn", "dip-hyperkite"):
        assert torch.allclose(recipe(method).distance(a, b), (a - b).abs().mean())
    with pytest.raises(UnknownName, match="pca-z-pnn"):
        recipe("pca-z-pnn")


def test_defaults_are_the_papers() -> None:
    seen = {m: (s.batch, s.learning_rate) for m in NETWORKS for s in [recipe(m).settings]}
    assert seen == {
        "hyperpnn": (64, 1e-4),
        "hspenet": (64, 1e-4),
        "hyper-dsnet": (32, 1e-4),
        "dhp-darn": (64, 1e-3),
        "dip-hyperkite": (2, 1e-3),
    }
    kite = recipe("dip-hyperkite", {"steps": 2500})
    optimiser = kite.optimiser([torch.nn.Parameter(torch.zeros(1))])
    plan = kite.schedule(optimiser)
    assert plan is not None and plan.step_size == 1000 and optimiser.defaults["weight_decay"] == 1e-4


def test_a_quiet_start_is_interpolation() -> None:
    for method in ("hyper-dsnet", "dip-hyperkite"):
        made = _prepared(method, quiet_start=True, **({"prior": "interpolated"} if "kite" in method else {}))
        figures = made.evaluate(made.build(), _cube())
        assert figures["ergas"] == pytest.approx(figures["ergas_exp"], rel=1e-5)


def test_priors_differ_and_the_card_says_which() -> None:
    deep, plain = (_prepared("dhp-darn", prior=prior) for prior in ("deep", "interpolated"))
    arrays = {name: made.pairs(_cube()) for name, made in (("deep", deep), ("plain", plain))}
    assert np.array_equal(arrays["plain"]["prior"], arrays["plain"]["upsampled"].clip(0, 1))
    assert not np.allclose(arrays["deep"]["prior"], arrays["deep"]["upsampled"], atol=1e-3)
    assert np.array_equal(arrays["deep"]["prior"], deep.pairs(_cube())["prior"])
    assert INTERPOLATED_PRIOR in plain.card()["preprocessing"]
    assert INTERPOLATED_PRIOR not in deep.card()["preprocessing"]


@pytest.mark.slow
def test_a_stopped_run_equals_one_that_was_not(tmp_path) -> None:
    pytest.importorskip("lightning")
    from torchspectral.weights import load

    cube = _cube(64)
    settings = {
        "ratio": 2, "features": 4, "patch": 16, "batch": 2, "block": 32, "prior": "interpolated",
        "validate_every": 3, "checkpoint_every": 2,
    }  # fmt: skip

    def train(name: str, **more):
        values = {**settings, "steps": more.pop("until", 6)}
        return ts.train("sharpen", "dhp-darn", cube, out=tmp_path / name, settings=values, seed=1, device="cpu", **more)

    train("whole")
    train("cut", until=4)
    train("cut", resume=True)
    a, b = load(tmp_path / "whole").state, load(tmp_path / "cut").state
    assert all(torch.equal(a[key], b[key]) for key in a)
    pair = ts.simulate_wald(_cube(), 2)
    result = ts.sharpen(pair["hs"], pair["pan"], method="dhp-darn", weights=tmp_path / "whole")
    assert result.report.settings["prior"] == "interpolated" and "prior losses" in result.report.figures
