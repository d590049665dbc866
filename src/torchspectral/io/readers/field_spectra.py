"""Files of one spectrum each, from field and laboratory spectrometers and from public libraries."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import xarray as xr

from torchspectral.io.libraries.asd import is_asd, read_asd
from torchspectral.io.libraries.field import kind_of, read_field_text
from torchspectral.io.readers.base import Reader

_TEXT = (".txt", ".sig", ".asc")


class FieldSpectraReader(Reader):
    """ASD binary, SVC, ECOSTRESS, USGS and plain columns of text."""

    name = "field-spectra"
    title = "ASD, SVC, ECOSTRESS, USGS and plain text spectra"
    patterns = ("*.asd", "*.sig", "*.spectrum.txt", "splib*.txt")
    evidence = "seen-real"

    def recognise(self, path: Path) -> float:
        """By the first bytes, or the first lines of a text."""
        if not path.is_file():
            return 0.0
        with path.open("rb") as file:
            head = file.read(8192)
        if is_asd(head) and len(head) >= 484:
            return 1.0
        if path.suffix.lower() not in _TEXT or b"\0" in head:
            return 0.0
        # The last line may be cut.
        text = head.decode("utf-8-sig", errors="replace").rsplit("\n", 1)[0]
        return {"svc": 1.0, "ecostress": 1.0, "usgs": 0.9, "columns": 0.5}.get(kind_of(text), 0.0)

    def open(self, path: Path, raw: bool = False, **options: Any) -> xr.DataArray:
        """The spectrum, shape (1, band), in memory."""
        with path.open("rb") as file:
            head = file.read(4)
        return read_asd(path) if is_asd(head) else read_field_text(path)
