"""What the library methods share: where the spectra come from, what is written, and how the residual is measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from torchspectral.engine.method import (
    BandRule,
    Input,
    Method,
    Output,
    Round,
    SceneInfo,
    Scope,
    Size,
    Source,
    State,
    Tile,
)
from torchspectral.errors import BadInput, BandMismatch
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.geometric.base import ENDMEMBERS, endmember_names

CHUNK = 32_768


class LibrarySettings(Settings):
    """What all sparse regressions have."""

    iterations: int = setting(1000, "most iterations", ge=1)
    tolerance: float = setting(1e-4, "residual, a value, at which it stops", gt=0)


class LibraryMethod(Method):
    """Abundances of every spectrum of a library.

    State
    -----
    endmembers : Tensor, shape (spectra, bands)
    endmember_names : list of str
    """

    inputs: tuple[Input, ...] = (Input("cube"), Input("library", kind="spectra", optional=True))
    outputs: tuple[Output, ...] = (
        Output("abundances", kind="layers", names="=endmember_names", undo_scale=False),
        Output("rmse", kind="layers", names=("rmse",), undo_scale=False),
        ENDMEMBERS,
    )
    scope = Scope.PIXEL
    bands = BandRule(least=2)

    atoms = 500
    """Spectra of the library, once it is known: memory depends on it."""

    def prepare(self, info: SceneInfo) -> None:
        """Note how many spectra there are."""
        self.atoms = len(info.names.get("library", ())) or self.atoms

    def fit(self, source: Source, seed: int, state: State | None) -> State | Iterable[Round]:
        """Put the library's spectra into the state; the scene's pixels are not looked at."""
        return library_state(source, state)

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Abundances (n, spectra, y, x) and root mean square residual over the bands (n, 1, y, x)."""
        cube, spectra = tile["cube"], spectra_for(tile, state)
        planes = [self.solve(one, spectra, valid) for one, valid in zip(cube, tile.valid[:, 0], strict=True)]
        abundances = torch.stack(planes)
        return {"abundances": abundances.to(cube.dtype), "rmse": residual(cube, spectra, abundances)}

    def solve(self, cube: torch.Tensor, spectra: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """Abundances (spectra, y, x), float64, of one scene or tile (bands, y, x); `valid` is (y, x)."""
        raise NotImplementedError


class PlanesMethod(LibraryMethod):
    """Library methods that need all pixels at once: rows of abundances, or neighbours, hang together."""

    scope = Scope.SCENE
    copies = 8
    """Arrays of the abundances' size, float64, that the iteration holds."""

    def memory(self, size: Size) -> dict[str, int]:
        """Pixels and `copies` arrays of all abundances in float64."""
        pixels = size.rows * size.cols
        return {"fit": 0, "apply": pixels * 8 * (3 * size.bands + self.copies * self.atoms)}


def library_state(source: Source, state: State | None) -> State:
    """The given state, or the library's spectra and names.

    Raises
    ------
    BadInput
        Neither of the two, or a library of zeros.
    """
    if state is not None and "endmembers" in state:
        return state
    tile = next(iter(source.tiles()))
    if "library" not in tile:
        raise BadInput(
            'got neither a library nor a state with "endmembers", expected the spectra to unmix with: pass library='
        )
    spectra = tile["library"].to("cpu", torch.float64)
    if not bool(spectra.any()):
        raise BadInput("all endmembers are zero: expected spectra of materials")
    return {"endmembers": spectra, "endmember_names": library_names(source.info, len(spectra))}


def library_names(info: SceneInfo, count: int) -> list[str]:
    """Names of the library's spectra, numbered ones where it has none."""
    names = list(info.names.get("library", ()))
    return [str(n) for n in names] if len(names) == count else endmember_names(count)


def spectra_for(tile: Tile, state: State) -> torch.Tensor:
    """The state's spectra (spectra, bands), float64, on the tile's device.

    Raises
    ------
    BandMismatch
        They have other bands than the tile.
    """
    cube, spectra = tile["cube"], state["endmembers"]
    if spectra.shape[1] != cube.shape[1]:
        raise BandMismatch(
            f"the endmembers have {spectra.shape[1]} bands and the cube {cube.shape[1]}, expected the same: resample "
            "the spectra to the cube's wavelengths"
        )
    return spectra.to(cube.device, torch.float64)


def residual(cube: torch.Tensor, spectra: torch.Tensor, abundances: torch.Tensor) -> torch.Tensor:
    """Root mean square of the cube (n, bands, y, x) less its model, over the bands: (n, 1, y, x)."""
    n, bands, rows, cols = cube.shape
    pixels = cube.movedim(1, 0).reshape(bands, -1)
    shares = abundances.movedim(1, 0).reshape(abundances.shape[1], -1).to(cube.dtype)
    out = torch.empty(pixels.shape[1], dtype=cube.dtype, device=cube.device)
    transposed = spectra.T.to(cube.dtype)
    for start in range(0, pixels.shape[1], CHUNK):
        part = slice(start, start + CHUNK)
        out[part] = (pixels[:, part] - transposed @ shares[:, part]).square_().mean(0).sqrt_()
    return out.reshape(n, 1, rows, cols)


def soft(x: torch.Tensor, limit: Any) -> torch.Tensor:
    """Soft threshold."""
    return x.sign() * (x.abs() - limit).clamp_min(0)


def rows_soft(x: torch.Tensor, limit: float) -> torch.Tensor:
    """Vector soft threshold of each row."""
    size = (x.norm(dim=1, keepdim=True) - limit).clamp_min(0)
    return x * (size / (size + limit)) if limit > 0 else x


def rebalance(primal: float, dual: float) -> float:
    """Factor of the penalty that keeps the two residuals within a factor of ten: 2, 1/2 or 1."""
    return 2.0 if primal > 10 * dual else 0.5 if dual > 10 * primal else 1.0
