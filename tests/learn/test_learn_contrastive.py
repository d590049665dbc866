"""Losses of contrast, soft contrast, DINO, masked patches and several targets."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy, normalize

from torchspectral.errors import BadInput, BadSettings
from torchspectral.learn.heads.projection import ContrastiveProjection, DINOProjection
from torchspectral.learn.losses.contrastive import InfoNCE, NTXent
from torchspectral.learn.losses.dino import DINOLoss
from torchspectral.learn.losses.mae import masked_error
from torchspectral.learn.losses.regression import relative_error
from torchspectral.learn.losses.soft_contrastive import SoftContrastive, label_similarity, soft_term


def views(n: int = 8, width: int = 6, count: int = 2, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, width, generator=generator, dtype=torch.float64).float() for _ in range(count)]


def test_nt_xent_is_the_sum_over_pairs() -> None:
    one, two = views()
    z = normalize(torch.cat([one, two]), dim=1)
    similar = (z @ z.T / 0.2).exp()
    total = sum(
        -torch.log(similar[i, (i + 8) % 16] / (similar[i].sum() - similar[i, i])) for i in range(16)
    )  # fmt: skip
    assert NTXent(0.2)(one, two).item() == pytest.approx(total.item() / 16, rel=1e-5)
    assert NTXent()(one, one * 3).item() < NTXent()(one, two).item()


def test_the_queue_turns_and_is_saved() -> None:
    loss = InfoNCE(6, queue=20, temperature=0.5)
    start, (one, two) = loss.keys.clone(), views()
    q, k = normalize(one, dim=1), normalize(two, dim=1)
    logits = torch.cat([(q * k).sum(1, keepdim=True), q @ start.T], 1) / 0.5
    expected = cross_entropy(logits, torch.zeros(8, dtype=torch.int64))
    assert loss(one, two).item() == pytest.approx(expected.item(), rel=1e-6)
    assert torch.allclose(loss.keys[:8], k) and torch.equal(loss.keys[8:], start[8:])
    loss(one, two), loss(one, two)
    assert int(loss.next_key) == 4 and torch.allclose(loss.keys[:4], k[4:])
    again = InfoNCE(6, queue=20, temperature=0.5, seed=5)
    again.load_state_dict(loss.state_dict())
    assert torch.equal(again(one, two), loss(one, two))
    assert not torch.equal(InfoNCE(6, 20, seed=1).keys, start) and torch.equal(InfoNCE(6, 20).keys, start)


def test_keys_of_a_queue_get_no_gradient_and_the_update_spoils_none() -> None:
    one, two = (v.requires_grad_() for v in views())
    InfoNCE(6, queue=10)(one, two).backward()
    assert one.grad.abs().sum() > 0 and two.grad is None
    InfoNCE(6, queue=0)(one, two).backward()
    assert two.grad.abs().sum() > 0
    with pytest.raises(BadInput, match="5 features"):
        InfoNCE(6)(one[:, :5], two[:, :5])
    with pytest.raises(BadSettings, match="temperature"):
        NTXent(0.0)
    with pytest.raises(BadInput, match="two of"):
        NTXent()(one, two[1:])


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(0, 99))
def test_targets_of_alike_and_of_distinct_labels(scenes, classes, seed) -> None:
    alike = torch.rand(1, classes, generator=torch.Generator().manual_seed(seed)) + 0.1
    assert torch.allclose(label_similarity(alike.expand(scenes, -1)), torch.ones(scenes, scenes), atol=1e-5)
    assert torch.allclose(label_similarity(torch.eye(classes)), torch.eye(classes))


def test_unlabelled_scenes_stay_out_of_the_soft_term_only() -> None:
    (one, two), labels = views(), torch.zeros(8, 3)
    labels[[0, 2, 5], [0, 1, 1]] = 1
    labels[2, 0] = 1
    known = [0, 2, 5]
    terms = SoftContrastive(0.3, 0.5).terms(one, two, labels)
    cosine = normalize(one, dim=1) @ normalize(two, dim=1).T
    root = 0.5**0.5
    target = torch.tensor([[1.0, root, 0.0], [root, 1.0, root], [0.0, root, 1.0]])
    soft = binary_cross_entropy_with_logits(cosine[known][:, known] / 0.3, target)
    contrast = cross_entropy(cosine / 0.3, torch.arange(8))
    assert terms.soft.item() == pytest.approx(soft.item(), rel=1e-5)
    assert terms.contrast.item() == pytest.approx(contrast.item(), rel=1e-5)
    assert terms.total.item() == pytest.approx(contrast.item() + 0.5 * soft.item(), rel=1e-5)
    none = SoftContrastive().terms(one.requires_grad_(), two, torch.zeros(8, 3))
    none.total.backward()
    assert none.soft == 0 and torch.isfinite(one.grad).all()


def test_both_orders_and_a_queue() -> None:
    q1, q2, k1, k2 = views(count=4)
    labels, queue = (torch.rand(8, 4) > 0.5).float(), views(30)[0]
    loss = SoftContrastive()
    both = loss((q1, k1), (q2, k2), labels, queue)
    one, two = loss.terms(q1, k2, labels, queue), loss.terms(q2, k1, labels, queue)
    assert both.total.item() == pytest.approx((one.total + two.total).item() / 2)
    assert loss.terms(q1, k2, labels).soft == one.soft and loss.terms(q1, k2, labels).contrast != one.contrast
    with pytest.raises(BadInput, match="one row a scene"):
        loss.terms(q1, k1, labels[1:])
    with pytest.raises(BadInput, match="negative"):
        loss.terms(q1, k1, labels - 1)
    with pytest.raises(BadSettings, match="weight"):
        SoftContrastive(weight=-1)


def test_gradients_are_those_of_finite_differences() -> None:
    labels = torch.tensor([[1.0, 0], [1, 1], [0, 0], [0, 1]])
    x = views(4, 3)[0].double().requires_grad_()
    similarity = lambda z: normalize(z, dim=1) @ normalize(z.flip(0), dim=1).T  # noqa: E731
    assert torch.autograd.gradcheck(lambda z: soft_term(similarity(z), labels.double(), 0.2), x)


def test_soft_contrast_gathers_scenes_by_label() -> None:
    from sklearn.metrics import silhouette_score

    torch.manual_seed(0)
    kinds = torch.arange(64) % 3
    labels = torch.tensor([[1.0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]])[kinds]
    spectra = torch.randn(3, 30)[kinds]
    network = nn.Sequential(nn.Linear(30, 64), nn.ReLU(), nn.Linear(64, 16))
    loss, optimiser = SoftContrastive(weight=1.0), torch.optim.Adam(network.parameters(), lr=3e-3)
    for _ in range(80):
        one, two = (network(spectra + 1.5 * torch.randn(64, 30)) for _ in range(2))
        optimiser.zero_grad()
        loss((one, one), (two, two), labels).total.backward()
        optimiser.step()
    with torch.no_grad():
        features = normalize(network(spectra + 1.5 * torch.randn(64, 30)), dim=1)
    assert silhouette_score(features.numpy(), kinds.numpy()) > 0.5


def test_dino_skips_equal_views_and_moves_its_centre() -> None:
    t0, t1, s2 = views(count=3)
    loss = DINOLoss(6, warmup_temperature=0.02, warmup_epochs=3)
    assert [loss.temperature(e) for e in (0, 1, 2, 3, None)] == pytest.approx([0.02, 0.03, 0.04, 0.04, 0.04])
    value = loss([t0, t1], [t0, t1, s2], epoch=0)
    pairs = [(t0, t1), (t0, s2), (t1, t0), (t1, s2)]
    each = [-((t / 0.02).softmax(1) * (s / 0.1).log_softmax(1)).sum(1).mean() for t, s in pairs]
    assert value.item() == pytest.approx(sum(each).item() / 4, rel=1e-5)
    assert torch.allclose(loss.center[0, 0], 0.1 * torch.cat([t0, t1]).mean(0), atol=1e-7)
    with pytest.raises(BadInput, match="student views"):
        loss([t0], [t0])
    with pytest.raises(BadSettings, match="momentum"):
        DINOLoss(6, momentum=2.0)


def test_dino_teachers_get_no_gradient() -> None:
    (teacher, student, other) = (v.requires_grad_() for v in views(count=3))
    DINOLoss(6)([teacher], [student, other]).backward()
    assert teacher.grad is None and other.grad.abs().sum() > 0


def test_masked_error_leaves_nodata_out() -> None:
    predicted, target = torch.randn(2, 3, 10), torch.randn(2, 3, 10) * 4 + 2
    normal = (target - target.mean(-1, keepdim=True)) / (target.var(-1, keepdim=True) + 1e-6).sqrt()
    assert masked_error(predicted, target).item() == pytest.approx(
        (predicted - normal).square().mean().item(), rel=1e-5
    )
    plain = masked_error(predicted, target, normalised=False)
    assert plain.item() == pytest.approx((predicted - target).square().mean().item(), rel=1e-5)
    valid = torch.ones_like(target, dtype=torch.bool)
    valid[..., 6:] = False
    broken = torch.where(valid, target, torch.nan)
    expected = masked_error(predicted[..., :6], target[..., :6])
    assert masked_error(predicted, broken, valid=valid).item() == pytest.approx(expected.item(), rel=1e-5)
    assert masked_error(predicted, broken, valid=valid & False) == 0
    with pytest.raises(BadInput):
        masked_error(predicted, target[1:])


def test_hyperview_error_is_one_for_the_constant() -> None:
    target = torch.randn(9, 4) + 1
    assert relative_error(torch.zeros_like(target), target).item() == pytest.approx(1)
    assert relative_error(target, target) == 0
    mean = target.mean(0)
    assert relative_error(mean.expand(9, -1), target, mean).item() == pytest.approx(1)
    with pytest.raises(BadInput, match="undefined"):
        relative_error(target, torch.zeros(9, 4))


def test_projections() -> None:
    x = torch.randn(5, 12)
    assert ContrastiveProjection(12, 16, 7)(x).shape == (5, 7)
    head = DINOProjection(12, 9, hidden=16, bottleneck=4)
    out = head(x)
    rows = head.last_layer.weight.norm(dim=1)
    assert torch.allclose(rows, torch.ones(9), atol=1e-6) and out.abs().max() <= 1 + 1e-5
    out.sum().backward()
    learnt = head.last_layer.parametrizations.weight.original1
    head.drop_last_gradient(1)
    assert learnt.grad is not None
    head.drop_last_gradient(0)
    assert learnt.grad is None and head.layers[0].weight.grad is not None
