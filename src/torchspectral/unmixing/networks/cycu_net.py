"""CyCU-Net: two autoencoders in a row that share an encoder, so that abundances survive a second look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import nn
from torch.nn import functional

from torchspectral.engine.method import Source, State
from torchspectral.learn.on_scene import FitPlan, SceneObjective
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.networks.base import shares
from torchspectral.unmixing.networks.pixelwise import PixelNetwork, PixelSettings, decoder_spectra

PRESETS: dict[str, dict[str, float]] = {
    "samson": {"learning_rate": 2e-3, "epochs": 480, "delta": 1e-3, "sparse": 5e-6, "weight_decay": 1e-4},
    "jasper": {"learning_rate": 8e-3, "epochs": 70, "delta": 1e-2, "sparse": 0.0, "weight_decay": 0.0},
}
"""What the authors set for each scene."""


class CyCUNetNetwork(nn.Module):
    """A shared encoder and two decoders.

    Parameters
    ----------
    bands, k : int
        Bands and endmembers.
    dropout : float
        Share of the first layer's values that training drops.
    """

    def __init__(self, bands: int, k: int, dropout: float = 0.5) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(bands, 128, 1),
            nn.BatchNorm2d(128, momentum=0.9),
            nn.Dropout(dropout),
            nn.ReLU(),
            nn.Conv2d(128, 64, 1),
            nn.BatchNorm2d(64, momentum=0.9),
            nn.ReLU(),
            nn.Conv2d(64, k, 1),
            nn.BatchNorm2d(k, momentum=0.9),
        )
        self.decoder1 = nn.Sequential(nn.Conv2d(k, bands, 1, bias=False), nn.ReLU())
        self.decoder2 = nn.Sequential(nn.Conv2d(k, bands, 1, bias=False), nn.ReLU())

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Abundances and reconstruction of an image (n, bands, y, x), and those of the reconstruction.

        Abundances lie in 0..1 and need not sum to one.
        """
        first = self.encoder(image).clamp(0, 1)
        model = self.decoder1(first)
        second = self.encoder(model).clamp(0, 1)
        return first, model, second, self.decoder2(second)


class CyCUNetSettings(PixelSettings):
    """Settings of CyCU-Net; 0 or -1 stands for the preset's value."""

    preset: Literal["samson", "jasper"] = setting("samson", "set of the authors' values for a scene")
    epochs: int = setting(0, "steps, each on all pixels; 0: the preset's (samson 480, jasper 70)", ge=0)
    learning_rate: float = setting(0.0, "learning rate of Adam; 0: the preset's (2e-3, 8e-3)", ge=0)
    weight_decay: float = setting(-1.0, "weight decay; -1: the preset's (1e-4, 0)", ge=-1)
    decay: float = setting(0.8, "factor of the rate after every `decay_every` epochs", gt=0, le=1)
    decay_every: int = setting(15, "epochs between two cuts of the rate", ge=1)
    dropout: float = setting(0.5, "share of the first layer's values that training drops", ge=0, lt=1)
    beta: float = setting(0.5, "weight of the first reconstruction; the second has the rest", ge=0, le=1)
    delta: float = setting(-1.0, "weight of the two abundances' difference; -1: the preset's (1e-3, 1e-2)", ge=-1)
    gamma: float = setting(1e-7, "weight of the sums' distance from one", ge=0)
    sparse: float = setting(-1.0, "weight of the abundances' nuclear norm; -1: the preset's (5e-6, 0)", ge=-1)

    def chosen(self, name: str) -> float:
        """A value, or the preset's."""
        given = getattr(self, name)
        unset = given == 0 if name in ("epochs", "learning_rate") else given < 0
        return PRESETS[self.preset][name] if unset else float(given)


class CyCUNet(PixelNetwork):
    """CyCU-Net: cycle-consistent unmixing; the reconstruction is unmixed again and must give the same abundances.

    All layers are 1 x 1, so that pixels are unmixed one by one; the abundances are divided by their sum (equal shares
    where it is zero). Both decoders start from VCA and are kept within 1e-6..1; the first one's are the endmembers.

    References
    ----------
    Gao, Han, Hong, Zhang, Chanussot, "CyCU-Net: cycle-consistency unmixing network by learning cascaded autoencoders",
    IEEE TGRS 60 (2022), doi 10.1109/TGRS.2021.3064958.
    """

    Settings: ClassVar[type[Settings]] = CyCUNetSettings
    name: ClassVar[str] = "cycu-net"
    network: ClassVar[type[nn.Module]] = CyCUNetNetwork
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {"bands": ("decoder1.0.weight", 0), "k": ("decoder1.0.weight", 1)}

    def arguments(self, bands: int, k: int) -> dict[str, Any]:
        """Sizes."""
        return {"bands": bands, "k": k, "dropout": self.settings.dropout}

    def begin(self, network: Any, start: State) -> None:
        """Both decoders from the endmembers."""
        for decoder in (network.decoder1, network.decoder2):
            decoder[0].weight.copy_(start["endmembers"].T[..., None, None])
            decoder[0].weight.clamp_(1e-6, 1.0)

    def unmix(self, network: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Abundances of the first look, divided by their sum, and the spectra that they make."""
        first = network(pixels.T[None, :, None])[0][0, :, 0].T
        abundances = shares(first, 1)
        decoder = network.weights["decoder1.0.weight"]
        return abundances, torch.relu(abundances @ decoder[..., 0, 0].T)

    def objective(self, network: nn.Module, source: Source, start: State, seed: int) -> SceneObjective:
        """The sum of the paper's four losses, on all pixels at once."""
        return _Objective(network, self.pixels_of(source).T[None, :, None].contiguous(), self.settings)

    def plan(self, objective: Any) -> FitPlan:
        """Adam; the gradient's l1 norm is held below 10."""
        s = self.settings
        return FitPlan(
            int(s.chosen("epochs")), s.chosen("learning_rate"), weight_decay=s.chosen("weight_decay"),
            decay=s.decay, decay_every=s.decay_every, clip=10.0, clip_norm=1.0,
        )  # fmt: skip

    def found(self, network: Any, source: Source, start: State, objective: SceneObjective | None) -> Mapping[str, Any]:
        """The first decoder's columns are the endmembers."""
        return decoder_spectra(network.decoder1[0].weight)

    def widest(self, bands: int) -> int:
        """All layers of both looks."""
        return 2 * (4 * 128 + 3 * 64 + 4 * self.known_k() + 3 * bands)

    def batch_of(self, count: int) -> int:
        """All pixels."""
        return min(int(self.settings.pixels), count)


class _Objective(SceneObjective):
    def __init__(self, network: Any, image: torch.Tensor, settings: CyCUNetSettings) -> None:
        self.network, self.image, self.settings = network, image, settings

    def loss(self, step: int) -> torch.Tensor:
        s, image = self.settings, self.image
        first, model, second, again = self.network(image)
        loss = s.beta * functional.mse_loss(model, image) + (1 - s.beta) * functional.mse_loss(again, image)
        loss = loss + s.chosen("delta") * functional.mse_loss(first, second)
        for abundances in (first, second):
            loss = loss + s.gamma * (abundances.sum(1) - 1).abs().sum()
            if s.chosen("sparse"):
                flat = abundances[0].flatten(1)
                loss = loss + s.chosen("sparse") * torch.linalg.matrix_norm(flat, "nuc")
        return loss

    @torch.no_grad()
    def after(self, step: int) -> None:
        for decoder in (self.network.decoder1, self.network.decoder2):
            decoder[0].weight.clamp_(1e-6, 1.0)
