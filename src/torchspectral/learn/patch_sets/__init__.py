"""Patch sets: folders of small images with labels, indexed once, read at random.

`open_patch_set` opens SpectralEarth's folders and downstream sets, EuroSAT, BigEarthNet, SegMunich, OSCD, HyperView and
folders with a table of their patches (GFM-Bench); `torchspectral.train` takes such a folder as its data. `pack` puts a set
into one Zarr store.
"""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

_PUBLIC = {
    "LAYOUTS": "scanning",
    "PatchSet": "patch_set",
    "PatchSetStore": "store",
    "TorchGeoSamples": "torchgeo",
    "labels_of": "store",
    "open_patch_set": "opening",
    "pack": "packing",
    "simulate_patches": "simulate",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
