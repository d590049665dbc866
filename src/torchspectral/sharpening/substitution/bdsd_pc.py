"""BDSD-PC: band-dependent spatial detail with physical constraints."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar

import torch

from torchspectral.engine.method import SceneInfo, Source, State, Tile
from torchspectral.ops.axis import AxisOperator, apply
from torchspectral.ops.interpolate import ideal_operator, interpolation_halo
from torchspectral.ops.mtf import PAN_GAIN, kernel_size, mtf_filter
from torchspectral.ops.nnls import kkt_violation, nnls_gram
from torchspectral.ops.resize import bicubic_operator, imresize
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.injection import Injection, SensorSettings, check_count, merge_sums
from torchspectral.sharpening.upsampled import Upsampled

_REDUCTION_REACH = 3
"""Coarse pixels that the antialiased reduction of M looks at on each side."""


class BDSDPCSettings(SensorSettings):
    """Settings of BDSD-PC."""

    pan_gain: float = setting(
        0.0, "amplitude of the PAN's MTF at the coarse Nyquist frequency; 0: the sensor's own, 0.15 where unknown",
        ge=0, lt=1,
    )  # fmt: skip


@lru_cache(maxsize=64)
def _reduced_operator(size: int, ratio: int, border: str) -> AxisOperator:
    """Interpolation and antialiased reduction in one, (size, size)."""
    return bicubic_operator(size * ratio, size, 1 / ratio) @ ideal_operator(size, ratio, border)


class BDSDPC(Injection):
    """Band-dependent spatial detail with physical constraints: F_b = M_b + [P, M] gamma_b.

    gamma_b is learned one scale below: it explains what the MTF takes from each band by the PAN and the bands seen
    through it, with a weight of at least 0 for the PAN and of at most 0 for the bands. That is a non-negative least
    squares problem; all bands share one Gram matrix, solved exactly.

    References
    ----------
    Vivone, "Robust band-dependent spatial-detail approaches for panchromatic sharpening", IEEE TGRS 57 (2019).
    Garzelli, Nencini, Capobianco, "Optimal MMSE pan sharpening of very high resolution multispectral images", IEEE
    TGRS 46 (2008).
    """

    Settings: ClassVar[type[Settings]] = BDSDPCSettings
    needs_fit = True
    uses_mtf = True

    def prepare(self, info: SceneInfo) -> None:
        """Set the halo: the MTF is applied once more, on the coarse grid."""
        ratio = self.check_ratio(info)
        half = kernel_size(ratio) // 2
        self.halo = max(interpolation_halo(ratio) + _REDUCTION_REACH + half, -(-half // ratio))

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """One streaming pass over the coarse grid, then the quadratic programme."""
        sums = source.reduce(self._sums, merge_sums)
        n = check_count(sums["n"], "the coarse PAN", 1)
        gram, right = sums["gram"], sums["right"]
        spread = float(sums["pan2"]) - float(sums["pan"]) ** 2 / n
        if not self.as_authors and not spread > 1e-13 * float(sums["pan2"]):
            return {"gamma": torch.zeros_like(right), "kkt": 0.0, "injected": 0}  # a constant PAN has no detail
        sign = -torch.ones_like(right[:, :1])
        sign[0] = 1.0
        flipped = sign * gram * sign.T
        solution = nnls_gram(flipped, sign * right)
        return {
            "gamma": sign * solution,
            "kkt": kkt_violation(flipped, sign * right, solution),
            "injected": int((solution[0] > 0).sum()),
        }

    def _sums(self, tile: Tile) -> State:
        up = Upsampled(tile, self.border)
        pan_gain = self._pan_gain(tile.info)
        target = self._reduced(tile, up.ratio)
        low = mtf_filter(target, up.ratio, self.gain(tile.info), normalize=not self.as_authors)
        pan = mtf_filter(tile["pan"].double(), up.ratio, pan_gain, normalize=not self.as_authors, decimated=True)
        rows = torch.cat([tile.core_pixels(pan), tile.core_pixels(low)])
        wanted = tile.core_pixels(target) - rows[1:]
        return {
            "n": torch.tensor(float(rows.shape[1]), dtype=torch.float64),
            "gram": rows @ rows.T,
            "right": rows @ wanted.T,
            "pan": rows[0].sum(),
            "pan2": rows[0].square().sum(),
        }

    def _pan_gain(self, info: SceneInfo) -> float:
        known = float(info.mtf.get("pan", 0.0) or 0.0)
        chosen: float = self.settings.pan_gain or (known if 0 < known < 1 else PAN_GAIN)
        return chosen

    def _reduced(self, tile: Tile, ratio: int) -> torch.Tensor:
        """M brought to the coarse grid with antialiasing, float64; no fine image is made."""
        if "upsampled" in tile:
            return imresize(tile["upsampled"].double(), 1 / ratio)
        height, width = tile["cube"].shape[-2:]
        rows, cols = (_reduced_operator(size, ratio, self.border) for size in (height, width))
        return apply(tile["cube"].double(), rows, cols)

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Mix the bands before they are interpolated, and add the PAN."""
        up = Upsampled(tile, self.border)
        source = up.low if up.given is None else up.given
        gamma = state["gamma"].to(source)
        mixed = source + torch.einsum("kb,nkyx->nbyx", gamma[1:], source)
        image = up.interpolate(mixed) if up.given is None else mixed
        return {"cube": image.addcmul_(gamma[0].reshape(1, -1, 1, 1), up.pan.to(image))}

    def figures(self, state: State) -> dict[str, Any]:
        """Bands that take detail from the PAN, and how exactly the programme was solved."""
        return {"bands_with_detail": int(state["injected"]), "kkt_violation": float(state["kkt"])}
