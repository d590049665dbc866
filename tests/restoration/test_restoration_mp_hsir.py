"""MP-HSIR: network, prompts, tasks, bands, weights, tiles."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

import torchspectral as ts
from torchspectral.errors import (
    BadInput,
    BadSettings,
    BadWeights,
    BandMismatch,
    MissingMetadata,
    MissingWeights,
    ProductNotFound,
    UnknownName,
)
from torchspectral.restoration.mp_hsir.blocks import edge_masks, shift_mask
from torchspectral.restoration.mp_hsir.bridge import Bridge, interpolation
from torchspectral.restoration.mp_hsir.method import MPHSIR, MPHSIRSettings, arguments_of
from torchspectral.restoration.mp_hsir.network import MPHSIRNetwork, pad_to
from torchspectral.restoration.mp_hsir.plain import plain
from torchspectral.restoration.mp_hsir.tasks import NATURAL, PROMPTS, REMOTE, WORDS, read_text_features, task_numbers
from torchspectral.synth import mixed_scene

SMALL = {"dim": 8, "blocks": (1, 2, 1), "refinement": 1}


def network(bands: int = 4, tasks: int = 6, **more: object) -> MPHSIRNetwork:
    torch.manual_seed(0)
    made = MPHSIRNetwork(bands, tasks=tasks, **{**SMALL, **more})  # type: ignore[arg-type]
    return made.eval()


def features(tasks: int = 6) -> torch.Tensor:
    return torch.randn(tasks, 512, generator=torch.Generator().manual_seed(3))


def scene(bands: int = 4, rows: int = 32, cols: int = 32, wavelength: object = None, seed: int = 0) -> object:
    values = np.random.default_rng(seed).random((bands, rows, cols)).astype(np.float32)
    given = {} if wavelength is None else {"wavelength": wavelength}
    return ts.make_cube(values, quantity="reflectance", **given)


def restored(cube: object, state: dict, **settings: object) -> object:
    return ts.run(MPHSIR(MPHSIRSettings.make({"gain": 1.0, **settings})), {"cube": cube}, state=state)


@pytest.mark.parametrize(("name", "parameters"), [("natural", 14_527_484), ("remote", 31_868_368)])
def test_published_sizes(name, parameters):
    with torch.device("meta"):
        made = ts.create_model(f"mp-hsir-{name}", authors_layout=True)
    assert sum(p.numel() for p in made.parameters()) == parameters
    assert len(made.state_dict()) == 658
    assert arguments_of(made.state_dict()) == {
        "bands": {"natural": 31, "remote": 100}[name], "dim": {"natural": 64, "remote": 96}[name],
        "tasks": {"natural": 6, "remote": 7}[name], "blocks": (2, 4, 6), "refinement": 4, "heads": (2, 4, 8),
        "expansion": 2.66, "stored_text": False,
    }  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3])
def test_plain_formulation_gives_the_same(batch):
    x, task = torch.rand(batch, 4, 40, 56), torch.arange(batch)
    net = network()
    with torch.no_grad():
        fast = net(x, task)
        slow = plain(net)(x, task)
    assert fast.shape == x.shape
    torch.testing.assert_close(fast, slow, atol=2e-5, rtol=1e-4)


def test_training_and_evaluation_agree_without_drop_path():
    net, x = network(), torch.rand(2, 4, 32, 32)
    with torch.no_grad():
        expected = net(x, torch.tensor([0, 5]))
    torch.testing.assert_close(net(x, torch.tensor([0, 5])), expected, atol=1e-5, rtol=1e-4)


def test_gradients_reach_everything_but_text_layers():
    net = network().train()
    net(torch.rand(2, 4, 32, 32), torch.tensor([[0, 1], [2, 3]])).square().mean().backward()
    without = {name for name, p in net.named_parameters() if p.grad is None or not torch.isfinite(p.grad).all()}
    assert without == {f"prompt{i}.{part}_linear.{kind}" for i in (1, 2) for part in ("text", "clip")
                       for kind in ("weight", "bias")}  # fmt: skip


def test_constant_and_black_images_have_finite_gradients():
    net = network().train()
    net(torch.zeros(1, 4, 32, 32), torch.tensor([0])).sum().backward()
    assert all(torch.isfinite(p.grad).all() for p in net.parameters() if p.grad is not None)


def test_masks_are_those_of_swin():
    window, shift, rows, cols = 8, 4, 3, 2
    region = torch.zeros(rows * window, cols * window)
    cuts = (slice(0, -window), slice(-window, -shift), slice(-shift, None))
    for number, (a, b) in enumerate((a, b) for a in cuts for b in cuts):
        region[a, b] = number
    tokens = region.view(rows, window, cols, window).transpose(1, 2).reshape(-1, window**2)
    expected = torch.where(tokens[:, None] == tokens[:, :, None], 0.0, -100.0)
    assert torch.equal(shift_mask(rows, cols), expected)
    assert not edge_masks(8, 4)[0].any()


@pytest.mark.parametrize("mode", ["learned", "paper", "released"])
def test_samples_do_not_depend_on_their_batch(mode):
    net, x, task = network(text_mode=mode), torch.rand(3, 4, 32, 64), torch.tensor([0, 3, 0])
    text = None if mode == "learned" else features()
    with torch.no_grad():
        together = net(x, task, text)
        alone = torch.cat([net(x[i : i + 1], task[i : i + 1], text) for i in range(3)])
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-4)


def test_coupled_mode_mixes_the_batch_and_equals_released_alone():
    x, task, text = torch.rand(2, 4, 32, 32), torch.tensor([0, 3]), features()
    released, coupled = network(text_mode="released"), network(text_mode="coupled")
    with torch.no_grad():
        torch.testing.assert_close(released(x[:1], task[:1], text), coupled(x[:1], task[:1], text))
        assert (released(x, task, text) - coupled(x, task, text)).abs().max() > 1e-4
        rows = coupled.prompt1.text_map(torch.eye(6)[task], text, "coupled")
    learned, mixed = coupled.prompt1.text_prompt_learnable[0, task, :, 0, 0] / 6, text[task] / 6
    columns = torch.arange(64) * 512 // 64
    assert rows.shape == (2, 8, 64, 64)
    torch.testing.assert_close(rows[1, :, 10], learned[1][:, None] * mixed[0][columns])  # upper half: first sample
    torch.testing.assert_close(rows[1, :, 50], learned[1][:, None] * mixed[1][columns])


def test_mixture_of_tasks_is_the_mean_of_their_prompts():
    net = network()
    shares = net.shares(torch.tensor([[0, 4], [1, 1]]), torch.rand(2, 4, 1, 1))
    assert shares.tolist() == [[0.5, 0, 0, 0, 0.5, 0], [0, 1, 0, 0, 0, 0]]


def test_text_features_start_and_travel_with_the_weights():
    net = network(text_mode="paper", stored_text=True)
    net.start_from(features())
    assert torch.equal(net.text_features, features())
    expected = net.prompt1.clip_linear(features())
    torch.testing.assert_close(net.prompt1.text_prompt_learnable[0, :, :, 0, 0], expected)
    with torch.no_grad():
        torch.testing.assert_close(net(torch.ones(1, 4, 32, 32), torch.tensor([1])),
                                   net(torch.ones(1, 4, 32, 32), torch.tensor([1]), features()))  # fmt: skip


@pytest.mark.parametrize("size", [(1, 1), (5, 33), (32, 7), (64, 64)])
def test_any_size(size):
    x = torch.rand(1, 4, *size)
    assert network()(x, torch.tensor([0])).shape == x.shape
    padded = pad_to(x, 32)
    assert not padded.shape[2] % 32
    assert torch.equal(padded[..., : size[0], : size[1]], x)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [({"dim": 12}, BadSettings), ({"heads": (3, 4, 8)}, BadSettings), ({"blocks": (1, 1)}, BadSettings),
     ({"tasks": 0}, BandMismatch), ({"text_mode": "clip"}, BadSettings), ({"refinement": 0}, BadSettings)],
)  # fmt: skip
def test_impossible_sizes_are_told(arguments, error):
    with pytest.raises(error):
        ts.create_model("mp-hsir", bands=4, **{**SMALL, **arguments})


@pytest.mark.parametrize(
    ("x", "task", "text", "error"),
    [((1, 5, 32, 32), [0], None, BandMismatch), ((1, 4, 32, 32), [6], None, BadInput),
     ((2, 4, 32, 32), [0, 1, 2], None, BadInput), ((1, 4, 32, 32), [0], (7, 512), BadInput)],
)  # fmt: skip
def test_wrong_calls_are_told(x, task, text, error):
    with pytest.raises(error):
        network()(torch.rand(x), torch.tensor(task), None if text is None else torch.rand(text))


def test_every_task_has_a_number_and_a_prompt():
    assert tuple(PROMPTS) == REMOTE
    assert [
        task_numbers(w, 7)[0] for w in ("denoise", "destripe", "deblur", "superres", "inpaint", "dehaze", "bands")
    ] == [*range(7)]
    assert [task_numbers(w, 6)[0] for w in ("poisson", "motion", "real", "bands")] == [0, 0, 1, 5]
    assert task_numbers("denoise+deblur", 7) == [0, 2]
    assert task_numbers("3", 9) == [3]
    assert set(WORDS.values()) == set(REMOTE) == {*NATURAL, "haze"}


@pytest.mark.parametrize(
    ("task", "count", "error"),
    [("denois", 6, UnknownName), ("dehaze", 6, BadSettings), ("denoise+poisson", 6, BadSettings), ("8", 7, BadSettings),
     ("denoise+denoise", 7, BadSettings), ("deblur", 1, BadSettings), ("deblur", 9, BadSettings), ("", 7, UnknownName)],
)  # fmt: skip
def test_tasks_that_the_weights_lack_are_told(task, count, error):
    with pytest.raises(error):
        task_numbers(task, count)


def test_text_features_from_files(tmp_path):
    good = features().numpy()
    np.save(tmp_path / "a.npy", good)
    save_file({"text_features": good, "other": good}, tmp_path / "b.safetensors")
    save_file({"x": good}, tmp_path / "c.safetensors")
    for name in ("a.npy", "b.safetensors", "c.safetensors"):
        assert np.array_equal(read_text_features(tmp_path / name), good)
    np.save(tmp_path / "flat.npy", good[:, :500])
    np.save(tmp_path / "whole.npy", good.astype(int))
    np.save(tmp_path / "nan.npy", good * np.nan)
    np.save(tmp_path / "pickled.npy", np.array([{}], dtype=object), allow_pickle=True)
    (tmp_path / "text.npy").write_text("no array")
    (tmp_path / "text.safetensors").write_text("no tensors")
    (tmp_path / "text.pt").write_text("no tensors")
    save_file({"x": good, "y": good}, tmp_path / "two.safetensors")
    for bad in (
        "flat.npy",
        "whole.npy",
        "nan.npy",
        "pickled.npy",
        "text.npy",
        "text.safetensors",
        "text.pt",
        "two.safetensors",
    ):
        with pytest.raises(BadInput):
            read_text_features(tmp_path / bad)
    with pytest.raises(ProductNotFound):
        read_text_features(tmp_path / "none.npy")


def test_released_weights_ask_for_text_features(tmp_path):
    net = network(authors_layout=True, text_mode="released")
    state, cube = dict(net.state_dict()), scene()
    with pytest.raises(MissingWeights, match="text_features=FILE"):
        restored(cube, state)
    np.save(tmp_path / "text.npy", features().numpy())
    out = restored(cube, state, text_features=str(tmp_path / "text.npy"), task="deblur")
    with torch.no_grad():
        expected = net(torch.from_numpy(cube.values)[None], torch.tensor([2]), features())[0]
    np.testing.assert_allclose(out["cube"].values, expected, atol=1e-5)
    assert out.report.figures["text"] == "released"
    np.save(tmp_path / "seven.npy", features(7).numpy())
    with pytest.raises(BadSettings, match="7 tasks"):
        restored(cube, state, text_features=str(tmp_path / "seven.npy"))
    with pytest.raises(BadSettings, match="learned prompts"):
        restored(cube, dict(network().state_dict()), text_features=str(tmp_path / "text.npy"))


def test_authors_checkpoint_loads_without_its_masks(tmp_path):
    net = network(authors_layout=True)
    torch.save({"state_dict": {f"net.{k}": v for k, v in net.state_dict().items()}}, tmp_path / "Natural_scene.ckpt")
    out = ts.restore(scene(), method="mp-hsir", weights=tmp_path / "Natural_scene.ckpt",
                     settings={"gain": 1.0, "text_mode": "learned"})  # fmt: skip
    np.testing.assert_allclose(
        out["cube"].values, restored(scene(), dict(network().state_dict()))["cube"].values, atol=1e-6
    )


def test_stored_text_features_are_used():
    net = network(text_mode="paper", stored_text=True)
    net.start_from(features())
    out = restored(scene(), dict(net.state_dict()))
    assert out.report.figures["text"] == "paper"
    with torch.no_grad():
        expected = net(torch.from_numpy(scene().values)[None], torch.tensor([0]))[0]
    np.testing.assert_allclose(out["cube"].values, expected, atol=1e-5)


def test_wrong_weights_are_told():
    with pytest.raises(MissingWeights):
        restored(scene(), {})
    state = dict(network().state_dict())
    with pytest.raises(BandMismatch, match="4 bands"):
        restored(scene(5), state)
    del state["output.weight"]
    with pytest.raises(BadWeights, match="absent"):
        restored(scene(), state)
    with pytest.raises(BadSettings):
        MPHSIR(MPHSIRSettings.make({"tile": 100}))
    with pytest.raises(BadSettings):
        MPHSIR(MPHSIRSettings.make({"first_band": 400.0}))


def test_interpolation_between_bands():
    source = np.array([500.0, 400.0, 600.0, 600.0])
    matrix = interpolation(source, np.array([350.0, 450.0, 600.0, 700.0]))
    expected = np.array([[0, 1, 0, 0], [0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5], [0, 0, 0.5, 0.5]])
    np.testing.assert_allclose(matrix, expected)


def test_other_bands_are_reached_by_wavelength_and_get_the_change():
    state = dict(network(31).state_dict())
    wave = np.linspace(380, 900, 60)
    cube = scene(60, wavelength=wave)
    out = restored(cube, state)
    inside = (wave >= 395) & (wave <= 705)
    change = out["cube"].values - cube.values
    assert np.array_equal(change[~inside], np.zeros_like(change[~inside]))
    assert (np.abs(change[inside]).max((1, 2)) > 0).all()
    bridge = Bridge.build(wave, np.linspace(400, 700, 31))
    into = torch.from_numpy(np.einsum("mb,byx->myx", bridge.there, cube.values)).float()[None]
    with torch.no_grad():
        made = network(31)(into, torch.tensor([0])) - into
    np.testing.assert_allclose(change, np.einsum("bm,myx->byx", bridge.back, made[0]), atol=1e-5)
    assert out.report.figures["bands"] == {"network": 31, "scene": 60, "untouched": int((~inside).sum())}
    assert any("left as they are" in note for note in out.report.notes)


def test_bands_that_cannot_be_reached_are_told():
    state = dict(network(31).state_dict())
    with pytest.raises(BandMismatch, match="cover"):
        restored(scene(10, wavelength=np.linspace(800, 2400, 10)), state)
    with pytest.raises(MissingMetadata):
        restored(scene(10), state)
    with pytest.raises(BandMismatch):
        restored(scene(10, wavelength=np.linspace(400, 700, 10)), state, resample="never")


@pytest.mark.parametrize("task", ["inpaint", "bands"])
def test_holes_are_zero_to_the_network_and_observed_values_can_be_kept(task):
    net, cube = network(), scene()
    state = dict(net.state_dict())
    holes = np.random.default_rng(1).random(cube.shape) < 0.6
    holes[:, 0, 0] = False
    with_nan, with_zero = cube.where(~holes), cube.where(~holes, 0.0)
    with_nan.attrs = with_zero.attrs = cube.attrs
    one = restored(with_nan, state, task=task, keep_observed=True)["cube"].values
    two = restored(with_zero, state, task=task, keep_observed=True)["cube"].values
    seen = ~holes.all(0)  # a pixel without any band is nodata
    np.testing.assert_array_equal(one[:, seen], two[:, seen])
    assert np.isnan(one[:, ~seen]).all()
    np.testing.assert_array_equal(two[~holes], cube.values[~holes])
    number = task_numbers(task, 6)
    with torch.no_grad():
        expected = net(torch.from_numpy(with_zero.values)[None], torch.tensor(number))[0].numpy()
    np.testing.assert_allclose(two[holes], expected[holes], atol=1e-5)


def test_tiles_are_declared_and_said():
    net, cube = network(), scene(4, 96, 70)
    out = restored(cube, dict(net.state_dict()), tile=64, overlap=32)
    assert any("the result depends on them" in note for note in out.report.notes)
    assert np.isfinite(out["cube"].values).all()
    whole = restored(cube, dict(net.state_dict()), tile=96, overlap=32)
    with torch.no_grad():
        expected = net(torch.from_numpy(cube.values)[None], torch.tensor([0]))[0]
    np.testing.assert_allclose(whole["cube"].values, expected, atol=1e-5)


def test_scale_and_quantity_stay():
    state, counts = dict(network().state_dict()), scene()
    counts = ts.make_cube(np.round(counts.values * 4000).astype(np.uint16), quantity="dn")
    out = ts.run(MPHSIR(), {"cube": counts}, state=state)["cube"]
    assert out.attrs["quantity"] == "dn"
    peak = float(counts.values.max())
    expected = restored(ts.make_cube((counts.values / peak).astype(np.float32), quantity="reflectance"), state)["cube"]
    np.testing.assert_allclose(out.values, expected.values * peak, rtol=1e-4, atol=0.1)


def test_shipped_weights_help_with_noise_holes_and_haze():
    """31 bands as they are, and 40 by interpolation; learned prompts alone, which the report says."""
    clean = mixed_scene(31, 64, 64, snr=None, seed=77).values
    clean = 0.1 + 0.8 * (clean - clean.min()) / np.ptp(clean)
    cube = ts.make_cube(clean.astype(np.float32), wavelength=np.linspace(400, 1000, 31), quantity="reflectance")
    for recipe, task, least in (
        ("gaussian:50", "denoise", 1.0),
        ("inpaint:0.8", "inpaint", 3.0),
        ("haze:1", "dehaze", 1.0),
    ):
        bad = ts.degrade(cube, recipe, 3)["cube"]
        result = ts.restore(bad, method="mp-hsir", settings={"task": task, "gain": 1.0}, account=False)
        assert result.report.weights == "mp-hsir-m.generated" and result.report.figures["text"] == "learned"
        before, after = (float(-10 * np.log10(np.nanmean((c.values - clean) ** 2))) for c in (bad, result["cube"]))
        assert after > before + least, (task, before, after)
    finer = ts.make_cube(
        mixed_scene(40, 32, 32, seed=1).values, wavelength=np.linspace(390, 1010, 40), quantity="reflectance"
    )
    assert ts.restore(finer, method="mp-hsir", account=False).report.figures["bands"]["scene"] == 40
