"""Endmembers that a person drew: the mean or median spectrum of each class of labelled pixels."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch

from torchspectral.engine.method import BandRule, Input, Method, Scope, Size, Source, State, Tile
from torchspectral.errors import BadInput
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.geometric.base import ENDMEMBERS


class PolygonsSettings(Settings):
    """Spectra of labelled pixels."""

    statistic: Literal["mean", "median"] = setting("mean", "of the labelled pixels of each class")
    least: int = setting(1, "classes with fewer labelled pixels are refused", ge=1)


class Polygons(Method):
    """One endmember a class: the mean (or median) spectrum of its labelled pixels.

    State
    -----
    endmembers : Tensor, shape (classes, bands)
    endmember_names : list of str
    pixels_of_class : list of int
    without_pixels : list of str
        Classes that have a name and no valid pixel, and so no endmember.
    """

    Settings = PolygonsSettings
    inputs = (Input("cube"), Input("labels", fit_only=True))
    outputs = (ENDMEMBERS,)
    scope = Scope.PIXEL
    bands = BandRule(least=1)
    needs_fit = True

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """One pass; the labelled pixels are held for the median."""
        if state is not None and "endmembers" in state:
            return state
        found = labelled_spectra(source, self.settings)
        return {k: v for k, v in found.items() if k != "spread"}

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Nothing a pixel: the spectra come from the state."""
        return {}

    def memory(self, size: Size) -> dict[str, int]:
        """Sums, or all labelled pixels for the median."""
        pixels = size.rows * size.cols * size.bands * 8
        return {"fit": 2 * pixels, "apply": pixels}

    def figures(self, state: State) -> dict[str, Any]:
        """Pixels behind each spectrum."""
        if "pixels_of_class" not in state:
            return {}
        found: dict[str, Any] = {"pixels": dict(zip(state["endmember_names"], state["pixels_of_class"], strict=True))}
        if state.get("without_pixels"):
            found["without_pixels"] = state["without_pixels"]
        return found


def labelled_spectra(source: Source, settings: PolygonsSettings) -> State:
    """One spectrum and one standard deviation a class of labelled pixels; one pass, median holds the pixels.

    Returns
    -------
    dict
        ``endmembers`` and ``spread`` (classes, bands), float64, ``endmember_names``, ``pixels_of_class``,
        ``without_pixels``.

    Raises
    ------
    BadInput
        No labelled pixel, or fewer than `least` of a class.
    """
    collect = settings.statistic == "median"
    found = source.reduce(partial(_labelled, collect=collect), _merged)
    if not found:
        raise BadInput("no labelled pixel of the scene is valid: check the labels, the mask and nodata")
    known = source.info.names.get("labels", ())
    names, spectra, spreads, counts = [], [], [], []
    for value in sorted(found):
        part = found[value]
        name = str(known[value]) if value < len(known) else f"class {value}"
        if part.count < settings.least:
            raise BadInput(f"{name} has {part.count} labelled pixels, expected at least {settings.least}")
        names.append(name)
        counts.append(part.count)
        spectra.append(part.mean if part.pixels is None else part.pixels.median(dim=1).values)
        spreads.append((part.squares / max(part.count - 1, 1)).clamp_min(0).sqrt())
    return {
        "endmembers": torch.stack(spectra),
        "spread": torch.stack(spreads),
        "endmember_names": _told_apart(names),
        "pixels_of_class": counts,
        "without_pixels": [str(name) for n, name in enumerate(known) if n and str(name) and n not in found],
    }


@dataclass(frozen=True)
class _Class:
    """Pixels of one class so far: count, mean, sum of squared deviations from it (bands,), and themselves if held."""

    count: int
    mean: torch.Tensor
    squares: torch.Tensor
    pixels: torch.Tensor | None = None

    def joined(self, other: _Class) -> _Class:
        """Both together (Chan, Golub and LeVeque's update)."""
        count, apart = self.count + other.count, other.mean - self.mean
        held = None
        if self.pixels is not None and other.pixels is not None:
            held = torch.cat([self.pixels, other.pixels], dim=1)
        mean = self.mean + apart * (other.count / count)
        squares = self.squares + other.squares + apart.square() * (self.count * other.count / count)
        return _Class(count, mean, squares, held)


def _labelled(tile: Tile, collect: bool) -> dict[int, _Class]:
    pixels = tile.core_pixels("cube").to("cpu", torch.float64)
    labels = tile.core_pixels("labels").to("cpu")[0].to(torch.int64)
    out = {}
    for value in labels[labels > 0].unique().tolist():
        part = pixels[:, labels == value]
        mean = part.mean(1)
        squares = (part - mean[:, None]).square().sum(1)
        out[int(value)] = _Class(part.shape[1], mean, squares, part if collect else None)
    return out


def _merged(one: dict[int, _Class], other: dict[int, _Class]) -> dict[int, _Class]:
    out = dict(one)
    for value, part in other.items():
        out[value] = out[value].joined(part) if value in out else part
    return out


def _told_apart(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({n})" for n, name in enumerate(names, start=1)]
