"""The last stage: values with coordinates and history, `finish` of the method, files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from torchspectral.engine import scaling, values
from torchspectral.engine.method import Output, State
from torchspectral.engine.outputs import Target, joined
from torchspectral.engine.scratch import FileScratch
from torchspectral.engine.writing import load_written, write_values

if TYPE_CHECKING:
    from torchspectral.engine.job import Job


def finish(job: Job, state: State, parts: list[dict[str, Any]]) -> dict[str, Any]:
    """All values by output name: opened from their files, or in memory.

    Parameters
    ----------
    parts : list of dict
        Table rows of each block, in order.
    """
    made: dict[str, Any] = {}
    history = _history(job)
    rasters = {target.name: target for target in job.targets}
    job.report.history = [*job.inputs.lead.attrs.get("history", []), history]
    for output in job.method.outputs:
        if output.name in rasters:
            made[output.name] = _raster(job, rasters[output.name], state, history)
        elif output in job.later:
            made[output.name] = _from_state(job, output, state, history)
        elif output.kind == "table":
            made[output.name] = joined([part.get(output.name, {}) for part in parts])
    before = dict(made)
    finished = job.method.finish(made, state)
    figures = _plain(job.method.figures(state))
    # What a method warns of stands where people read, not among the numbers.
    job.report.notes += [line for line in figures.pop("warnings", []) if line not in job.report.notes]
    job.report.figures.update(figures)
    kinds = {output.name: output.kind for output in job.method.outputs}
    if job.review is not None:
        with job.timed("review"):
            finished = {**finished, **(job.review.look(finished, job.report) or {})}
        kinds |= {output.name: output.kind for output in job.review.outputs}
    if job.paths is None:
        return {name: load_written(value) for name, value in finished.items()}
    adopted = {
        name: target.array
        for name, target in rasters.items()
        if finished.get(name) is before[name] and isinstance(target.array, FileScratch) and not job.timed_lead
    }
    with job.timed("write"):
        return write_values(
            finished,
            job.paths,
            kinds,
            adopted,
            dtype=job.options.dtype,
            overwrite=job.options.overwrite,
            report=job.report,
            progress=job.progress,
        )


def _raster(job: Job, target: Target, state: State, history: str) -> xr.DataArray:
    assert target.array is not None
    variable = target.array.variable()
    if job.timed_lead:
        variable = values.unstacked(variable, job.frames)
    working = job.method.scale.rule != "physical" and not target.output.undo_scale
    return values.raster_value(target, variable, job.inputs, state, history, working)


def _from_state(job: Job, output: Output, state: State, history: str) -> Any:
    """A value that the state holds, or an array that `fit` mapped."""
    zoom = int(job.inputs.info.ratio[output.grid] if output.grid else output.zoom)
    if output.kind in ("cube", "layers") and output.name in job.scene.mapped:
        mapped = job.scene.mapped[output.name]
        target = Target(output, zoom, mapped.shape[0])
        return values.raster_value(target, mapped.variable(), job.inputs, state, history, False)
    if output.name not in state:
        raise KeyError(f"{type(job.method).__name__}: the state has no {output.name!r}, but it is declared")
    found = state[output.name]
    if output.kind == "table":
        return values.table_value(found)
    array = np.asarray(found.detach().cpu() if hasattr(found, "detach") else found)
    gain, offset = job.lead_scale
    if output.undo_scale and array.dtype.kind == "f":
        axis = 1 if output.kind == "spectra" else 0
        if np.ndim(gain) == 0 or np.size(gain) == array.shape[axis]:
            array = scaling.undo(array, gain, offset, axis)
    if output.kind == "spectra":
        kept = {k: v for k, v in job.inputs.lead.attrs.items() if k in (*values.KEPT, "quantity", "units")}
        return values.spectra_value(output, array, state, job.inputs.info, {**kept, "history": job.report.history})
    variable = xr.Variable(("band", "y", "x"), array.astype(output.dtype))
    return values.raster_value(Target(output, zoom, array.shape[0]), variable, job.inputs, state, history, False)


def _history(job: Job) -> str:
    changed = ", ".join(f"{k}={v}" for k, v in job.report.settings.items() if v is not None)
    return f"{job.report.method}({changed}) by torchspectral {job.report.version}"


def _plain(figures: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value.tolist() if hasattr(value, "tolist") else value for name, value in figures.items()}
