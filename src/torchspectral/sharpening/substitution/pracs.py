"""PRACS: partial replacement adaptive component substitution."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache, partial
from typing import Any, ClassVar

import numpy as np
import torch

from torchspectral.engine.method import SceneInfo, Size, Source, State, Tile
from torchspectral.ops.axis import AxisOperator, apply
from torchspectral.ops.gram import CHUNK
from torchspectral.ops.interpolate import ideal_operator, interpolation_halo
from torchspectral.ops.regression import min_norm_solve
from torchspectral.ops.resize import bicubic_operator
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.injection import (
    RESIZE_REACH,
    Injection,
    InjectionSettings,
    check_count,
    merge_sums,
    per_band,
    reduce_enlarge,
    safe_ratio,
)
from torchspectral.sharpening.tiles import widened
from torchspectral.sharpening.upsampled import Upsampled


@lru_cache(maxsize=128)
def _seen_low(size: int, ratio: int, border: str, start: int, length: int) -> tuple[AxisOperator, torch.Tensor]:
    """For one axis, with M = A m and L the low-pass: A^T L A of the core, and the row 1^T L A."""
    fine = slice(start * ratio, (start + length) * ratio)
    up = ideal_operator(size, ratio, border).matrix
    low = bicubic_operator(size, size * ratio, float(ratio)).matrix[fine]
    low = low @ (bicubic_operator(size * ratio, size, 1 / ratio).matrix @ up)
    return AxisOperator(up[fine].T @ low), torch.from_numpy(np.asarray(low.sum(0)).ravel())


class PRACSSettings(InjectionSettings):
    """Settings of PRACS."""

    beta: float = setting(0.95, "share of the injected detail (beta)", gt=0, le=2)
    lowest: float = setting(
        0.0, "lowest local factor L; the benchmark's code goes down to -10, where detail is turned round", ge=-10, le=0
    )


class PRACS(Injection):
    """Partial replacement adaptive component substitution: F_b = M_b + w_b L_b delta_b.

    The bands are matched to the PAN (M'_b), an intensity of each band is partly the PAN, r_b P + (1 - r_b) M'_b, as much
    as M'_b correlates with what all bands explain of the PAN, and delta_b is what the bands do not explain of it. The
    local factor L_b = 1 - |1 - corr(I, M_b) M_b / I'_b| takes detail away where the spectrum would turn.

    References
    ----------
    Choi, Yu, Kim, "A new adaptive component-substitution-based satellite image fusion by using partial replacement",
    IEEE TGRS 49 (2011).
    """

    Settings: ClassVar[type[Settings]] = PRACSSettings
    needs_fit = True

    def prepare(self, info: SceneInfo) -> None:
        """Set the halo: interpolation, and reduction and enlargement of what was interpolated."""
        ratio = self.check_ratio(info)
        self.halo = interpolation_halo(ratio) + RESIZE_REACH

    @property
    def lowest(self) -> float:
        """Lower limit of the local factor."""
        return -10.0 if self.as_authors else float(self.settings.lowest)

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Two streaming passes: moments of bands and PAN, then cross products of the matched bands."""
        first = source.reduce(self._moments, merge_sums)
        n = check_count(first["n"], "the PAN")
        mean, pan = first["total"] / n, float(first["pan"] / n)
        variance = ((first["power"] - n * mean.square()) / (n - 1)).clamp_min(0)
        variance = torch.where(variance > 1e-13 * mean.square(), variance, 0.0)
        spread = float(first["pan2"] - n * pan**2) / (n - 1)
        level = max(spread, 0.0) ** 0.5 if spread > 1e-13 * pan**2 else 0.0
        slope = safe_ratio(torch.full_like(variance, level), variance.sqrt())
        match = {"slope": slope, "offset": -slope * mean, "pan": pan}
        second = source.reduce(partial(self._products, match=match), merge_sums)
        return match | self._coefficients(second, n, variance.sqrt(), slope)

    def _moments(self, tile: Tile) -> State:
        up = Upsampled(tile, self.border)
        pan = up.masked(up.pan)
        return {
            "n": torch.tensor(float(up.count), dtype=torch.float64),
            "total": up.total(),
            "power": up.power(),
            "pan": pan.sum(),
            "pan2": pan.square().sum(),
        }

    def _products(self, tile: Tile, match: dict[str, Any]) -> State:
        """Sums over Z = M' - mean P (the matched bands), LZ and LP, where L reduces and enlarges."""
        wide = Upsampled(widened(tile, RESIZE_REACH), self.border)
        up = Upsampled(tile, self.border)
        low_pan = tile.core(reduce_enlarge(tile["pan"].double() - match["pan"], up.ratio))
        image = wide.image()
        line = image * per_band(match["slope"], image) + per_band(match["offset"], image)
        cut = (-match["pan"] - line).clamp_min(0)
        if up.whole and up.given is None and not bool(cut.any()):
            found = self._linear(tile, match, low_pan)
        else:
            found = self._clipped(tile, wide.tile, line, cut, low_pan)
        return found | {"pan_low": up.masked(low_pan).sum()}

    def _linear(self, tile: Tile, match: dict[str, Any], low_pan: torch.Tensor) -> State:
        """No matched value is clipped: everything follows from the coarse bands."""
        low = tile["cube"].double()
        low = low * per_band(match["slope"], low) + per_band(match["offset"], low)
        up = Upsampled(replace(tile, data={**tile.data, "cube": low}), self.border)
        window, inner = tile.window, tile.inner
        rows = _seen_low(window.height, up.ratio, self.border, inner.row - window.row, inner.height)
        cols = _seen_low(window.width, up.ratio, self.border, inner.col - window.col, inner.width)
        gram = up.gram()
        sides = (side.to(low.device) for _, side in (rows, cols))
        return {
            "z": up.total(),
            "zz": gram,
            "zm": gram,
            "zp": up.dot(low_pan),
            "zl": torch.einsum("nayx,nbyx->ab", low, apply(low, rows[0], cols[0])),
            "l": torch.einsum("nbyx,y,x->b", low, *sides),
        }

    def _clipped(self, tile: Tile, wide: Tile, line: torch.Tensor, cut: torch.Tensor, low_pan: torch.Tensor) -> State:
        """The general case, pixel by pixel."""
        up = Upsampled(tile, self.border)
        ratio = up.ratio
        inner, outer = tile.inner, wide.inner
        place = [(inner.row - outer.row) * ratio, (inner.col - outer.col) * ratio]
        size = [inner.height * ratio, inner.width * ratio]
        inside = (..., slice(place[0], place[0] + size[0]), slice(place[1], place[1] + size[1]))
        z = line + cut
        rows, cols = (
            AxisOperator(bicubic_operator(n, n * ratio, float(ratio)).matrix[p : p + s])
            for n, p, s in zip((outer.height, outer.width), place, size, strict=True)
        )
        reduced = apply(
            z.double(),
            bicubic_operator(outer.height * ratio, outer.height, 1 / ratio),
            bicubic_operator(outer.width * ratio, outer.width, 1 / ratio),
        )
        mask = torch.ones_like(up.pan, dtype=torch.float64) if up.whole else up.valid.double()
        core, lost = z[inside], cut[inside]
        bands = core.shape[1]
        keep = up.valid.reshape(-1)
        zz = core.new_zeros(bands, bands, dtype=torch.float64)
        zd, total, zp = torch.zeros_like(zz), zz.new_zeros(bands), zz.new_zeros(bands)
        flat, gone = core.movedim(1, 0).flatten(1), lost.movedim(1, 0).flatten(1)
        pan = low_pan.reshape(-1)
        for start in range(0, flat.shape[1], CHUNK):
            some = keep[start : start + CHUNK]
            part = flat[:, start : start + CHUNK][:, some].double()
            zz.addmm_(part, part.T)
            total += part.sum(1)
            zp += part @ pan[start : start + CHUNK][some]
            piece = gone[:, start : start + CHUNK][:, some].double()
            if bool(piece.any()):
                zd.addmm_(part, piece.T)
        # sum W Z_a (L Z_b) = <U^T W Z_a, D Z_b>: the enlargement's adjoint leaves coarse images only.
        back = torch.cat(
            [apply(part.double() * mask[:, 0], rows.adjoint(), cols.adjoint()) for part in core.split(1, 1)], 1
        )
        ones = apply(mask, rows.adjoint(), cols.adjoint())
        return {
            "z": total,
            "zz": zz,
            "zm": zz - zd,
            "zp": zp,
            "zl": torch.einsum("nayx,nbyx->ab", back, reduced),
            "l": torch.einsum("nyx,nbyx->b", ones[:, 0], reduced),
        }

    def _coefficients(self, s: State, n: int, deviation: torch.Tensor, slope: torch.Tensor) -> State:
        z, low, pan = s["z"] / n, s["l"] / n, float(s["pan_low"] / n)
        zz = s["zz"] - n * z[:, None] * z[None, :]
        zp = s["zp"] - n * z * pan
        zl = s["zl"] - n * z[:, None] * low[None, :]
        alpha = min_norm_solve(zz, zp)
        intensity = zz @ alpha
        own = zz.diagonal().clamp_min(0)
        power = float(alpha @ intensity)
        r = safe_ratio(intensity, (own * max(power, 0.0)).sqrt())
        gamma = min_norm_solve(zz, zp[:, None] * r[None, :] + zl * (1 - r)[None, :])
        offset = r * pan + (1 - r) * low - z @ gamma
        # zm holds sum Z_a slope_b (M_b - mean M_b): the matched bands before they are clipped have no mean.
        zm = s["zm"] * safe_ratio(torch.ones_like(slope), slope)[None, :]
        explained = (gamma * (zz @ gamma)).sum(0)
        bottom = ((n - 1) * deviation.square()).sqrt()
        with_own = safe_ratio((gamma * zm).sum(0), explained.clamp_min(0).sqrt() * bottom)
        weight = self.settings.beta * with_own * deviation / deviation.mean().clamp_min(1e-300)
        return {
            "r": r,
            "gamma": gamma,
            "level": offset,
            "weight": weight,
            "with_intensity": safe_ratio(alpha @ zm, max(power, 0.0) ** 0.5 * bottom),
            "detail_offset": -(1 - r) * z + z @ gamma,
        }

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Inject what the bands do not explain into the core of a tile."""
        up = Upsampled(tile, self.border)
        image = up.image()

        def row(name: str) -> torch.Tensor:
            return per_band(state[name], image)

        pan = (up.pan.double() - state["pan"]).to(image.dtype)
        z = (image * row("slope") + row("offset")).clamp_min(-state["pan"])
        explained = torch.einsum("kb,nkyx->nbyx", state["gamma"].to(image), z)
        detail = row("r") * pan + (1 - row("r")) * z - explained + row("detail_offset")
        intensity = explained.add_(row("level") + state["pan"])
        match = row("with_intensity") * image
        if self.as_authors:
            local = 1 - (1 - match / intensity).abs()
        else:
            local = 1 - (1 - match / torch.where(intensity > 0, intensity, torch.inf)).abs()
        return {"cube": torch.addcmul(image, detail.mul_(row("weight")), local.clamp(self.lowest, 10.0))}

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes beside the inputs: some fine images of all bands, one of them in float64 chunks."""
        fine = size.bands * size.rows * size.cols * size.zoom**2
        coarse = size.bands * size.rows * size.cols
        return {"fit": 16 * fine + 40 * coarse, "apply": 24 * fine + 8 * coarse}

    def figures(self, state: State) -> dict[str, Any]:
        """How much of each intensity is PAN."""
        return {"share_of_pan_mean": float(state["r"].mean()), "share_of_pan_least": float(state["r"].min())}
