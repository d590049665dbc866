"""Complex synthetic images for unmixing: blocks of one material, blurred, without pure pixels, with noise of many kinds.

Blocks, blur, purity limit and white noise are the generator that the field has used since Miao and Qi; outlier bands,
stripes, a sensor's noise profile, endmember variability, Dirichlet abundances and bilinear terms are ours. Each part
draws from a stream of its own, so that changing one leaves the others as they were.

References
----------
Miao and Qi, "Endmember extraction from highly mixed data using minimum volume constrained nonnegative matrix
factorization", IEEE TGRS 45(3), 2007. Zhu, "Hyperspectral unmixing: ground truth labeling, datasets, benchmark
performances and survey", arXiv 1708.05125 (2017). Bilinear terms: Fan et al., "Comparative study between a new nonlinear
model and common linear model for analysing laboratory simulated-forest hyperspectral data", IJRS 30(11), 2009; Halimi et
al., "Nonlinear unmixing of hyperspectral images using a generalized bilinear model", IEEE TGRS 49(11), 2011.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any, Literal

import numpy as np
from scipy import ndimage

from torchspectral.errors import BadInput, BadSettings
from torchspectral.settings import Settings, setting
from torchspectral.synth.scenes import material_spectra

_SPECTRA, _LAYOUT, _VARIABILITY, _BILINEAR, _NOISE, _STRIPES, _OUTLIERS = range(7)
_TRIES = 2000


class MixtureSettings(Settings):
    """Settings of a complex synthetic image."""

    z: int = setting(8, "side of a block; the image has z * z pixels a side", unit="pixel", ge=2, le=32)
    layout: Literal["blocks", "dirichlet"] = setting(
        "blocks", "blocks of one material, blurred; or every pixel drawn by itself"
    )
    alpha: float = setting(1.0, "concentration of Dirichlet abundances", gt=0)
    purity: float = setting(
        0.8, "pixels with a larger abundance become equal mixtures (theta); 1: all stay", gt=0, le=1
    )
    snr: float | None = setting(20.0, "power of the clean image over that of the noise; null: no noise", unit="dB")
    bands: int = setting(224, "bands, where no library gives them", ge=3, le=4096)
    low: float = setting(400.0, "first band, where no library gives it", unit="nm", ge=100)
    high: float = setting(2500.0, "last band, where no library gives it", unit="nm", le=100_000)
    min_angle: float = setting(0.1, "smallest spectral angle between two of the endmembers", unit="rad", ge=0, lt=1.5)
    variability: float = setting(
        0.0, "endmembers vary in each pixel by up to this share, 0.15: 0.85 to 1.15 times", ge=0, lt=1
    )
    variability_kind: Literal["scale", "bundle"] = setting(
        "scale", "a number for each pixel and endmember, or one of `bundle` smoothly changed spectra"
    )
    bundle: int = setting(10, "spectra of a bundle", ge=1, le=1000)
    bilinear: Literal["none", "fan", "gbm"] = setting(
        "none",
        "products of two endmembers: with weight a_i a_j, or that times a number in 0..1 for each pixel and pair",
    )
    outliers: int = setting(0, "bands replaced by uniform noise", ge=0)
    outlier_level: float = setting(1.0, "largest value of outlier bands, times the image's", gt=0)
    stripes: float = setting(0.0, "share of the columns that are striped", ge=0, le=1)
    stripe_bands: float = setting(0.3, "share of the bands that have stripes", ge=0, le=1)
    stripe_level: float = setting(0.1, "largest offset of a stripe, times the image's maximum", ge=0)


@dataclass(frozen=True)
class Mixture:
    """A synthetic image and all that it was made of.

    Attributes
    ----------
    values : ndarray, shape (band, y, x), float64
        At least 0 (of outlier bands and stripes too).
    clean : ndarray, shape (band, y, x)
        Before noise, stripes and outlier bands.
    noise : ndarray, shape (band, y, x)
        ``values - clean``.
    endmembers : ndarray, shape (k, band)
    abundances : ndarray, shape (k, y, x)
        Columns sum to 1.
    wavelength : ndarray, shape (band,)
        [nm].
    names : tuple of str
    sigma : ndarray, shape (band,)
        Standard deviation of the white noise of each band.
    outlier, striped : ndarray of bool, shape (band,)
    record : dict
        Settings, seed, and what was measured: snr [dB] over bands without outliers, clipped values, largest abundance.
    """

    values: np.ndarray
    clean: np.ndarray
    noise: np.ndarray
    endmembers: np.ndarray
    abundances: np.ndarray
    wavelength: np.ndarray
    names: tuple[str, ...]
    sigma: np.ndarray
    outlier: np.ndarray
    striped: np.ndarray
    record: dict[str, Any] = field(default_factory=dict)


def mixture(
    k: int = 4,
    seed: int = 0,
    *,
    spectra: np.ndarray | None = None,
    wavelength: np.ndarray | None = None,
    names: Sequence[str] | None = None,
    snr_profile: np.ndarray | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Mixture:
    """Make a complex synthetic image; the same arguments give the same bits.

    Parameters
    ----------
    k : int
        Endmembers, from 2.
    seed : int
    spectra : array_like, shape (n, band), optional
        A library to draw from: spectra that are not finite, hold fill values or exceed 1.5 are left out. Without it
        smooth spectra with absorptions are generated.
    wavelength : array_like, shape (band,), optional
        Of the library [nm].
    names : sequence of str, optional
        Of the library's spectra.
    snr_profile : array_like, shape (band,), optional
        Signal-to-noise ratio of each band of a real sensor, as a ratio of amplitudes. With ``snr`` its shape alone
        counts; with ``snr=None`` it is taken as it is.
    settings : mapping
        Fields of `MixtureSettings`.

    Raises
    ------
    BadSettings
        A setting out of range, more outlier bands than bands.
    BadInput
        The library does not hold k spectra that differ enough.
    """
    made = MixtureSettings.make(settings)
    if isinstance(k, bool) or not isinstance(k, int) or k < 2:
        raise BadSettings(f"got k={k!r}, expected at least 2 endmembers")
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BadSettings(f"got seed={seed!r}, expected a whole number from 0")
    streams = [np.random.default_rng([seed, part]) for part in range(7)]
    m, wave, chosen = _endmembers(k, made, spectra, wavelength, names, streams[_SPECTRA])
    if made.outliers > m.shape[1]:
        raise BadSettings(f"got outliers={made.outliers}, expected at most the {m.shape[1]} bands")
    a = _abundances(k, made, streams[_LAYOUT])
    clean = _mixed(m, a, made, streams)
    sigma = _sigma(clean, made, snr_profile)
    noisy = clean + sigma[:, None, None] * streams[_NOISE].standard_normal(clean.shape)
    top = float(clean.max())
    striped = _stripe(noisy, top, made, streams[_STRIPES])
    clipped = int((noisy < 0).sum())
    values = np.maximum(noisy, 0)
    outlier = np.zeros(len(values), dtype=bool)
    outlier[streams[_OUTLIERS].choice(len(values), made.outliers, replace=False)] = True
    values[outlier] = streams[_OUTLIERS].uniform(0, made.outlier_level * top, values[outlier].shape)
    noise = values - clean
    kept = ~outlier
    power = float((noise[kept] ** 2).sum())
    record = {
        **made.model_dump(),
        "k": k,
        "seed": seed,
        "endmembers": list(chosen),
        "measured_snr": float(10 * np.log10((clean[kept] ** 2).sum() / power)) if power > 0 else None,
        "clipped_values": clipped,
        "largest_abundance": float(a.max()),
        "outlier_bands": [int(b) + 1 for b in np.flatnonzero(outlier)],
        "striped_bands": [int(b) + 1 for b in np.flatnonzero(striped)],
    }
    return Mixture(values, clean, noise, m, a, wave, chosen, sigma, outlier, striped, record)


def _endmembers(
    k: int,
    made: MixtureSettings,
    spectra: np.ndarray | None,
    wavelength: np.ndarray | None,
    names: Sequence[str] | None,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, tuple[str, ...]]:
    """Spectra (k, band) of which no two are closer than `min_angle`, their bands, their names."""
    if spectra is None:
        if made.high <= made.low:
            raise BadSettings(f"got bands from {made.low:g} to {made.high:g} nm, expected low below high")
        wave = np.linspace(made.low, made.high, made.bands)
        place = np.linspace(400.0, 2400.0, made.bands)
        found: list[np.ndarray] = []
        for _ in range(_TRIES):
            new = material_spectra(place, 1, rng)[0]
            if all(_angle(new, other) >= made.min_angle for other in found):
                found.append(new)
            if len(found) == k:
                return np.stack(found), wave, tuple(f"material {i + 1}" for i in range(k))
        raise BadInput(
            f"found {len(found)} of {k} generated spectra that lie {made.min_angle:g} rad apart: ask for fewer or a "
            "smaller min_angle, or give a library"
        )
    library = np.asarray(spectra, dtype=np.float64)
    if library.ndim != 2:
        raise BadInput(f"got a library of shape {library.shape}, expected (spectrum, band)")
    bands = library.shape[1]
    wave = np.full(bands, np.nan) if wavelength is None else np.asarray(wavelength, dtype=np.float64)
    labels = [str(n) for n in names] if names is not None else [f"spectrum {i + 1}" for i in range(len(library))]
    with np.errstate(invalid="ignore"):
        usable = np.isfinite(library).all(1) & (library >= -0.01).all(1) & (library.max(1) <= 1.5)
    usable &= np.nan_to_num(library, nan=0.0).max(1) > 0
    picked: list[int] = []
    for i in rng.permutation(len(library)):
        if usable[i] and all(_angle(library[i], library[j]) >= made.min_angle for j in picked):
            picked.append(int(i))
        if len(picked) == k:
            return np.maximum(library[picked], 0), wave, tuple(labels[i] for i in picked)
    raise BadInput(
        f"the library has {int(usable.sum())} usable spectra of {len(library)} (finite, 0 to 1.5), and only "
        f"{len(picked)} of them lie {made.min_angle:g} rad apart, expected {k}: ask for fewer or a smaller min_angle"
    )


def _angle(one: np.ndarray, other: np.ndarray) -> float:
    cosine = one @ other / max(float(np.linalg.norm(one) * np.linalg.norm(other)), 1e-300)
    return float(np.arccos(np.clip(cosine, -1, 1)))


def _abundances(k: int, made: MixtureSettings, rng: np.random.Generator) -> np.ndarray:
    """Abundances (k, y, x) whose largest is at most the purity limit, or equal mixtures."""
    z = made.z
    side = z * z
    if made.layout == "dirichlet":
        a = rng.dirichlet(np.full(k, made.alpha), side * side).T.reshape(k, side, side)
    else:
        if side < k:
            raise BadSettings(f"got k={k} with {side} blocks (z={z}), expected at least as many blocks as endmembers")
        blocks = rng.integers(0, k, (z, z))
        # Every material is somewhere: a missing one takes the first block of the commonest.
        for i in range(k):
            if not (blocks == i).any():
                common = np.bincount(blocks.ravel(), minlength=k).argmax()
                blocks[tuple(np.argwhere(blocks == common)[0])] = i
        planes = np.kron(np.eye(k)[blocks].transpose(2, 0, 1), np.ones((1, z, z)))
        a = ndimage.uniform_filter(planes, (0, z + 1, z + 1), mode="reflect")
        a = np.maximum(a, 0)
        a /= a.sum(0)
    a[:, a.max(0) > made.purity] = 1 / k
    return a


def _mixed(m: np.ndarray, a: np.ndarray, made: MixtureSettings, streams: Sequence[np.random.Generator]) -> np.ndarray:
    """Clean image (band, y, x): linear, with what varies and the products of endmembers."""
    k, bands = m.shape
    shape = a.shape[1:]
    rng = streams[_VARIABILITY]
    if made.variability and made.variability_kind == "bundle":
        clean = np.zeros((bands, *shape))
        place = np.linspace(0, 1, bands)
        for i in range(k):
            phase, speed = rng.uniform(0, 2 * np.pi, (made.bundle, 1)), rng.uniform(0.3, 2.0, (made.bundle, 1))
            size = rng.uniform(-1, 1, (made.bundle, 1))
            bundle = m[i] * (1 + made.variability * size * np.cos(2 * np.pi * speed * place + phase))
            which = rng.integers(0, made.bundle, shape)
            clean += bundle[which].transpose(2, 0, 1) * a[i]
    else:
        scale = 1 + made.variability * rng.uniform(-1, 1, a.shape) if made.variability else 1.0
        clean = np.tensordot(m.T, a * scale, axes=1)
    if made.bilinear != "none":
        rng = streams[_BILINEAR]
        for i, j in combinations(range(k), 2):
            weight = a[i] * a[j] * (rng.uniform(0, 1, shape) if made.bilinear == "gbm" else 1.0)
            clean += (m[i] * m[j])[:, None, None] * weight
    return clean


def _sigma(clean: np.ndarray, made: MixtureSettings, profile: np.ndarray | None) -> np.ndarray:
    """Standard deviation of the noise of each band."""
    bands = len(clean)
    shape = np.ones(bands)
    if profile is not None:
        ratio = np.asarray(profile, dtype=np.float64)
        if ratio.shape != (bands,) or not (np.isfinite(ratio) & (ratio > 0)).all():
            raise BadInput(
                f"got a noise profile of shape {ratio.shape}, expected {bands} signal-to-noise ratios above 0"
            )
        shape = np.sqrt((clean**2).mean((1, 2))) / ratio
        if made.snr is None:
            return shape
    if made.snr is None or np.isinf(made.snr):
        return np.zeros(bands)
    power = (clean**2).mean() / 10 ** (made.snr / 10)
    sigma: np.ndarray = shape * np.sqrt(power / (shape**2).mean())
    return sigma


def _stripe(values: np.ndarray, top: float, made: MixtureSettings, rng: np.random.Generator) -> np.ndarray:
    """Add stripes in place; which bands have them."""
    bands, _, cols = values.shape
    striped = np.zeros(bands, dtype=bool)
    count, columns = round(made.stripe_bands * bands), round(made.stripes * cols)
    if not columns:
        return striped
    striped[rng.choice(bands, count, replace=False)] = True
    for band in np.flatnonzero(striped):
        chosen = rng.choice(cols, columns, replace=False)
        values[band][:, chosen] += rng.uniform(-1, 1, columns) * made.stripe_level * top
    return striped
