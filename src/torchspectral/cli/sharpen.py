"""`torchspectral sharpen`: fuse a hyperspectral image with a finer one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from torchspectral.cli.options import Engine, Json, Out, Scene, Settings, Weights, parse_opening, with_engine


@with_engine
def sharpen(
    ctx: typer.Context,
    scene: Scene,
    output: Out,
    *,
    settings: Settings = None,
    engine: Engine,
    pan: Annotated[
        Path | None, typer.Argument(help="PAN image; left out where the product has one.", show_default=False)
    ] = None,
    guide: Annotated[
        list[Path] | None,
        typer.Option("--guide", help="Finer image of several bands (Sentinel-2: its 10 m and 20 m bands); repeat."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            "--method",
            "-m",
            help="Method; see `torchspectral methods sharpening`. With --guide it is guided unless another is named.",
        ),
    ] = "gsa",
    weights: Weights = None,
    srf: Annotated[
        Path | None,
        typer.Option("--srf", help="Spectral responses of the guides, one spectrum each: .sli or text."),
    ] = None,
    check_shift: Annotated[
        bool,
        typer.Option("--shift-check/--no-shift-check", help="Warn where PAN and scene do not lie over each other."),
    ] = True,
    as_json: Json = False,
) -> None:
    """Sharpen a hyperspectral image with a panchromatic one, or with several bands of a finer sensor.

    Example: torchspectral sharpen hs.tif --guide guide.tif -o sharp.tif
    """
    from torchspectral.cli.verb import run_verb
    from torchspectral.errors import BadSettings
    from torchspectral.settings import parse_pairs
    from torchspectral.sharpening.base import DEFAULT, DEFAULT_GUIDED
    from torchspectral.sharpening.base import sharpen as run

    if guide and pan:
        raise BadSettings("got a PAN and --guide, expected one of them: give the PAN as another --guide")
    source = ctx.get_parameter_source("method")
    named = None if source is not None and source.name == "DEFAULT" else method
    chosen = named or (DEFAULT_GUIDED if guide else DEFAULT)

    def call(cube, **options):  # type: ignore[no-untyped-def]
        more: dict[str, Any] = {"responses": open_responses(srf)} if srf else {}
        if guide:
            more["guides"] = open_guides(guide)
        else:
            more["pan"] = open_pan(scene, pan, engine)
        return run(
            cube,
            method=named,
            settings=parse_pairs(settings or []),
            weights=weights,
            check_shift=check_shift,
            **more,
            **options,
        )

    inputs: dict[str, Any] = {"pan": pan, "srf": srf}
    inputs |= {"guide" if n == 0 else f"guide-{n + 1}": path for n, path in enumerate(guide or [])}
    run_verb("sharpening", chosen, [scene], output, engine, call, as_json=as_json, inputs=inputs, weights=weights)
    if guide and len(guide) > 1 and not engine.dry_run:
        _remember_guides(output, guide)


def _remember_guides(output: Path, guides: Sequence[Path]) -> None:
    """Write all guides into the run file as one list, from which `--config` takes them."""
    from torchspectral.cli.verb import change_run_files

    targets = [output / name for name in ("cube.tif", "confidence.tif")] if output.is_dir() else [output]

    def gather(known: dict[str, Any]) -> None:
        kept = {k: v for k, v in known.get("inputs", {}).items() if not k.startswith("guide-")}
        known["inputs"] = kept | {"guide": [str(g.resolve()) for g in guides]}

    change_run_files(targets, gather)


def open_pan(scene: Path, pan: Path | None, engine: Engine) -> Any:
    """The PAN, cut to the ground of the scene's window; one of another CRS is cut where it is resampled.

    Raises
    ------
    MissingMetadata
        None was given and the product has none.
    """
    from torchspectral.cli.verb import prepare
    from torchspectral.errors import MissingMetadata
    from torchspectral.geo import crop, grid_of
    from torchspectral.io import list_layers, open_product

    if pan is None:
        given = parse_opening(engine.opening)
        if "pan" not in list_layers(scene, reader=given.get("reader")):
            raise MissingMetadata(f"{scene.name} has no PAN of its own: give one, torchspectral sharpen HS PAN -o OUT")
        both = open_product(scene, layers=("pan",), bbox=engine.bbox, **given)
        fine = both["pan"].drop_vars([n for n in both["pan"].coords if not str(n).endswith("_pan")])
        return fine.rename({n: str(n).removesuffix("_pan") for n in (*fine.dims, *fine.coords)})
    finer = open_product(pan)
    if engine.bbox is None or grid_of(finer).kind == "none":
        return finer
    window = grid_of(prepare(scene, engine))
    return crop(finer, window.bounds) if grid_of(finer).crs == window.crs else finer


def open_guides(paths: Sequence[Path]) -> list[Any]:
    """Guide images of some products; those that have bands of 20 m beside their own give both."""
    from torchspectral.io import list_layers, open_product

    found = []
    for path in paths:
        found.append(open_product(path))
        if "bands_20m" in list_layers(path):
            found.append(open_product(path, resolution=20))
    return found


def open_responses(path: Path) -> Any:
    """Spectral responses from a library file."""
    from torchspectral.io.libraries import read_library

    return read_library(path)
