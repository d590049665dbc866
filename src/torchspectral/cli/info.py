"""`torchspectral info`: what a product is, without reading its pixels."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from torchspectral.cli.options import Scenes


def info(
    scenes: Scenes,
    stats: Annotated[bool, typer.Option("--stats", help="Also read the pixels: statistics of each band.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON line a product.")] = False,
) -> None:
    """Sensor, level, quantity, bands, grid, CRS, time and layers of products.

    Example: torchspectral info scene.tif --stats
    """
    from torchspectral.cli.batch import expand
    from torchspectral.cli.show import facts, finite, print_json, progress_bar, table
    from torchspectral.errors import TorchspectralError
    from torchspectral.io import band_statistics, describe, open_product

    paths = expand(scenes)
    failed: list[str] = []
    for path in paths:
        try:
            known: dict[str, Any] = {"path": str(path), **describe(path)}
            rows: list[dict[str, Any]] = []
            if stats:
                with progress_bar(path.name) as progress:
                    rows = band_statistics(open_product(path), progress=progress)
        except TorchspectralError as error:
            if len(paths) == 1:
                raise
            failed.append(str(path))
            known, rows = {"path": str(path), "error": f"{type(error).__name__}: {error}"}, []
        if as_json:
            print_json(finite({**known, **({"stats": rows} if rows else {})}))
            continue
        facts({k: v for k, v in known.items() if v not in (None, "", [], {})})
        if rows:
            typer.echo("")
            table(rows)
        if len(paths) > 1:
            typer.echo("")
    if failed:
        raise TorchspectralError(f"{len(failed)} of {len(paths)} products failed: {', '.join(failed[:5])}")
