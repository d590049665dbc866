"""`diagnose`: numbers, curves, a picture and words about what a representation has learnt."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

import numpy as np
import pandas as pd
import xarray as xr

from torchspectral.diagnosis.embedded import Embedded, finite_only
from torchspectral.diagnosis.measures import DiagnosisSettings, Finding, measure
from torchspectral.diagnosis.sampling import stratified
from torchspectral.errors import BadInput, OutputExists, OutputFailed, ProductNotFound
from torchspectral.log import Progress, Step, no_progress
from torchspectral.result import Report, Result

PAGE, NUMBERS, CURVES, SAMPLES = "report.html", "numbers.json", "curves.csv", "samples.csv"
TABLES = (".npy", ".npz", ".csv", ".tsv")


def diagnose(
    source: Any,
    *,
    labels: Any = None,
    field: str | None = None,
    spectra: Any = None,
    settings: Mapping[str, Any] | DiagnosisSettings | None = None,
    out: str | Path | None = None,
    seed: int = 0,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Result:
    """Say what a representation has learnt, and whether it has collapsed.

    Parameters
    ----------
    source : path, DataArray or array
        Embeddings: a layer file (GeoTIFF, Zarr, ..) or DataArray (layer, y, x), of which a fixed sample of pixels is
        drawn, spread over the ground; a table (``.npy``, ``.npz``, ``.csv``) or array (sample, dimension); or the
        folder of a training run, whose curves are read, and its embeddings where it was monitored
        (``monitor_every``).
    labels : path, DataArray or array, optional
        Class raster, vectors or table of pixels where the embeddings lie on the ground (then labelled pixels are
        drawn); else one label a sample.
    field : str, optional
        Column or array that holds the classes.
    spectra : path, DataArray or array, optional
        The scene that the embeddings were made of, on the same pixels; or one spectrum a sample.
    settings : mapping or DiagnosisSettings, optional
    out : path, optional
        Folder for the report: ``report.html``, ``numbers.json``, ``curves.csv``, ``samples.csv``.
    seed : int
        Of the sample.
    overwrite : bool
        Replace a report.
    progress : callable

    Returns
    -------
    Result
        ``numbers`` (dict), ``words`` and ``alarms`` (list of str; alarms are empty where all is well), ``curves`` and
        ``samples`` (DataFrames).

    Raises
    ------
    BadInput
        Too few samples without nodata, labels or spectra that are not one for each sample.
    ProductNotFound, UnknownProduct, BrokenProduct, UnsafeInput, GridMismatch, UnknownName, BadSettings
    OutputExists, OutputFailed

    Examples
    --------
    >>> import torchspectral as ts
    >>> found = ts.diagnose("embeddings.tif", labels="polygons.gpkg", out="report")  # doctest: +SKIP
    >>> found["numbers"]["dse"], found["alarms"]  # doctest: +SKIP

    References
    ----------
    Liao et al., CISS 2024, arXiv:2312.04823; see `metrics.representation`.
    """
    begun = perf_counter()
    s = settings if isinstance(settings, DiagnosisSettings) else DiagnosisSettings.make(dict(settings or {}))
    target = Path(out) if out is not None else None
    if target is not None:
        _check_target(target, overwrite)
    found = _read(source, s, labels, field, spectra, seed, progress)
    finding = None
    if found.values.size:
        found = _thinned(finite_only(found), s.samples, seed)
        progress(Step("measure", 0.0))
        finding = measure(found, s, seed)
        progress(Step("measure", 1.0))
    from torchspectral.diagnosis.words import explain, explain_curves

    words = explain(finding.numbers) if finding else []
    alarming = list(finding.alarms) if finding else []
    if found.curves is not None:
        more, also = explain_curves(found.curves)
        words, alarming = words + more, alarming + also
    report = Report(
        method="diagnose",
        inputs={"source": found.name},
        settings=s.model_dump(mode="json"),
        notes=[*found.notes, *(finding.notes if finding else [])],
        figures={**(finding.numbers if finding else {}), "alarm": "; ".join(alarming) or "none"},
        seconds={"total": perf_counter() - begun},
        seed=seed,
    )
    samples = found.places.copy()
    if found.labels is not None:
        samples["label"] = found.labels
    curves = found.curves if found.curves is not None else pd.DataFrame()
    values = {
        "numbers": finding.numbers if finding else {},
        "words": words,
        "alarms": alarming,
        "curves": curves,
        "samples": samples,
    }
    result = Result(values, report)
    if target is not None:
        result.paths = _write(target, found, finding, result, overwrite)
    return result


def _read(
    source: Any, s: DiagnosisSettings, labels: Any, field: str | None, spectra: Any, seed: int, progress: Progress
) -> Embedded:
    from torchspectral.diagnosis import run_folders, tables
    from torchspectral.diagnosis.grids import read_grid

    more: dict[str, Any] = {"labels": labels, "field": field, "spectra": spectra, "progress": progress}
    if isinstance(source, xr.DataArray):
        if source.ndim != 3 or not {"y", "x"} <= set(source.dims):
            raise BadInput(f"got embeddings with dims {source.dims}, expected (layer, y, x) or a table of samples")
        return read_grid(source, str(source.name or "embeddings"), samples=s.samples, seed=seed, **more)
    if isinstance(source, (str, Path)):
        path = Path(source).expanduser()
        if not path.exists():
            raise ProductNotFound(f"{path} does not exist: expected embeddings or the folder of a training run")
        if path.suffix.lower() not in TABLES and not run_folders.is_run(path):
            from torchspectral.io import open_product

            layers = open_product(path)
            if not isinstance(layers, xr.DataArray) or layers.ndim != 3 or not {"y", "x"} <= set(layers.dims):
                raise BadInput(f"{path.name} holds no layers (layer, y, x), expected embeddings")
            return read_grid(layers, path.name, samples=s.samples, seed=seed, **more)
        in_run = run_folders.is_run(path)
        found = (
            run_folders.read_run(path)
            if in_run
            else tables.read_table(path, field=None if labels is not None else field)
        )
    else:
        found = _array(source)
        in_run = False
    if not found.values.size:
        if labels is not None or spectra is not None:
            raise BadInput(
                f"{found.name} kept no embeddings to hold against labels or spectra: train with monitor_every=1"
            )
        return found
    if labels is not None:
        found.class_names = []
        drawn = _labels(found, labels, field, in_run)
        names = dict(enumerate(found.class_names))  # of labels on the ground, by their own numbers
        found = tables.with_labels(found, drawn)
        if names:
            found.class_names[1:] = [names.get(int(n), n) for n in found.class_names[1:]]
    if spectra is not None:
        found.spectra = _spectra(spectra, found)
    return found


def _array(source: Any) -> Embedded:
    from torchspectral.ops.diffusion import is_tensor

    values = np.asarray(source.detach().cpu().numpy() if is_tensor(source) else source)
    if values.ndim != 2 or values.dtype.kind not in "fiu":
        raise BadInput(
            f"got embeddings of shape {values.shape} ({values.dtype}), expected numbers (sample, dimension), layers "
            "(layer, y, x), or a path"
        )
    return Embedded("embeddings", values.astype(np.float64), pd.DataFrame(index=range(len(values))))


def _labels(found: Embedded, labels: Any, field: str | None, in_run: bool) -> np.ndarray:
    from torchspectral.diagnosis import run_folders, tables

    if not isinstance(labels, (str, Path)):
        return np.asarray(labels)
    path = Path(labels).expanduser()
    places = in_run and (path.suffix.lower() not in TABLES or _lists_places(path))
    if places:
        classes = run_folders.labels_of_places(found, path, field)
        return np.where(classes > 0, classes, -1)
    return tables.read_label_column(path, field)


def _lists_places(path: Path) -> bool:
    """Whether a CSV of labels says where each lies."""
    if path.suffix.lower() not in (".csv", ".tsv") or not path.is_file():
        return False
    from torchspectral.io.libraries.text import columns_of

    known = {str(c).lower() for c in columns_of(path).columns}
    return any(pair <= known for pair in ({"row", "col"}, {"x", "y"}, {"lon", "lat"}))


def _spectra(spectra: Any, found: Embedded) -> np.ndarray:
    from torchspectral.diagnosis.tables import read_arrays

    if isinstance(spectra, (str, Path)):
        path = Path(spectra).expanduser()
        if not path.is_file() or path.suffix.lower() not in (".npy", ".npz"):
            raise BadInput(f"{path.name}: embeddings without pixels need one spectrum a sample, as .npy or .npz")
        spectra = next(iter(read_arrays(path).values()), np.empty(0))
    values = np.asarray(spectra)
    if values.ndim != 2 or values.dtype.kind not in "fiu" or len(values) != len(found.values):
        raise BadInput(f"got spectra of shape {values.shape} for {len(found.values)} embeddings, expected one for each")
    if not np.isfinite(values).all():
        raise BadInput("got spectra with NaN or infinity: leave these samples out of both")
    return values.astype(np.float64)


def _thinned(found: Embedded, most: int, seed: int) -> Embedded:
    """At most so many samples of a table; grids are drawn at their size."""
    n = len(found.values)
    if n <= most:
        return found
    _, keep = stratified(np.ones((1, n), dtype=bool), most, seed)
    found.notes.append(f"{most} of {n} samples were drawn, evenly along the table")
    return found.take(keep)


def _check_target(target: Path, overwrite: bool) -> None:
    if not target.exists():
        return
    ours = target.is_dir() and ((target / NUMBERS).is_file() or not any(target.iterdir()))
    if not ours:
        raise OutputFailed(f"{target} exists and holds no report: choose another folder")
    if any(target.iterdir()) and not overwrite:
        raise OutputExists(f"{target} holds a report: ask to overwrite it, or choose another folder")


def _write(target: Path, found: Embedded, finding: Finding | None, result: Result, overwrite: bool) -> dict[str, str]:
    """Write the folder, whole or not at all."""
    from torchspectral.diagnosis.page import write_page

    part = target.with_name(f".{target.name}.{uuid4().hex[:8]}.partial")
    try:
        part.mkdir(parents=True)
        facts = {
            "numbers": {k: v if np.isfinite(v) else None for k, v in result["numbers"].items()},
            "alarms": result["alarms"],
            "words": result["words"],
            "report": result.report.as_dict(),
        }
        (part / NUMBERS).write_text(json.dumps(facts, indent=2, default=float) + "\n", encoding="utf-8")
        for name, table in ((CURVES, result["curves"]), (SAMPLES, result["samples"])):
            if table.shape[1]:
                table.to_csv(part / name, index=False)
        write_page(part / PAGE, found, finding, result)
        if target.exists():
            shutil.rmtree(target)
        part.replace(target)
    except OSError as error:
        raise OutputFailed(f"{target} could not be written: {error}") from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    names = {"report": PAGE, "numbers": NUMBERS, "curves": CURVES, "samples": SAMPLES}
    return {key: str(target / name) for key, name in names.items() if (target / name).is_file()}
