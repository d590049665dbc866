"""`apply` over the whole scene: tiles, frames in order, blending of overlaps; block by block through the journal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from torchspectral.engine import fitting
from torchspectral.engine.blend import BlendStage, blend_blocks
from torchspectral.engine.executor import read_ahead
from torchspectral.engine.method import Scope, State
from torchspectral.engine.outputs import ApplyStage, Done, check_roles, check_something, raster_of
from torchspectral.engine.plan import batches
from torchspectral.engine.states import load_state, save_state, to_device
from torchspectral.log import Step

if TYPE_CHECKING:
    from torchspectral.engine.job import Job

Record = dict[str, Any]


def apply(job: Job, state: State) -> list[dict[str, Any]]:
    """Fill the arrays of all raster targets; returns the table rows of each block.

    Raises
    ------
    BadInput
        The scene has no data at all.
    """
    if not (job.targets or job.tables):
        return []
    method = job.method
    stage = ApplyStage(
        method,
        job.scene.only([i.role for i in method.inputs if not i.fit_only]),
        state,
        [],
        job.tables,
        job.device,
        job.options.seed,
        job.plan.tile,
        threads=method.scope in (Scope.SCENE, Scope.FRAMES),
    )
    _count_bands(job, stage, state)
    _make_arrays(job)
    stage.targets = job.targets
    with job.timed("apply"):
        records = _frames(job, stage, state) if method.scope is Scope.FRAMES else _tiles(job, stage)
    _report(job, records)
    if job.plan.overlap:
        with job.timed("blend"):
            _blend(job)
    return [record["tables"] for record in records]


def _count_bands(job: Job, stage: ApplyStage, state: State) -> None:
    """Find out how many layers an output has where neither its declaration nor the state says it."""
    for target in job.targets:
        names = target.output.names
        if isinstance(names, str):
            listed = state.get(names[1:]) if names.startswith("=") else [names]
            if listed is None:
                raise KeyError(f"{type(job.method).__name__}: the state has no {names[1:]!r} to name {target.name}")
            target.bands = len(listed)
    if all(target.bands for target in job.targets):
        return
    for cut in job.plan.apply:
        loaded = stage.read((cut,))
        outputs = stage.call(loaded, to_device(state, job.device))
        outputs = outputs[0] if isinstance(outputs, tuple) else outputs
        if outputs:
            for target in job.targets:
                target.bands = target.bands or int(raster_of(outputs[target.name]).shape[1])
            return
    check_something(1, 1)


def _make_arrays(job: Job) -> None:
    assert job.workspace is not None
    reuse = job.journal is not None and job.journal.resumed
    rows, cols = job.inputs.info.shape
    tile = job.plan.tile
    for target in job.targets:
        if job.plan.overlap:
            target.slots = True
            width = target.cells(min(tile[1], cols))
            shape = (target.bands, len(job.plan.apply) * target.cells(tile[0]), width)
            target.array = job.workspace.array(f"slots-{target.name}", shape, target.dtype, reuse=reuse)
        else:
            shape = (target.bands * job.frames, target.cells(rows), target.cells(cols))
            target.array = job.workspace.array(target.name, shape, target.dtype, reuse=reuse)


def _tiles(job: Job, stage: ApplyStage) -> list[Record]:
    # Rows of a table say where they lie in one tile, so tiles with tables come one by one.
    size = 1 if job.tables or job.method.scope is Scope.SCENE else job.options.batch
    items = list(enumerate(batches(job.plan.apply, size)))
    done = job.journal.blocks("apply") if job.journal else {}
    todo = [(number, item) for number, item in items if number not in done]
    results = job.workers.run(stage, [item for _, item in todo])
    for (number, _), record in zip(todo, results, strict=True):
        done[number] = _note(job, number, record)
        job.progress(Step("apply", len(done) / len(items)))
    return [done[number] for number, _ in items]


def _note(job: Job, number: int, record: Done) -> Record:
    line = {"partial": record.partial, "nodata": record.nodata, "valid": record.valid, "tables": record.tables}
    line |= {"near": record.near} if record.near else {}
    line |= {"infinite": record.infinite} if record.infinite else {}
    if job.journal is not None:
        job.journal.add("block", stage="apply", block=number, **line)
    return line


def _frames(job: Job, stage: ApplyStage, state: State) -> list[Record]:
    """Frame after frame, each with the state that the last one left."""
    cut = job.plan.apply[0]
    first, carried = 0, to_device(state, job.device)
    done: dict[int, Record] = {}
    saved = job.journal.of("frame") if job.journal else []
    if saved and job.journal:
        first = saved[-1]["frame"] + 1
        carried = to_device(load_state(job.journal.folder / saved[-1]["state"]), job.device)
        done = {number: line for number, line in job.journal.blocks("apply").items() if number < first}
    written = time.monotonic()
    frames = range(first, job.frames)
    for frame, loaded in zip(frames, read_ahead(lambda f: stage.scene.load((cut,), f), frames), strict=True):
        outputs, carried = stage.call(loaded, carried)
        record = stage.write(stage.collect(loaded, outputs))
        done[frame] = _note(job, frame, record)
        if job.journal is not None and time.monotonic() - written >= fitting.ROUND_SECONDS:
            _journal_frame(job, frame, carried)
            written = time.monotonic()
        job.progress(Step("apply", (frame + 1) / job.frames, f"frame {frame + 1}"))
    return [done[number] for number in range(job.frames)]


def _journal_frame(job: Job, frame: int, carried: State) -> None:
    assert job.journal is not None
    before = job.journal.of("frame")
    name = f"frame-{frame}.state"
    save_state(job.journal.folder / name, to_device(carried, "cpu"))
    job.journal.add("frame", frame=frame, state=name)
    if before:
        (job.journal.folder / before[-1]["state"]).unlink(missing_ok=True)


def _report(job: Job, records: list[Record]) -> None:
    nodata = sum(record["nodata"] for record in records)
    partial = sum(record["partial"] for record in records)
    check_something(nodata, sum(c.inner.height * c.inner.width for c in job.plan.apply) * job.frames)
    check_roles({role: sum(record["valid"][role] for record in records) for role in records[0]["valid"]})
    twice = " (counted in each tile that holds them)" if job.plan.overlap else ""
    filled = job.scene.fill != "none"
    if infinite := sum(record.get("infinite", 0) for record in records):
        job.report.filled.append(f"{infinite} pixels with infinite values, which count as missing{twice}")
    if partial:
        how = "interpolated along their spectrum" if filled else "handed over as they are"
        job.report.filled.append(f"{partial} pixels missed some bands: {how}{twice}")
    if nodata:
        how = "filled from their surroundings for the method and " if job.scene.fill == "nearest" else ""
        how = "zero for the method and " if job.scene.fill == "zero" else how
        job.report.filled.append(f"{nodata} nodata pixels: {how}nodata in the output{twice}")
    reach = job.method.hole_reach
    for role in dict.fromkeys(role for record in records for role in record.get("near", {})):
        count = sum(record.get("near", {}).get(role, 0) for record in records)
        if count:
            job.report.filled.append(
                f"{count} pixels of the {role} within {reach} {'pixel' if reach == 1 else 'pixels'} of the lead from "
                f"nodata: nodata in the output too, for they would rest on filled values (hole_reach=0 keeps them){twice}"
            )


def _blend(job: Job) -> None:
    assert job.workspace is not None
    shape = job.inputs.info.shape
    blocks = blend_blocks(job.plan.apply)
    reuse = job.journal is not None and job.journal.resumed
    for target in job.targets:
        slots = target.array
        assert slots is not None
        size = (target.bands, target.cells(shape[0]), target.cells(shape[1]))
        target.array = job.workspace.array(target.name, size, target.dtype, reuse=reuse)
        stage = BlendStage(
            job.plan.apply, slots, target.array, job.plan.tile[0], job.plan.overlap, target.zoom, shape, target.step
        )
        name = f"blend {target.name}"
        done = set(job.journal.blocks(name)) if job.journal else set()
        todo = [block for block in blocks if block[0] not in done]
        for number in job.workers.run(stage, todo):
            done.add(number)
            if job.journal is not None:
                job.journal.add("block", stage=name, block=number)
            job.progress(Step("blend", len(done) / len(blocks)))
        slots.close()
    # Only now: a run that is killed while it blends goes on with the slots.
    for target in job.targets:
        job.workspace.drop(f"slots-{target.name}")
        target.slots = False
