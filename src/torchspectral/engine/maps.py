"""Streams read without memory maps: a mapped file counts as memory, and kills the process where it is cut short."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_lock = threading.Lock()
_depth = 0
_before = 0


@contextmanager
def no_maps() -> Iterator[None]:
    """Turn the ENVI reader's maps of small windows off while the context is open, in all threads."""
    global _depth, _before
    from torchspectral.io.readers import envi

    with _lock:
        if _depth == 0:
            _before, envi.MAP_BYTES = envi.MAP_BYTES, 0
        _depth += 1
    try:
        yield
    finally:
        with _lock:
            _depth -= 1
            if _depth == 0:
                envi.MAP_BYTES = _before
