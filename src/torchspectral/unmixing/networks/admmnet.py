"""ADMMNet: the alternating direction method of multipliers, a few steps of it unrolled into a network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn import functional

from torchspectral.engine.method import Source, State
from torchspectral.learn.on_scene import FitPlan, SceneObjective
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.networks.base import shares
from torchspectral.unmixing.networks.pixelwise import PixelNetwork, PixelObjective, PixelSettings, decoder_spectra


class _XBlock(nn.Module):
    def __init__(self, bands: int, k: int) -> None:
        super().__init__()
        self.W = nn.Linear(bands, k, bias=False)
        self.B = nn.Linear(k, k, bias=False)

    def forward(self, y: torch.Tensor, z: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.W(y) + self.B(z + d)
        return out


class _ZBlock(nn.Module):
    def __init__(self, k: int) -> None:
        super().__init__()
        self.theta = nn.Parameter(torch.zeros(k))

    def forward(self, x: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return torch.relu(x - d - self.theta)


class _DBlock(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.eta = nn.Parameter(torch.ones(1))

    def forward(self, x: torch.Tensor, z: torch.Tensor, d: torch.Tensor) -> torch.Tensor:
        return d - self.eta * (x - z)


class ADMMNetNetwork(nn.Module):
    """Unrolled sparse unmixing and a linear decoder.

    Parameters
    ----------
    bands, k : int
        Bands and endmembers.
    blocks : int
        Unrolled iterations.
    sparsity, mu : float
        Weight of the l1 norm and of the augmented Lagrangian, from which `begin` sets the blocks.
    tied : bool
        One set of weights for all iterations.
    """

    def __init__(
        self, bands: int, k: int, blocks: int = 2, sparsity: float = 1e-3, mu: float = 1e-2, tied: bool = False
    ) -> None:
        super().__init__()
        self.sparsity, self.mu = sparsity, mu

        def repeat(make: Any) -> nn.ModuleList:
            if tied:
                return nn.ModuleList([make()] * blocks)
            return nn.ModuleList([make() for _ in range(blocks)])

        self.x_blocks = repeat(lambda: _XBlock(bands, k))
        self.z_blocks = repeat(lambda: _ZBlock(k))
        self.d_blocks = repeat(_DBlock)
        self.decoder = nn.Linear(k, bands, bias=False)

    @torch.no_grad()
    def begin(self, spectra: torch.Tensor) -> None:
        """Set the weights so that each block is one iteration for these endmembers (bands, k)."""
        a = spectra.to(torch.float64)
        x: Any
        z: Any
        d: Any
        eye = torch.eye(a.shape[1], dtype=a.dtype, device=a.device)
        inverse = torch.linalg.inv(a.T @ a + self.mu * eye)
        for x, z, d in zip(self.x_blocks, self.z_blocks, self.d_blocks, strict=True):
            x.W.weight.copy_(inverse @ a.T)
            x.B.weight.copy_(self.mu * inverse)
            z.theta.fill_(self.sparsity / self.mu)
            d.eta.fill_(1.0)
        self.decoder.weight.copy_(a)

    def forward(self, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Abundances (n, k) that sum to one and reconstruction (n, bands) of pixels (n, bands)."""
        z = d = pixels.new_zeros(pixels.shape[0], self.decoder.in_features)
        for x_block, z_block, d_block in zip(self.x_blocks, self.z_blocks, self.d_blocks, strict=True):
            x = x_block(pixels, z, d)
            z = z_block(x, d)
            d = d_block(x, z, d)
        abundances = shares(z, 1)
        return abundances, self.decoder(abundances)


class ADMMNetSettings(PixelSettings):
    """Settings of ADMMNet."""

    epochs: int = setting(300, "passes over the pixels", ge=1)
    learning_rate: float = setting(1e-4, "learning rate of Adam", gt=0)
    batch: int = setting(1024, "pixels in a step; the paper's are not known, smaller ones let endmembers drift", ge=1)
    blocks: int = setting(2, "unrolled iterations", ge=1)
    sparsity: float = setting(1e-3, "lambda: weight of the l1 norm at the start", ge=0)
    mu: float = setting(1e-2, "weight of the augmented Lagrangian at the start", gt=0)
    nonnegative: bool = setting(True, "keep the decoder's spectra from becoming negative")
    tied: bool = setting(False, "one set of weights for all iterations")


class ADMMNet(PixelNetwork):
    """ADMMNet: unrolled sparse unmixing whose matrices, thresholds and step lengths are learned on the scene.

    Starts from VCA: before the first step each block is one iteration of ADMM for these endmembers. Pixels whose
    abundances are all zero get equal shares.

    References
    ----------
    Zhou, Rodrigues, "ADMM-based hyperspectral unmixing networks for abundance and endmember estimation", IEEE TGRS 60
    (2022), doi 10.1109/TGRS.2021.3136336.
    """

    Settings: ClassVar[type[Settings]] = ADMMNetSettings
    name: ClassVar[str] = "admmnet"
    network: ClassVar[type[nn.Module]] = ADMMNetNetwork

    def arguments(self, bands: int, k: int) -> dict[str, Any]:
        """Sizes, and the numbers that the blocks start from."""
        s = self.settings
        return {"bands": bands, "k": k, "blocks": s.blocks, "sparsity": s.sparsity, "mu": s.mu, "tied": s.tied}

    @classmethod
    def settings_of(cls, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Unrolled iterations."""
        blocks = sum(re.fullmatch(r"x_blocks\.\d+\.W\.weight", key) is not None for key in weights)
        return {"blocks": blocks} if blocks else {}

    def begin(self, network: Any, start: State) -> None:
        """Blocks and decoder from the endmembers."""
        network.begin(start["endmembers"].T.cpu())

    def objective(self, network: nn.Module, source: Source, start: State, seed: int) -> SceneObjective:
        """Mean squared reconstruction error."""
        return _Objective(network, self.pixels_of(source), self.settings, seed)

    def plan(self, objective: Any) -> FitPlan:
        """Adam at a constant rate."""
        return FitPlan(self.settings.epochs * objective.batches, self.settings.learning_rate)

    def found(self, network: Any, source: Source, start: State, objective: SceneObjective | None) -> Mapping[str, Any]:
        """The decoder's columns are the endmembers."""
        return decoder_spectra(network.decoder.weight)

    def widest(self, bands: int) -> int:
        """Three vectors a block, and the reconstruction."""
        return bands + 5 * self.known_k() * int(self.settings.blocks)

    def batch_of(self, count: int) -> int:
        """As the settings say."""
        return int(self.settings.batch)


class _Objective(PixelObjective):
    def __init__(self, network: nn.Module, pixels: torch.Tensor, settings: ADMMNetSettings, seed: int) -> None:
        super().__init__(network, pixels, settings.batch, seed)
        self.nonnegative = settings.nonnegative

    def loss(self, step: int) -> torch.Tensor:
        pixels = self.batch(step)
        return functional.mse_loss(self.network(pixels)[1], pixels)

    @torch.no_grad()
    def after(self, step: int) -> None:
        if self.nonnegative:
            self.network.decoder.weight.clamp_(min=0)  # type: ignore[union-attr,operator]
