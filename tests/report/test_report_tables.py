"""Tables, character for character."""

from __future__ import annotations

import csv
import io
import math

import numpy as np
import pytest

from torchspectral.errors import BadSettings
from torchspectral.report.tables import DIRECTIONS, Spread, Table, mean_std

ROWS = [
    {"method": "EXP", "ERGAS": 8.9404, "SAM [deg]": 11.9, "Q2n": Spread(0.955, 0.004, 5), "note": None},
    {
        "method": "GSA_x",
        "ERGAS": 6.86,
        "SAM [deg]": np.float32(8.5),
        "Q2n": Spread(0.975, 0.003, 5),
        "note": "a|b & 50 %",
    },
    {"method": "broken", "ERGAS": math.nan, "SAM [deg]": 8.5, "Q2n": Spread(0.5, 0.0, 1), "ok": False},
]


def test_markdown() -> None:
    assert Table(ROWS, best="auto", digits=2).markdown().splitlines() == [
        "| method | ERGAS | SAM [deg] | Q2n | note | ok |",
        "|:--|--:|--:|--:|:--|:--|",
        "| EXP | 8.94 | 11.90 | 0.95 ± 0.00 |  |  |",
        r"| GSA_x | **6.86** | **8.50** | **0.97 ± 0.00** | a\|b & 50 % |  |",
        "| broken | – | **8.50** | 0.50 |  | no |",
    ]


def test_latex() -> None:
    table = Table(ROWS[:2], columns=["method", "Q2n", "note"], best={"Q2n": "max"}, caption="Scores of $x_1$")
    assert table.latex() == "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            r"\caption{Scores of \$x\_1\$}",
            r"\begin{tabular}{lrl}",
            r"\toprule",
            r"method & Q2n & note \\",
            r"\midrule",
            r"EXP & 0.955 $\pm$ 0.004 &  \\",
            r"GSA\_x & \textbf{0.975 $\pm$ 0.003} & a|b \& 50 \% \\",
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )
    assert Table(ROWS).latex().startswith(r"\begin{tabular}")


def test_csv_keeps_full_precision() -> None:
    text = Table(ROWS).csv()
    read = list(csv.reader(io.StringIO(text)))
    assert read[0] == ["method", "ERGAS", "SAM [deg]", "Q2n", "Q2n std", "note", "ok"]
    assert read[1][:5] == ["EXP", "8.9404", "11.9", "0.955", "0.004"]
    assert read[2][5] == "a|b & 50 %" and read[3][1] == "nan"


def test_best_ties_and_loneliness() -> None:
    tied = Table([{"a": 1.0001}, {"a": 1.0002}, {"a": 2.0}], best={"a": "min"}, digits=3)
    assert [row[0].best for row in tied.cells()] == [True, True, False]
    assert not Table([{"a": 1.0}], best={"a": "min"}).cells()[0][0].best
    assert not any(c.best for row in Table([{"a": math.nan}, {"a": 1.0}], best={"a": "max"}).cells() for c in row)
    assert Table([{"D_lambda": 0.1, "PSNR [dB]": 30.0, "R^2": 0.5, "name": "x"}], best="auto").best == {
        "D_lambda": "min",
        "PSNR [dB]": "max",
        "R^2": "max",
    }
    assert set(DIRECTIONS.values()) == {"max", "min"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.23456, "1.235"), (0.0, "0.000"), (2e-6, "2.00e-06"), (-3e9, "-3.00e+09"), (math.inf, "∞"), (-math.inf, "-∞"),
        (math.nan, "–"), (5, "5"), (np.int64(7), "7"), (True, "yes"), (None, ""),
        ({"tol": 0.1}, "tol=0.1"), ([1, 2], "1, 2"),
    ],
)  # fmt: skip
def test_formats(value, text: str) -> None:
    assert Table([{"v": value}]).cells()[0][0].text == text


def test_digits_by_column() -> None:
    row = Table([{"a": 1.23456, "b": 1.23456}], digits={"a": 1}).cells()[0]
    assert [c.text for c in row] == ["1.2", "1.235"]


def test_mean_std() -> None:
    spread = mean_std([1.0, 2.0, math.nan, 3.0])
    assert spread == Spread(2.0, 1.0, 3)
    assert mean_std([4]) == Spread(4.0, 0.0, 1) and mean_std([4]).text(2) == "4.00"
    with pytest.raises(BadSettings, match="no finite value"):
        mean_std([math.nan])


def test_refusals() -> None:
    for make, message in (
        (lambda: Table([]), "without rows"),
        (lambda: Table(ROWS, columns=["PSNR"]), "got column 'PSNR'"),
        (lambda: Table(ROWS, best="all"), "'auto'"),
        (lambda: Table(ROWS, best={"ERGAS": "low"}), "max or min"),
    ):
        with pytest.raises(BadSettings, match=message):
            make()
