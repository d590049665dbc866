"""Working scales: what the numbers of a rule are for a scene, and back again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from torchspectral.engine.method import Output, Scale
from torchspectral.engine.plan import Cut
from torchspectral.engine.reading import RoleReader, Scene
from torchspectral.errors import BadInput, BadSettings
from torchspectral.result import Report


class StatisticsStage:
    """Sums of each role's valid core values: count, sum, sum of squares, largest; float64."""

    def __init__(self, scene: Scene, roles: list[str]) -> None:
        self.scene, self.roles = scene, roles

    def read(self, item: tuple[int, Cut]) -> Any:
        """Read a tile; an item is a frame and a cut."""
        return self.scene.load((item[1],), item[0])

    def compute(self, loaded: Any) -> dict[str, tuple[np.ndarray, ...]]:
        """Sums of the tiles."""
        found: dict[str, tuple[np.ndarray, ...]] = {}
        keep = ~loaded.empty[0]
        for name in self.roles:
            values = loaded.tile.core(name)[0].numpy()
            ratio = self.scene.roles[name].ratio
            mask = np.repeat(np.repeat(keep, ratio, 0), ratio, 1)
            if name in loaded.role_empty:
                mask = mask & ~loaded.role_empty[name][0]
            used = values[:, mask].astype(np.float64)
            peak = used.max(initial=-np.inf)
            found[name] = (np.array(used.shape[1]), used.sum(1), np.einsum("bp,bp->b", used, used), np.array(peak))
        return found

    def write(self, done: Any) -> Any:
        """Nothing to store."""
        return done


def merge_statistics(a: dict[str, Any] | None, b: dict[str, Any]) -> dict[str, Any]:
    """Fold the sums of two tiles."""
    if a is None:
        return b
    return {n: (a[n][0] + b[n][0], a[n][1] + b[n][1], a[n][2] + b[n][2], np.maximum(a[n][3], b[n][3])) for n in b}


def needs_statistics(scale: Scale) -> bool:
    """Whether the rule costs a pass over the scene.

    Raises
    ------
    BadSettings
        An unknown rule.
    """
    if scale.rule not in ("physical", "fixed", "max", "meanstd"):
        raise BadSettings(f"unknown scale rule {scale.rule!r}, expected physical, fixed, max or meanstd")
    return scale.rule in ("max", "meanstd")


def numbers_of(
    scale: Scale, scene: Scene, bands: np.ndarray, count: int, statistics: Mapping[str, Any] | None
) -> dict[str, tuple[Any, Any]]:
    """Gain and offset of each role.

    Parameters
    ----------
    bands : ndarray of int
        Bands of the lead that are handed over, of `count`.

    Raises
    ------
    BadInput
        No valid pixel, or nothing above zero to divide by.
    """
    lead = scene.lead.name
    found: dict[str, tuple[Any, Any]] = {}
    for name in scene.roles:
        own = name if name == lead or name in scale.own else lead
        if scale.rule == "fixed":
            found[name] = _fixed(scale, name, lead, bands, count)
        elif statistics is not None:
            found[name] = _measured(scale.rule, statistics[own], own)
        else:
            found[name] = (1.0, 0.0)
    return found


def _fixed(scale: Scale, name: str, lead: str, bands: np.ndarray, count: int) -> tuple[Any, Any]:
    pair = []
    for number, neutral in ((scale.gain, 1.0), (scale.offset, 0.0)):
        if isinstance(number, Mapping):
            number = number.get(name, neutral if name in scale.own else number.get(lead, neutral))
        elif name in scale.own and name != lead:
            number = neutral
        value = np.asarray(number, dtype=np.float64)
        if value.ndim and name == lead and value.size == count and count != bands.size:
            value = value[bands]
        pair.append(value)
    return pair[0], pair[1]


def _measured(rule: str, sums: tuple[np.ndarray, ...], name: str) -> tuple[Any, Any]:
    n, total, squares, peak = sums
    if int(n) == 0:
        raise BadInput(f"{name} has no valid pixel: all are nodata or masked out")
    if rule == "max":
        if not float(peak) > 0:
            raise BadInput(f"the largest value of {name} is {float(peak):g}, expected one above 0 to scale by")
        return float(peak), 0.0
    mean = total / n
    std = np.sqrt(np.maximum(squares / n - mean**2, 0.0))
    # A constant band stays constant instead of becoming infinite.
    return np.where(std > 0, std, 1.0), mean


def apply_scale(readers: Mapping[str, RoleReader], numbers: Mapping[str, tuple[Any, Any]]) -> None:
    """Set gain and offset of the readers.

    Raises
    ------
    BadSettings
        Numbers a band that are not as many as the role's bands.
    """
    for name, reader in readers.items():
        if reader.labels:
            continue
        gain, offset = numbers[name]
        for value in (np.asarray(gain), np.asarray(offset)):
            if value.ndim and value.size not in (1, len(reader.bands)):
                raise BadSettings(
                    f"the working scale has {value.size} numbers, expected one or {len(reader.bands)} for the bands of "
                    f"{name}"
                )
        reader.gain, reader.offset = gain, offset


def undo(values: np.ndarray, gain: Any, offset: Any, axis: int) -> np.ndarray:
    """Working values back to physical ones; numbers a band lie along `axis`."""
    for number, times in ((np.asarray(gain), True), (np.asarray(offset), False)):
        if number.ndim and number.size > 1:
            shape = [1] * values.ndim
            shape[axis] = -1
            number = number.reshape(shape)
        number = number.astype(values.dtype)
        values = values * number if times else values + number
    return values


def describe(scale: Scale, numbers: Mapping[str, tuple[Any, Any]], outputs: Sequence[Output], report: Report) -> None:
    """Say in the report what was done, and which of the outputs are turned back."""
    if scale.rule == "physical":
        return
    values = [one for one in outputs if one.kind != "table"]
    back = [one.name for one in values if one.undo_scale]
    end = "in the output" if len(back) == len(values) else f"in {', '.join(back)} alone"
    for name, (gain, offset) in numbers.items():
        report.scaled.append(
            f"{name}: (value - {_short(offset)}) / {_short(gain)} ({scale.rule}), "
            + (f"undone {end}" if back else "not undone in the output")
        )


def _short(number: Any) -> str:
    array = np.asarray(number)
    if array.size == 1:
        return f"{array.item():g}"
    return f"{array.size} numbers from {array.min():g} to {array.max():g}"
