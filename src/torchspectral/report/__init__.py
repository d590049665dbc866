"""Reports: figures, tables, picture panels and self-contained HTML pages.

Figures are plain `matplotlib.figure.Figure` objects made without pyplot: no global state, nothing to close.
"""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

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
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
