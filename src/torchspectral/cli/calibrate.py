"""`torchspectral calibrate`: gains, reflectance, interferometers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from torchspectral.cli.options import (
    Bands,
    Config,
    DryRun,
    Engine,
    Json,
    Opening,
    Out,
    Overwrite,
    Scenes,
    Settings,
    SkipExisting,
    parse_bands,
    parse_opening,
    with_engine,
)
from torchspectral.errors import BadSettings, GridMismatch

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help="Calibrate instruments and their data.")


@app.command()
def interferometer(
    acquisition: Annotated[
        Path, typer.Argument(help="Folder of the responses to monochromatic lines.", show_default=False)
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output", "-o", help="Device: FILE.json, or a folder as the authors lay it out.", show_default=False
        ),
    ],
    *,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="Steps: a JSON file or a prototype's name; else the acquisition's own."),
    ] = None,
    solver: Annotated[
        str, typer.Option("--solver", help="Regression: lm (all rows together) or trf (row by row).")
    ] = "lm",
    attempts: Annotated[
        str, typer.Option("--attempts", help="Rows that are fitted a second time: one, doubtful or all.")
    ] = "doubtful",
    pictures: Annotated[
        bool, typer.Option("--pictures/--no-pictures", help="Draw data, fits and flagged rows.")
    ] = True,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Characterise an interferometer from its responses to monochromatic lines.

    Example: torchspectral calibrate interferometer acquisition/ -o device.json
    """
    from torchspectral.calibration.interferometer import calibrate_folder
    from torchspectral.cli.show import print_result, progress_bar

    for name, value, known in (("solver", solver, ("lm", "trf")), ("attempts", attempts, ("one", "doubtful", "all"))):
        if value not in known:
            raise BadSettings(f"got --{name} {value}, expected one of {', '.join(known)}")
    given: Any = {"recipe": recipe, "solver": solver, "attempts": attempts, "pictures": pictures}
    with progress_bar(acquisition.name) as progress:
        result = calibrate_folder(acquisition, output, overwrite=overwrite, progress=progress, **given)
    print_result(result, as_json)


@app.command()
def gain(
    scenes: Scenes,
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="Gains: .csv, .npz or .hdr; a JSON record beside.", show_default=False),
    ],
    *,
    settings: Settings = None,
    method: Annotated[
        str,
        typer.Option("--method", "-m", help="Tool: overlap, spectral, flat; baselines moments, histogram, polynomial."),
    ] = "overlap",
    shift: Annotated[
        list[str] | None,
        typer.Option(
            "--shift", help="Pixel ALONG,ACROSS where a line starts, once a line; else from the georeference."
        ),
    ] = None,
    dark: Annotated[str | None, typer.Option("--dark", help="Dark frames, or a level in counts.")] = None,
    library: Annotated[
        Path | None, typer.Option("--library", help="Spectra (.sli or CSV) that the scene is made of, for spectral.")
    ] = None,
    apply: Annotated[Path | None, typer.Option("--apply", help="Folder for the scenes corrected by the gains.")] = None,
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype", help="Numbers of corrected scenes: float32, float64, or scaled integers such as int16."
        ),
    ] = None,
    bands: Bands = "good",
    mask: Annotated[
        str | None,
        typer.Option("--mask", help="What to leave out: clear, land, water, cloud-free, strict, or a mask file."),
    ] = None,
    opening: Opening = None,
    device: Annotated[str, typer.Option("--device", help="Where forms are solved: auto, cpu, cuda or cuda:N.")] = "cpu",
    overwrite: Overwrite = False,
    dry_run: DryRun = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Relative gains of detectors from overlapping or repeated lines; refused where the data cannot determine them.

    Example: torchspectral calibrate gain line1.hdr line2.hdr line3.hdr --shift 0,0 --shift 0,7 --shift 0,12 -o gains.csv
    """
    from torchspectral.calibration.gain.applying import apply_gains
    from torchspectral.calibration.gain.calibrating import calibrate_gain
    from torchspectral.calibration.gain.files import check_path
    from torchspectral.calibration.gain.settings import METHODS
    from torchspectral.calibration.gain.tools import unknown
    from torchspectral.cli.batch import expand
    from torchspectral.cli.show import finite, print_json, print_result, progress_bar
    from torchspectral.cli.verb import refuse_input_as_output
    from torchspectral.io import open_product
    from torchspectral.io.libraries import read_library
    from torchspectral.settings import parse_pairs

    paths = expand(scenes)
    refuse_input_as_output(output, paths)
    shifts = [_shift(text) for text in shift] if shift else None
    check_path(output, overwrite=overwrite)
    if method not in METHODS:
        raise unknown(method)
    corrected = _corrected(apply, paths, dtype, overwrite)
    cubes = [_open(path, mask, parse_opening(opening)) for path in paths]
    if dry_run:
        values = METHODS[method].make(parse_pairs(settings or [])).model_dump()
        shapes = [list(cube.shape) for cube in cubes]
        plan = {"method": f"gain {method}", "inputs": [str(p) for p in paths], "shapes": shapes, "settings": values}
        print_json(finite({**plan, "output": str(output)}))
        return
    options = {"method": method, "bands": parse_bands(bands), "shift": shift, "mask": mask, "dark": dark}
    with progress_bar("gain") as progress:
        result = calibrate_gain(
            cubes, method=method, shifts=shifts, dark=_frames(dark), library=read_library(library) if library else None,
            bands=parse_bands(bands), settings=parse_pairs(settings or []), device=device, out=output,
            overwrite=overwrite, progress=progress,
        )  # fmt: skip
        given = {"scenes": list(paths), **({"library": library} if library else {})}
        _remember(result, given, {**options, "open": parse_opening(opening) or None})
        for path, target in zip(paths, corrected, strict=False):
            cube = open_product(path, **parse_opening(opening))
            made = apply_gains(cube, result["gains"], out=target, dtype=dtype, overwrite=overwrite)
            result.paths[target.name] = made.paths["cube"]
    print_result(result, as_json)


@app.command()
@with_engine
def reflectance(
    scenes: Scenes,
    output: Out,
    *,
    settings: Settings = None,
    engine: Engine,
    white: Annotated[
        Path | None, typer.Option("--white", help="Lines of the white panel; else those beside the capture.")
    ] = None,
    dark: Annotated[
        str | None, typer.Option("--dark", help="Dark frames, or a level in counts; else those beside the capture.")
    ] = None,
    white_dark: Annotated[
        str | None, typer.Option("--white-dark", help="Dark frames at the panel's exposure, or a level in counts.")
    ] = None,
    panel: Annotated[
        str | None,
        typer.Option("--panel", help="Reflectance of the panel: a spectrum (CSV, .sli), or one number 0..1."),
    ] = None,
    integration_time: Annotated[
        float | None, typer.Option("--integration-time", help="Of the scene [ms]; else as its header says.")
    ] = None,
    white_integration_time: Annotated[
        float | None, typer.Option("--white-integration-time", help="Of the panel [ms]; else as its header says.")
    ] = None,
    bad_pixels: Annotated[
        Path | None, typer.Option("--bad-pixels", help="Raster of one line a band, not 0 at bad detector pixels.")
    ] = None,
    skip_existing: SkipExisting = False,
    as_json: Json = False,
) -> None:
    """Raw numbers of laboratories and drones to reflectance, by dark and white references.

    Example: torchspectral calibrate reflectance raw.hdr --white white.hdr --dark dark.hdr --panel 0.99 -o refl.hdr
    """
    from torchspectral.calibration.reflectance import calibrate_reflectance
    from torchspectral.cli.verb import run_verb
    from torchspectral.settings import parse_pairs

    plate = _panel(panel)

    def call(cube, **options):  # type: ignore[no-untyped-def]
        own = _beside(cube)
        light: Any = _frames(str(white)) if white else own.get("white")
        shut: Any = _frames(dark) if dark else own.get("dark")
        for name, value in (("white", light), ("dark", shut)):
            if value is None:
                raise BadSettings(f"got no {name} reference and found none beside the capture: give --{name}")
        return calibrate_reflectance(
            cube, light, shut, white_dark=_frames(white_dark) if white_dark else own.get("white_dark"), panel=plate,
            integration_time=integration_time, white_integration_time=white_integration_time,
            bad_pixels=_bad(bad_pixels), settings=parse_pairs(settings or []), **options,
        )  # fmt: skip

    run_verb(
        "calibration", "reflectance", scenes, output, engine, call, as_json=as_json, skip_existing=skip_existing,
        inputs={
            "white": white, "bad_pixels": bad_pixels,
            **{n: v for n, v in (("dark", dark), ("white_dark", white_dark), ("panel", panel)) if v and not _number(v)},
        }, suffix=".hdr",
    )  # fmt: skip


def _shift(text: str) -> tuple[int, int]:
    parts = text.split(",")
    try:
        along, across = (int(p) for p in parts)
    except ValueError:
        raise BadSettings(
            f"cannot read --shift {text!r}: expected two whole numbers ALONG,ACROSS such as 0,7"
        ) from None
    return along, across


def _number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return not Path(text).exists()


def _frames(text: str | None) -> Any:
    """Frames of a file, or a level."""
    if text is None:
        return None
    if _number(text):
        return float(text)
    from torchspectral.io import open_product

    return open_product(text)


def _panel(text: str | None) -> Any:
    if text is None or _number(text):
        return float(text) if text is not None else None
    from torchspectral.io.libraries import read_library

    return read_library(Path(text))


def _bad(path: Path | None) -> Any:
    if path is None:
        return None
    import numpy as np

    found = _frames(str(path))
    if found.ndim != 3 or found.shape[1] != 1:
        raise GridMismatch(f"{path.name} has shape {found.shape}, expected one line a band: (bands, 1, columns)")
    return np.asarray(found.values)[:, 0] != 0


def _beside(cube: Any) -> dict[str, Any]:
    """References that the reader of a capture finds beside it."""
    from torchspectral.io.opening import find_reader

    source = Path(next(iter(cube.attrs.get("source") or []), ""))
    if not source.is_file():
        return {}
    reader, found = find_reader(source, None)
    if reader.name != "line-scan":
        return {}
    known = reader.layers(found)
    return {role: reader.open_layer(found, role) for role in ("dark", "white", "white_dark") if role in known}


def _open(path: Path, mask: str | None, opening: dict[str, Any]) -> Any:
    from torchspectral.io import open_product
    from torchspectral.io.masks import RULES, apply_mask, clear_mask

    cube = open_product(path, **opening)
    if mask is None:
        return cube
    found = clear_mask(path, mask, opening=opening) if mask in RULES else clear_mask(mask)
    return apply_mask(cube, found[0])


def _remember(result: Any, inputs: dict[str, Any], options: dict[str, Any]) -> None:
    from torchspectral.cli.verb import remember_inputs

    result.report.inputs = {}
    paths, result.paths = result.paths, {"gains": result.paths["gains"]}
    remember_inputs(result, inputs, {name: value for name, value in options.items() if value is not None})
    result.paths = paths


def _corrected(folder: Path | None, paths: list[Path], dtype: str | None, overwrite: bool) -> list[Any]:
    """Files of corrected scenes; what would stop them is said before the gains are sought."""
    from torchspectral.cli.batch import outputs_for
    from torchspectral.cli.options import OutPath
    from torchspectral.cli.verb import refuse_existing, refuse_input_as_output
    from torchspectral.engine import RunOptions

    RunOptions.make({"dtype": dtype})
    if folder is None:
        return []
    if folder.exists() and not folder.is_dir():
        raise BadSettings(f"got --apply {folder}, expected a folder for {len(paths)} corrected scenes")
    out = OutPath(str(folder))
    out.folder = True
    targets = outputs_for(paths, out, ".hdr", into_folder=True)
    for target in targets:
        refuse_input_as_output(target, paths)
        refuse_existing(target, replace=overwrite)
    return targets
