"""MATLAB benchmark scenes (.mat, v5 and v7.3): the cube, its band facts, labels, abundances and endmembers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import make_spectra
from torchspectral.errors import (
    BadCube,
    BandMismatch,
    BrokenProduct,
    MissingMetadata,
    UnknownName,
    UnsafeInput,
    closest,
)
from torchspectral.geo.grids import place
from torchspectral.io.readers.base import Reader, as_cube, as_layer
from torchspectral.io.readers.facts import BandFacts, Values, band_facts, guess_quantity, read_options
from torchspectral.io.readers.matlab.containers import envi_header
from torchspectral.io.readers.matlab.files import MatArray, Variable, is_v73, small, variables
from torchspectral.io.readers.matlab.scenes import (
    THIN,
    TRUTHS,
    Scene,
    anomaly_classes,
    classes_of,
    find_scene,
    known_scene,
    order_option,
    size_option,
    table,
    wavelengths_of,
)
from torchspectral.io.readers.matlab.spectra import Spectra, find_spectra, names_for, spectra_of

_WAVELENGTHS = (
    "wl", "wavelength", "wavelengths", "wavlength", "wavlengths", "wavelen", "wavlen", "lambda", "lambdas", "wvl",
    "wave", "waves", "centers", "centres", "bandcenters",
)  # fmt: skip
_FLAGS = ("bbl", "good", "goodbands", "good_bands")
_NUMBERS = ("slectbands", "selectbands", "selected_bands", "selectedbands")
_MOST_ENDMEMBERS = 64


class MatlabReader(Reader):
    """Reader of MATLAB scenes."""

    name = "matlab"
    title = "MATLAB scene (.mat)"
    patterns = ("*.mat",)
    options = (
        "key", "size", "order", "scene", "sensor", "wavelength", "wavelength_units", "quantity", "scale", "nodata",
    )  # fmt: skip
    layer_options = ("key", "size", "order")
    evidence = "seen-real"

    def recognise(self, path: Path) -> float:
        """By the first bytes."""
        if not path.is_file():
            return 0.0
        return 0.0 if is_v73(path) is None else 0.85

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """Open the one cube of the file, or the variable ``key``; spectra where it is a library or endmembers.

        Parameters
        ----------
        key : str, optional
            The variable to open. One that holds endmembers, signatures or one spectrum opens as spectra.
        size : (rows, columns), optional
            Of a matrix (bands, pixels) whose file does not state it.
        order : {"columns", "rows"}, optional
            How the pixels of a matrix run; columns, as MATLAB counts, by default, but for files of HySUPP's layout.
        scene : str, optional
            Take wavelengths, widths and band numbers from a published scene of this name: Samson, Jasper Ridge, Urban,
            Cuprite.
        sensor : str, optional
            Take wavelengths and widths from this sensor of `torchspectral.sensors`, where its bands fit; they are
            never guessed.

        Raises
        ------
        MissingMetadata
            Several variables could be the cube: the message lists the keys.
        UnknownName
            No variable or sensor of that name.
        UnsafeInput
            The file holds MATLAB objects or functions.
        BadCube, BandMismatch, BrokenProduct
        """
        given = read_options(options)
        known = variables(path)
        key = options.get("key")
        found = _open_spectra(path, known, key)
        if found is not None:
            return self._spectra(path, known, found, key, given)
        scene = find_scene(path, known, key, size_option(options.get("size")), order_option(options.get("order")))
        bands = scene.shape[0]
        notes = [f"opened {scene.variable.name} of {path.name} (MATLAB)", *([scene.note] if scene.note else [])]
        vectors = _vectors(path, known, bands)
        header = envi_header(path, known, bands)
        named = (options.get("sensor"), options.get("scene"))
        facts, number = _facts(path, scene, vectors, header, named, given)
        if "wavelength" in vectors and "wavelength" not in given and options.get("sensor") is None:
            notes.append(f"wavelengths taken from variable {vectors['wavelength_name']}")
        array = MatArray(path, scene.variable.name, scene.shape, scene.form, order=scene.order, turned=scene.turned)
        values = guess_quantity(
            Values(np.ones(bands), np.zeros(bands), None, "", []), floats=array.stored.kind == "f", given=given
        )
        array.set_meaning(values.scale, values.offset, values.nodata)
        attrs, more = _scene_facts(scene)
        attrs["source"] = [str(path)]
        if scene.form == "matrix":
            axes = "(pixels, bands)" if scene.turned else "(bands, pixels)"
            line = "column by column" if scene.order == "columns" else "row by row"
            notes.append(f"{scene.variable.name} is {axes}: pixels taken {line}")
        if header.get("map_info"):
            notes.append("the map info in the file is that of the whole scene, which this is a part of: not placed")
        attrs["history"] = [*notes, *more, *facts.notes, *values.notes]
        cube = as_cube(array, quantity=values.quantity, raw=raw, attrs=attrs, number=number, **facts.coords())
        if "correction_factors" in header:
            cube = cube.assign_coords(correction_factor=("band", header["correction_factors"]))
        return place(cube, None)

    def layers(self, path: Path) -> list[str]:
        """Other images of the file (label maps, masks, RGB, PAN), ``abundances``; ``labels`` and abundances also from
        a ``*_gt.mat`` or ``end4.mat`` beside it.
        """
        return list(self._layers(path))

    def open_layer(self, path: Path, name: str, **options: Any) -> xr.DataArray:
        """One of them, (y, x) or (layer, y, x), with ``class_names`` where the scene is a known one.

        Raises
        ------
        UnknownName
        BrokenProduct
            Labels beside the file are of another size.
        """
        found = self._layers(path, **options)
        if name not in found:
            raise UnknownName(f"{path.name} has no layer {name!r}: {closest(name, list(found))}")
        file, variable, scene = found[name]
        rows, cols = scene.shape[1:]
        if name == "abundances":
            return _abundances(file, variable, rows, cols, scene.order if file == path else options.get("order"))
        if len(variable.shape) == 2:
            if name == "labels" and variable.shape != (rows, cols):
                raise BrokenProduct(
                    f"the labels {variable.name} of {file.name} have {variable.shape[0]} x {variable.shape[1]} pixels, "
                    f"expected {rows} x {cols} as {scene.variable.name}"
                )
            array = MatArray(file, variable.name, (1, *variable.shape), "image", decode=False)
            classes = classes_of(variable.name)
            if not classes and variable.name == "map" and scene.variable.name == "data":
                classes = anomaly_classes()
            return place(as_layer(array, name, classes), None)
        rows, cols, count = variable.shape
        array = MatArray(file, variable.name, (count, rows, cols), "cube", decode=False)
        if count == 1:
            return place(as_layer(array, name), None)
        picture = count >= 3 and (array.stored == np.uint8 or "rgb" in name.lower())
        names = ["red", "green", "blue", "alpha"][:count] if picture else [str(n + 1) for n in range(count)]
        return _stack(array, name, names)

    def _layers(self, path: Path, **options: Any) -> dict[str, tuple[Path, Variable, Scene]]:
        known = variables(path)
        try:
            order = order_option(options.get("order"))
            scene = find_scene(path, known, options.get("key"), size_option(options.get("size")), order)
        except (MissingMetadata, BadCube, UnsafeInput):
            return {}
        found: dict[str, tuple[Path, Variable, Scene]] = {}
        rows, cols = scene.shape[1:]
        if scene.form == "image":
            return {"labels": (path, scene.variable, scene)} if classes_of(scene.variable.name) else {}
        for name, variable in known.items():
            if not variable.numeric or name == scene.variable.name or variable.vector:
                continue
            size = variable.shape[:2]
            thin = len(variable.shape) == 3 and variable.shape[2] <= THIN
            if (len(variable.shape) == 2 and (size == (rows, cols) or _finer(size, (rows, cols)))) or thin:
                found[_layer_name(name)] = (path, variable, scene)
        _add_truth(found, path, known, scene)
        for other in _label_files(path, scene.variable.name):
            images = [v for v in variables(other).values() if v.numeric and len(v.shape) == 2 and not v.vector]
            fits = [v for v in images if v.shape == (rows, cols)] or images[:1]
            if fits and "labels" not in found:
                found["labels"] = (other, fits[0], scene)
        return found

    def _spectra(
        self, path: Path, known: dict[str, Variable], found: Spectra, key: Any, given: dict[str, Any]
    ) -> xr.DataArray:
        bands = found.values.shape[1]
        stated = found.wavelength
        if not stated.size and "wavelength" not in given:
            stated = np.asarray(_vectors(path, known, bands).get("wavelength", ()), dtype=np.float64)
        searched = f"variables named {', '.join(_WAVELENGTHS[:3])}, ... and the option wavelength="
        facts = band_facts(bands, path.name, wavelength=stated, given=given, searched=searched)
        values = guess_quantity(
            Values(np.ones(1), np.zeros(1), None, found.quantity, []),
            floats=found.values.dtype.kind == "f",
            given=given,
        )
        data = found.values.astype(np.float64 if found.values.dtype == np.float64 else np.float32)
        if values.nodata is not None:
            data = np.where(data == values.nodata, np.nan, data)
        data = data * values.scale[0] if values.scale[0] != 1 else data
        what = f"{key} of {path.name}" if key else path.name
        attrs = {
            "quantity": values.quantity,
            "source": [str(path)],
            "history": [f"opened {what} (MATLAB) as {len(data)} spectra", *found.notes, *facts.notes, *values.notes],
        }
        out = make_spectra(data, found.names, wavelength=facts.wavelength, fwhm=facts.fwhm, attrs=attrs)
        return out.assign_coords(good=("band", facts.good))


def _open_spectra(path: Path, known: dict[str, Variable], key: Any) -> Spectra | None:
    """Spectra, where ``key`` names some or the file holds nothing else."""
    if key is not None:
        if key not in known:
            return None
        try:
            bands = find_scene(path, known, None).shape[0]
        except (MissingMetadata, BadCube, UnsafeInput):
            bands = None
        return spectra_of(path, known, key, bands if bands != 1 else None)
    cubes = any(v.numeric and len(v.shape) == 3 for v in known.values())
    if cubes:
        return None
    try:
        form = find_scene(path, known, None).form
    except (MissingMetadata, BadCube):
        form = "image"
    return find_spectra(path, known) if form == "image" else None


def _facts(
    path: Path,
    scene: Scene,
    vectors: dict[str, Any],
    header: dict[str, Any],
    named: tuple[Any, Any],
    given: dict[str, Any],
) -> tuple[BandFacts, Any]:
    """Band coordinates, and the band numbers where the file lists them; `named` are sensor and published scene."""
    bands, (sensor, published) = scene.shape[0], named
    number = vectors.get("number")
    stated, units = vectors.get("wavelength", ()), ""
    fwhm: Any = vectors.get("fwhm", ())
    if len(fwhm) == 0 and "fwhm" in header and np.size(stated):
        # The header's widths are in its own units; as nm they go with any wavelengths.
        fwhm = header["fwhm"] * (1.0 if np.nanmax(stated) >= 30 else 1e-3)
    extra: list[str] = []
    if published is not None and sensor is None and "wavelength" not in given:
        row = known_scene(published)
        if row["size"][2] != bands:
            raise BandMismatch(f"{path.name} has {bands} bands, expected {row['size'][2]} as {row['pixels']} has them")
        stated, fwhm, kept, said = wavelengths_of(row)
        number = number if number is not None else kept
        extra, units = [said], "nm"
    if sensor is not None and "wavelength" not in given:
        stated, fwhm, number, extra = _from_sensor(path, scene, sensor, number)
        units = "nm"
    facts = band_facts(
        bands,
        path.name,
        wavelength=stated,
        units=units,
        fwhm=fwhm,
        good=vectors.get("good", ()),
        given=given,
        searched=f"variables named {', '.join(_WAVELENGTHS[:3])}, ... and the options wavelength= and sensor=",
    )
    facts.notes += extra
    return facts, number


def _from_sensor(path: Path, scene: Scene, sensor: Any, number: Any) -> tuple[np.ndarray, np.ndarray, Any, list[str]]:
    """Centres, widths and band numbers by the sensor that the user names.

    Raises
    ------
    BandMismatch
    """
    from torchspectral.sensors import get

    known, bands = get(str(sensor)), scene.shape[0]
    if number is None and known.bands != bands:
        raise BandMismatch(
            f"{path.name} has {bands} bands but {known.name} has {known.bands}, and the file does not say which were "
            "kept: give wavelength="
        )
    kept = np.arange(bands) if number is None else np.asarray(number) - 1
    if kept.min() < 0 or kept.max() >= known.bands:
        raise BandMismatch(
            f"{path.name} lists bands {kept.min() + 1} to {kept.max() + 1}, but {known.name} has {known.bands}"
        )
    return known.wavelength[kept], known.fwhm[kept], number, [f"wavelengths of {known.name}, named by the user"]


def _scene_facts(scene: Scene) -> tuple[dict[str, Any], list[str]]:
    """Attributes of a known scene, and a line where its size is not the published one."""
    scenes, _, _ = table()
    row = scenes.get(scene.variable.name.lower())
    if row is None:
        return (classes_of(scene.variable.name) if scene.form == "image" else {}), []
    rows, cols, bands = row["size"]
    lines = []
    if scene.shape != (bands, rows, cols):
        lines.append(
            f"{scene.variable.name} as published has {rows} x {cols} pixels and {bands} bands: this is another cut"
        )
    return {"sensor": row["sensor"]}, lines


def _vectors(path: Path, known: dict[str, Variable], bands: int) -> dict[str, Any]:
    """Wavelengths, widths, flags and band numbers that the file carries, one value a band each."""
    found: dict[str, Any] = {}
    for name, variable in known.items():
        if not variable.numeric or not variable.vector or int(np.prod(variable.shape)) != bands or bands < 2:
            continue
        low = name.lower()
        role = (
            "wavelength" if low in _WAVELENGTHS or low.endswith(("_wavelengths", "_wavelength", "_wavlen", "_wl"))
            else "fwhm" if low == "fwhm"
            else "good" if low in _FLAGS
            else "number" if low in _NUMBERS
            else ""
        )  # fmt: skip
        if role and role not in found:
            values = small(path, name).reshape(-1)
            found[role] = values.astype(np.int64) if role == "number" else values.astype(np.float64)
            if role == "wavelength":
                found["wavelength_name"] = name
    return found


def _add_truth(
    found: dict[str, tuple[Path, Variable, Scene]], path: Path, known: dict[str, Variable], scene: Scene
) -> None:
    """Layer ``abundances`` from the file, or from a ground truth beside it."""
    pixels = scene.shape[1] * scene.shape[2]
    beside = [p for folder in (path.parent, path.parent / "GroundTruth") for p in sorted(folder.glob("*end[0-9]*.mat"))]
    for file in [path, *[p for p in beside if p != path][:16]]:
        have = known if file == path else variables(file)
        for name in TRUTHS:
            variable = have.get(name)
            if variable is None or not variable.numeric or name == scene.variable.name:
                continue
            flat = len(variable.shape) == 2 and variable.shape[1] == pixels and variable.shape[0] <= _MOST_ENDMEMBERS
            image = len(variable.shape) == 3 and variable.shape[:2] == scene.shape[1:]
            if flat or (image and variable.shape[2] <= _MOST_ENDMEMBERS):
                found.setdefault("abundances", (file, variable, scene))
                return


def _abundances(file: Path, variable: Variable, rows: int, cols: int, order: str | None) -> xr.DataArray:
    count = variable.shape[0] if len(variable.shape) == 2 else variable.shape[2]
    form = "matrix" if len(variable.shape) == 2 else "cube"
    names = names_for(file, variables(file), count) or [f"endmember {n + 1}" for n in range(count)]
    array = MatArray(file, variable.name, (count, rows, cols), form, order=order or "columns", decode=False)
    layer = _stack(array, "abundances", names)
    layer.attrs = {"source": [str(file)], "history": [f"{variable.name} of {file.name}"]}
    return layer


def _stack(array: MatArray, name: str, names: list[str]) -> xr.DataArray:
    from xarray.core import indexing

    data = xr.Variable(("layer", "y", "x"), indexing.LazilyIndexedArray(array))
    return place(xr.DataArray(data, coords={"layer": names}, name=name), None)


def _finer(size: tuple[int, ...], coarse: tuple[int, int]) -> bool:
    ratios = [a / b for a, b in zip(size, coarse, strict=True)]
    return ratios[0] == ratios[1] and ratios[0] >= 2 and ratios[0].is_integer()


def _layer_name(name: str) -> str:
    low = name.lower()
    if low == "pan" or low.endswith("_pan") or low.startswith("pan_"):
        return "pan"
    return "labels" if low.endswith("_gt") or low in ("gt", "labels", "groundtruth", "ground_truth") else name


def _label_files(path: Path, key: str) -> list[Path]:
    stem = path.stem.removesuffix("_corrected")
    names = {f"{stem}_gt.mat", f"{key.removesuffix('_corrected')}_gt.mat"}
    return [path.parent / n for n in sorted(names) if (path.parent / n).is_file() and (path.parent / n) != path]
