"""Confusion matrices as CSV and as a picture."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING

import numpy as np

from torchspectral.metrics.classes.confusion import Confusion

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MISSED = "(none)"
"""Column of points that no class was given to."""


def confusion_csv(confusion: Confusion) -> str:
    """Rows are true classes, columns predicted ones; recall at the end of a row, precision below a column."""
    extra = bool(confusion.counts[:, -1].any())
    columns = [*confusion.names, MISSED] if extra else confusion.names
    counts = confusion.counts if extra else confusion.counts[:, :-1]
    each = confusion.per_class()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["true \\ predicted", *columns, "total", "recall"])
    for name, row, recall in zip(confusion.names, counts, each["recall"], strict=True):
        writer.writerow([name, *row.tolist(), int(row.sum()), f"{recall:.6g}"])
    writer.writerow(["total", *counts.sum(0).tolist(), int(counts.sum()), ""])
    tail = [""] * (3 if extra else 2)
    writer.writerow(["precision", *(f"{p:.6g}" for p in each["precision"]), *tail])
    return text.getvalue()


def confusion_figure(confusion: Confusion, title: str = "") -> Figure:
    """Share of each true class by predicted class, with the counts."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    extra = bool(confusion.counts[:, -1].any())
    columns = [*confusion.names, MISSED] if extra else confusion.names
    counts = confusion.counts if extra else confusion.counts[:, :-1]
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    side = 2.2 + 0.42 * len(columns)
    figure = Figure(figsize=(side, side), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    axes.set_xticks(range(len(columns)), columns, rotation=60, ha="right", fontsize=7)
    axes.set_yticks(range(len(confusion.names)), confusion.names, fontsize=7)
    axes.set(xlabel="predicted", ylabel="true", title=title)
    if len(columns) <= 25:
        for (i, j), count in np.ndenumerate(counts):
            if count:
                axes.text(
                    j, i, f"{count}", ha="center", va="center", fontsize=6,
                    color="black" if shares[i, j] > 0.6 else "white",
                )  # fmt: skip
    return figure
