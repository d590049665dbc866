"""Result: the named values of one call and the report of how they came about."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass
class Report:
    """What was done, enough to repeat it and to trust it.

    Attributes
    ----------
    method : str
        ``room/name`` of the method, or the verb.
    inputs : dict
        Path (or a description) of what stood in each role.
    options : dict
        How the engine was asked to run (bands, tile, dtype), where it is not the default.
    settings : dict
        All settings with their values.
    dropped, filled, scaled, resampled : list of str
        What the engine did to the input, one sentence each.
    notes : list of str
        Anything else that a reader of the result must know.
    figures : dict
        Numbers measured on the way (iterations, losses, metrics).
    seconds : dict
        Wall time of each stage [s].
    peak_memory : int
        Peak anonymous memory of this process during the call [bytes]; 0 where the system does not tell.
    weights, licence : str
        Name and licence of the weights used.
    seed : int or None
    device, version : str
        Where it ran, and the version of torchspectral.
    history : list of str
        One line for each operation since the product was opened.
    """

    method: str = ""
    inputs: dict[str, str] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    dropped: list[str] = field(default_factory=list)
    filled: list[str] = field(default_factory=list)
    scaled: list[str] = field(default_factory=list)
    resampled: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    peak_memory: int = 0
    weights: str = ""
    licence: str = ""
    seed: int | None = None
    device: str = ""
    version: str = ""
    history: list[str] = field(default_factory=list)

    def as_dict(self) -> dict[str, Any]:
        """Plain mapping without the empty entries."""
        return {key: value for key, value in asdict(self).items() if value not in ("", 0, None, [], {})}


@dataclass
class Result(Mapping[str, Any]):
    """Named values (cubes, layers, spectra, tables) and their report; the first value is the primary one."""

    values_by_name: dict[str, Any]
    report: Report = field(default_factory=Report)
    paths: dict[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.values_by_name[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.values_by_name)

    def __len__(self) -> int:
        return len(self.values_by_name)

    @property
    def primary(self) -> Any:
        """The value that ``-o FILE`` writes."""
        return next(iter(self.values_by_name.values()))

    def __repr__(self) -> str:
        lines = [f"<Result of {self.report.method or 'a call'}>"]
        for name, value in self.values_by_name.items():
            shape = "x".join(str(n) for n in getattr(value, "shape", ())) or type(value).__name__
            lines.append(f"  {name}: {shape}")
        return "\n".join(lines)
