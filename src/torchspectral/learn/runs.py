"""Run folders: everything about one training in one place.

``run.yaml`` (enough to repeat it), ``curves.csv`` and ``curves.png``, ``speed.csv`` (samples a second and memory, which
no repetition gives again), ``checkpoints/last.pt`` and ``best.pt``, ``representation.csv`` and ``.npz`` where the embeddings
were monitored, ``metrics.json``, and, once finished, ``weights.safetensors`` with its card ``weights.yaml``.
"""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import yaml

from torchspectral.errors import (
    BadWeights,
    JournalMismatch,
    MissingDependency,
    OutputExists,
    OutputFailed,
    ProductNotFound,
)
from torchspectral.weights import WeightsCard, save
from torchspectral.weights.store import RUN_WEIGHTS

LAST, BEST = "last", "best"
CURVES, SPEED = "curves.csv", "speed.csv"
MONITORED, KEPT = "representation.csv", "representation.npz"


class Run:
    """One run folder.

    Parameters
    ----------
    path : path
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path).expanduser()
        self.made = False

    @property
    def weights(self) -> Path:
        """The exported weights; exist once the run is finished."""
        return self.path / RUN_WEIGHTS

    @property
    def patches(self) -> Path:
        """The patch store, unless another place was chosen."""
        return self.path / "patches.zarr"

    def start(self, *, resume: bool, overwrite: bool) -> bool:
        """Make the folder ready; whether there is something to resume.

        Raises
        ------
        OutputExists
            A run is there and neither `resume` nor `overwrite` was asked for.
        ProductNotFound
            `resume` where no run was begun.
        OutputFailed
            The folder holds something else, or cannot be written.
        """
        begun = (self.path / "run.yaml").is_file()
        if resume and not begun:
            raise ProductNotFound(f"{self.path}: there is no run to resume: leave --resume out to begin one")
        if self.path.exists() and not begun and (not self.path.is_dir() or any(self.path.iterdir())):
            raise OutputFailed(f"{self.path} exists and is no run folder: choose another name")
        if begun and not resume:
            if not overwrite:
                raise OutputExists(f"{self.path} holds a run: continue it with resume, or say overwrite")
            self._clear()
        self.made = not self.path.exists()
        try:
            (self.path / "checkpoints").mkdir(parents=True, exist_ok=True)
            for left in (self.path / "checkpoints").glob(".*.pt.*"):  # of a process that was killed while it wrote
                left.unlink(missing_ok=True)
        except OSError as error:
            raise OutputFailed(f"{self.path} could not be made: {error}") from error
        return resume

    def discard(self) -> None:
        """Take back a run that never came to its first step."""
        import shutil

        self._clear()
        if self.made:
            shutil.rmtree(self.path, ignore_errors=True)

    def _clear(self) -> None:
        import shutil

        for name in (
            "run.yaml", CURVES, SPEED, "curves.png", MONITORED, KEPT, "metrics.json", RUN_WEIGHTS, "weights.yaml"
        ):  # fmt: skip
            (self.path / name).unlink(missing_ok=True)
        for name in ("checkpoints", "patches.zarr"):
            shutil.rmtree(self.path / name, ignore_errors=True)

    def write_facts(self, facts: Mapping[str, Any]) -> None:
        """Write ``run.yaml``."""
        text = yaml.safe_dump(
            json.loads(json.dumps(dict(facts), default=str)), sort_keys=False, allow_unicode=True, width=120
        )
        self._write("run.yaml", text)

    def facts(self) -> dict[str, Any]:
        """What ``run.yaml`` says.

        Raises
        ------
        ProductNotFound, BadWeights
        """
        file = self.path / "run.yaml"
        if not file.is_file():
            raise ProductNotFound(f"{self.path}: there is no run.yaml, expected a run folder")
        try:
            facts = yaml.safe_load(file.read_text(encoding="utf-8"))
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise BadWeights(
                f"{file} is not YAML ({' '.join(str(error).split())[:120]}): begin the run again"
            ) from None
        if not isinstance(facts, dict):
            raise BadWeights(f"{file} holds no run: begin it again")
        return facts

    def check_same(self, facts: Mapping[str, Any], names: tuple[str, ...]) -> None:
        """Hold what is asked for now against what the run was begun with.

        Raises
        ------
        JournalMismatch
        """
        before, now = self.facts(), json.loads(json.dumps(dict(facts), default=str))
        for name in names:
            if before.get(name) != now.get(name):
                raise JournalMismatch(
                    f"{self.path} was begun with another {name} ({_difference(before.get(name), now.get(name))}): "
                    "resume with the same, or begin a new run"
                )

    def _write(self, name: str, text: str) -> None:
        temporary = self.path / f".{name}.{uuid4().hex[:8]}"
        try:
            temporary.write_text(text, encoding="utf-8")
            temporary.replace(self.path / name)
        except OSError as error:
            raise _unwritten(self.path / name, error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def checkpoint(self, name: str) -> Path:
        """File of a checkpoint."""
        return self.path / "checkpoints" / f"{name}.pt"

    def save_checkpoint(self, name: str, content: Mapping[str, Any]) -> None:
        """Write a checkpoint of tensors and plain values, whole or not at all.

        Raises
        ------
        OutputFailed
        """
        import torch

        path = self.checkpoint(name)
        temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}")
        try:
            torch.save(dict(content), temporary)
            temporary.replace(path)
        except (OSError, RuntimeError) as error:
            raise _unwritten(path, error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def load_checkpoint(self, name: str) -> dict[str, Any] | None:
        """A checkpoint, or None where there is none.

        Raises
        ------
        BadWeights
        """
        import torch

        path = self.checkpoint(name)
        if not path.is_file():
            return None
        try:
            content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # torch raises many types on broken files
            short = " ".join(str(error).split())[:120]
            raise BadWeights(f"{path} cannot be read ({short}): begin the run again with overwrite") from None
        if not isinstance(content, dict) or "step" not in content:
            raise BadWeights(f"{path} is no checkpoint of a run: begin the run again with overwrite")
        return content

    def add_row(self, row: Mapping[str, Any], table: str = CURVES) -> None:
        """Append a row to ``curves.csv``, or to another table; the columns are those of the first row."""
        file = self.path / table
        names = list(row)
        new = not file.is_file()
        try:
            if not new:
                with file.open(encoding="utf-8", newline="") as handle:
                    names = next(csv.reader(handle), names)
            with file.open("a", encoding="utf-8", newline="") as handle:
                writer = csv.DictWriter(handle, names, extrasaction="ignore")
                if new:
                    writer.writeheader()
                writer.writerow({k: repr(v) if isinstance(v, float) else v for k, v in row.items()})
        except OSError as error:
            raise _unwritten(file, error) from error

    def rows(self, table: str = CURVES) -> list[dict[str, float]]:
        """Rows of ``curves.csv``, or of another table."""
        file = self.path / table
        if not file.is_file():
            return []
        with file.open(encoding="utf-8", newline="") as handle:
            whole = (row for row in csv.DictReader(handle) if None not in row and None not in row.values())
            return [{k: float(v) if v else math.nan for k, v in row.items()} for row in whole]

    def curves(self) -> list[dict[str, float]]:
        """Rows of ``curves.csv`` with the speed at each of them."""
        speed = {row["step"]: row for row in self.rows(SPEED)}
        return [{**row, **speed.get(row["step"], {})} for row in self.rows()]

    def speed(self) -> dict[str, float]:
        """Median of the samples a second, and the most memory [MiB]; empty before the first validation."""
        rows = self.rows(SPEED)
        if not rows:
            return {}
        rates = sorted(row["samples_per_second"] for row in rows)
        memory = max(row["peak_memory_mib"] for row in rows)
        return {"samples_per_second": rates[len(rates) // 2], "peak_memory_mib": memory}

    def cut_rows(self, step: int) -> None:
        """Drop the rows after a step: they were made after the checkpoint that is resumed from."""
        for table in (CURVES, SPEED, MONITORED):
            kept = [row for row in self.rows(table) if row["step"] <= step]
            (self.path / table).unlink(missing_ok=True)
            for row in kept:
                self.add_row({k: int(v) if k == "step" else v for k, v in row.items()}, table)

    def plot(self) -> None:
        """Draw ``curves.png`` from ``curves.csv``; skipped with a log line where matplotlib is absent."""
        from torchspectral.log import get_logger

        rows = self.curves()
        try:
            from matplotlib.figure import Figure
        except ModuleNotFoundError:
            get_logger("learn").warning("no curves.png: matplotlib is not installed")
            return
        if not rows:
            return
        names = [name for name in rows[0] if name not in ("step", "learning_rate", "epoch")]
        figure = Figure(figsize=(4.2 * len(names), 3.2), layout="constrained")
        steps = [row["step"] for row in rows]
        for axis, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            values = [row.get(name, math.nan) for row in rows]
            axis.plot(steps, values, linewidth=1.2)
            if "loss" in name and all(v > 0 for v in values if math.isfinite(v)):
                axis.set_yscale("log")
            axis.set(title=name.replace("_", " "), xlabel="step")
            axis.grid(alpha=0.3)
        temporary = self.path / f".curves.{uuid4().hex[:8]}.png"
        try:
            figure.savefig(temporary, dpi=110)
            temporary.replace(self.path / "curves.png")
        except OSError as error:
            raise _unwritten(self.path / "curves.png", error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write ``metrics.json``."""
        self._write("metrics.json", json.dumps(dict(metrics), indent=2, default=float) + "\n")

    def metrics(self) -> dict[str, Any]:
        """What ``metrics.json`` says; empty where the run is not finished."""
        file = self.path / "metrics.json"
        return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}

    def export(self, state: Mapping[str, Any], card: WeightsCard) -> Path:
        """Write the weights with their card; from then on the run can be given as ``weights=RUN``."""
        return save(self.weights, state, card, overwrite=True)


def _unwritten(path: Path, error: Exception) -> OutputFailed:
    """The error for a file that could not be written, with the room that is left where that is little."""
    import shutil

    free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 1 << 40
    why = f"{free / 2**20:.1f} MiB are free there, make room" if free < 1 << 30 else " ".join(str(error).split())[:160]
    return OutputFailed(f"{path} could not be written: {why}; what was kept before goes on with --resume")


def _difference(before: Any, now: Any) -> str:
    if isinstance(before, dict) and isinstance(now, dict):
        for key in {**before, **now}:
            if before.get(key) != now.get(key):
                return f"{key}: {before.get(key)!r}, now {now.get(key)!r}"[:160]
    return f"{before!r}, now {now!r}"[:160]


def missing_lightning(error: ModuleNotFoundError) -> MissingDependency:
    """The error for training without the extra."""
    return MissingDependency(f"training needs {error.name}, which is not installed: pip install 'torchspectral[train]'")
