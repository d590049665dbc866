"""Unmixing: endmembers and abundances."""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

_PUBLIC = {
    "unmix": "base",
    "endmembers": "base",
    "Vca": "vca_fcls",
    "VcaFcls": "vca_fcls",
    "Fcls": "vca_fcls",
    "Atgp": "geometric.atgp",
    "Sivm": "geometric.sivm",
    "NFindr": "geometric.n_findr",
    "Ppi": "geometric.ppi",
    "Sisal": "geometric.sisal",
    "Mvsa": "geometric.mvsa",
    "TileMeans": "geometric.tile_means",
    "Polygons": "polygons",
    "Label": "labelling",
    "Sunsal": "library.sunsal",
    "SunsalTv": "library.sunsal_tv",
    "Clsunsal": "library.clsunsal",
    "S2wsu": "library.s2wsu",
    "Mua": "library.mua",
    "Sunaa": "library.sunaa",
    "Sma": "library.mesma",
    "Mesma": "library.mesma",
    "Edaa": "archetypal",
    "ArchetypalAnalysis": "archetypal",
    "score": "scoring",
    "UnmixingScore": "scoring",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
