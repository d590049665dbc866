"""Degrade a scene as the benchmarks do: lazily and by rows, or with the published code's generator.

References
----------
Wei, Fu, Huang, "3-D quasi-recurrent neural network for hyperspectral image denoising", IEEE TNNLS 32 (2021).
Lai, Chen, Fu, "Hybrid spectral denoising transformer with guided attention", ICCV 2023.
Wu et al., "MP-HSIR: a multi-prompt framework for universal hyperspectral image restoration", arXiv 2503.09131 (2025).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import xarray as xr

from torchspectral.cube import UNITS, check_cube, good_bands, is_packed, with_history
from torchspectral.errors import BadCube, BadInput, BadSettings, OutputExists, OutputFailed, TooLarge
from torchspectral.geo import grid_of, place, place_coarser
from torchspectral.geo.lazy import LazyArray, missing_value, with_data
from torchspectral.log import Progress, Step, no_progress
from torchspectral.restoration.degraded import DegradedCube, Imresize, brightest, value_range
from torchspectral.result import Report, Result
from torchspectral.settings import Settings, setting
from torchspectral.synth import Recipe, degrade_array, make_recipe
from torchspectral.synth.draws import NumpyDraw
from torchspectral.synth.steps import Facts, Planned

LEGACY_BYTES = 4 << 30
"""Largest scene that is degraded in one piece with the legacy generator [bytes of float64]."""

FLAGS = "bits: 1 set to zero, 2 striped, 4 salt or pepper"
"""Meaning of the mask's values."""


class DegradeSettings(Settings):
    """Settings of `degrade`."""

    recipe: str = setting("icvl-mixture", "what is done, see `synth.make_recipe`; imresize:4 is MATLAB's")
    scale: Literal["range", "physical"] = setting(
        "range",
        "what 0..1 is: the smallest and largest value of the good bands, or the values as they are (reflectance)",
    )
    generator: Literal["rows", "legacy"] = setting(
        "rows",
        "random numbers: a stream for each row and band, which large scenes need, or numpy's legacy generator in the "
        "order of the published code",
    )
    cirrus: str = setting("", "image of cirrus for haze, brought to the scene's size and to 0..1; empty: generated")


def read_recipe(text: str) -> Recipe:
    """As `synth.make_recipe`, and ``imresize:N``: MATLAB's bicubic, N times coarser.

    Raises
    ------
    UnknownName, BadSettings
    """
    steps: list[Any] = []
    for part in str(text).split("+"):
        name, _, number = part.strip().lower().partition(":")
        if name != "imresize":
            steps += make_recipe(part).steps
            continue
        if not number.isdigit() or not 2 <= int(number) <= 64:
            raise BadSettings(f"cannot read recipe {part!r}: expected imresize:N with a whole number from 2 to 64")
        steps.append(Imresize(1 / int(number)))
    return Recipe(str(text), tuple(steps))


def degrade(
    cube: xr.DataArray,
    recipe: str = "",
    seed: int = 0,
    *,
    out: Path | str | None = None,
    settings: Mapping[str, Any] | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Result:
    """Degrade a scene as the benchmarks do; the scene itself stays as it is.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        Lazy cubes are streamed, and the result is lazy.
    recipe : str
        See `synth.make_recipe`; in place of the setting of that name.
    seed : int
        The same scene, recipe and seed give the same values, however they are read.
    out : path, optional
        File for the degraded cube, with ``OUT.mask.tif`` beside it where values were replaced or striped; or a folder
        (existing, or a name that ends in "/") for ``cube.tif``, ``mask.tif`` and ``bands.csv``.
    settings : mapping, optional
        Fields of `DegradeSettings`.
    overwrite : bool
    progress : callable

    Returns
    -------
    Result
        ``cube`` (float32, in the units of the input; nodata stays), ``mask`` (band, y, x), bits 1: set to zero, 2:
        striped, 4: salt or pepper, where the recipe has any; ``bands``, a table with what was done to each band:
        sigma (in the working scale 0..1), stripes and dead lines (counts), impulses (share), lost.

    Raises
    ------
    UnknownName, BadSettings, BadCube, BadInput, MissingMetadata, TooLarge, OutputExists, OutputFailed

    Examples
    --------
    >>> import torchspectral as ts
    >>> noisy = ts.degrade(ts.open("scene.tif"), "icvl-mixture", seed=1)  # doctest: +SKIP
    >>> clean = ts.restore(noisy["cube"])  # doctest: +SKIP
    >>> ts.score(clean.primary, ts.open("scene.tif"))  # doctest: +SKIP
    """
    made = DegradeSettings.make({**(settings or {}), **({"recipe": recipe} if recipe else {})})
    if isinstance(seed, bool) or not isinstance(seed, int) or seed < 0:
        raise BadSettings(f"got seed={seed!r}, expected a whole number from 0")
    chain = read_recipe(made.recipe)
    cube = _checked(cube)
    paths = _paths(out, cube, overwrite)
    report = Report(method="restoration/degrade", settings=made.model_dump(), seed=seed)
    nodata = None if cube.dtype.kind == "f" else missing_value(cube)
    gain, offset = _scale(cube, made.scale, nodata, report)
    facts = Facts(
        wavelength=np.asarray(cube["wavelength"].values, dtype=np.float64),
        cirrus=_cirrus(made.cirrus) if made.cirrus else None,
    )
    common: dict[str, Any] = {"gain": gain, "offset": offset, "nodata": nodata, "seed": seed}
    if made.generator == "legacy":
        values = _legacy(cube, chain, common, facts, seed)
    else:
        values = _streamed(cube, chain, common, facts, seed)
    degraded = with_history(values["cube"], f"degraded: {made.recipe}, seed {seed}")
    degraded.attrs.pop("nodata", None)
    values["cube"] = degraded
    table = pd.DataFrame({"band": cube["number"].values, "wavelength": cube["wavelength"].values, **facts.bands})
    values["bands"] = table
    report.figures = {
        **facts.chosen,
        **{
            key: [float(f"{v:.6g}") for v in np.asarray(column, dtype=np.float64)]
            for key, column in facts.bands.items()
        },
    }
    report.history = list(degraded.attrs.get("history", []))
    return _written(values, report, paths, overwrite, progress) if paths else Result(values, report)


def _checked(cube: xr.DataArray) -> xr.DataArray:
    cube = check_cube(cube)
    if cube.ndim != 3:
        raise BadCube(f"got a video of {cube.sizes['time']} frames, expected one image: pick one with isel(time=k)")
    if is_packed(cube):
        raise BadCube("got stored integers (opened raw), expected physical values: open the product without raw=True")
    return cube


def _scale(cube: xr.DataArray, rule: str, nodata: float | int | None, report: Report) -> tuple[float, float]:
    """Gain and offset of the working scale."""
    if rule == "physical":
        return 1.0, 0.0
    plain = DegradedCube(cube.variable, (), gain=1.0, offset=0.0, nodata=nodata, seed=0, working=True)
    low, high = value_range(plain, good_bands(cube))
    if not np.isfinite([low, high]).all():
        raise BadInput("no good band has a valid value: there is nothing to degrade")
    if high <= low:
        raise BadInput(f"all values are {low:g}: there is no range to scale by (scale=physical takes them as they are)")
    report.scaled.append(f"worked on in 0..1, which is {low:g} to {high:g} of the scene, and brought back")
    return high - low, low


def _streamed(cube: xr.DataArray, chain: Recipe, common: dict[str, Any], facts: Facts, seed: int) -> dict[str, Any]:
    """Plan all steps, and make the lazy cube and mask."""
    draw = NumpyDraw([seed, 11])
    planned: list[Planned] = []
    shape: Any = tuple(cube.shape)
    for step in chain.steps:
        so_far = DegradedCube(cube.variable, planned, working=True, **common)
        facts.light = lambda share, so_far=so_far: brightest(so_far, share)
        planned.append(step.plan(shape, draw, facts))
        shape = planned[-1].shape(shape)
    facts.light = None
    values = {"cube": _placed(DegradedCube(cube.variable, planned, **common), cube)}
    if any(step.flags for step in planned):
        values["mask"] = _mask(DegradedCube(cube.variable, planned, flags=True, **common), values["cube"])
    return {k: v.load() for k, v in values.items()} if cube.variable._in_memory else values


def _legacy(cube: xr.DataArray, chain: Recipe, common: dict[str, Any], facts: Facts, seed: int) -> dict[str, Any]:
    """Degrade the whole scene at once with numpy's legacy generator."""
    need = cube.size * 8
    if need > LEGACY_BYTES:
        raise TooLarge(
            f"a scene of {cube.size} values needs {need / 2**30:.1f} GiB a copy for the legacy generator, expected at "
            f"most {LEGACY_BYTES >> 30} GiB: take generator=rows, or cut the scene"
        )
    plain = DegradedCube(cube.variable, (), working=True, **common)
    values = plain.compute(*(np.arange(n) for n in plain.shape)).astype(np.float64)
    found = degrade_array(values, chain, np.random.RandomState(seed), wavelength=facts.wavelength, cirrus=facts.cirrus)
    facts.bands, facts.chosen = found.facts.bands, found.facts.chosen
    back = (found.values * common["gain"] + common["offset"]).astype(np.float32)
    out = {"cube": _placed(_Held(back), cube).load()}
    if found.mask.any():
        out["mask"] = _mask(_Held(found.mask), out["cube"]).load()
    return out


class _Held(LazyArray):
    """Values that are in memory."""

    def __init__(self, values: np.ndarray) -> None:
        super().__init__(values.shape, values.dtype)
        self.values = values

    def compute(self, *indices: np.ndarray) -> np.ndarray:
        """The block."""
        block: np.ndarray = self.values[np.ix_(*indices)]
        return block


def _placed(array: LazyArray, like: xr.DataArray) -> xr.DataArray:
    """A lazy array on the ground of `like`, with as many or fewer pixels."""
    out = with_data(like, array)
    if array.shape == like.shape:
        ground = {k: c for k, c in like.coords.items() if {"y", "x"} & set(c.dims) or k == "spatial_ref"}
        out = out.assign_coords(ground)
        if "glt" in like.attrs:
            out.attrs["glt"] = like.attrs["glt"]
        return out
    factor = -(-like.shape[-1] // array.shape[-1])
    if any(size != factor * small for size, small in zip(like.shape[-2:], array.shape[-2:], strict=True)):
        out.attrs["history"] = [
            *out.attrs.get("history", []),
            "not placed: its pixels are no whole number of the scene's",
        ]
        return place(out, None)
    return place_coarser(out, like, factor)


def _mask(array: LazyArray, like: xr.DataArray) -> xr.DataArray:
    out = _placed(array, like).rename("mask")
    kept = {k: out.attrs[k] for k in ("glt", "source") if k in out.attrs}
    out.attrs = {"quantity": "dn", "units": UNITS["dn"], "history": [FLAGS], "flags": FLAGS, **kept}
    return out


def _cirrus(path: str) -> np.ndarray:
    """First band of an image, 0..1; nodata is clear sky."""
    from torchspectral.io import open_product

    image = np.asarray(check_cube(open_product(path)).isel(band=0).values, dtype=np.float64)
    if not np.isfinite(image).any() or np.nanmax(image) <= 0:
        raise BadInput(f"{path} has no positive value: expected an image of cirrus")
    image = np.nan_to_num(image).clip(0)
    return image / image.max() if image.max() > 1 else image


def _paths(out: Path | str | None, cube: xr.DataArray, overwrite: bool) -> dict[str, Path]:
    if out is None:
        return {}
    path = Path(out)
    if str(out).endswith("/") or (path.is_dir() and path.suffix != ".zarr"):
        suffix = ".zarr" if grid_of(cube).kind == "swath" else ".tif"
        found = {"cube": path / f"cube{suffix}", "mask": path / f"mask{suffix}", "bands": path / "bands.csv"}
    else:
        found = {"cube": path, "mask": path.with_name(f"{path.stem}.mask{path.suffix}")}
    for one in found.values():
        if one.exists() and not overwrite:
            raise OutputExists(f"{one} exists: overwrite=True (--overwrite) replaces it")
    return found


def _written(
    values: dict[str, Any], report: Report, paths: dict[str, Path], overwrite: bool, progress: Progress
) -> Result:
    from torchspectral.io import open_product, save

    folder = paths["cube"].parent
    if "bands" in paths and not folder.exists():
        try:
            folder.mkdir(parents=True)
        except OSError as error:
            raise OutputFailed(f"cannot make the folder {folder}: {error.strerror or error}") from None
    names = [name for name in values if name in paths]
    done: dict[str, str] = {}
    for number, name in enumerate(names):
        options: dict[str, Any] = {} if name == "bands" else {"orthorectify": False}
        path = save(values[name], paths[name], overwrite=overwrite, report=report, **options)
        done[name] = str(path)
        values[name] = values[name] if name == "bands" else open_product(path)
        progress(Step(f"write {name}", (number + 1) / len(names)))
    return Result(values, report, done)
