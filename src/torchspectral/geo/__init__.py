"""Where pixels lie on the ground, and moving them: grids, GLT, mosaics, warps, co-registration."""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

# Public name -> module; nothing is imported before it is asked for.
_PUBLIC = {
    "Grid": "grids",
    "grid_of": "grids",
    "parse_crs": "grids",
    "place": "grids",
    "place_coarser": "grids",
    "place_swath": "grids",
    "crop": "cropping",
    "footprint": "footprints",
    "window": "cropping",
    "GLT": "glt",
    "build_glt": "swaths",
    "orthorectify": "orthorectification",
    "to_map": "orthorectification",
    "mosaic": "mosaicking",
    "reproject": "warping",
    "align": "warping",
    "coregister": "coregistration",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
