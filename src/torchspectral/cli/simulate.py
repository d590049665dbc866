"""`torchspectral simulate`: test data with known truth."""

from __future__ import annotations

from typing import Annotated

import typer

from torchspectral.cli.options import Json, Opening, Out, Overwrite, Scene, Seed, Settings, parse_opening

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Make test data with known truth.")


@app.command()
def wald(
    scene: Scene,
    output: Out,
    *,
    settings: Settings = None,
    pan: Annotated[
        str | None, typer.Option("--pan", help="PAN of the scene; else the product's own, else simulated.")
    ] = None,
    ratio: Annotated[int, typer.Option("--ratio", help="Resolution ratio.", min=2)] = 4,
    opening: Opening = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Reduced-resolution pair by Wald's protocol: hs.tif, pan.tif and truth.tif in a folder.

    Example: torchspectral simulate wald scene.tif --ratio 4 -o pair/
    """
    from torchspectral.cli.show import print_result
    from torchspectral.cli.verb import remember_inputs
    from torchspectral.io import open_product
    from torchspectral.settings import parse_pairs
    from torchspectral.sharpening.protocol import simulate_wald

    result = simulate_wald(
        open_product(scene, **parse_opening(opening)),
        ratio,
        pan=open_product(pan) if pan else None,
        out=output,
        overwrite=overwrite,
        seed=seed,
        **parse_pairs(settings or []),
    )
    remember_inputs(result, {"cube": scene}, {"open": opening} if opening else {})
    print_result(result, as_json)
