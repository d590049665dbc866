"""INTL: whitening to the identity, precision, guards, and momentum."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from torchspectral.backbones.padded_resnet import PaddedResNet
from torchspectral.errors import BadInput, BadSettings, BandMismatch
from torchspectral.learn.losses.intl import INTL, INTLLoss, IterNorm, momentum_at, projector, trace_loss, trade_off


@pytest.mark.parametrize(("axis", "shape"), [(0, (16, 96)), (1, (200, 12))])
def test_many_iterations_whiten(axis: int, shape: tuple[int, int]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    z = IterNorm(axis, 12)(x)
    z = z if axis == 1 else z.T
    covariance = (z - z.mean(0)).T @ (z - z.mean(0)) / (z.shape[0] - 1)
    assert (covariance - torch.eye(covariance.shape[0])).abs().max() < 1e-3
    assert trace_loss(z, 1) < 1e-5


def test_fewer_iterations_keep_small_directions_small() -> None:
    x = torch.randn(400, 6, generator=torch.Generator().manual_seed(1)) * torch.tensor([5.0, 4, 3, 2, 0.5, 0.05])
    spread = IterNorm(1, 4)(x).var(0)
    assert spread[0] > 0.9 and spread[-1] < 0.01


@pytest.mark.parametrize("axis", [0, 1])
def test_gradient_is_that_of_differences(axis: int) -> None:
    x = torch.randn(6, 9 if axis == 0 else 4, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: trace_loss(IterNorm(axis, 3)(v), axis), x)


def test_autocast_does_not_touch_the_whitening() -> None:
    views = list(torch.randn(2, 8, 64, generator=torch.Generator().manual_seed(0)))
    loss = INTLLoss(trade_off=0.05)
    plain = loss(views)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert loss(views).dtype == torch.float32 and torch.equal(loss(views), plain)


def test_effective_rank_of_the_last_batch_tells_collapse() -> None:
    loss, draw = INTLLoss(), torch.Generator().manual_seed(0)
    with pytest.raises(BadInput, match="no batch"):
        loss.effective_rank()
    loss(list(torch.randn(2, 16, 64, generator=draw)))
    rich = loss.effective_rank()
    loss([torch.outer(torch.randn(16, generator=draw), torch.ones(64)) for _ in range(2)])
    assert rich > 10 and loss.effective_rank() == pytest.approx(1.0, abs=1e-3)


def test_trade_off_is_that_of_the_paper() -> None:
    assert trade_off(0, 256, 8192) == pytest.approx(0.05) and trade_off(0, 128, 8192) == pytest.approx(0.04)
    assert trade_off(1, 256, 64) == pytest.approx(0.03)


@pytest.mark.parametrize("axis", [0, 1])
def test_five_views_are_the_mean_of_the_pairs_with_the_first(axis: int) -> None:
    shape = (32, 128) if axis == 0 else (128, 32)
    views = [torch.randn(shape, generator=torch.Generator().manual_seed(s)) for s in range(5)]
    for momentum in (False, True):
        loss = INTLLoss(axis, momentum=momentum)
        pairs = torch.stack([loss([views[0], v]) for v in views[1:]])
        assert torch.allclose(loss(views), pairs.mean(), rtol=1e-5)


def test_an_equal_batch_gives_a_finite_loss_and_gradient() -> None:
    views = [torch.ones(4, 8, requires_grad=True) for _ in range(2)]
    loss = INTLLoss(trade_off=0.05)(views)
    loss.backward()
    assert loss.isfinite() and views[0].grad is not None and views[0].grad.isfinite().all()


@pytest.mark.parametrize(
    ("call", "error", "words"),
    [
        (lambda: INTLLoss(0)([torch.randn(8, 8)] * 2), BadInput, "more dimensions than samples"),
        (lambda: INTLLoss(1)([torch.randn(8, 8)] * 2), BadInput, "more samples than dimensions"),
        (lambda: INTLLoss()([torch.randn(8, 16)]), BadInput, "two or more"),
        (lambda: INTLLoss()([torch.randn(8, 16), torch.randn(8, 17)]), BadInput, "two or more"),
        (lambda: INTLLoss(trade_off="best"), BadSettings, "auto"),
        (lambda: IterNorm(2), BadSettings, "axis"),
        (lambda: PaddedResNet(3, depth=20), BadSettings, "depth"),
        (lambda: PaddedResNet(3, depth=18)(torch.zeros(1, 4, 32, 32)), BandMismatch, "4 bands"),
        (lambda: INTL(nn.Flatten(), nn.Identity(), INTLLoss())([torch.zeros(2, 9)] * 2, 0.9), BadSettings, "INTL-M"),
    ],
)
def test_refusals(call, error, words) -> None:
    with pytest.raises(error, match=words):
        call()


def small(momentum: bool) -> INTL:
    torch.manual_seed(0)
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(48, 10))
    return INTL(backbone, projector(10, 20, 24, 3), INTLLoss(trade_off=0.05, momentum=momentum))


def test_momentum_network_is_averaged_before_the_step_and_gets_no_gradient() -> None:
    model = small(True).double()
    with torch.no_grad():
        model.backbone[1].weight.add_(1.0)
    before = model.momentum_backbone[1].weight.clone()
    views = [torch.randn(6, 3, 4, 4, dtype=torch.float64) for _ in range(3)]
    running = model.momentum_projection[1].running_mean.clone()
    model(views, 0.9).backward()
    assert torch.allclose(model.momentum_backbone[1].weight, 0.9 * before + 0.1 * model.backbone[1].weight)
    assert all(p.grad is None for p in model.momentum_projection.parameters())
    assert not torch.equal(model.momentum_projection[1].running_mean, running)  # its own statistics
    assert momentum_at(0, 100) == 0.996 and momentum_at(100, 100) == 1.0


def test_imagenet_stem_is_torchvisions() -> None:
    torch.manual_seed(0)
    net = PaddedResNet(5, 18).eval()
    x = torch.randn(1, 5, 40, 40)
    conv = net.conv1
    plain = torch.nn.functional.conv2d(x, conv.weight, stride=2, padding=3)
    padded = conv(torch.nn.functional.pad(x, (1, 1, 1, 1)))
    assert torch.allclose(plain, padded, atol=1e-6)
    maps = net.feature_maps(x)
    assert [m.shape[1] for m in maps] == list(net.map_dims) and net(x).shape == (1, net.dim)
    net.set_grad_checkpointing()
    assert torch.allclose(net.train().forward_features(x.repeat(2, 1, 1, 1)).mean(), net(x.repeat(2, 1, 1, 1)).mean())
