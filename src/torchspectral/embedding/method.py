"""The method: an encoder over a scene, a vector for each cell."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal

import torch
from torch.nn.functional import avg_pool2d, interpolate, pad

from torchspectral.backbones.base import Backbone
from torchspectral.backbones.on_scenes import KeptNetwork, filled_up
from torchspectral.backbones.reflection import reflected
from torchspectral.backbones.starting import encoder
from torchspectral.engine.method import BandRule, Input, Method, Output, SceneInfo, Scope, Size, State, Tile
from torchspectral.errors import BandMismatch, MissingWeights
from torchspectral.settings import Settings, setting

ENCODER = "encoder"
"""Key of a state under which name, constructor arguments, bands and statistics of the encoder stand."""

CHUNK_VALUES = 32 << 20
"""Values of the windows that are pooled at once."""


class EmbeddingSettings(Settings):
    """Settings of an embedding; sizes at 0 follow from the encoder."""

    backbone: str = setting("", "name of the encoder, as --backbone gives it; empty: that of the weights")
    what: Literal["tokens", "pooled"] = setting(
        "tokens", "tokens: a vector for each position of the last feature map; pooled: one vector for each window"
    )
    window: int = setting(
        0, "side of the windows that the encoder sees; 0: that of its training images", unit="pixel", ge=0
    )
    stride: int = setting(
        0,
        "from a window to the next; 0: three quarters of a window (tokens, where they overlap they are blended), or a "
        "whole window (pooled, of which it is the side of a cell)",
        unit="pixel",
        ge=0,
    )
    grid: Literal["cells", "pixels"] = setting(
        "cells",
        "cells: one output pixel a vector; pixels: the scene's own, tokens between cells interpolated bilinearly",
    )
    least_valid: float = setting(0.5, "cells with data on a smaller share of their pixels are nodata", ge=0, le=1)
    initial: Literal["trained", "random"] = setting("trained", "random: untrained weights, to compare with; seeded")
    statistics: Literal["", "weights", "scene"] = setting(
        "",
        "mean and deviation that the input is standardised by: those of the weights, or of this scene; by default of the "
        "weights, of the scene where these are random",
    )
    own_bands: bool = setting(
        False, "give encoders that take any bands the scene's own, although the weights were trained on others"
    )
    network: dict[str, Any] = setting({}, "arguments of the encoder over those of its weights or size")
    scope: Literal["tile", "local"] = setting(
        "tile", "tile: results depend on the window; local: convolutions, and pooled windows; set by the encoder"
    )
    step: int = setting(4, "side of a cell; set by the encoder or the stride", unit="pixel", ge=1)
    reach: int = setting(
        0, "scope=local: pixels that a cell looks beyond itself; set by the encoder", unit="pixel", ge=0
    )


class BackboneEmbedding(Method):
    """A vector for each cell of a scene.

    State
    -----
    The encoder's tensors, and ``encoder``: ``name``, ``arguments``, ``bands`` (count), ``mean`` and ``std`` (or None),
    ``wavelengths`` of these (or None); ``names`` of the layers.

    Outputs
    -------
    embedding : layers, one a dimension
        On cells of ``step`` pixels a side, or on the scene's pixels.

    Notes
    -----
    Nodata inside a window is the mean of its band for the encoder; what is missing of a window at the scene's edge is
    filled up by reflection, and what is made of the filling is dropped.

    References
    ----------
    The encoder's.
    """

    Settings: ClassVar[type[Settings]] = EmbeddingSettings
    inputs = (Input("cube"),)
    bands = BandRule(least=1)
    needs_fit = True
    fill = "zero"

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        s = self.settings
        self.step = s.step
        self.window = s.window or s.step
        step = s.step if s.grid == "cells" else 1
        self.outputs = (Output("embedding", kind="layers", names="=names", step=step, undo_scale=False),)
        self.multiple = s.step
        self.scope = Scope.TILE if s.scope == "tile" else Scope.LOCAL
        self.tile = (self.window, self.window) if s.scope == "tile" else None
        self.overlap = max(self.window - s.stride, 0) if s.scope == "tile" and s.stride else 0
        # Bilinear interpolation looks at the next cell.
        self.halo = s.reach + (s.step if s.grid == "pixels" and s.what == "tokens" else 0) if s.scope == "local" else 0
        self.network = KeptNetwork(_made, "this encoder")
        self._short = False

    def prepare(self, info: SceneInfo) -> None:
        """Note whether windows will be filled up."""
        if self.scope is Scope.TILE:
            self._short = filled_up(info.shape, self.window, self.overlap)
        elif self.settings.what == "pooled":
            self._short = self.window > self.step or any(n % self.step for n in info.shape)

    def loaded(self, state: State, like: torch.Tensor) -> Backbone:
        """The encoder with a state's weights.

        Raises
        ------
        MissingWeights, BadWeights
        """
        facts = state.get(ENCODER)
        if not isinstance(facts, dict):
            raise MissingWeights(
                "embedding needs an encoder with weights: give --backbone NAME and --weights FILE|RUN|NAME, or ask for "
                "untrained ones: --set initial=random"
            )
        return self.network.of(facts, state, like.device)

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Vectors of one tile, (n, dim, y, x)."""
        cube, facts = tile["cube"], state.get(ENCODER)
        network = self.loaded(state, cube)
        assert isinstance(facts, dict)
        if cube.shape[1] != facts["bands"]:
            raise BandMismatch(
                f"the encoder was set up for {facts['bands']} bands and the scene has {cube.shape[1]}: embed anew"
            )
        waves = None
        if network.bands.needs_wavelengths:
            waves = torch.as_tensor(tile.info.wavelength, dtype=torch.float32, device=cube.device)
        look = _Look(network, facts["mean"], facts["std"], waves)
        valid = tile.valid.expand(len(cube), -1, -1, -1)
        if self.settings.what == "pooled":
            found = self._pooled(tile, cube, valid, look)
        else:
            found = self._tokens(tile, cube, valid, look)
        return {"embedding": found.to(cube.dtype)}

    def _tokens(self, tile: Tile, cube: torch.Tensor, valid: torch.Tensor, look: _Look) -> torch.Tensor:
        """Vectors of the whole tile; of its core, on the scene's pixels by convolutions."""
        step, (rows, cols) = self.step, cube.shape[-2:]
        high, wide = (
            (self.window, self.window) if self.scope is Scope.TILE else (-(-n // step) * step for n in (rows, cols))
        )
        seen, known = reflected(cube, 0, high, 0, wide), reflected(valid, 0, high, 0, wide)
        maps = look.tokens(seen, known)
        cells = (high // step, wide // step)
        if tuple(maps.shape[-2:]) != cells:  # maps that begin before the image, or are finer
            maps = interpolate(maps, size=cells, mode="bilinear", align_corners=False)
        if self.settings.grid == "cells":
            maps = maps[..., : -(-rows // step), : -(-cols // step)]
            return torch.where(_enough(valid, step, self.settings.least_valid), maps, torch.nan)
        if self.scope is Scope.TILE:
            return interpolate(maps, size=(high, wide), mode="bilinear", align_corners=False)[..., :rows, :cols]
        return self._core_pixels(tile, maps)

    def _core_pixels(self, tile: Tile, maps: torch.Tensor) -> torch.Tensor:
        """The core of a tile at the scene's pixels; only the cells about it are interpolated."""
        step, w, i = self.step, tile.window, tile.inner
        cut, before = [], []
        for start, length, count in (
            (i.row - w.row, i.height, maps.shape[-2]),
            (i.col - w.col, i.width, maps.shape[-1]),
        ):
            first, last = max(start // step - 1, 0), min(-(-(start + length) // step) + 1, count)
            cut.append(slice(first, last))
            before.append(start - first * step)
        near = maps[..., cut[0], cut[1]]
        size = (near.shape[-2] * step, near.shape[-1] * step)
        fine = interpolate(near, size=size, mode="bilinear", align_corners=False)
        return fine[..., before[0] : before[0] + i.height, before[1] : before[1] + i.width]

    def _pooled(self, tile: Tile, cube: torch.Tensor, valid: torch.Tensor, look: _Look) -> torch.Tensor:
        """One vector for the window about each cell of the core."""
        step, side, w, i = self.step, self.window, tile.window, tile.inner
        before = (side - step) // 2
        counts = [-(-n // step) for n in (i.height, i.width)]
        bounds = []
        for start, count in ((i.row - w.row, counts[0]), (i.col - w.col, counts[1])):
            bounds += [start - before, start - before + (count - 1) * step + side]
        seen, known = (
            reflected(t, *bounds).unfold(2, side, step).unfold(3, side, step).permute(0, 2, 3, 1, 4, 5)
            for t in (cube, valid)
        )
        share = reflected(valid, i.row - w.row, i.row - w.row + i.height, i.col - w.col, i.col - w.col + i.width)
        enough = _enough(share, step, self.settings.least_valid)[:, 0]
        where = enough.nonzero()
        many = max(CHUNK_VALUES // (side * side * cube.shape[1]), 1)
        found = torch.full((len(cube), *counts, look.network.dim), torch.nan, dtype=cube.dtype, device=cube.device)
        for part in where.split(many):
            n, row, col = part.T
            found[n, row, col] = look.pooled(seen[n, row, col], known[n, row, col]).to(cube.dtype)
        found = found.movedim(-1, 1)
        if self.settings.grid == "cells":
            return found
        fine = found.repeat_interleave(step, -2).repeat_interleave(step, -1)
        return fine[..., : i.height, : i.width]

    def memory(self, size: Size) -> dict[str, int]:
        """Rough: input, maps of a few hundred channels at each position, and the network."""
        pixels = size.rows * size.cols
        return {"fit": 0, "apply": pixels * (size.bands * 12 + 4000) + 512 * 2**20}

    def figures(self, state: State) -> dict[str, Any]:
        """Encoder, its size, the vectors' length, and what must be known of the windows."""
        facts = state[ENCODER]
        found: dict[str, Any] = {
            "backbone": facts["name"],
            "parameters": sum(int(v.numel()) for v in state.values() if isinstance(v, torch.Tensor)),
            "dimensions": len(state["names"]),
            "cell": self.step,
        }
        if self.scope is Scope.TILE or self.settings.what == "pooled":
            found["window"] = self.window
        else:
            found["reach"] = self.settings.reach
        if self._short:
            found["warnings"] = ["windows that reach beyond the scene's edge were filled up by reflection"]
        return found


class _Look:
    """An encoder with what it needs to see a scene."""

    def __init__(self, network: Backbone, mean: Any, std: Any, waves: torch.Tensor | None) -> None:
        self.network, self.mean, self.std, self.waves = network, mean, std, waves

    def _input(self, x: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        seen = self.network.as_input(x, self.mean, self.std, valid)
        return seen.to(next(self.network.parameters()).dtype)

    def tokens(self, x: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """The coarsest map, (n, dim, rows, cols)."""
        return self.network.feature_maps(self._input(x, valid), self.waves)[-1].float()

    def pooled(self, x: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """One vector an image, (n, dim)."""
        return self.network.forward_features(self._input(x, valid), self.waves).float()


def _made(facts: dict[str, Any]) -> Backbone:
    return encoder(facts["name"], facts["arguments"])


def _enough(valid: torch.Tensor, step: int, least: float) -> torch.Tensor:
    """Cells of which enough pixels, and at least one, have data: (n, 1, rows, cols) from (n, 1, y, x)."""
    rows, cols = valid.shape[-2:]
    edge = (0, -cols % step, 0, -rows % step)
    count, total = (
        avg_pool2d(pad(t, edge), step) * step**2 for t in (valid.float(), torch.ones_like(valid, dtype=torch.float32))
    )
    return (count >= math.nextafter(least, 0) * total - 1e-3) & (count > 0.5)
