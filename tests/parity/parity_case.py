"""One parity case: what adapters are given, and how its outputs are compared.

A case is NAME.json with NAME.npz beside it. An adapter is ``adapters/<system with - as _>.py`` with

    def run(case: Case) -> dict[str, np.ndarray]: ...

which computes every output that ``case.meta["output"]`` names, through the public API, in at most 25 lines, and
raises `Unsupported` (with what is missing) for the cases of its system that the library does not have yet. Scalars
that the case lists under "figures" are returned as an extra entry ``"figures"`` (a mapping like the case's own).
"""

from __future__ import annotations

import importlib.util
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parent
if str(HERE) not in sys.path:
    sys.path.insert(0, str(HERE))

import parity_fill  # noqa: E402

_LARGE: dict[Any, Any] = {}


class Unsupported(Exception):
    """The system, or this part of it, is not built (or a file that the case needs is absent)."""


class BrokenCase(Exception):
    """A case file cannot be read."""


def shared_root() -> Path | None:
    """Folder that holds `data` and `parity`, where there is one."""
    given = os.environ.get("TORCHSPECTRAL_SAMPLES")
    repo = HERE.parent.parent
    for place in ([Path(given)] if given else []) + [repo.parent / "shared", repo / "shared"]:
        if (place / "data").is_dir():
            return place
    return None


@dataclass
class Case:
    """A parity case as adapters see it.

    Attributes
    ----------
    name, system : str
    folder : Path
    meta : dict
        The whole JSON.
    """

    name: str
    folder: Path
    meta: dict[str, Any] = field(repr=False)

    @classmethod
    def read(cls, path: Path) -> Case:
        """Read NAME.json; the arrays are read when compared."""
        try:
            meta = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise BrokenCase(f"cannot read {path.name}: {error}") from None
        needed = ("system", "output", "tolerance")
        if not isinstance(meta, dict) or any(key not in meta for key in needed):
            raise BrokenCase(f"{path.name} is no parity case: needs {', '.join(needed)}")
        if not path.with_suffix(".npz").is_file():
            raise BrokenCase(f"{path.name} has no {path.stem}.npz beside it")
        return cls(path.stem, path.parent, meta)

    @property
    def system(self) -> str:
        """Name of the system, as the folder of the case."""
        return str(self.meta["system"])

    @property
    def constructor(self) -> Any:
        """How the reference was built: a mapping or a sentence."""
        return self.meta.get("constructor", {})

    @property
    def params(self) -> dict[str, Any]:
        """The inputs as written in the case (recipes, constants, sentences)."""
        return dict(self.meta.get("inputs", {}))

    @cached_property
    def inputs(self) -> dict[str, np.ndarray]:
        """Arrays by name: drawn ones, given values and fields of recipes; prose is left out."""
        arrays: dict[str, np.ndarray] = {}
        for name, spec in self.params.items():
            if not isinstance(spec, Mapping):
                continue
            if "recipe" in spec:
                made = self._recipe(spec)
                arrays.update(made if isinstance(made, Mapping) else {name: made})
            elif "value" in spec:
                arrays[name] = np.asarray(spec["value"])
            elif {"shape", "seed"} <= set(spec):
                arrays[name] = parity_fill.make_input(
                    spec["shape"], spec["seed"], spec.get("low", 0.0), spec.get("high", 1.0)
                )
        return arrays

    def _recipe(self, spec: Mapping[str, Any]) -> Any:
        module, _, function = str(spec["recipe"]).rpartition(".")
        arguments = {key: value for key, value in spec.items() if key not in ("recipe", "fields")}
        return getattr(self.recipe_module(module), function)(**arguments)

    def recipe_module(self, name: str) -> Any:
        """Import ``name.py`` that lies beside the case, or beside the known cases of its system."""
        root = shared_root()
        places = [self.folder, HERE / "cases" / self.system, *([root / "parity" / self.system] if root else [])]
        file = next((place / f"{name}.py" for place in places if (place / f"{name}.py").is_file()), None)
        if file is None:
            raise BrokenCase(f"{self.name} needs {name}.py beside it")
        spec = importlib.util.spec_from_file_location(f"_parity_recipe_{self.system.replace('-', '_')}_{name}", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        path = list(sys.path)
        try:
            spec.loader.exec_module(module)
        finally:
            sys.path[:] = path
        return module

    def tensors(self, *names: str, dtype: str = "float32") -> list[Any]:
        """Inputs as torch tensors in the order asked for."""
        import torch

        return [torch.from_numpy(np.ascontiguousarray(self.inputs[name])).to(getattr(torch, dtype)) for name in names]

    def state(self) -> dict[str, Any]:
        """State dict of the case: filled from its keys and shapes, or the published file."""
        import torch

        published = self.meta.get("weights", "")
        if str(published).startswith("published"):
            return torch.load(self.weights_file(), map_location="cpu", weights_only=True)
        skip = [*self.meta.get("fill_skip", []), *self.meta.get("not_filled", [])]
        state = {}
        for key, (shape, name) in self.meta.get("state", {}).items():
            if any(part in key for part in skip):
                continue
            dtype = getattr(torch, str(name).replace("torch.", ""))
            if dtype.is_floating_point:
                state[key] = torch.from_numpy(self._filled(key, tuple(shape))).to(dtype)
            else:
                state[key] = torch.zeros(shape, dtype=dtype)
        return state

    def _filled(self, key: str, shape: tuple[int, ...]) -> np.ndarray:
        """Value of a state entry; large ones are kept for the next case of the system, which often has the same."""
        if _LARGE.get("system") != self.system:
            _LARGE.clear()
            _LARGE["system"] = self.system
        if math.prod(shape) < 1 << 18:
            return parity_fill.fill_array(key, shape).reshape(shape)
        if (key, shape) not in _LARGE:
            _LARGE[key, shape] = parity_fill.fill_array(key, shape).reshape(shape)
        return _LARGE[key, shape]

    def load_into(self, network: Any) -> Any:
        """Check keys and shapes of `network` against the case, load the state, set the mode; returns the network."""
        own = {
            key: [list(value.shape), str(value.dtype).replace("torch.", "")]
            for key, value in network.state_dict().items()
        }
        listed = self.meta.get("state", {})
        if listed and {k: v[0] for k, v in own.items()} != {k: list(v[0]) for k, v in listed.items()}:
            raise AssertionError(f"keys or shapes differ: {sorted(set(own) ^ set(listed))[:8]}")
        state = self.state()
        for key, value in network.state_dict().items():
            if not value.is_floating_point():
                state[key] = value
            else:
                state.setdefault(key, value)
        # A network of shapes alone was not initialised for nothing: it takes the tensors themselves.
        network.load_state_dict(state, assign=any(p.is_meta for p in network.parameters()))
        return network.train() if self.meta.get("mode") == "train" else network.eval()

    def weights_file(self) -> Path:
        """Path of the published weights."""
        relative = str(self.meta["weights"]).partition(":")[2].strip().split(" ")[0]
        root = shared_root()
        for base in [root] if root else []:
            if (base / relative).is_file():
                return base / relative
        if (self.folder.parent.parent / relative).is_file():
            return self.folder.parent.parent / relative
        raise Unsupported(f"needs the published weights {relative}, which are not here")

    def sample_file(self, relative: str) -> Path:
        """A file of the shared samples, such as ``data/enmap/...``."""
        root = shared_root()
        if root is None or not (root / relative).exists():
            raise Unsupported(f"needs {relative}, which is not here")
        return root / relative

    def compare(self, got: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
        """Compare outputs; one entry an output with ``ok``, the largest error and a reason where it fails."""
        try:
            with np.load(self.folder / f"{self.name}.npz", allow_pickle=False) as stored:
                expected = {key: stored[key] for key in stored.files}
        except (OSError, ValueError) as error:
            raise BrokenCase(f"cannot read {self.name}.npz: {error}") from None
        rows = {}
        floors = got.get("floors", {})
        for name, spec in self.meta["output"].items():
            if name in floors:
                rows[name] = _compare_floor(self.meta["figures"][name], floors[name])
                continue
            tolerance = self.meta.get("tolerance_outputs", {}).get(name, self.meta["tolerance"])
            if name not in expected:
                raise BrokenCase(f"{self.name}.npz has no {name}")
            rows[name] = _compare(name, got, expected[name], spec, tolerance)
        if "figures" in got:
            for key, want, have in _pairs(self.meta.get("figures", {}), got["figures"]):
                rows[f"figures/{key}"] = _compare_figure(want, have, self.meta["tolerance"])
        return rows


def _compare(name: str, got: Mapping[str, Any], want: np.ndarray, spec: Any, tolerance: Any) -> dict[str, Any]:
    if name not in got:
        return {"ok": False, "reason": "the adapter returned no such output"}
    value = got[name]
    array = np.asarray(value.detach().cpu().numpy() if hasattr(value, "detach") else value)
    if list(array.shape) != list(spec["shape"]):
        return {"ok": False, "reason": f"shape {list(array.shape)}, expected {list(spec['shape'])}"}
    kind, _, step = str(spec.get("stored", "full")).partition(":")
    if kind == "strided":
        array = array.ravel()[:: int(step)]
    have, want = array.astype(np.float64).reshape(-1), want.astype(np.float64).reshape(-1)
    if have.shape != want.shape:
        return {"ok": False, "reason": f"{have.size} values against {want.size} stored"}
    rtol, atol = float(tolerance.get("rtol", 0.0)), float(tolerance.get("atol", 0.0))
    same = (have == want) | (np.isnan(have) & np.isnan(want))
    with np.errstate(invalid="ignore"):
        error = np.where(same, 0.0, np.abs(have - want))
    error = np.where(np.isnan(error), np.inf, error)
    allowed = atol + rtol * np.where(np.isfinite(want), np.abs(want), 0.0)
    bad = error > allowed
    with np.errstate(divide="ignore", invalid="ignore"):
        share = np.where(error == 0, 0.0, error / allowed)
    row = {
        "ok": not bool(bad.any()),
        "max_error": float(error.max(initial=0.0)),
        "of_allowed": float(share.max(initial=0.0)),
        "values": int(want.size),
    }
    if bad.any():
        row["reason"] = (
            f"{int(bad.sum())} of {want.size} values off by up to {error.max():.3g} (rtol {rtol:g}, atol {atol:g})"
        )
    return row


def _compare_figure(want: Any, have: Any, tolerance: Any) -> dict[str, Any]:
    if have is None:
        return {"ok": False, "reason": "the adapter returned no such figure"}
    error = abs(float(have) - float(want))
    allowed = float(tolerance.get("atol", 0.0)) + float(tolerance.get("rtol", 0.0)) * abs(float(want))
    row: dict[str, Any] = {
        "ok": bool(error <= allowed),
        "max_error": error,
        "of_allowed": error / allowed if allowed else error,
    }
    if not row["ok"]:
        row["reason"] = f"{float(have):.6g}, expected {float(want):.6g}"
    return row


def _compare_floor(want: Mapping[str, Any], have: Mapping[str, Any]) -> dict[str, Any]:
    """Of a peer that the case calls a floor, not a target: PSNR at least, spectral angle at most what it reached."""
    row: dict[str, Any] = {
        "ok": have["psnr"] >= want["psnr"] and have["sam_deg"] <= want["sam_deg"],
        "of_allowed": max(want["psnr"] / have["psnr"], have["sam_deg"] / want["sam_deg"]),
    }
    if not row["ok"]:
        row["reason"] = (
            f"{have['psnr']:.2f} dB and {have['sam_deg']:.2f} degrees, expected at least {want['psnr']:.2f} dB and at "
            f"most {want['sam_deg']:.2f} degrees"
        )
    return row


def _pairs(want: Mapping[str, Any], have: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Figures that the adapter answers for: times and prose are left out."""
    for key, value in want.items():
        if key not in have:
            continue
        if isinstance(value, Mapping) and isinstance(have[key], Mapping):
            yield from _pairs(value, have[key], f"{prefix}{key}.")
        elif isinstance(value, int | float):
            yield f"{prefix}{key}", value, have[key]
