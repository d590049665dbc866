"""Printing for people and for programs."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torchspectral.log import Progress, Step


def print_json(value: Any) -> None:
    """One line of JSON on standard output."""
    import typer

    typer.echo(json.dumps(value, default=_plain, allow_nan=False))


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if hasattr(value, "as_dict"):
        return value.as_dict()
    return str(value)


def finite(value: Any) -> Any:
    """Replace NaN and infinity by None, deep, so that JSON stays JSON."""
    if isinstance(value, Mapping):
        return {str(k): finite(v) for k, v in value.items()}
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    if isinstance(value, float) and value - value != 0:
        return None
    return value


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str] | None = None, title: str = "") -> None:
    """A table on standard output; plain tab-separated text where it is not a terminal."""
    import sys

    import typer

    columns = list(columns or (rows[0] if rows else []))
    if not sys.stdout.isatty():
        if title:
            typer.echo(title)
        typer.echo("\t".join(columns))
        for row in rows:
            typer.echo("\t".join(cell(row.get(c, "")) for c in columns))
        return
    from rich.console import Console
    from rich.table import Table

    grid = Table(title=title or None, title_justify="left", header_style="bold")
    for column in columns:
        grid.add_column(column, overflow="fold")
    for row in rows:
        grid.add_row(*(cell(row.get(c, "")) for c in columns))
    Console().print(grid)


def facts(pairs: Mapping[str, Any]) -> None:
    """Name and value lines, aligned."""
    import typer

    width = max((len(name) for name in pairs), default=0)
    for name, value in pairs.items():
        typer.echo(f"{name:<{width}}  {cell(value)}")


_SHOWN = 16  # longer lists are for --json


def cell(value: Any) -> str:
    """Text of one value."""
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, list | tuple):
        if len(value) > _SHOWN:
            return f"{', '.join(cell(v) for v in value[: _SHOWN - 2])}, ..., {cell(value[-1])} ({len(value)})"
        return ", ".join(cell(v) for v in value)
    if isinstance(value, Mapping):
        return ", ".join(f"{k}={cell(v)}" for k, v in value.items())
    return str(value)


@contextmanager
def progress_bar(label: str = "") -> Iterator[Progress]:
    """Progress callback that draws a bar on standard error, where that is a terminal."""
    import sys

    if not sys.stderr.isatty():
        yield lambda step: None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        TaskID,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import (
        Progress as Bars,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        tasks: dict[str, TaskID] = {}

        def report(step: Step) -> None:
            if step.stage not in tasks:
                tasks[step.stage] = bars.add_task(f"{label} {step.stage}".strip(), total=1.0, detail="")
            bars.update(tasks[step.stage], completed=step.fraction, detail=step.detail)

        yield report


def print_result(result: Any, as_json: bool = False) -> None:
    """What was written and what the reader must know."""
    import typer

    report = result.report.as_dict()
    if as_json:
        print_json(finite({"outputs": result.paths, "report": report}))
        return
    for name, path in result.paths.items():
        typer.echo(f"{name}: {path}")
    for key in ("dropped", "filled", "scaled", "resampled", "notes"):
        for line in report.get(key, []):
            typer.echo(f"  {key}: {line}")
    for name, value in report.get("figures", {}).items():
        if isinstance(value, int | float | str) or _numbers(value):
            typer.echo(f"  {name}: {cell(value)}")
    if report.get("licence"):
        typer.echo(f"  weights: {report.get('weights')} ({report['licence']})")


def _numbers(value: Any) -> bool:
    """Whether a figure is a short list of named numbers."""
    return (
        isinstance(value, Mapping)
        and 0 < len(value) <= _SHOWN
        and all(isinstance(v, int | float) for v in value.values())
    )
