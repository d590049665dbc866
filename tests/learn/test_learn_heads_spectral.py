"""Heads of SpectralGPT and the experts of LESS ViT."""

from __future__ import annotations

import pytest
import torch

from torchspectral.errors import BadInput, BadSettings
from torchspectral.learn.heads.channel_experts import ChannelExperts
from torchspectral.learn.heads.segmunich import OSCDHead, SegMunichHead, change_class_weights


def test_classes_of_pixels_from_groups_of_bands() -> None:
    torch.manual_seed(0)
    head = SegMunichHead(32, groups=3, num_classes=5).eval()
    maps = torch.randn(1, 3, 32, 4, 3)
    with torch.no_grad():
        assert head(maps).shape == (1, 5, 32, 24)
        weight = head.fc[0].weight[0]
        joined = sum(weight[i] * maps[:, i] for i in range(3)) + head.fc[0].bias
        torch.testing.assert_close(head.join(maps), joined)
    with pytest.raises(BadInput):
        head(maps[:, :2])


def test_change_depends_on_the_difference_of_dates() -> None:
    torch.manual_seed(0)
    head = OSCDHead(32, groups=2).eval()
    first, second, shift = torch.randn(3, 1, 2, 32, 4, 4)
    with torch.no_grad():
        out = head(first, second)
        torch.testing.assert_close(out.exp().sum(1), torch.ones(1, 32, 32))
        torch.testing.assert_close(head(first + shift, second + shift), out, atol=1e-4, rtol=1e-4)
        assert not torch.allclose(head(second, first), out)
    with pytest.raises(BadInput, match="two"):
        head(first)


def test_weights_of_a_rare_change() -> None:
    assert change_class_weights(20, 1000).tolist() == pytest.approx([0.4, 1.96])
    with pytest.raises(BadInput):
        change_class_weights(3, 2)


def test_experts_take_the_channels_that_they_rate_highest() -> None:
    torch.manual_seed(0)
    head, tokens = ChannelExperts(8, 3, experts=2, top=2), torch.randn(4, 6, 8)
    out = head(tokens)
    torch.testing.assert_close(head(tokens[:, torch.randperm(6)]), out)  # order of channels is nothing
    rates = head.gate(tokens).softmax(-1)
    logits = []
    for i in range(2):
        best = rates[0, :, i].argsort(descending=True)[:2]
        share = rates[0, best, i] / rates[0, best, i].sum()
        logits.append(head.experts[i]((share[:, None] * tokens[0, best]).sum(0)))
    torch.testing.assert_close(out[0], torch.stack(logits).mean(0))
    out.sum().backward()
    assert head.gate.weight.grad.abs().sum() > 0
    assert ChannelExperts(8, 3, top=9)(tokens).shape == (4, 3)
    with pytest.raises(BadInput):
        head(tokens[0])
    with pytest.raises(BadSettings):
        ChannelExperts(8, 3, experts=0)
