"""Networks that see one pixel at a time: trained on pixels from all over the scene, applied to a scene of any size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import torch
from torch import nn

from torchspectral.engine.method import Scope, Size, Source, State, Tile
from torchspectral.learn.on_scene import SceneObjective
from torchspectral.learn.sampling import seed_of
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.networks.base import NetworkSettings, SceneNetwork, residual

CHUNK = 32_768
"""Pixels that pass the network at once."""


class PixelSettings(NetworkSettings):
    """Settings of the networks that see one pixel at a time."""

    pixels: int = setting(
        100_000, "pixels that the network learns from, evenly over the scene; scenes with fewer are used whole", ge=2
    )


class PixelNetwork(SceneNetwork):
    """Base of the networks that see one pixel at a time: memory is constant in the size of the scene."""

    Settings: ClassVar[type[Settings]] = PixelSettings
    scope = Scope.PIXEL

    def unmix(self, network: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Abundances (n, k) and reconstruction (n, bands) of pixels (n, bands)."""
        abundances, model = network(pixels)
        return abundances, model

    def pixels_of(self, source: Source) -> torch.Tensor:
        """What the network learns from, (n, bands)."""
        return source.sample(self.settings.pixels).T.contiguous()

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Abundances (n, k, y, x) and residual (n, 1, y, x)."""
        cube = tile["cube"]
        n, bands, rows, cols = cube.shape
        network = self.loaded(state, bands, cube)
        pixels = cube.movedim(1, -1).reshape(-1, bands)
        parts = [self._chunk(network, part) for part in pixels.split(CHUNK)]
        abundances, rmse = (
            torch.cat(found).reshape(n, rows, cols, -1).movedim(-1, 1) for found in zip(*parts, strict=True)
        )
        return {"abundances": abundances, "rmse": rmse}

    def _chunk(self, network: Any, pixels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        abundances, model = self.unmix(network, pixels)
        return abundances, residual(pixels, model)

    def memory(self, size: Size) -> dict[str, int]:
        """Bytes of the sample and the layers with their gradients for `fit`; of one chunk for `apply`."""
        pixels = size.rows * size.cols
        widest = self.widest(size.bands)
        sample = 3 * min(self.settings.pixels, pixels) * size.bands
        apply = 2 * pixels * (size.bands + self.known_k()) + min(CHUNK, pixels) * (widest + 2 * size.bands)
        return {"fit": 4 * (sample + 4 * self.batch_of(pixels) * widest), "apply": 4 * apply}

    def widest(self, bands: int) -> int:
        """Values a pixel that all layers hold together."""
        raise NotImplementedError

    def batch_of(self, count: int) -> int:
        """Pixels in a step, where so many are learned from."""
        raise NotImplementedError


class PixelObjective(SceneObjective):
    """Shuffled epochs of pixels, cut into batches of nearly equal size.

    Parameters
    ----------
    network : Module
    pixels : Tensor, shape (n, bands)
    batch : int
        Pixels in a step.
    seed : int
    """

    def __init__(self, network: nn.Module, pixels: torch.Tensor, batch: int, seed: int) -> None:
        self.network, self.pixels, self.seed = network, pixels, seed
        self.batches = max(1, len(pixels) // batch)
        self._epoch, self._order = -1, [torch.zeros(0)]

    def batch(self, step: int) -> torch.Tensor:
        """Pixels of a step, (n, bands)."""
        epoch, place = divmod(step, self.batches)
        if epoch != self._epoch:
            generator = torch.Generator().manual_seed(seed_of(self.seed, epoch, 1))
            order = torch.randperm(len(self.pixels), generator=generator)
            self._epoch, self._order = epoch, list(order.tensor_split(self.batches))
        return self.pixels[self._order[place].to(self.pixels.device)]


def chunks_of(pixels: torch.Tensor) -> Iterator[torch.Tensor]:
    """Pixels (n, bands) in parts that a network can take at once."""
    yield from pixels.split(CHUNK)


def decoder_spectra(weight: torch.Tensor) -> Mapping[str, torch.Tensor]:
    """The state's entry for the endmembers (k, bands) of a linear decoder (bands, k, ...)."""
    return {"endmembers": weight.detach().reshape(*weight.shape[:2], -1).mean(-1).T.to("cpu", torch.float64)}
