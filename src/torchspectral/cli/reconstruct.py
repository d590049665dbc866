"""`torchspectral reconstruct`: spectra from interferograms."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from torchspectral.cli.options import Engine, Json, Method, Out, Scenes, Settings, SkipExisting, with_engine

COMPUTE = Annotated[str, typer.Option("--compute", help="Where to compute: auto, cpu, cuda or cuda:N.")]


def _compute_elsewhere(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Give the engine's device another option: here `--device` is the instrument."""
    signature = inspect.signature(verb)
    changed = [p.replace(annotation=COMPUTE) if p.name == "device" else p for p in signature.parameters.values()]
    verb.__signature__ = signature.replace(parameters=changed)  # type: ignore[attr-defined]
    verb.__annotations__ = {**verb.__annotations__, "device": COMPUTE}
    return verb


@_compute_elsewhere
@with_engine
def reconstruct(
    interferograms: Scenes,
    output: Out,
    *,
    settings: Settings = None,
    engine: Engine,
    instrument: Annotated[
        Path,
        typer.Option(
            "--device",
            help="Device file (see calibrate interferometer), or a folder of the authors' results.",
            show_default=False,
        ),
    ],
    method: Method = "phillips-twomey",
    wavelengths: Annotated[
        str | None,
        typer.Option("--wavelengths", help="Of the spectra [nm]: FIRST:LAST:COUNT, or a text or .npy file of them."),
    ] = None,
    response: Annotated[
        str,
        typer.Option("--response", help="Interferograms: relative (divided by the flat response) or absolute (raw)."),
    ] = "relative",
    lines: Annotated[
        Path | None,
        typer.Option("--lines", help="Acquisition of monochromatic lines to choose the regularisation by."),
    ] = None,
    flagged: Annotated[bool, typer.Option("--flagged", help="Use interferometers whose fit failed, too.")] = False,
    skip_existing: SkipExisting = False,
    as_json: Json = False,
) -> None:
    """Reconstruct spectra from the interferograms of a multi-aperture spectrometer.

    Example: torchspectral reconstruct interferogram.tif --device device.json -o cube.tif
    """
    from torchspectral.calibration.interferometer.device_files import load_device
    from torchspectral.calibration.interferometer.reconstruction import read_wavelengths
    from torchspectral.calibration.interferometer.reconstruction import reconstruct as run
    from torchspectral.cli.verb import run_verb
    from torchspectral.errors import BadSettings
    from torchspectral.settings import parse_pairs

    if response not in ("relative", "absolute"):
        raise BadSettings(f"got --response {response}, expected relative or absolute")
    known = load_device(instrument)
    if wavelengths:
        read_wavelengths(wavelengths)  # what is wrong with them is said before anything is read

    def call(cube, **options):  # type: ignore[no-untyped-def]
        return run(
            cube,
            known,
            method=method,
            wavelength=wavelengths,
            response=response,  # type: ignore[arg-type]
            flagged=flagged,
            lines=lines,
            settings=parse_pairs(settings or []),
            **options,
        )

    run_verb(
        "calibration",
        method,
        interferograms,
        output,
        engine,
        call,
        as_json=as_json,
        skip_existing=skip_existing,
        inputs={"instrument": instrument, "lines": lines},
    )
