"""Ctrl-C and SIGTERM while an output is half done."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

from torchspectral.errors import Interrupted


class _Stop(BaseException):
    """SIGINT or SIGTERM came; not an `Exception`, so that nobody on the way catches it."""


@contextlib.contextmanager
def stoppable(out: Path | None) -> Iterator[None]:
    """Turn SIGINT and SIGTERM into `Interrupted`; without an output, or outside the main thread, nothing changes.

    Raises
    ------
    Interrupted
        With attribute `keeps` set: what is done stays on disk.
    """
    if out is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        raise _Stop

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    except (KeyboardInterrupt, _Stop):
        error = Interrupted(f"stopped; what is done of {out} is kept: resume=True (--resume) goes on with it")
        error.keeps = True  # type: ignore[attr-defined]
        raise error from None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
