"""What the methods with trained networks have in common: weights that must fit, tiles, the interpolated image."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from torchspectral.engine.method import Scale, SceneInfo, Scope, State, Tile
from torchspectral.errors import BadInput, BandMismatch, MissingWeights
from torchspectral.ops.interpolate import interpolation_halo
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.fusion import Fusion, FusionSettings
from torchspectral.sharpening.tiles import narrowed, widened
from torchspectral.sharpening.upsampled import Upsampled
from torchspectral.weights.card import WeightsCard
from torchspectral.weights.loading import check


def layer(inputs: int, outputs: int, size: int) -> nn.Conv2d:
    """Convolution of unchanged size; borders are reflected."""
    return nn.Conv2d(inputs, outputs, size, padding=size // 2, padding_mode="reflect" if size > 1 else "zeros")


class GainSettings(FusionSettings):
    """Settings that every trained network has."""

    gain: float = setting(65536.0, "values are divided by it for the network; 65536 for PRISMA counts", gt=0)


class TrainedNetwork(Fusion):
    """Base of the methods whose network comes with weights.

    Subclasses name the method and its network, and say how the sizes of the network are read off its weights. They
    need weights for exactly the bands of the scene, in order.
    """

    Settings: ClassVar[type[Settings]] = GainSettings
    name: ClassVar[str] = ""
    network: ClassVar[type[nn.Module]] = nn.Module
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {}
    """Constructor argument to a tensor of the weights and the axis whose length it is; ``bands`` is one."""

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.scale = Scale("fixed", gain=self.settings.gain)
        self._built: tuple[tuple[int, ...], nn.Module] | None = None

    def prepare(self, info: SceneInfo) -> None:
        """Refuse scenes that a 3 x 3 layer cannot stand."""
        ratio = self.check_ratio(info)
        if min(info.shape) * ratio < 2:
            raise BadInput(f"got a scene of {info.shape[0]} x {info.shape[1]} pixels, expected more for a 3 x 3 layer")

    def built(self, arguments: Mapping[str, int]) -> nn.Module:
        """The network without weights, in evaluation mode."""
        key = tuple(arguments.values())
        if self._built is None or self._built[0] != key:
            with torch.device("meta"):
                self._built = key, self.network(**arguments).eval()
        return self._built[1]

    def figures(self, state: State) -> dict[str, Any]:
        """Number of weights."""
        own = self.built(self.arguments(state)).state_dict()
        return {"parameters": sum(int(tensor.numel()) for tensor in own.values())}

    def arguments(self, state: State) -> dict[str, int]:
        """Constructor arguments of the network that the weights belong to.

        Raises
        ------
        MissingWeights
            The state has none.
        """
        found = {}
        for argument, (key, axis) in self.sizes.items():
            tensor = state.get(key)
            if not isinstance(tensor, torch.Tensor) or tensor.ndim <= axis:
                raise MissingWeights(
                    f"{self.name} needs trained weights: give weights=FILE or a name (torchspectral weights list), or "
                    f"train: torchspectral train sharpen --method {self.name} --data SCENES -o RUN"
                )
            found[argument] = int(tensor.shape[axis])
        return found


class TrainedSettings(GainSettings):
    """Settings of the networks that start from the interpolated image."""

    border: Literal["symmetric", "wrap"] = setting(
        "symmetric", "border of the interpolator: symmetric, or wrap as in the benchmark"
    )


class InterpolatedNetwork(TrainedNetwork):
    """Base of the networks that start from the interpolated image and look a few pixels around."""

    Settings: ClassVar[type[Settings]] = TrainedSettings
    reach: ClassVar[int] = 0
    """Fine pixels that the network looks over an edge."""

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        if self.settings.border == "wrap":
            self.scope = Scope.SCENE

    def prepare(self, info: SceneInfo) -> None:
        """Set the halo: the interpolator's and the network's."""
        super().prepare(info)
        ratio = int(info.ratio["pan"])
        self.halo = interpolation_halo(ratio) + -(-self.reach // ratio)

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Predict the core of a tile."""
        # The network sees the core and a margin, not the whole halo of the interpolator.
        wide = widened(tile, -(-self.reach // tile.info.ratio["pan"]))
        up = Upsampled(wide, self.settings.border)
        with torch.no_grad():
            out = self.predict(Loaded(self, state, tile["cube"]), up.pan, up.image(), state)
        return {"cube": narrowed(out, wide, tile)}

    def predict(self, network: Loaded, pan: torch.Tensor, upsampled: torch.Tensor, state: State) -> torch.Tensor:
        """Sharp image (n, band, y, x) from the PAN and the interpolated image of the same pixels."""
        return network(pan, upsampled)


class Loaded:
    """A method's network with the weights of a state, held against the scene's bands.

    Parameters
    ----------
    method : TrainedNetwork
    state : State
    cube : Tensor, shape (n, band, y, x)
        The scene: its bands, device and precision.

    Raises
    ------
    MissingWeights, BandMismatch, BadWeights
    """

    def __init__(self, method: TrainedNetwork, state: State, cube: torch.Tensor) -> None:
        arguments = method.arguments(state)
        if arguments["bands"] != cube.shape[1]:
            raise BandMismatch(
                f"the weights are for {arguments['bands']} bands and the scene has {cube.shape[1]}: select the bands "
                f"they were trained on (bands=), or train on this sensor (torchspectral train sharpen --method "
                f"{method.name})"
            )
        self.module = method.built(arguments)
        own = {key: tuple(tensor.shape) for key, tensor in self.module.state_dict().items()}
        weights = {key: state[key] for key in own if isinstance(state.get(key), torch.Tensor)}
        check(weights, own, WeightsCard(name=method.name), f"weights of {method.name}")
        self.weights = {
            key: tensor.to(cube) if tensor.is_floating_point() else tensor for key, tensor in weights.items()
        }

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        """Call the network in evaluation mode."""
        out: torch.Tensor = torch.func.functional_call(self.module, self.weights, inputs)
        return out
