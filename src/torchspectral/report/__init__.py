"""Reports: figures, tables, picture panels and self-contained HTML pages.

Figures are plain `matplotlib.figure.Figure` objects made without pyplot: no global state, nothing to close.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "rgb_panels": "figures",
    "error_maps": "figures",
    "spectra_at_pixels": "figures",
    "abundance_maps": "figures",
    "class_map": "figures",
    "spectra_lines": "charts",
    "band_curves": "charts",
    "bars": "charts",
    "figure_png": "style",
    "Table": "tables",
    "Spread": "tables",
    "mean_std": "tables",
    "render_html": "html",
    "write_html": "html",
    "save_panel": "panel",
    "compose_panel": "panel",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'torchspectral.report' has no attribute {name!r}")
    return getattr(import_module(f"torchspectral.report.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
