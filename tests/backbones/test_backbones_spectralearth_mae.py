"""Masked autoencoder of SpectralEarth."""

from __future__ import annotations

import pytest
import torch

from torchspectral.backbones.positions import sincos_positions
from torchspectral.backbones.spectralearth.mae import SpecMAE, patchify
from torchspectral.errors import BadInput, BadSettings, BandMismatch
from torchspectral.learn.losses.mae import masked_error

TINY = {"dim": 24, "depth": 2, "heads": 3, "image_size": 16, "bands": 76, "decoder_dim": 16, "decoder_heads": 2}


@pytest.fixture(scope="module")
def network() -> SpecMAE:
    torch.manual_seed(0)
    return SpecMAE(**TINY, mask_ratio=0.75)


def test_kept_and_masked_tokens(network) -> None:
    assert network.kept == 5
    noise = torch.rand(3, 17)
    kept, masked = network.draw(3, torch.device("cpu"), noise)
    assert (kept[:, 0] == 0).all()
    assert torch.equal(torch.cat([kept, masked], 1).sort(1).values, torch.arange(17).expand(3, -1))
    assert SpecMAE(**{**TINY, "image_size": 128}).kept == 103  # int(1024 * 0.1) and the class token
    with pytest.raises(BadInput, match="noise"):
        network.draw(3, torch.device("cpu"), noise[:, 1:])


def test_in_evaluation_only_visible_pixels_are_needed(network) -> None:
    x, noise = torch.randn(2, 76, 16, 16), torch.rand(2, 17)
    with torch.no_grad():
        made = network.eval()(x, noise)
        hidden = patchify(x, 4).clone()
        index = (made.masked - 1)[..., None].expand(-1, -1, hidden.shape[2])
        hidden.scatter_(1, index, 1e3)
        x2 = hidden.view(2, 4, 4, 4, 4, 76).permute(0, 5, 1, 3, 2, 4).reshape(x.shape)
        again = network(x2, noise)
        core, kept = network.encoder.vit_core, made.kept
        whole = core.patch_embed(network.encoder.spectral_adapter(x)) + core.pos_embed[:, 1:]
        tokens = torch.cat([(core.cls_token + core.pos_embed[:, :1]).expand(2, -1, -1), whole], 1)
        plain = core.norm(core.blocks(tokens.gather(1, kept[..., None].expand(-1, -1, 24))))
    assert torch.equal(made.latent, again.latent) and torch.equal(made.predicted, again.predicted)
    assert torch.allclose(made.latent, plain, atol=1e-5)
    assert (again.target == 1e3).all() and made.target.shape == (2, 12, 16 * 76)


@pytest.mark.parametrize("sees", ["all", "visible"])
def test_a_step_lowers_the_loss_and_leaves_positions_alone(sees) -> None:
    torch.manual_seed(0)
    network = SpecMAE(**TINY, mask_ratio=0.75, adapter_sees=sees).train()
    network.set_grad_checkpointing()
    x, noise = torch.randn(2, 76, 16, 16), torch.rand(2, 17)
    optimiser = torch.optim.AdamW((p for p in network.parameters() if p.requires_grad), lr=3e-3)
    positions, values = network.encoder.vit_core.pos_embed.clone(), []
    for _ in range(4):
        optimiser.zero_grad()
        made = network(x, noise)
        loss = masked_error(made.predicted, made.target)
        loss.backward()
        assert all(p.grad is not None for p in network.parameters() if p.requires_grad)
        optimiser.step()
        values.append(loss.item())
    assert values[-1] < values[0] and torch.equal(positions, network.encoder.vit_core.pos_embed)


def test_checkpoints_of_the_authors_training_fill_it(network) -> None:
    saved = {}
    for key, value in network.state_dict().items():
        if key.startswith("encoder.") and "mask_token" not in key:
            name = key.replace("patch_embed.proj", "patch_embed.original_patch_embed.proj").removeprefix("encoder.")
            saved[f"encoder.vit.spec_vit.{name}"] = value
        elif key.startswith("decoder."):
            saved[key] = value
    target = SpecMAE(**TINY)
    assert target.load_matched({f"model.{k}": v for k, v in saved.items()}).share == 1
    for key, value in target.state_dict().items():
        assert "mask_token" in key or torch.equal(value, network.state_dict()[key]), key


def test_positions_are_sines_of_column_then_row() -> None:
    table = sincos_positions(8, 3)[0]
    assert table.shape == (10, 8) and (table[0] == 0).all()
    row, col = 2, 1
    rates = torch.tensor([1.0, 0.01])
    expected = torch.cat([(col * rates).sin(), (col * rates).cos(), (row * rates).sin(), (row * rates).cos()])
    assert torch.allclose(table[1 + 3 * row + col], expected, atol=1e-6)
    with pytest.raises(BadSettings):
        sincos_positions(6, 2)


def test_what_does_not_fit_is_refused(network) -> None:
    with pytest.raises(BandMismatch, match="76 bands"):
        network(torch.zeros(1, 80, 16, 16))
    with pytest.raises(BadInput):
        network(torch.zeros(1, 76, 20, 16))
    with pytest.raises(BadSettings, match="mask_ratio"):
        SpecMAE(**TINY, mask_ratio=1.0)
    with pytest.raises(BandMismatch, match="at least 75"):
        SpecMAE(**{**TINY, "bands": 60})
