"""UnDIP and SUnCNN: abundances of given spectra, drawn by a network whose structure is the prior."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from torchspectral.engine.method import Input, Source, State
from torchspectral.errors import BadSettings
from torchspectral.learn.on_scene import SceneObjective
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.library.base import library_state
from torchspectral.unmixing.networks.losses import weighted_mean
from torchspectral.unmixing.networks.noise_fed import NoiseFed, NoiseFedSettings, NoiseObjective, SkipBody


class UnDIPNetwork(SkipBody):
    """UnDIP's network: abundances of `k` endmembers.

    Parameters
    ----------
    bands, k : int
    kernel : int
        Side of the larger convolutions, odd.
    """

    def __init__(self, bands: int, k: int, kernel: int = 3) -> None:
        super().__init__(bands, k, kernel)


class SUnCNNNetwork(SkipBody):
    """SUnCNN's network: abundances of the `k` spectra of a library.

    Parameters
    ----------
    bands, k : int
    kernel : int
        Side of the larger convolutions, odd.
    """

    def __init__(self, bands: int, k: int, kernel: int = 3) -> None:
        super().__init__(bands, k, kernel)


class UnDIPSettings(NoiseFedSettings):
    """Settings of UnDIP."""

    kernel: int = setting(3, "side of the larger convolutions, odd", unit="pixel", ge=1, le=15)


class SUnCNNSettings(UnDIPSettings):
    """Settings of SUnCNN."""

    iterations: int = setting(20_000, "steps of Adam", ge=1)


class UnDIP(NoiseFed):
    """UnDIP: abundances from a deep image prior, endmembers given or found by VCA beforehand and then fixed.

    References
    ----------
    Rasti, Koirala, Scheunders, Ghamisi, "UnDIP: hyperspectral unmixing using deep image prior", IEEE TGRS 60 (2022),
    doi 10.1109/TGRS.2021.3067802.
    """

    Settings: ClassVar[type[Settings]] = UnDIPSettings
    inputs: tuple[Input, ...] = (Input("cube"), Input("library", kind="spectra", optional=True))
    name: ClassVar[str] = "undip"
    network: ClassVar[type[nn.Module]] = UnDIPNetwork
    sizes: ClassVar[Mapping[str, tuple[str, int]]] = {"bands": ("layer1.1.weight", 1), "k": ("layer5.1.weight", 0)}
    smallest = 3

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        if self.settings.kernel % 2 == 0:
            raise BadSettings(f"got kernel={self.settings.kernel}, expected an odd side")
        # The half-size image must be larger than the border that is reflected onto it.
        self.smallest = 2 * (self.settings.kernel // 2) + 1

    def arguments(self, bands: int, k: int) -> dict[str, Any]:
        """Sizes."""
        return {"bands": bands, "k": k, "kernel": self.settings.kernel}

    @classmethod
    def settings_of(cls, weights: Mapping[str, Any]) -> dict[str, Any]:
        """Side of the convolutions."""
        first = weights.get("layer1.1.weight")
        return {} if first is None else {"kernel": int(first.shape[-1])}

    def start(self, source: Source, seed: int) -> State:
        """The library's spectra, else VCA's."""
        tile = next(iter(source.tiles()))
        if "library" not in tile:
            return super().start(source, seed)
        found = library_state(source, None)
        count = len(found["endmember_names"])
        if self.settings.k not in (None, count):
            raise BadSettings(f"got k={self.settings.k} and a library of {count} spectra, expected one of them")
        return found

    def start_from(self, weights: State, source: Source) -> State:
        """Spectra as ever, beside weights for as many."""
        _, k = self.sizes_of(weights, source.info.bands)
        found = self.start(source, 0)
        if len(found["endmember_names"]) != k:
            raise BadSettings(f"got weights for {k} spectra and {len(found['endmember_names'])} spectra")
        return found

    def objective(self, network: nn.Module, source: Source, start: State, seed: int) -> SceneObjective:
        """Mean squared error of the linear mixture."""
        return _Objective(network, source, seed, self.settings.average, start["endmembers"])

    def spectra(self, network: Any, start: State) -> torch.Tensor:
        """As given."""
        found: torch.Tensor = start["endmembers"]
        return found


class SUnCNN(UnDIP):
    """SUnCNN: sparse unmixing with a library; the network draws the abundances of all its spectra.

    References
    ----------
    Rasti, Koirala, "SUnCNN: sparse unmixing using unsupervised convolutional neural network", IEEE GRSL 19 (2022), doi
    10.1109/LGRS.2021.3100992.
    """

    Settings: ClassVar[type[Settings]] = SUnCNNSettings
    inputs: tuple[Input, ...] = (Input("cube"), Input("library", kind="spectra"))
    name: ClassVar[str] = "suncnn"
    network: ClassVar[type[nn.Module]] = SUnCNNNetwork


class _Objective(NoiseObjective):
    def __init__(self, network: nn.Module, source: Source, seed: int, keep: float, spectra: torch.Tensor) -> None:
        super().__init__(network, source, seed, keep)
        self.spectra = spectra.to(self.cube)

    def loss(self, step: int) -> torch.Tensor:
        maps = self.network(self.noise)
        self.note(maps)
        model = torch.einsum("kb,nkyx->nbyx", self.spectra, maps)
        return weighted_mean((model - self.cube).square(), self.weight)
