"""Tables of metadata beside a patch set: CSV, or Parquet where pyarrow is installed."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torchspectral.errors import BadInput, BrokenProduct, MissingDependency, TooLarge
from torchspectral.io.safety import human

TABLES = (".csv", ".parquet")
_LARGEST = 2 << 30


def rows_of(path: Path) -> Iterator[Mapping[str, Any]]:
    """Rows of a table by column name; CSV values are text.

    Raises
    ------
    MissingDependency
        Parquet without pyarrow.
    BrokenProduct, TooLarge
    """
    size = path.stat().st_size
    if size > _LARGEST:
        raise TooLarge(f"{path.name} has {human(size)}, more than a table of labels may have")
    if path.suffix.lower() == ".parquet":
        yield from _parquet(path)
        return
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            yield from csv.DictReader(file)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise BrokenProduct(f"{path.name} cannot be read: {error}") from None


def _parquet(path: Path) -> Iterator[Mapping[str, Any]]:
    try:
        import pyarrow.parquet as parquet  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ModuleNotFoundError:
        raise MissingDependency(
            f"{path.name} is Parquet, which needs pyarrow: pip install 'torchspectral[train]', or put the table beside it as "
            f"{path.stem}.csv",
            name="pyarrow",
        ) from None
    import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]

    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        raise BrokenProduct(f"{path.name} cannot be read: {str(error)[:120]}") from None


def words_of(value: Any, where: str) -> list[str]:
    """A list of names: a list, the text of one (``['a', 'b']``), or names joined with ``;`` or ``|``.

    Raises
    ------
    BadInput
    """
    if isinstance(value, (list, tuple)):
        return [str(v) for v in value]
    text = str(value or "").strip()
    if not text.startswith("["):
        for mark in (";", "|"):
            text = text.replace(mark, "\n")
        return [word.strip() for word in text.split("\n") if word.strip()]
    # Lists as Python writes them, and arrays as numpy does, without commas.
    inner = text.removeprefix("[").removesuffix("]")
    quoted = [one or other for one, other in _QUOTED.findall(inner)]
    rest = _QUOTED.sub(" ", inner).replace(",", " ").split()
    if not text.endswith("]") or (quoted and rest) or any(not _WHOLE.fullmatch(word) for word in rest):
        raise BadInput(f"{where}: got labels {text[:60]!r}, expected a list of names")
    return quoted or rest


_QUOTED = re.compile(r"'([^']*)'|\"([^\"]*)\"")
_WHOLE = re.compile(r"-?\d+")


def column(row: Mapping[str, Any], *names: str) -> Any:
    """The first of some columns that has a value, else None."""
    for name in names:
        value = row.get(name)
        if value is not None and str(value).strip() != "":
            return value
    return None
