"""Open files, shared and reopened as needed: what makes lazy arrays picklable and safe among threads."""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any


def _most_open() -> int:
    """Products of one file a band have up to 242; half of what the system allows is left to others."""
    try:
        import resource

        return max(64, min(512, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2))
    except (ImportError, OSError, ValueError):
        return 256


_MOST_OPEN = _most_open()
_open: OrderedDict[tuple[Any, ...], Any] = OrderedDict()
_lock = threading.Lock()


class Handle:
    """A file opened on first use, once a process (and once a thread, where the library wants that).

    Parameters
    ----------
    opener : callable
        Module-level function that gets `path` and `options` and returns the open object.
    per_thread : bool
        Whether each thread has its own (GDAL datasets); else one serves all (h5py locks by itself).

    Notes
    -----
    The least recently used of many open objects is forgotten, not closed: whoever still reads from it keeps it alive,
    and it closes when the last reference goes.
    """

    def __init__(self, opener: Callable[..., Any], path: str | Path, *options: Any, per_thread: bool = False) -> None:
        self.opener = opener
        self.path = str(path)
        self.file = Path(path)
        self.options = options
        self.per_thread = per_thread

    def get(self) -> Any:
        """The open object."""
        owner = threading.get_ident() if self.per_thread else 0
        # The modification time is part of the key: a file that was replaced is opened anew.
        try:
            stamp = self.file.stat().st_mtime_ns
        except OSError:
            stamp = 0
        key = (self.opener, self.path, stamp, self.options, owner, os.getpid())
        with _lock:
            found = _open.get(key)
            if found is not None:
                _open.move_to_end(key)
                return found
        made = self.opener(self.path, *self.options)
        with _lock:
            found = _open.setdefault(key, made)
            while len(_open) > _MOST_OPEN:
                _open.popitem(last=False)
        return found

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Handle) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((self.opener, self.path, self.options))


def forget(path: str | Path) -> None:
    """Drop every open object of `path` in this process."""
    with _lock:
        for key in [k for k in _open if k[1] == str(path)]:
            del _open[key]
