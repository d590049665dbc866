"""`torchspectral bench`: comparison tables of the field."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from torchspectral.cli.options import Bbox, Config, Json, Opening, Out, Overwrite, Scenes, Seed, parse_opening

if TYPE_CHECKING:
    from torchspectral.result import Result

Methods = Annotated[str, typer.Option("--method", "-m", help='Methods, comma-separated, or "all".')]
BenchSettings = Annotated[
    list[str] | None,
    typer.Option("--set", help="Setting of the bench, FIELD=VALUE, or of a method, METHOD.FIELD=VALUE; repeat."),
]
Resume = Annotated[bool, typer.Option("--resume", help="Keep what an earlier bench in the folder measured.")]

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Compare methods on a scene: tables and figures.")


@app.command()
def sharpen(
    scene: Annotated[Path, typer.Argument(help="Product.", show_default=False)],
    output: Out,
    *,
    settings: BenchSettings = None,
    pan: Annotated[
        Path | None,
        typer.Argument(help="PAN image; else the product's own, else simulated.", show_default=False),
    ] = None,
    guide: Annotated[
        list[Path] | None,
        typer.Option("--guide", help="Finer image of several bands for guided methods; else simulated; repeat."),
    ] = None,
    method: Methods = "all",
    ratio: Annotated[
        int | None,
        typer.Option("--ratio", help="Resolution ratio; that of the pair by default, else 4.", min=2),
    ] = None,
    bbox: Bbox = None,
    opening: Opening = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    resume: Resume = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Reduced- and full-resolution tables (CSV, Markdown, LaTeX), per-band curves and error maps.

    Example: torchspectral bench sharpen scene.tif -o bench/ --method gsa,mtf-glp-hpm
    """
    from torchspectral.bench.sharpening import bench_sharpening
    from torchspectral.cli.sharpen import open_guides
    from torchspectral.io import list_layers, open_product

    own, special = split_settings(settings or [])
    given = parse_opening(opening)
    cube = open_product(scene, **given)
    fine = open_product(pan) if pan else None
    if fine is None and "pan" in list_layers(scene, reader=given.get("reader")):
        both = open_product(scene, layers=("pan",), **given)
        cube, fine = both["cube"].drop_vars([n for n in ("y_pan", "x_pan") if n in both["cube"].coords]), both["pan"]
    _compare(
        bench_sharpening,
        cube,
        fine,
        guides=open_guides(guide) if guide else None,
        bbox=bbox,
        ratio=ratio,
        resume=resume,
        method_settings=special,
        own=own,
        method=method,
        out=output,
        seed=seed,
        overwrite=overwrite,
        as_json=as_json,
    )


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
    from torchspectral.io import open_product

    given = parse_opening(opening)
    _compare(
        bench_restoration,
        [open_product(path, **given) for path in expand(scenes)],
        recipes=[r.strip() for r in noise.split(",")],
        method=method,
        out=output,
        seed=seed,
        overwrite=overwrite,
        as_json=as_json,
    )


@app.command()
def superres(
    scenes: Scenes,
    output: Out,
    *,
    method: Methods = "all",
    weights: Annotated[
        list[str] | None,
        typer.Option("--weights", help="Weights of a method: a file or a name; repeat for more methods."),
    ] = None,
    settings: BenchSettings = None,
    opening: Opening = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    resume: Resume = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Super-resolution methods on scenes made coarser: MPSNR, MSSIM, SAM, ERGAS, seconds and memory, and figures.

    Example: torchspectral bench superres scene.tif -o bench/ --set scale=4 --weights run/
    """
    from torchspectral.bench.superresolution import bench_superresolution
    from torchspectral.cli.batch import expand
    from torchspectral.io import open_product

    own, special = split_settings(settings or [])
    given, paths = parse_opening(opening), expand(scenes)
    names = [path.stem for path in paths]
    _compare(
        bench_superresolution,
        [open_product(path, **given) for path in paths],
        names=names if len(set(names)) == len(names) else [str(path) for path in paths],
        weights=weights,
        resume=resume,
        method_settings=special,
        own=own,
        method=method,
        out=output,
        seed=seed,
        overwrite=overwrite,
        as_json=as_json,
    )


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
    settings: BenchSettings = None,
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
    resume: Resume = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Unmixing methods on labelled scenes: angles, abundance errors, residuals and costs, and a figure a scene.

    Example: torchspectral bench unmix --scenes scenes/ -m vca-fcls,l12-nmf --set seeds=20 -o bench/
    """
    from torchspectral.bench.unmixing import bench_unmixing
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
    _compare(
        bench_unmixing,
        [load_scene(place, scale=scale, **given) for place in found],  # type: ignore[arg-type]
        library=read_library(library) if library else None,
        jobs=jobs,
        resume=resume,
        method_settings=special,
        own=own,
        method=method,
        out=output,
        seed=seed,
        overwrite=overwrite,
        as_json=as_json,
    )


def _compare(
    bench: Callable[..., Result],
    *scenes: Any,
    method: str | None = None,
    as_json: bool,
    own: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """Run a bench, with the methods of a comma-separated list or all, and its own settings; print where the tables are."""
    from torchspectral.cli.show import print_result, progress_bar
    from torchspectral.errors import BadSettings

    if method is not None:
        options["methods"] = None if method == "all" else [m.strip() for m in method.split(",")]
    chosen = dict(own or {})
    if taken := chosen.keys() & {"progress", *options}:
        raise BadSettings(f"got --set {min(taken)}=..., expected a setting of the bench: it is an option, see --help")
    with progress_bar("bench") as progress:
        result = bench(*scenes, progress=progress, **options, **chosen)
    print_result(result, as_json)


@app.command()
def backbones(
    output: Out,
    *,
    data: Annotated[
        Path, typer.Option("--data", help="Folder with a folder for each set, or one patch set.", show_default=False)
    ],
    suite: Annotated[
        str, typer.Option("--suite", help="Data sets and figures: spectralearth or gfm-bench.")
    ] = "spectralearth",
    backbone: Annotated[
        list[str] | None,
        typer.Option(
            "--backbone",
            help="NAME (its only weights on the machine), NAME=random or NAME=WEIGHTS; repeat. "
            "Default: spec-vit-s with weights and random.",
        ),
    ] = None,
    sets: Annotated[str, typer.Option("--sets", help='Sets, comma-separated, or "all" that are there.')] = "all",
    settings: Annotated[
        list[str] | None,
        typer.Option("--set", help="Setting of the bench, FIELD=VALUE, or of the tuning, train.FIELD=VALUE; repeat."),
    ] = None,
    seeds: Annotated[int | None, typer.Option("--seeds", help="Short for --set seeds=N.", min=1)] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    resume: Resume = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Backbones tuned on labelled patch sets: a table a set, mean and deviation over seeds, what papers say beside.

    Example: torchspectral bench backbones --suite spectralearth --data SETS/ --backbone spec-vit-s=random -o bench/
    """
    from torchspectral.bench.backbones import bench_backbones
    from torchspectral.errors import BadSettings

    own, special = split_settings(settings or [])
    if seeds is not None:
        own["seeds"] = seeds
    if unknown := sorted(set(special) - {"train"}):
        raise BadSettings(f"got settings of {', '.join(unknown)}, expected train.FIELD=VALUE for the tuning")
    chosen: dict[str, Any] = {"backbones": backbone} if backbone else {}
    _compare(
        bench_backbones,
        data,
        suite=suite,
        sets=() if sets == "all" else [s.strip() for s in sets.split(",")],
        resume=resume,
        training=special.get("train"),
        own=own,
        out=output,
        seed=seed,
        overwrite=overwrite,
        as_json=as_json,
        **chosen,
    )


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
