"""Hyper-DSNet: fixed edge filters of the PAN, layers of three sizes, and band weights from the mean spectrum."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any, ClassVar

import torch
from torch import nn

from torchspectral.engine.method import Size, Source, State, Tile
from torchspectral.errors import BandMismatch
from torchspectral.sharpening.deep.trained import InterpolatedNetwork, Loaded
from torchspectral.sharpening.injection import check_count, merge_sums

LEVELS = 255
"""Edge maps are rounded to this many levels of the largest smoothed PAN value."""
_KERNELS = {
    "gaussian_filter": [[1 / 16, 2 / 16, 1 / 16], [2 / 16, 4 / 16, 2 / 16], [1 / 16, 2 / 16, 1 / 16]],
    "sobel_x": [[-1, -2, -1], [0, 0, 0], [1, 2, 1]],
    "sobel_y": [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]],
    "prewitt_x": [[1, 1, 1], [0, 0, 0], [-1, -1, -1]],
    "prewitt_y": [[-1, 0, 1], [-1, 0, 1], [-1, 0, 1]],
    "roberts_x": [[-1, 0, 0], [0, 1, 0], [0, 0, 0]],
    "roberts_y": [[0, -1, 0], [1, 0, 0], [0, 0, 0]],
    "laplacian": [[2, 0, 2], [0, -8, 0], [2, 0, 2]],
}


class EdgeFilters(nn.Module):
    """Six maps of the PAN's edges: backward differences, Roberts, Prewitt, Sobel and Laplacian filters."""

    def __init__(self) -> None:
        super().__init__()
        for name, kernel in _KERNELS.items():
            fixed = nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect", bias=False).requires_grad_(False)
            fixed.weight.copy_(torch.tensor(kernel)[None, None])
            self.add_module(name, fixed)

    def smooth(self, pan: torch.Tensor) -> torch.Tensor:
        """The PAN behind the Gaussian filter, whose largest value sets the levels."""
        smoothed: torch.Tensor = self.get_submodule("gaussian_filter")(pan)
        return smoothed

    def forward(self, pan: torch.Tensor, peak: torch.Tensor | None = None) -> torch.Tensor:
        """Six maps, (n, 1, y, x) to (n, 6, y, x).

        Parameters
        ----------
        pan : Tensor, shape (n, 1, y, x)
        peak : Tensor, shape (), optional
            Largest smoothed value of the whole image that `pan` is a part of; its own by default.
        """
        smooth = self.smooth(pan)
        top = smooth.amax((-3, -2, -1), keepdim=True) if peak is None else peak.to(smooth)
        top = torch.where(top > 0, top, torch.ones_like(top))
        scaled = (smooth * LEVELS) / top  # in this order: rounding decides the level
        floored = scaled.floor()

        def edge(name: str, image: torch.Tensor) -> torch.Tensor:
            return self.get_submodule(name)(image).abs().clamp(0, LEVELS).round()

        def pair(name: str, image: torch.Tensor) -> torch.Tensor:
            return (0.5 * edge(f"{name}_x", image) + 0.5 * edge(f"{name}_y", image)).round()

        maps = [pair("roberts", floored), pair("prewitt", floored), pair("sobel", scaled), edge("laplacian", floored)]
        maps = [image * top / LEVELS for image in maps]
        return torch.cat([_backward(pan, -2), _backward(pan, -1), *maps], 1)


def _backward(image: torch.Tensor, axis: int) -> torch.Tensor:
    first = image.narrow(axis, 0, 1)
    return image - torch.cat([first, image.narrow(axis, 0, image.shape[axis] - 1)], axis)


class _Sizes(nn.Module):
    """Layers of 3, 5 and 7 pixels side by side."""

    def __init__(self, inputs: int, features: int) -> None:
        super().__init__()
        for number, size in enumerate((3, 5, 7), start=1):
            self.add_module(f"conv{number}", nn.Conv2d(inputs, features, size, padding=size // 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([torch.relu(self.get_submodule(f"conv{n}")(x)) for n in (1, 2, 3)], 1)


class _Chain(nn.Module):
    """Four layers; their input and all their outputs are handed on."""

    def __init__(self, inputs: int, widths: tuple[int, int, int, int]) -> None:
        super().__init__()
        for number, width in enumerate(widths, start=1):
            self.add_module(f"conv{number}", nn.Conv2d(inputs, width, 3, padding=1))
            inputs = width

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        found = [x]
        for number in range(1, 5):
            found.append(torch.relu(self.get_submodule(f"conv{number}")(found[-1])))
        return torch.cat(found, 1)


class _BandWeights(nn.Module):
    """A weight for each band from the mean spectrum."""

    def __init__(self, bands: int) -> None:
        super().__init__()
        inner = max(bands // 4, 1)
        self.conv_du = nn.Sequential(nn.Conv2d(bands, inner, 1), nn.ReLU(), nn.Conv2d(inner, bands, 1), nn.Sigmoid())

    def forward(self, mean: torch.Tensor) -> torch.Tensor:
        weights: torch.Tensor = self.conv_du(mean)
        return weights


class HyperDSNetNetwork(nn.Module):
    """The network; names of layers are those of the published weights.

    Parameters
    ----------
    bands : int
        Hyperspectral bands.
    features : int
        Channels of each of the three sizes of layers.

    References
    ----------
    Zhuo, Zhang, Hu, Dou, Huang, Deng, "A deep-shallow fusion network with multidetail extractor and spectral attention
    for hyperspectral pansharpening", IEEE JSTARS 15 (2022).
    """

    def __init__(self, bands: int, features: int = 16) -> None:
        super().__init__()
        if bands < 1 or features < 1:
            raise BandMismatch(f"got {bands} bands and {features} features, expected at least 1 of each")
        self.bands = bands
        widths = (2 * features, features, max(features // 2, 1), max(features // 2, 1))
        self.block1 = EdgeFilters()
        self.block2 = _Sizes(bands + 7, features)
        self.block3 = _Chain(3 * features, widths)
        self.CA = _BandWeights(bands)
        self.convlast = nn.Conv2d(3 * features + sum(widths), bands, 1)
        for module in (*self.block2.modules(), *self.block3.modules(), *self.CA.modules(), self.convlast):
            if isinstance(module, nn.Conv2d):
                variance_scaling(module)

    def forward(
        self, pan: torch.Tensor, upsampled: torch.Tensor, low: torch.Tensor, peak: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Predict the sharp image.

        Parameters
        ----------
        pan : Tensor, shape (n, 1, y, x)
        upsampled : Tensor, shape (n, bands, y, x)
            Interpolated hyperspectral image in the same scale; at least 2 pixels on each side.
        low : Tensor, shape (n, bands, y', x')
            The hyperspectral image, or its mean spectrum as one pixel.
        peak : Tensor, shape (), optional
            See `EdgeFilters`.

        Returns
        -------
        Tensor, shape (n, bands, y, x)
        """
        x = torch.cat([pan, self.block1(pan, peak), upsampled], 1)
        x = self.convlast(self.block3(self.block2(x)))
        return x * self.CA(low.mean((-2, -1), keepdim=True)) + upsampled


def variance_scaling(convolution: nn.Conv2d) -> None:
    """Truncated normal of variance 1 / fan-in, and no bias."""
    weight = convolution.weight
    deviation = (1 / weight[0].numel()) ** 0.5 / 0.87962566103423978
    with torch.no_grad():
        nn.init.trunc_normal_(weight, 0.0, deviation, -2 * deviation, 2 * deviation)
        if convolution.bias is not None:
            convolution.bias.zero_()


class HyperDSNet(InterpolatedNetwork):
    """Sharpen with a trained Hyper-DSNet.

    Two numbers of the whole image enter the network: the largest value of the smoothed PAN, which sets the levels of
    the edge maps, and the mean spectrum. A streaming pass finds them first, over valid pixels, so that tiles agree.
    Needs weights for exactly the bands of the scene, in order.
    """

    name: ClassVar[str] = "hyper-dsnet"
    network: ClassVar[type[nn.Module]] = HyperDSNetNetwork
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {
        "bands": ("convlast.weight", 0),
        "features": ("block2.conv1.weight", 0),
    }
    reach: ClassVar[int] = 9
    starts_from_state = True

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Largest smoothed PAN value and mean spectrum, beside the weights."""
        found = dict(state or {})
        self.arguments(found)
        if "scene.peak" in found and "scene.mean" in found:
            return found
        kernel = found["block1.gaussian_filter.weight"]
        sums = source.reduce(partial(_statistics, kernel), merge_sums)
        n = check_count(sums["n"], "the mean spectrum", 1)
        return {**found, "scene.peak": sums["max_peak"], "scene.mean": sums["total"] / n}

    def predict(self, network: Loaded, pan: torch.Tensor, upsampled: torch.Tensor, state: State) -> torch.Tensor:
        """Predict with the numbers of the whole image."""
        mean = state["scene.mean"].to(upsampled).reshape(1, -1, 1, 1)
        return network(pan, upsampled, mean, state["scene.peak"].to(pan))

    def figures(self, state: State) -> dict[str, Any]:
        """Number of weights, and what was found in the scene."""
        return {**super().figures(state), "peak of the smoothed PAN": float(state["scene.peak"]) * self.settings.gain}

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the interpolated tile, the features and the output; of the smoothed PAN for `fit`."""
        pixels = size.rows * size.cols * size.zoom**2
        return {
            "fit": 12 * pixels + 8 * size.bands * size.rows * size.cols,
            "apply": 4 * pixels * (5 * size.bands + 4 * 112),
        }


def _statistics(kernel: torch.Tensor, tile: Tile) -> State:
    """Peak of the smoothed PAN, sum and count of the spectra over a tile's valid pixels."""
    filters = EdgeFilters().to(tile["pan"])
    filters.get_submodule("gaussian_filter").load_state_dict({"weight": kernel})
    smooth = tile.core(filters.smooth(tile["pan"]))
    ratio = tile["pan"].shape[-1] // tile.window.width
    keep = tile.core(tile.valid).repeat_interleave(ratio, -2).repeat_interleave(ratio, -1)
    peak = torch.where(keep, smooth, -torch.inf).amax() if keep.numel() else smooth.new_tensor(-torch.inf)
    pixels = tile.core_pixels("cube").double()
    return {"n": pixels.shape[1], "total": pixels.sum(1), "max_peak": peak}
