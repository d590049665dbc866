"""`torchspectral demo`: the main job on real scenes."""

from __future__ import annotations

from typing import Annotated

import typer

from torchspectral.cli.options import Out, Overwrite


def demo(
    output: Out,
    only: Annotated[list[str] | None, typer.Option("--only", help="Sections to run; repeat for more.")] = None,
    overwrite: Overwrite = False,
) -> None:
    """Run each task on real scenes and write COGs, a panel of pictures and an HTML report.

    Example: torchspectral demo -o demo-output --only sharpen
    """
    from torchspectral.demo import run_demo

    run_demo(output, only=only, overwrite=overwrite, say=typer.echo)
