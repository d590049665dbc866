"""SpectralGPT's recipe: stages, masks, starts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from recipe_steps import SMALL, batch_of, exported, opened, scene, train_steps

from torchspectral import weights
from torchspectral.errors import BadSettings
from torchspectral.learn.runs import LAST, Run
from torchspectral.learn.train import find_recipe, train

TINY = {
    "network": {"embed_dim": 32, "depth": 2, "num_heads": 2, "patch_size": 4},
    "decoder_dim": 32, "decoder_depth": 1, "decoder_heads": 2,
}  # fmt: skip


def test_stages_of_the_published_schedule() -> None:
    recipe = find_recipe("pretraining", "spectralgpt", {"steps": 300})
    assert [recipe.size_at(s) for s in (0, 199, 200, 299)] == [96, 96, 128, 128] and recipe.view_size == 128
    rates = [recipe.rate(s) for s in range(300)]
    assert max(rates) == pytest.approx(1.0, abs=0.01) and np.argmax(rates) in (19, 20)
    assert max(rates[200:]) == pytest.approx(0.5, abs=0.01) and int(np.argmax(rates[200:])) in (9, 10)
    assert rates[199] < 1e-3 > rates[-1] and rates[0] < 0.06
    one = find_recipe("pretraining", "spectralgpt", {"sizes": [], "steps": 10, "patch": 64})
    assert one.size_at(5) == one.view_size == 64 and one.scheduled(3)["view_size"] == 64
    wrong = ({"sizes": [128, 96]}, {"sizes": [96]}, {"shares": [0.5, 0.4]}, {"sizes": [90, 100]}, {"view": 96})
    for settings in wrong:
        with pytest.raises(BadSettings):
            find_recipe("pretraining", "spectralgpt", settings)


def test_loss_falls_and_the_encoder_is_kept(tmp_path: Path) -> None:
    recipe, store = opened(
        "spectralgpt", [scene()], tmp_path, **TINY, steps=30, sizes=[8, 16], learning_rate=0.08, mask_ratio=0.75,
        shares=[0.5, 0.5], bands=9,
    )  # fmt: skip
    network, losses = train_steps(recipe, store, 30)
    assert np.mean(losses[-5:]) < 0.4 * np.mean(losses[:3])
    batch = batch_of(recipe, store, 0)
    with torch.no_grad():
        figures = recipe.validate(network.eval(), batch)
    assert figures["loss"] == pytest.approx(figures["tokens"] + figures["spectra"])
    encoder = exported(recipe, network)
    card = recipe.card()
    assert encoder.scaling == "minmax" and len(card["wavelengths"]) == 9 and "9 bands chosen" in card["preprocessing"]
    with torch.no_grad():
        assert torch.equal(encoder(encoder.as_input(batch["image"])), recipe.embed(network.eval(), batch))


def test_a_tenth_of_the_tokens_is_seen(tmp_path: Path) -> None:
    recipe, store = opened("spectralgpt", [scene()], tmp_path, **TINY, steps=4, sizes=[])
    network = recipe.build()
    got = recipe.reconstruct(network, batch_of(recipe, store, 0))
    assert got.mask.shape == (8, 64) and got.latent.shape[1] == 6
    again = recipe.reconstruct(network, batch_of(recipe, store, 0))
    assert torch.equal(got.mask, again.mask)  # what is hidden follows from the sample
    with pytest.raises(BadSettings, match="bands=24"):
        opened("spectralgpt", [scene(25)], tmp_path / "other", **TINY, sizes=[])


@pytest.mark.slow
def test_started_from_a_run_of_another_size(tmp_path: Path) -> None:
    pytest.importorskip("lightning")
    settings = {**SMALL, **TINY, "steps": 4, "sizes": [8, 16], "positions": "fresh", "shares": [0.5, 0.5]}
    data = [scene()]
    train("pretrain", "spectralgpt", data, out=tmp_path / "whole", device="cpu", settings=settings)
    whole = Run(tmp_path / "whole").load_checkpoint(LAST)
    made = weights.load(tmp_path / "whole")
    assert made.card.model == "spectralgpt-b" and not any("decoder" in key for key in made.state)
    assert torch.equal(made.build().norm.weight, whole["model"]["norm.weight"])

    more = {**settings, "start": str(tmp_path / "whole"), "sizes": [24], "shares": [1.0], "rates": [1.0], "patch": 24}
    for positions in ("interpolate", "fresh"):
        recipe, _ = opened("spectralgpt", data, tmp_path / positions, **{**more, "positions": positions})
        torch.manual_seed(5)
        begun = recipe.build().state_dict()
        assert torch.equal(begun["decoder_pred.weight"], whole["model"]["decoder_pred.weight"])
        assert begun["pos_embed_spatial"].shape[1] == 36
        if positions == "interpolate":
            middle = whole["model"]["pos_embed_spatial"].mean((0, 1))
            torch.testing.assert_close(begun["pos_embed_spatial"].mean((0, 1)), middle, atol=6e-3, rtol=0.1)
    encoder_only = {**more, "start": str(tmp_path / "whole/weights.safetensors"), "positions": "interpolate"}
    recipe, _ = opened("spectralgpt", data, tmp_path / "file", **encoder_only)
    assert torch.equal(recipe.build().blocks[0].attn.q.weight, whole["model"]["blocks.0.attn.q.weight"])
