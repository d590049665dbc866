"""`torchspectral weights`: what trained networks are on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import Json, Out, Overwrite

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Trained networks: list, inspect, add, convert.")


@app.command("list")
def list_(as_json: Json = False) -> None:
    """Weights that are shipped or in your store.

    Example: torchspectral weights list
    """
    from torchspectral.cli.show import print_json, table
    from torchspectral.weights import list_weights

    rows = list_weights()
    if as_json:
        print_json(rows)
    else:
        table(rows)


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(help="File or name.", show_default=False)], as_json: Json = False
) -> None:
    """Keys, shapes and card of a weights file, and which backbone it is of; nothing in it is executed.

    Example: torchspectral weights inspect model.pth
    """
    from torchspectral.backbones.recognise import recognise
    from torchspectral.cli.show import facts, print_json, table
    from torchspectral.weights import inspect as look

    known = look(file)
    encoder = recognise(file)
    if as_json:
        print_json({**known, "encoder": encoder})
        return
    facts({k: v for k, v in known.items() if k != "keys" and v})
    if encoder is not None:
        facts({k: v for k, v in encoder.items() if v not in ([], {}, "")})
    table(known["keys"])


@app.command()
def add(
    name: Annotated[str, typer.Argument(help="Name, family-size.tag.", show_default=False)],
    file: Annotated[Path, typer.Argument(help="Weights file.", show_default=False)],
    overwrite: Overwrite = False,
) -> None:
    """Put a weights file into your store, checked against its card.

    Example: torchspectral weights add hyperpnn.prisma HyperPNN_PRISMA.tar
    """
    from torchspectral.weights import add as put

    typer.echo(str(put(name, file, overwrite=overwrite)))


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(help="Foreign file, a pickled module included.", show_default=False)],
    output: Out,
    overwrite: Overwrite = False,
) -> None:
    """Take the tensors out of a foreign file without running any code in it; writes safetensors.

    Example: torchspectral weights convert model.pth -o model.safetensors
    """
    from torchspectral.weights import convert as turn

    typer.echo(str(turn(file, output, overwrite=overwrite)))
