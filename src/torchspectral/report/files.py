"""Writing of reports: whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path

from torchspectral.errors import OutputExists, OutputFailed


def write_whole(path: str | Path, data: bytes, *, overwrite: bool = True) -> Path:
    """Write a file that appears under its name only when it is complete.

    Raises
    ------
    OutputExists
        It exists and may not be overwritten.
    OutputFailed
        The folder does not exist or cannot be written to.
    """
    target = Path(path)
    if target.exists() and not overwrite:
        raise OutputExists(f"{target} exists: choose another name or ask to overwrite")
    part = target.with_name(f".{target.name}.{os.getpid()}.partial")
    try:
        part.write_bytes(data)
        part.replace(target)
    except OSError as error:
        part.unlink(missing_ok=True) if part.parent.is_dir() else None
        raise OutputFailed(f"cannot write {target}: {error.strerror or error}") from error
    return target
