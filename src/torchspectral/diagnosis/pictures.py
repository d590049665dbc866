"""Figures of a diagnosis."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from torchspectral.diagnosis.embedded import Embedded
from torchspectral.diagnosis.measures import Finding
from torchspectral.report.style import LINE_STYLES, bare, in_style, new_figure
from torchspectral.spectra.axes import COLOURS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST_CLASSES = 20
PANELS = (
    ("entropy and information [bit]", ("dse", "dsmi_labels", "dsmi_input")),
    ("rank", ("effective_rank", "rank_me", "participation_ratio")),
    ("kNN probe", ("knn_overall", "knn_macro")),
    ("loss", ("train_loss", "held_out_loss")),
)


@in_style
def scatter(found: Embedded, finding: Finding) -> Figure:
    """Samples along the first two principal components, coloured by class where there are classes."""
    figure = new_figure(5.4, 4.0)
    axes = figure.subplots()
    x, y = finding.scores[:, 0], finding.scores[:, 1]
    classes = np.unique(found.labels) if found.labels is not None else np.empty(0, dtype=np.int64)
    if 1 < classes.size <= MOST_CLASSES + 1 and found.labels is not None:
        for number in classes:
            name = found.class_names[number] if number < len(found.class_names) else str(number)
            colour = "#b5b5b5" if number == 0 else COLOURS[int(number - 1) % len(COLOURS)]
            here = found.labels == number
            axes.scatter(x[here], y[here], s=7, color=colour, label=name, linewidths=0)
        axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), borderaxespad=0, markerscale=2)
    else:
        axes.scatter(x, y, s=7, color=COLOURS[0], linewidths=0)
    axes.set_xlabel(f"first component ({finding.shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second ({finding.shares[1]:.0%})")
    return figure


@in_style
def spectrum(finding: Finding) -> Figure:
    """Share of the variance of each principal component."""
    figure = new_figure(5.0, 2.8)
    axes = figure.subplots()
    shares = finding.eigenvalues
    axes.plot(np.arange(1, shares.size + 1), np.maximum(shares, 1e-12), marker="o", markersize=3, color=COLOURS[0])
    axes.set_yscale("log")
    axes.set_xlabel("component")
    axes.set_ylabel("share of the variance")
    axes.grid(True)
    return figure


@in_style
def scene(found: Embedded) -> Figure:
    """The scene in the colours of the first three components."""
    assert found.picture is not None
    rows, cols = found.picture.shape[:2]
    figure = new_figure(5.0, max(5.0 * rows / cols, 1.0))
    axes = figure.subplots()
    axes.imshow(found.picture)
    bare(axes)
    return figure


def curve_panels(curves: pd.DataFrame) -> list[tuple[str, list[str]]]:
    """Titles and columns of the curves that are known."""
    panels = [(t, [n for n in names if n in curves and curves[n].notna().any()]) for t, names in PANELS]
    return [(title, names) for title, names in panels if names]


@in_style
def curves_figure(curves: pd.DataFrame) -> Figure:
    """Curves over the steps of a training, one panel for each kind; there must be one."""
    panels = curve_panels(curves)
    figure = new_figure(4.2 * len(panels), 3.0)
    for axes, (title, names) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for i, name in enumerate(names):
            known = curves[name].notna()
            axes.plot(
                curves["step"][known],
                curves[name][known],
                LINE_STYLES[i % len(LINE_STYLES)],
                color=COLOURS[i % len(COLOURS)],
                label=name.replace("_", " "),
            )
        axes.set(title=title, xlabel="step")
        axes.grid(True)
        axes.legend(loc="best")
    return figure
