"""The look of all figures: sizes, colours, and the way a `Figure` becomes PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SEQUENTIAL = "cividis"
"""Colour map of amounts; reads the same with and without colour vision deficiency, and in grey."""
ERRORS = "inferno"
SIGNED = "PuOr_r"
NODATA = "#d9d9d9"
LINE_STYLES = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")

_RC: dict[str, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.titleweight": "normal",
    "axes.labelsize": 9.0,
    "axes.linewidth": 0.7,
    "axes.edgecolor": "#444444",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.6,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "xtick.major.width": 0.7,
    "ytick.major.width": 0.7,
    "legend.fontsize": 8.0,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "figure.titlesize": 11.0,
    "figure.titleweight": "bold",
    "image.interpolation": "nearest",
    "svg.hashsalt": "torchspectral",
}

P = ParamSpec("P")


@contextmanager
def styled() -> Iterator[None]:
    """Within it, new artists take the house style; matplotlib's own settings are untouched afterwards."""
    from matplotlib import rc_context

    with rc_context(_RC):  # type: ignore[arg-type]
        yield


def in_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorator: the function's figure is made in the house style."""

    @wraps(draw)
    def drawn(*args: P.args, **options: P.kwargs) -> Figure:
        with styled():
            return draw(*args, **options)

    return drawn


def new_figure(width: float, height: float, title: str = "") -> Figure:
    """Empty figure of a size in inches, with an Agg canvas and constrained layout."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(title, x=0.01, ha="left")
    return figure


def bare(axes: Axes) -> None:
    """An image's axes: no ticks, thin frame, nodata grey."""
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_facecolor(NODATA)
    for spine in axes.spines.values():
        spine.set_visible(True)
        spine.set_linewidth(0.6)
        spine.set_color("#888888")


def figure_png(figure: Figure, dpi: float = 120) -> bytes:
    """A figure as PNG bytes, without metadata that changes from run to run."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    # `savefig` draws everything once for the layout and once more for the picture; the layout needs no drawing.
    canvas, engine, before = FigureCanvasAgg(figure), figure.get_layout_engine(), figure.dpi
    buffer = io.BytesIO()
    try:
        figure.dpi = dpi
        if engine is not None:
            engine.execute(figure)
            figure.set_layout_engine("none")
        canvas.print_png(buffer, metadata={"Software": None}, pil_kwargs={"compress_level": 3})
    finally:
        figure.dpi = before
        figure.set_layout_engine(engine)
    return buffer.getvalue()
