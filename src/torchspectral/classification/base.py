"""Classification: a class for every pixel.

Every method returns **classes** first: one layer of class numbers (0: unclassified, 255: no data), with the names and
colours of the classes as attributes.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from torchspectral.cube import check_cube
from torchspectral.errors import BadInput, BadSettings, OutputExists
from torchspectral.log import Progress, no_progress
from torchspectral.result import Result

ROOM = "classification"


def classify(
    cube: xr.DataArray,
    *,
    method: str | None = None,
    library: xr.DataArray | None = None,
    labels: xr.DataArray | None = None,
    weights: Path | str | None = None,
    later: xr.DataArray | None = None,
    settings: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    save_weights: Path | str | None = None,
    out: Path | str | None = None,
    progress: Progress = no_progress,
    **options: Any,
) -> Result:
    """Classify a scene by reference spectra, by labelled pixels, or by what was trained on others.

    Parameters
    ----------
    cube : DataArray, dims (band, y, x)
        Lazy cubes are streamed.
    method : str, optional
        A card of the room, see ``methods("classification")``; by default that of the weights, else "sam".
    library : DataArray, dims (spectrum, band), optional
        One reference spectrum a class. With ``resample=True`` it is brought to the cube's bands first.
    labels : DataArray of integers, dims (y, x) or (layer, y, x), optional
        Class numbers from 1 on the cube's grid; 0 is unlabelled.
    settings : mapping, optional
        Fields of the method's settings.
    weights : path or str, optional
        What was trained: a run, a file or a name. Scenes must have its bands, or are resampled by spectral response with
        ``resample=True``, which the report says, with the least coverage.
    later : DataArray, optional
        The same pixels at a later date, for weights that tell change.
    state : mapping, optional
        What an earlier fit found; the scene is then not fitted.
    save_weights : path, optional
        File for what was learnt from the labels of this scene ("pca-lda", "svm", "random-forest"), to classify others by.
    out : path, optional
        File for the classes, or folder (existing, or a name that ends in "/") for all values.
    **options
        Fields of `engine.RunOptions`.

    Returns
    -------
    Result
        ``classes`` (layer, uint8), what else the method returns ("sam": ``angles`` [rad]; others ``probabilities`` and
        ``entropy``), and ``areas``, the table of pixels and hectares of each class; with a folder as `out` also the
        picture ``classes.png``.

    Raises
    ------
    BadSettings, BadInput, BandMismatch, GridMismatch, UnknownName, MissingWeights, BadWeights

    Examples
    --------
    >>> import torchspectral as ts
    >>> result = ts.classify(ts.open("scene.tif"), labels=ts.open("labels.tif"))  # doctest: +SKIP
    """
    from torchspectral import registry
    from torchspectral.classification.products import area_review, draw_map
    from torchspectral.engine import RunOptions, run

    sources = {"library": library, "labels": labels, "weights": weights, "state": state}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1 and not (given == [] and method == "backbone"):
        raise BadSettings(
            f"got {' and '.join(given) or 'neither library, labels, weights nor state'}, expected exactly one of library, "
            "labels, weights and state to take the classes from"
        )
    cube, values, notes = check_cube(cube), dict(settings or {}), list[str]()
    known: Any = None
    if weights is not None or method == "backbone":
        from torchspectral.classification.trained import for_scene

        method, known, cube, later, values, notes = for_scene(method, weights, cube, later, values, options)
    method = method or "sam"
    inputs: dict[str, Any] = {"cube": cube}
    if later is not None:
        inputs["later"] = later
    if library is not None:
        inputs["library"] = _library(library, cube, bool(options.get("resample")))
    if labels is not None:
        inputs["labels"] = check_labels(labels)
    made = registry.create(ROOM, method, values)
    if save_weights is not None:
        _check_savable(made, method, save_weights, bool(options.get("overwrite")))
    if state is not None:
        known = _state(state) if method == "sam" else dict(state)
    review = area_review(cube, notes)
    result = run(made, inputs, out=out, options=RunOptions.make(options), state=known, progress=progress, review=review)
    draw_map(result, out, bool(options.get("overwrite")))
    if save_weights is not None:
        result.paths["weights"] = str(made.save(save_weights, cube, overwrite=bool(options.get("overwrite"))))
    return result


def _check_savable(made: Any, method: str, path: Path | str, overwrite: bool) -> None:
    if not hasattr(made, "save"):
        raise BadSettings(f"got save_weights with {method}, which keeps no weights: expected a method that learns")
    if Path(path).exists() and not overwrite:
        raise OutputExists(f"{path} exists: choose another name or ask to overwrite")


def _state(state: Any) -> dict[str, Any]:
    import torch

    if not isinstance(state, Mapping) or "references" not in state:
        raise BadInput('got a state without "references", expected spectra of shape (class, band)')
    spectra = torch.as_tensor(np.asarray(state["references"], dtype=np.float64))
    if spectra.ndim != 2 or not spectra.numel():
        raise BadInput(f"got references of shape {tuple(spectra.shape)}, expected (class, band)")
    count = len(spectra)
    numbers = [int(n) for n in state.get("class_numbers", range(1, count + 1))]
    names = [str(n) for n in state.get("class_names", [f"class {n}" for n in numbers])]
    if len(numbers) != count or len(names) != count or not all(0 < n < 255 for n in numbers):
        raise BadInput(
            f"got {len(names)} names and {len(numbers)} numbers for {count} references, expected one for each"
        )
    return {"pixels": [], **state, "references": spectra, "class_names": names, "class_numbers": numbers}


def _library(library: Any, cube: xr.DataArray, resample: bool) -> xr.DataArray:
    if not isinstance(library, xr.DataArray) or library.dims != ("spectrum", "band"):
        got = getattr(library, "dims", type(library).__name__)
        raise BadInput(f"got {got} as library, expected a DataArray with dims (spectrum, band): see make_spectra")
    if 0 in library.shape:
        raise BadInput(f"got a library of shape {library.shape}, expected at least one spectrum and one band")
    if not resample:
        return library
    from torchspectral.spectra import resample as to_bands

    return to_bands(library, cube)


def check_labels(labels: Any) -> xr.DataArray:
    """Refuse what is no layer of class numbers.

    Raises
    ------
    BadInput
    """
    if not isinstance(labels, xr.DataArray) or labels.dims[-2:] != ("y", "x"):
        got = getattr(labels, "dims", type(labels).__name__)
        raise BadInput(f"got {got} as labels, expected a DataArray of class numbers with dims (y, x) or (layer, y, x)")
    if labels.ndim == 3 and labels.shape[0] != 1:
        raise BadInput(f"got {labels.shape[0]} layers of labels, expected one layer of class numbers")
    if labels.dtype.kind == "f" and not labels.variable._in_memory:
        return labels
    if labels.dtype.kind == "f":
        values = labels.values[np.isfinite(labels.values)]
        if (values != np.round(values)).any() or (values < 0).any():
            raise BadInput("the labels hold fractions or negative numbers, expected class numbers from 1, 0 unlabelled")
    elif labels.dtype.kind not in "iub":
        raise BadInput(f"got labels of type {labels.dtype}, expected whole numbers")
    return labels
