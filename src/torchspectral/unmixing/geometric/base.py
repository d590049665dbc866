"""What the geometric methods share: how many, from where, and what the report says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch

from torchspectral.engine.method import BandRule, Gram, Input, Method, Output, Scope, Size, Source, State, Tile
from torchspectral.errors import BadInput, BadSettings
from torchspectral.ops.gram import CHUNK, covariance, eigh_descending
from torchspectral.ops.vca import Extreme, check_span
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.counting import check_sums, choose_k, counts_note
from torchspectral.unmixing.picking import HeldPixels, Pixels, Score, StreamedPixels, as_is, collect, spectra_at

ENDMEMBERS = Output("endmembers", kind="spectra", names="=endmember_names", undo_scale=True, from_state=True)


def endmember_names(k: int) -> list[str]:
    """The names that extracted endmembers get, in the order of extraction."""
    return [f"endmember {i}" for i in range(1, k + 1)]


class CountSettings(Settings):
    """How many endmembers to extract."""

    k: int | Literal["auto"] = setting(
        "auto", 'endmembers p, at least 2; "auto" counts signal dimensions by HySime, an upper bound on real scenes'
    )
    most: int = setting(20, "largest number that k=auto may choose", ge=2)


class ExtractionSettings(CountSettings):
    """How many endmembers to extract, and what is held of the scene."""

    held: int = setting(
        256, "pixels of a scene that take more are read once for each question instead of once", unit="MB", ge=0
    )


class Extraction(Method):
    """Endmembers alone; what each method does is its `search`.

    State
    -----
    endmembers : Tensor, shape (k, bands)
    endmember_names : list of str
    pixels : list of [row, col]
        Where each was found, for methods that choose pixels.
    k : int
    counts : dict
        With k=auto, what HySime, HFC, NWHFC and the elbow counted.
    """

    Settings: ClassVar[type[Settings]] = ExtractionSettings
    inputs = (Input("cube"),)
    outputs: tuple[Output, ...] = (ENDMEMBERS,)
    scope = Scope.PIXEL
    bands = BandRule(least=2)
    needs_fit = True

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        if self.settings.k != "auto" and self.settings.k < 2:
            raise BadSettings(f"got k={self.settings.k}, expected at least 2 endmembers: one leaves nothing to unmix")

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Count, check, search."""
        if state is not None and "endmembers" in state:
            return state
        gram = source.gram()
        check_sums(gram)
        n, total, cross = gram.n, gram.total.cpu(), gram.cross.cpu()
        k, counts = choose_k(self.settings.k, self.settings.most, n, total, cross)
        check_span(n, total, cross, k)
        found = self.search(source, Gram(n, total, cross, gram.peak), k, seed)
        return {"endmember_names": endmember_names(k), "k": k, "counts": counts, **found}

    def search(self, source: Source, gram: Gram, k: int, seed: int) -> State:
        """Endmembers (k, bands) and what else the state holds."""
        raise NotImplementedError

    def pixels_of(self, source: Source, gram: Gram) -> Pixels:
        """The scene's pixels where they fit into the setting, else streams of them."""
        if gram.n * source.info.bands * 8 > self.settings.held * 2**20:
            return StreamedPixels(source)
        return HeldPixels(*collect(source, as_is))

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Nothing a pixel: the spectra come from the state."""
        return {}

    def memory(self, size: Size) -> dict[str, int]:
        """Pixels that are held, and float64 copies of one chunk."""
        pixels = size.rows * size.cols
        return {
            "fit": 2 * self.settings.held * 2**20 + pixels * size.bands * 8,
            "apply": pixels * size.bands * 4,
        }

    def figures(self, state: State) -> dict[str, Any]:
        """Endmembers found, where, and how."""
        said = {key: state[key] for key in ("k", "counts", "pixels", *self.told) if state.get(key) not in (None, {})}
        return said | ({"warnings": counts_note(state["counts"])} if state.get("counts") else {})

    told: tuple[str, ...] = ()
    """Further keys of the state that the report shows."""


def chosen(source: Source, found: list[Extreme]) -> State:
    """State of extreme pixels: their spectra and places."""
    cols = source.info.shape[1]
    indices = [e.index for e in found]
    if all(e.spectrum.numel() == source.info.bands for e in found):
        spectra = torch.stack([e.spectrum for e in found])
    else:
        spectra = spectra_at(source, indices)
    return {"endmembers": spectra.contiguous(), "pixels": [[i // cols, i % cols] for i in indices]}


def require(extreme: Extreme | None, scale: float, found: int, k: int) -> Extreme:
    """The extreme pixel, where it stands out.

    Raises
    ------
    BadInput
        No pixel differs any more from those that were found.
    """
    if extreme is None or not extreme.score > 1e-9 * scale:
        raise BadInput(
            f"only {found} pixels of this scene differ enough to be endmembers, expected {k}: ask for fewer endmembers"
        )
    return extreme


@dataclass(frozen=True)
class Subspace:
    """Principal directions of a scene around its mean.

    Attributes
    ----------
    axes : Tensor, shape (bands, d)
    mean : Tensor, shape (bands,)
    values : Tensor, shape (d,)
        Variances along the axes.
    """

    axes: torch.Tensor
    mean: torch.Tensor
    values: torch.Tensor

    @classmethod
    def of(cls, n: int, total: torch.Tensor, cross: torch.Tensor, d: int) -> Subspace:
        """The `d` directions of largest variance, from the sums of the pixels."""
        values, vectors = eigh_descending(covariance(n, total, cross))
        return cls(vectors[:, :d], total / n, values[:d].clamp_min(0))

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Coordinates (d, n), float64, of pixels (bands, n)."""
        axes = self.axes.to(pixels.device)
        shift = (axes.T @ self.mean.to(pixels.device))[:, None]
        parts = [
            axes.T @ pixels[:, start : start + CHUNK].to(torch.float64) - shift
            for start in range(0, pixels.shape[1], CHUNK)
        ]
        return torch.cat(parts, dim=1) if parts else axes.new_zeros((axes.shape[1], 0))


@dataclass(frozen=True)
class Through:
    """A score of projected pixels."""

    subspace: Subspace
    score: Score

    def __call__(self, pixels: torch.Tensor) -> torch.Tensor:
        """Score of pixels (bands, n)."""
        return self.score(self.subspace(pixels))


def finite_or_text(value: float) -> float | str:
    """A number that JSON takes."""
    return round(value, 4) if math.isfinite(value) else str(value)
