"""MiSiCNet: minimum-simplex unmixing with a convolutional network fed with noise."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import torch
from torch import nn

from torchspectral.engine.method import Source, State
from torchspectral.learn.on_scene import SceneObjective
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.geometric.base import ExtractionSettings
from torchspectral.unmixing.geometric.sivm import Sivm
from torchspectral.unmixing.networks.noise_fed import NoiseFed, NoiseFedSettings, NoiseObjective, block


class MiSiCNetNetwork(nn.Module):
    """Two wide layers beside a skip of four channels, and a linear decoder.

    Parameters
    ----------
    bands, k : int
        Bands and endmembers.
    compat : {"", "authors-code"}
        "authors-code": with the authors' second layer, which is in their files and not used.
    """

    def __init__(self, bands: int, k: int, compat: Literal["", "authors-code"] = "") -> None:
        super().__init__()
        self.layer1 = block(bands, 256, 3)
        if compat:
            self.layer2 = block(256, 256, 3)
        self.layerskip = block(bands, 4, 1)
        self.layer3 = block(260, 256, 3)
        self.layer4 = block(256, k, 3)
        self.decoder = nn.Linear(k, bands, bias=False)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Abundances (pixel, k) and reconstruction (pixel, bands), row-major, of noise or an image (1, bands, y, x)."""
        joined = torch.cat([self.layer1(image), self.layerskip(image)], dim=1)
        maps = torch.softmax(self.layer4(self.layer3(joined)), dim=1)
        abundances = maps.movedim(1, -1).flatten(0, 2)
        return abundances, self.decoder(abundances)


def misicnet_loss(
    pixels: torch.Tensor,
    model: torch.Tensor,
    decoder: torch.Tensor,
    mean: torch.Tensor,
    weight: float,
    valid: torch.Tensor | None = None,
) -> torch.Tensor:
    """Half the squared error, and `weight` times the squared distance of the endmembers to the mean spectrum.

    Parameters
    ----------
    pixels, model : Tensor, shape (n, bands)
    decoder : Tensor, shape (bands, k)
    mean : Tensor, shape (bands,)
    valid : Tensor, shape (n, 1), optional
        Pixels that count.
    """
    error = (pixels - model).square()
    total = error.sum() if valid is None else (error * valid).sum()
    return 0.5 * total + weight * (decoder - mean[:, None]).square().sum()


class MiSiCNetSettings(NoiseFedSettings):
    """Settings of MiSiCNet."""

    iterations: int = setting(8000, "steps of Adam", ge=1)
    simplex: float = setting(
        100.0, "lambda: weight of the endmembers' distance to the mean; HySUPP's configuration has 0.1", ge=0
    )


class MiSiCNet(NoiseFed):
    """MiSiCNet: abundances from a deep image prior, endmembers in a decoder that is pulled towards the mean spectrum.

    The decoder starts from endmembers of the scene and is kept within 0..1 of the working scale.

    References
    ----------
    Rasti, Koirala, Scheunders, Chanussot, "MiSiCNet: minimum simplex convolutional network for deep hyperspectral
    unmixing", IEEE TGRS 60 (2022), doi 10.1109/TGRS.2022.3146904.
    """

    Settings: ClassVar[type[Settings]] = MiSiCNetSettings
    name: ClassVar[str] = "misicnet"
    network: ClassVar[type[nn.Module]] = MiSiCNetNetwork
    ignored: ClassVar[tuple[str, ...]] = ("layer2.",)
    smallest = 2

    def start(self, source: Source, seed: int) -> State:
        """Endmembers by simplex volume maximisation."""
        k = self.needed_k()
        return Sivm(ExtractionSettings.make({"k": k})).fit(source, seed, None)

    def begin(self, network: Any, start: State) -> None:
        """Decoder from the endmembers."""
        network.decoder.weight.copy_(start["endmembers"].T.clamp(0, 1))

    def objective(self, network: nn.Module, source: Source, start: State, seed: int) -> SceneObjective:
        """Sums over all valid pixels and bands."""
        return _Objective(network, source, seed, self.settings)

    def spectra(self, network: Any, start: State) -> torch.Tensor:
        """The decoder's columns."""
        weight: torch.Tensor = network.decoder.weight
        return weight.detach().T.to("cpu", torch.float64)


class _Objective(NoiseObjective):
    def __init__(self, network: Any, source: Source, seed: int, settings: MiSiCNetSettings) -> None:
        super().__init__(network, source, seed, settings.average)
        self.decoder, self.simplex = network.decoder, settings.simplex
        self.pixels = self.cube.movedim(1, -1).flatten(0, 2)
        self.valid = None if self.weight is None else self.weight.reshape(-1, 1)
        counted = self.pixels if self.valid is None else self.pixels[self.valid[:, 0] > 0]
        self.mean = counted.mean(0)

    def loss(self, step: int) -> torch.Tensor:
        abundances, model = self.network(self.noise)
        rows, cols = self.cube.shape[-2:]
        self.note(abundances.T.reshape(1, -1, rows, cols))
        return misicnet_loss(self.pixels, model, self.decoder.weight, self.mean, self.simplex, self.valid)

    @torch.no_grad()
    def after(self, step: int) -> None:
        self.decoder.weight.clamp_(0, 1)
