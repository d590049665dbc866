"""One run, stage by stage: scale, fit, apply, blend, finish, write."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from torchspectral.engine.applying import apply
from torchspectral.engine.device import parse_device
from torchspectral.engine.executor import Workers
from torchspectral.engine.finishing import finish
from torchspectral.engine.fitting import find_scale, fit
from torchspectral.engine.journal import Journal, fingerprint
from torchspectral.engine.memory import check_fits, parse_bytes
from torchspectral.engine.method import Method, Output, Scope, Size, State, is_fitted
from torchspectral.engine.outputs import Target
from torchspectral.engine.paths import Paths, sources_of
from torchspectral.engine.plan import depth_of, make_plan
from torchspectral.engine.reading import Scene
from torchspectral.engine.roles import check_band_rule, prepare_inputs
from torchspectral.engine.scratch import Workspace
from torchspectral.errors import BadInput, BadWeights, GridMismatch
from torchspectral.log import Progress
from torchspectral.result import Report

if TYPE_CHECKING:
    from torchspectral.engine.running import Review, RunOptions


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
    review : Review, optional
        Reads the values before they are written.
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
        review: Review | None = None,
    ) -> None:
        self.review = review
        self.method, self.paths, self.options = method, paths, options
        self.progress, self.report = progress, report
        self.journal: Journal | None = None
        self.workspace: Workspace | None = None
        self.workers = Workers(options.workers, options.cluster)
        self.device = str(parse_device(options.device))
        report.device = self.device
        report.inputs = {name: _name_of(value) for name, value in inputs.items() if value is not None}
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
        self.lead_scale: tuple[Any, Any] = (1.0, 0.0)
        self.timed_lead = self.scene.lead.timed
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
        if isinstance(mask, (str, Path)):
            from torchspectral.io.masks import clear_mask

            product = next(iter(sources_of(lead)), "")
            if mask == "clear" and not product:
                raise BadInput("got mask='clear' with a scene that no file is known of: give a mask file or array")
            mask, flags = clear_mask(product if mask == "clear" else mask)
            self.report.notes.append(f"flags of the mask: {', '.join(flags) or 'one layer'}")
        if getattr(mask, "ndim", 2) not in (2, 3) or getattr(mask, "dtype", np.dtype(bool)).kind not in "biuf":
            raise BadInput(f"got a mask of {mask.ndim} dimensions and type {mask.dtype}, expected booleans (y, x)")
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
                if output.kind == "cube" and not output.own_bands:
                    bands = count
                    place = None if count == info.bands else self.inputs.bands
                elif not isinstance(names, str):
                    bands = len(names)
                self.targets.append(Target(output, int(zoom), bands, place))
        coarse = [t for t in self.targets if method.multiple % t.step]
        if coarse:
            raise ValueError(
                f"{coarse[0].name} has a step of {coarse[0].step}, which does not divide {method.multiple}"
            )
        depth = depth_of(
            {n: len(r.bands) for n, r in self.scene.roles.items()},
            info.ratio,
            [(-(-max(t.bands, 1) // t.step**2), t.zoom) for t in self.targets],
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
            with self.timed("journal"):
                self.journal = Journal(
                    self.paths.base, self._key(), resume=self.options.resume, overwrite=self.options.overwrite
                )
        folder = self.journal.folder if self.journal else None
        self.workspace = Workspace(folder, shared=self.workers.remote)
        if self.workers.remote:
            self._share()
        self.lead_scale = find_scale(self)
        for target in self.targets:
            target.gain, target.offset = self.lead_scale
        state = fit(self)
        parts = apply(self, state)
        return finish(self, state, parts)

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
    def timed(self, stage: str) -> Iterator[None]:
        """Note the seconds of a stage."""
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


def _state_digest(state: State | None) -> Any:
    if state is None:
        return None
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


def _name_of(value: Any) -> str:
    return ", ".join(sources_of(value)) or f"array of shape {tuple(getattr(value, 'shape', ()))}"
