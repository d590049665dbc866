"""MAN as a method: any number of bands, scenes of any size."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from torchspectral.engine.method import State
from torchspectral.errors import BadWeights
from torchspectral.restoration.man.network import MANNetwork, MANv1Network
from torchspectral.restoration.volume_method import VolumeDenoiser, VolumeSettings
from torchspectral.settings import Settings, setting

Version = Literal["v2", "v1"]
SIZES: dict[str, dict[str, tuple[int, int]]] = {
    "v2": {"s": (12, 5), "m": (16, 5), "l": (20, 5)},
    "v1": {"s": (8, 5), "m": (12, 5), "man": (16, 5), "b": (24, 5), "deep": (16, 7)},
}
"""Channels and layers on each side."""

REACH = {5: 40, 7: 88}
"""Pixels over an edge, by the layers on each side."""


class MANSettings(VolumeSettings):
    """Settings of MAN; those of pooling and tiles are for the first version."""

    version: Version = setting("v2", "of the network: the published v2, or v1, whose weights were released")
    size: Literal["auto", "s", "m", "l", "man", "b", "deep"] = setting(
        "auto", "size of the network that the weights must be of (v2: s, m, l; v1: s, m, man, b, deep); auto: any"
    )


class MAN(VolumeDenoiser):
    """Mixed attention network: recurrence along the bands, in both directions.

    The second version looks only a few pixels around, so that tiles give what the whole scene gives. The first weighs
    channels by means over the image: with tiles those are each tile's own, or the scene's with ``pooling=scene``.

    References
    ----------
    Lai, Fu, "Mixed attention network for hyperspectral image denoising", arXiv 2301.11525 (2023).
    """

    Settings: ClassVar[type[Settings]] = MANSettings
    name: ClassVar[str] = "man"
    marker: ClassVar[tuple[str, ...]] = ("head.conv.weight", "head.0.weight")
    values_per_channel: ClassVar[int] = 10

    @property
    def pools(self) -> bool:
        """Only the first version."""
        return bool(self.settings.version == "v1")

    @property
    def reach(self) -> int:
        """That of five layers on each side, or of the deep network's seven."""
        return REACH[7 if self.settings.size == "deep" or (self.pools and self.settings.size == "auto") else 5]

    @classmethod
    def settings_of(cls, state: State) -> dict[str, Any]:
        """Settings that the weights decide: version and size."""
        found = _shape(state)
        if found is None:
            return {}
        version, channels, layers = found
        names = [name for name, shape in SIZES[version].items() if shape == (channels, layers)]
        return {"version": version, **({"size": names[0]} if names else {})}

    def arguments(self, state: State) -> dict[str, Any]:
        """Constructor arguments read off the weights.

        Raises
        ------
        BadWeights
            They are of another version or size.
        """
        found = _shape(state)
        if found is None:
            raise BadWeights("these weights have no first layer of MAN: expected head.conv.weight or head.0.weight")
        version, channels, layers = found
        if version != self.settings.version:
            raise BadWeights(
                f"the weights are of MAN {version}, expected {self.settings.version}: set version={version}, or give other "
                "weights"
            )
        size = self.settings.size
        if size != "auto" and SIZES[version].get(size) != (channels, layers):
            raise BadWeights(
                f"the weights are of a MAN {version} with {channels} channels and {layers} layers on each side, expected "
                f"size={size}, {SIZES[version].get(size, 'which this version does not have')}: leave size out, or give "
                "other weights"
            )
        if REACH.get(layers, 1 << 30) > self.reach:
            raise BadWeights(f"the weights have {layers} layers on each side, expected 5, or 7 with version v1")
        convolutions = [state[f"encoder.layers.{k}.conv.weight"] for k in range(layers)]
        return {
            "channels": channels,
            "half_layers": layers,
            "sampled": [k for k, w in enumerate(convolutions) if w.shape[0] == 2 * w.shape[1]],
            "in_channels": 1,
        }

    def make(self, arguments: Mapping[str, Any]) -> nn.Module:
        """The network."""
        return MANv1Network(**arguments) if self.pools else MANNetwork(**arguments)

    def poolings(self, module: nn.Module) -> int:
        """One in each layer of the first version, head and tail included."""
        return 2 + 2 * len(module.get_submodule("encoder.layers")._modules)

    def figures(self, state: State) -> dict[str, Any]:
        """The above, and version and channels of the weights."""
        made = self.arguments(state)
        return {**super().figures(state), "version": self.settings.version, "channels": made["channels"]}


def _shape(state: State) -> tuple[Version, int, int] | None:
    """Version, channels and layers on each side."""
    version: Version = "v1" if "head.0.weight" in state else "v2"
    first = state.get("head.0.weight" if version == "v1" else "head.conv.weight")
    if not isinstance(first, torch.Tensor):
        return None
    layers = {int(m[1]) for key in state if (m := re.match(r"encoder\.layers\.(\d+)\.", key))}
    return version, int(first.shape[0]), len(layers)
