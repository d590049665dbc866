"""Where labelled scenes lie: cubes in files and folders, and the files of their truth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from torchspectral.errors import BadInput, ProductNotFound, TorchspectralError
from torchspectral.io.readers.matlab.files import Variable, is_v73, variables
from torchspectral.io.readers.matlab.scenes import TRUTHS, find_scene

SPECTRA = ("M", "E", "GT", "endmembers", "M_true", "E_true", "GT_endmembers", "EM")
"""Variables that hold true endmembers; M1 and M0 are estimates that training starts from."""


MAPS = ("A", "A_true", "S_GT", "abundances", "GT_abundances", "S")


RASTERS = (".tif", ".zarr", ".hdr")


@dataclass(frozen=True)
class Place:
    """Where a labelled scene lies: the cube, and the files of its truth."""

    name: str
    cube: Path
    endmembers: Path | None = None
    abundances: Path | None = None


def find_scenes(folder: str | Path) -> list[Place]:
    """Labelled scenes in a folder and the folders in it; one entry for each truth.

    Raises
    ------
    ProductNotFound
        No such path, or no scene there.
    """
    path = Path(folder)
    if not path.exists():
        raise ProductNotFound(f"{path} does not exist: check the path")
    if path.is_file():
        found = _places_of(path, path.parent)
    else:
        found = _in_folder(path)
        for inner in sorted(
            p for p in path.iterdir() if p.is_dir() and not p.name.startswith(".") and p.suffix != ".zarr"
        ):
            found += _in_folder(inner)
    if not found:
        raise ProductNotFound(
            f"{path} holds no scene: expected .mat files, or folders with cube.tif and abundances.tif"
        )
    titles = [p.name for p in found]
    return [
        p if titles.count(p.name) == 1 else Place(f"{p.cube.parent.name} {p.name}", p.cube, p.endmembers, p.abundances)
        for p in found
    ]


def is_matlab(path: Path | None) -> bool:
    """Whether a path is a MATLAB file of any version."""
    return path is not None and path.is_file() and path.suffix == ".mat" and is_v73(path) is not None


def one_place(path: Path) -> Place:
    """The one scene of a path.

    Raises
    ------
    ProductNotFound, BadInput
        None, or several.
    """
    found = find_scenes(path)
    if len(found) > 1:
        raise BadInput(
            f"{path} holds {len(found)} labelled scenes ({', '.join(p.name for p in found[:6])}), expected one: name its "
            "file, and endmembers= and abundances= where it has several truths"
        )
    return found[0]


def _in_folder(folder: Path) -> list[Place]:
    own = next((folder / f"cube{s}" for s in RASTERS if (folder / f"cube{s}").exists()), None)
    if own is not None:
        truth = (
            folder / "endmembers.sli",
            next((folder / f"abundances{s}" for s in RASTERS if (folder / f"abundances{s}").exists()), None),
        )
        return [Place(folder.name, own, truth[0] if truth[0].exists() else None, truth[1])]
    found = [place for file in sorted(folder.glob("*.mat")) for place in _places_of(file, folder)]
    if found:
        return found
    from torchspectral.io import is_product

    images = [f for f in sorted(folder.iterdir()) if f.suffix.lower() in (".hdr", ".tif", ".zarr", ".h5", ".nc")]
    return [Place(f.stem, f) for f in images if is_product(f) and not (folder / f"{f.stem}.sli").exists()]


def _places_of(file: Path, folder: Path) -> list[Place]:
    """The scene of a file, once for each truth; none where it holds no cube."""
    if not is_matlab(file):
        return [Place(file.stem, file)]
    known = variables(file)
    if not _has_cube(file, known):
        return []
    spectra, maps = first_of(known, SPECTRA, file), first_of(known, MAPS, file)
    if spectra and maps:
        return [Place(file.stem, file, file, file)]
    pairs: list[Path] = []
    singles: dict[str, list[Path]] = {"spectra": [], "maps": []}
    for other in [*sorted(folder.glob("*.mat")), *sorted((folder / "GroundTruth").glob("*.mat"))]:
        if other == file or not is_matlab(other):
            continue
        beside = variables(other)
        if _has_cube(other, beside):
            continue
        here = first_of(beside, SPECTRA, other), first_of(beside, MAPS, other)
        if all(here):
            pairs.append(other)
        elif any(here):
            singles["spectra" if here[0] else "maps"].append(other)
    found = [Place(file.stem if len(pairs) == 1 else f"{file.stem} ({p.stem})", file, p, p) for p in pairs]
    if len(singles["spectra"]) == 1 and len(singles["maps"]) == 1:
        title = file.stem if file.stem.lower() not in ("y", "y_clean", "y_noisy") else folder.name
        found.append(Place(title, file, singles["spectra"][0], singles["maps"][0]))
    return found or [Place(file.stem, file)]


def _has_cube(file: Path, known: dict[str, Variable]) -> bool:
    rest = {n: v for n, v in known.items() if n not in TRUTHS}
    try:
        found = find_scene(file, rest, None)
    except TorchspectralError:
        return False
    return found.form in ("cube", "matrix") and found.shape[0] > 4


def first_of(known: dict[str, Variable], names: Sequence[str], file: Path) -> str:
    """The first of the names that is a matrix or an image of numbers, and no vector."""
    for name in names:
        variable = known.get(name)
        if variable is not None and variable.numeric and not variable.vector and min(variable.shape) <= 64:
            return name
    return ""
