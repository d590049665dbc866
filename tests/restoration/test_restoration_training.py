"""Training of the restoration networks: schedules, rounds of noise, bit-equal resumption, gains on held-out ground."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.errors import BadSettings, BandMismatch, Interrupted, MissingMetadata, UnknownName
from torchspectral.learn import lightning_parts
from torchspectral.learn.patches import make_plan
from torchspectral.learn.scenes import open_scenes
from torchspectral.learn.train import find_recipe
from torchspectral.restoration.degrading_recipe import SIGMAS
from torchspectral.restoration.training import recipe
from torchspectral.synth import mixed_scene


def cube(bands: int = 6, side: int = 48, seed: int = 0, quantity: str = "reflectance"):
    made = mixed_scene(bands, side, side, seed=seed, snr=None)
    values = made.values if quantity == "reflectance" else (made.values * 4000).astype(np.uint16)
    return ts.make_cube(values, wavelength=made.wavelength, quantity=quantity)


SMALL = {"patch": 16, "stride": 12, "batch": 2, "validate_every": 4, "checkpoint_every": 2, "split": "random"}


@pytest.mark.parametrize(
    ("name", "arguments", "bands", "rate"), [("man-s", {"channels": 2}, 16, 2e-2), ("hsdt-4", {}, 31, 1e-2)]
)
def test_thirty_steps_on_one_patch_halve_the_error(name: str, arguments: dict, bands: int, rate: float) -> None:
    torch.manual_seed(1)
    clean = torch.from_numpy(mixed_scene(bands, 32, 32, snr=None, seed=2).values)[None, None]
    noisy = clean + 50 / 255 * torch.randn_like(clean)
    network = ts.create_model(name, **arguments).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    before = (noisy - clean).square().mean()
    for _ in range(30):
        loss = (network(noisy) - clean).square().mean()
        if loss < 0.5 * before:
            break
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss < 0.5 * before


def test_rates_are_the_papers() -> None:
    made = recipe("hsdt-m", {"steps": 8000})  # 100 steps stand for an epoch
    got = [made.rate(100 * epoch + 50) * 1e-3 for epoch in (0, 19, 20, 29, 31, 44, 45, 55, 60, 65, 75, 79)]
    np.testing.assert_allclose(got, [1e-3, 1e-3, 1e-4, 1e-4, 1e-3, 1e-3, 1e-4, 5e-5, 1e-5, 5e-6, 1e-6, 1e-6])
    assert made.rate(3000) == pytest.approx(0.01) and made.rate(3050) == pytest.approx(0.51)
    man = recipe("man-m", {"steps": 8000})
    np.testing.assert_allclose([man.rate(50), man.rate(150), man.rate(3150)], [1, 0.5, 0.5])
    second = recipe("hsdt-m", {"steps": 4000, "noise": "icvl-complex"})
    np.testing.assert_allclose([second.rate(s) * 1e-3 for s in (500, 1050, 1550, 2050, 3900)],
                               [1e-3, 5e-4, 1e-4, 5e-5, 1e-5])  # fmt: skip
    mp = recipe("mp-hsir-natural", {"steps": 1000})
    assert mp.rate(0) < 0.02 and mp.rate(100) == pytest.approx(1) and mp.rate(1000) * 2e-4 == pytest.approx(1e-6)


def test_blind_training_goes_round_and_begins_at_fifty() -> None:
    made = recipe("man-s", {"steps": 80})
    made.prepare([cube()])
    clean = torch.zeros(8, 6, 64, 64)
    _, _, facts = made.degraded(clean, 0, torch.Generator().manual_seed(0), step=40)
    assert [f["sigma"] for f in facts] == [*SIGMAS, *SIGMAS]
    noisy, _, facts = made.degraded(clean, 0, torch.Generator().manual_seed(0), step=10)
    assert {f["sigma"] for f in facts} == {50} and float(noisy.std()) * 255 == pytest.approx(50, rel=0.05)
    rounds = recipe("man-s", {"noise": "icvl-complex"})
    names = [[type(s).__name__ for s in one.steps][-1] for one in rounds.degradations[0]]
    assert names == ["BandGaussian", "Impulses", "Stripes", "DeadLines"]
    assert rounds.card()["noise"] == (10, 70) and recipe("man-s", {"noise": "gaussian:30"}).noise_range() == (30, 30)


@pytest.mark.parametrize("method", ["hsdt-4", "hsdt-pnp", "man-s", "man-v1-s", "mp-hsir-s"])
def test_every_family_takes_a_step(method: str) -> None:
    side = 32 if method.startswith("mp") else 16
    made = recipe(method, {"patch": side, "batch": 2})
    made.prepare([cube()])
    network = made.build()
    target = torch.from_numpy(made.pairs(cube(side=side))["target"])[None].repeat(2, 1, 1, 1)
    loss = made.loss(network, {"target": target})
    loss.backward()
    assert torch.isfinite(loss)
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in network.parameters())
    network.eval()
    with torch.no_grad():
        figures = made.validate(network, {"target": target})
        assert figures == made.validate(network, {"target": target})
    assert set(figures) == {"loss", "psnr", "psnr_input", "sam"}


def test_first_weights_are_those_of_the_papers_code() -> None:
    """By outputs for MAN, whose channel attention then begins at work; by inputs and outputs for HSDT; or as asked."""

    def first(method: str, **settings: str) -> torch.nn.Module:
        made = recipe(method, settings)
        made.prepare([ts.make_cube(np.random.default_rng(0).random((31, 8, 8), np.float32))])
        torch.manual_seed(0)
        return made.build()

    def spread(network: torch.nn.Module, key: str) -> float:
        weight = network.state_dict()[key]
        return float(weight.std()) * (weight.shape[0] * weight[0, 0].numel()) ** 0.5

    man, hsdt = first("man-s"), first("hsdt-s")
    assert spread(man, "encoder.layers.1.conv.weight") == pytest.approx(2**0.5, rel=0.05)
    assert man.get_parameter("encoder.layers.0.intra_sa.w_3.weight").abs().max() > 0.1
    assert not any(v.any() for k, v in man.state_dict().items() if k.endswith("bias"))
    assert not first("man-s", init="none").get_parameter("encoder.layers.0.intra_sa.w_3.weight").any()
    assert spread(hsdt, "encoder.layers.1.conv.weight") == pytest.approx((4 / 3) ** 0.5, rel=0.05)
    assert spread(first("hsdt-s", init="kaiming"), "encoder.layers.1.conv.weight") == pytest.approx(2**0.5, rel=0.05)
    assert 5e-4 < float(hsdt.get_parameter("head.attn.ffn.w_1.weight").std()) < 2e-3
    old = first("man-v1-s")
    assert old.get_parameter("tail.0.bias").abs() > 0, "a transposed convolution keeps its own"


def test_mp_hsir_by_its_plain_name_fits_the_bands() -> None:
    made = recipe("mp-hsir", {"patch": 32})
    made.prepare([cube()])
    with torch.device("meta"):
        state = made.build().state_dict()
    assert state["patch_embed.proj.weight"].shape[:2] == (64, 6)
    assert state["prompt1.text_prompt_learnable"].shape[1] == 7


def test_mp_hsir_begins_from_text_and_turns_what_is_damaged(tmp_path: Path) -> None:
    text = np.random.default_rng(0).normal(size=(7, 512)).astype(np.float32)
    np.save(tmp_path / "text.npy", text)
    made = recipe("mp-hsir-s", {"patch": 32, "noise": "gaussian", "text_features": tmp_path / "text.npy"})
    made.prepare([cube()])
    network = made.build()
    assert network.text_mode == "paper" and torch.equal(network.text_features, torch.from_numpy(text))
    begun = network.prompt1.clip_linear(network.text_features)[None, :, :, None, None]
    torch.testing.assert_close(network.prompt1.text_prompt_learnable, begun)
    clean = torch.arange(8 * 2 * 9.0).reshape(8, 2, 3, 3)
    noisy, truth = made.turned(clean + 1000, clean)
    torch.testing.assert_close(noisy - 1000, truth)
    assert not (truth == clean).flatten(1).all(1).any()
    for one, other in zip(truth, clean, strict=True):
        assert torch.equal(one.flatten(1).sort().values, other.flatten(1).sort().values)
    with pytest.raises(BadSettings, match="7"):
        recipe("mp-hsir-natural", {"text_features": tmp_path / "text.npy"})
    with pytest.raises(BadSettings, match="text_features=FILE"):
        recipe("mp-hsir-s", {"text_mode": "paper"})


def test_mp_hsir_is_trained_on_a_grid_that_scenes_of_any_sensor_reach(tmp_path: Path) -> None:
    few, many = (
        ts.make_cube(np.linspace(0, 1, n, dtype=np.float32)[:, None, None] * np.ones((1, 40, 40), np.float32),
                     wavelength=np.linspace(400, 1000, n), quantity="reflectance")
        for n in (7, 25)
    )  # fmt: skip
    settings = {**SMALL, "patch": 32, "stride": 32, "grid": "400:1000:13", "noise": "gaussian", "steps": 1}
    made = recipe("mp-hsir-s", settings)
    made.prepare([few, many])
    for scene in (few, many):
        np.testing.assert_allclose(made.pairs(scene)["target"][:, 5, 5], np.linspace(0, 1, 13), atol=1e-6)
    with pytest.raises(BandMismatch, match="bands"):
        recipe("mp-hsir-s", {**settings, "grid": "scenes"}).prepare([few, many])
    ts.train("restore", "mp-hsir-s", [few, many], out=tmp_path / "run", settings=settings, device="cpu")
    result = ts.restore(many, method="mp-hsir", weights=tmp_path / "run", account=False)
    assert result["cube"].shape == many.shape and result.report.figures["bands"]["network"] == 13
    paper = recipe("mp-hsir-natural", {"grid": "paper"})
    paper.prepare([few])
    np.testing.assert_allclose(paper.wavelength, np.linspace(400, 700, 31))


def test_values_are_scaled_scene_by_scene(tmp_path: Path) -> None:
    dark, light = cube(quantity="dn"), cube(seed=1, quantity="dn") * 2
    for name, one in (("dark", dark), ("light", light)):
        ts.save(one.assign_attrs(dark.attrs), tmp_path / f"{name}.tif")
    scenes = [ts.open(tmp_path / f"{name}.tif") for name in ("dark", "light")]
    for scale, low in (("auto", None), ("range", 0.0)):
        made = recipe("man-s", {"scale": scale})
        made.prepare(scenes)
        for scene in scenes:
            values = made.pairs(scene.load())["target"]
            assert values.max() == pytest.approx(1) and (low is None or values.min() == pytest.approx(0))
    assert made.card()["scale"]["rule"] == "range"
    plain = recipe("man-s")
    plain.prepare([cube()])
    np.testing.assert_array_equal(plain.pairs(cube())["target"], cube().values)


@pytest.mark.slow
def test_resumed_run_equals_an_uninterrupted_one(tmp_path: Path) -> None:
    settings = {**SMALL, "noise": "gaussian:blind", "steps": 8}
    data = [cube(side=40)]
    ts.train("restore", "hsdt-4", data, out=tmp_path / "whole", settings=settings, device="cpu")

    after = lightning_parts.Keeper.on_train_batch_end

    def watched(self, trainer, module, *rest):
        if module.done == 4:
            self.asked = True
        return after(self, trainer, module, *rest)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(Interrupted, match="continue with"):
        patch.setattr(lightning_parts.Keeper, "on_train_batch_end", watched)
        ts.train("restore", "hsdt-4", data, out=tmp_path / "parts", settings=settings, device="cpu")
    ts.train("restore", "hsdt-4", data, out=tmp_path / "parts", settings=settings, device="cpu", resume=True)
    one, two = (torch.load(tmp_path / n / "checkpoints/last.pt", weights_only=True) for n in ("whole", "parts"))
    assert one["step"] == two["step"] == 8
    for key, value in one["model"].items():
        assert torch.equal(value, two["model"][key]), key


def test_a_short_training_removes_noise_and_is_a_set_of_weights(tmp_path: Path) -> None:
    settings = {**SMALL, "noise": "gaussian:70", "steps": 30, "validate_every": 30, "decay": "constant",
                "learning_rate": 3e-3, "batch": 2, "stages": False, "init": "none"}  # fmt: skip
    result = ts.train("restore", "man-s", [cube(6, 40)], out=tmp_path / "run", settings=settings, device="cpu")
    figures = result["curves"].iloc[-1]
    assert figures["held_out_psnr"] > figures["held_out_psnr_input"] + 1
    from torchspectral.weights import load

    card = load(tmp_path / "run").card
    assert card.model == "man-s" and card.noise == (70, 70) and card.wavelengths == "any"
    more = recipe("man-s", {"start": str(tmp_path / "run"), "noise": "icvl-complex"})
    more.prepare([cube(6, 40)])
    begun = more.build().state_dict()
    for key, value in result["network"].state_dict().items():
        assert torch.equal(begun[key], value)


@pytest.mark.slow
def test_bf16_stays_finite(tmp_path: Path) -> None:
    settings = {**SMALL, "steps": 2, "precision": "bf16-mixed"}
    result = ts.train("restore", "man-s", [cube()], out=tmp_path / "run", settings=settings, device="cpu")
    assert np.isfinite(result["curves"]["train_loss"]).all()


@pytest.mark.parametrize(("patch", "side"), [(8, 64), (64, 256)])
def test_patches_lie_on_their_own_ground(patch: int, side: int) -> None:
    made = recipe("man-s", {"patch": patch})
    scenes = open_scenes([cube(2, side)])
    made.prepare([scene.scene for scene in scenes])
    places = make_plan(made, scenes, 0).places
    assert {place.part for place in places} == {"train", "held-out"}
    for place in places:
        w, g = place.window, place.ground
        assert g.row <= w.row and w.row + w.height <= g.row + g.height
        assert g.col <= w.col and w.col + w.width <= g.col + g.width


def test_what_cannot_be_trained_is_refused() -> None:
    with pytest.raises(UnknownName, match="did you mean hsdt-m"):
        find_recipe("restore", "hsdt-mm")
    with pytest.raises(UnknownName, match="did you mean haze"):
        recipe("mp-hsir-s", {"noise": "hazy"})
    with pytest.raises(UnknownName, match="no task 'haze'"):
        recipe("mp-hsir-natural", {"noise": "haze"})
    with pytest.raises(BadSettings, match="keeps the size"):
        recipe("man-s", {"noise": "imresize:2"})
    with pytest.raises(BadSettings, match="patch"):
        recipe("man-s", {"patch": 20})
    with pytest.raises(BadSettings, match="level the network is told"):
        recipe("hsdt-pnp", {"noise": "noniid"})
    with pytest.raises(BandMismatch, match="one quantity"):
        recipe("man-s").prepare([cube(), cube(quantity="dn")])
    bare = cube()
    bare["wavelength"] = ("band", np.full(6, np.nan))
    with pytest.raises(MissingMetadata, match="haze"):
        recipe("mp-hsir-s").prepare([bare])


@pytest.mark.parametrize("model", ["hsdt-s", "man-s"])
def test_networks_evaluate_in_bf16(model: str) -> None:
    torch.manual_seed(0)
    network, x = ts.create_model(model).eval(), torch.rand(1, 1, 31, 16, 16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = network(x)
    with torch.no_grad():
        torch.testing.assert_close(rough.float(), network(x), rtol=0.05, atol=0.05)
