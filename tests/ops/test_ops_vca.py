"""VCA: published order of draws, both branches, guards."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from torchspectral.errors import BadInput
from torchspectral.ops.gram import add_sums, covariance, fix_signs, gram_sums
from torchspectral.ops.spectral_angle import angle_matrix, spectral_angles
from torchspectral.ops.vca import VcaDraws, estimate_snr, find_extreme, vca, vca_projection


def scene(k: int, bands: int, n: int, snr: float, *, pure: bool, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    random = np.random.default_rng(seed)
    knots = random.random((k, 8))
    spectra = np.stack([0.1 + 0.8 * np.interp(np.linspace(0, 7, bands), np.arange(8), row) for row in knots])
    shares = random.dirichlet(np.ones(k), n)
    shares = shares[(shares.max(1) < 0.8) | pure]
    if pure:
        shares[:k] = np.eye(k)
    clean = spectra.T @ shares.T
    sigma = np.sqrt((clean**2).mean() / 10 ** (snr / 10))
    return torch.from_numpy(clean + sigma * random.standard_normal(clean.shape)), torch.from_numpy(spectra)


def test_pure_pixels_are_found_at_high_snr() -> None:
    pixels, spectra = scene(5, 80, 3000, 60, pure=True)
    found = vca(pixels, 5, seed=1)
    assert found.high_snr and sorted(found.indices.tolist()) == [0, 1, 2, 3, 4]
    assert torch.allclose(found.endmembers, spectra[found.indices], atol=5e-3)


def test_estimated_snr_is_that_of_the_scene() -> None:
    pixels, _ = scene(4, 100, 20_000, 25, pure=False)
    assert abs(estimate_snr(*gram_sums(pixels), 4) - 25) < 0.5


def test_low_snr_branch_without_pure_pixels() -> None:
    pixels, spectra = scene(4, 100, 20_000, 10, pure=False)
    found = vca(pixels, 4)
    assert not found.high_snr
    angles = angle_matrix(found.endmembers, spectra).min(1).values
    assert float(angles.max()) < 0.25
    raw = vca(pixels, 4, denoise=False)
    assert torch.equal(raw.indices, found.indices)
    assert torch.allclose(raw.endmembers, pixels[:, raw.indices].T)


@pytest.mark.parametrize("snr", [12.0, 60.0])
def test_streamed_pieces_give_the_same(snr: float) -> None:
    pixels, _ = scene(4, 40, 5000, snr, pure=True)
    whole = vca(pixels, 4, seed=3)
    parts = torch.split(torch.arange(pixels.shape[1]), 777)
    sums = None
    for part in parts:
        more = gram_sums(pixels[:, part], chunk=100)
        sums = more if sums is None else add_sums(sums, more)
    projection = vca_projection(*sums, 4)
    if not projection.high_snr:
        projection = projection.with_height(max(projection.largest_norm(pixels[:, part]) for part in parts))
    draws = VcaDraws(4, 3)
    for _ in range(4):
        direction, best = draws.direction(), None
        for part in reversed(parts):
            new = find_extreme(projection.coordinates(pixels[:, part]), direction, part, pixels[:, part])
            best = new if best is None else best.farther(new)
        draws.accept(best)
    assert [e.index for e in draws.found] == whole.indices.tolist()
    spectra = projection.denoised(torch.stack([e.spectrum for e in draws.found], dim=1)).T
    assert torch.allclose(spectra, whole.endmembers, atol=1e-9)


def test_of_equal_pixels_the_first_is_taken() -> None:
    pixels, _ = scene(3, 30, 400, 60, pure=True)
    found = vca(torch.cat([pixels, pixels], dim=1), 3)
    assert int(found.indices.max()) < 400


def test_scale_does_not_matter() -> None:
    pixels, _ = scene(4, 40, 2000, 25, pure=True)
    one, two = vca(pixels, 4), vca(pixels * 1e4, 4)
    assert torch.equal(one.indices, two.indices)
    assert torch.allclose(one.endmembers * 1e4, two.endmembers, rtol=1e-6)


def test_shadow_is_no_endmember() -> None:
    """A zero pixel and one of pure noise around zero would be infinitely far in the projective projection."""
    pixels, _ = scene(3, 50, 2000, 50, pure=True)
    pixels[:, 10] = 0
    pixels[:, 11] = 1e-6 * torch.randn(50, dtype=torch.float64)
    found = vca(pixels, 3)
    assert found.high_snr and not {10, 11} & set(found.indices.tolist())


def test_a_triangle_in_two_bands() -> None:
    """k = bands + 1: only the orthogonal projection can hold it."""
    corners = torch.tensor([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9]], dtype=torch.float64)
    shares = torch.from_numpy(np.random.default_rng(0).dirichlet(np.ones(3), 500))
    pixels = torch.cat([corners, shares @ corners]).T
    assert sorted(vca(pixels, 3).indices.tolist()) == [0, 1, 2]


@pytest.mark.parametrize(
    ("pixels", "k", "message"),
    [
        (torch.rand(5, 1), 2, "1 valid pixels"),
        (torch.rand(5, 20), 1, "at least 2"),
        (torch.rand(5, 20), 7, "at most 6"),
        (torch.ones(5, 20), 2, "span 0 dimensions"),
        (torch.outer(torch.rand(5), torch.rand(20)), 3, "span 1 dimensions"),
        (torch.full((5, 20), torch.inf), 2, "infinite"),
    ],
)
def test_impossible_requests_say_so(pixels: torch.Tensor, k: int, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        vca(pixels, k)


def test_signs_follow_the_sum() -> None:
    vectors = torch.tensor([[-1.0, 0.5, 2.0], [0.2, 0.5, -2.0]])
    fixed = fix_signs(vectors)
    assert bool((fixed[:, :2].sum(0) > 0).all())
    assert torch.allclose(fix_signs(-vectors)[:, :2], fixed[:, :2])


def test_sums_do_not_depend_on_chunks() -> None:
    pixels = torch.rand(6, 1000)
    one, two = gram_sums(pixels), gram_sums(pixels, chunk=7)
    assert all(torch.allclose(a, b, rtol=1e-12) for a, b in zip(one[1:], two[1:], strict=True))
    np.testing.assert_allclose(covariance(*one), np.cov(pixels.double().numpy(), bias=True), atol=1e-12)


def test_angles() -> None:
    pixels = torch.tensor([[1.0, 2.0, 0.0, 0.0], [0.0, 2.0, 3.0, 0.0]])
    got = spectral_angles(pixels, torch.tensor([[1.0, 0.0], [1.0, 1.0]]))
    want = torch.tensor([[0.0, np.pi / 4, np.pi / 2], [np.pi / 4, 0.0, np.pi / 4]], dtype=torch.float64)
    assert torch.allclose(got[:, :3], want, atol=3e-8)
    assert bool(got[:, 3].isnan().all())
