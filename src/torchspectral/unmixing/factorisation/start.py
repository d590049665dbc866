"""Where a factorisation starts: endmembers by VCA on channels that can be trusted, abundances by FCLS; or at random."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from torchspectral.engine.method import Gram, SceneInfo, Source, State, Tile
from torchspectral.errors import BadInput
from torchspectral.ops.fcls import AbundanceSolver
from torchspectral.ops.noise import hysime
from torchspectral.unmixing.factorisation.channels import clean_channels, live_channels
from torchspectral.unmixing.vca_fcls import VcaSettings, find_endmembers

LOWEST = 1e-6
"""Start endmembers are at least this: a zero would stay zero in multiplicative updates."""


@dataclass(frozen=True)
class Start:
    """Start of a factorisation and the facts of the scene that all steps need.

    Attributes
    ----------
    m : Tensor, shape (bands, k)
        Start endmembers in the working scale.
    clean : Tensor of bool, shape (bands,)
        Channels that the start abundances are solved on.
    live : Tensor of bool, shape (bands,)
    peak : float
        Largest value of the clean channels: what the working scale calls 1.
    equal : bool
        Whether start abundances are equal shares instead of FCLS.
    mean : Tensor, shape (bands,)
        Of the scene, working scale.
    lift : float
        Start abundances are at least this.
    negative : int
        Values below 0 that were raised to 0.
    """

    m: torch.Tensor
    clean: torch.Tensor
    live: torch.Tensor
    peak: float
    equal: bool
    mean: torch.Tensor
    lift: float = 0.0
    negative: int = 0
    figures: tuple[tuple[str, Any], ...] = ()

    def pixels(self, cube: torch.Tensor) -> torch.Tensor:
        """Pixels (bands, n) in the working scale."""
        return cube.clamp_min(0) / self.peak

    def abundances(self, y: torch.Tensor) -> torch.Tensor:
        """Start abundances (k, n) of pixels in the working scale."""
        if self.equal:
            return y.new_full((self.m.shape[1], y.shape[1]), 1 / self.m.shape[1])
        clean = self.clean.to(y.device)
        return AbundanceSolver(self.m[self.clean.to(self.m.device)].T, "fcls").solve(y[clean]).clamp_min(self.lift)

    def as_state(self) -> State:
        """Plain values for the journal."""
        return {
            "m": self.m, "clean": self.clean, "live": self.live, "peak": self.peak, "equal": self.equal,
            "mean": self.mean, "lift": self.lift, "negative": self.negative, "figures": [[name, value] for name, value in self.figures],
        }  # fmt: skip

    @classmethod
    def from_state(cls, state: State) -> Start:
        """From what `as_state` gave."""
        values: dict[str, Any] = {k: v.cpu() if isinstance(v, torch.Tensor) else v for k, v in state.items()}
        return cls(**{**values, "figures": tuple((str(n), v) for n, v in state["figures"])})


def find_start(
    source: Source,
    seed: int,
    *,
    k: int | Literal["auto"],
    most: int,
    start: Literal["vca", "random"],
    screen: float,
    lift: float,
    draws: int = 1,
) -> Start:
    """Look at the scene and choose the start; three to seven streamed passes.

    Parameters
    ----------
    screen : float
        Threshold of `clean_channels`; 0 trusts every channel.
    lift : float
        See `Start`.
    draws : int
        Runs of VCA, of which the largest simplex is taken.

    Raises
    ------
    BadInput
        No valid pixel, nothing but zeros, or too few dimensions for k.
    """
    gram = source.gram()
    gram = Gram(gram.n, gram.total.cpu(), gram.cross.cpu(), gram.peak)
    if not math.isfinite(gram.peak) or not bool(torch.isfinite(gram.cross).all()):
        raise BadInput("got pixels with infinite values, expected finite ones or nodata: mask them first")
    live = live_channels(gram)
    clean = clean_channels(gram, screen) if screen > 0 else torch.ones_like(live)
    if not bool(clean.any()):
        clean = torch.ones_like(live)
    highest, total, negative = source.reduce(_facts, _merge_facts)
    peak = float(highest[clean].max())
    if peak <= 0:
        raise BadInput("no valid pixel is above zero, expected spectra")
    mean = total / gram.n / peak
    part = _part(gram, clean)
    count = min(max(hysime(part.n, part.cross).k, 2), most, part.cross.shape[0]) if k == "auto" else int(k)
    if gram.n < count:
        raise BadInput(
            f"got {gram.n} valid pixels for {count} endmembers, expected at least as many pixels as endmembers"
        )
    figures: list[tuple[str, Any]] = [("k", count)]
    if start == "random":
        pixels = source.sample(count).to("cpu", torch.float64)
        spectra = pixels.clamp_min(0) / peak
    else:
        found = find_endmembers(
            _OnChannels(source, clean, part), seed, VcaSettings.make(k=count, most=most, draws=draws)
        )
        figures += [("pixels", found["pixels"]), ("snr", found["snr"])]
        spectra = mean[:, None].repeat(1, count)
        spectra[clean] = found["endmembers"].T.to("cpu", torch.float64) / peak
    return Start(
        spectra.clamp_min(LOWEST), clean, live, peak, start == "random", mean, lift, int(negative), tuple(figures)
    )


class _OnChannels:
    """A source that hands out some channels of the cube only."""

    def __init__(self, source: Source, channels: torch.Tensor, gram: Gram) -> None:
        self.info: SceneInfo = source.info
        self._source, self._channels, self._gram = source, channels, gram

    def gram(self) -> Gram:
        """Sums of the chosen channels."""
        return self._gram

    def reduce(self, f: Callable[[Tile], Any], merge: Callable[[Any, Any], Any]) -> Any:
        """Apply `f` to tiles of the chosen channels."""
        if bool(self._channels.all()):
            return self._source.reduce(f, merge)
        return self._source.reduce(partial(_on_channels, f=f, channels=self._channels), merge)

    def __getattr__(self, name: str) -> Any:
        raise NotImplementedError(f"{name} of chosen channels")


def _on_channels(tile: Tile, f: Callable[[Tile], Any], channels: torch.Tensor) -> Any:
    cube = tile["cube"][:, channels.to(tile.lead.device)]
    return f(Tile({**tile.data, "cube": cube}, tile.window, tile.inner, tile.valid, tile.info))


def _part(gram: Gram, channels: torch.Tensor) -> Gram:
    return Gram(gram.n, gram.total[channels], gram.cross[channels][:, channels], gram.peak)


def _facts(tile: Tile) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Highest value and sum of each channel after clipping, and how many values were below 0."""
    pixels = tile.core_pixels("cube").to(torch.float64)
    negative = int((pixels < 0).sum())
    pixels = pixels.clamp_min(0)
    highest = pixels.amax(1) if pixels.shape[1] else pixels.new_zeros(pixels.shape[0])
    return highest, pixels.sum(1), negative


def _merge_facts(one: tuple[Any, Any, int], other: tuple[Any, Any, int]) -> tuple[Any, Any, int]:
    return torch.maximum(one[0], other[0]), one[1] + other[1], one[2] + other[2]
