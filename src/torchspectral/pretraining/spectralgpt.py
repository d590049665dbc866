"""SpectralGPT: nine tenths of the tokens are hidden, tokens and spectra are drawn, images grow during the training."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from torchspectral.backbones.base import Backbone
from torchspectral.backbones.spectralgpt import SpectralGPT, SpectralGPTMAE, sentinel2_bands
from torchspectral.backbones.spectralgpt.mae import Reconstruction
from torchspectral.errors import BadSettings
from torchspectral.learn.recipe import Batch, TrainingSettings
from torchspectral.learn.runs import LAST, Run
from torchspectral.learn.schedules import warmed_up
from torchspectral.learn.views import View, make_view
from torchspectral.pretraining.base import PretrainingRecipe
from torchspectral.pretraining.settings import PretrainingTraining
from torchspectral.pretraining.views import FAR
from torchspectral.settings import setting
from torchspectral.weights import models
from torchspectral.weights.files import is_tensor, read_state
from torchspectral.weights.store import find

POSITIONS = ("pos_embed_spatial", "decoder_pos_embed_spatial")
"""Tables that belong to one image size."""


class SpectralGPTTraining(PretrainingTraining):
    """Settings of the published model: 200 epochs at 96 pixels, then 100 at 128; batches of 4096 there."""

    backbone: str = setting("spectralgpt-b", "encoder, see `torchspectral.create_model`")
    batch: int = setting(64, "patches in a step, over all devices", ge=1)
    sizes: tuple[int, ...] = setting(
        (96, 128),
        "side of the views in each stage, rising, the last that of the encoder's images; empty: one stage",
    )
    shares: tuple[float, ...] = setting((2 / 3, 1 / 3), "share of the steps of each stage")
    rates: tuple[float, ...] = setting((1.0, 0.5), "share of the learning rate at the top of each stage")
    positions: Literal["interpolate", "fresh"] = setting(
        "interpolate",
        "positions where the image size changes (between stages, and from `start`): interpolated, or drawn anew as published",
    )
    learning_rate: float = setting(2e-4, "learning rate of a batch of 256; it grows with the batch", gt=0)
    weight_decay: float = setting(0.05, "weight decay", ge=0)
    decay_vectors: bool = setting(False, "weight decay also of biases and normalisations")
    warm_up: float = setting(0.1, "share of the steps of each stage in which the learning rate rises", ge=0, lt=1)
    crop_least: float = setting(0.2, "least share of a patch's area that a view shows", gt=0, le=1)
    blur: float = setting(0.0, "share of the views that are blurred", ge=0, le=1)
    temporal: bool = setting(False, "not looked at: an image has one view")
    bands: int = setting(0, "bands that are evenly chosen of the data's; 0: all. A multiple of those of a token", ge=0)
    scaling: Literal["minmax", "mu2sigma"] = setting(
        "minmax", "views as 0..1: from least to largest value of each image and band, or two deviations about the mean"
    )
    mask_ratio: float = setting(0.9, "share of the tokens that is hidden", ge=0, lt=1)
    norm_pix: bool = setting(False, "standardise the target of each hidden token")
    decoder_dim: int = setting(512, "width of the decoder's tokens", ge=4)
    decoder_depth: int = setting(4, "blocks of the decoder", ge=1)
    decoder_heads: int = setting(16, "heads of the decoder", ge=1)


class SpectralGPTRecipe(PretrainingRecipe):
    """Masked tokens of bands and pixels, with both targets of the paper.

    The progressive schedule shows small views first. The published runs also changed the data between the stages: begin
    a run on other data with ``start`` at the run before, which takes over its decoder as well.

    References
    ----------
    Hong et al., "SpectralGPT: Spectral Remote Sensing Foundation Model", IEEE TPAMI 46(8) (2024), arXiv 2311.07113.
    """

    Settings: ClassVar[type[TrainingSettings]] = SpectralGPTTraining
    method: ClassVar[str] = "spectralgpt"
    families: ClassVar[tuple[str, ...]] = ("spectralgpt-b", "spectralgpt-l", "spectralgpt-h")
    uses: ClassVar[tuple[str, ...]] = ("valid",)
    unused: ClassVar[tuple[str, ...]] = ("temporal",)
    default_epochs: ClassVar[int] = 300

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        s = self.settings
        if s.sizes and not (len(s.sizes) == len(s.shares) == len(s.rates)):
            raise BadSettings(
                f"got {len(s.sizes)} sizes, {len(s.shares)} shares and {len(s.rates)} rates, expected one of each a stage"
            )
        if s.sizes and (min(s.shares) <= 0 or min(s.rates) <= 0 or abs(sum(s.shares) - 1) > 1e-6):
            raise BadSettings(f"got shares {s.shares} and rates {s.rates}, expected positive ones, shares of 1 in sum")
        if s.view and s.sizes and s.view != s.sizes[-1]:
            raise BadSettings(f"view={s.view} and sizes={s.sizes}, expected the last size, or view=0")
        if any(size % self.patch_size for size in (*s.sizes, self.view_size)) or sorted(s.sizes) != list(s.sizes):
            raise BadSettings(
                f"got views of {(*s.sizes, self.view_size)} pixels, expected rising multiples of {self.patch_size}, the side "
                "of a token"
            )

    # Stages

    @property
    def view_size(self) -> int:
        """Side of the images of the last stage [pixel]."""
        s = self.settings
        return int(s.view or (s.sizes[-1] if s.sizes else s.patch))

    @property
    def patch_size(self) -> int:
        """Pixels a side of a token."""
        return int(self.settings.network.get("patch_size", 8))

    def stage(self, step: int) -> tuple[int, int, int]:
        """Number of the stage of a step, its first step and the first of the next."""
        s = self.settings
        ends = np.round(np.cumsum(s.shares if s.sizes else (1.0,)) * s.steps).astype(int)
        ends[-1] = s.steps
        number = min(int(np.searchsorted(ends, step, side="right")), len(ends) - 1)
        return number, int(ends[number - 1]) if number else 0, int(ends[number])

    def size_at(self, step: int) -> int:
        """Side of the views of a step [pixel]."""
        s = self.settings
        return int(s.sizes[self.stage(step)[0]]) if s.sizes else self.view_size

    def rate(self, step: int) -> float:
        """Share of the learning rate: each stage warms up and falls on its own."""
        s = self.settings
        number, first, end = self.stage(step)
        top = s.rates[number] if s.sizes else 1.0
        if s.decay == "cosine":
            return float(top * warmed_up(step - first, end - first, s.warm_up, s.final_rate))
        return float(top * super().rate(step))

    def after_step(self, model: nn.Module, step: int) -> None:
        """Draw the tables of places anew where a stage begins and this is asked for."""
        if self.settings.positions == "fresh" and 0 < step < self.settings.steps and self.stage(step)[1] == step:
            draw_positions(model, step)

    def scheduled(self, step: int) -> dict[str, float]:
        """Side of the views."""
        return {**super().scheduled(step), "view_size": float(self.size_at(step))}

    # Data

    def check_bands(self) -> None:
        """Choose the bands, then hold them against the backbone.

        Raises
        ------
        BandMismatch, BadSettings, TooLarge
        """
        most, count = self.settings.bands, len(self.index)
        if most > count:
            raise BadSettings(f"bands={most}, but the data have {count}")
        if most:
            chosen = np.round(np.linspace(0, count - 1, most)).astype(np.int64)
            self.index, self.wavelength = self.index[chosen], self.wavelength[chosen]
            self.fwhm = self.fwhm[chosen] if self.fwhm.size else self.fwhm
        t = int(self.settings.network.get("spectral_patch", 3))
        if len(self.index) % t:
            raise BadSettings(
                f"got {len(self.index)} bands, expected a multiple of the {t} of a token: set bands="
                f"{len(self.index) // t * t}, which chooses them evenly"
            )
        size = min((*self.settings.sizes, self.view_size))
        tokens = len(self.index) // t * (size // self.patch_size) ** 2
        if int(tokens * (1 - self.settings.mask_ratio)) < 1:
            raise BadSettings(
                f"mask_ratio={self.settings.mask_ratio} of the {tokens} tokens of a view of {size} pixels leaves none to "
                "see: choose larger views, smaller tokens or a lower ratio"
            )
        super().check_bands()

    def store_settings(self) -> dict[str, Any]:
        """Chosen bands as well."""
        return {**super().store_settings(), "bands": self.settings.bands}

    def draws(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Noise of the tokens: those of least noise are seen."""
        t = int(self.settings.network.get("spectral_patch", 3))
        tokens = len(self.index) // t * (self.view_size // self.patch_size) ** 2
        return {"noise": rng.random(tokens, dtype=np.float32)}

    # Network

    def constructor(self) -> dict[str, Any]:
        """Bands and wavelengths of the data, and how scenes are scaled."""
        made = {**super().constructor(), "scaling": self.settings.scaling, "pool_all": True, **self.settings.network}
        known = self.wavelength.size and bool(np.isfinite(self.wavelength).all())
        if known and not self._sentinel2():
            made.setdefault("wavelengths", [float(w) for w in self.wavelength])
        return made

    def _sentinel2(self) -> bool:
        """Whether the bands are the twelve of Sentinel-2, which published files know."""
        twelve = np.asarray(sentinel2_bands().wavelengths)
        return len(self.wavelength) == len(twelve) and bool((np.abs(self.wavelength - twelve) <= FAR).all())

    def network(self, backbone: Backbone) -> nn.Module:
        """The encoder with a decoder; both from `start` where it has them."""
        s = self.settings
        made = SpectralGPTMAE(
            s.mask_ratio, s.norm_pix, s.decoder_dim, s.decoder_depth, s.decoder_heads,
            **{**models()[s.backbone].defaults, **self.constructor()},
        )  # fmt: skip
        if s.checkpointing:
            made.set_grad_checkpointing()
        return made

    def build(self) -> nn.Module:
        """A fresh network, or that of a run, file or name."""
        with torch.device("meta"):
            sized = self.backbone()
        made = self.network(sized)
        if self.settings.start:
            self.fill_from(made, self.settings.start)
        return made

    def fill_from(self, network: nn.Module, start: str) -> None:
        """Fill a network from a run (encoder and decoder), a published file, or weights by name (encoder).

        Raises
        ------
        BadWeights, MissingWeights, ProductNotFound
        """
        assert isinstance(network, SpectralGPTMAE)
        found = Run(start).load_checkpoint(LAST) if Path(start).expanduser().is_dir() else None
        state = read_state(find(start)) if found is None else found["model"]
        state = {key: value for key, value in state.items() if is_tensor(value)}
        if not any("decoder" in key for key in state):  # an encoder alone: the decoder stays fresh
            own = network.state_dict()
            state |= {key: own[key] for key in own if key.startswith("decoder") or key == "mask_token"}
        network.load_matched(state, where=start)
        if self.settings.positions == "fresh" and _sides(state) != network.side:
            draw_positions(network, 0)

    def encoder(self, network: nn.Module) -> Backbone:
        """The autoencoder is an encoder, too."""
        assert isinstance(network, SpectralGPT)
        return network

    # Loss

    def reconstruct(self, model: nn.Module, batch: Batch) -> Reconstruction:
        """One pass over the views of a batch, at the size of the stage; validation is at the last stage's."""
        size = self.size_at(self.done) if model.training else self.view_size
        view = self.views(batch, size)[0]
        tokens = self.encoder(model).groups * (size // self.patch_size) ** 2  # type: ignore[operator]
        return model(self.inputs(self.encoder(model), view), noise=batch["noise"][:, :tokens])

    def views(self, batch: Batch, size: int = 0) -> list[View]:
        """The view of each image, `size` pixels a side."""
        plan = self.plan(size=size or self.view_size)
        return [make_view(batch["image"], batch["draws"][:, 0], plan, batch.get("valid"))]

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Error of the hidden tokens and of the sums over bands."""
        return self.reconstruct(model, batch).loss

    def validate(self, model: nn.Module, batch: Batch) -> dict[str, float]:
        """Both terms of the loss."""
        got = self.reconstruct(model, batch)
        return {"loss": float(got.loss), "tokens": float(got.token_loss), "spectra": float(got.spectral_loss)}

    def optimiser(self, parameters: Any) -> torch.optim.Optimizer:
        """AdamW with the betas of masked autoencoders; the rate grows with the batch."""
        s = self.settings
        return torch.optim.AdamW(self.groups(parameters), lr=s.learning_rate * s.batch / 256, betas=(0.9, 0.95))

    def card(self) -> dict[str, Any]:
        """How the encoder saw its images."""
        found = super().card()
        words = {
            "minmax": "each image and band from its least to its largest value",
            "mu2sigma": "mean +- 2 deviations",
        }
        chosen = f"; {len(self.index)} bands chosen evenly" if self.settings.bands else ""
        return {
            **found,
            "preprocessing": f"{self.quantity}, {words[self.settings.scaling]} as 0..1; nodata at the band's mean{chosen}; "
            f"pretrained by {self.method}",
        }


def draw_positions(network: nn.Module, seed: int) -> None:
    """Draw the tables of places anew, as where the published runs change the image size; the same for the same seed."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name in POSITIONS:
            table: torch.Tensor = getattr(network, name)
            fresh = torch.empty(table.shape)
            nn.init.trunc_normal_(fresh, std=0.02, generator=generator)
            table.copy_(fresh.to(table))


def _sides(state: dict[str, Any]) -> int:
    table = next((value for key, value in state.items() if key.endswith("pos_embed_spatial")), None)
    return 0 if table is None else round(table.shape[1] ** 0.5)
