"""`torchspectral bench`: comparison tables of the field."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from torchspectral.cli.options import Bbox, Config, Json, Opening, Out, Overwrite, Scenes, Seed, parse_opening

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Compare methods on a scene: tables and figures.")


@app.command()
def sharpen(
    scene: Annotated[Path, typer.Argument(help="Product.", show_default=False)],
    output: Out,
    *,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting of the bench, FIELD=VALUE, or of a method, METHOD.FIELD=VALUE; repeat."),
    ] = None,
    pan: Annotated[
        Path | None,
        typer.Argument(help="PAN image; else the product's own, else simulated.", show_default=False),
    ] = None,
    guide: Annotated[
        list[Path] | None,
        typer.Option("--guide", help="Finer image of several bands for guided methods; else simulated; repeat."),
    ] = None,
    method: Annotated[str, typer.Option("--method", "-m", help='Methods, comma-separated, or "all".')] = "all",
    ratio: Annotated[
        int | None,
        typer.Option("--ratio", help="Resolution ratio; that of the pair by default, else 4.", min=2),
    ] = None,
    bbox: Bbox = None,
    opening: Opening = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what an earlier bench in the folder measured.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Reduced- and full-resolution tables (CSV, Markdown, LaTeX), per-band curves and error maps.

    Example: torchspectral bench sharpen scene.tif -o bench/ --method gsa,mtf-glp-hpm
    """
    from torchspectral.bench.sharpening import bench_sharpening
    from torchspectral.cli.sharpen import open_guides
    from torchspectral.cli.show import print_result, progress_bar
    from torchspectral.io import list_layers, open_product

    own, special = split_settings(settings or [])
    given = parse_opening(opening)
    cube = open_product(scene, **given)
    fine = open_product(pan) if pan else None
    if fine is None and "pan" in list_layers(scene, reader=given.get("reader")):
        both = open_product(scene, layers=("pan",), **given)
        cube, fine = both["cube"].drop_vars([n for n in ("y_pan", "x_pan") if n in both["cube"].coords]), both["pan"]
    with progress_bar("bench") as progress:
        result = bench_sharpening(
            cube,
            fine,
            guides=open_guides(guide) if guide else None,
            bbox=bbox,
            methods=None if method == "all" else [m.strip() for m in method.split(",")],
            ratio=ratio,
            out=output,
            seed=seed,
            overwrite=overwrite,
            resume=resume,
            method_settings=special,
            progress=progress,
            **own,
        )
    print_result(result, as_json)


@app.command()
def restore(
    scenes: Scenes,
    output: Out,
    *,
    method: Annotated[
        str, typer.Option("--method", "-m", help='Methods, comma-separated, or "all" that need no weights.')
    ] = "all",
    noise: Annotated[
        str, typer.Option("--noise", help="Degradations, comma-separated; see `torchspectral degrade`.")
    ] = "gaussian:30,noniid,icvl-mixture",
    opening: Opening = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Restoration methods on scenes made noisy: PSNR, SSIM, SAM and seconds (CSV, Markdown, LaTeX).

    Example: torchspectral bench restore scene.tif -o bench/ --method fast-eigen,mnf
    """
    from torchspectral.bench.restoration import bench_restoration
    from torchspectral.cli.batch import expand
    from torchspectral.cli.show import print_result, progress_bar
    from torchspectral.io import open_product

    given = parse_opening(opening)
    with progress_bar("bench") as progress:
        result = bench_restoration(
            [open_product(path, **given) for path in expand(scenes)],
            methods=None if method == "all" else [m.strip() for m in method.split(",")],
            recipes=[r.strip() for r in noise.split(",")],
            out=output,
            seed=seed,
            overwrite=overwrite,
            progress=progress,
        )
    print_result(result, as_json)


@app.command()
def superres(
    scenes: Scenes,
    output: Out,
    *,
    method: Annotated[str, typer.Option("--method", "-m", help='Methods, comma-separated, or "all".')] = "all",
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", help="Weights of a method: a file or a name; repeat for more methods."),
    ] = None,
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting of the bench, FIELD=VALUE, or of a method, METHOD.FIELD=VALUE; repeat."),
    ] = None,
    opening: Opening = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what an earlier bench in the folder measured.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Super-resolution methods on scenes made coarser: MPSNR, MSSIM, SAM, ERGAS, seconds and memory, and figures.

    Example: torchspectral bench superres scene.tif -o bench/ --set scale=4 --weights run/
    """
    from torchspectral.bench.superresolution import bench_superresolution
    from torchspectral.cli.batch import expand
    from torchspectral.cli.show import print_result, progress_bar
    from torchspectral.io import open_product

    own, special = split_settings(settings or [])
    given, paths = parse_opening(opening), expand(scenes)
    names = [path.stem for path in paths]
    with progress_bar("bench") as progress:
        result = bench_superresolution(
            [open_product(path, **given) for path in paths],
            names=names if len(set(names)) == len(names) else [str(path) for path in paths],
            methods=None if method == "all" else [m.strip() for m in method.split(",")],
            weights=weights,
            out=output,
            seed=seed,
            overwrite=overwrite,
            resume=resume,
            method_settings=special,
            progress=progress,
            **own,
        )
    print_result(result, as_json)


@app.command()
def unmix(
    output: Out,
    *,
    scenes: Annotated[
        list[Path],
        typer.Option("--scenes", help="Folder of labelled scenes, or one of them; repeat.", show_default=False),
    ],
    method: Annotated[
        str, typer.Option("--method", "-m", "--methods", help='Methods, comma-separated, or "all".')
    ] = "all",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting of the bench, FIELD=VALUE, or of a method, METHOD.FIELD=VALUE; repeat."),
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="Short for --set seeds=N.", min=1)] = None,
    library: Annotated[
        Path | None,
        typer.Option("--library", help="Spectra for methods that need some, instead of the true endmembers."),
    ] = None,
    scale: Annotated[
        str, typer.Option("--scale", help="Raw numbers are divided by: max, stated (the file's maxValue) or none.")
    ] = "max",
    jobs: Annotated[int, typer.Option("--jobs", "-j", "--workers", help="Processes.", min=1)] = 1,
    opening: Opening = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Keep what an earlier bench in the folder measured.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Unmixing methods on labelled scenes: angles, abundance errors, residuals and costs, and a figure a scene.

    Example: torchspectral bench unmix --scenes scenes/ -m vca-fcls,l12-nmf --set seeds=20 -o bench/
    """
    from torchspectral.bench.unmixing import bench_unmixing
    from torchspectral.cli.show import print_result, progress_bar
    from torchspectral.errors import BadSettings
    from torchspectral.io.libraries import read_library
    from torchspectral.unmixing.scenes import find_scenes, load_scene

    own, special = split_settings(settings or [])
    if seeds is not None:
        own["seeds"] = seeds
    found = [place for path in scenes for place in find_scenes(path)]
    given = parse_opening(opening)
    if "scale" in given:
        raise BadSettings("got --open scale=..., expected --scale: the bench divides raw numbers itself")
    with progress_bar("bench") as progress:
        result = bench_unmixing(
            [load_scene(place, scale=scale, **given) for place in found],  # type: ignore[arg-type]
            methods=None if method == "all" else [m.strip() for m in method.split(",")],
            library=read_library(library) if library else None,
            out=output,
            seed=seed,
            jobs=jobs,
            overwrite=overwrite,
            resume=resume,
            method_settings=special,
            progress=progress,
            **own,
        )
    print_result(result, as_json)


def split_settings(pairs: list[str]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Settings of the bench, and those of methods (``METHOD.FIELD=VALUE``) by method."""
    from torchspectral.settings import parse_pairs

    own: dict[str, Any] = {}
    special: dict[str, dict[str, Any]] = {}
    for name, value in parse_pairs(pairs).items():
        method, dot, which = name.rpartition(".")
        if dot:
            special.setdefault(method, {})[which] = value
        else:
            own[name] = value
    return own, special
