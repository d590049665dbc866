"""Files in and out: readers, writers, masks, quicklooks."""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

# Public name -> module:attribute; nothing is imported before it is asked for.
_PUBLIC = {
    "open_product": "opening:open_product",
    "list_layers": "opening:list_layers",
    "is_product": "opening:is_product",
    "band_indices": "opening:band_indices",
    "reader_cards": "opening:reader_cards",
    "Reader": "readers.base:Reader",
    "StoredArray": "readers.base:StoredArray",
    "describe": "description:describe",
    "save": "saving:save",
    "RawArray": "raw:RawArray",
    "band_statistics": "statistics:band_statistics",
    "save_quicklook": "quicklook:save_quicklook",
    "save_spectra_at": "places:save_spectra_at",
    "set_limits": "safety:set_limits",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
