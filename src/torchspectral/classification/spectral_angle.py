"""Spectral angle mapper: each pixel takes the class of the reference spectrum at the smallest angle."""

from __future__ import annotations

import colorsys
from typing import Any

import torch

from torchspectral.engine.method import (
    BandRule,
    Input,
    Method,
    Output,
    SceneInfo,
    Scope,
    Size,
    Source,
    State,
    Tile,
)
from torchspectral.errors import BadInput, BandMismatch
from torchspectral.ops.spectral_angle import spectral_angles
from torchspectral.settings import Settings, setting

MOST_CLASSES = 254
"""Class numbers end here: 255 is nodata in the written layer."""


class SpectralAngleSettings(Settings):
    """Spectral angle mapper."""

    max_angle: float = setting(
        0.1, "pixels farther than this from every reference stay unclassified (class 0)", unit="rad", gt=0, le=3.1416
    )


class SpectralAngleMapper(Method):
    """Nearest reference by spectral angle; references are a library's spectra or the means of labelled pixels.

    State
    -----
    references : Tensor, shape (classes, bands)
    class_names : list of str
    class_numbers : list of int
        What is written for each reference.
    pixels : list of int
        Labelled pixels behind each mean; empty for a library.

    Outputs
    -------
    classes : layer, uint8
        Class number; 0 where every angle is above `max_angle` or the spectrum is zero; 255 where there are no data.
    angles : layers, one a reference
        [rad]; NaN where the spectrum is zero.

    References
    ----------
    Kruse et al., "The spectral image processing system (SIPS)", Remote Sensing of Environment 44, 1993.
    """

    Settings = SpectralAngleSettings
    inputs = (
        Input("cube"),
        Input("library", kind="spectra", optional=True),
        Input("labels", fit_only=True, optional=True),
    )
    outputs = (
        Output("classes", kind="layers", names=("class",), dtype="uint8", undo_scale=False),
        Output("angles", kind="layers", names="=class_names", undo_scale=False),
    )
    scope = Scope.PIXEL
    bands = BandRule(least=2)

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Means of the labelled pixels, or the library's spectra."""
        if state is not None and "references" in state:
            return state
        first = next(iter(source.tiles()))
        if "library" in first and "labels" in first:
            raise BadInput("got a library and labels, expected one of them to take the references from")
        if "library" in first:
            return self._from_library(first["library"].to("cpu", torch.float64), source.info)
        if "labels" in first:
            return self._from_labels(source)
        raise BadInput("got neither a library nor labels, expected reference spectra: pass library= or labels=")

    def _from_library(self, spectra: torch.Tensor, info: SceneInfo) -> State:
        names = list(info.names.get("library", ()))
        names = names if len(names) == len(spectra) else [f"class {i + 1}" for i in range(len(spectra))]
        return _checked(spectra, names, list(range(1, len(spectra) + 1)), [])

    def _from_labels(self, source: Source) -> State:
        sums, counts = source.reduce(_class_sums, _add)
        present = counts.nonzero()[:, 0]
        if not len(present):
            raise BadInput("no labelled pixel lies on valid data, expected classes from 1 upwards: check the labels")
        names = list(source.info.names.get("labels", ()))
        numbers = [int(n) for n in present + 1]
        labels = [str(names[n]) if n < len(names) else f"class {n}" for n in numbers]
        means = sums[present] / counts[present][:, None]
        return _checked(means, labels, numbers, [int(c) for c in counts[present]])

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Classes (n, 1, y, x) and angles (n, classes, y, x) of one tile."""
        cube = tile["cube"]
        n, bands, rows, cols = cube.shape
        references = state["references"]
        if references.shape[1] != bands:
            raise BandMismatch(
                f"the references have {references.shape[1]} bands and the cube {bands}, expected the same: resample "
                "the spectra to the cube's wavelengths"
            )
        angles = spectral_angles(cube.movedim(1, 0).reshape(bands, -1), references.to(cube.device))
        smallest, nearest = torch.where(angles.isnan(), torch.inf, angles).min(0)
        numbers = torch.as_tensor(state["class_numbers"], dtype=torch.uint8, device=cube.device)
        classes = torch.where(smallest <= self.settings.max_angle, numbers[nearest], torch.zeros_like(numbers[:1]))
        return {
            "classes": classes.reshape(n, 1, rows, cols),
            "angles": angles.reshape(-1, n, rows, cols).movedim(1, 0).to(cube.dtype),
        }

    def finish(self, outputs: dict[str, Any], state: State) -> dict[str, Any]:
        """Give the written numbers their names and colours: entry i belongs to the value i."""
        count = max(state["class_numbers"]) + 1
        names = ["unclassified", *(f"class {n}" for n in range(1, count))]
        for number, name in zip(state["class_numbers"], state["class_names"], strict=True):
            names[number] = name
        if "classes" in outputs:
            outputs["classes"].attrs.update(class_names=names, class_colors=class_colours(count))
        return outputs

    def memory(self, size: Size) -> dict[str, int]:
        """Float64 copies of one chunk, and the angles."""
        pixels = size.rows * size.cols
        return {"fit": pixels * size.bands * 8, "apply": pixels * (size.bands * 4 + 2000) + 32 * 2**20}

    def figures(self, state: State) -> dict[str, Any]:
        """Classes with their labelled pixels."""
        return {"classes": dict(zip(state["class_names"], state["pixels"] or state["class_numbers"], strict=True))}


def class_colours(count: int) -> list[list[int]]:
    """Colours for class numbers 0 to count - 1: black for 0, then hues a golden angle apart, (r, g, b) 0..255."""
    colours = [[0, 0, 0]]
    for n in range(count - 1):
        red, green, blue = colorsys.hsv_to_rgb(n * 0.6180339887 % 1, (0.85, 0.55)[n // 6 % 2], (0.95, 0.7)[n // 3 % 2])
        colours.append([round(255 * red), round(255 * green), round(255 * blue)])
    return colours[:count]


def _checked(spectra: torch.Tensor, names: list[str], numbers: list[int], pixels: list[int]) -> State:
    if max(numbers) > MOST_CLASSES:
        raise BadInput(f"got class number {max(numbers)}, expected at most {MOST_CLASSES}: renumber the classes")
    if not bool(torch.isfinite(spectra).all()):
        raise BadInput("a reference spectrum has values that are not finite: drop it or its bad bands")
    dark = [name for name, norm in zip(names, spectra.norm(dim=1).tolist(), strict=True) if norm == 0]
    if dark:
        raise BadInput(f"reference {dark[0]!r} is zero in all bands and has no angle: drop it")
    return {"references": spectra, "class_names": _unique(names), "class_numbers": numbers, "pixels": pixels}


def _unique(names: list[str]) -> list[str]:
    seen: dict[str, int] = {}
    out = []
    for name in names:
        seen[name] = seen.get(name, 0) + 1
        out.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return out


def _class_sums(tile: Tile) -> tuple[torch.Tensor, torch.Tensor]:
    pixels = tile.core_pixels("cube").to(torch.float64)
    labels = tile.core_pixels("labels")[0].to(torch.int64)
    if labels.numel() and int(labels.max()) > MOST_CLASSES:
        raise BadInput(f"got class number {int(labels.max())}, expected at most {MOST_CLASSES}: renumber the classes")
    known = labels > 0
    pixels, labels = pixels[:, known], labels[known] - 1
    sums = pixels.new_zeros(MOST_CLASSES, pixels.shape[0])
    sums.index_add_(0, labels, pixels.T)
    return sums.cpu(), torch.bincount(labels, minlength=MOST_CLASSES).cpu()


def _add(one: tuple[torch.Tensor, torch.Tensor], other: tuple[torch.Tensor, torch.Tensor]) -> Any:
    return one[0] + other[0], one[1] + other[1]
