"""Bad inputs of backbones, their heads and losses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from table import Row

import torchspectral as ts
from torchspectral.errors import BadInput, BadSettings, BadWeights, BandMismatch, UnknownName, UnsafeInput

TINY = {"dim": 24, "depth": 1, "heads": 3, "image_size": 16}


def _vit(**more):
    return ts.create_model("spec-vit-t", **{**TINY, **more})


def _zeros(*shape: int):
    import torch

    return torch.zeros(*shape)


def _file_of_another(folder: Path) -> Path:
    import torch

    torch.save({"state_dict": {"layer.weight": torch.zeros(2, 2)}}, folder / "other.pth")
    return folder / "other.pth"


class _Code:
    def __reduce__(self):
        return (print, ("ran",))


def _pickled(folder: Path) -> Path:
    import torch

    torch.save({"w": _Code()}, folder / "code.pth")
    return folder / "code.pth"


def _softcon_scene(quantity: str = "reflectance"):
    from torchspectral.backbones.softcon.scenes import as_sentinel2

    values = np.full((30, 3, 3), 0.2, np.float32)
    return as_sentinel2(ts.make_cube(values, wavelength=np.linspace(450, 900, 30), quantity=quantity))


ROWS = [
    Row("backbone-few-bands", lambda tmp: _vit()(_zeros(1, 60, 16, 16)), BandMismatch, "at least 75"),
    Row("backbone-image-size", lambda tmp: _vit()(_zeros(1, 80, 16, 18)), BadInput, "16 x 18"),
    Row("backbone-no-batch", lambda tmp: _vit()(_zeros(80, 16, 16)), BadInput, "(images, bands, rows, columns)"),
    Row("backbone-unknown", lambda tmp: ts.create_model("spec-vit-xl"), UnknownName, "spec-vit-l"),
    Row("backbone-heads", lambda tmp: _vit(heads=5), BadSettings, "heads=5"),
    Row("backbone-band-list", lambda tmp: _vit(band_list="enmap-224"), BadSettings, "band_list"),
    Row(
        "baseline-bands",
        lambda tmp: ts.create_model("enmap-vit-t", **TINY)(_zeros(1, 224, 16, 16)),
        BandMismatch,
        "expected the 202",
    ),
    Row(
        "backbone-other-checkpoint",
        lambda path: _vit().load_published(path),
        BadWeights,
        "0% of the keys of SpecViT match",
        prepare=_file_of_another,
    ),
    Row("backbone-pickle", lambda path: _vit().load_published(path), UnsafeInput, "print", prepare=_pickled),
    Row("softcon-bands", lambda tmp: ts.create_model("softcon-vit-s")(_zeros(1, 12, 28, 28)), BandMismatch, "12 bands"),
    Row("softcon-uncovered", lambda tmp: _softcon_scene(), BandMismatch, "B1 "),
    Row("softcon-radiance", lambda tmp: _softcon_scene("radiance"), BadInput, "expected reflectance"),
]
