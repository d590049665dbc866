"""Methods whose state is the noise of each band."""

from __future__ import annotations

from typing import Any

import torch

from torchspectral.engine.method import Input, Method, Output, Scope, Source, State
from torchspectral.errors import BandMismatch
from torchspectral.restoration.classical.levels import noise_levels


class NoiseFitted(Method):
    """A method on neighbourhoods that needs the noise of each band, and has a setting ``sigma`` that gives it.

    State
    -----
    noise : Tensor, shape (bands,)
    """

    inputs = (Input("cube"),)
    outputs = (Output("cube"),)
    scope = Scope.LOCAL
    needs_fit = True
    state_keys = ("noise",)

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Noise of each band."""
        if state is not None and "noise" in state:
            return state
        if self.settings.sigma is not None:
            return {"noise": torch.full((source.info.bands,), self.settings.sigma, dtype=torch.float64)}
        return {"noise": noise_levels(source)}

    def noise(self, cube: torch.Tensor, state: State) -> torch.Tensor:
        """Noise of the bands of a cube (n, bands, y, x), shape (bands,), float64.

        Raises
        ------
        BandMismatch
            It was fitted to another number of bands.
        """
        noise: torch.Tensor = state["noise"]
        if len(noise) != cube.shape[1]:
            raise BandMismatch(f"the noise is of {len(noise)} bands, the cube has {cube.shape[1]}: fit it here")
        return noise

    def figures(self, state: State) -> dict[str, Any]:
        """Median noise."""
        return {"median_noise": float(f"{float(state['noise'].median()):.6g}")}
