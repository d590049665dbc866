"""Sample scenes with open terms that come with packages from the registry."""

from __future__ import annotations

import importlib.util
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import yaml

from torchspectral.cube import make_cube, make_layers
from torchspectral.errors import BrokenProduct, MissingDependency
from torchspectral.geo.grids import place

_FILES = ("Indian_pines_corrected.npy", "Indian_pines_gt.npy")


@lru_cache(maxsize=1)
def _facts() -> dict[str, Any]:
    return yaml.safe_load(resources.files("torchspectral.io").joinpath("indian_pines.yaml").read_text(encoding="utf-8"))


def indian_pines() -> tuple[xr.DataArray, xr.DataArray]:
    """AVIRIS Indian Pines: 145 x 145 pixels of 20 m, 200 bands of counts, 16 classes (1992-06-12, no CRS).

    The files of the package ``tensorly`` are read without importing it. Two misprints of its wavelength list (indices
    170 and 171) are corrected, which the history says; the list keeps its true detector steps.

    Returns
    -------
    cube : DataArray, shape (200, 145, 145)
        Quantity dn, uint16, sensor AVIRIS-Classic; ``number`` are the AVIRIS bands, of which 20 are left out.
    labels : DataArray, shape (1, 145, 145)
        Layer ``labels``, uint8: 0 unlabelled, 1..16; ``attrs["class_names"]`` and ``attrs["class_colors"]`` by value.

    Raises
    ------
    MissingDependency
        The package tensorly is not installed.
    BrokenProduct
        Its files are not those expected.

    References
    ----------
    Baumgardner, Biehl, Landgrebe (2015), doi:10.4231/R7RX991C, CC BY 3.0.
    """
    facts = _facts()
    folder = _folder()
    image, classes = (_load(folder / name) for name in _FILES)
    if image.shape != (145, 145, 200) or classes.shape != (145, 145) or image.dtype.kind not in "iu":
        raise BrokenProduct(
            f"{folder} holds Indian Pines as {image.shape} {image.dtype}, expected (145, 145, 200) integers: "
            "install tensorly>=0.9"
        )
    wavelength = np.array(facts["wavelengths"], dtype=np.float64)
    corrections = {int(n): float(v) for n, v in facts["corrections"].items()}
    history = ["opened Indian Pines from the package tensorly (CC BY 3.0)"]
    for index, value in corrections.items():
        history.append(f"wavelength of index {index} corrected from {wavelength[index]:g} to {value:g} nm (misprint)")
        wavelength[index] = value
    number = [n for n in range(1, 221) if n not in set(facts["removed_bands"])]
    cube = make_cube(
        np.ascontiguousarray(image.transpose(2, 0, 1)),
        wavelength=wavelength,
        number=number,
        quantity="dn",
        attrs={
            "sensor": "AVIRIS-Classic",
            "platform": "ER-2",
            "product": "Indian Pines (corrected)",
            "acquired": "1992-06-12T00:00:00Z",
            "licence": facts["licence"],
            "citation": " ".join(str(facts["source"]).split()),
            "source": [str(folder / _FILES[0])],
            "history": history,
        },
        name="indian_pines",
    )
    cube = place(cube, None)
    labels = make_layers(
        classes.astype(np.uint8)[None],
        ["labels"],
        like=cube,
        attrs={
            "class_names": list(facts["class_names"]),
            "class_colors": [list(c) for c in facts["class_colors"]],
            "nodata": 0,
            "licence": facts["licence"],
            "source": [str(folder / _FILES[1])],
        },
        name="labels",
    )
    return cube, labels


def _folder() -> Path:
    spec = importlib.util.find_spec("tensorly")
    places = list(spec.submodule_search_locations or []) if spec is not None else []
    for place_ in places:
        folder = Path(place_) / "datasets" / "data"
        if all((folder / name).is_file() for name in _FILES):
            return folder
    if not places:
        raise MissingDependency(
            "the Indian Pines scene ships with tensorly, which is not installed: pip install tensorly"
        )
    raise MissingDependency("the installed tensorly does not carry the Indian Pines scene: pip install 'tensorly>=0.9'")


def _load(path: Path) -> np.ndarray:
    try:
        return np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise BrokenProduct(f"{path.name} of the package tensorly cannot be read: {error}") from None
