"""Quality masks under one vocabulary, whatever the product calls them, and their application to cubes.

Flags
    ``cloud, cirrus, shadow`` (of clouds), ``snow, haze, water, saturated, interpolated, nodata``.
A reader's layer of such a name is a flag: set where it is not 0. Layers with CF attributes ``flag_values`` or
``flag_masks`` and ``flag_meanings``, and layers whose ``layer`` coordinate names flags, are understood too.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from torchspectral.cube import with_history
from torchspectral.errors import BadInput, BadSettings, GridMismatch, UnknownName, closest
from torchspectral.geo.grids import grid_of, to_ground
from torchspectral.geo.lazy import LazyArray, as_slice, missing_value

VOCABULARY = ("cloud", "cirrus", "shadow", "snow", "haze", "water", "saturated", "interpolated", "nodata")
RULES: dict[str, tuple[str, ...]] = {
    "clear": ("cloud", "cirrus", "shadow", "haze", "nodata"),
    "land": ("cloud", "cirrus", "shadow", "haze", "nodata", "snow", "water"),
    "water": ("cloud", "cirrus", "shadow", "haze", "nodata", "snow"),
    "cloud-free": ("cloud", "cirrus", "nodata"),
    "strict": VOCABULARY,
}
"""Rule -> flags that must not be set."""

_SYNONYMS = {
    "clouds": "cloud", "dilated cloud": "cloud", "cloud medium probability": "cloud", "cloud high probability": "cloud",
    "high probability clouds": "cloud", "medium probability clouds": "cloud", "opaque cloud": "cloud",
    "thin cirrus": "cirrus", "cloud shadow": "shadow", "cloudshadow": "shadow", "cloud shadows": "shadow",
    "snow or ice": "snow", "snow ice": "snow", "ice": "snow", "saturated or defective": "saturated",
    "background": "nodata", "no data": "nodata", "fill": "nodata",
}  # fmt: skip

_QA_PIXEL = {"nodata": (0,), "cloud": (1, 3), "cirrus": (2,), "shadow": (4,), "snow": (5,), "water": (7,)}
"""Bits of Landsat's QA_PIXEL files."""


class Flag:
    """One condition on one (y, x) variable: not 0, equal to some values, or some bits set.

    Parameters
    ----------
    name : str
        Flag of the vocabulary.
    values : xarray.Variable
        Lazy or in memory.
    equal, bits : sequence of int, optional
        Values or bit masks that set the flag; not 0 where both are absent.
    """

    def __init__(
        self, name: str, values: xr.Variable, equal: Sequence[int] | None = None, bits: int | None = None
    ) -> None:
        self.name, self.values, self.equal, self.bits = name, values, equal, bits

    def at(self, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
        """Whether the flag is set, shape (len(ys), len(xs))."""
        block = np.asarray(self.values[as_slice(ys), as_slice(xs)].values)
        if self.equal is not None:
            return np.isin(block, self.equal)
        if self.bits is not None:
            return (block.astype(np.int64) & self.bits) != 0
        if block.dtype.kind == "f":
            return np.isnan(block) | (block != 0)
        return block != 0


class ClearArray(LazyArray):
    """True where none of the flags is set; shape (1, y, x)."""

    def __init__(self, flags: Sequence[Flag], shape: tuple[int, int], keep: bool = False) -> None:
        super().__init__((1, *shape), bool)
        self.flags, self.keep = list(flags), keep

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """A window of the mask."""
        _, ys, xs = indices
        found = np.zeros((ys.size, xs.size), dtype=bool)
        for flag in self.flags:
            found |= flag.at(ys, xs)
        return (found if self.keep else ~found)[None]


class MaskedArray(LazyArray):
    """Values where a mask is True, the missing value elsewhere."""

    def __init__(self, values: xr.Variable, mask: xr.Variable, fill: float | int) -> None:
        super().__init__(values.shape, values.dtype)
        self.values, self.mask, self.fill = values, mask, fill

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """A window of the masked values."""
        block = np.array(self.values[tuple(as_slice(i) for i in indices)].values)
        keep = np.asarray(self.mask[as_slice(indices[-2]), as_slice(indices[-1])].values).astype(bool)
        block[..., ~keep] = self.fill
        return block


def clear_mask(
    source: str | Path | xr.Dataset | xr.DataArray,
    rule: str | Sequence[str] = "clear",
    *,
    flagged: Sequence[int] | None = None,
    opening: Mapping[str, Any] | None = None,
) -> tuple[xr.DataArray, list[str]]:
    """Where a scene can be used.

    Parameters
    ----------
    source : path, Dataset or DataArray
        A product whose reader has quality layers; a Dataset of such layers (as `open_product` with ``layers=``); one
        layer; or any one-band raster, in which not 0 means clear.
    rule : str or sequence of str
        "clear" (no cloud, cirrus, shadow, haze, nodata), "land" (also no water, snow), "water" (also no snow),
        "cloud-free" (cloud, cirrus, nodata), "strict" (every flag), or the flags that must not be set.
    flagged : sequence of int, optional
        For a one-band raster: the values that must not be used (e.g. 3, 8, 9, 10 of a Sentinel-2 scene
        classification).
    opening : mapping, optional
        Options with which the product itself was opened: those that place its layers count here too.

    Returns
    -------
    DataArray of bool, shape (layer, y, x)
        One layer ``clear``, lazy, on the grid of the source.
    list of str
        The flags that the source has and the rule uses.

    Raises
    ------
    UnknownName
        A flag or rule does not exist.
    BadInput
        The source has none of the flags that the rule needs.
    """
    wanted = _wanted(rule)
    flags, like, single = _find_flags(source, wanted, opening or {})
    if flagged is not None:
        if single is None:
            raise BadSettings("flagged= is for one-band rasters; this source names its flags: use rule=")
        flags, used, keep = [Flag("flagged", single.variable, equal=[int(v) for v in flagged])], ["flagged"], False
    elif flags:
        used, keep = [name for name in VOCABULARY if any(f.name == name for f in flags)], False
    elif single is not None:
        flags, used, keep = [Flag("mask", _zero_where_missing(single))], ["mask"], True
    else:
        raise BadInput(
            f"the source has none of the flags {', '.join(wanted)}: expected layers of these names, CF flag_meanings, "
            "or a one-band mask raster"
        )
    shape = tuple(int(like.sizes[d]) for d in ("y", "x"))
    array = ClearArray(flags, (shape[0], shape[1]), keep)
    variable = xr.Variable(("layer", "y", "x"), indexing.LazilyIndexedArray(array))
    ground = {k: c.variable for k, c in like.coords.items() if set(c.dims) <= {"y", "x"}}
    mask = xr.DataArray(variable, coords={"layer": ["clear"], **ground}, name="clear")
    mask.attrs = {"flags": used, "rule": rule if isinstance(rule, str) else list(rule)}
    if "glt" in like.attrs:
        mask.attrs["glt"] = like.attrs["glt"]
    return mask, used


def apply_mask(
    cube: xr.DataArray, mask: xr.DataArray | str | Path, rule: str | Sequence[str] = "clear"
) -> xr.DataArray:
    """Set pixels that a mask excludes to nodata; lazy.

    Parameters
    ----------
    cube : DataArray, shape (..., y, x)
        Float: NaN where masked. Integer: its nodata value.
    mask : DataArray of shape (y, x) or (1, y, x), or path
        True or not 0: keep. A path is read by `clear_mask`.
    rule : str or sequence of str
        For a path.

    Raises
    ------
    GridMismatch
        The mask lies on another grid.
    BadSettings
        Integers without nodata value.
    """
    layer = clear_mask(mask, rule)[0] if isinstance(mask, (str, Path)) else mask
    used = layer.attrs.get("flags", [])
    if layer.ndim == 3 and layer.shape[0] == 1:
        layer = layer[0]
    if layer.dims != ("y", "x"):
        raise GridMismatch(f"got a mask with dims {layer.dims}, expected (y, x) or one layer")
    _same_grid(cube, layer)
    fill = missing_value(cube)
    if fill is None:
        raise BadSettings(f"values of type {cube.dtype} have no nodata value to mask with: set attrs['nodata']")
    array = MaskedArray(cube.variable, layer.variable, fill)
    out = cube.copy(data=indexing.LazilyIndexedArray(array))
    return with_history(out, f"masked{' by ' + ', '.join(used) if used else ''}")


def _wanted(rule: str | Sequence[str]) -> tuple[str, ...]:
    if isinstance(rule, str) and rule in RULES:
        return RULES[rule]
    names = [n.strip() for n in rule.split(",")] if isinstance(rule, str) else [str(n) for n in rule]
    if not names:
        raise UnknownName(f"got an empty rule, expected one of {', '.join(RULES)} or flags")
    for name in names:
        if name not in VOCABULARY:
            raise UnknownName(f"unknown mask rule or flag {name!r}: {closest(name, (*RULES, *VOCABULARY))}")
    return tuple(names)


def _find_flags(
    source: Any, wanted: Sequence[str], opening: Mapping[str, Any]
) -> tuple[list[Flag], xr.DataArray, xr.DataArray | None]:
    """Flags of a source, a value on its grid, and its only (y, x) layer where it is a plain raster."""
    if isinstance(source, (str, Path)):
        return _of_product(Path(source), wanted, opening)
    if isinstance(source, xr.Dataset):
        like = source["cube"] if "cube" in source else next(iter(source.data_vars.values()), None)
        if like is None:
            raise BadInput("got an empty Dataset, expected quality layers")
        flags = [
            f
            for name, layer in source.data_vars.items()
            if name != "cube" and layer.dims[-2:] == ("y", "x")
            for f in flags_of(str(name), layer, wanted)
        ]
        return flags, like, None
    if isinstance(source, xr.DataArray):
        flags = list(flags_of(str(source.name or ""), source, wanted))
        return flags, source, None if flags else _one_band(source)
    raise BadInput(f"got {type(source).__name__} as a mask, expected a path, a Dataset or a DataArray")


def _of_product(
    path: Path, wanted: Sequence[str], opening: Mapping[str, Any]
) -> tuple[list[Flag], xr.DataArray, xr.DataArray | None]:
    from torchspectral.io.opening import find_reader, list_layers

    reader, found = find_reader(path, opening.get("reader"))
    own = {name: value for name, value in opening.items() if name in reader.layer_options and value is not None}
    flags: list[Flag] = []
    like = None
    for name in list_layers(found, reader=reader.name):
        if name in VOCABULARY and name not in wanted:
            continue
        if name not in VOCABULARY and name not in ("classes", "mask", "scl", "quality", "qa_pixel", "labels"):
            continue
        layer = reader.open_layer(found, name, **own)
        have = {f.name for f in flags}
        new = [f for f in flags_of(name, layer, wanted) if f.name not in have]
        if new and (like is None or like.shape[-2:] == layer.shape[-2:]):
            flags += new
            like = layer
    if flags and like is not None:
        return flags, like, None
    if found.stem.upper().endswith("QA_PIXEL"):
        single = _one_band(reader.open(found, raw=True))
        if single is not None:
            bits = {f: sum(1 << b for b in _QA_PIXEL[f]) for f in wanted if f in _QA_PIXEL}
            return [Flag(f, single.variable, bits=b) for f, b in bits.items()], single, None
    cube = reader.open(found, raw=True, **{k: v for k, v in opening.items() if k in reader.options})
    return [], cube, _one_band(cube)


def flags_of(name: str, layer: xr.DataArray, wanted: Sequence[str]) -> Iterator[Flag]:
    """Flags of the vocabulary that one layer carries."""
    plain = _common(name)
    flat = layer.variable
    if layer.ndim == 3:
        names = [_common(str(n)) for n in layer["layer"].values] if "layer" in layer.coords else []
        known = [i for i, n in enumerate(names) if n in VOCABULARY]
        for index in known:
            if names[index] in wanted:
                yield Flag(names[index], flat[index])
        if known or layer.shape[0] != 1:
            return
        flat = flat[0]
    if plain in VOCABULARY:
        if plain in wanted:
            yield Flag(plain, flat)
        return
    meanings = layer.attrs.get("flag_meanings", [])
    words = [w.replace("_", " ") for w in meanings.split()] if isinstance(meanings, str) else list(meanings)
    if not words:
        words = list(layer.attrs.get("class_names", []))
        values: Any = range(len(words))
    else:
        values = layer.attrs.get("flag_values", ())
    bits = layer.attrs.get("flag_masks", ())
    for flag in wanted:
        at = [i for i, word in enumerate(words) if _common(word) == flag]
        if at and len(bits) == len(words) and not len(layer.attrs.get("flag_values", ())):
            yield Flag(flag, flat, bits=int(np.bitwise_or.reduce([int(bits[i]) for i in at])))
        elif at and len(values) == len(words):
            yield Flag(flag, flat, equal=[int(values[i]) for i in at])


def _common(name: str) -> str:
    word = " ".join(str(name).lower().replace("_", " ").replace("-", " ").split())
    word = word.removesuffix(" flag").removesuffix(" mask").removesuffix(" pixels")
    return _SYNONYMS.get(word, word)


def _one_band(value: xr.DataArray) -> xr.DataArray | None:
    if value.ndim == 2:
        return value
    return value[0] if value.ndim == 3 and value.shape[0] == 1 else None


def _zero_where_missing(layer: xr.DataArray) -> xr.Variable:
    """The layer with its nodata as 0, so that nodata is never kept."""
    missing = missing_value(layer)
    if missing is None or missing == 0:
        return layer.variable
    return xr.Variable(layer.dims, indexing.LazilyIndexedArray(_NoMissing(layer.variable, missing)))


class _NoMissing(LazyArray):
    def __init__(self, values: xr.Variable, missing: float | int) -> None:
        super().__init__(values.shape, values.dtype)
        self.values, self.missing = values, missing

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        block = np.array(self.values[tuple(as_slice(i) for i in indices)].values)
        block[np.isnan(block) if np.isnan(self.missing) else block == self.missing] = 0
        return block


def _same_grid(cube: xr.DataArray, mask: xr.DataArray) -> None:
    if cube.shape[-2:] != mask.shape[-2:]:
        raise GridMismatch(
            f"the mask has {mask.shape[-2]} x {mask.shape[-1]} pixels, expected {cube.shape[-2]} x {cube.shape[-1]} as "
            "the cube: call geo.align(mask, cube) first"
        )
    a, b = grid_of(cube), grid_of(mask)
    if "none" in (a.kind, b.kind) or "swath" in (a.kind, b.kind):
        return
    if a.crs is not None and b.crs is not None and a.crs != b.crs:
        raise GridMismatch(f"the mask is in {b.crs.name}, the cube in {a.crs.name}: call geo.align(mask, cube) first")
    size = min(a.resolution)
    for corner in ((0, 0), (a.width, a.height)):
        (x0, y0), (x1, y1) = to_ground(a.transform, *corner), to_ground(b.transform, *corner)
        if max(abs(x0 - x1), abs(y0 - y1)) > 0.05 * size:
            raise GridMismatch(
                f"the mask's corner lies at {x1:g}, {y1:g}, the cube's at {x0:g}, {y0:g}: "
                "call geo.align(mask, cube) first"
            )
