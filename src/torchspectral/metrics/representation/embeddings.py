"""Embeddings as every measure takes them: checked, normalised, thinned."""

from __future__ import annotations

import random
from typing import Any

import numpy as np

from torchspectral.errors import BadInput, BadSettings
from torchspectral.ops.diffusion import is_tensor, median_distance, squared_distances, working

LARGEST = 10_000
"""Samples beyond which a set is thinned out, as the authors do."""


def checked(x: Any, what: str = "embeddings") -> Any:
    """Embeddings (n, d) in working precision.

    Raises
    ------
    BadInput
        Not two axes, nothing in them, or values that are not finite.
    """
    if not is_tensor(x):
        x = np.asarray(x)
        if x.dtype.kind not in "fiub":
            raise BadInput(f"got {what} of type {x.dtype}, expected numbers (sample, dimension)")
    if x.ndim != 2 or 0 in x.shape:
        raise BadInput(f"got {what} of shape {tuple(x.shape)}, expected (sample, dimension), at least one of each")
    x = working(x)
    finite = x.isfinite() if is_tensor(x) else np.isfinite(x)
    if not bool(finite.all()):
        bad = int((~finite).any(1).sum())
        raise BadInput(f"{bad} of {x.shape[0]} {what} hold NaN or infinity: leave nodata out first")
    return x


def normalised(x: Any) -> Any:
    """Rows of length 1; rows of zeros stay."""
    length = (x * x).sum(-1) ** 0.5
    return x / (length + (length == 0))[..., None]


def thinned(count: int, most: int, seed: int) -> list[int] | None:
    """Indices that stay of a set that is too large, by the authors' recipe; None where it is not.

    ``random.seed(seed)``, then ``random.sample(range(count), most)``; the caller's random numbers are not touched.
    """
    return random.Random(seed).sample(range(count), most) if count > most else None


def prepared(x: Any, normalise: bool, sigma: float | str | None, max_n: int, seed: int) -> tuple[Any, float]:
    """Embeddings ready for a kernel, and the kernel's width.

    Raises
    ------
    BadInput, BadSettings
        Embeddings that are not normalised and no width: a number that means nothing would come out.
    """
    x = checked(x)
    if isinstance(max_n, bool) or max_n < 2:
        raise BadSettings(f"got max_n={max_n!r}, expected at least 2")
    if sigma is None and not normalise:
        raise BadSettings(
            "got embeddings that shall not be normalised and no sigma: the entropy follows their scale, so give sigma "
            "in their units, or 'median' (10 is the authors' default)"
        )
    if isinstance(sigma, str) and sigma != "median":
        raise BadSettings(f"got sigma={sigma!r}, expected a number above 0 or 'median'")
    index = thinned(x.shape[0], max_n, seed)
    if index is not None:
        x = x[index]
    if normalise:
        x = normalised(x)
    if sigma == "median":
        part = x[:: max(-(-x.shape[0] // 2000), 1)]
        return x, median_distance(squared_distances(part))
    width = 1.0 if sigma is None else float(sigma)
    if not 0 < width < float("inf"):
        raise BadSettings(f"got sigma={sigma}, expected a number above 0 or 'median'")
    return x, width
