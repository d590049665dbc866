"""MSNet: abundances at three scales, the coarser guiding the finer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn
from torch.nn import functional

from torchspectral.engine.method import SceneInfo, Scope, Size, Source, State, Tile
from torchspectral.errors import BadInput
from torchspectral.learn.on_scene import FitPlan, SceneObjective
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.networks.base import NetworkSettings, SceneNetwork, residual
from torchspectral.unmixing.networks.losses import edge_loss, paired_angles, weighted_mean
from torchspectral.unmixing.networks.pixelwise import decoder_spectra

SCALES = (1, 2, 4)


class MultiScale(NamedTuple):
    """Abundances (n, k, y, x) and reconstruction (n, bands, y, x) at the three scales, finest first."""

    abundances1: torch.Tensor
    model1: torch.Tensor
    abundances2: torch.Tensor
    model2: torch.Tensor
    abundances3: torch.Tensor
    model3: torch.Tensor


class MSNetNetwork(nn.Module):
    """Three encoders, from coarse to fine, each of which sees the logits of the one before.

    Parameters
    ----------
    bands, k : int
        Bands and endmembers.
    dropout : float
        Share of values that training drops.
    """

    def __init__(self, bands: int, k: int, dropout: float = 0.2) -> None:
        super().__init__()
        self.layer1 = _encoder(bands + k, k, dropout)
        self.layer2 = _encoder(bands + k, k, dropout)
        self.layer3 = _encoder(bands, k, dropout)
        self.transconv = nn.Conv2d(k, k, 1)
        self.transconv2 = nn.Conv2d(bands, bands, 1)
        self.decoderlayer4 = nn.Conv2d(k, bands, 1, bias=False)
        self.decoderlayer5 = nn.Conv2d(k, bands, 1, bias=False)
        self.decoderlayer6 = nn.Conv2d(k, bands, 1, bias=False)

    def forward(self, image: torch.Tensor) -> MultiScale:
        """From an image (n, bands, y, x); coarser images are means of 2 x 2 and 4 x 4 pixels."""
        half, quarter = downscaled(image, 2), downscaled(image, 4)
        logits3 = self.layer3(quarter)
        logits2 = self.layer2(self._guided(half, logits3))
        logits1 = self.layer1(self._guided(image, logits2))
        a1, a2, a3 = (torch.softmax(logits, dim=1) for logits in (logits1, logits2, logits3))
        return MultiScale(a1, self.decoderlayer4(a1), a2, self.decoderlayer5(a2), a3, self.decoderlayer6(a3))

    def _guided(self, image: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
        wide = functional.interpolate(logits, size=image.shape[-2:], mode="bilinear", align_corners=False)
        return torch.cat([self.transconv2(image), self.transconv(wide)], dim=1)


def downscaled(image: torch.Tensor, factor: int) -> torch.Tensor:
    """Means of squares of pixels; what is left at the edge makes smaller ones."""
    return functional.avg_pool2d(image, factor, ceil_mode=True)


def _encoder(inputs: int, k: int, dropout: float) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, 96, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.BatchNorm2d(96),
        nn.Dropout(dropout),
        nn.Conv2d(96, 48, 3, padding=1),
        nn.LeakyReLU(0.2),
        nn.BatchNorm2d(48),
        nn.Dropout(dropout),
        nn.Conv2d(48, k, 3, padding=1),
    )


class MSNetSettings(NetworkSettings):
    """Settings of MSNet."""

    iterations: int = setting(800, "steps of Adam, each on the whole image", ge=1)
    learning_rate: float = setting(1e-3, "learning rate of Adam", gt=0)
    weight_decay: float = setting(1e-4, "weight decay", ge=0)
    decay: float = setting(0.6, "factor of the rate after every `decay_every` steps", gt=0, le=1)
    decay_every: int = setting(30, "steps between two cuts of the rate", ge=1)
    alpha: float = setting(0.1, "weight of the squared errors", ge=0)
    beta: float = setting(0.03, "weight of the edges' difference between scales", ge=0)
    dropout: float = setting(0.2, "share of values that training drops", ge=0, lt=1)


class MSNet(SceneNetwork):
    """MSNet: multi-stage convolutional autoencoder; what the coarse image says guides the fine one.

    The decoders of all scales start from VCA; the finest one's columns are the endmembers.

    References
    ----------
    Yu, Ma, Mei, Fan, Huang, Li, "Multi-stage convolutional autoencoder network for hyperspectral unmixing", Int. J. Applied
    Earth Observation and Geoinformation 113 (2022), doi 10.1016/j.jag.2022.102981.
    """

    Settings: ClassVar[type[Settings]] = MSNetSettings
    scope = Scope.SCENE
    name: ClassVar[str] = "msnet"
    network: ClassVar[type[nn.Module]] = MSNetNetwork
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {
        "bands": ("decoderlayer4.weight", 0),
        "k": ("decoderlayer4.weight", 1),
    }

    def prepare(self, info: SceneInfo) -> None:
        """As for all; the coarsest image needs more than one pixel."""
        super().prepare(info)
        if max(info.shape) <= SCALES[-1]:
            raise BadInput(
                f"got a scene of {info.shape[0]} x {info.shape[1]} pixels, expected more than {SCALES[-1]} on one side: "
                "msnet also looks at a quarter of the resolution"
            )

    def arguments(self, bands: int, k: int) -> dict[str, Any]:
        """Sizes."""
        return {"bands": bands, "k": k, "dropout": self.settings.dropout}

    def begin(self, network: Any, start: State) -> None:
        """All decoders from the endmembers."""
        for decoder in (network.decoderlayer4, network.decoderlayer5, network.decoderlayer6):
            decoder.weight.copy_(start["endmembers"].T[..., None, None])

    def objective(self, network: nn.Module, source: Source, start: State, seed: int) -> SceneObjective:
        """Angles, squared errors and edges at all scales."""
        return _Objective(network, next(iter(source.tiles())), self.settings)

    def plan(self, objective: SceneObjective) -> FitPlan:
        """Adam with a falling rate."""
        s = self.settings
        return FitPlan(
            s.iterations, s.learning_rate, weight_decay=s.weight_decay, decay=s.decay, decay_every=s.decay_every
        )

    def found(self, network: Any, source: Source, start: State, objective: SceneObjective | None) -> Mapping[str, Any]:
        """The finest decoder's columns."""
        return decoder_spectra(network.decoderlayer4.weight)

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Abundances and residual at the finest scale."""
        cube = tile["cube"]
        out = self.loaded(state, cube.shape[1], cube)(cube)
        return {"abundances": out.abundances1, "rmse": residual(cube, out.model1)}

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the layers of all scales with their gradients for `fit`, of one pass for `apply`."""
        pixels, k = size.rows * size.cols, self.known_k()
        layers = 5 * 96 + 5 * 48 + 8 * k + 6 * size.bands
        return {"fit": 4 * pixels * layers * 4, "apply": 4 * pixels * (2 * layers + k)}


class _Objective(SceneObjective):
    def __init__(self, network: nn.Module, tile: Tile, settings: MSNetSettings) -> None:
        self.network, self.settings = network, settings
        image = tile["cube"]
        self.images = [downscaled(image, factor) if factor > 1 else image for factor in SCALES]
        valid = tile.valid.to(image)
        hole = bool((valid < 1).any())
        # A coarse pixel counts by the share of it that is valid.
        self.weights = [downscaled(valid, factor) if factor > 1 else valid for factor in SCALES] if hole else [None] * 3

    def loss(self, step: int) -> torch.Tensor:
        s, out = self.settings, self.network(self.images[0])
        loss = out[0].new_zeros(())
        for image, model, weight in zip(self.images, out[1::2], self.weights, strict=True):
            loss = loss + weighted_mean(paired_angles(model, image, dim=1)[:, None], weight)
            loss = loss + s.alpha * weighted_mean((model - image).square(), weight)
        edges = edge_loss(out.abundances1, out.abundances2) + edge_loss(out.abundances2, out.abundances3)
        return loss + s.beta * edges
