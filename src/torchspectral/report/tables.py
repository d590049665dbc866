"""Tables of results: rows to CSV, Markdown, LaTeX and HTML cells, with the best of each column in bold."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from torchspectral.errors import BadSettings

DIRECTIONS: dict[str, str] = {
    **dict.fromkeys(("psnr", "mpsnr", "ssim", "mssim", "uqi", "q", "q2n", "qnr", "hqnr", "rqnr", "r2", "snr"), "max"),
    **dict.fromkeys(("cc", "scc"), "max"),
    **dict.fromkeys(("oa", "aa", "kappa", "f1", "iou", "miou", "map", "auc", "precision", "recall", "coverage"), "max"),
    **dict.fromkeys(("sam", "ergas", "rmse", "mse", "mae", "nrmse", "sid", "dlambda", "ds", "drho"), "min"),
    **dict.fromkeys(("seconds", "time", "memory", "params", "parameters", "flops", "error"), "min"),
}  # fmt: skip
"""Which way is better, by the name of a number without its unit."""


@dataclass(frozen=True)
class Spread:
    """Mean and standard deviation of `n` repetitions."""

    mean: float
    std: float
    n: int

    def text(self, digits: int) -> str:
        """``mean ± std``; the mean alone for one repetition."""
        return f"{self.mean:.{digits}f}" + (f" ± {self.std:.{digits}f}" if self.n > 1 else "")


def mean_std(values: Iterable[float]) -> Spread:
    """Mean and sample standard deviation (n - 1) of the finite values.

    Raises
    ------
    BadSettings
        No finite value.
    """
    array = np.asarray(list(values), dtype=np.float64)
    array = array[np.isfinite(array)]
    if array.size == 0:
        raise BadSettings("got no finite value to take a mean of")
    return Spread(float(array.mean()), float(array.std(ddof=1)) if array.size > 1 else 0.0, int(array.size))


@dataclass(frozen=True)
class Cell:
    """One formatted cell."""

    text: str
    best: bool = False
    number: bool = False


class Table:
    """Rows of results.

    Parameters
    ----------
    rows : sequence of dict
        Text, numbers, `Spread` or None by column; a missing key is an empty cell, NaN is written as a dash.
    columns : sequence of str, optional
        Which columns, in which order; all, in order of appearance, by default.
    best : "auto" or dict of str to {"max", "min"}, optional
        Columns whose best number is bold, and which way is better. "auto" knows the usual names (`DIRECTIONS`). Equal
        numbers, as written, are all bold.
    digits : int or dict of str to int
        Decimals of floating-point numbers.
    caption : str

    Raises
    ------
    BadSettings
        No rows, or an unknown column or direction.

    Examples
    --------
    >>> print(Table([{"method": "a", "SAM [deg]": 2.0}, {"method": "b", "SAM [deg]": 1.5}], best="auto").markdown())
    | method | SAM [deg] |
    |:--|--:|
    | a | 2.000 |
    | b | **1.500** |
    """

    def __init__(
        self,
        rows: Sequence[Mapping[str, Any]],
        *,
        columns: Sequence[str] | None = None,
        best: str | Mapping[str, str] | None = None,
        digits: int | Mapping[str, int] = 3,
        caption: str = "",
    ) -> None:
        if not rows:
            raise BadSettings("got a table without rows, expected at least one")
        known = list(dict.fromkeys(str(key) for row in rows for key in row))
        missing = [c for c in columns or () if c not in known]
        if missing:
            raise BadSettings(f"got column {missing[0]!r}, expected some of {', '.join(known)}")
        self.rows = [{str(k): v for k, v in row.items()} for row in rows]
        self.columns = list(columns) if columns is not None else known
        self.caption = caption
        self._digits = digits
        self.best = self._directions(best, known)

    def _directions(self, best: str | Mapping[str, str] | None, known: list[str]) -> dict[str, str]:
        if best is None:
            return {}
        if isinstance(best, str):
            if best != "auto":
                raise BadSettings(f"got best={best!r}, expected 'auto' or a mapping of column to max or min")
            return {c: DIRECTIONS[plain] for c in self.columns if (plain := _plain(c)) in DIRECTIONS}
        for column, way in best.items():
            if column not in known or way not in ("max", "min"):
                raise BadSettings(f"got best={{{column!r}: {way!r}}}, expected a column of the table with max or min")
        return dict(best)

    def cells(self) -> list[list[Cell]]:
        """Formatted cells, one list a row."""
        texts = [[self._text(column, row.get(column)) for column in self.columns] for row in self.rows]
        bold = [[False] * len(self.columns) for _ in self.rows]
        for j, column in enumerate(self.columns):
            way = self.best.get(column)
            numbers = [_number(row.get(column)) for row in self.rows]
            finite = [n for n in numbers if math.isfinite(n)]
            # A single number is not the best of anything.
            if way is None or len(finite) < 2:
                continue
            top = max(finite) if way == "max" else min(finite)
            shown = _mean_text(texts[numbers.index(top)][j])
            for i, number in enumerate(numbers):
                bold[i][j] = math.isfinite(number) and _mean_text(texts[i][j]) == shown
        return [
            [
                Cell(
                    texts[i][j], bold[i][j], not isinstance(row.get(column), str | bool) and row.get(column) is not None
                )
                for j, column in enumerate(self.columns)
            ]
            for i, row in enumerate(self.rows)
        ]

    def _text(self, column: str, value: Any) -> str:
        digits = self._digits.get(column, 3) if isinstance(self._digits, Mapping) else self._digits
        if value is None:
            return ""
        if isinstance(value, Spread):
            return value.text(digits)
        if isinstance(value, bool | np.bool_):
            return "yes" if value else "no"
        if isinstance(value, float | np.floating):
            return _float_text(float(value), digits)
        if isinstance(value, Mapping):
            return ", ".join(f"{k}={v}" for k, v in value.items())
        if isinstance(value, list | tuple | set):
            return ", ".join(str(v) for v in value)
        return str(value)

    def csv(self) -> str:
        """Comma-separated values in full precision; a `Spread` takes columns "NAME" and "NAME std"."""
        spread = [c for c in self.columns if any(isinstance(row.get(c), Spread) for row in self.rows)]
        header = [name for c in self.columns for name in ((c, f"{c} std") if c in spread else (c,))]
        buffer = io.StringIO()
        writer = csv.writer(buffer, lineterminator="\n")
        writer.writerow(header)
        for row in self.rows:
            line: list[Any] = []
            for column in self.columns:
                value = row.get(column)
                if isinstance(value, Spread):
                    line += [repr(value.mean), repr(value.std)]
                else:
                    plain = isinstance(value, float | np.floating)
                    line.append(repr(float(value)) if plain else self._text(column, value))  # type: ignore[arg-type]
                    line += [""] if column in spread else []
            writer.writerow(line)
        return buffer.getvalue()

    def markdown(self) -> str:
        """GitHub-flavoured Markdown."""
        cells = self.cells()
        numeric = self._numeric(cells)
        lines = [f"| {' | '.join(_md(c) for c in self.columns)} |"]
        lines.append("|" + "|".join("--:" if n else ":--" for n in numeric) + "|")
        for row in cells:
            lines.append("| " + " | ".join(f"**{_md(c.text)}**" if c.best else _md(c.text) for c in row) + " |")
        return "\n".join(lines)

    def latex(self) -> str:
        """LaTeX ``tabular`` with booktabs rules, in a ``table`` where there is a caption."""
        cells = self.cells()
        spec = "".join("r" if n else "l" for n in self._numeric(cells))
        lines = [rf"\begin{{tabular}}{{{spec}}}", r"\toprule"]
        lines.append(" & ".join(_tex(c) for c in self.columns) + r" \\")
        lines.append(r"\midrule")
        for row in cells:
            lines.append(" & ".join(rf"\textbf{{{_tex(c.text)}}}" if c.best else _tex(c.text) for c in row) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        if not self.caption:
            return "\n".join(lines)
        head = [r"\begin{table}", r"\centering", rf"\caption{{{_tex(self.caption)}}}"]
        return "\n".join([*head, *lines, r"\end{table}"])

    def _numeric(self, cells: list[list[Cell]]) -> list[bool]:
        columns = list(zip(*cells, strict=True))
        return [any(c.number for c in column) and all(c.number or not c.text for c in column) for column in columns]

    @property
    def numeric(self) -> list[bool]:
        """Which columns hold numbers only."""
        return self._numeric(self.cells())


def _plain(column: str) -> str:
    """Name of a number without unit, case and signs: "D_lambda [1]" is "dlambda"."""
    return re.sub(r"[^a-z0-9]", "", re.sub(r"[\[(].*", "", column).lower())


def _number(value: Any) -> float:
    if isinstance(value, Spread):
        return value.mean
    if isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool):
        return float(value)
    return math.nan


def _mean_text(text: str) -> str:
    return text.split(" ± ")[0]


def _float_text(value: float, digits: int) -> str:
    """Fixed decimals; scientific where those would hide the number."""
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "-∞"
    if value != 0 and (abs(value) < 0.5 * 10**-digits or abs(value) >= 1e7):
        return f"{value:.{max(digits - 1, 0)}e}"
    return f"{value:.{digits}f}"


def _md(text: str) -> str:
    escaped = re.sub(r"([\\|*_`<\[\]])", r"\\\1", text) if not re.fullmatch(r"[\w .,:/()%±\-\[\]]*", text) else text
    return escaped.replace("\n", " ")


_TEX = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "±": r"$\pm$", "–": "--", "∞": r"$\infty$", "<": r"$<$",
    ">": r"$>$", "\n": " ",
}  # fmt: skip


def _tex(text: str) -> str:
    return "".join(_TEX.get(character, character) for character in text)
