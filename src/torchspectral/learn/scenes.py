"""Training scenes: opened lazily from paths, folders or cubes, and read block by block."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube
from torchspectral.engine.method import Window
from torchspectral.errors import BadInput, BandMismatch, GridMismatch, ProductNotFound, UnknownProduct
from torchspectral.learn.recipe import Scene
from torchspectral.log import Progress, no_progress

if TYPE_CHECKING:
    from torchspectral.learn.patch_sets.patch_set import PatchSet


@dataclass(frozen=True)
class OpenedScene:
    """One scene, lazy.

    Attributes
    ----------
    scene : DataArray or Dataset
    name : str
        Path, or "cube 1" for a cube in memory.
    fingerprint : str
        Changes when the data change: of size and time of the files, or of the values in memory.
    in_memory : bool
        Handed over as a cube, not as a path.
    opening : mapping
        Options of the reader that it was opened with.
    patch_set : PatchSet, optional
        Where the path is a patch set: `scene` then shows some of its patches side by side.
    """

    scene: Scene
    name: str
    fingerprint: str
    in_memory: bool = False
    opening: Mapping[str, Any] = field(default_factory=dict)
    patch_set: PatchSet | None = None

    @property
    def cube(self) -> xr.DataArray:
        """The cube itself."""
        return self.scene["cube"] if isinstance(self.scene, xr.Dataset) else self.scene

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.cube.sizes["y"], self.cube.sizes["x"]


def open_scenes(
    data: Any,
    layers: Sequence[str] = (),
    opening: Mapping[str, Any] | None = None,
    *,
    broken: str = "refuse",
    sensor: str = "",
    progress: Progress = no_progress,
) -> list[OpenedScene]:
    """Open everything that training reads.

    Parameters
    ----------
    data : path, cube, Dataset, or a list of these
        A folder that is no product itself stands for the products in it, by name; a ``.txt`` file for the paths that
        it lists, one a line. A patch set (see `learn.patch_sets`) is one scene.
    layers : sequence of str
        To open with each scene.
    opening : mapping, optional
        Options of the reader, for scenes given as paths.
    broken, sensor : str
        Of patch sets, see `learn.patch_sets.open_patch_set`.
    progress : callable
        Told of patch sets that are indexed.

    Raises
    ------
    ProductNotFound, UnknownProduct, BadCube, BadInput
    """
    items = list(data) if isinstance(data, (list, tuple)) else [data]
    scenes: list[OpenedScene] = []
    for item in items:
        if isinstance(item, (xr.DataArray, xr.Dataset)):
            scenes.append(_in_memory(item, len(scenes) + 1, layers))
        elif not isinstance(item, (str, Path)):
            raise BadInput(f"got {type(item).__name__} as training data, expected paths, cubes or Datasets")
        elif not layers and (patches := _patch_set(Path(item).expanduser(), opening or {}, broken, sensor, progress)):
            scenes.append(patches)
        else:
            scenes.extend(_open(path, layers, opening or {}) for path in _paths(Path(item).expanduser()))
    if not scenes:
        raise BadInput("got no scenes to train on, expected at least one path or cube")
    if len({scene.patch_set is None for scene in scenes}) > 1:
        names = ", ".join(scene.name for scene in scenes if scene.patch_set is not None)
        raise BadInput(f"got scenes beside patch sets ({names}), expected one or the other")
    return scenes


def _patch_set(
    path: Path, opening: Mapping[str, Any], broken: str, sensor: str, progress: Progress
) -> OpenedScene | None:
    """A patch set as one scene; None where the path is none."""
    from torchspectral.learn.patch_sets.opening import of_path, open_patch_set

    if not of_path(path) and "layout" not in opening:
        return None
    unknown = set(opening) - {"layout"}
    if unknown:
        raise BadInput(f"{path} is a patch set, which takes layout= and not {', '.join(sorted(unknown))}=")
    found = open_patch_set(
        path,
        layout=str(opening.get("layout", "")),
        broken=broken,
        sensor=sensor,
        progress=progress,
    )
    key = f"{found.fingerprint()} {sensor} {broken} {sorted(opening.items())}"
    return OpenedScene(
        found.sheet(), str(path), hashlib.sha256(key.encode()).hexdigest(), opening=dict(opening), patch_set=found
    )


def _in_memory(item: Scene, number: int, layers: Sequence[str]) -> OpenedScene:
    if isinstance(item, xr.Dataset):
        missing = [name for name in ("cube", *layers) if name not in item]
        if missing:
            raise BadInput(
                f"cube {number}: got a Dataset without {', '.join(missing)}, expected cube and {list(layers)}"
            )
        check_cube(item["cube"])
    else:
        item = check_cube(item, what=f"cube {number}")
        if layers:
            raise BadInput(
                f"cube {number} comes without {', '.join(layers)}: give a Dataset with `cube` and these layers"
            )
    digest = hashlib.sha256()
    for name, array in item.data_vars.items() if isinstance(item, xr.Dataset) else [("cube", item)]:
        digest.update(f"{name} {array.shape} {array.dtype}".encode())
        rows = array.dims[-2]
        for row in range(0, array.sizes[rows], 256):
            digest.update(np.ascontiguousarray(array.isel({rows: slice(row, row + 256)}).values).data)
    return OpenedScene(item, f"cube {number}", digest.hexdigest(), in_memory=True)


def _paths(path: Path) -> Iterable[Path]:
    if not path.exists():
        raise ProductNotFound(f"{path} does not exist: expected a product, a folder of products or a list of them")
    if path.suffix == ".txt" and path.is_file():
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
        return [path.parent / line for line in lines if line and not line.startswith("#")]
    if not path.is_dir() or _opens(path):
        return [path]
    found = [p for p in sorted(path.iterdir()) if not p.name.startswith(".") and _opens(p)]
    if not found:
        raise UnknownProduct(
            f"{path}: no file in this folder is a product that can be opened, expected scenes to train on"
        )
    return found


def _opens(path: Path) -> bool:
    from torchspectral import io

    try:
        io.open_product(path)
    except UnknownProduct:
        return False
    return True


def _open(path: Path, layers: Sequence[str], opening: Mapping[str, Any]) -> OpenedScene:
    from torchspectral import io

    scene = io.open_product(path, layers=tuple(layers), **opening)
    files = [path] if path.is_file() else sorted(p for p in path.rglob("*") if p.is_file())
    digest = hashlib.sha256()
    for file in files:
        facts = file.stat()
        digest.update(f"{file.name} {facts.st_size} {facts.st_mtime_ns}".encode())
    if opening:
        digest.update(repr(sorted(opening.items())).encode())
    return OpenedScene(scene, str(path), digest.hexdigest(), opening=dict(opening))


def cubes_of(scenes: Sequence[Scene]) -> list[xr.DataArray]:
    """The cube of each scene, whether it comes alone or with layers."""
    return [scene["cube"] if isinstance(scene, xr.Dataset) else scene for scene in scenes]


def common_quantity(cubes: Sequence[xr.DataArray]) -> str:
    """The one quantity of all cubes ("reflectance", "radiance", "dn").

    Raises
    ------
    BandMismatch
        They differ.
    """
    quantities = {str(cube.attrs.get("quantity", "dn")) for cube in cubes}
    if len(quantities) > 1:
        raise BandMismatch(f"got scenes of {' and '.join(sorted(quantities))}, expected one quantity in all of them")
    return quantities.pop()


def read_block(scene: Scene, window: Window) -> Scene:
    """A window of a scene, all layers with it, in memory.

    Parameters
    ----------
    scene : DataArray or Dataset
        Layers on finer grids must have a whole number of pixels a cube pixel.
    window : Window
        In cube pixels.

    Raises
    ------
    GridMismatch
        A layer's grid is no whole multiple of the cube's.
    """
    if isinstance(scene, xr.DataArray):
        return _cut(scene, window, 1).load()
    cube = scene["cube"]
    cut: dict[str, xr.DataArray] = {}
    for name, array in scene.data_vars.items():
        rows, cols = array.shape[-2:]
        ratio = rows // cube.sizes["y"]
        if ratio < 1 or (rows, cols) != (ratio * cube.sizes["y"], ratio * cube.sizes["x"]):
            raise GridMismatch(
                f"layer {name} has {rows} x {cols} pixels over a cube of {cube.sizes['y']} x {cube.sizes['x']}, "
                "expected a whole number of pixels a cube pixel: crop or resample it first"
            )
        cut[str(name)] = _cut(array, window, ratio).load()
    return xr.Dataset(cut, attrs=scene.attrs)


def _cut(array: xr.DataArray, window: Window, ratio: int) -> xr.DataArray:
    fine = window.times(ratio)
    rows, cols = fine.slices
    return array.isel({array.dims[-2]: rows, array.dims[-1]: cols})
