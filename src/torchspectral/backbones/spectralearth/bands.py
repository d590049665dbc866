"""The 202 EnMAP bands of SpectralEarth: which of the two published lists is right, and both to choose from.

EnMAP L2A has 224 bands. Sorted by wavelength (VNIR and SWIR interleave between 902 and 993 nm), all sources drop the
indices 126 to 140 (1295 to 1519 nm); they differ in seven more:

- "enmap-202" (TorchGeo): keeps 141-159 (1531 to 1728 nm), drops 160-166 (1739 to 1968 nm).
- "enmap-202-csv" (table in the authors' repository, also used by LESS ViT): keeps 141-144, drops 145-151 (1576 to
  1642 nm), keeps 160-166.

The statistics published with the data decide it: the mean is smooth over exactly 19 bands (positions 126 to 144 of the
202) and drops at position 145. Nineteen bands in a row are 1531 to 1728 nm of the first list; under the second,
positions 141 to 144 would lie at 1939 to 1968 nm, in deep water vapour, with a mean reflectance of 0.26, which cannot
be. The first list is right; the second only repeats tables that were made with it. They give other wavelengths to
positions 130 to 144 only.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

from torchspectral.backbones.base import Bands

BandList = Literal["enmap-202", "enmap-202-csv"]
_KEPT = {
    "enmap-202": ((0, 126), (141, 160), (167, 224)),
    "enmap-202-csv": ((0, 126), (141, 145), (152, 224)),
}
LEAST_BANDS = 75
"""Below, the third convolution of the adapter has nothing left to see."""


def band_indices(which: BandList = "enmap-202") -> tuple[int, ...]:
    """Positions of the 202 bands among the 224 of EnMAP sorted by wavelength."""
    return tuple(i for low, high in _KEPT[which] for i in range(low, high))


@lru_cache(maxsize=4)
def enmap_bands(which: BandList = "enmap-202", fixed: bool = False) -> Bands:
    """The declaration of a backbone of this family.

    Parameters
    ----------
    which : {"enmap-202", "enmap-202-csv"}
    fixed : bool
        Exactly these 202 bands (baselines without adapter); else any count from 75, these being the bands of the
        published weights.
    """
    from torchspectral.sensors import get

    sensor = get("enmap")
    order = sorted(range(sensor.bands), key=lambda i: float(sensor.wavelength[i]))
    kept = [order[i] for i in band_indices(which)]
    return Bands(
        wavelengths=tuple(float(sensor.wavelength[i]) for i in kept),
        fwhm=tuple(float(sensor.fwhm[i]) for i in kept),
        fixed=fixed,
        minimum=1 if fixed else LEAST_BANDS,
    )
