"""What we ship: checksums, size, terms, and that the card's claims hold."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral import weights
from torchspectral.errors import BandMismatch, MissingDependency, MissingWeights

SHIPPED = [entry for entry in weights.listing() if entry.where != "store"]


@pytest.fixture(autouse=True)
def empty_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHSPECTRAL_STORE", str(tmp_path / "store"))


@pytest.mark.parametrize("entry", SHIPPED, ids=[e.name for e in SHIPPED])
def test_every_card_says_enough(entry) -> None:
    card = entry.card
    assert card.name == entry.name and card.model in weights.models()
    assert len(card.sha256) == 64 or (entry.path is None and not card.sha256 and "not seen" in card.source)
    assert card.licence != "unknown" and card.source and card.commercial and card.trained_on
    if entry.path is None:
        with pytest.raises(MissingWeights, match=f"torchspectral weights add {entry.name} FILE"):
            weights.load(entry.name)
        return
    assert entry.path.suffix == ".safetensors" and entry.path.stat().st_size <= 5_000_000
    assert weights.inspect(entry.name)["checksum"] == "ok"
    assert card.command and card.attribution and card.metrics
    sizes = {key: value.numel() for key, value in weights.create_model(entry.name).state_dict().items()}
    optional = sum(n for key, n in sizes.items() if any(re.fullmatch(known, key) for known in card.optional_keys))
    whole = sum(sizes.values())
    assert whole - optional <= weights.inspect(entry.name)["parameters"] <= whole


def scene():
    from torchspectral.io.samples import indian_pines

    try:
        return indian_pines()[0]
    except MissingDependency:
        pytest.skip("Indian Pines comes with the package tensorly, which is not installed")


def test_shipped_hyperpnn_beats_interpolation_on_held_out_ground() -> None:
    from torchspectral.metrics import ERGAS, SAM

    card = weights.load("hyperpnn.indian-pines").card
    pair = ts.simulate_wald(scene(), 4)
    truth = torch.from_numpy(pair["truth"].values.astype(np.float32))
    unseen = slice(108, 144)
    found = {}
    for method in ("exp", "gsa", "hyperpnn"):
        extra = {"weights": "hyperpnn.indian-pines"} if method == "hyperpnn" else {}
        out = torch.from_numpy(ts.sharpen(pair["hs"], pair["pan"], method=method, **extra).primary.values)
        ergas, angle = ERGAS(4), SAM()
        for metric in (ergas, angle):
            metric.update(out[:, unseen].clone(), truth[:, unseen].clone())
        found[method] = {"ergas": ergas.compute(), "sam_deg": angle.compute()}
        assert found[method] == pytest.approx(card.metrics["held_out"][method], abs=0.01)
    assert found["hyperpnn"]["ergas"] < 0.85 * found["exp"]["ergas"]
    assert found["hyperpnn"]["sam_deg"] < 0.97 * found["exp"]["sam_deg"]
    assert found["hyperpnn"]["ergas"] < found["gsa"]["ergas"]


def test_another_sensor_is_refused_with_advice() -> None:
    rng = np.random.default_rng(0)
    cube = ts.make_cube(
        rng.uniform(1000, 4000, (100, 12, 12)).astype(np.float32), wavelength=np.linspace(420, 2450, 100), quantity="dn"
    )
    pan = ts.make_cube(rng.uniform(1000, 4000, (1, 48, 48)).astype(np.float32), quantity="dn")
    from affine import Affine

    from torchspectral.geo import place

    cube, pan = place(cube, Affine(40, 0, 0, 0, -40, 0), 32633), place(pan, Affine(10, 0, 0, 0, -10, 0), 32633)
    with pytest.raises(BandMismatch, match=r"100 bands.*expect 200.*resampl.*train"):
        ts.sharpen(cube, pan, method="hyperpnn", weights="hyperpnn.indian-pines")
