"""Bad pixels and bad detector elements: found against their neighbours in space and spectrum, and replaced."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
import torch.nn.functional as F

from torchspectral.engine.method import Input, Method, Output, Scope, Size, Source, State, Tile
from torchspectral.errors import BandMismatch
from torchspectral.restoration.robust import deviation
from torchspectral.settings import Settings, setting

ROWS = 64
"""Rows, evenly over the scene, from which deviations and bad detector elements are told; all where there are fewer."""
CHUNK = 1 << 20
"""Values whose neighbours are sorted at a time."""


class BadPixelsSettings(Settings):
    """Bad pixels."""

    threshold: float = setting(
        8.0, "robust standard deviations from the neighbours above which a value is bad; in space and in spectrum", gt=0
    )
    element: float = setting(
        0.5,
        "share of bad rows above which a detector element (a column of one band) is replaced as a whole",
        gt=0,
        le=1,
    )


class BadPixels(Method):
    """Replace single bad values, whatever their cause, and leave small objects of the scene alone.

    A value is bad where it stands out of its eight neighbours, in units of what is usual in its band, and stands out of
    the nearest four bands as well, which show an object of the scene alike. It is replaced by the median of its
    neighbours, moved by what those bands show there. All other values come back as they were; bands without any data are
    interpolated from the nearest two.

    State
    -----
    noise, spread : Tensor, shape (bands,)
        Deviations from the neighbours in space, and of these in units of themselves from those of the nearest bands.
    element : Tensor of bool, shape (bands, columns)

    Outputs
    -------
    cube
    repaired : layers
        Bands of each pixel that were replaced.

    References
    ----------
    Kieffer, "Detection and correction of bad pixels in hyperspectral sensors", Proc. SPIE 2821, 1996 (the task).
    """

    Settings = BadPixelsSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"), Output("repaired", kind="layers", names=("repaired",), undo_scale=False))
    scope = Scope.LOCAL
    needs_fit = True
    fills_bands: ClassVar[bool] = True
    state_keys = ("noise", "spread", "element")
    halo = 1

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Deviations of each band from evenly spaced rows, in one pass."""
        if state is not None and "element" in state:
            return state
        height, width = source.info.shape
        chosen = torch.linspace(0, height - 1, min(height, ROWS)).round().long().unique()

        def pieces(tile: Tile) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
            here = ((chosen >= tile.inner.row) & (chosen < tile.inner.row + tile.inner.height)).nonzero()[:, 0]
            if not len(here):
                return []
            rows = (chosen[here] - tile.inner.row).to(tile["cube"].device)
            rest = tile.core(tile["cube"] - around(tile["cube"]))[0]
            return [(tile.inner.col, here, rest.where(tile.core(tile.valid)[0], torch.nan)[:, rows].cpu())]

        found = source.reduce(pieces, lambda a, b: a + b)
        values = torch.full((source.info.bands, len(chosen), width), torch.nan)
        for col, rows, part in found:
            values[:, rows, col : col + part.shape[-1]] = part
        noise = deviation(values.flatten(1)).nan_to_num()
        unit = values / noise.clamp_min(1e-30)[:, None, None]
        other = unit - beside(unit[None], noise)[0]
        spread = deviation(other.flatten(1)).nan_to_num()
        bad = self._bad(unit, other, noise, spread)
        known = values.isfinite().sum(1)
        element = bad.sum(1) > self.settings.element * known.clamp_min(1)
        return {"noise": noise, "spread": spread, "element": element & (known > 2)}

    def _bad(self, unit: torch.Tensor, other: torch.Tensor, noise: torch.Tensor, spread: torch.Tensor) -> torch.Tensor:
        limit = self.settings.threshold
        shape = (-1, 1, 1)
        out = (unit.abs() > limit) & (other.abs() > limit * spread.clamp_min(1e-6).reshape(shape))
        return out & (noise > 0).reshape(shape)

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Replace, (n, bands, y, x), and count, (n, 1, y, x)."""
        cube = tile["cube"]
        if len(state["noise"]) != cube.shape[1]:
            raise BandMismatch(
                f"the deviations are of {len(state['noise'])} bands, the cube has {cube.shape[1]}: fit it here"
            )
        noise, spread = (state[key].to(cube) for key in ("noise", "spread"))
        middle = around(cube)
        unit = (cube - middle) / noise.clamp_min(1e-30)[:, None, None]
        shown = beside(unit, noise)
        part = slice(tile.window.col, tile.window.col + tile.window.width)
        element = state["element"][:, part].bool().to(cube.device)[:, None]
        bad = self._bad(unit, unit - shown, noise, spread) | element
        out = torch.where(bad, middle + shown * noise[:, None, None], cube)
        return {"cube": out, "repaired": bad.sum(1, keepdim=True).to(cube.dtype)}

    def memory(self, size: Size) -> dict[str, int]:
        """Medians, deviations and those of the bands beside; of the fit the chosen rows."""
        pixels = size.rows * size.cols * size.bands * 4
        return {"fit": 8 * min(size.rows, ROWS) * size.cols * size.bands * 4 + 2 * pixels, "apply": 9 * pixels}

    def figures(self, state: State) -> dict[str, Any]:
        """How many detector elements were replaced."""
        return {"bad_elements": int(state["element"].sum())}


def around(cube: torch.Tensor) -> torch.Tensor:
    """Median of the eight neighbours of each pixel; edges are repeated, (n, bands, y, x)."""
    n, bands, height, width = cube.shape
    out = torch.empty_like(cube)
    step = max(1, CHUNK // (n * height * width))
    for start in range(0, bands, step):
        wide = F.pad(cube[:, start : start + step], (1, 1, 1, 1), mode="replicate")
        shifts = [wide[..., y : y + height, x : x + width] for y in range(3) for x in range(3) if (y, x) != (1, 1)]
        ranked = torch.stack(shifts).sort(0).values
        out[:, start : start + step] = (ranked[3] + ranked[4]) / 2
    return out


def beside(unit: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
    """Median of the nearest four bands that are not constant, zero where there are fewer than two, (n, bands, y, x)."""
    live = (noise > 0).nonzero()[:, 0]
    out = torch.zeros_like(unit)
    if len(live) < 3:
        return out
    reach = 2 if len(live) > 4 else 1
    own = unit[:, live]
    place = torch.arange(len(live), device=unit.device)
    picked = []
    for shift in (*range(-reach, 0), *range(1, reach + 1)):
        # At the ends the next band further in takes the place of one that is not there.
        at = place + shift
        at = torch.where(at < 0, reach - at, torch.where(at >= len(live), 2 * (len(live) - 1) - at - reach, at))
        picked.append(own[:, at.clamp(0, len(live) - 1)])
    ranked = torch.stack(picked).sort(0).values
    out[:, live] = (ranked[reach - 1] + ranked[reach]) / 2
    return out
