"""Endmembers that a person drew: the mean or median spectrum of each class of labelled pixels."""

from __future__ import annotations

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
        collect = self.settings.statistic == "median"
        found = source.reduce(partial(_labelled, collect=collect), partial(_merged, collect=collect))
        if not found:
            raise BadInput("no labelled pixel of the scene is valid: check the labels, the mask and nodata")
        known = source.info.names.get("labels", ())
        names, spectra, counts = [], [], []
        for value in sorted(found):
            count, part = found[value]
            name = str(known[value]) if value < len(known) else f"class {value}"
            if count < self.settings.least:
                raise BadInput(f"{name} has {count} labelled pixels, expected at least {self.settings.least}")
            names.append(name)
            counts.append(count)
            spectra.append(part.median(dim=1).values if collect else part[:, 0] / count)
        return {"endmembers": torch.stack(spectra), "endmember_names": _told_apart(names), "pixels_of_class": counts}

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
        return {"pixels": dict(zip(state["endmember_names"], state["pixels_of_class"], strict=True))}


def _labelled(tile: Tile, collect: bool) -> dict[int, tuple[int, torch.Tensor]]:
    pixels = tile.core_pixels("cube").to("cpu", torch.float64)
    labels = tile.core_pixels("labels").to("cpu")[0].to(torch.int64)
    out = {}
    for value in labels[labels > 0].unique().tolist():
        part = pixels[:, labels == value]
        out[int(value)] = (part.shape[1], part if collect else part.sum(1, keepdim=True))
    return out


def _merged(
    one: dict[int, tuple[int, torch.Tensor]], other: dict[int, tuple[int, torch.Tensor]], collect: bool
) -> dict[int, tuple[int, torch.Tensor]]:
    out = dict(one)
    for value, (count, part) in other.items():
        if value in out:
            here, before = out[value]
            count, part = count + here, torch.cat([before, part], dim=1) if collect else before + part
        out[value] = (count, part)
    return out


def _told_apart(names: list[str]) -> list[str]:
    return [name if names.count(name) == 1 else f"{name} ({n})" for n, name in enumerate(names, start=1)]
