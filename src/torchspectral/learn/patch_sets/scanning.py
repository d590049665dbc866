"""From a folder to its index: listed in order, looked into in threads, noted on the way so that a stop costs nothing."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from torchspectral.errors import (
    BadInput,
    BadSettings,
    BrokenProduct,
    ProductNotFound,
    TorchspectralError,
    UnknownName,
    UnknownProduct,
    closest,
)
from torchspectral.lazy import lookup
from torchspectral.learn.patch_sets.entries import HIDDEN, Entry, Probed, Walk
from torchspectral.learn.patch_sets.index import (
    FILE,
    JOURNAL,
    VERSION,
    Columns,
    Index,
    folder_for,
    load_index,
    places_for,
    save_index,
)
from torchspectral.learn.patch_sets.layout import Layout
from torchspectral.log import Progress, Step, get_logger, no_progress

LAYOUTS = {
    "packed": "packing:Packed",
    "oscd": "oscd:Oscd",
    "eurosat": "eurosat:EuroSat",
    "bigearthnet": "bigearthnet:BigEarthNet",
    "bigearthnet-43": "bigearthnet:BigEarthNet43",
    "hyperview": "hyperview:HyperView",
    "gfm-bench": "gfm_bench:Tabled",
    "spectralearth": "spectralearth:SpectralEarth",
    "segmunich": "segmunich:SegMunich",
}
"""Layouts by name, in the order in which they are tried."""
THREADS = 8
EVERY = 500
"""Patches between two flushes of the journal."""


@dataclass(frozen=True)
class Scanned:
    """A folder with its layout and index."""

    layout: Layout
    index: Index
    built: bool


def layout_class(name: str) -> type[Layout]:
    """The class of a layout.

    Raises
    ------
    UnknownName
    """
    if name not in LAYOUTS:
        raise UnknownName(f"no layout {name!r} of patch sets: {closest(name, tuple(LAYOUTS))}")
    module, attribute = LAYOUTS[name].split(":")
    found: type[Layout] = lookup("torchspectral.learn.patch_sets", {attribute: module}, attribute)
    return found


def recognise(path: Path) -> type[Layout] | None:
    """The layout of a folder, None where it is none of those known; opens no image."""
    if not path.is_dir():
        return None
    for name in LAYOUTS:
        found = layout_class(name)
        try:
            if found.recognise(path):
                return found
        except (OSError, TorchspectralError):
            continue
    return None


def scan(path: Path, layout: str = "", *, rebuild: bool = False, progress: Progress = no_progress) -> Scanned:
    """The layout and index of a folder; the index is read where it still holds, else built.

    Raises
    ------
    ProductNotFound, UnknownProduct, UnknownName, BadInput, BrokenProduct, OutputFailed
    """
    if not path.is_dir():
        raise ProductNotFound(f"{path} is no folder: expected one with patches")
    kind = layout_class(layout) if layout else recognise(path)
    if kind is None:
        raise UnknownProduct(_unknown(path))
    if layout and not kind.recognise(path) and kind.name not in ("bigearthnet-43",):
        raise BadSettings(f"{path} is not laid out as {kind.title}: leave layout out, or name another")
    if kind.name == "packed":
        made = kind(path)
        return Scanned(made, made.stored_index(), False)  # type: ignore[attr-defined]
    known: dict[tuple[str, int, int], Any] = {}
    for place in places_for(path):
        if (place / FILE).is_file():
            try:
                index = load_index(place)
            except BrokenProduct as error:
                get_logger("learn").info("%s; it is built anew", error)
                continue
            if not rebuild and index.facts.get("layout") == kind.name and not index.changed(path):
                made = kind(path)
                made.labels = index.facts["labels"]
                made.notes = list(index.facts["notes"])
                return Scanned(made, index, False)
            if not rebuild:
                known |= _known(index)
    made = kind(path)
    index = _build(made, known, rebuild, progress)
    return Scanned(made, index, True)


def _unknown(path: Path) -> str:
    inner = [p.name for p in sorted(path.iterdir())[:200] if p.is_dir() and recognise(p) is not None]
    text = f"{path} is no patch set of a known layout ({', '.join(LAYOUTS)})"
    return text + (f": it holds some, name one of {', '.join(inner[:8])}" if inner else "")


def _known(index: Index) -> dict[tuple[str, int, int], Any]:
    """What looks into unchanged files found before; windows of one file share it, so whole files only."""
    c = index.columns
    found: dict[tuple[str, int, int], Any] = {}
    for row in range(len(index)):
        if c["window"][row, 0] >= 0:
            continue
        path, key = index.path(row), int(c["kind"][row])
        box = tuple(c["box"][row].tolist()) if c["crs"][row] >= 0 else ()
        facts: Any = index.broken.get(path, "")
        if key >= 0:
            kind = index.kinds[key]
            crs = index.crs[int(c["crs"][row])] if box else ""
            facts = Probed(
                kind["bands"], int(c["height"][row]), int(c["width"][row]), kind["dtype"], kind["key"], box, crs
            )
        found[path, int(c["size"][row]), int(c["time"][row])] = facts
    return found


def _build(layout: Layout, known: dict[tuple[str, int, int], Any], rebuild: bool, progress: Progress) -> Index:
    folder = folder_for(layout.root)
    journal = folder / JOURNAL
    if rebuild:
        journal.unlink(missing_ok=True)
    known = {**known, **_read_journal(journal, layout.name)}
    columns, walk = Columns(), Walk(layout.root)
    progress(Step("index patches", 0.0))
    with journal.open("a", encoding="utf-8") as file:
        if journal.stat().st_size == 0:
            file.write(json.dumps({"version": VERSION, "layout": layout.name}) + "\n")
        for count, (entry, found, fresh, share) in enumerate(_looks(layout, walk, known), start=1):
            columns.add(entry, found)
            if fresh:
                _note(file, entry, found)
            if count % EVERY == 0:
                file.flush()
                progress(Step("index patches", min(share, 1.0), f"{count} patches"))
    if not columns.rows:
        notes = f": {'; '.join(layout.notes)}" if layout.notes else ""
        raise BadInput(f"{layout.root} is laid out as {layout.title}, and no patch is in it{notes}")
    facts = {"layout": layout.name, "labels": layout.labels, "notes": layout.notes}
    index = columns.index(
        walk.stamps, {**facts, **{k: layout.labels[k] for k in ("kind", "classes")}, **_multi(layout)}
    )
    save_index(index, folder)
    journal.unlink(missing_ok=True)
    progress(Step("index patches", 1.0, f"{len(index)} patches"))
    return index


def _multi(layout: Layout) -> dict[str, str]:
    """Sets with masks may list classes, too."""
    return {"kind": "multi"} if layout.labels.get("also") == "multi" else {}


def _looks(
    layout: Layout, walk: Walk, known: dict[tuple[str, int, int], Any]
) -> Iterator[tuple[Entry, Any, bool, float]]:
    """Entries in order with what a look into them finds; a few are under way at a time."""
    waiting: deque[tuple[Entry, Any, float]] = deque()
    last: dict[str, Any] = {}
    with ThreadPoolExecutor(THREADS) as pool:
        try:
            for entry, share in layout.entries(walk):
                key = (entry.path, entry.size, entry.time)
                found = known.get(key)
                if found is None and entry.window:  # windows of one file: one look
                    found = last.get(entry.path)
                    if found is None:
                        last = {entry.path: pool.submit(_look, layout, entry)}
                        found = last[entry.path]
                waiting.append((entry, found if found is not None else pool.submit(_look, layout, entry), share))
                while len(waiting) > 8 * THREADS:
                    yield _taken(*waiting.popleft())
            while waiting:
                yield _taken(*waiting.popleft())
        finally:
            for _, found, _ in waiting:
                if isinstance(found, Future):
                    found.cancel()


def _taken(entry: Entry, found: Any, share: float) -> tuple[Entry, Any, bool, float]:
    if isinstance(found, Future):
        return entry, found.result(), not entry.window, share
    return entry, found, False, share


def _look(layout: Layout, entry: Entry) -> Probed | str:
    """What is in a patch, or in words why it cannot be opened."""
    try:
        return layout.probe(entry)
    except (TorchspectralError, OSError) as error:
        return " ".join(str(error).split())[:300] or type(error).__name__


def _note(file: TextIO, entry: Entry, found: Probed | str) -> None:
    facts = found if isinstance(found, str) else list(found)
    file.write(json.dumps([entry.path, entry.size, entry.time, facts]) + "\n")


def _read_journal(path: Path, layout: str) -> dict[tuple[str, int, int], Any]:
    """What an interrupted scan found; a line that is cut off ends it, and a foreign journal is thrown away."""
    found: dict[tuple[str, int, int], Any] = {}
    if not path.is_file():
        return found
    good = 0
    try:
        with path.open("rb") as file:
            if json.loads(file.readline()) != {"version": VERSION, "layout": layout}:
                raise ValueError("another layout")
            good = file.tell()
            for line in file:
                if not line.endswith(b"\n"):
                    break
                name, size, time, facts = json.loads(line)
                if not isinstance(facts, str):
                    bands, height, width, dtype, key, box, crs = facts
                    numbers = tuple(float(v) for v in box)
                    facts = Probed(int(bands), int(height), int(width), str(dtype), str(key), numbers, str(crs))
                found[str(name), int(size), int(time)] = facts
                good += len(line)
    except (ValueError, TypeError, OSError, RecursionError):
        if not good:
            path.unlink(missing_ok=True)
            return {}
    with path.open("r+b") as file:
        file.truncate(good)
    return found


def forget(path: Path) -> None:
    """Remove the index of a folder, wherever it is."""
    for place in places_for(path):
        for name in (FILE, JOURNAL):
            (place / name).unlink(missing_ok=True)
    (path / HIDDEN).rmdir() if (path / HIDDEN).is_dir() and not any((path / HIDDEN).iterdir()) else None
