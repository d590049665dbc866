"""What the methods have in common that draw a prior of the scene and correct it with a trained network."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar, Literal

import torch

from torchspectral.engine.method import Round, SceneInfo, Scope, Size, Source, State, Tile
from torchspectral.ops.mtf import HS_GAIN
from torchspectral.settings import Settings, setting
from torchspectral.sharpening.deep.prior_fit import PriorPlan, PriorScene, draw_prior, fit_prior
from torchspectral.sharpening.deep.trained import GainSettings, Loaded, TrainedNetwork
from torchspectral.sharpening.upsampled import Upsampled

DEEP_PRIOR = "the network corrects a deep prior"
INTERPOLATED_PRIOR = "the network corrects the interpolated image, not a deep prior"
"""What the card of weights says of the prior that they were trained behind."""


class PriorSettings(GainSettings):
    """Settings that both methods with a deep prior share."""

    prior: Literal["auto", "deep", "interpolated"] = setting(
        "auto",
        "what the network corrects: the deep prior, fitted on the scene; the interpolated image; auto: what the weights "
        "were trained behind, the deep prior where they do not say",
    )
    iterations: int = setting(1500, "optimiser steps of the prior, on each scene", ge=1)
    learning_rate: float = setting(1e-3, "learning rate of the prior", gt=0)
    channels: int = setting(128, "channels of the prior's network", ge=1)
    clip: bool = setting(True, "keep prior and result within 0..1 of the working scale, as the authors do")


class PriorNetwork(TrainedNetwork):
    """Base: `fit` draws a prior of this very scene, `apply` corrects it with the trained network.

    The prior's network sees the whole scene at once, at the PAN's resolution: a scene that does not fit into memory is
    refused beforehand.
    """

    Settings: ClassVar[type[Settings]] = PriorSettings
    scope = Scope.SCENE
    starts_from_state = True

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        self.known_mtf = HS_GAIN

    def prepare(self, info: SceneInfo) -> None:
        """Note the sensor's MTF."""
        super().prepare(info)
        known = float(info.mtf.get("cube", 0.0) or 0.0)
        self.known_mtf = known if 0 < known < 1 else HS_GAIN

    def plan(self) -> PriorPlan:
        """How the prior is fitted."""
        raise NotImplementedError

    def fit(self, source: Source, seed: int, state: State | None) -> Iterator[Round]:
        """Fit the prior, beside the weights; a round is a few iterations."""
        found = dict(state or {})
        self.arguments(found)
        if self.settings.prior != "interpolated" and not found.get("prior.done"):
            tile = next(iter(source.tiles()))
            Loaded(self, found, tile["cube"])  # weights that do not fit are refused before the work, not after it
            scene = PriorScene(tile["cube"], tile["pan"], tile.valid.to(tile["cube"]))
            for fraction in fit_prior(self.plan(), scene, seed, found):
                yield dict(found), fraction
        yield found, 1.0

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Draw the prior and correct it."""
        cube = tile["cube"]
        network = Loaded(self, state, cube)
        if self.settings.prior == "interpolated":
            prior = Upsampled(tile, "symmetric").image()
        else:
            prior = draw_prior(self.plan(), state, tile["pan"], cube.shape[1])
        with torch.no_grad():
            out = self.correct(network, tile["pan"], self.clipped(prior))
        return {"cube": self.clipped(out)}

    def correct(self, network: Loaded, pan: torch.Tensor, prior: torch.Tensor) -> torch.Tensor:
        """Sharp image from the prior."""
        return network(pan, prior)

    def clipped(self, image: torch.Tensor) -> torch.Tensor:
        """Within 0..1 where the settings say so."""
        return image.clamp(0, 1) if self.settings.clip else image

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the prior's layers with their gradients for `fit`; of one pass and the correction for `apply`."""
        pixels = size.rows * size.cols * size.zoom**2
        c = self.settings.channels
        fit = 0 if self.settings.prior == "interpolated" else 4 * pixels * (12 * c + 6 * size.bands)
        return {"fit": fit, "apply": 4 * pixels * (5 * c + 5 * size.bands + 400)}

    def figures(self, state: State) -> dict[str, Any]:
        """Number of weights, and losses of the prior on the way."""
        return {**super().figures(state), "prior losses": list(state.get("prior.losses", []))}
