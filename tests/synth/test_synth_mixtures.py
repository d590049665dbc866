"""Complex synthetic images: repeatable to the bit, true to their purity limit and noise, one stream for each part."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchspectral.errors import BadInput, BadSettings
from torchspectral.synth import mixture


def made(k: int = 4, seed: int = 0, **fields: object):
    return mixture(k, seed, settings={"bands": 40, "z": 5, **fields})


@settings(deadline=None, max_examples=15)
@given(
    k=st.integers(2, 6),
    seed=st.integers(0, 1000),
    z=st.integers(3, 6),
    purity=st.floats(0.5, 1.0),
    layout=st.sampled_from(["blocks", "dirichlet"]),
)
def test_abundances_keep_their_promises(k: int, seed: int, z: int, purity: float, layout: str) -> None:
    one = mixture(k, seed, settings={"bands": 12, "z": z, "purity": purity, "layout": layout, "min_angle": 0.02})
    assert one.abundances.shape == (k, z * z, z * z) and one.values.shape == (12, z * z, z * z)
    np.testing.assert_allclose(one.abundances.sum(0), 1, atol=1e-6)
    assert one.abundances.min() >= 0 and one.abundances.max() <= max(purity, 1 / k) + 1e-12
    np.testing.assert_array_equal(one.noise, one.values - one.clean)
    np.testing.assert_allclose(one.clean, np.tensordot(one.endmembers.T, one.abundances, axes=1), atol=1e-12)


@pytest.mark.parametrize("snr", [15.0, 25.0, 35.0])
def test_the_noise_has_the_power_that_was_asked_for(snr: float) -> None:
    one = mixture(5, 3, settings={"snr": snr})
    found = 10 * np.log10((one.clean**2).sum() / (one.noise**2).sum())
    assert found == pytest.approx(snr, abs=0.2)
    assert one.record["measured_snr"] == pytest.approx(found, abs=1e-9)
    assert made(snr=None).noise.any() == made(snr=float("inf")).noise.any() is np.False_


def test_same_seed_same_bits_and_other_parts_stay() -> None:
    fields = {"variability": 0.15, "bilinear": "gbm", "outliers": 3, "stripes": 0.2}
    one, again, other = made(**fields), made(**fields), made(seed=1, **fields)
    assert one.values.tobytes() == again.values.tobytes() and one.record == again.record
    assert not np.array_equal(one.values, other.values)
    plain = made()
    assert plain.abundances.tobytes() == one.abundances.tobytes()
    assert plain.endmembers.tobytes() == one.endmembers.tobytes()
    louder = made(snr=10.0)
    np.testing.assert_allclose(
        louder.noise[louder.values > 0], (plain.noise * np.sqrt(10))[louder.values > 0], rtol=1e-6
    )


def test_every_part_does_what_it_says() -> None:
    plain = made(snr=None)
    outliers = made(snr=None, outliers=4, outlier_level=3.0)
    assert outliers.outlier.sum() == 4 and len(outliers.record["outlier_bands"]) == 4
    assert outliers.values[outliers.outlier].max() == pytest.approx(3 * plain.clean.max(), rel=0.02)
    np.testing.assert_array_equal(outliers.values[~outliers.outlier], plain.values[~outliers.outlier])
    striped = made(snr=None, stripes=0.2, stripe_bands=0.5)
    assert striped.striped.sum() == 20
    offsets = (striped.values - plain.values)[striped.striped]
    touched = (np.abs(offsets) > 0).any(1).sum(1)
    assert (touched <= 5).all() and touched.max() == 5
    np.testing.assert_array_equal(striped.values[~striped.striped], plain.values[~striped.striped])
    varied = made(snr=None, variability=0.15)
    ratio = varied.clean / plain.clean
    assert 0.85 <= ratio.min() < 0.95 and 1.05 < ratio.max() <= 1.15
    bundled = made(snr=None, variability=0.15, variability_kind="bundle").clean / plain.clean
    assert bundled.min() >= 0.85 and bundled.max() <= 1.15 and bundled.std() > 0.01
    fan, gbm = made(snr=None, bilinear="fan"), made(snr=None, bilinear="gbm")
    assert (fan.clean >= gbm.clean - 1e-12).all() and (gbm.clean >= plain.clean - 1e-12).all()
    a, m = fan.abundances[:, 3, 4], fan.endmembers
    pairs = sum(a[i] * a[j] * m[i] * m[j] for i in range(4) for j in range(i + 1, 4))
    np.testing.assert_allclose(fan.clean[:, 3, 4], a @ m + pairs, atol=1e-12)


def test_a_sensor_profile_shapes_the_noise() -> None:
    profile = np.linspace(20, 200, 40)
    one = mixture(3, 0, snr_profile=profile, settings={"bands": 40, "snr": None})
    rms = np.sqrt((one.clean**2).mean((1, 2)))
    np.testing.assert_allclose(one.sigma, rms / profile)
    np.testing.assert_allclose(one.noise.std((1, 2)), one.sigma, rtol=0.05)
    shaped = mixture(3, 0, snr_profile=profile, settings={"bands": 40, "snr": 30.0})
    assert shaped.record["measured_snr"] == pytest.approx(30, abs=0.2)
    np.testing.assert_allclose(shaped.sigma / shaped.sigma[0], one.sigma / one.sigma[0])
    with pytest.raises(BadInput, match="noise profile"):
        mixture(3, 0, snr_profile=profile[:5], settings={"bands": 40})


def test_a_library_gives_only_what_can_be_used() -> None:
    random = np.random.default_rng(0)
    library = random.random((30, 20))
    library[3, 5], library[4, 6], library[5] = -1.23e34, np.nan, 2.0
    one = mixture(5, 2, spectra=library, wavelength=np.linspace(400, 900, 20), settings={"z": 4, "min_angle": 0.3})
    assert len(set(one.names)) == 5 and not {"spectrum 4", "spectrum 5", "spectrum 6"} & set(one.names)
    unit = one.endmembers / np.linalg.norm(one.endmembers, axis=1, keepdims=True)
    angles = np.arccos(np.clip(unit @ unit.T, -1, 1))[np.triu_indices(5, 1)]
    assert angles.min() >= 0.3
    with pytest.raises(BadInput, match="expected 5"):
        mixture(5, 2, spectra=library[:3], settings={"z": 4})
    with pytest.raises(BadInput, match="rad apart"):
        mixture(9, 0, settings={"min_angle": 1.4})


@pytest.mark.parametrize(
    ("k", "seed", "fields", "message"),
    [
        (1, 0, {}, "at least 2"),
        (4, -1, {}, "seed=-1"),
        (5, 0, {"z": 2}, "at least as many blocks"),
        (3, 0, {"outliers": 50, "bands": 40}, "at most the 40 bands"),
        (3, 0, {"purity": 0.0}, "purity"),
        (3, 0, {"low": 900.0, "high": 500.0}, "low below high"),
        (3, 0, {"purty": 0.5}, "did you mean 'purity'|purity"),
    ],
)
def test_impossible_images_are_refused(k: int, seed: int, fields: dict, message: str) -> None:
    with pytest.raises(BadSettings, match=message):
        mixture(k, seed, settings=fields)
