"""One run, stage by stage: scale, fit, apply, blend, finish, write."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from torchspectral.engine import scaling, values
from torchspectral.engine.blend import BlendStage, blend_blocks
from torchspectral.engine.device import parse_device
from torchspectral.engine.executor import Workers, read_ahead
from torchspectral.engine.journal import Journal, fingerprint
from torchspectral.engine.memory import check_fits, parse_bytes
from torchspectral.engine.method import Method, Output, Scope, Size, State, is_fitted
from torchspectral.engine.outputs import ApplyStage, Done, Target, check_something, joined
from torchspectral.engine.paths import Paths
from torchspectral.engine.plan import batches, depth_of, make_plan
from torchspectral.engine.reading import Scene
from torchspectral.engine.roles import check_band_rule, prepare_inputs
from torchspectral.engine.scratch import FileScratch, Workspace
from torchspectral.engine.source import EngineSource
from torchspectral.engine.states import load_state, save_state, to_device
from torchspectral.engine.writing import load_written, write_values
from torchspectral.errors import BadInput, BadWeights, GridMismatch
from torchspectral.log import Progress, Step
from torchspectral.result import Report

if TYPE_CHECKING:
    from torchspectral.engine.running import RunOptions

ROUND_SECONDS = 2.0
"""Least time between two rounds of `fit`, or states of frames, that are journaled [s]."""


class Job:
    """One run of a method over a scene; `do` gives its values.

    Parameters
    ----------
    method : Method
    inputs : dict of role to DataArray
    paths : Paths or None
    options : RunOptions
    state : State, Weights or None
    report : Report
        Filled in on the way.
    """

    def __init__(
        self,
        method: Method,
        inputs: Mapping[str, Any],
        paths: Paths | None,
        options: RunOptions,
        state: Any,
        progress: Progress,
        report: Report,
    ) -> None:
        self.method, self.paths, self.options = method, paths, options
        self.progress, self.report = progress, report
        self.journal: Journal | None = None
        self.workspace: Workspace | None = None
        self.workers = Workers(options.workers, options.cluster)
        self.device = str(parse_device(options.device))
        report.device = self.device
        self.given_state = self._weights(state)
        self.limit = parse_bytes(options.max_memory)
        self.inputs = prepare_inputs(method, inputs, bands=options.bands, resample=options.resample, report=report)
        method.prepare(self.inputs.info)
        check_band_rule(method, self.inputs.info)
        self.scene = Scene(
            self.inputs.readers,
            self.inputs.spectra,
            self.inputs.info,
            method.scope,
            method.halo,
            method.fill,
            method.compute_dtype,
            self._mask(options.mask),
        )
        self.fits = is_fitted(method) and (
            self.given_state is None or bool(getattr(method, "starts_from_state", False))
        )
        if method.needs_fit and not is_fitted(method) and self.given_state is None:
            raise BadInput(f"{report.method} needs a state: give weights")
        self.frames = self._frames()
        self._plan()
        self._check_memory()

    # What the caller gave

    def _weights(self, state: Any) -> State | None:
        """The state, and the report's lines about the weights that it comes from."""
        if state is None:
            return None
        card = getattr(state, "card", None)
        if card is not None:
            self.report.weights = str(getattr(card, "name", ""))
            self.report.licence = str(getattr(card, "licence", ""))
            state = state.state
        if not isinstance(state, Mapping):
            raise BadWeights(f"got {type(state).__name__} as state, expected a mapping of names to tensors or weights")
        return dict(state)

    def _mask(self, mask: Any) -> xr.Variable | None:
        if mask is None:
            return None
        lead = self.inputs.lead
        if isinstance(mask, np.ndarray):
            mask = xr.DataArray(mask, dims=("layer", "y", "x")[-mask.ndim :])
        if not isinstance(mask, xr.DataArray):
            raise BadInput(f"got {type(mask).__name__} as mask, expected a boolean DataArray with dims (y, x)")
        if mask.ndim == 3 and mask.shape[0] == 1:
            mask = mask[0]
        if mask.dims != ("y", "x") or mask.shape != lead.shape[-2:]:
            raise GridMismatch(
                f"the mask has dims {mask.dims} and {mask.shape} pixels, expected (y, x) and {lead.shape[-2:]} as the "
                "lead: put it on the scene's grid first (geo.align)"
            )
        self.report.notes.append("pixels where the mask is False count as nodata")
        return mask.variable

    def _frames(self) -> int:
        counts = {n: r.data.shape[0] for n, r in self.scene.roles.items() if r.timed}
        if counts and self.method.scope is not Scope.FRAMES:
            raise BadInput(f"{self.report.method} works on one image, got a video of {max(counts.values())} frames")
        if len(set(counts.values())) > 1:
            raise BadInput(f"got videos of {sorted(set(counts.values()))} frames, expected as many in each")
        return next(iter(counts.values()), 1)

    # Plan

    def _plan(self) -> None:
        method, info = self.method, self.inputs.info
        count = self.inputs.lead.sizes["band"]
        self.targets: list[Target] = []
        self.tables: list[str] = []
        self.later: list[Output] = []
        wanted = self._wanted()
        for output in method.outputs:
            if output.from_state or output.kind == "spectra":
                self.later.append(output)
            elif output.kind == "table":
                self.tables.append(output.name)
            elif output.name in wanted:
                zoom = info.ratio[output.grid] if output.grid else output.zoom
                names = output.names
                bands, place = 0, None
                if output.kind == "cube":
                    bands = count
                    place = None if count == info.bands else self.inputs.bands
                elif not isinstance(names, str):
                    bands = len(names)
                self.targets.append(Target(output, int(zoom), bands, place))
        depth = depth_of(
            {n: len(r.bands) for n, r in self.scene.roles.items()},
            info.ratio,
            [(max(t.bands, 1), t.zoom) for t in self.targets],
        )
        chunks = self.inputs.lead.encoding.get("preferred_chunks") or {}
        stored = (chunks["y"], chunks["x"]) if {"y", "x"} <= set(chunks) else None
        self.plan = make_plan(
            method.scope,
            info.shape,
            depth,
            tile=self.options.tile,
            default_tile=method.tile,
            overlap=method.overlap,
            halo=method.halo,
            multiple=method.multiple,
            chunks=stored,
        )
        if method.scope is Scope.TILE:
            self.report.notes.append(
                f"tiles of {self.plan.tile[0]} x {self.plan.tile[1]} pixels that overlap by {self.plan.overlap}: the "
                "result depends on them"
            )

    def _wanted(self) -> set[str]:
        """Rasters that are kept: all of them, but with one file only those that are written (or finished)."""
        names = {output.name for output in self.method.outputs}
        if self.paths is None or type(self.method).finish is not Method.finish:
            return names
        return names & set(self.paths.files)

    def _check_memory(self) -> None:
        if self.method.scope is not Scope.SCENE and self.limit is None:
            return
        cuts = self.plan.apply
        rows, cols = max(c.window.height for c in cuts), max(c.window.width for c in cuts)
        zoom = max([t.zoom for t in self.targets], default=1)
        need = self.method.memory(Size(self.inputs.info.bands, rows, cols, zoom))
        stored = sum(
            len(r.bands) * rows * cols * r.ratio**2 * np.dtype(self.scene.dtype).itemsize
            for r in self.scene.roles.values()
        )
        parts = [need.get("apply", 0)] + ([need.get("fit", 0)] if self.fits else [])
        whole = self.method.scope is Scope.SCENE
        hint = "" if whole else "use smaller tiles (tile=) or raise max_memory"
        what = f"{self.report.method} on {self.inputs.info.bands} bands of {rows} x {cols} pixels"
        check_fits(stored + max(parts), self.limit, what + (" at once" if whole else ""), hint)

    # Work

    def do(self) -> dict[str, Any]:
        """Run every stage."""
        if self.paths is not None:
            with self._timed("journal"):
                self.journal = Journal(
                    self.paths.base, self._key(), resume=self.options.resume, overwrite=self.options.overwrite
                )
        folder = self.journal.folder if self.journal else None
        self.workspace = Workspace(folder, shared=self.workers.remote)
        if self.workers.remote:
            self._share()
        self._scale()
        state = self._fit()
        self._apply(state)
        return self._finish(state)

    @property
    def has_progress(self) -> bool:
        """Whether anything stands in the journal."""
        return self.journal is not None and bool(self.journal.lines)

    def close(self, *, keep: bool) -> None:
        """Stop workers and close the journal."""
        self.workers.close()
        if self.workspace is not None:
            self.workspace.close()
        if self.journal is not None:
            self.journal.close(keep=keep)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.report.seconds[stage] = round(time.perf_counter() - started, 3)

    def _key(self) -> dict[str, Any]:
        import torch

        import torchspectral

        o = self.options
        method = type(self.method)
        facts: dict[str, Any] = {
            "method": f"{method.__module__}:{method.__qualname__}",
            "settings": self.method.settings.model_dump(mode="json"),
            "bands": self.inputs.bands.tolist(),
            "seed": o.seed,
            "tile": list(self.plan.tile),
            "batch": o.batch,
            "dtype": o.dtype,
            "device": self.device.partition(":")[0],
            "outputs": sorted(str(p) for p in self.paths.files.values()) if self.paths else [],
            "mask": fingerprint(xr.DataArray(self.scene.keep)) if self.scene.keep is not None else None,
            "state": _state_digest(self.given_state),
            "torchspectral": torchspectral.__version__,
            "torch": torch.__version__,
            "numpy": np.__version__,
        }
        facts |= {f"input {name}": fingerprint(cube) for name, cube in self.inputs.cubes.items()}
        facts |= {f"input {name}": fingerprint(xr.DataArray(v)) for name, v in self.inputs.spectra.items()}
        return facts

    def _share(self) -> None:
        """Put inputs that live in this process where the workers can read them."""
        assert self.workspace is not None
        for name, reader in self.scene.roles.items():
            if reader.data._in_memory and reader.data.ndim == 3:
                stored = self.workspace.array(f"input-{name}", reader.data.shape, reader.data.dtype)
                step = max(1, (64 << 20) // max(1, reader.data[:, :1].nbytes))
                for row in range(0, reader.data.shape[1], step):
                    stored.write(row, 0, reader.data[:, row : row + step].values)
                reader.data = stored.variable()

    def _scale(self) -> None:
        rule = self.method.scale
        statistics = None
        if scaling.needs_statistics(rule):
            with self._timed("scale"):
                names = [n for n, r in self.scene.roles.items() if n == self.scene.lead.name or n in rule.own]
                names = [n for n in names if not self.scene.roles[n].labels]
                stage = scaling.StatisticsStage(replace(self.scene, halo=0), names)
                items = [(cut,) for cut in self.plan.fit]
                for number, part in enumerate(self.workers.run(stage, items)):
                    statistics = scaling.merge_statistics(statistics, part)
                    self.progress(Step("scale", (number + 1) / len(items)))
        count = self.inputs.lead.sizes["band"]
        numbers = scaling.numbers_of(rule, self.scene, self.inputs.bands, count, statistics)
        scaling.apply_scale(self.scene.roles, numbers)
        lead = numbers[self.scene.lead.name]
        for name, spectra in self.scene.spectra.items():
            gain, offset = (np.asarray(n, dtype=spectra.dtype) for n in lead)
            self.scene.spectra[name] = (spectra - offset) / gain
        for target in self.targets:
            target.gain, target.offset = lead
        self.lead_scale = lead
        scaling.describe(rule, numbers, self.report)

    def _fit(self) -> State:
        if not self.fits:
            return to_device(self.given_state or {}, "cpu")
        import torch

        assert self.workspace is not None
        source = EngineSource(
            replace(self.scene, mapped=self.scene.mapped),
            self.plan.fit,
            self.workers,
            self.workspace,
            seed=self.options.seed,
            device=self.device,
            frames=self.frames,
            multiple=self.method.multiple,
            limit=self.limit,
            progress=self.progress,
        )
        state, done = self._last_round(source)
        if not done:
            cuda = [torch.device(self.device).index or 0] if self.device.startswith("cuda") else []
            with self._timed("fit"), torch.random.fork_rng(devices=cuda):
                torch.manual_seed(self.options.seed)
                given = self.given_state if state is None else state
                given = None if given is None else to_device(given, self.device)
                found = self.method.fit(source, self.options.seed, given)
                state = found if isinstance(found, Mapping) else self._rounds(found, source)
            state = to_device(dict(state or {}), "cpu")
            self._journal_round(source, state, 1.0)
        self.scene.mapped = source.scene.mapped
        return dict(state or {})

    def _rounds(self, rounds: Iterable[tuple[State, float]], source: EngineSource) -> State:
        """Drive a long fit, journaling a round now and then."""
        state: State = {}
        written = time.monotonic()
        for state, fraction in rounds:
            self.progress(Step("fit", min(max(float(fraction), 0.0), 1.0)))
            if self.journal is not None and fraction < 1 and time.monotonic() - written >= ROUND_SECONDS:
                self._journal_round(source, state, fraction)
                written = time.monotonic()
        return state

    def _journal_round(self, source: EngineSource, state: State, fraction: float) -> None:
        if self.journal is None:
            return
        number = len(self.journal.of("round")) + 1
        name = f"round-{number}.state"
        save_state(self.journal.folder / name, state)
        self.journal.add("round", state=name, fraction=float(fraction), done=fraction >= 1, **source.snapshot())
        source.commit()
        (self.journal.folder / f"round-{number - 1}.state").unlink(missing_ok=True)

    def _last_round(self, source: EngineSource) -> tuple[State | None, bool]:
        rounds = self.journal.of("round") if self.journal else []
        if not rounds:
            return None, False
        assert self.journal is not None
        last = rounds[-1]
        state = load_state(self.journal.folder / last["state"])
        source.restore(last)
        return state, bool(last["done"])

    def _apply(self, state: State) -> None:
        if not (self.targets or self.tables):
            self.parts: list[dict[str, Any]] = []
            return
        method = self.method
        needed = [i.role for i in method.inputs if not i.fit_only]
        scene = self.scene.only(needed)
        frames = method.scope is Scope.FRAMES
        stage = ApplyStage(
            method, scene, state, [], self.tables, self.device, self.options.seed, self.plan.tile,
            threads=method.scope in (Scope.SCENE, Scope.FRAMES),
        )  # fmt: skip
        self._count_bands(stage, state)
        self._make_arrays()
        stage.targets = self.targets
        with self._timed("apply"):
            records = self._apply_frames(stage, state) if frames else self._apply_tiles(stage)
        counted = sum(c.inner.height * c.inner.width for c in self.plan.apply) * self.frames
        check_something(sum(r["nodata"] for r in records), counted)
        partial = sum(r["partial"] for r in records)
        if partial:
            self.report.filled.append(
                f"{partial} pixels missed some bands: interpolated along their spectrum"
                + (" (counted in each tile that holds them)" if self.plan.overlap else "")
            )
        nodata = sum(r["nodata"] for r in records)
        if nodata:
            self.report.filled.append(
                f"{nodata} nodata pixels were filled from their surroundings for the method and are nodata in the output"
                if scene.fill != "none"
                else f"{nodata} nodata pixels are nodata in the output"
            )
        self.parts = [r["tables"] for r in records]
        if self.plan.overlap:
            self._blend()

    def _count_bands(self, stage: ApplyStage, state: State) -> None:
        """Find out how many layers an output has where neither the card nor the state says it."""
        for target in self.targets:
            names = target.output.names
            if isinstance(names, str):
                listed = state.get(names[1:]) if names.startswith("=") else [names]
                if listed is None:
                    raise KeyError(
                        f"{type(self.method).__name__}: the state has no {names[1:]!r} to name {target.name}"
                    )
                target.bands = len(listed)
        if all(t.bands for t in self.targets):
            return
        for cut in self.plan.apply:
            loaded = stage.read((cut,))
            outputs = stage.call(loaded, to_device(state, self.device))
            if isinstance(outputs, tuple):
                outputs = outputs[0]
            if outputs:
                from torchspectral.engine.outputs import raster_of

                for target in self.targets:
                    target.bands = target.bands or raster_of(outputs[target.name]).shape[1]
                return
        check_something(1, 1)

    def _make_arrays(self) -> None:
        assert self.workspace is not None
        reuse = self.journal is not None and self.journal.resumed
        rows, cols = self.inputs.info.shape
        tile, overlap = self.plan.tile, self.plan.overlap
        for target in self.targets:
            z = target.zoom
            if overlap:
                target.slots = True
                shape = (target.bands, len(self.plan.apply) * tile[0] * z, min(tile[1], cols) * z)
                target.array = self.workspace.array(f"slots-{target.name}", shape, target.dtype, reuse=reuse)
            else:
                shape = (target.bands * self.frames, rows * z, cols * z)
                target.array = self.workspace.array(target.name, shape, target.dtype, reuse=reuse)

    def _apply_tiles(self, stage: ApplyStage) -> list[dict[str, Any]]:
        size = 1 if self.tables or self.method.scope is Scope.SCENE else self.options.batch
        items = list(enumerate(batches(self.plan.apply, size)))
        done = self.journal.blocks("apply") if self.journal else {}
        todo = [(n, item) for n, item in items if n not in done]
        for (number, _), record in zip(todo, self.workers.run(stage, [item for _, item in todo]), strict=True):
            done[number] = self._note("apply", number, record)
            self.progress(Step("apply", len(done) / len(items)))
        return [done[n] for n, _ in items]

    def _note(self, stage: str, number: int, record: Done) -> dict[str, Any]:
        line = {"partial": record.partial, "nodata": record.nodata, "tables": record.tables}
        if self.journal is not None:
            self.journal.add("block", stage=stage, block=number, **line)
        return line

    def _apply_frames(self, stage: ApplyStage, state: State) -> list[dict[str, Any]]:
        """Frame after frame, each with the state that the last one left."""
        cut = self.plan.apply[0]
        first, carried = 0, to_device(state, self.device)
        done: dict[int, dict[str, Any]] = {}
        saved = self.journal.of("frame") if self.journal else []
        if saved and self.journal:
            first = saved[-1]["frame"] + 1
            carried = to_device(load_state(self.journal.folder / saved[-1]["state"]), self.device)
            done = {n: line for n, line in self.journal.blocks("apply").items() if n < first}
        written = time.monotonic()
        frames = range(first, self.frames)
        for frame, loaded in zip(frames, read_ahead(lambda f: stage.scene.load((cut,), f), frames), strict=True):
            outputs, carried = stage.call(loaded, carried)
            record = stage.write(stage.collect(loaded, outputs))
            done[frame] = self._note("apply", frame, record)
            if self.journal is not None and time.monotonic() - written >= ROUND_SECONDS:
                name = f"frame-{frame}.state"
                save_state(self.journal.folder / name, to_device(carried, "cpu"))
                self.journal.add("frame", frame=frame, state=name)
                written = time.monotonic()
            self.progress(Step("apply", (frame + 1) / self.frames, f"frame {frame + 1}"))
        return [done[n] for n in range(self.frames)]

    def _blend(self) -> None:
        assert self.workspace is not None
        rows, cols = self.inputs.info.shape
        blocks = blend_blocks(self.plan.apply)
        reuse = self.journal is not None and self.journal.resumed
        with self._timed("blend"):
            for target in self.targets:
                assert target.array is not None
                slots = target.array
                shape = (target.bands, rows * target.zoom, cols * target.zoom)
                target.array = self.workspace.array(target.name, shape, target.dtype, reuse=reuse)
                stage = BlendStage(
                    self.plan.apply,
                    slots,
                    target.array,
                    self.plan.tile[0],
                    self.plan.overlap,
                    target.zoom,
                    (rows, cols),
                )
                name = f"blend {target.name}"
                done = set(self.journal.blocks(name)) if self.journal else set()
                todo = [block for block in blocks if block[0] not in done]
                for number in self.workers.run(stage, todo):
                    done.add(number)
                    if self.journal is not None:
                        self.journal.add("block", stage=name, block=number)
                    self.progress(Step("blend", len(done) / len(blocks)))
                slots.close()
            # Only now: a run that is killed before goes on with the slots.
            for target in self.targets:
                self.workspace.drop(f"slots-{target.name}")
                target.slots = False

    # Values

    def _finish(self, state: State) -> dict[str, Any]:
        made: dict[str, Any] = {}
        history = self._history()
        rasters = {t.name: t for t in self.targets}
        attrs = {k: v for k, v in self.inputs.lead.attrs.items() if k in values.KEPT or k in ("quantity", "units")}
        scaled = self.method.scale.rule != "physical"
        for output in self.method.outputs:
            if output.name in rasters:
                target = rasters[output.name]
                assert target.array is not None
                variable = target.array.variable()
                if self.frames > 1 or self.scene.lead.timed:
                    variable = values.unstacked(variable, self.frames)
                made[output.name] = values.raster_value(
                    target, variable, self.inputs, state, history, scaled and not output.undo_scale
                )
            elif output in self.later:
                made[output.name] = self._from_state(output, state, attrs, history)
            elif output.kind == "table":
                made[output.name] = joined([p.get(output.name, {}) for p in self.parts])
        before = dict(made)
        finished = self.method.finish(made, state)
        self.report.figures.update(_plain(self.method.figures(state)))
        self.report.history = [*self.inputs.lead.attrs.get("history", []), history]
        if self.paths is None:
            return {name: load_written(value) for name, value in finished.items()}
        with self._timed("write"):
            adopted = {
                n: t.array for n, t in rasters.items()
                if finished.get(n) is before[n] and isinstance(t.array, FileScratch) and self.frames == 1
            }  # fmt: skip
            return write_values(
                finished,
                self.paths,
                {o.name: o.kind for o in self.method.outputs},
                adopted,
                dtype=self.options.dtype,
                overwrite=self.options.overwrite,
                report=self.report,
                progress=self.progress,
            )

    def _from_state(self, output: Output, state: State, attrs: dict[str, Any], history: str) -> Any:
        if output.kind in ("cube", "layers") and output.name in self.scene.mapped:
            array = self.scene.mapped[output.name]
            target = self._state_target(output, array.shape[0])
            target.array = array
            return values.raster_value(target, array.variable(), self.inputs, state, history, False)
        if output.name not in state:
            raise KeyError(f"{type(self.method).__name__}: the state has no {output.name!r}, but it is declared")
        found = state[output.name]
        if output.kind == "table":
            return values.table_value(found)
        array = np.asarray(found.detach().cpu() if hasattr(found, "detach") else found)
        if output.undo_scale and array.dtype.kind == "f":
            matches = array.ndim == 2 and array.shape[1] == self.inputs.info.bands
            if output.kind == "spectra" and (matches or np.asarray(self.lead_scale[0]).ndim == 0):
                array = scaling.undo(array, *self.lead_scale, axis=1)
        if output.kind == "spectra":
            return values.spectra_value(output, array, state, self.inputs.info, {**attrs, "history": [history]})
        target = self._state_target(output, array.shape[0])
        if output.undo_scale and array.dtype.kind == "f":
            array = scaling.undo(array, *self.lead_scale, axis=0)
        variable = xr.Variable(("band", "y", "x"), array.astype(output.dtype))
        return values.raster_value(target, variable, self.inputs, state, history, False)

    def _state_target(self, output: Output, bands: int) -> Target:
        zoom = self.inputs.info.ratio[output.grid] if output.grid else output.zoom
        return Target(output, int(zoom), bands)

    def _history(self) -> str:
        import torchspectral

        changed = {k: v for k, v in self.report.settings.items() if v is not None}
        text = ", ".join(f"{k}={v}" for k, v in changed.items())
        return f"{self.report.method}({text}) by torchspectral {torchspectral.__version__}"


def _plain(figures: Mapping[str, Any]) -> dict[str, Any]:
    found = {}
    for name, value in figures.items():
        if hasattr(value, "tolist"):
            value = value.tolist()
        found[name] = value
    return found


def _state_digest(state: State | None) -> Any:
    if state is None:
        return None
    import hashlib

    import torch

    digest = hashlib.blake2b(digest_size=16)

    def feed(value: Any) -> None:
        if isinstance(value, torch.Tensor):
            digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        elif isinstance(value, Mapping):
            for key, part in value.items():
                digest.update(str(key).encode())
                feed(part)
        elif isinstance(value, (list, tuple)):
            for part in value:
                feed(part)
        else:
            digest.update(repr(value).encode())

    feed(state)
    return digest.hexdigest()
