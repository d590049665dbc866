"""What the methods with trained networks have in common: weights, bands, scale, groups of bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from torchspectral.engine.method import Method, Output, Scale, SceneInfo, State
from torchspectral.errors import BadSettings, BadWeights, BandMismatch, MissingWeights
from torchspectral.settings import Settings, setting
from torchspectral.superresolution.groups import gather_groups, mean_of_groups, starts_of
from torchspectral.weights.card import WeightsCard
from torchspectral.weights.loading import check


class TrainedSettings(Settings):
    """Settings that every trained network has."""

    scale: int = setting(4, "output pixels for each of the scene's, on each side; that of the weights", ge=1, le=64)
    gain: float = setting(
        0.0, "values are divided by it for the network; 0: the largest value of the scene, as in the papers", ge=0
    )
    band_groups: bool = setting(
        False, "take scenes of more bands than the network has in groups of neighbouring bands, and average the groups"
    )
    group_overlap: int = setting(2, "bands that neighbouring groups share", ge=0)


class TrainedNetwork(Method):
    """Base of the methods whose network comes with weights for a number of bands and a scale."""

    Settings: ClassVar[type[Settings]] = TrainedSettings
    name: ClassVar[str] = ""
    learned: ClassVar[str] = "statistics."
    """How the tensors of a state begin that are the scene's and no weights."""

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        s = self.settings
        self.scale = Scale("fixed", gain=s.gain) if s.gain else Scale("max")
        self.outputs = (Output("cube", zoom=s.scale),)
        self._bands = 0

    def prepare(self, info: SceneInfo) -> None:
        """Note the number of bands."""
        self._bands = info.bands

    @classmethod
    def arguments(cls, state: State, settings: Any) -> dict[str, Any]:
        """Constructor arguments of the network that a state's weights belong to.

        Raises
        ------
        MissingWeights
            The state has none.
        BadWeights
            Their shapes are those of no network of this kind.
        """
        raise NotImplementedError

    @classmethod
    def network(cls, arguments: Mapping[str, Any]) -> nn.Module:
        """The network without weights."""
        raise NotImplementedError

    def optional(self, key: str) -> bool:
        """Whether super-resolution works without this tensor of the network."""
        return False

    def module(self, state: State, like: torch.Tensor) -> Any:
        """The network with the weights of a state, for the bands, device and precision of a tile.

        Raises
        ------
        MissingWeights, BadWeights, BandMismatch, BadSettings
        """
        arguments = self.arguments(state, self.settings)
        self.check_fit(arguments, like.shape[1])
        with torch.device("meta"):
            network = self.network(arguments).eval()
        own = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
        given = {k: v for k, v in state.items() if isinstance(v, torch.Tensor) and not k.startswith(self.learned)}
        expected = {key: shape for key, shape in own.items() if key in given or not self.optional(key)}
        check(given, expected, WeightsCard(name=self.name), f"weights of {self.name}")
        filled = {
            key: given[key].to(like) if key in given else torch.zeros(shape).to(like) for key, shape in own.items()
        }
        network.load_state_dict(filled, assign=True)
        return network.requires_grad_(False)

    def check_fit(self, arguments: Mapping[str, Any], bands: int) -> None:
        """Hold the bands of the scene and the scale of the settings against the network's.

        Raises
        ------
        BandMismatch, BadSettings
        """
        s, own = self.settings, int(arguments["bands"])
        if arguments["scale"] != s.scale:
            raise BadSettings(
                f"the weights enlarge {arguments['scale']} times and scale={s.scale} was asked for: set "
                f"scale={arguments['scale']}, or take weights for scale {s.scale}"
            )
        if own == bands:
            return
        train = f"train on this sensor (torchspectral train superres --method {self.name} --set scale={s.scale})"
        if bands < own:
            raise BandMismatch(f"the weights are for {own} bands and the scene has {bands}: {train}")
        if not s.band_groups:
            raise BandMismatch(
                f"the weights are for {own} bands and the scene has {bands}: select the bands they were trained on "
                f"(bands=), work in groups of {own} neighbouring bands (band_groups=true), or {train}"
            )

    def grouped(self, x: torch.Tensor, bands: int) -> torch.Tensor:
        """The tile, or its groups of `bands` neighbouring bands as a batch."""
        return x if x.shape[1] == bands else gather_groups(x, self._starts(x.shape[1], bands), bands)

    def ungrouped(self, groups: torch.Tensor, like: torch.Tensor, bands: int) -> torch.Tensor:
        """What the network made of a tile's groups, as one image."""
        if like.shape[1] == bands:
            return groups
        return mean_of_groups(groups, self._starts(like.shape[1], bands), like.shape[1], like.shape[0])

    def _starts(self, bands: int, size: int) -> tuple[int, ...]:
        shared = self.settings.group_overlap
        if shared >= size:
            raise BadSettings(f"got group_overlap={shared} for weights of {size} bands, expected less")
        return starts_of(bands, size, shared)

    def figures(self, state: State) -> dict[str, Any]:
        """Number of weights, and of groups of bands where there are several."""
        arguments = self.arguments(state, self.settings)
        with torch.device("meta"):
            own = self.network(arguments).state_dict()
        found: dict[str, Any] = {"parameters": sum(int(tensor.numel()) for tensor in own.values())}
        if self._bands > arguments["bands"]:
            found["band_groups"] = len(self._starts(self._bands, int(arguments["bands"])))
        return found


def shape_of(state: State, key: str, axes: int, name: str) -> tuple[int, ...]:
    """Shape of a tensor of the weights.

    Raises
    ------
    MissingWeights, BadWeights
    """
    tensor = state.get(key)
    if not isinstance(tensor, torch.Tensor):
        raise MissingWeights(
            f"{name} needs trained weights: give weights=FILE or a name (torchspectral weights list), or train: "
            f"torchspectral train superres --method {name} --data SCENES -o RUN"
        )
    if tensor.ndim != axes:
        raise BadWeights(f"{key} has {tensor.ndim} axes, expected {axes} as in weights of {name}")
    return tuple(int(n) for n in tensor.shape)
