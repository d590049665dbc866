"""CNNAEU: a convolutional autoencoder on patches, whose decoder's kernels are the endmembers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from torch import nn

from torchspectral.engine.method import Scope, Size, Source, State, Tile
from torchspectral.errors import BadSettings
from torchspectral.learn.on_scene import FitPlan, SceneObjective
from torchspectral.ops.vca import check_span
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.counting import check_sums
from torchspectral.unmixing.networks.base import NetworkSettings, SceneNetwork, residual
from torchspectral.unmixing.networks.losses import paired_angles
from torchspectral.unmixing.vca_fcls import endmember_names

KERNEL = 11
REACH = 1 + KERNEL // 2
"""Pixels that encoder and decoder look over an edge."""


class CNNAEUNetwork(nn.Module):
    """Encoder of two layers and a decoder of one, all with reflected borders.

    Parameters
    ----------
    bands, k : int
        Bands and endmembers.
    scale : float
        Factor before the softmax: the larger, the purer the pixels.
    dropout : float
        Share of the channels that training drops.
    """

    def __init__(self, bands: int, k: int, scale: float = 3.0, dropout: float = 0.2) -> None:
        super().__init__()
        self.scale = scale
        same: dict[str, Any] = {"padding": "same", "padding_mode": "reflect", "bias": False}
        self.encoder = nn.Sequential(
            nn.Conv2d(bands, 48, 3, **same),
            nn.LeakyReLU(0.02),
            nn.BatchNorm2d(48),
            nn.Dropout2d(dropout),
            nn.Conv2d(48, k, 1, bias=False),
            nn.LeakyReLU(0.02),
            nn.BatchNorm2d(k),
            nn.Dropout2d(dropout),
        )
        self.decoder = nn.Conv2d(k, bands, KERNEL, **same)

    def forward(self, image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Abundances (n, k, y, x) and reconstruction of an image (n, bands, y, x) of at least 6 pixels a side."""
        abundances = torch.softmax(self.scale * self.encoder(image), dim=1)
        return abundances, self.decoder(abundances)


class CNNAEUSettings(NetworkSettings):
    """Settings of CNNAEU."""

    epochs: int = setting(320, "passes over as many patches", ge=1)
    learning_rate: float = setting(3e-4, "learning rate of RMSprop", gt=0)
    patch: int = setting(40, "side of a patch", unit="pixel", ge=6)
    batch: int = setting(15, "patches in a step", ge=1)
    patches: int = setting(
        0, "patches in an epoch; 0: 250 for 307 x 307 pixels of 162 bands, in proportion, one batch at least", ge=0
    )
    scale: float = setting(3.0, "factor before the softmax", gt=0)
    dropout: float = setting(0.2, "share of the channels that training drops", ge=0, lt=1)
    compat: Literal["", "authors-code"] = setting(
        "",
        "'authors-code': kernels may become negative, few patches on small scenes, endmembers are means of the kernels "
        "and have no scale",
    )


class CNNAEU(SceneNetwork):
    """CNNAEU: convolutional autoencoder for unmixing; the loss is the spectral angle.

    Endmembers are the decoder's kernels, summed over their places and kept non-negative. The loss sees angles only, so
    their common scale is the one that explains the scene best in the least-squares sense. Each step draws new patches.

    References
    ----------
    Palsson, Ulfarsson, Sveinsson, "Convolutional autoencoder for spectral-spatial hyperspectral unmixing", IEEE TGRS
    59(1) (2021), doi 10.1109/TGRS.2020.2992743.
    """

    Settings: ClassVar[type[Settings]] = CNNAEUSettings
    scope = Scope.LOCAL
    name: ClassVar[str] = "cnnaeu"
    network: ClassVar[type[nn.Module]] = CNNAEUNetwork
    halo = REACH
    smallest = REACH

    def arguments(self, bands: int, k: int) -> dict[str, Any]:
        """Sizes and the softmax's factor."""
        s = self.settings
        return {"bands": bands, "k": k, "scale": s.scale, "dropout": s.dropout}

    def start(self, source: Source, seed: int) -> State:
        """Only the number: the network starts from chance."""
        if isinstance(self.settings.k, int):
            gram = source.gram()
            check_sums(gram)
            check_span(gram.n, gram.total.cpu(), gram.cross.cpu(), self.settings.k)
            return {"k": self.settings.k, "endmember_names": endmember_names(self.settings.k)}
        found = super().start(source, seed)
        return {key: found[key] for key in ("k", "counts", "endmember_names")}

    def objective(self, network: nn.Module, source: Source, start: State, seed: int) -> SceneObjective:
        """Mean spectral angle of patches."""
        return _Objective(network, source, self.settings)

    def plan(self, objective: Any) -> FitPlan:
        """RMSprop at a constant rate."""
        s = self.settings
        return FitPlan(s.epochs * objective.batches, s.learning_rate, optimiser="rmsprop")

    def found(self, network: Any, source: Source, start: State, objective: SceneObjective | None) -> Mapping[str, Any]:
        """Endmembers, and the factor that brings reconstructions to the scene's scale."""
        weight = network.decoder.weight.to("cpu", torch.float64)
        if self.settings.compat:
            return {"endmembers": weight.mean((-2, -1)).T, "factor": 1.0}
        size = min(self.settings.patch, *source.info.shape)
        image = source.patches(self.settings.batch, size)["cube"]
        model = network(image)[1]
        factor = float(
            (model * image).sum(dtype=torch.float64) / model.square().sum(dtype=torch.float64).clamp_min(1e-30)
        )
        return {"endmembers": factor * weight.sum((-2, -1)).T, "factor": factor}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Abundances and residual of the core."""
        cube = tile["cube"]
        abundances, model = self.loaded(state, cube.shape[1], cube)(cube)
        rmse = residual(cube, float(state["factor"]) * model)
        return {"abundances": tile.core(abundances), "rmse": tile.core(rmse)}

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of a batch of patches with its layers for `fit`, of one pass for `apply`."""
        pixels, k = size.rows * size.cols, self.known_k()
        batch = self.settings.batch * self.settings.patch**2
        each = 4 * size.bands + 6 * 48 + 8 * k
        weights = 4 * KERNEL**2 * k * size.bands
        return {"fit": 4 * (3 * batch * each + weights), "apply": 4 * (pixels * each + weights)}


class _Objective(SceneObjective):
    def __init__(self, network: Any, source: Source, settings: CNNAEUSettings) -> None:
        rows, cols = source.info.shape
        if settings.patch > min(rows, cols):
            raise BadSettings(
                f"patches of {settings.patch} x {settings.patch} pixels do not fit into a scene of {rows} x {cols}: set "
                f"patch={min(rows, cols)} or less"
            )
        self.network, self.source, self.settings = network, source, settings
        count = settings.patches or int(250 * rows * cols * source.info.bands / (307 * 307 * 162))
        least = 1 if settings.compat else settings.batch
        self.batches = -(-max(count, least) // settings.batch)

    def loss(self, step: int) -> torch.Tensor:
        image = self.source.patches(self.settings.batch, self.settings.patch)["cube"]
        _, model = self.network(image)
        return paired_angles(model, image, dim=1).mean()

    @torch.no_grad()
    def after(self, step: int) -> None:
        if not self.settings.compat:
            self.network.decoder.weight.clamp_(min=0)
