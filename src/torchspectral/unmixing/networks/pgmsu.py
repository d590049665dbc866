"""PGMSU: a probabilistic generative model of endmembers that vary from pixel to pixel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from torchspectral.engine.method import Output, Source, State
from torchspectral.learn.on_scene import FitPlan, SceneObjective
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.networks.base import SceneNetwork
from torchspectral.unmixing.networks.pixelwise import CHUNK, PixelNetwork, PixelObjective, PixelSettings


class PGMSUNetwork(nn.Module):
    """A variational decoder that draws endmembers for each pixel, and an encoder of abundances.

    Parameters
    ----------
    bands, k : int
        Bands and endmembers.
    latent : int
        Size of the latent vector.
    """

    def __init__(self, bands: int, k: int, latent: int = 4) -> None:
        super().__init__()
        self.bands, self.k = bands, k
        for number, inputs, outputs in ((1, bands, 32 * k), (2, 32 * k, 16 * k), (3, 16 * k, 4 * k)):
            self._add(number, inputs, outputs)
        self.fc4, self.fc5 = nn.Linear(4 * k, latent), nn.Linear(4 * k, latent)
        self._add(6, latent, 4 * k)
        self._add(7, 4 * k, 64 * k)
        self.fc8 = nn.Linear(64 * k, bands * k)
        for number, inputs, outputs in (
            (9, bands, 32 * k), (10, 32 * k, 16 * k), (11, 16 * k, 4 * k), (12, 4 * k, 4 * k)
        ):  # fmt: skip
            self._add(number, inputs, outputs)
        self.fc13 = nn.Linear(4 * k, k)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
            elif isinstance(module, nn.BatchNorm1d):
                nn.init.normal_(module.weight, 1.0, 0.02)

    def _add(self, number: int, inputs: int, outputs: int) -> None:
        self.add_module(f"fc{number}", nn.Linear(inputs, outputs))
        self.add_module(f"bn{number}", nn.BatchNorm1d(outputs))

    def _layers(self, x: torch.Tensor, *numbers: int) -> torch.Tensor:
        for number in numbers:
            x = torch.relu(self.get_submodule(f"bn{number}")(self.get_submodule(f"fc{number}")(x)))
        return x

    def encoder_z(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Mean and logarithm of the variance of the latent vector, (n, latent)."""
        h = self._layers(pixels, 1, 2, 3)
        return self.fc4(h), self.fc5(h)

    def encoder_a(self, pixels: torch.Tensor) -> torch.Tensor:
        """Abundances (n, k)."""
        return torch.softmax(self.fc13(self._layers(pixels, 9, 10, 11, 12)), dim=1)

    def decoder(self, z: torch.Tensor) -> torch.Tensor:
        """Endmembers of each pixel, (n, k, bands), 0..1."""
        return torch.sigmoid(self.fc8(self._layers(z, 6, 7))).view(-1, self.k, self.bands)

    def forward(self, pixels: torch.Tensor, noise: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """Abundances, reconstruction, endmembers, mean and log-variance; the latent vector is the mean without noise."""
        mean, log_variance = self.encoder_z(pixels)
        z = mean if noise is None else mean + noise * torch.exp(0.5 * log_variance)
        abundances, spectra = self.encoder_a(pixels), self.decoder(z)
        model = torch.einsum("nk,nkb->nb", abundances, spectra)
        return abundances, model, spectra, mean, log_variance


class PGMSUSettings(PixelSettings):
    """Settings of PGMSU."""

    epochs: int = setting(200, "passes over the pixels", ge=1)
    learning_rate: float = setting(1e-3, "learning rate of Adam", gt=0)
    batches: int = setting(10, "batches in an epoch", ge=1)
    latent: int = setting(4, "size of the latent vector", ge=1)
    kl_weight: float = setting(0.1, "weight of the Kullback-Leibler divergence", ge=0)
    kl_least: float = setting(0.2, "below which the divergence is not pressed", ge=0)
    vca_weight: float = setting(0.1, "weight of the distance to VCA's endmembers, first half of the epochs", ge=0)
    volume_weight: float = setting(0.5, "weight of the endmembers' spread, second half of the epochs", ge=0)


class PGMSU(PixelNetwork):
    """PGMSU: every pixel has endmembers of its own, drawn by a variational decoder.

    ``endmembers`` are their means over the pixels that the network learned from, ``endmember_spread`` the standard
    deviations; the residual is that of each pixel's own endmembers. Endmembers lie in 0..1 of the working scale.

    References
    ----------
    Shi, Zhao, Zhang, Altmann, Chen, "Probabilistic generative model for hyperspectral unmixing accounting for
    endmember variability", IEEE TGRS 60 (2022), doi 10.1109/TGRS.2021.3121799.
    """

    Settings: ClassVar[type[Settings]] = PGMSUSettings
    outputs: tuple[Output, ...] = (
        *SceneNetwork.outputs,
        Output("endmember_spread", kind="spectra", names="=endmember_names", from_state=True),
    )
    name: ClassVar[str] = "pgmsu"
    network: ClassVar[type[nn.Module]] = PGMSUNetwork
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {"bands": ("fc1.weight", 1), "k": ("fc13.weight", 0)}

    def arguments(self, bands: int, k: int) -> dict[str, Any]:
        """Sizes."""
        return {"bands": bands, "k": k, "latent": self.settings.latent}

    @classmethod
    def settings_of(cls, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Size of the latent vector."""
        mean = weights.get("fc4.weight")
        return {} if mean is None else {"latent": int(mean.shape[0])}

    def unmix(self, network: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Abundances and reconstruction with each pixel's own endmembers."""
        step = max(1, CHUNK // self.known_k())
        parts = [network(part)[:2] for part in pixels.split(step)]
        return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts])

    def objective(self, network: nn.Module, source: Source, start: State, seed: int) -> SceneObjective:
        """Reconstruction, divergence, and distance to VCA or spread of the endmembers."""
        return _Objective(network, self.pixels_of(source), start["endmembers"], self.settings, seed)

    def plan(self, objective: Any) -> FitPlan:
        """Adam at a constant rate."""
        return FitPlan(self.settings.epochs * objective.batches, self.settings.learning_rate)

    def found(self, network: Any, source: Source, start: State, objective: SceneObjective | None) -> Mapping[str, Any]:
        """Mean and standard deviation of the pixels' endmembers."""
        pixels = objective.pixels if isinstance(objective, _Objective) else self.pixels_of(source)
        total = square = torch.zeros(1, dtype=torch.float64)
        for part in pixels.split(max(1, CHUNK // network.k)):
            spectra = network.decoder(network.encoder_z(part)[0]).to(torch.float64)
            total, square = total + spectra.sum(0).cpu(), square + spectra.square().sum(0).cpu()
        mean = total / len(pixels)
        return {"endmembers": mean, "endmember_spread": (square / len(pixels) - mean.square()).clamp_min(0).sqrt()}

    def widest(self, bands: int) -> int:
        """All layers of both encoders and the decoder."""
        k = self.known_k()
        return 3 * (52 * k + 56 * k + 68 * k) + 3 * k * bands

    def batch_of(self, count: int) -> int:
        """A tenth of the pixels by default."""
        return -(-min(self.settings.pixels, count) // int(self.settings.batches))


class _Objective(PixelObjective):
    def __init__(
        self, network: nn.Module, pixels: torch.Tensor, spectra: torch.Tensor, settings: PGMSUSettings, seed: int
    ) -> None:
        super().__init__(network, pixels, max(2, len(pixels) // settings.batches), seed)
        self.spectra, self.settings = spectra.to(pixels), settings

    def loss(self, step: int) -> torch.Tensor:
        s, pixels = self.settings, self.batch(step)
        noise = torch.randn(len(pixels), s.latent).to(pixels)
        _, model, spectra, mean, log_variance = self.network(pixels, noise)
        count = len(pixels)
        divergence = -0.5 * (1 + log_variance - mean.square() - log_variance.exp()).sum() / count
        loss = (model - pixels).square().sum() / count + s.kl_weight * divergence.clamp_min(s.kl_least)
        if step // self.batches < s.epochs // 2:
            return loss + s.vca_weight * (spectra - self.spectra).square().sum() / count
        spread = (spectra - spectra.mean(1, keepdim=True)).square().mean()
        return loss + s.volume_weight * spread
