"""Image formation of interferometers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchspectral.calibration import interferometer as fp
from torchspectral.calibration.interferometer import formation, polynomials
from torchspectral.errors import BadSettings

PHI = np.linspace(0, 2 * np.pi, 4000, endpoint=False)[None, :]


@pytest.mark.parametrize("waves", [0, 1, 2])
def test_the_scaled_transmittance_has_the_gain_as_its_mean(waves: int) -> None:
    for r in (0.05, 0.3, 0.7):
        assert fp.transfer(PHI, r, 1.7, waves).mean() == pytest.approx(1.7, rel=1e-9)


@pytest.mark.parametrize("waves", [3, 4, 7])
def test_n_waves_are_the_power_of_a_geometric_sum(waves: int) -> None:
    r = 0.4
    sum_of_waves = sum(r**n * np.exp(1j * n * PHI) for n in range(waves))
    np.testing.assert_allclose(fp.transfer(PHI, r, 2.0, waves, scaled=False), 2 * np.abs(sum_of_waves) ** 2)


def test_many_waves_are_airys_function() -> None:
    for scaled in (False, True):
        many, airy = (fp.transfer(PHI, 0.5, 1.0, w, scaled=scaled) for w in (60, 0))
        np.testing.assert_allclose(many, airy, rtol=1e-9)


def test_the_cosine_series_tends_to_airys_function_and_is_not_n_waves() -> None:
    whole = fp.fabry_perot(PHI, 0.9, 0.3)
    np.testing.assert_allclose(fp.fabry_perot(PHI, 0.9, 0.3, 40), whole, rtol=1e-12)
    np.testing.assert_allclose(whole, fp.transfer(PHI, 0.3, 0.9, 0))
    np.testing.assert_allclose(fp.fabry_perot(PHI, 0.9, 0.3, 3), 0.9 * (1 + 0.6 * np.cos(PHI) + 0.18 * np.cos(2 * PHI)))
    assert np.abs(fp.fabry_perot(PHI, 0.9, 0.3, 3) - fp.transfer(PHI, 0.3, 0.9, 3)).max() > 0.01
    coded = fp.fabry_perot(PHI, 0.9, 0.3, correct_transmittance=False)
    np.testing.assert_allclose(coded / whole, 0.9 / (1 - 0.09))


def test_michelson() -> None:
    np.testing.assert_allclose(fp.michelson(PHI, 0.4), 0.8 * (1 + np.cos(PHI)))


def test_the_phase_shift_is_subtracted() -> None:
    phi = fp.phase(np.array([1.0, 2.0]), np.array([0.5, 1.0]), np.array([0.1, 0.2]))
    np.testing.assert_allclose(phi, 2 * np.pi * np.array([[0.5, 1.0], [1.0, 2.0]]) - [[0.1], [0.2]])


@settings(max_examples=60, deadline=None)
@given(st.sampled_from([0, 1, 2, 3, 5]), st.floats(-0.85, 0.85), st.floats(-10, 10))
def test_derivatives_are_those_of_differences(waves: int, r: float, phi: float) -> None:
    at, rs, h = np.array([[phi]]), np.array([[r]]), 1e-6
    value, by_phase, by_r = formation.derivatives(at, rs, waves)
    f = lambda p, q: fp.transfer(p, q, 1.0, waves)  # noqa: E731
    np.testing.assert_allclose(value, f(at, rs), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(by_phase, (f(at + h, rs) - f(at - h, rs)) / (2 * h), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_r, (f(at, rs + h) - f(at, rs - h)) / (2 * h), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("waves", [0, 2, 3, 6])
def test_the_first_harmonic_and_its_inverse(waves: int) -> None:
    r = np.array([0.05, 0.2, 0.45])
    value = fp.transfer(np.repeat(PHI, 3, 0), r, 1.0, waves)
    amplitude = 2 * (value * np.cos(PHI)).mean(1) / value.mean(1)
    np.testing.assert_allclose(formation.first_harmonic(r, waves), amplitude, rtol=1e-9)
    np.testing.assert_allclose(formation.reflectivity_of(amplitude, waves), r, rtol=1e-6)


def test_amplitudes_beyond_the_model_give_the_largest_reflectivity() -> None:
    assert formation.reflectivity_of(np.array([1.5]), 2) == 1.0
    assert formation.reflectivity_of(np.array([3.0]), 0) == 0.99
    assert formation.reflectivity_of(np.array([0.4]), 1) == 0.0


def test_negative_waves_are_refused() -> None:
    with pytest.raises(BadSettings, match="-1 waves"):
        fp.transfer(PHI, 0.1, 1.0, -1)


@pytest.mark.parametrize("family", polynomials.FAMILIES)
@pytest.mark.parametrize("domain", [None, (1.0, 2.85)])
def test_polynomials_change_family_and_domain_and_keep_their_values(family: str, domain: tuple | None) -> None:
    sigma = np.linspace(1, 2.85, 50)
    coefficients = np.random.default_rng(0).normal(size=(3, 6))
    values = polynomials.evaluate(coefficients, sigma, family, domain)
    for target in polynomials.FAMILIES:
        for to_domain in (None, (1.0, 2.85)):
            moved = polynomials.convert(coefficients, family, domain, target, to_domain)
            found = polynomials.evaluate(moved, sigma, target, to_domain)
            np.testing.assert_allclose(found, values, atol=1e-9 * np.abs(values).max())
    again = polynomials.coefficients_of(values, sigma, 5, family, domain)
    np.testing.assert_allclose(
        polynomials.evaluate(again, sigma, family, domain), values, atol=1e-8 * np.abs(values).max()
    )


def test_families_are_those_of_numpy() -> None:
    sigma = np.linspace(1, 2, 7)
    for family in polynomials.FAMILIES:
        numpy_one = getattr(np.polynomial, family)([0.3, -1.0, 0.2, 0.05])
        raw = numpy_one.__class__(numpy_one.coef, domain=[-1, 1], window=[-1, 1])
        np.testing.assert_allclose(polynomials.evaluate(numpy_one.coef, sigma, family)[0], raw(sigma))
    with pytest.raises(BadSettings, match="Chebyshev"):
        polynomials.check_family("Chebishev")


def test_the_orthonormal_basis() -> None:
    basis = polynomials.orthonormal(np.linspace(0.6, 1.0, 40), 5)
    np.testing.assert_allclose(basis.T @ basis / 40, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(basis[:, 0], 1.0)
    with pytest.raises(BadSettings, match="expected more"):
        polynomials.orthonormal(np.arange(1.0, 5.0), 5)
