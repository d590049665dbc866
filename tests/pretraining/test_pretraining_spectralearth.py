"""DINO, MoCo and masked autoencoders: what they learn, and from what."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from recipe_steps import opened, train_steps
from scipy.ndimage import gaussian_filter

import torchspectral as ts
from torchspectral import registry, weights
from torchspectral.errors import BadInput, BadSettings, BandMismatch
from torchspectral.learn.recipe import Recipe
from torchspectral.learn.runs import Run
from torchspectral.learn.train import find_recipe

METHODS = ("spectralearth-dino", "spectralearth-mae", "spectralearth-moco")
BANDS = 78
SMALL: dict[str, Any] = {
    "patch": 8,
    "batch": 8,
    "network": {"dim": 16, "depth": 1, "heads": 2},
    "validate_every": 4,
    "checkpoint_every": 3,
    "validate_patches": 8,
    "block": 16,
    "guard": 0,
}
OWN: dict[str, dict[str, Any]] = {
    "spectralearth-dino": {"outputs": 16, "hidden": 16, "bottleneck": 8, "locals": 1, "local_size": 4},
    "spectralearth-mae": {"decoder_dim": 16, "decoder_heads": 2, "mask": 0.5},
    "spectralearth-moco": {"outputs": 8, "hidden": 16, "queue": 24},
}


@pytest.fixture(autouse=True)
def _no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """Curves are drawn elsewhere, and slowly."""
    monkeypatch.setattr(Run, "plot", lambda self: None)


def scene(seed: int = 0, side: int = 48, bands: int = BANDS) -> xr.DataArray:
    """Fields of four smooth spectra, with a hole."""
    rng = np.random.default_rng(seed)
    pure = rng.random((4, bands)).cumsum(1) / bands + 0.1
    shares = np.exp(20 * np.stack([gaussian_filter(rng.normal(size=(side, side)), 4) for _ in range(4)]))
    values = np.einsum("kyx,kb->byx", shares / shares.sum(0), pure) + rng.normal(0, 0.005, (bands, side, side))
    values[:, 3:8, 2:9] = np.nan
    wave = np.linspace(420, 2400, bands)
    return ts.make_cube(values.astype(np.float32), wavelength=wave, fwhm=np.full(bands, 10.0), quantity="reflectance")


def run(out: Path, method: str, **more: Any) -> Any:
    given = {**SMALL, **OWN[method], **more.pop("settings", {})}
    return ts.train("pretrain", method, scene(), **{"out": out, "device": "cpu", "settings": given, **more})


def small(method: str, **more: Any) -> Recipe:
    made = find_recipe("pretrain", method, {**SMALL, **OWN[method], **more})
    made.prepare([scene()])
    return made


@pytest.mark.parametrize(
    ("method", "more"),
    [
        ("spectralearth-mae", {"learning_rate": 5e-3}),
        ("spectralearth-moco", {"learning_rate": 0.05, "momentum": 0.9, "queue": 0}),
    ],
)
def test_the_loss_falls(method: str, more: dict[str, Any], tmp_path: Path) -> None:
    fixed = {"decay": "constant", "warm_up": 0.0, **OWN[method], **more}
    made, store = opened(method, [scene()], tmp_path, **{**SMALL, **fixed})
    losses = train_steps(made, store, 30)[1]
    assert np.mean(losses[-6:]) < np.mean(losses[:6]) - 0.02, losses


def test_bands_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    for method in METHODS:
        with pytest.raises(BandMismatch, match="at least 75"):
            find_recipe("pretrain", method).prepare([scene(bands=60)])
    with pytest.raises(BandMismatch, match="202"):
        find_recipe("pretrain", "spectralearth-dino", {"backbone": "enmap-vit-t"}).prepare([scene(bands=80)])
    far = scene(bands=202)
    with pytest.raises(BandMismatch, match="resample the data"):
        find_recipe("pretrain", "spectralearth-moco", {"backbone": "enmap-resnet50"}).prepare([far])
    with pytest.raises(BadSettings, match="spec-vit"):
        find_recipe("pretrain", "spectralearth-mae", {"backbone": "spec-resnet50"})
    with pytest.raises(BadSettings, match="trains no backbone"):
        find_recipe("pretrain", "spectralearth-dino", {"backbone": "spectralgpt-b"})
    with pytest.raises(BadSettings, match="leaves none to see"):
        small("spectralearth-mae", mask=0.9).build()
    flat = scene()
    flat[5] = 0.25
    with pytest.raises(BadInput, match=r"band 6 has the value 0\.25"):
        ts.train("pretrain", METHODS[0], flat, out=tmp_path / "run", settings=SMALL, device="cpu", steps=1)
    assert not (tmp_path / "run").exists()
    with pytest.raises(BadSettings, match="on the CPU"):
        run(tmp_path / "run", METHODS[1], steps=1, precision="fp16")


def test_every_backbone_is_trained_by_what_allows_it() -> None:
    names = [n for n in weights.models() if n.startswith(("spec-vit", "spec-resnet", "enmap-"))]
    assert len(names) == 11
    for name in names:
        for method in METHODS:
            if method.endswith("mae") and not name.startswith("spec-vit"):
                continue
            short = {"depth": 1} if "vit" in name else {}
            made = find_recipe("pretrain", method, {"backbone": name, "patch": 32, "network": short})
            made.index = np.arange(202)
            with torch.device("meta"):
                network = made.encoder(made.build())
            assert network.stride >= 1 and made.exported_as()[0] == name


def test_the_papers_numbers_are_the_defaults() -> None:
    dino, mae, moco = (find_recipe("pretrain", m).settings for m in METHODS)
    assert (dino.batch, mae.batch, moco.batch, dino.patch) == (64, 64, 64, 128)
    assert (dino.learning_rate, dino.weight_decay, dino.warm_up, dino.outputs) == (1e-3, 1e-5, 0.2, 128)
    assert (mae.learning_rate, mae.mask, mae.decoder_dim, mae.decoder_depth, mae.decoder_heads) == (
        1e-4,
        0.9,
        512,
        1,
        16,
    )
    assert (moco.learning_rate, moco.weight_decay, moco.temperature, moco.queue, moco.momentum) == (
        1e-3, 1e-4, 0.1, 32768, 0.999,
    )  # fmt: skip
    assert (dino.crop_least, moco.crop_least, mae.crop_least, mae.blur, moco.blur) == (0.05, 0.08, 0.4, 0.0, 0.5)
    assert [find_recipe("pretrain", m).default_epochs for m in METHODS] == [100, 200, 100]
    rates = [find_recipe("pretrain", METHODS[2], {"steps": 100}).rate(step) for step in (0, 59, 60, 80)]
    assert rates == pytest.approx([1, 1, 0.1, 0.01])


def test_the_later_date_is_the_second_view_and_nodata_is_left_out() -> None:
    made = small("spectralearth-dino", crop_least=1.0, blur=0.0, flips=False, locals=0)
    image = np.ones((BANDS, 8, 8), np.float32)
    valid = np.ones((1, 8, 8), np.float32)
    valid[:, :2] = 0

    class Store:
        def sample(self, part: str, index: int, rng: Any = None) -> dict[str, np.ndarray]:
            return {"image": image, "later": image * 3, "valid": valid, "later_valid": valid * 0 + 1}

        def count(self, part: str) -> int:
            return 4

    sample = made.sample(Store(), "train", 0, np.random.default_rng(0))
    batch = {role: torch.from_numpy(a[None]) for role, a in sample.items()}
    one, two = made.views(batch)
    assert one.valid is not None and not one.valid.all() and two.valid is None
    assert two.values.mean() == pytest.approx(3, rel=1e-5) and one.values[one.valid.expand_as(one.values)].mean() == 1
    made.mean, made.std = np.full(BANDS, 0.5), np.full(BANDS, 2.0)
    seen = made.inputs(made.backbone(), one)
    assert (seen[~one.valid.expand_as(seen)] == 0).all() and seen.max() == 0.25
    alone = small("spectralearth-dino", temporal=False, crop_least=1.0, blur=0.0, flips=False, locals=0)
    assert alone.views(batch)[1].values.max() == pytest.approx(1, rel=1e-5)


def test_teacher_schedules_and_frozen_layer() -> None:
    made = small("spectralearth-dino", steps=100, final_weight_decay=0.4)
    torch.manual_seed(0)
    network: Any = made.build()
    optimiser = made.optimiser_of(network)
    for p in network.parameters():
        p.grad = torch.ones_like(p)
    made.before_update(network, optimiser, 0)
    assert all(p.grad is None for p in network.head.last_layer.parameters())
    assert optimiser.param_groups[0]["weight_decay"] == pytest.approx(1e-5)
    made.before_update(network, optimiser, 99)
    assert optimiser.param_groups[0]["weight_decay"] == pytest.approx(0.4)
    assert [made.teacher_momentum(s) for s in (0, 99)] == pytest.approx([0.996, 1.0])
    assert small("spectralearth-dino", steps=100, momentum_share=0.1).teacher_momentum(10) == pytest.approx(
        1.0, abs=1e-4
    )
    assert made.scheduled(0) == pytest.approx({"weight_decay": 1e-5, "teacher_momentum": 0.996})
    split = small("spectralearth-dino", decay_vectors=False, weight_decay=0.1)
    groups = split.groups(p for p in network.parameters() if p.requires_grad)
    assert [g["weight_decay"] for g in groups] == [0.1, 0.0] and all(p.ndim <= 1 for p in groups[1]["params"])
    checked = small("spectralearth-moco", checkpointing=True).build()
    assert checked.backbone.vit_core.grad_checkpointing and not checked.keys.vit_core.grad_checkpointing


def test_the_monitor_watches_the_encoder(tmp_path: Path) -> None:
    run(tmp_path / "a", "spectralearth-dino", steps=3, settings={"monitor_every": 1, "monitor_samples": 10})
    rows = (tmp_path / "a/representation.csv").read_text().splitlines()
    assert len(rows) >= 3 and "dse" in rows[0]


def test_cards_and_classes_agree() -> None:
    cards = registry.methods("pretraining")
    assert set(METHODS) <= {card.name for card in cards}
    for card in cards:
        made = find_recipe("pretrain", card.name)
        assert made.method == card.name and made.room == "pretraining" and card.verb == "pretrain"
        assert card.scope == "training" and card.evidence and 1990 < card.year < 2100
        assert {r["name"] for r in registry.settings_table(card)} == set(type(made).Settings.model_fields)
        for name, field in type(made).Settings.model_fields.items():
            assert field.description, name
