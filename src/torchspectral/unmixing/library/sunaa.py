"""SUnAA: endmembers are mixtures of the library's spectra, few of them, found with their abundances."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from torchspectral.engine.method import Output, Size, Source, State, Tile
from torchspectral.errors import BadInput
from torchspectral.ops.fcls import AbundanceSolver
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.geometric.base import ENDMEMBERS, endmember_names
from torchspectral.unmixing.library.base import LibraryMethod, library_state, residual, spectra_for

SMALLEST = 1e-10

Sums = tuple[torch.Tensor, torch.Tensor]
"""Y A' (bands, k) and A A' (k, k)."""


class SunaaSettings(Settings):
    """SUnAA; defaults of HySUPP."""

    k: int = setting(5, "archetypes p", ge=1)
    iterations: int = setting(500, "outer iterations T; each reads the scene once", ge=1)
    tolerance: float = setting(0.0, "relative change of the loss at which it stops; 0: never before T", ge=0)


def update_mixtures(library: torch.Tensor, solver: AbundanceSolver, mixtures: torch.Tensor, sums: Sums) -> torch.Tensor:
    """One sweep over the archetypes: each becomes the mixture that leaves the least of the scene unexplained.

    Parameters
    ----------
    library : Tensor, shape (spectra, bands)
    solver : AbundanceSolver
        Of the library, fully constrained.
    mixtures : Tensor, shape (spectra, k)
        B, columns on the simplex.
    sums : tuple of Tensor
        Y A' and A A' of the pixels and their abundances.

    Returns
    -------
    Tensor, shape (spectra, k)
    """
    products, overlap = sums
    mixtures = mixtures.clone()
    archetypes = library.T @ mixtures
    for j in range(mixtures.shape[1]):
        weight = float(overlap[j, j])
        target = archetypes[:, j]
        if weight >= SMALLEST**2:
            target = target + (products[:, j] - archetypes @ overlap[:, j]) / weight
        mixtures[:, j] = solver.solve(target[:, None])[:, 0]
        archetypes[:, j] = library.T @ mixtures[:, j]
    return mixtures


def loss_of(archetypes: torch.Tensor, sums: Sums, power: float) -> float:
    """Half of the squared residual from sums alone; archetypes (bands, k), power the pixels' squared norm."""
    products, overlap = sums
    return float(power - 2 * (archetypes * products).sum() + ((archetypes.T @ archetypes) * overlap).sum()) / 2


def sunaa(
    pixels: torch.Tensor, library: torch.Tensor, k: int, iterations: int = 500
) -> tuple[torch.Tensor, torch.Tensor]:
    """Mixtures B (spectra, k) and abundances A (k, n), float64, of pixels (bands, n): Y = D B A.

    Parameters
    ----------
    pixels : Tensor, shape (bands, n)
    library : Tensor, shape (spectra, bands)
    k, iterations : int

    References
    ----------
    Rasti, Zouaoui, Mairal and Chanussot, "SUnAA: sparse unmixing using archetypal analysis", IEEE GRSL 20, 2023.
    """
    y, d = pixels.to(torch.float64), library.to(torch.float64)
    mixtures = torch.full((len(d), k), 1 / len(d), dtype=torch.float64)
    shares = torch.full((k, y.shape[1]), 1 / k, dtype=torch.float64)
    solver = AbundanceSolver(d, "fcls")
    for _ in range(iterations):
        mixtures = update_mixtures(d, solver, mixtures, (y @ shares.T, shares @ shares.T))
        shares = AbundanceSolver((d.T @ mixtures).T, "fcls").solve(y)
    return mixtures, shares


def _sums_of_tile(tile: Tile, solver: AbundanceSolver | None, k: int) -> tuple[torch.Tensor, torch.Tensor, float]:
    y = tile.core_pixels("cube").to(torch.float64)
    shares = torch.full((k, y.shape[1]), 1 / k, dtype=torch.float64, device=y.device)
    if solver is not None:
        shares = solver.solve(y)
    return (y @ shares.T).cpu(), (shares @ shares.T).cpu(), float(y.square().sum())


def _added(one: Any, other: Any) -> Any:
    return tuple(a + b for a, b in zip(one, other, strict=True))


class Sunaa(LibraryMethod):
    """Sparse unmixing using archetypal analysis.

    Outputs
    -------
    abundances : layers, one a spectrum of the library
        B A.
    rmse : layer
    endmembers : spectra
        The library.
    archetypes : spectra
        D B, the k mixtures that the scene is made of.
    shares : layers, one an archetype
        A.

    State
    -----
    mixtures : Tensor, shape (spectra, k)

    References
    ----------
    Rasti, Zouaoui, Mairal and Chanussot, "SUnAA: sparse unmixing using archetypal analysis", IEEE GRSL 20, 2023.
    """

    Settings = SunaaSettings
    outputs = (
        Output("abundances", kind="layers", names="=endmember_names", undo_scale=False),
        Output("rmse", kind="layers", names=("rmse",), undo_scale=False),
        ENDMEMBERS,
        Output("archetypes", kind="spectra", names="=archetype_names", undo_scale=True, from_state=True),
        Output("shares", kind="layers", names="=archetype_names", undo_scale=False),
    )

    def fit(self, source: Source, seed: int, state: State | None) -> Iterator[tuple[State, float]]:
        """One pass an iteration: archetypes from sums, abundances anew; memory does not grow with the scene."""
        s = self.settings
        state = dict(library_state(source, state))
        if "mixtures" in state and "sums" not in state:
            yield state, 1.0
            return
        d = state["endmembers"].to("cpu", torch.float64)
        if s.k > len(d):
            raise BadInput(f"got k={s.k} and a library of {len(d)} spectra, expected at most as many archetypes")
        solver = AbundanceSolver(d, "fcls")
        if "sums" not in state:
            *sums, power = source.reduce(partial(_sums_of_tile, solver=None, k=s.k), _added)
            mixtures = torch.full((len(d), s.k), 1 / len(d), dtype=torch.float64)
            state |= {"mixtures": mixtures, "sums": list(sums), "power": power, "done": 0, "loss": 0.0}
            state |= {"archetype_names": endmember_names(s.k)}
        while int(state["done"]) < s.iterations:
            mixtures = update_mixtures(d, solver, state["mixtures"].cpu(), tuple(t.cpu() for t in state["sums"]))
            archetypes = d.T @ mixtures
            inner = AbundanceSolver(archetypes.T, "fcls")
            *sums, power = source.reduce(partial(_sums_of_tile, solver=inner, k=s.k), _added)
            loss = loss_of(archetypes, (sums[0], sums[1]), power)
            settled = state["done"] and abs(loss - state["loss"]) <= s.tolerance * abs(state["loss"])
            state = {**state, "mixtures": mixtures, "archetypes": archetypes.T.contiguous(), "sums": list(sums)}
            state |= {"done": int(state["done"]) + 1, "loss": loss}
            if s.tolerance and settled:
                break
            yield state, state["done"] / s.iterations
        yield {key: value for key, value in state.items() if key not in ("sums", "power")}, 1.0

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Shares of the archetypes, and what they mean in spectra of the library."""
        cube = tile["cube"]
        spectra_for(tile, state)
        n, bands, rows, cols = cube.shape
        archetypes = state["archetypes"].to(cube.device, torch.float64)
        shares = AbundanceSolver(archetypes, "fcls").solve(cube.movedim(1, 0).reshape(bands, -1))
        shares = shares.reshape(-1, n, rows, cols).movedim(1, 0)
        mixtures = state["mixtures"].to(cube.device, torch.float64)
        abundances = torch.einsum("mk,nkyx->nmyx", mixtures, shares)
        return {
            "abundances": abundances.to(cube.dtype),
            "rmse": residual(cube, archetypes, shares),
            "shares": shares.to(cube.dtype),
        }

    def memory(self, size: Size) -> dict[str, int]:
        """Float64 copies of the pixels and of the abundances."""
        pixels = size.rows * size.cols
        need = pixels * 8 * (2 * size.bands + 4 * self.settings.k)
        return {"fit": need, "apply": need + pixels * 12 * self.atoms}

    def figures(self, state: State) -> dict[str, Any]:
        """Iterations and the loss, half of the squared residual."""
        return {"iterations": state["done"], "loss": state["loss"]} if "loss" in state else {}
