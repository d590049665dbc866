"""Memory: what this process uses, what is free, and what would not fit."""

from __future__ import annotations

import ctypes
import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from types import TracebackType
from typing import Any

from torchspectral.errors import BadSettings, TooLarge

GDAL_CACHE_MB = 128
"""Decoded blocks of stored images that GDAL keeps, for each process [MB]."""

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}


def anonymous_memory(pid: int | str = "self") -> int:
    """Anonymous memory of a process [bytes]: what it allocated, without cached file pages; 0 where unknown."""
    try:
        text = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = re.search(r"RssAnon:\s+(\d+) kB", text)
    return int(found[1]) * 1024 if found else 0


def free_memory() -> int:
    """Memory that could be allocated now [bytes]; a large number where the system does not tell."""
    free = []
    try:
        found = re.search(r"MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        if found:
            free.append(int(found[1]) * 1024)
    except OSError:
        pass
    limit, used = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
    try:
        text = limit.read_text().strip()
        if text.isdigit():
            free.append(max(0, int(text) - int(used.read_text())))
    except (OSError, ValueError):
        pass
    if not free and hasattr(os, "sysconf") and "SC_AVPHYS_PAGES" in os.sysconf_names:
        free.append(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return min(free) if free else 1 << 62


def parse_bytes(size: int | str | None) -> int | None:
    """Read a number of bytes such as ``4_000_000_000``, "4GB" or "512 MiB".

    Raises
    ------
    BadSettings
        It is no size.
    """
    if size is None:
        return None
    found = re.fullmatch(r"\s*([\d_]+(?:\.\d+)?)\s*([kmgt]?i?)b?\s*", str(size).lower())
    if not found or found[2] == "i" or float(found[1]) <= 0:
        raise BadSettings(f"cannot read the memory limit {size!r}: expected bytes, or a size such as 4GB or 512MiB")
    return int(float(found[1]) * _UNITS[found[2]])


def check_fits(need: int, limit: int | None, what: str, hint: str = "") -> None:
    """Refuse work that needs more than `limit` bytes, or than what is free.

    Raises
    ------
    TooLarge
        With both numbers and what to do.
    """
    allowed = limit if limit is not None else free_memory()
    if need > allowed:
        whose = "allowed by max_memory" if limit is not None else "free"
        raise TooLarge(
            f"{what} needs {readable(need)}, but {readable(allowed)} are {whose}: "
            + (hint or "work on a window (--bbox), on fewer bands, or on a larger machine")
        )


@contextmanager
def frugal_reads() -> Iterator[None]:
    """Read without memory maps and with a small GDAL block cache, whose default is a share of the machine's memory."""
    import rasterio

    from torchspectral.io.raw import streaming

    with streaming(), rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE_MB):
        yield


def release() -> None:
    """Hand freed memory back to the system: the C library keeps blocks of a tile's size for itself otherwise."""
    trim = _trim()
    if trim is not None:
        trim(0)


@lru_cache(maxsize=1)
def _trim() -> Any:
    try:
        return ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return None


def readable(size: float) -> str:
    """A number of bytes for people."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


class PeakMemory:
    """Largest anonymous memory of this process while the context is open, sampled in a thread."""

    def __init__(self, interval: float = 0.05) -> None:
        self.peak = 0
        self._interval = interval
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="torchspectral-memory", daemon=True)

    def _watch(self) -> None:
        while not self._stop.wait(self._interval):
            self.peak = max(self.peak, anonymous_memory())

    def __enter__(self) -> PeakMemory:
        self.peak = anonymous_memory()
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self.peak = max(self.peak, anonymous_memory())
