"""Opening a folder of patches: its index, broken files, and which of several sensors is meant."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from torchspectral.errors import BadSettings, BandMismatch, BrokenProduct
from torchspectral.learn.patch_sets.index import Index
from torchspectral.learn.patch_sets.layout import Layout
from torchspectral.learn.patch_sets.patch_set import PatchSet
from torchspectral.learn.patch_sets.scanning import recognise, scan
from torchspectral.log import Progress, get_logger, no_progress


def open_patch_set(
    path: str | Path,
    *,
    layout: str = "",
    broken: str = "refuse",
    sensor: str = "",
    rebuild: bool = False,
    progress: Progress = no_progress,
) -> PatchSet:
    """Open a folder of patches; its index is made once, and again when the folder has changed.

    Parameters
    ----------
    path : path
    layout : str
        One of ``learn.patch_sets.LAYOUTS``; "" looks which it is.
    broken : {"refuse", "skip"}
        What to do about files that cannot be opened; skipped ones are named in a warning and in ``skipped``.
    sensor : str
        Which of several sensors or band counts of a set: a name such as "enmap", or a number of bands such as "202".
    rebuild : bool
        Look into every file again.
    progress : callable

    Returns
    -------
    PatchSet

    Raises
    ------
    ProductNotFound, UnknownProduct, UnknownName
    BrokenProduct
        Files that cannot be opened.
    BandMismatch
        Patches of several kinds, and none was chosen.
    BadInput
        Labels out of range, splits of another set, no patches.
    BadSettings, OutputFailed, MissingDependency

    Examples
    --------
    >>> from torchspectral.learn.patch_sets import open_patch_set
    >>> open_patch_set("SpectralEarth/", broken="skip")  # doctest: +SKIP
    """
    if broken not in ("refuse", "skip"):
        raise BadSettings(f"got broken={broken!r}, expected refuse or skip")
    scanned = scan(Path(path).expanduser(), layout, rebuild=rebuild, progress=progress)
    made, index = scanned.layout, scanned.index
    if index.broken:
        first, why = next(iter(index.broken.items()))
        text = f"{len(index.broken)} of {len(index)} files of {path} are broken, such as {first}: {why}"
        if broken == "refuse":
            raise BrokenProduct(f"{text}; replace them, or skip them with broken=skip")
        get_logger("learn").warning("%s; they are skipped", text)
    kinds = [k for k in range(len(index.kinds)) if bool((index.columns["kind"] == k).any())]
    if not kinds:
        raise BrokenProduct(f"every file of {path} is broken")
    skip = broken == "skip"
    rows = np.flatnonzero(index.columns["kind"] == _chosen(made, index, kinds, sensor, skip))
    found = PatchSet(made, index, rows, index.broken if skip else None)
    if late := found.skipped.keys() - index.broken.keys():
        get_logger("learn").warning("%s: %s broke since the index was made; skipped", path, ", ".join(sorted(late)))
    for note in made.notes:
        get_logger("learn").info("%s: %s", path, note)
    return found


def _chosen(layout: Layout, index: Index, kinds: Sequence[int], sensor: str, skip: bool) -> int:
    if len(kinds) == 1 and not sensor:
        return kinds[0]
    found: dict[int, list[str]] = {}
    counts = {k: int((index.columns["kind"] == k).sum()) for k in kinds}
    for k in kinds:
        facts = index.kinds[k]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            name = layout.describe_first(index, np.flatnonzero(index.columns["kind"] == k), skip)[0].sensor
        found[k] = [w for w in (name, str(facts["bands"]), f"{facts['bands']}-{facts['dtype']}", f"kind-{k + 1}") if w]
    if sensor:
        fits = [k for k in kinds if sensor.lower() in found[k]]
        if len(fits) == 1:
            return fits[0]
    told = "; ".join(
        f"{counts[k]} of {index.kinds[k]['bands']} bands ({_stored(index.kinds[k])}), sensor={_name(found, k)}"
        for k in kinds
    )
    raise BandMismatch(
        f"{layout.root} holds patches of {'several kinds' if len(kinds) > 1 else 'one kind'}"
        f"{f', and {sensor!r} names none or several' if sensor else ''}: {told}; choose one with sensor="
    )


def _stored(kind: dict[str, Any]) -> str:
    """Type and nodata, as the look into a file noted them."""
    words = str(kind["key"]).split("|")
    return f"{kind['dtype']}, nodata {words[2]}" if len(words) > 3 and words[2] else str(kind["dtype"])


def _name(found: dict[int, list[str]], kind: int) -> str:
    others = [word for k, words in found.items() if k != kind for word in words]
    return next(word for word in found[kind] if word not in others)


def of_path(path: Path) -> bool:
    """Whether a path is a patch set; opens no image."""
    return recognise(path) is not None
