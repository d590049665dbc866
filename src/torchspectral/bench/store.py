"""What a bench has measured, kept in its folder so that a stopped bench goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.report.files import write_whole


@dataclass
class Measured:
    """What one method has given in one turn."""

    figures: list[dict[str, float]] = field(default_factory=list)
    report: dict[str, Any] = field(default_factory=dict)
    error: str = ""
    curve: np.ndarray | None = None
    error_map: np.ndarray | None = None
    picture: np.ndarray | None = None
    bands: dict[str, list[Any]] = field(default_factory=dict)
    """Columns of what the method itself says of each band."""


class Store:
    """Measurements kept in a folder, one JSON and one NPZ a method and turn."""

    def __init__(self, folder: Path, *, keep: bool, key: str) -> None:
        self.folder, self.keep, self.key = folder, keep, key

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.json", self.folder / f"{name}.npz"

    def get(self, name: str, settings: Mapping[str, Any]) -> Measured | None:
        """What is known, unless it was measured under other settings."""
        text, arrays = self._paths(name)
        if not self.keep or not text.is_file():
            return None
        try:
            known = json.loads(text.read_text(encoding="utf-8"))
            if known["key"] != self.key or known["settings"] != dict(settings):
                return None
            found = Measured(known["figures"], known["report"], known["error"], bands=known["bands"])
            if arrays.is_file():
                with np.load(arrays, allow_pickle=False) as held:
                    for part in held.files:
                        setattr(found, part, held[part])
            return found
        except (ValueError, KeyError, OSError, TypeError):
            return None  # half-written or of another version: measured again

    def put(self, name: str, settings: Mapping[str, Any], found: Measured) -> None:
        """Keep a measurement; the JSON comes last, so that it never stands without its arrays."""
        self.folder.mkdir(parents=True, exist_ok=True)
        text, arrays = self._paths(name)
        parts = {n: v for n in ("curve", "error_map", "picture") if (v := getattr(found, n)) is not None}
        if parts:
            partial = arrays.with_name(f".{arrays.name}.partial.npz")
            np.savez_compressed(partial, **parts)
            partial.replace(arrays)
        held = {"key": self.key, "settings": dict(settings), "figures": found.figures, "report": found.report}
        held |= {"error": found.error, "bands": found.bands}
        write_whole(text, json.dumps(held, default=str).encode())
