"""The table of bad inputs: each row is one thing that a user can get wrong.

A row's `make` does the bad call in an empty folder; the test asserts the error class and a part of the message, that
the message is one line, and that nothing was left behind. Rows that give `cli` are also run as a command: exit 2 and
one line on stderr.

    ROWS = [Row("tif-missing", lambda tmp: ts.open(tmp / "no.tif"), ProductNotFound, "does not exist",
                cli=lambda tmp: ["info", str(tmp / "no.tif")])]

`make` may return a list of paths that it created itself as input (they do not count as left behind).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torchspectral as ts


@dataclass(frozen=True)
class Row:
    """One bad input.

    `prepare` writes the bad files and returns what `make` and `cli` are called with (default: the folder itself).
    """

    id: str
    make: Callable[[Any], Any]
    expect: type[Exception]
    message: str
    cli: Callable[[Any], list[str]] | None = None
    prepare: Callable[[Path], Any] | None = None


def file_of(name: str, content: bytes) -> Callable[[Path], Path]:
    """Prepare one file of these bytes."""

    def prepare(folder: Path) -> Path:
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(content)
        return path

    return prepare


def opens(**options: Any) -> Callable[[Path], Any]:
    """Open what was prepared."""
    return lambda path: ts.open(path, **options)


def info(path: Path) -> list[str]:
    """The command ``info`` on what was prepared."""
    return ["info", str(path)]
