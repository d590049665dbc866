"""How the field evaluates restoration: published test sets, and the figures of the tables.

References
----------
Wei, Fu, Huang, "3-D quasi-recurrent neural network for hyperspectral image denoising", IEEE TNNLS 32 (2021).
Lai, Chen, Fu, "Hybrid spectral denoising transformer with guided attention", ICCV 2023.
Wu et al., "MP-HSIR: a multi-prompt framework for universal hyperspectral image restoration", arXiv 2503.09131 (2025).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.errors import BadInput, BadSettings, OutputExists, OutputFailed
from torchspectral.restoration.degradation import read_recipe
from torchspectral.synth import degrade_array


def published_test_set(
    images: Iterable[tuple[str, np.ndarray]], recipe: str, *, seed: int = 2022, generator: Any = None
) -> Iterator[dict[str, Any]]:
    """A test set as the published builders make it: one legacy generator, seeded once, goes on from image to image.

    Parameters
    ----------
    images : iterable of (name, ndarray (band, y, x))
        In the order of the published list; in 0..1, cropped.
    recipe : str
    seed : int
        HSIR's builders of CAVE and Harvard have 2022.
    generator : RandomState, optional
        In place of the seed.

    Yields
    ------
    dict
        ``name``, ``input`` and ``gt`` (band, y, x), ``sigma`` (8-bit; of one deviation, else that of each band).
    """
    source = generator if generator is not None else np.random.RandomState(seed)
    chain = read_recipe(recipe)
    for name, image in images:
        truth = np.asarray(image, dtype=np.float64)
        found = degrade_array(truth, chain, source)
        sigma = found.facts.chosen.get("sigma", found.facts.bands.get("sigma", np.zeros(0)) * 255)
        yield {"name": name, "input": found.values, "gt": truth, "sigma": sigma}


def save_test_image(path: Path | str, pair: Mapping[str, Any], *, overwrite: bool = False) -> Path:
    """Write one image of a test set as the field's ``.mat``: ``input``, ``gt`` (y, x, band) and ``sigma``.

    Raises
    ------
    OutputExists, OutputFailed
    """
    from scipy.io import savemat

    target = Path(path)
    if target.exists() and not overwrite:
        raise OutputExists(f"{target} exists: overwrite=True replaces it")
    part = target.with_name(f".{target.stem}.partial.mat")
    arrays = {key: np.ascontiguousarray(np.asarray(pair[key]).transpose(1, 2, 0)) for key in ("input", "gt")}
    try:
        savemat(part, {**arrays, "sigma": np.asarray(pair["sigma"], dtype=np.float64)}, do_compression=True)
        part.replace(target)
    except OSError as error:
        raise OutputFailed(f"{target} could not be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def min_max(image: np.ndarray) -> np.ndarray:
    """Bring an image to 0..1 by its smallest and largest value over all bands.

    Raises
    ------
    BadInput
        It is constant, or has no valid value.
    """
    low, high = np.nanmin(image), np.nanmax(image)
    if not high > low:
        raise BadInput(f"all values are {low:g}: there is no range to scale by")
    return (image - low) / (high - low)


def centre_crop(image: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """The middle of an image (band, y, x).

    Raises
    ------
    BadInput
        It is smaller.
    """
    height, width = (size, size) if isinstance(size, int) else size
    rows, cols = image.shape[-2:]
    if rows < height or cols < width:
        raise BadInput(f"got an image of {rows} x {cols} pixels, expected at least {height} x {width}")
    top, left = rows // 2 - height // 2, cols // 2 - width // 2
    return image[..., top : top + height, left : left + width]


def test_image(image: np.ndarray, protocol: str = "hsir", size: int = 512) -> np.ndarray:
    """A raw ICVL image (band, y, x) as a protocol tests on it.

    ``hsir``, ``hsdt`` and ``man``: a quarter turn, centre crop, then 0..1. ``mp-hsir``: 0..1 first, half a turn, crop.
    The figures of the two do not compare.

    Raises
    ------
    BadSettings, BadInput
    """
    if protocol in ("hsir", "hsdt", "man"):
        return min_max(centre_crop(np.rot90(image, 1, axes=(-2, -1)), size))
    if protocol == "mp-hsir":
        return centre_crop(np.rot90(min_max(image), 2, axes=(-2, -1)), size)
    raise BadSettings(f"got protocol {protocol!r}, expected hsir, hsdt, man or mp-hsir")


test_image.__test__ = False  # type: ignore[attr-defined]  # no test, whatever its name


def match_histogram(image: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Give an image the distribution of values of another, over all bands at once."""
    values, place, counts = np.unique(image.reshape(-1), return_inverse=True, return_counts=True)
    wanted, wanted_counts = np.unique(reference.reshape(-1), return_counts=True)
    share = np.cumsum(counts) / image.size
    mapped = np.interp(share, np.cumsum(wanted_counts) / reference.size, wanted)
    out: np.ndarray = mapped[place].reshape(image.shape)
    return out if values.size else image


def real_pair(
    noisy: np.ndarray, reference: np.ndarray, size: tuple[int, int] | None = (688, 512)
) -> tuple[np.ndarray, np.ndarray]:
    """A pair of the real-noise set as HSIR prepares it: each over its maximum, noise matched to the reference, cropped.

    Parameters
    ----------
    noisy, reference : ndarray, shape (band, y, x)
    size : (int, int), optional
        Rows and columns kept from the top left; None: all.
    """
    truth, image = reference / reference.max(), noisy / noisy.max()
    image = match_histogram(image, truth)
    if size is not None:
        image, truth = image[:, : size[0], : size[1]], truth[:, : size[0], : size[1]]
    return image, truth


def figures(
    output: Any, truth: Any, *, protocol: str = "hsir", clamp_output: bool | None = None, degraded: Any = None
) -> dict[str, Any]:
    """MPSNR, MSSIM and spectral angle of a restored image as a protocol's tables have them, and how they were made.

    Parameters
    ----------
    output, truth : ndarray, Tensor or DataArray, shape (band, y, x)
        In 0..1.
    protocol : {"hsir", "hsdt", "mp-hsir"}
        "hsir" (the tables of MAN) clamps the output; "hsdt" clamps nothing; both have SSIM of data range 2. "mp-hsir"
        clamps both images, range 1.
    clamp_output : bool, optional
        In place of the protocol's.
    degraded : array, optional
        Only bands that are wholly zero in it are compared (MP-HSIR's band completion).

    Returns
    -------
    dict
        ``psnr`` [dB], ``ssim``, ``sam`` [rad], ``sam_degrees``, ``perfect_bands``, ``protocol``, ``clamp_output``,
        ``clamp_truth``, ``ssim_range``.

    Raises
    ------
    BadSettings, BadInput, BandMismatch, GridMismatch
    """
    import torch

    from torchspectral import metrics

    if protocol not in ("hsir", "hsdt", "mp-hsir"):
        raise BadSettings(f"got protocol {protocol!r}, expected hsir, hsdt or mp-hsir")
    clamp = protocol != "hsdt" if clamp_output is None else clamp_output
    out, ref = (torch.as_tensor(np.asarray(a), dtype=torch.float64) for a in (output, truth))
    if clamp:
        out = out.clamp(0, 1)
    if protocol == "mp-hsir":
        ref = ref.clamp(0, 1)
    if degraded is not None:
        lost = ~np.asarray(degraded).any((1, 2))
        if not lost.any():
            raise BadInput("no band of the degraded image is wholly zero: there is no completion to measure")
        keep = torch.from_numpy(np.flatnonzero(lost))
        out, ref = out[keep], ref[keep]
    quality, structure = metrics.MPSNR(), metrics.MSSIM(protocol="mp-hsir" if protocol == "mp-hsir" else "hsir")
    angle = metrics.measure(metrics.MeanAngle(), out, ref)
    return {
        "psnr": metrics.measure(quality, out, ref),
        "ssim": metrics.measure(structure, out, ref),
        "sam": angle,
        "sam_degrees": float(np.degrees(angle)),
        "perfect_bands": quality.perfect,
        "protocol": protocol,
        "clamp_output": clamp,
        "clamp_truth": protocol == "mp-hsir",
        "ssim_range": structure.data_range,
    }
