"""HyperPNN: a convolutional network between a spectral encoder and a spectral decoder."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from torchspectral.engine.method import Input, Method, Output, Scale, SceneInfo, Scope, Size, State, Tile
from torchspectral.errors import BadInput, BandMismatch, MissingWeights
from torchspectral.ops.interpolate import interpolation_halo
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.injection import Injection
from torchspectral.sharpening.upsampled import Upsampled

REACH = 3
"""Pixels that the three 3 x 3 layers look over an edge."""


class HyperPNNNetwork(nn.Module):
    """The network; names of layers are those of the published weights.

    Parameters
    ----------
    bands : int
        Hyperspectral bands.
    features : int
        Channels between encoder and decoder.

    References
    ----------
    He, Zhu, Li, Plaza, Chanussot, Li, "HyperPNN: hyperspectral pansharpening via spectrally predictive convolutional
    neural networks", IEEE JSTARS 12 (2019).
    """

    def __init__(self, bands: int, features: int = 64) -> None:
        super().__init__()
        if bands < 1 or features < 1:
            raise BandMismatch(f"got {bands} bands and {features} features, expected at least 1 of each")

        def layer(inputs: int, outputs: int, size: int) -> nn.Conv2d:
            return nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode="reflect" if size > 1 else "zeros")

        self.bands = bands
        self.conv1 = layer(bands, features, 1)
        self.conv2 = layer(features, features, 1)
        self.conv3 = layer(features + 1, features, 3)
        self.conv4 = layer(features, features, 3)
        self.conv5 = layer(features, features, 3)
        self.conv6 = layer(features, features, 1)
        self.conv7 = layer(features, bands, 1)

    def forward(self, pan: torch.Tensor, upsampled: torch.Tensor) -> torch.Tensor:
        """Predict the sharp image.

        Parameters
        ----------
        pan : Tensor, shape (n, 1, y, x)
        upsampled : Tensor, shape (n, bands, y, x)
            Interpolated hyperspectral image in the same scale; at least 2 pixels on each side.

        Returns
        -------
        Tensor, shape (n, bands, y, x)
        """
        x = torch.relu(self.conv2(torch.relu(self.conv1(upsampled))))
        y = torch.cat([pan, x], dim=1)
        for convolution in (self.conv3, self.conv4, self.conv5):
            y = torch.relu(convolution(y))
        y = torch.relu(self.conv6(x + y))
        out: torch.Tensor = self.conv7(y)
        return out


class HyperPNNSettings(Settings):
    """Settings of HyperPNN."""

    gain: float = setting(65536.0, "values are divided by it for the network; 65536 for PRISMA counts", gt=0)
    features: int = setting(64, "channels between encoder and decoder", ge=1)
    border: str = setting(
        "symmetric", "border of the interpolator: symmetric, or wrap as in the benchmark", pattern="^(symmetric|wrap)$"
    )


class HyperPNN(Method):
    """Sharpen with a trained HyperPNN: interpolate, then predict.

    Needs weights for exactly the bands of the scene, in order.
    """

    Settings: ClassVar[type[Settings]] = HyperPNNSettings
    inputs = (Input("cube"), Input("pan", ratio="finer"))
    outputs = (Output("cube", grid="pan"),)
    scope = Scope.LOCAL

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.scale = Scale("fixed", gain=self.settings.gain)
        if self.settings.border == "wrap":
            self.scope = Scope.SCENE
        self._network: HyperPNNNetwork | None = None

    def prepare(self, info: SceneInfo) -> None:
        """Set the halo: the interpolator's, and the network's three pixels."""
        ratio = Injection.check_ratio(info)
        if min(info.shape) * ratio < 2:
            raise BadInput(f"got a scene of {info.shape[0]} x {info.shape[1]} pixels, expected more for a 3 x 3 layer")
        self.halo = interpolation_halo(ratio) + -(-REACH // ratio)

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Predict the core of a tile."""
        weights = {key: value for key, value in state.items() if isinstance(value, torch.Tensor)}
        if "conv1.weight" not in weights:
            raise MissingWeights(
                "hyperpnn needs trained weights: give weights=FILE or a name (torchspectral weights list), or train"
            )
        bands = weights["conv1.weight"].shape[1]
        if bands != tile["cube"].shape[1]:
            raise BandMismatch(
                f"the weights are for {bands} bands and the scene has {tile['cube'].shape[1]}: select the bands they "
                "were trained on (bands=), or train on this sensor"
            )
        # The network sees the core and a margin, not the whole halo of the interpolator.
        margin = -(-REACH // tile.info.ratio["pan"])
        wide = _widened(tile, margin)
        up = Upsampled(wide, self.settings.border)
        if self._network is None:
            with torch.device("meta"):
                self._network = HyperPNNNetwork(bands, weights["conv1.weight"].shape[0]).eval()
        with torch.no_grad():
            weights = {key: value.to(tile["cube"]) for key, value in weights.items()}
            out = torch.func.functional_call(self._network, weights, (up.pan, up.image()))
        zoom, inner = up.ratio, wide.inner
        top, left = (tile.inner.row - inner.row) * zoom, (tile.inner.col - inner.col) * zoom
        height, width = tile.inner.height * zoom, tile.inner.width * zoom
        return {"cube": out[..., top : top + height, left : left + width]}

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the interpolated tile, five feature maps with their padded copies, and the output."""
        pixels = size.rows * size.cols * size.zoom**2
        return {"fit": 0, "apply": 4 * pixels * (3 * size.bands + 5 * self.settings.features)}

    def figures(self, state: State) -> dict[str, Any]:
        """Number of weights."""
        return {"parameters": sum(int(v.numel()) for v in state.values() if isinstance(v, torch.Tensor))}


def _widened(tile: Tile, margin: int) -> Tile:
    """The same tile with a core that is larger by `margin` coarse pixels where the window allows."""
    window, inner = tile.window, tile.inner
    top, left = max(inner.row - margin, window.row), max(inner.col - margin, window.col)
    bottom = min(inner.row + inner.height + margin, window.row + window.height)
    right = min(inner.col + inner.width + margin, window.col + window.width)
    core = type(inner)(top, left, bottom - top, right - left)
    return Tile(tile.data, window, core, tile.valid, tile.info)
