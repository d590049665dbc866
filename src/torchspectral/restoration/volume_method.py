"""What the methods that denoise volumes with a trained network have in common: scale, noise, tiles, statistics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from torchspectral.engine.method import Input, Method, Output, Round, Scope, Size, Source, State, Tile, Window
from torchspectral.errors import BadInput, BadWeights, MissingWeights
from torchspectral.ops.noise import regression_noise
from torchspectral.restoration.pieces import Piece, around
from torchspectral.restoration.volumes import Ground, Reached
from torchspectral.settings import Settings, setting
from torchspectral.weights.card import WeightsCard
from torchspectral.weights.loading import check

SAMPLE = 20_000
"""Pixels whose values settle the percentiles."""
NOISE_ERROR = 1.1
"""Factor by which the estimate of a scene's noise may miss the range that the weights were trained for."""


class VolumeSettings(Settings):
    """Settings that every denoiser of volumes has."""

    range: Literal["scene", "max", "fixed"] = setting(
        "scene",
        "what becomes 0..1 for the network: the scene's own range, zero to its largest value, or `low`..`high`; weights "
        "that say how they were trained decide it",
    )
    percentile: float = setting(
        0.1,
        "share of the values left out at each end of the scene's range; 0: least and largest",
        unit="%",
        ge=0,
        lt=50,
    )
    low: float = setting(0.0, "value that becomes 0 with range=fixed, in the scene's units")
    high: float = setting(1.0, "value that becomes 1 with range=fixed, in the scene's units")
    any_noise: bool = setting(False, "work on scenes whose noise lies outside what the weights were trained for")
    pooling: Literal["tile", "scene"] = setting(
        "tile",
        "networks that look at means over the image: those of each tile, or of the scene, which costs a pass a layer "
        "and makes tiles exact",
    )
    tile: int = setting(192, "side of the tiles with pooling=tile", unit="pixel", ge=32, multiple_of=8)
    overlap: int = setting(
        48, "pixels that neighbouring tiles share with pooling=tile", unit="pixel", ge=0, multiple_of=8
    )
    budget: int = setting(1000, "memory that one pass of a piece through the network may take", unit="MB", ge=50)


@dataclass(frozen=True)
class Plan:
    """How a scene's bands go through the network.

    Attributes
    ----------
    windows : tuple of slice
        Bands of each pass.
    weights : Tensor, shape (windows, bands)
        What each pass counts for each band; columns sum to one.
    """

    windows: tuple[slice, ...]
    weights: torch.Tensor


class VolumeDenoiser(Method):
    """Base of the methods whose network denoises a volume (n, 1, band, y, x) in 0..1.

    Subclasses say which network weights belong to (`arguments`, `network`), what it looks at (`reach`, `pools`) and
    how bands go through it.

    State
    -----
    The network's tensors, and after the fit ``low, high`` (the scene's range), ``noise`` (median standard deviation over
    bands, of 255 in that range; 0 where unknown) and ``pooled.W.K`` (means of pooling K in pass W, pooling=scene).
    """

    Settings: ClassVar[type[Settings]] = VolumeSettings
    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    multiple = 8
    starts_from_state: ClassVar[bool] = True
    any_bands: ClassVar[bool] = True
    name: ClassVar[str] = ""
    marker: ClassVar[tuple[str, ...]] = ()
    """Keys of which one stands in every set of weights."""
    values_per_channel: ClassVar[int] = 16
    """Intermediate values that live together, for each channel and voxel."""

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self._built: tuple[Any, nn.Module] | None = None
        if self.pools and self.settings.pooling == "tile":
            self.scope = Scope.TILE
            self.tile, self.overlap = (self.settings.tile, self.settings.tile), self.settings.overlap
            if self.overlap >= self.settings.tile:
                raise BadInput(
                    f"got tiles of {self.settings.tile} pixels with an overlap of {self.overlap}, expected less"
                )
        else:
            self.scope = Scope.LOCAL
            self.halo = self.reach

    # What subclasses say

    @property
    def pools(self) -> bool:
        """Whether the network looks at means over the image."""
        return True

    @property
    def reach(self) -> int:
        """Pixels that the network looks over an edge, means apart."""
        raise NotImplementedError

    def arguments(self, state: State) -> dict[str, Any]:
        """Constructor arguments of the network that a state belongs to; raises `BadWeights`."""
        raise NotImplementedError

    def make(self, arguments: Mapping[str, Any]) -> nn.Module:
        """The network."""
        raise NotImplementedError

    def plan_bands(self, bands: int, network: nn.Module, arguments: Mapping[str, Any]) -> Plan:
        """How that many bands go through; by default all at once."""
        return Plan((slice(0, bands),), torch.ones(1, bands))

    def forward(self, network: Any, x: torch.Tensor, ground: Ground, state: State) -> torch.Tensor:
        """Call the network on a volume."""
        out: torch.Tensor = network(x, ground)
        return out

    # The network

    def weights_of(self, state: State | None) -> dict[str, torch.Tensor]:
        """The network's tensors of a state.

        Raises
        ------
        MissingWeights
        """
        if not state or not any(key in state for key in self.marker):
            if state and any(isinstance(v, torch.Tensor) for v in state.values()):
                raise BadWeights(
                    f"these are no weights of {self.name}: none of {', '.join(self.marker)} is among their "
                    f"{len(state)} keys"
                )
            raise MissingWeights(
                f"{self.name} needs trained weights: give weights=FILE or a name (torchspectral weights list), or "
                f"train: torchspectral train restore --method {self.name} --data SCENES -o RUN"
            )
        return {k: v for k, v in state.items() if isinstance(v, torch.Tensor) and not k.startswith("pooled.")}

    def loaded(self, state: State, like: torch.Tensor) -> Any:
        """The network with a state's weights on a device, and its constructor arguments.

        Raises
        ------
        MissingWeights, BadWeights
        """
        weights = self.weights_of(state)
        arguments = self.arguments(state)
        if self._built is None or self._built[0] != arguments:
            with torch.device("meta"):
                self._built = arguments, self.make(arguments).eval()
        module = self._built[1]
        own = {key: tuple(tensor.shape) for key, tensor in module.state_dict().items()}
        counters = WeightsCard(name=self.name, optional_keys=[r".*num_batches_tracked"])
        check(weights, own, counters, f"weights of {self.name}")
        placed = {k: v.to(like) if v.is_floating_point() else v for k, v in weights.items() if k in own}
        for key, tensor in module.state_dict().items():
            placed.setdefault(key, torch.zeros_like(tensor, device=like.device))

        def call(*inputs: Any, **more: Any) -> torch.Tensor:
            out: torch.Tensor = torch.func.functional_call(module, placed, inputs, more)
            return out

        return call, module, arguments

    # The scene

    def fit(self, source: Source, seed: int, state: State | None) -> State | Iterable[Round]:
        """Range and noise of the scene, and the means of each pooling where they are the scene's."""
        self.weights_of(state)
        assert state is not None
        state = dict(state)
        if "low" not in state:
            state["low"], state["high"] = self._range(source)
        if "noise" not in state:
            state["noise"] = self._noise(source, state)
        self._check_noise(state)
        if not (self.pools and self.settings.pooling == "scene"):
            return state
        return self._pool(source, state)

    def _range(self, source: Source) -> tuple[float, float]:
        s = self.settings
        if s.range == "fixed":
            low, high = s.low, s.high
        elif s.percentile:
            values = source.sample(SAMPLE).double().flatten()
            places = torch.tensor([s.percentile / 100, 1 - s.percentile / 100], dtype=torch.float64) * (len(values) - 1)
            ordered = values.sort().values.cpu()
            low, high = (float(ordered[round(float(p))]) for p in places)
        else:
            low, high = source.reduce(_extremes, lambda a, b: (min(a[0], b[0]), max(a[1], b[1])))
        low = 0.0 if s.range == "max" else low
        if not high > low:
            raise BadInput(
                f"the scene's values run from {low:g} to {high:g}, expected some contrast: give range=fixed with low and "
                "high"
            )
        return low, high

    def _noise(self, source: Source, state: State) -> float:
        """Median over the bands of what regression on the other bands leaves, of 255; 0 with too few of either."""
        bands = source.info.bands
        if bands < 3:
            return 0.0
        gram = source.gram()
        if gram.n < 2 * bands:
            return 0.0
        try:
            _, noise = regression_noise(gram.n, gram.cross.cpu())
        except BadInput:
            return 0.0
        deviation = noise.diagonal().clamp_min(0).sqrt().median()
        return round(255 * float(deviation) / (state["high"] - state["low"]), 4)

    def _check_noise(self, state: State) -> None:
        limits = state.get("noise_range")
        if limits is None or self.settings.any_noise or not state["noise"]:
            return
        low, high = limits
        if not low / NOISE_ERROR <= state["noise"] <= high * NOISE_ERROR:
            raise BadInput(
                f"the scene's noise is about {state['noise']:.3g} of 255 in its median band and the weights were trained "
                f"for {low:g} to {high:g}: use other weights, or set any_noise=true"
            )

    def _pool(self, source: Source, state: State) -> Iterator[Round]:
        """One pass over the scene for each pooling of each pass through the bands."""
        _, module, arguments = self.loaded(state, torch.zeros(1))
        windows = self.plan_bands(source.info.bands, module, arguments).windows
        count = self.poolings(module)
        for w in range(len(windows)):
            for k in range(count):
                if f"pooled.{w}.{k}" in state:
                    continue
                total, pixels = source.reduce(_Pooling(self, state, w), _added)
                state[f"pooled.{w}.{k}"] = (total / pixels).float()
                yield dict(state), (w * count + k + 1) / (len(windows) * count)
        yield state, 1.0

    def poolings(self, module: nn.Module) -> int:
        """Number of means that the network looks at."""
        raise NotImplementedError

    # The pixels

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Denoised core of a tile, (n, band, y, x)."""
        x = tile["cube"]
        call, module, arguments = self.loaded(state, x)
        plan = self.plan_bands(x.shape[1], module, arguments)
        low, span = float(state["low"]), float(state["high"]) - float(state["low"])
        inner = tile.inner if self.scope is Scope.LOCAL else tile.window
        out = x.new_zeros((x.shape[0], x.shape[1], inner.height, inner.width))
        with torch.no_grad():
            for piece in self._pieces(tile, inner, module, x.shape[1]):
                volume = (piece.cut(x) - low) / span
                rows = slice(piece.inner.row - inner.row, piece.inner.row - inner.row + piece.inner.height)
                cols = slice(piece.inner.col - inner.col, piece.inner.col - inner.col + piece.inner.width)
                for w, window in enumerate(plan.windows):
                    ground = piece.ground(module.multiple, tile.info.shape, self._means(state, w))
                    made = self.forward(call, piece.padded(volume[:, window], module.multiple), ground, state)
                    share = plan.weights[w, window].to(x)[:, None, None]
                    out[:, window, rows, cols] += share * piece.core(made[:, 0])
        return {"cube": out.mul_(span).add_(low)}

    def _means(self, state: State, w: int) -> list[torch.Tensor] | None:
        if not (self.pools and self.settings.pooling == "scene"):
            return None
        found: list[torch.Tensor] = []
        while f"pooled.{w}.{len(found)}" in state:
            found.append(state[f"pooled.{w}.{len(found)}"])
        return found

    def _pieces(self, tile: Tile, inner: Window, module: nn.Module, bands: int) -> Iterator[Piece]:
        """Parts of a tile that the budget allows; one where the network's means are the tile's own."""
        if self.scope is Scope.TILE:
            yield Piece(tile.window, tile.window, inner)
            return
        pixels = self.settings.budget * 10**6 / (4 * self.values_per_channel * _channels(module) * bands)
        side = max(int(pixels**0.5) - 2 * self.halo, 32) // self.multiple * self.multiple
        for top in range(inner.row, inner.row + inner.height, side):
            for left in range(inner.col, inner.col + inner.width, side):
                core = Window(
                    top, left, min(side, inner.row + inner.height - top), min(side, inner.col + inner.width - left)
                )
                yield Piece(tile.window, around(core, self.halo, tile.window, self.multiple), core)

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the network's intermediate values with 16 channels, and of the tile in working values."""
        volume = size.rows * size.cols * size.bands * 4
        apply = 3 * volume + min(volume * 16 * self.values_per_channel, self.settings.budget * 10**6)
        if self.scope is Scope.TILE:
            apply = volume * (3 + 16 * self.values_per_channel)
        return {"fit": apply, "apply": apply}

    def figures(self, state: State) -> dict[str, Any]:
        """Range, noise, parameters, and how the means over the image were made."""
        weights = self.weights_of(state)
        found: dict[str, Any] = {key: state[key] for key in ("low", "high", "noise") if key in state}
        found["parameters"] = sum(int(v.numel()) for v in weights.values() if v.is_floating_point())
        if self.pools:
            found["means_over"] = self.settings.pooling
        return found


class _Pooling:
    """Sums of the next pooling over a tile's core."""

    def __init__(self, method: VolumeDenoiser, state: State, window: int) -> None:
        self.method, self.state, self.window = method, state, window

    def __call__(self, tile: Tile) -> tuple[torch.Tensor, int]:
        x, state, method = tile["cube"], self.state, self.method
        call, module, arguments = method.loaded(state, x)
        bands = method.plan_bands(x.shape[1], module, arguments).windows[self.window]
        low, span = float(state["low"]), float(state["high"]) - float(state["low"])
        found: tuple[torch.Tensor, int] | None = None
        with torch.no_grad():
            for piece in method._pieces(tile, tile.inner, module, x.shape[1]):
                ground = piece.ground(module.multiple, tile.info.shape, method._means(state, self.window))
                volume = piece.padded(((piece.cut(x) - low) / span)[:, bands], module.multiple)
                try:
                    method.forward(call, volume, ground, state)
                except Reached as reached:
                    part = reached.total.cpu(), reached.count
                    found = part if found is None else _added(found, part)
        assert found is not None
        return found


def _added(a: tuple[torch.Tensor, int], b: tuple[torch.Tensor, int]) -> tuple[torch.Tensor, int]:
    return a[0] + b[0], a[1] + b[1]


def _extremes(tile: Tile) -> tuple[float, float]:
    pixels = tile.core_pixels(tile.lead)
    return (float(pixels.min()), float(pixels.max())) if pixels.numel() else (float("inf"), float("-inf"))


def _channels(module: nn.Module) -> int:
    first = next(p for p in module.parameters() if p.ndim == 5)
    return int(first.shape[0])
