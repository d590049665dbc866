"""Detector columns: stripes of pushbroom sensors evened out, dead columns filled."""

from __future__ import annotations

from typing import Any, Literal

import torch

from torchspectral.engine.method import Input, Method, Output, Scope, Size, Source, State, Tile
from torchspectral.errors import BandMismatch
from torchspectral.settings import Settings, setting

TO_DEVIATION = 1.4826
ROWS = 512
"""Rows, evenly over the scene, from which the statistics of a column are told; all where there are fewer."""


class DestripeSettings(Settings):
    """Destriping."""

    model: Literal["offset", "gain-offset"] = setting(
        "offset", "what differs from column to column: an offset, or a gain as well (moment matching)"
    )
    smooth: int = setting(
        15, "columns over which the scene itself may vary; odd widths are centred", unit="pixel", ge=3
    )
    threshold: float = setting(
        0.0, "only columns whose offset is above this many robust deviations of all columns are changed", ge=0
    )
    dead: bool = setting(True, "constant columns are filled from their neighbours")


class Destripe(Method):
    """Moment matching of detector columns, with robust moments.

    The median of each column and band, taken over rows of the whole scene, is compared with the running median over
    `smooth` columns; what is left is the column's offset. "gain-offset" does the same with the logarithm of the median
    absolute deviation. Constant columns of bands that are not constant are filled linearly from both sides.

    State
    -----
    offset, gain, centre : Tensor, shape (bands, columns)
        clean = (value - centre) / gain + centre - offset.
    dead : Tensor of bool, shape (bands, columns)

    References
    ----------
    Gadallah, Csillag and Smith, "Destriping multisensor imagery with moment matching", International Journal of Remote
    Sensing 21(12), 2000.
    """

    Settings = DestripeSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.LOCAL
    needs_fit = True
    state_keys = ("offset", "gain", "centre", "dead")
    halo = 8

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Medians and deviations of all columns in one pass."""
        if state is not None and "offset" in state:
            return state
        height, width = source.info.shape
        chosen = torch.linspace(0, height - 1, min(height, ROWS)).round().long().unique()

        def pieces(tile: Tile) -> list[tuple[int, torch.Tensor, torch.Tensor]]:
            here = ((chosen >= tile.inner.row) & (chosen < tile.inner.row + tile.inner.height)).nonzero()[:, 0]
            values = tile.core("cube")[0].where(tile.core(tile.valid)[0], torch.nan)
            return [(tile.inner.col, here, values[:, (chosen[here] - tile.inner.row).to(values.device)].cpu())]

        found = source.reduce(pieces, lambda a, b: a + b)
        values = torch.full((found[0][2].shape[0], len(chosen), width), torch.nan, dtype=torch.float32)
        for col, rows, part in found:
            values[:, rows, col : col + part.shape[-1]] = part
        centre = values.nanmedian(1).values
        spread = (values - centre[:, None]).abs().nanmedian(1).values * TO_DEVIATION
        lowest = values.nan_to_num(torch.inf).amin(1)
        flat = (lowest == values.nan_to_num(-torch.inf).amax(1)) & centre.isfinite() & (len(chosen) > 1)
        dead = flat & ~(flat | centre.isnan()).all(1, keepdim=True) if self.settings.dead else torch.zeros_like(flat)
        known = centre.where(~flat, torch.nan)
        offset = (known - running_median(known, self.settings.smooth)).nan_to_num()
        if self.settings.threshold:
            level = TO_DEVIATION * offset.abs().median(1, keepdim=True).values
            offset = torch.where(offset.abs() > self.settings.threshold * level, offset, 0.0)
        gain = torch.ones_like(offset)
        if self.settings.model == "gain-offset":
            log = spread.where(~flat & (spread > 0), torch.nan).log()
            gain = (log - running_median(log, self.settings.smooth)).nan_to_num().exp()
        return {"offset": offset, "gain": gain, "centre": centre.nan_to_num(), "dead": dead}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Correct, then fill, (n, bands, y, x)."""
        cube = tile["cube"]
        if len(state["offset"]) != cube.shape[1]:
            raise BandMismatch(
                f"the columns are of {len(state['offset'])} bands, the cube has {cube.shape[1]}: fit it here"
            )
        part = slice(tile.window.col, tile.window.col + tile.window.width)
        offset, gain, centre = (
            state[k][:, part].to(cube.device, cube.dtype)[:, None] for k in ("offset", "gain", "centre")
        )
        out = (cube - centre) / gain + centre - offset
        dead = state["dead"][:, part].bool().to(cube.device)
        return {"cube": filled_columns(out, dead)} if bool(dead.any()) else {"cube": out}

    def memory(self, size: Size) -> dict[str, int]:
        """A copy; of the fit the chosen rows of the scene and their windows."""
        pixels = size.rows * size.cols * size.bands * 4
        return {"fit": 3 * min(size.rows, ROWS) * size.cols * size.bands * 4 + pixels, "apply": 3 * pixels}

    def figures(self, state: State) -> dict[str, Any]:
        """Largest offset, and how many columns were dead."""
        return {
            "largest_offset": float(f"{float(state['offset'].abs().max()):.6g}"),
            "dead_columns": int(state["dead"].sum()),
        }


def running_median(values: torch.Tensor, width: int) -> torch.Tensor:
    """Median over `width` neighbours along the last axis, NaN left out, narrower at the ends."""
    half = max(1, width // 2)
    padded = torch.nn.functional.pad(values, (half, half), value=torch.nan)
    return padded.unfold(-1, 2 * half + 1, 1).nanmedian(-1).values


def filled_columns(cube: torch.Tensor, dead: torch.Tensor) -> torch.Tensor:
    """Columns marked in `dead` (bands, x) linearly from the nearest others of (n, bands, y, x)."""
    width = cube.shape[-1]
    at = torch.arange(width, device=cube.device).expand(dead.shape)
    left = torch.where(dead, -1, at).cummax(1).values
    right = torch.where(dead, width, at).flip(1).cummin(1).values.flip(1)
    none_left, none_right = left < 0, right >= width
    left, right = torch.where(none_left, right, left), torch.where(none_right, left, right)
    left, right = left.clamp(0, width - 1), right.clamp(0, width - 1)
    share = ((at - left) / (right - left).clamp_min(1)).to(cube.dtype)
    one, other = (cube.gather(3, index[None, :, None].expand(*cube.shape[:3], width)) for index in (left, right))
    return torch.where(dead[None, :, None], torch.lerp(one, other, share[:, None]), cube)
