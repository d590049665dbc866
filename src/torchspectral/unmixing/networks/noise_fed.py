"""Networks that draw the abundances of one scene out of fixed noise: the network itself is the prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from torchspectral.engine.method import Scope, Size, Source, State, Tile
from torchspectral.errors import BadInput
from torchspectral.learn.on_scene import FitPlan, SceneObjective
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.networks.base import NetworkSettings, SceneNetwork, residual

SLOPE = 0.1


def block(inputs: int, outputs: int, size: int, stride: int = 1) -> nn.Sequential:
    """Reflected border, convolution, norm, leaky rectifier."""
    return nn.Sequential(
        nn.ReflectionPad2d(size // 2),
        nn.Conv2d(inputs, outputs, size, stride=stride),
        nn.BatchNorm2d(outputs),
        nn.LeakyReLU(SLOPE),
    )


class SkipBody(nn.Module):
    """The layers that UnDIP and SUnCNN share: half resolution and back, beside a skip of four channels.

    Parameters
    ----------
    bands : int
    outputs : int
        Endmembers, or spectra of a library.
    kernel : int
        Side of the larger convolutions, odd.
    """

    def __init__(self, bands: int, outputs: int, kernel: int = 3) -> None:
        super().__init__()
        self.layer1 = block(bands, 256, kernel, stride=2)
        self.layer2 = block(256, 256, kernel)
        self.layerskip = block(bands, 4, 1)
        self.layer3 = nn.Sequential(
            nn.BatchNorm2d(260),
            nn.ReflectionPad2d(kernel // 2),
            nn.Conv2d(260, 256, kernel),
            nn.BatchNorm2d(256),
            nn.LeakyReLU(SLOPE),
        )
        self.layer4 = block(256, 256, 1)
        self.layer5 = nn.Sequential(nn.ReflectionPad2d(0), nn.Conv2d(256, outputs, 1))

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        """Abundances (n, outputs, y, x) that sum to one, from noise or an image (n, bands, y, x)."""
        deep = self.layer2(self.layer1(image))
        deep = functional.interpolate(deep, scale_factor=2, mode="bilinear", align_corners=False)
        skip = self.layerskip(image)
        rows, cols = (min(a, b) for a, b in zip(deep.shape[-2:], skip.shape[-2:], strict=True))
        joined = torch.cat([_centre(deep, rows, cols), _centre(skip, rows, cols)], dim=1)
        return torch.softmax(self.layer5(self.layer4(self.layer3(joined))), dim=1)


def _centre(x: torch.Tensor, rows: int, cols: int) -> torch.Tensor:
    top, left = (x.shape[-2] - rows) // 2, (x.shape[-1] - cols) // 2
    return x[..., top : top + rows, left : left + cols]


class NoiseFedSettings(NetworkSettings):
    """Settings of the networks that draw abundances out of noise."""

    iterations: int = setting(3000, "steps of Adam", ge=1)
    learning_rate: float = setting(1e-3, "learning rate of Adam", gt=0)
    average: float = setting(0.99, "share that the running average of the abundances keeps in a step", ge=0, lt=1)


class NoiseFed(SceneNetwork):
    """Base: the abundances are the running average of what the network drew in training.

    The network's input is uniform noise of the scene's shape that follows from the seed, so the whole scene is held at
    once, and weights are of use only as a start. Nodata pixels do not count in the loss.
    """

    Settings: ClassVar[type[Settings]] = NoiseFedSettings
    scope = Scope.SCENE
    reads_image: ClassVar[bool] = False

    def plan(self, objective: SceneObjective) -> FitPlan:
        """Adam at a constant rate."""
        return FitPlan(self.settings.iterations, self.settings.learning_rate)

    def check_state(self, state: State, bands: int) -> None:
        """As for all, and the state must hold the scene's abundances."""
        super().check_state(state, bands)
        if not isinstance(state.get("maps"), torch.Tensor):
            raise BadInput(f"got a state without the abundances that {self.name} drew of this scene: fit it again")

    def found(self, network: Any, source: Source, start: State, objective: SceneObjective | None) -> Mapping[str, Any]:
        """Endmembers and the averaged abundances."""
        assert isinstance(objective, NoiseObjective) and objective.average is not None
        return {"endmembers": self.spectra(network, start), "maps": objective.average}

    def spectra(self, network: Any, start: State) -> torch.Tensor:
        """Endmembers (k, bands) of the trained network."""
        raise NotImplementedError

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Averaged abundances and the residual of their linear mixture."""
        cube, maps = tile["cube"], state["maps"].to(tile["cube"])
        if maps.shape[-2:] != cube.shape[-2:]:
            raise BadInput(
                f"the state was fitted on a scene of {maps.shape[-2]} x {maps.shape[-1]} pixels and this one has "
                f"{cube.shape[-2]} x {cube.shape[-1]}: {self.name} works on the scene that it was fitted on"
            )
        model = torch.einsum("kb,nkyx->nbyx", state["endmembers"].to(cube), maps)
        return {"abundances": maps, "rmse": residual(cube, model)}

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the layers with their gradients for `fit`; of the maps and the mixture for `apply`."""
        pixels = size.rows * size.cols
        return {
            "fit": 4 * pixels * (24 * 256 + 8 * size.bands),
            "apply": 4 * pixels * (2 * size.bands + 2 * self.known_k()),
        }


class NoiseObjective(SceneObjective):
    """Holds the scene, the noise and the running average of the abundances.

    Parameters
    ----------
    network : Module
    source : Source
    seed : int
        Of the noise.
    keep : float
        Share that the average keeps in a step.
    """

    def __init__(self, network: nn.Module, source: Source, seed: int, keep: float) -> None:
        tile = next(iter(source.tiles()))
        self.network, self.keep = network, keep
        self.cube = tile["cube"]
        valid = tile.valid.to(self.cube)
        self.weight = valid if bool((valid < 1).any()) else None
        generator = torch.Generator().manual_seed(seed)
        self.noise = torch.rand(self.cube.shape, generator=generator).to(self.cube)
        self.average: torch.Tensor | None = None

    def note(self, maps: torch.Tensor) -> None:
        """Enter abundances (1, k, y, x) into the average."""
        maps = maps.detach()
        self.average = maps if self.average is None else self.keep * self.average + (1 - self.keep) * maps

    def kept(self) -> State:
        """The average."""
        return {"average": self.average}

    def restore(self, kept: State) -> None:
        """Take the average back."""
        self.average = kept["average"]
