"""`torchspectral info`: what a product is, without reading its pixels."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from torchspectral.cli.options import Opening, Scenes, parse_opening


def info(
    scenes: Scenes,
    stats: Annotated[bool, typer.Option("--stats", help="Also read the pixels: statistics of each band.")] = False,
    opening: Opening = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a product.")] = False,
) -> None:
    """Sensor, level, quantity, bands, grid, CRS, time and layers of products.

    Example: torchspectral info scene.tif --stats
    """
    from torchspectral.cli.batch import each, expand
    from torchspectral.cli.show import facts, finite, print_json, progress_bar, table
    from torchspectral.io import band_statistics, describe, open_product

    given = parse_opening(opening)
    paths = expand(scenes)

    def one(number: int) -> None:
        path = paths[number]
        known: dict[str, Any] = {"path": str(path), **describe(path, **given)}
        rows: list[dict[str, Any]] = []
        if stats:
            with progress_bar(path.name) as progress:
                rows = band_statistics(open_product(path, **given), progress=progress)
        if as_json:
            print_json(finite({**known, **({"stats": rows} if rows else {})}))
            return
        facts({k: v for k, v in known.items() if v not in (None, "", [], {})})
        if rows:
            typer.echo("")
            table(rows)
        if len(paths) > 1:
            typer.echo("")

    if len(paths) == 1:
        one(0)
        return

    def failure(line: dict[str, Any]) -> None:
        if as_json:
            print_json(line)
        else:
            facts({k: v for k, v in line.items() if k != "status"})
            typer.echo("")

    each(paths, one, lambda number: {"path": str(paths[number])}, failure)
