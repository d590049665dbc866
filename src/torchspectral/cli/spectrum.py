"""`torchspectral spectrum`: the spectra at places of a scene."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import Json, Opening, Out, Overwrite, Scene, parse_opening


def spectrum(
    scene: Scene,
    output: Out,
    at: Annotated[
        tuple[float, float] | None,
        typer.Option("--at", help="X Y in the scene's CRS; column and row where it has none."),
    ] = None,
    points: Annotated[Path | None, typer.Option("--points", help="CSV of name,x,y lines for several places.")] = None,
    lonlat: Annotated[bool, typer.Option("--lonlat", help="X Y are longitude and latitude.")] = False,
    pixel: Annotated[bool, typer.Option("--pixel", help="X Y are column and row, from 0.")] = False,
    opening: Opening = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Write the spectra at one or several places as CSV, ENVI library (.sli) or picture (.png).

    Example: torchspectral spectrum scene.tif --at 362190 5809950 -o s.csv
    """
    from torchspectral.cli.show import print_result
    from torchspectral.errors import BadSettings
    from torchspectral.io import open_product
    from torchspectral.io.places import read_points, save_spectra_at

    places = ([("place 1", *at)] if at else []) + (read_points(points) if points else [])
    if not places:
        raise BadSettings("got no place: expected --at X Y or --points FILE.csv")
    if pixel and lonlat:
        raise BadSettings("got --pixel and --lonlat, expected one of them: places are columns and rows, or degrees")
    how = "pixel" if pixel else "lonlat" if lonlat else "grid"
    cube = open_product(scene, **parse_opening(opening))
    print_result(save_spectra_at(cube, places, output, how=how, overwrite=overwrite), as_json)
