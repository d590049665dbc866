"""`torchspectral bench`: comparison tables of the field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import Config, Json, Out, Overwrite, Seed, Settings

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Compare methods on a scene: tables and figures.")


@app.command()
def sharpen(
    scene: Annotated[Path, typer.Argument(help="Product.", show_default=False)],
    output: Out,
    *,
    settings: Settings = None,
    pan: Annotated[
        Path | None,
        typer.Argument(help="PAN image; else the product's own, else simulated.", show_default=False),
    ] = None,
    method: Annotated[str, typer.Option("--method", "-m", help='Methods, comma-separated, or "all".')] = "all",
    ratio: Annotated[
        int | None,
        typer.Option("--ratio", help="Resolution ratio; that of the pair by default, else 4.", min=2),
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Reduced- and full-resolution tables (CSV, Markdown, LaTeX), per-band curves and error maps.

    Example: torchspectral bench sharpen scene.tif -o bench/ --method gsa,mtf-glp-hpm
    """
    from torchspectral.bench.sharpening import bench_sharpening
    from torchspectral.cli.show import print_result, progress_bar
    from torchspectral.io import open_product
    from torchspectral.settings import parse_pairs

    with progress_bar("bench") as progress:
        result = bench_sharpening(
            open_product(scene),
            open_product(pan) if pan else None,
            methods=None if method == "all" else [m.strip() for m in method.split(",")],
            ratio=ratio,
            out=output,
            seed=seed,
            overwrite=overwrite,
            progress=progress,
            **parse_pairs(settings or []),
        )
    print_result(result, as_json)
