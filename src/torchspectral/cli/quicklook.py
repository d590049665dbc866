"""`torchspectral quicklook`: an RGB picture of a product."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from torchspectral.cli.options import Json, Opening, Out, Overwrite, Scenes, SkipExisting, parse_opening


def quicklook(
    scenes: Scenes,
    output: Out,
    rgb: Annotated[
        tuple[float, float, float] | None, typer.Option("--rgb", help="Wavelengths of red, green, blue [nm].")
    ] = None,
    size: Annotated[int, typer.Option("--size", help="Longest side of the picture [pixels].", min=16)] = 2048,
    opening: Opening = None,
    overwrite: Overwrite = False,
    skip_existing: SkipExisting = False,
    as_json: Json = False,
) -> None:
    """Write an RGB picture (PNG, JPEG, TIFF or WebP), stretched between the 2nd and 98th percentile.

    Example: torchspectral quicklook scene.tif -o rgb.png
    """
    from torchspectral.cli.batch import run_batch

    given = parse_opening(opening)

    def work(source: Path, target: Path) -> Any:
        from torchspectral.io import open_product
        from torchspectral.io.quicklook import save_quicklook

        return save_quicklook(open_product(source, **given), target, wavelengths=rgb, size=size, overwrite=overwrite)

    run_batch(scenes, output, ".png", work, skip_existing=skip_existing, as_json=as_json, into_folder=True)
