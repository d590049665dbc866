"""Masked autoencoders as SpectralEarth trains them: from a tenth of a patch's tokens, all bands of the others."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import nn

from torchspectral.backbones.base import Backbone
from torchspectral.backbones.spectralearth.mae import SpecMAE, patchify, take_tokens
from torchspectral.errors import BadSettings
from torchspectral.learn.losses.mae import masked_error
from torchspectral.learn.recipe import Batch, TrainingSettings
from torchspectral.pretraining.base import PretrainingRecipe
from torchspectral.pretraining.settings import PretrainingTraining
from torchspectral.settings import setting
from torchspectral.weights import create_model


class MAETraining(PretrainingTraining):
    """Settings of SpectralEarth's masked autoencoder; shares of the steps are those of its 200 epochs."""

    learning_rate: float = setting(1e-4, "learning rate", gt=0)
    weight_decay: float = setting(0.01, "weight decay (the optimiser's usual one: none is published)", ge=0)
    crop_least: float = setting(0.4, "least share of a patch's area that a view shows", gt=0, le=1)
    temporal: bool = setting(False, "not looked at: an image has one view")
    blur: float = setting(0.0, "share of the views that are blurred", ge=0, le=1)
    mask: float = setting(0.9, "share of the tokens that the encoder does not see", gt=0, lt=1)
    decoder_dim: int = setting(512, "width of the decoder", ge=1)
    decoder_depth: int = setting(1, "blocks of the decoder", ge=1)
    decoder_heads: int = setting(16, "attention heads of the decoder", ge=1)
    normalised: bool = setting(True, "targets are brought to mean 0 and deviation 1 in each token")
    adapter_sees: Literal["all", "visible"] = setting(
        "all", "pixels that the adapter works on in training; visible: only those of the tokens that are seen"
    )


class MAERecipe(PretrainingRecipe):
    """Masked autoencoder; the loss leaves nodata out.

    References
    ----------
    He et al., "Masked autoencoders are scalable vision learners", CVPR (2022); Braham et al., "SpectralEarth", IEEE
    JSTARS (2025).
    """

    Settings: ClassVar[type[TrainingSettings]] = MAETraining
    method: ClassVar[str] = "spectralearth-mae"
    families: ClassVar[tuple[str, ...]] = ("spec-vit-",)
    uses: ClassVar[tuple[str, ...]] = ("valid", "label")
    unused: ClassVar[tuple[str, ...]] = ("temporal",)
    default_epochs: ClassVar[int] = 200

    def build(self) -> nn.Module:
        """Encoder and decoder; the encoder fresh or from `start`."""
        s = self.settings
        made: Any = create_model(
            s.backbone.replace("spec-vit-", "spec-mae-"),
            **self.constructor(),
            bands=len(self.index),
            mask_ratio=s.mask,
            decoder_dim=s.decoder_dim,
            decoder_depth=s.decoder_depth,
            decoder_heads=s.decoder_heads,
            adapter_sees=s.adapter_sees,
        )
        if made.kept < 2:
            raise BadSettings(
                f"mask={s.mask} of {self.tokens} tokens leaves none to see: choose larger views, smaller tokens or a lower mask"
            )
        self.begin_from(made.encoder)
        if s.checkpointing:
            made.set_grad_checkpointing()
        return made  # type: ignore[no-any-return]

    def encoder(self, network: nn.Module) -> Backbone:
        """The encoder, without the decoder."""
        found: Any = network.encoder
        return found  # type: ignore[no-any-return]

    def draws(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """The noise that decides which tokens are masked."""
        return {"noise": rng.random(1 + self.tokens, dtype=np.float32)}

    @property
    def tokens(self) -> int:
        """Tokens of a view, without the class token."""
        if not self._tokens:
            with torch.device("meta"):
                self._tokens = (self.view_size // self.backbone().stride) ** 2
        return self._tokens

    _tokens = 0

    def loss(self, model: nn.Module, batch: Batch) -> torch.Tensor:
        """Mean squared error over the masked tokens."""
        network: SpecMAE = model  # type: ignore[assignment]
        view = self.views(batch)[0]
        made = network(self.inputs(network.encoder, view), batch["noise"])
        valid = None
        if view.seen is not None:
            seen = patchify(view.seen.expand(-1, len(self.index), -1, -1), network.patch_size)
            valid = take_tokens(seen, made.masked - 1)
        return masked_error(made.predicted, made.target, normalised=self.settings.normalised, valid=valid)
