"""Cards of published weights: readable, true to the backbones, and able to load what the authors' training saves."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral import weights
from torchspectral.backbones.softcon.bands import in_steps
from torchspectral.backbones.softcon.scenes import as_sentinel2
from torchspectral.errors import MissingMetadata
from torchspectral.sensors import get
from torchspectral.weights.card import WeightsCard, read_card

FOLDER = Path(str(resources.files("torchspectral.backbones").joinpath("weights")))
CARDS = [read_card(f) for f in sorted(FOLDER.glob("spec-*.yaml")) + sorted(FOLDER.glob("softcon-*.yaml"))]


@pytest.mark.parametrize("card", CARDS, ids=[c.name for c in CARDS])
def test_cards_agree_with_their_backbones(card: WeightsCard) -> None:
    with torch.device("meta"):
        network = ts.create_model(card.model, **card.constructor)
    if network.bands.wavelengths is None:
        assert card.wavelengths == "any" and len(card.mean) == network.bands.count
    else:
        assert card.wavelengths == pytest.approx(list(network.bands.wavelengths))
        assert card.fwhm == pytest.approx(list(network.bands.fwhm))
    assert card.source and card.attribution and card.trained_on
    if card.model.startswith("spec-"):
        assert "TorchGeo" in card.preprocessing and "deep water vapour" in card.preprocessing


def test_a_file_as_the_authors_save_it_fills_by_the_card(tmp_path: Path) -> None:
    card = next(c for c in CARDS if c.name == "spec-vit-s.mae")
    tiny = {"dim": 24, "depth": 1, "heads": 3, "image_size": 16}
    network, saved = ts.create_model("spec-vit-t", **tiny, num_classes=5), {}
    for key, value in network.state_dict().items():
        wrapped = key.replace("patch_embed.proj", "patch_embed.original_patch_embed.proj")
        saved[f"encoder.vit.spec_vit.{wrapped}"] = value
        saved[f"encoder.vit.{wrapped}"] = value
    saved["decoder.mask_token"] = torch.zeros(1, 1, 8)
    torch.save({"state_dict": saved, "epoch": 1}, tmp_path / "mae.ckpt")
    target = ts.create_model("spec-vit-t", **tiny)
    weights.load(tmp_path / "mae.ckpt", model=target, card=card)
    assert torch.equal(target.vit_core.patch_embed.proj.weight, network.vit_core.patch_embed.proj.weight)
    assert torch.equal(target.spectral_adapter[6].weight, network.spectral_adapter[6].weight)


def test_preparation_needs_statistics() -> None:
    network = ts.create_model("spec-vit-t", dim=24, depth=1, heads=3, image_size=16)
    x = torch.rand(1, 80, 4, 4) * 3000
    with pytest.raises(MissingMetadata, match="mean and std"):
        network.as_input(x)
    assert torch.allclose(network.as_input(x, [1500.0] * 80, [500.0] * 80), (x - 1500) / 500, atol=1e-5)
    softcon = ts.create_model("softcon-vit-s", dim=24, depth=1, heads=3, modality="sentinel-1")
    y, valid = torch.randn(1, 2, 3, 3) * 5 - 15, torch.ones(1, 1, 3, 3, dtype=torch.bool)
    valid[..., 0] = False
    steps = softcon.as_input(y, valid=valid)
    assert (
        torch.equal(steps[..., 1:], in_steps(y, modality="sentinel-1")[..., 1:]) and (steps[..., 0] == 127 / 255).all()
    )


def test_an_enmap_scene_becomes_sentinel_2_with_a_report() -> None:
    sensor = get("enmap")
    order = np.argsort(sensor.wavelength)
    kept = [order[i] for i in range(224) if not (126 <= i <= 140 or 160 <= i <= 166)]
    cube = ts.make_cube(
        np.full((202, 3, 4), 0.3, np.float32), wavelength=sensor.wavelength[kept], fwhm=sensor.fwhm[kept],
        quantity="reflectance",
    )  # fmt: skip
    cube.attrs["level"] = "L2A"
    out, notes = as_sentinel2(cube)
    assert out.sizes["band"] == 13 and out["good"].all()
    np.testing.assert_allclose(np.delete(out.values, 10, 0), 0.3, rtol=1e-5)
    np.testing.assert_allclose(out.values[10], 0.0022, rtol=1e-5)
    assert any("B10" in note for note in notes) and any("top of the atmosphere" in note for note in notes)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("softcon-vit-s", 22.4), ("softcon-vit-b", 87.2), ("softcon-resnet50", 23.5),
        ("spectralgpt-l", 303.0), ("spectralgpt-h", 630.2), ("less-vit-b", 72.5), ("less-vit-v2-b", 71.8),
    ],
)  # fmt: skip
def test_published_sizes_of_the_other_families(name: str, millions: float) -> None:
    with torch.device("meta"):
        network = ts.create_model(name)
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=3e-3)
