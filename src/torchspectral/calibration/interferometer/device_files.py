"""Device files: our JSON, and the authors' folders of .npy files, read and written.

``device.json`` is one object: ``format`` ("torchspectral interferometer"), ``version`` (1), ``name``, ``waves``,
``family``, ``domain``, ``bounds``, ``wavenumber`` [1/um], ``parameters`` (opd [um], gain, reflectivity, phase_shift [rad]:
lists of coefficients, one list an interferometer), ``nominal_opd`` [um], ``opd_error`` [um], ``rmse``, ``good``,
``used`` (in reconstructions: edit it to leave an interferometer out, or to take one in), ``flags``, ``geometry``,
``recipe`` and ``notes``. The authors' folders hold opd.npy, gain.npy, reflectivity.npy and phase_shift.npy, coefficients
on the raw wavenumber, with options.json for the model and the polynomials' name.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.calibration.interferometer.acquisition import read_array
from torchspectral.calibration.interferometer.characterization import FAILED, FLAGS, PARAMETERS, Characterization
from torchspectral.calibration.interferometer.geometry import parse_geometry
from torchspectral.calibration.interferometer.regression import Bounds
from torchspectral.errors import BrokenProduct, OutputExists, OutputFailed, ProductNotFound
from torchspectral.io.safety import existing_path, read_text

FORMAT, VERSION = "torchspectral interferometer", 1
MOST = 1 << 20


def as_document(device: Characterization) -> dict[str, Any]:
    """The plain values of a device file."""

    def listed(value: np.ndarray | None) -> Any:
        if value is None:
            return None
        return [v if math.isfinite(v) else None for v in value.tolist()] if value.ndim == 1 else value.tolist()

    return {
        "format": FORMAT,
        "version": VERSION,
        "name": device.name,
        "waves": device.waves,
        "family": device.family,
        "domain": list(device.domain) if device.domain is not None else None,
        "bounds": [device.bounds.low, device.bounds.high] if device.bounds is not None else None,
        "wavenumber": listed(device.wavenumber),
        "parameters": {n: listed(getattr(device, n)) for n in PARAMETERS},
        "nominal_opd": listed(device.nominal_opd),
        "opd_error": listed(device.opd_error),
        "rmse": listed(device.rmse),
        "good": device.good.tolist(),
        "used": device.usable.tolist(),
        "flags": [list(f) for f in device.flags],
        "geometry": device.geometry.as_dict() if device.geometry is not None else None,
        "recipe": device.recipe,
        "notes": list(device.notes),
    }


def save_device(device: Characterization, path: str | Path, *, overwrite: bool = False) -> Path:
    """Write a device file (a name that ends in .json) or the authors' folder (any other name).

    Raises
    ------
    OutputExists, OutputFailed
    BadInput
        A folder is asked for, and the reflectivity is bounded.
    """
    target = Path(path)
    if target.suffix.lower() != ".json":
        return _save_folder(device, target, overwrite=overwrite)
    if target.exists() and not overwrite:
        raise OutputExists(f"{target} exists: --overwrite (overwrite=True) replaces it, or choose another name")
    text = json.dumps(as_document(device), allow_nan=False)
    _write(target, text.encode())
    return target


def _save_folder(device: Characterization, folder: Path, *, overwrite: bool) -> Path:
    raw = device.raw()
    if folder.exists() and not overwrite:
        raise OutputExists(f"{folder} exists: --overwrite (overwrite=True) replaces it, or choose another name")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in PARAMETERS:
            part = folder / f".{name}.{os.getpid()}.npy"
            np.save(part, getattr(raw, name))
            part.replace(folder / f"{name}.npy")
    except OSError as error:
        raise OutputFailed(f"cannot write {folder}: {error.strerror or error}") from error
    _write(folder / "options.json", json.dumps({"model": raw.waves, "polynomial": raw.family}).encode())
    return folder


def load_device(path: str | Path) -> Characterization:
    """Read a device file, or a folder of the authors' results.

    Raises
    ------
    ProductNotFound, BrokenProduct, BadInput, BadSettings, UnsafeInput
    """
    found = existing_path(path)
    if found.is_dir():
        return _load_folder(found)
    try:
        values = json.loads(read_text(found))
    except (ValueError, RecursionError) as error:
        raise BrokenProduct(f"{found.name} is no readable JSON: {error}") from None
    if not isinstance(values, Mapping) or values.get("format") != FORMAT:
        raise BrokenProduct(
            f"{found.name} is no device file: expected what `torchspectral calibrate interferometer` writes, or a folder "
            "with opd.npy, gain.npy, reflectivity.npy and phase_shift.npy"
        )
    if values.get("version") != VERSION:
        raise BrokenProduct(f"{found.name} has version {values.get('version')!r}, expected {VERSION}")
    try:
        return _from_document(values)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if type(error).__module__.startswith("torchspectral"):
            raise
        raise BrokenProduct(f"{found.name} is no whole device file: {type(error).__name__} {error}") from None


def _from_document(values: Mapping[str, Any]) -> Characterization:
    parameters = values["parameters"]

    def vector(name: str) -> np.ndarray | None:
        value = values.get(name)
        return None if value is None else np.array([np.nan if v is None else float(v) for v in value])

    domain, bounds, geometry = values.get("domain"), values.get("bounds"), values.get("geometry")
    if len(parameters["opd"]) > MOST:
        raise BrokenProduct(
            f"the device file tells of {len(parameters['opd'])} interferometers, at most {MOST} are read"
        )
    flags = tuple(tuple(str(f) for f in row) for row in values.get("flags") or ())
    flags = flags or ((),) * len(parameters["opd"])
    for name, as_said in (("good", _as_good), ("used", _as_used)):
        mask = values.get(name)
        if mask is not None:
            if len(mask) != len(parameters["opd"]) or len(flags) != len(mask):
                raise BrokenProduct(
                    f"the device file has {len(mask)} entries of {name} for {len(parameters['opd'])} interferometers"
                )
            flags = tuple(as_said(f, bool(m)) for f, m in zip(flags, mask, strict=True))
    recipe = values.get("recipe") or []
    if not isinstance(recipe, list) or not all(isinstance(step, Mapping) for step in recipe):
        raise BrokenProduct("the device file's recipe is no list of steps")
    waves = values.get("waves", 0)
    if isinstance(waves, bool) or not isinstance(waves, int) or waves < 0:
        raise BrokenProduct(f"the device file says waves={waves!r}, expected a whole number from 0")
    arrays: dict[str, Any] = {n: np.array(parameters[n], dtype=np.float64) for n in PARAMETERS}
    return Characterization(
        **arrays,
        waves=waves,
        family=str(values.get("family", "Polynomial")),
        domain=None if domain is None else (float(domain[0]), float(domain[1])),
        bounds=None if bounds is None else Bounds(float(bounds[0]), float(bounds[1])),
        wavenumber=vector("wavenumber"),
        rmse=vector("rmse"),
        opd_error=vector("opd_error"),
        nominal_opd=vector("nominal_opd"),
        flags=flags,
        name=str(values.get("name", "")),
        geometry=None if geometry is None else parse_geometry(geometry, "device file's geometry"),
        recipe=[dict(step) for step in recipe],
        notes=tuple(str(n) for n in values.get("notes") or ()),
    )


# Who edits the masks of a device file by hand means it; masks that say what the flags say change nothing.


def _as_good(flags: tuple[str, ...], good: bool) -> tuple[str, ...]:
    return () if good else flags or ("marked bad",)


def _as_used(flags: tuple[str, ...], used: bool) -> tuple[str, ...]:
    if used:
        return tuple(f for f in flags if f not in FAILED or f == "marked bad")
    return flags if set(flags) & set(FAILED) else (*flags, "marked bad")


def _load_folder(folder: Path) -> Characterization:
    missing = [f"{n}.npy" for n in PARAMETERS if not (folder / f"{n}.npy").exists()]
    if missing:
        raise ProductNotFound(f"{folder.name} has no {', no '.join(missing)}: is it a folder of a characterisation?")
    options: Any = {}
    if (folder / "options.json").exists():
        try:
            options = json.loads(read_text(folder / "options.json"))
        except (ValueError, RecursionError) as error:
            raise BrokenProduct(f"options.json is no readable JSON: {error}") from None
    options = options if isinstance(options, Mapping) else {}
    waves = options.get("model", 0)
    if isinstance(waves, bool) or not isinstance(waves, int) or waves < 0:
        raise BrokenProduct(f"options.json says model={waves!r}, expected a whole number from 0")
    arrays: dict[str, Any] = {n: read_array(folder / f"{n}.npy") for n in PARAMETERS}
    return Characterization(
        **arrays,
        waves=waves,
        family=str(options.get("polynomial", "Polynomial")),
        name=folder.name,
    )


def _write(target: Path, data: bytes) -> None:
    from torchspectral.report.files import write_whole

    write_whole(target, data, overwrite=True)


__all__ = ["FLAGS", "as_document", "load_device", "save_device"]
