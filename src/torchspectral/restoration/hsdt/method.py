"""HSDT as a method: any number of bands, scenes of any size."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from torchspectral.engine.method import State
from torchspectral.errors import BadSettings, BadWeights
from torchspectral.restoration.hsdt.network import HSDTNetwork
from torchspectral.restoration.volume_method import Plan, VolumeDenoiser, VolumeSettings
from torchspectral.restoration.volumes import Ground
from torchspectral.settings import Settings, setting

SIZES = {"4": (4, 5), "s": (8, 5), "m": (16, 5), "l": (16, 7), "24": (24, 5), "32": (32, 5)}
"""Channels and layers on each side."""

REACH = {5: 48, 7: 80}
"""Pixels over an edge, by the layers on each side."""


class HSDTSettings(VolumeSettings):
    """Settings of HSDT."""

    size: Literal["auto", "4", "s", "m", "l", "24", "32"] = setting(
        "auto", "size of the network that the weights must be of; auto: whatever they are"
    )
    other_bands: Literal["auto", "windows", "similarity", "resample"] = setting(
        "auto",
        "where the scene has other bands than the weights' query: windows of as many bands, averaged where they overlap; "
        "attention by similarity; bands interpolated to as many and back; auto: windows with more, similarity with fewer",
    )
    band_overlap: int = setting(8, "least bands that neighbouring windows share", unit="band", ge=0)
    sigma: float = setting(
        0.0, "noise level given to plug-and-play weights, of 255 in the working range; 0: as estimated", ge=0
    )


class HSDT(VolumeDenoiser):
    """Hybrid spectral denoising transformer.

    Its attention mixes bands by one matrix an image, made from the mean of each band: with tiles the matrix is each
    tile's own, or the scene's with ``pooling=scene``.

    References
    ----------
    Lai, Yan, Fu, "Hybrid spectral denoising transformer with guided attention", ICCV (2023), arXiv 2303.09040.
    """

    Settings: ClassVar[type[Settings]] = HSDTSettings
    name: ClassVar[str] = "hsdt"
    marker: ClassVar[tuple[str, ...]] = ("head.conv.pw_conv.weight",)
    values_per_channel: ClassVar[int] = 14

    @property
    def reach(self) -> int:
        """That of the size, the deepest one's where it is not said."""
        return REACH[SIZES[self.settings.size][1] if self.settings.size != "auto" else 7]

    @classmethod
    def settings_of(cls, state: State) -> dict[str, Any]:
        """Settings that the weights decide: the size."""
        layers = _layers(state)
        head = state.get("head.conv.pw_conv.weight")
        key = (int(head.shape[0]), layers) if isinstance(head, torch.Tensor) else (0, 0)
        names = [name for name, shape in SIZES.items() if shape == key]
        return {"size": names[0]} if names else {}

    def arguments(self, state: State) -> dict[str, Any]:
        """Constructor arguments read off the weights.

        Raises
        ------
        BadWeights
            They are of another kind or size.
        """
        if "proj.weight" in state:
            raise BadWeights("these weights of HSDT turn RGB into a cube, expected weights of a denoiser")
        head, query = state["head.conv.pw_conv.weight"], state.get("head.attn.attn.attn_proj.weight")
        layers = _layers(state)
        sampled = [k for k in range(layers) if f"encoder.layers.{k}.conv.weight" in state]
        if self.settings.size != "auto" and SIZES[self.settings.size] != (int(head.shape[0]), layers):
            raise BadWeights(
                f"the weights are of an HSDT with {int(head.shape[0])} channels and {layers} layers on each side, expected "
                f"size={self.settings.size} with {SIZES[self.settings.size][0]} and {SIZES[self.settings.size][1]}: leave "
                "size out, or give other weights"
            )
        return {
            "bands": int(query.shape[0]) if isinstance(query, torch.Tensor) else 31,
            "channels": int(head.shape[0]),
            "half_layers": layers,
            "sampled": sampled,
            "in_channels": int(head.shape[1]),
            "guided": isinstance(query, torch.Tensor),
        }

    def make(self, arguments: Mapping[str, Any]) -> nn.Module:
        """The network."""
        return HSDTNetwork(**arguments)

    def poolings(self, module: nn.Module) -> int:
        """One in each layer."""
        return 1 + 2 * len(module.get_submodule("encoder.layers")._modules)

    def how(self, bands: int, arguments: Mapping[str, Any]) -> str:
        """What is done with that many bands: guided, windows, similarity or resample.

        Raises
        ------
        BadSettings
            Windows of more bands than there are.
        """
        count, how = arguments["bands"], self.settings.other_bands
        if not arguments["guided"]:
            return "similarity"
        if bands == count:
            return "guided"
        if how == "auto":
            return "windows" if bands > count else "similarity"
        if how == "windows" and bands < count:
            raise BadSettings(
                f"got other_bands=windows with {bands} bands, fewer than the {count} of the weights: use similarity or "
                "resample"
            )
        return str(how)

    def plan_bands(self, bands: int, network: nn.Module, arguments: Mapping[str, Any]) -> Plan:
        """One pass, or one for each window of bands."""
        if self.how(bands, arguments) != "windows":
            return super().plan_bands(bands, network, arguments)
        count = arguments["bands"]
        step = count - min(self.settings.band_overlap, count - 1)
        passes = 1 + -(-(bands - count) // step)
        starts = [round(k * (bands - count) / max(passes - 1, 1)) for k in range(passes)]
        place = torch.arange(count, dtype=torch.float32)
        ramp = torch.minimum(place + 1, count - place).clamp(max=self.settings.band_overlap + 1)
        weights = torch.zeros(passes, bands)
        for k, start in enumerate(starts):
            weights[k, start : start + count] = ramp
        return Plan(tuple(slice(s, s + count) for s in starts), weights / weights.sum(0))

    def forward(self, network: Any, x: torch.Tensor, ground: Ground, state: State) -> torch.Tensor:
        """Call the network with the attention, and the map of the noise level, that go with the bands."""
        arguments = self.arguments(state)
        bands = x.shape[2]
        how = "guided" if bands == arguments["bands"] else self.how(bands, arguments)
        if how == "resample":
            x = _along_bands(x, arguments["bands"])
        if arguments["in_channels"] == 2:
            level = (self.settings.sigma or float(state["noise"])) / 255
            x = torch.cat([x, torch.full_like(x, level)], dim=1)
        attention = "similarity" if how == "similarity" or not arguments["guided"] else "guided"
        out: torch.Tensor = network(x, attention=attention, ground=ground)
        return _along_bands(out, bands) if how == "resample" else out

    def figures(self, state: State) -> dict[str, Any]:
        """The above, and the channels and bands of the weights."""
        made = self.arguments(state)
        return {**super().figures(state), "channels": made["channels"], "bands_of_weights": made["bands"]}


def _layers(state: State) -> int:
    found = {int(m[1]) for key in state if (m := re.match(r"encoder\.layers\.(\d+)\.", key))}
    return len(found)


def _along_bands(x: torch.Tensor, bands: int) -> torch.Tensor:
    """Bands interpolated linearly to another number, (n, 1, bands, y, x)."""
    size = (bands, *x.shape[-2:])
    return torch.nn.functional.interpolate(x, size=size, mode="trilinear", align_corners=True)
