"""What pretraining is: an encoder learns from views of patches, and the encoder alone is kept.

A recipe says which views it wants (`plans`), which network it trains (`network`) and what its loss is. Bands, statistics
and views are `ViewRecipe`'s; here are the network, its export with a card, the optimiser and the schedules.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch

from torchspectral.backbones.base import Backbone
from torchspectral.learn.recipe import TrainingSettings
from torchspectral.learn.schedules import cosine, stepped, warmed_up
from torchspectral.pretraining.views import ViewRecipe

DROPS = (0.6, 0.8)
"""Shares of the steps after which ``decay=steps`` takes a tenth of the rate."""


class PretrainingRecipe(ViewRecipe):
    """Base of the recipes of this room.

    Subclasses set the class attributes and write `plans`, `network`, `loss` and, where the trained network is more than
    ``network.backbone``, `encoder`.

    Attributes
    ----------
    done : int
        Optimiser steps that are done.
    """

    exports: ClassVar[str] = "last"
    default_epochs: ClassVar[int] = 100
    sync_norm: bool = True

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        self.done = 0

    @property
    def open_ended(self) -> bool:
        """Never: rates, averages and masks stretch with the number of steps."""
        return False

    # Network and weights

    def network(self, backbone: Backbone) -> torch.nn.Module:
        """What is trained, with the encoder in it; every tensor that the next step depends on is in its state."""
        raise NotImplementedError

    def model_arguments(self) -> dict[str, Any]:
        """Arguments of the encoder."""
        return self.constructor()

    def exported_as(self) -> tuple[str, dict[str, Any]]:
        """The encoder's name and arguments."""
        return self.settings.backbone, self.constructor()

    def build(self) -> torch.nn.Module:
        """The whole network, its encoder fresh or from `start`."""
        backbone = self.backbone()
        self.begin_from(backbone)
        if self.settings.checkpointing:
            backbone.set_grad_checkpointing()
        return self.network(backbone)

    def begin_from(self, backbone: Backbone) -> None:
        """Load the weights of the setting `start` into the encoder, where it names any."""
        if self.settings.start:
            from torchspectral.weights import load

            load(self.settings.start, model=backbone)

    def exported(self, network: torch.nn.Module) -> torch.nn.Module:
        """A plain encoder with the weights of the trained one."""
        plain = self.backbone()
        state = self.encoder(network).state_dict()
        plain.load_state_dict({key: state[key] for key in plain.state_dict()})
        return plain

    def card(self) -> dict[str, Any]:
        """Bands, statistics and quantity of the training patches."""
        known = bool(self.wavelength.size and np.isfinite(self.wavelength).all())
        widths = known and self.fwhm.size == self.wavelength.size and bool(np.isfinite(self.fwhm).all())
        return {
            "quantity": self.quantity,
            "wavelengths": [float(w) for w in self.wavelength] if known else "any",
            "fwhm": [float(w) for w in self.fwhm] if widths else None,
            "scale": {"rule": "fixed", "gain": 1.0, "offset": 0.0},
            "mean": [float(v) for v in self.mean],
            "std": [float(v) for v in self.std],
            "values": self.values,
            "preprocessing": f"{self.quantity}, (x - mean) / std a band, statistics of the training patches; nodata at the "
            f"mean; pretrained by {self.method}",
        }

    def advice(self, folder: Path) -> list[str]:
        """Whether views were of two dates; and how to use the encoder."""
        next_step = f"next: torchspectral embed SCENE --weights {shlex.quote(str(folder))} -o embeddings.tif"
        return [*([self.one_date] if self.one_date else []), next_step]

    # Optimiser and schedules

    @property
    def share_done(self) -> float:
        """Share of the steps that are done, 0..1."""
        return self.share(self.done)

    def share(self, step: int) -> float:
        """Share of the steps that are done at a step, 0..1; the last step's is 1."""
        return min(step / max(self.settings.steps - 1, 1), 1.0)

    def begin_step(self, step: int) -> None:
        """Remember where the training stands."""
        self.done = step

    def groups(self, parameters: Iterable[Any]) -> list[dict[str, Any]]:
        """Parameters with and without weight decay."""
        listed, s = list(parameters), self.settings
        bare = [] if s.decay_vectors else [p for p in listed if p.ndim <= 1]
        kept = {id(p) for p in bare}
        made = [{"params": [p for p in listed if id(p) not in kept], "weight_decay": s.weight_decay, "decays": True}]
        return [*made, {"params": bare, "weight_decay": 0.0, "decays": False}] if bare else made

    def optimiser(self, parameters: Iterable[Any]) -> torch.optim.Optimizer:
        """AdamW."""
        return torch.optim.AdamW(self.groups(parameters), lr=self.settings.learning_rate)

    def schedule(self, optimiser: torch.optim.Optimizer) -> torch.optim.lr_scheduler.LRScheduler:
        """Warm-up, then what the setting `decay` says."""
        return torch.optim.lr_scheduler.LambdaLR(optimiser, self.rate)

    def rate(self, step: int) -> float:
        """Share of the learning rate at a step."""
        s = self.settings
        if s.decay == "cosine":
            return warmed_up(step, s.steps, s.warm_up, s.final_rate)
        rising = warmed_up(step, s.steps, s.warm_up, 1.0)
        return rising * (stepped(step / s.steps, DROPS) if s.decay == "steps" else 1.0)

    def weight_decay(self, step: int) -> float:
        """Weight decay at a step."""
        s = self.settings
        return (
            s.weight_decay
            if s.final_weight_decay < 0
            else cosine(s.weight_decay, s.final_weight_decay, self.share(step))
        )

    def before_update(self, model: torch.nn.Module, optimiser: torch.optim.Optimizer, step: int) -> None:
        """Set the weight decay of the step."""
        for group in optimiser.param_groups:
            if group.get("decays"):
                group["weight_decay"] = self.weight_decay(step)

    def scheduled(self, step: int) -> dict[str, float]:
        """The weight decay, where it changes."""
        return {"weight_decay": self.weight_decay(step)} if self.settings.final_weight_decay >= 0 else {}
