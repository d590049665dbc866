"""Laboratory acquisitions: the response of each interferometer to monochromatic lines, as the prototypes store it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.calibration.interferometer.geometry import Geometry, read_geometry
from torchspectral.calibration.interferometer.recipes import Recipe, published_devices, published_recipe, read_recipe
from torchspectral.errors import BadInput, BadSettings, BrokenProduct, ProductNotFound, UnsafeInput
from torchspectral.io.safety import check_read, check_scene, existing_path, read_text

LARGEST = 1e100
"""Largest value of an acquisition: sums of squares stay finite."""
FILES = ("data", "mean", "norm", "central_wavenumbers")


@dataclass(frozen=True)
class Acquisition:
    """Responses of I interferometers to K monochromatic lines.

    Attributes
    ----------
    data : ndarray, shape (I, K)
        Of the central pixel of each sub-image.
    wavenumber : ndarray, shape (K,)
        Of the lines, ascending [1/um].
    mean : ndarray, shape (I, K)
        Mean of a window (5 x 5) around that pixel; `data` where it is unknown.
    norm : ndarray, shape (I, K), optional
        Flat field.
    nominal_opd : ndarray, shape (I,), optional
        Optical path differences as designed [um].
    name : str
        Of the device.
    recipe : Recipe, optional
        That lies beside the data.
    geometry : Geometry, optional
        Where the sub-images lie on the detector.
    options : dict
        ``options.json`` as it stands.

    Raises
    ------
    BadInput
        Shapes that do not fit, wavenumbers that do not ascend, values that are not finite.
    """

    data: np.ndarray
    wavenumber: np.ndarray
    mean: np.ndarray | None = None
    norm: np.ndarray | None = None
    nominal_opd: np.ndarray | None = None
    name: str = ""
    recipe: Recipe | None = None
    geometry: Geometry | None = None
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        data = _numbers(self.data, "data")
        wavenumber = _numbers(self.wavenumber, "wavenumbers")
        if data.ndim != 2 or 0 in data.shape:
            raise BadInput(f"got data of shape {data.shape}, expected (interferometer, wavenumber)")
        if wavenumber.shape != (data.shape[1],):
            raise BadInput(f"got {wavenumber.size} wavenumbers for data of {data.shape[1]} columns, expected as many")
        if wavenumber.size < 3 or not (np.diff(wavenumber) > 0).all() or wavenumber[0] <= 0:
            raise BadInput("got wavenumbers that do not ascend, expected at least 3 positive ones in order [1/um]")
        if wavenumber[0] > 100:
            raise BadInput(
                f"wavenumbers run from {wavenumber[0]:g} to {wavenumber[-1]:g}, expected 1/um: 1e4 / cm is 1 / um"
            )
        if not data.any():
            raise BadInput("all data are zero, expected responses to monochromatic lines")
        if np.abs(data).max() > LARGEST:
            raise BadInput(f"got data of up to {np.abs(data).max():.3g}, expected counts of at most {LARGEST:g}")
        object.__setattr__(self, "data", data)
        object.__setattr__(self, "wavenumber", wavenumber)
        for name in ("mean", "norm"):
            value = getattr(self, name)
            if value is not None:
                value = _numbers(value, name)
                if value.shape != data.shape:
                    raise BadInput(f"got {name} of shape {value.shape}, expected {data.shape} as the data")
                if not (value.mean(axis=1) > 0).any():
                    raise BadInput(f"no interferometer has a {name} above 0, expected light in it: leave {name} out")
                object.__setattr__(self, name, value)
        if self.nominal_opd is not None:
            nominal = _numbers(self.nominal_opd, "nominal path differences").reshape(-1)
            if nominal.size != len(data):
                raise BadInput(f"got {nominal.size} nominal path differences for {len(data)} interferometers")
            object.__setattr__(self, "nominal_opd", nominal)

    @property
    def window_mean(self) -> np.ndarray:
        """`mean`, or `data` where there is none."""
        return self.data if self.mean is None else self.mean

    def rows(self, index: Any) -> Acquisition:
        """Some of the interferometers."""
        picked = {
            n: getattr(self, n)[index] for n in ("data", "mean", "norm", "nominal_opd") if getattr(self, n) is not None
        }
        return replace(self, geometry=None, **picked)


def read_acquisition(path: str | Path) -> Acquisition:
    """Read a folder of a prototype: data.npy, central_wavenumbers.npy and, where they are, mean.npy, norm.npy,
    options.json, characterization_options.json and device.json.

    The nominal path differences follow from the thicknesses in device.json, else from ``opd_step`` in options.json; of
    the authors' prototypes the recipe is known where the folder has none.

    Raises
    ------
    ProductNotFound, BrokenProduct, BadInput, BadSettings, UnsafeInput, TooLarge
    """
    folder = existing_path(path)
    if not folder.is_dir():
        raise ProductNotFound(f"{folder.name} is no folder, expected one with data.npy and central_wavenumbers.npy")
    arrays = {name: read_array(folder / f"{name}.npy") for name in FILES if (folder / f"{name}.npy").exists()}
    missing = [f"{n}.npy" for n in ("data", "central_wavenumbers") if n not in arrays]
    if missing:
        raise ProductNotFound(
            f"{folder.resolve().name} has no {' and no '.join(missing)}: is it a folder of an acquisition?"
        )
    options = _read_object(folder / "options.json")
    name = str(options.get("device_id") or folder.resolve().name)
    geometry = read_geometry(folder / "device.json") if (folder / "device.json").exists() else None
    count = len(np.atleast_1d(arrays["data"]))
    recipe = None
    if (folder / "characterization_options.json").exists():
        recipe = read_recipe(folder / "characterization_options.json")
    elif name in published_devices():
        recipe = published_recipe(name)
    return Acquisition(
        arrays["data"],
        np.asarray(arrays["central_wavenumbers"]).reshape(-1),
        arrays.get("mean"),
        arrays.get("norm"),
        _nominal(options, geometry, count),
        name,
        recipe,
        geometry,
        options,
    )


def _nominal(options: dict[str, Any], geometry: Geometry | None, count: int) -> np.ndarray | None:
    if geometry is not None and geometry.count == count and geometry.thickness_step:
        return geometry.nominal_opd
    step = options.get("opd_step")
    if step is None:
        return None
    if isinstance(step, bool) or not isinstance(step, int | float) or not 0 < step < 1e4:
        raise BadSettings(f"options.json says opd_step={step!r}, expected micrometres above 0")
    return np.arange(count) * float(step)


def read_array(path: Path) -> np.ndarray:
    """A small array of numbers saved by NumPy.

    Raises
    ------
    UnsafeInput
        It holds pickled objects.
    BrokenProduct, TooLarge
    """
    try:
        stored = np.load(path, mmap_mode="r", allow_pickle=False)
        check_scene(stored.shape or (1,), stored.dtype, path)
        check_read(stored.shape, stored.dtype, path)
        if stored.dtype.kind not in "iufb":
            raise BrokenProduct(f"{path.name} holds values of type {stored.dtype}, expected real numbers")
        return np.array(stored, dtype=np.float64)
    except FileNotFoundError:
        raise ProductNotFound(f"{path} does not exist") from None
    except (ValueError, OSError, EOFError, SyntaxError, TypeError, AttributeError) as error:
        if "pickle" in str(error).lower() or "object" in str(error).lower():
            raise UnsafeInput(
                f"{path.name} holds pickled objects, which are never loaded: save plain numbers"
            ) from None
        raise BrokenProduct(f"{path.name} cannot be read as a NumPy array: {' '.join(str(error).split())}") from None


def _read_object(path: Path) -> dict[str, Any]:
    if not path.exists():
        return {}
    try:
        value = json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise BrokenProduct(f"{path.name} is no readable JSON: {error}") from None
    if not isinstance(value, dict):
        raise BrokenProduct(f"{path.name} holds {type(value).__name__}, expected an object")
    return value


def _numbers(value: Any, what: str) -> np.ndarray:
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError):
        raise BadInput(f"got {type(value).__name__} as {what}, expected an array of numbers") from None
    if not np.isfinite(array).all():
        raise BadInput(f"got {int((~np.isfinite(array)).sum())} values of {what} that are not finite: leave those out")
    return array
