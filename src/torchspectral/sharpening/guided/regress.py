"""Guided fusion: detail of several guide bands, shared out to every hyperspectral band by regression."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar

import numpy as np
import torch

from torchspectral.engine.method import Input, Output, SceneInfo, Size, Source, State, Tile
from torchspectral.errors import BadInput
from torchspectral.ops.axis import AxisOperator, apply, correlation
from torchspectral.ops.interpolate import interpolation_halo
from torchspectral.ops.mtf import HS_GAIN, kernel_size
from torchspectral.settings import Settings
from torchspectral.sharpening.fusion import Fusion
from torchspectral.sharpening.guided.bands import layer_names, outside_of
from torchspectral.sharpening.guided.confidence import explained_around
from torchspectral.sharpening.guided.operators import (
    SPLINE_REACH,
    centre_offset,
    fixed_low_pairs,
    reach_of,
    rise_core,
    round_pairs,
    run_pairs,
    shift_operator,
)
from torchspectral.sharpening.guided.options import GuidedSettings
from torchspectral.sharpening.guided.products import WORTH, by_shift, joined_pieces, own_shifts, product_sets
from torchspectral.sharpening.guided.registration import Found, cut_pieces, find_shift
from torchspectral.sharpening.guided.ridge import Fit, Sums, consistency, most_alike, ridge
from torchspectral.sharpening.guided.views import core_spans, patterns, ratio_of, seen_of, window_shape

LEAK = 1e-3
"""Share of the low-pass kernel that may fall on masked guide pixels."""
FILL = 9
"""Side of the window that masked coarse guide pixels are filled from."""


class Guided(Fusion):
    """Regression-guided injection: F_b = M_b + sum_k C_kb (S_k - L_k).

    The guides are registered to the cube by one shift (one a product where they are of several that do not agree),
    seen as the cube's sensor would see them (s_k), and the bands are regressed on s_k (ridge, with intercept). M
    and L_k are the ideal interpolations of the cube and of s_k, S_k are the registered guides. Nothing is divided,
    so that water and negative reflectance are safe. Where some guides are masked the others' own regression is
    used, where all are masked the cube is interpolated.

    ``confidence`` tells, for each band and coarse pixel, which share of the band's variance the guides explain around
    it, 0..1: with 0 the band is interpolated and no more.

    Roles
    -----
    ``guides``: K bands on a grid R times finer; ``guide_valid``: as many bands, 0 where a guide is masked;
    ``responses``: K spectra, the weights of the cube's bands in each guide (Gaussians of unknown width are not
    guessed: without them each guide is compared with the band that it correlates with best).

    References
    ----------
    Aiazzi et al., "MTF-tailored multiscale fusion of high-resolution MS and Pan imagery", PE&RS 72 (2006) (the
    pyramid). Selva, Aiazzi, Butera, Chiarantini, Baronti, "Hyper-sharpening: a first approach on SIM-GA data", IEEE
    JSTARS 8 (2015) (a guide for each band, synthesised by regression).
    """

    Settings: ClassVar[type[Settings]] = GuidedSettings
    inputs = (
        Input("cube"),
        Input("guides", ratio="finer"),
        Input("guide_valid", ratio="finer", optional=True),
        Input("responses", kind="spectra", optional=True, fit_only=True),
    )
    outputs = (Output("cube", grid="guides"), Output("confidence", kind="layers", names="=names", undo_scale=False))
    needs_fit = True

    def prepare(self, info: SceneInfo) -> None:
        """Set the halo from the ratio.

        Raises
        ------
        GridMismatch
            The guides are not finer than the cube.
        """
        ratio = self.check_ratio(info, "guides")
        spline = SPLINE_REACH + 1
        low = -(-(kernel_size(ratio) // 2 + spline) // ratio) + math.ceil(self._limit) + FILL // 2
        rise = interpolation_halo(ratio) + (-(-spline // ratio) if centre_offset(ratio, self.settings.centres) else 0)
        self.halo = low + max(rise, self.settings.window // 2) + 1
        self._reach = low

    @property
    def _limit(self) -> float:
        return float(self.settings.max_shift) if self.settings.register_shift else 0.0

    def gain(self, info: SceneInfo) -> float:
        """MTF gain of the hyperspectral sensor."""
        known = float(info.mtf.get("cube", 0.0) or 0.0)
        return float(self.settings.mtf_gain or (known if 0 < known < 1 else HS_GAIN))

    # Learning from the scene

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Two or three streaming passes: dead guides, the shift, the regression."""
        look = source.reduce(self._look, _merge_looks)
        kept, dropped = self._kept(look)
        base: State = {"kept": kept, "mean": look["total"] / look["count"].clamp_min(1), "shift": (0.0, 0.0)}
        found, sums = Found(why="not asked for"), None
        own: list[dict[str, Any]] = []
        if self.settings.register_shift and bool(kept.any()):
            sets = [self._compared(kept), *product_sets(self.settings.products, self.settings.register_with, kept)]
            matched = torch.zeros(0)
            if "responses" not in source.info.names:
                sums = source.reduce(partial(self._sums, base=base), operator.add)
                matched = most_alike(sums, torch.arange(kept.numel()))
            pieces = source.reduce(partial(self._pieces, base=base, sets=sets, matched=matched), joined_pieces)
            ratio = int(source.info.ratio["guides"])
            search = partial(
                find_shift,
                ratio=ratio,
                gain=self.gain(source.info),
                offset=centre_offset(ratio, self.settings.centres),
                limit=self._limit,
                robust=self.settings.robust,
            )
            found = search(pieces[0])
            if found.trusted and found.after < (1 - WORTH) * found.before:
                base["shift"] = (found.rows, found.cols)
                sums = None
            elsewhere = [search(p, against=base["shift"]) for p in pieces[1:]]
            own, shifts = own_shifts(self.settings.products, kept, base["shift"], elsewhere, ratio)
            if shifts:
                base["shifts"], sums = shifts, None
        if sums is None:
            sums = source.reduce(partial(self._sums, base=base), operator.add)
        count = int(sums.cross[0, 0])
        if bool(kept.any()) and count == 0:
            raise BadInput(
                "no pixel of the cube is seen by all guides, so the bands cannot be regressed on them: leave guides out "
                "that see other ground"
            )
        outside = outside_of(source.info, kept)
        whole = self._coefficients(sums, kept, outside)
        mean = sums.cross[0] / max(count, 1)
        k = sums.guides
        variance = (sums.power / max(count, 1) - mean[k + 1 :].square()).clamp_min(0)
        return {
            **base,
            "coef": whole.coef,
            "r2": whole.r2,
            "low_mean": mean[1 : k + 1],
            "band_mean": mean[k + 1 :],
            "variance": variance,
            "consistency": consistency(sums, whole.coef),
            "cross": sums.cross,
            "power": sums.power,
            "back": sums.back,
            "error": sums.error,
            "outside": outside,
            "count": count,
            "found": [found.rows, found.cols, found.deviation, found.before, found.after, float(found.trusted)],
            "why": found.why,
            "own": own,
            "dropped": dropped,
            "names": layer_names(source.info),
        }

    def _coefficients(self, sums: Sums, chosen: torch.Tensor, outside: torch.Tensor) -> Fit:
        fit = ridge(sums, chosen, float(self.settings.ridge))
        if self.settings.outside == "interpolate":
            fit.coef[:, outside] = 0
            fit.r2[outside] = 0
        return fit

    def _look(self, tile: Tile) -> State:
        """What is valid of each guide, and its level and spread."""
        guides, valid = tile.core("guides").double(), seen_of(tile, core=True)
        keep = tile.core(tile.valid).repeat_interleave(ratio_of(tile), -2).repeat_interleave(ratio_of(tile), -1)
        valid = valid & keep
        held = torch.where(valid, guides, 0.0)
        return {
            "count": valid.sum((0, 2, 3)).double(),
            "pixels": torch.tensor(float(keep.sum()), dtype=torch.float64),
            "total": held.sum((0, 2, 3)),
            "low": torch.where(valid, guides, torch.inf).amin((0, 2, 3)),
            "high": torch.where(valid, guides, -torch.inf).amax((0, 2, 3)),
        }

    def _kept(self, look: State) -> tuple[torch.Tensor, list[str]]:
        """Guides that are worked with, and why the others are not."""
        share = look["count"] / look["pixels"].clamp_min(1)
        span = look["high"] - look["low"]
        level = torch.maximum(look["high"].abs(), look["low"].abs())
        flat = ~(span > 1e-6 * level)
        hidden = (share < float(self.settings.min_valid)) | (look["count"] == 0)
        lines = []
        for k in range(share.numel()):
            if hidden[k]:
                lines.append(f"guide {k + 1}: masked in {100 * (1 - float(share[k])):.0f} % of the scene")
            elif flat[k]:
                lines.append(f"guide {k + 1}: constant")
        return ~(flat | hidden), lines

    def _compared(self, kept: torch.Tensor) -> torch.Tensor:
        """Indices of the guides that tell the shift."""
        asked = [k for k in self.settings.register_with if k < kept.numel()] or list(range(kept.numel()))
        chosen = [k for k in asked if kept[k]] or [k for k in range(kept.numel()) if kept[k]]
        return torch.tensor(chosen, dtype=torch.long)

    def _pieces(self, tile: Tile, base: State, sets: list[torch.Tensor], matched: torch.Tensor) -> list[list[Any]]:
        """Parts of a tile that are compared, for each set of guides."""
        return [self._pieces_of(tile, base, compared, matched) for compared in sets]

    def _pieces_of(self, tile: Tile, base: State, compared: torch.Tensor, matched: torch.Tensor) -> list[Any]:
        weights = (matched if matched.numel() else tile["responses"].double())[compared]
        seen = weights.abs().sum(1) > 0
        if not bool(seen.any()):
            return []
        compared, weights = compared[seen], weights[seen]
        cube = tile["cube"][0].double()
        wanted = torch.einsum("kb,byx->kyx", weights.to(cube.device), cube)
        _, valid = self._low(tile, {**base, "shift": (0.0, 0.0)})
        weight = (valid[0, compared].all(0) & tile.valid[0, 0]).double()
        guides, mask = tile["guides"][0, compared], seen_of(tile)[0, compared]
        filled = torch.where(mask, guides.double(), base["mean"][compared].to(guides.device)[:, None, None])
        return cut_pieces(tile.inner, tile.window, tile.info.shape, wanted, weight, filled, self._reach)

    def _sums(self, tile: Tile, base: State) -> Sums:
        """Products of guides and bands over the coarse core pixels where all are seen."""
        ratio, gain = ratio_of(tile), self.gain(tile.info)
        offset = centre_offset(ratio, self.settings.centres)
        low, valid = self._low(tile, base)
        kept = base["kept"].to(low.device)
        low = low * kept[None, :, None, None]
        again = round_pairs(window_shape(tile), ratio, gain, offset)
        registered, _ = self._registered(tile, base)
        back = run_pairs(registered, fixed_low_pairs(tuple(registered.shape[-2:]), ratio, gain, (offset, offset)))
        back = (back - run_pairs(low, again)) * kept[None, :, None, None]
        cube = tile["cube"].double()
        change = run_pairs(cube, again) - cube
        use = tile.valid & valid[:, kept].all(1, keepdim=True)

        def pixels(image: torch.Tensor) -> torch.Tensor:
            core = tile.core(image).movedim(1, 0).flatten(1)
            return core[:, tile.core(use).reshape(-1)]

        s, y, t, u = pixels(low), pixels(cube), pixels(back), pixels(change)
        rows = torch.cat([torch.ones_like(y[:1]), s])
        cross = torch.cat([rows @ rows.T, rows @ y.T], dim=1)
        return Sums(
            cross.cpu(), y.square().sum(1).cpu(), torch.cat([t @ t.T, t @ u.T], 1).cpu(), u.square().sum(1).cpu()
        )

    # Images of one tile

    def _low(self, tile: Tile, base: State) -> tuple[torch.Tensor, torch.Tensor]:
        """s_k over the window, float64 (n, K, y, x), and where it is seen, bool."""
        ratio, gain = ratio_of(tile), self.gain(tile.info)
        offset = centre_offset(ratio, self.settings.centres)
        guides, mask = tile["guides"].double(), seen_of(tile)

        def see(image: torch.Tensor) -> torch.Tensor:
            return by_shift(
                image,
                base,
                lambda part, shift: run_pairs(
                    part, fixed_low_pairs(tuple(part.shape[-2:]), ratio, gain, (shift[0] + offset, shift[1] + offset))
                ),
            )

        mean = base["mean"].to(guides.device)[None, :, None, None]
        if bool(mask.all()):
            return see(guides), torch.ones(1, 1, 1, 1, dtype=torch.bool, device=guides.device).expand(
                guides.shape[0], guides.shape[1], *window_shape(tile)
            )
        seen = mask.double()
        share = see(seen)
        # Deviations from the mean: where nothing is seen, the mean remains.
        part = see(torch.where(mask, guides - mean, 0.0))
        valid = share > 1 - LEAK
        near = torch.where(share > 0.25, part / share.clamp_min(0.25), 0.0)
        known = (share > 0.25).double()
        box = [correlation(n, np.full(FILL, 1 / FILL), "edge") for n in window_shape(tile)]
        around, weight = apply(near * known, *box), apply(known, *box)
        filled = torch.where(known > 0, near, torch.where(weight > 1e-9, around / weight.clamp_min(1e-9), 0.0))
        return filled + mean, valid

    def _registered(self, tile: Tile, base: State, core: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
        """S_k, float64, and where it is seen; over the window or the core."""
        guides, mask = tile["guides"].double(), seen_of(tile)
        if not any(base["shift"]) and "shifts" not in base:
            return (tile.core(guides), tile.core(mask)) if core else (guides, mask)
        whole = bool(mask.all())
        if not whole:
            guides = torch.where(mask, guides, base["mean"].to(guides.device)[None, :, None, None])
        spans = core_spans(tile) if core else [slice(0, n) for n in guides.shape[-2:]]

        def move(operators: Callable[[int, float], AxisOperator]) -> Callable[..., torch.Tensor]:
            def run(part: torch.Tensor, shift: Sequence[float]) -> torch.Tensor:
                made = [operators(n, d) for n, d in zip(part.shape[-2:], shift, strict=True)]
                return apply(part, *(AxisOperator(m.matrix[s]) for m, s in zip(made, spans, strict=True)))

            return run

        out = by_shift(guides, base, move(shift_operator))
        if whole:
            return out, torch.ones(1, 1, 1, 1, dtype=torch.bool, device=out.device).expand(out.shape)
        return out, by_shift(mask.double(), base, move(reach_of)) > 1 - 1e-6

    # Fusion

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Inject the detail into the core of a tile."""
        ratio = ratio_of(tile)
        offset = centre_offset(ratio, self.settings.centres)
        low, low_valid = self._low(tile, state)
        rise = [
            rise_core(size, ratio, offset, first, length)
            for size, first, length in zip(
                window_shape(tile),
                (tile.inner.row - tile.window.row, tile.inner.col - tile.window.col),
                (tile.inner.height, tile.inner.width),
                strict=True,
            )
        ]
        image = apply(tile["cube"], *rise)
        fine, fine_valid = self._registered(tile, state, core=True)
        detail = fine - apply(low, *rise)
        kept = state["kept"].to(detail.device)
        core_valid = tile.core(low_valid).repeat_interleave(ratio, -2).repeat_interleave(ratio, -1)
        valid = (core_valid & fine_valid)[:, kept]
        detail = torch.where(valid, detail[:, kept], 0.0).to(image.dtype)
        self._inject(image, detail, valid, state)
        confidence = explained_around(
            tile, low, low_valid, state, self.settings.window, lambda chosen: self._subset(state, chosen).r2
        )
        if self.settings.outside == "interpolate":
            confidence[:, state["outside"].to(confidence.device)] = 0
        return {"cube": image, "confidence": confidence.to(image.dtype)}

    def _inject(self, image: torch.Tensor, detail: torch.Tensor, valid: torch.Tensor, state: State) -> None:
        """Add the detail in place, with the coefficients of the guides that are seen."""
        kept = state["kept"]
        for item in range(image.shape[0]):
            flat, d = image[item].flatten(1), detail[item].flatten(1)
            if bool(valid[item].all()):
                flat.addmm_(state["coef"][kept].T.to(flat), d)
                continue
            for chosen, where in patterns(valid[item].flatten(1)):
                coef = self._subset(state, chosen).coef[kept]
                flat[:, where] += coef.T.to(flat) @ d[:, where]

    def _subset(self, state: State, chosen: torch.Tensor) -> Fit:
        """Regression on the kept guides that are True in `chosen`."""
        kept = state["kept"].cpu()
        if bool(chosen.all()):
            return Fit(state["coef"], state["r2"])
        among = torch.zeros_like(kept)
        among[kept.nonzero()[:, 0][chosen.cpu()]] = True
        sums = Sums(*(state[name].cpu() for name in ("cross", "power", "back", "error")))
        return self._coefficients(sums, among, state["outside"].cpu())

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes beside the inputs: guides in float64 some times over, coarse bands in float64, the fused tile."""
        coarse = size.bands * size.rows * size.cols
        fine = size.rows * size.cols * size.zoom**2
        guides = 13 * fine * 8
        return {"fit": 32 * coarse + 3 * guides, "apply": 24 * coarse + 4 * size.bands * fine + 4 * guides}

    def figures(self, state: State) -> dict[str, Any]:
        """The shift, the guides used, and how well they explain each band."""
        deviation, before, after, trusted = (float(v) for v in state["found"][2:])
        used = [int(k) + 1 for k in torch.as_tensor(state["kept"]).nonzero()[:, 0]]
        return {
            "guides_used": used,
            "guides_dropped": list(state["dropped"]),
            "shift_rows": float(state["shift"][0]),
            "shift_cols": float(state["shift"][1]),
            "shift_measured": [float(state["found"][0]), float(state["found"][1])],
            "shift_deviation": deviation,
            "shift_found": bool(trusted),
            "shift_refused": "" if trusted else str(state["why"]),
            "products": list(state.get("own", [])),
            "unexplained_before": before,
            "unexplained_after": after,
            "pixels_regressed": int(state["count"]),
            "r2": [round(float(v), 5) for v in state["r2"]],
            "consistency": [float(v) for v in state["consistency"]],
            "bands_outside": [int(b) + 1 for b in torch.as_tensor(state["outside"]).nonzero()[:, 0]],
        }


def _merge_looks(one: State, two: State) -> State:
    joined = {name: one[name] + two[name] for name in ("count", "pixels", "total")}
    return joined | {"low": torch.minimum(one["low"], two["low"]), "high": torch.maximum(one["high"], two["high"])}
