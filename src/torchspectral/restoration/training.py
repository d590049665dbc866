"""Training of the restoration networks: the recipe of each family.

References
----------
Lai, Yan, Fu, "Hybrid spectral denoising transformer with guided attention", ICCV 2023. Lai, Fu, "Mixed attention
network for hyperspectral image denoising", arXiv 2301.11525 (2023). Wu et al., "MP-HSIR: a multi-prompt framework for
universal hyperspectral image restoration", arXiv 2503.09131 (2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch

from torchspectral.errors import BadSettings, UnknownName, closest
from torchspectral.learn.recipe import Recipe, TrainingSettings
from torchspectral.restoration.degrading_recipe import Rates, RestorationRecipe, RestorationTraining
from torchspectral.restoration.mp_hsir.predictor_training import NaturalPredictorRecipe, PredictorRecipe
from torchspectral.restoration.mp_hsir.tasks import NATURAL
from torchspectral.restoration.mp_hsir.training import MPHSIRRecipe
from torchspectral.restoration.volumes import initialise
from torchspectral.settings import setting

MAN_GAUSSIAN: Rates = (
    (0, 1e-3), (1, 5e-4), (20, 1e-4), (30, 5e-4), (45, 1e-4), (55, 5e-5), (60, 1e-5), (65, 5e-6), (75, 1e-6), (80, 1e-6),
)  # fmt: skip
MAN_COMPLEX: Rates = ((0, 5e-4), (5, 5e-5), (10, 1e-5), (15, 5e-6), (20, 1e-6), (30, 1e-6))


class VolumeTraining(RestorationTraining):
    """Settings of the training of HSDT and MAN."""

    init: Literal["paper", "xavier", "kaiming", "none"] = setting(
        "paper",
        "first weights of convolutions: paper, xavier for HSDT and kaiming (by outputs) for MAN; or one of them for either. "
        "Biases are then zero and linear layers next to nothing; none: as the network is built",
    )


class VolumeRecipe(RestorationRecipe):
    """A network on volumes with the first weights of the authors' training code."""

    Settings: ClassVar[type[TrainingSettings]] = VolumeTraining
    init: ClassVar[Literal["xavier", "kaiming"]] = "xavier"

    def fresh(self) -> torch.nn.Module:
        """The network with fresh weights."""
        network, kind = super().fresh(), self.settings.init
        if kind != "none":
            initialise(network, self.init if kind == "paper" else kind)
        return network


class HSDTRecipe(VolumeRecipe):
    """HSDT: mean squared error; guided attention or self-similarity is drawn by the network at each step."""

    fixed_bands: ClassVar[bool] = True


class HSDTPnPRecipe(HSDTRecipe):
    """HSDT with a map of the noise level as second channel; white noise only."""

    def __init__(self, settings: TrainingSettings | None = None) -> None:
        super().__init__(settings)
        if any(not name.startswith("gaussian:") for name in self.names):
            raise BadSettings(
                f"got noise={self.settings.noise}, expected gaussian:..., whose level the network is told"
            )

    def restored(
        self, model: torch.nn.Module, noisy: torch.Tensor, tasks: list[int], facts: list[dict[str, Any]]
    ) -> torch.Tensor:
        """The network's output, told the level of each sample."""
        level = noisy.new_tensor([one["sigma"] / 255 for one in facts])
        out: torch.Tensor = model(torch.stack([noisy, level[:, None, None, None].expand_as(noisy)], 1))[:, 0]
        return out


class MANRecipe(VolumeRecipe):
    """MAN, both versions: mean squared error, any number of bands."""

    init: ClassVar[Literal["xavier", "kaiming"]] = "kaiming"
    gaussian: ClassVar[Rates] = MAN_GAUSSIAN
    complex: ClassVar[Rates] = MAN_COMPLEX


def _families() -> dict[str, type[RestorationRecipe]]:
    """Recipe of every network of the room that is trained so."""
    from torchspectral.weights.networks import models

    found: dict[str, type[RestorationRecipe]] = {}
    for name in models():
        if name.startswith("hsdt-") and name not in ("hsdt-ssr", "hsdt-pnp"):
            found[name] = HSDTRecipe
        elif name == "hsdt-pnp":
            found[name] = HSDTPnPRecipe
        elif name.startswith("man-"):
            found[name] = MANRecipe
        elif name.startswith("mp-hsir-predictor"):
            found[name] = NaturalPredictorRecipe if name.endswith("natural") else PredictorRecipe
        elif name.startswith("mp-hsir"):
            found[name] = MPHSIRRecipe
    return found


def recipe(method: str, settings: Mapping[str, Any] | None = None) -> Recipe:
    """Recipe of a network of this room: hsdt-m, man-s, mp-hsir-natural, ...; mp-hsir is that for remote sensing.

    Raises
    ------
    UnknownName
        The method is not trained.
    BadSettings
    """
    known = _families()
    base = known.get(method)
    if base is None:
        raise UnknownName(f"no training for method {method!r} in restoration: {closest(method, tuple(known))}")
    more: dict[str, Any] = {"method": method, "model": method}
    if method == "mp-hsir-natural":
        more["tasks"] = NATURAL
    named: type[RestorationRecipe] = type(base.__name__, (base,), more)
    return named(named.Settings.make(dict(settings or {})))
