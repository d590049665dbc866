"""`torchspectral simulate`: test data with known truth."""

from __future__ import annotations

from pathlib import Path
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


@app.command()
def mixture(
    output: Out,
    *,
    k: Annotated[int, typer.Option("-k", help="Number of endmembers.", min=2)] = 4,
    settings: Settings = None,
    library: Annotated[
        Path | None,
        typer.Option("--library", help="Spectra to draw the endmembers from (.sli, CSV); else smooth ones are made."),
    ] = None,
    snr_profile: Annotated[
        Path | None,
        typer.Option("--snr-profile", help="CSV with a column snr: signal-to-noise ratio of each band of a sensor."),
    ] = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Complex synthetic image for unmixing: cube, abundances, endmembers, noise and a table of the bands.

    Example: torchspectral simulate mixture -k 6 --set purity=0.8 snr=30 -o mixture/
    """
    from torchspectral.cli.show import print_result
    from torchspectral.cli.verb import remember_inputs
    from torchspectral.io.libraries import read_library
    from torchspectral.settings import parse_pairs
    from torchspectral.unmixing.protocol import read_snr_profile, simulate_mixture

    result = simulate_mixture(
        k,
        library=read_library(library) if library else None,
        snr_profile=read_snr_profile(snr_profile) if snr_profile else None,
        seed=seed,
        out=output,
        settings=parse_pairs(settings or []),
        overwrite=overwrite,
    )
    given = {"library": library, "snr_profile": snr_profile}
    remember_inputs(result, {n: p for n, p in given.items() if p}, {})
    print_result(result, as_json)


@app.command("unmixing-set")
def unmixing_set(
    scene: Scene,
    output: Out,
    *,
    labels: Annotated[Path, typer.Option("--labels", help="Class raster, polygons or CSV of pixels.")],
    field: Annotated[
        str | None, typer.Option("--field", help="Column of a vector or CSV that holds the classes.")
    ] = None,
    settings: Settings = None,
    opening: Opening = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Labelled scene seen by coarser pixels: cube, abundances, endmembers and a mask of what is kept.

    Example: torchspectral simulate unmixing-set scene.tif --labels classes.tif --set window=4 -o set/
    """
    from torchspectral.cli.show import print_result
    from torchspectral.cli.verb import remember_inputs
    from torchspectral.io import open_product
    from torchspectral.io.labels import read_labels
    from torchspectral.settings import parse_pairs
    from torchspectral.unmixing.protocol import unmixing_set as run

    cube = open_product(scene, **parse_opening(opening))
    result = run(
        cube,
        read_labels(labels, like=cube, field=field),
        out=output,
        settings=parse_pairs(settings or []),
        overwrite=overwrite,
    )
    remember_inputs(result, {"cube": scene, "labels": labels}, {"open": opening} if opening else {})
    print_result(result, as_json)


@app.command()
def interferogram(
    scene: Scene,
    output: Annotated[Path, typer.Option("--output", "-o", help="File for the interferograms.", show_default=False)],
    *,
    device: Annotated[
        Path,
        typer.Option(
            "--device",
            help="Device file (see calibrate interferometer), or a folder of the authors' results.",
            show_default=False,
        ),
    ],
    response: Annotated[
        str, typer.Option("--response", help="Interferograms: relative (divided by the flat response) or absolute.")
    ] = "relative",
    noise: Annotated[
        float, typer.Option("--noise", help="Standard deviation of noise, as a share of the mean.", min=0)
    ] = 0.0,
    mosaic: Annotated[
        bool, typer.Option("--mosaic", help="Write the detector's image, sub-images in their places.")
    ] = False,
    opening: Opening = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """What a multi-aperture spectrometer sees of a scene, one band an interferometer; the scene is held in memory.

    Example: torchspectral simulate interferogram scene.tif --device device.json -o seen.tif
    """
    from torchspectral.calibration.interferometer import simulate_scene
    from torchspectral.cli.show import print_result
    from torchspectral.cli.verb import refuse_input_as_output, remember_inputs
    from torchspectral.errors import BadSettings
    from torchspectral.io import open_product

    if response not in ("relative", "absolute"):
        raise BadSettings(f"got --response {response}, expected relative or absolute")
    refuse_input_as_output(output, [scene, device])
    result = simulate_scene(
        open_product(scene, **parse_opening(opening)),
        device,
        response=response,  # type: ignore[arg-type]
        noise=noise,
        seed=seed,
        mosaic=mosaic,
        out=output,
        overwrite=overwrite,
    )
    remember_inputs(result, {"cube": scene, "device": device}, {"open": opening} if opening else {})
    print_result(result, as_json)


@app.command()
def patches(
    output: Out,
    *,
    count: Annotated[int, typer.Option("-n", "--count", help="Patches, second dates included.", min=2)] = 500,
    sensor: Annotated[
        str, typer.Option("--sensor", help="Sensor of the catalogue; see the tables of sensors.")
    ] = "enmap",
    settings: Settings = None,
    seed: Seed = 0,
    overwrite: Overwrite = False,
    as_json: Json = False,
) -> None:
    """Patch set with land cover: GeoTIFFs in SpectralEarth's folders, seasons, masks, classes, splits, nodata.

    Example: torchspectral simulate patches -n 500 --sensor enmap --set size=64 -o patches/
    """
    from torchspectral.cli.show import print_result, progress_bar
    from torchspectral.learn.patch_sets import simulate_patches
    from torchspectral.settings import parse_pairs

    with progress_bar("simulate") as progress:
        result = simulate_patches(
            output,
            count,
            sensor=sensor,
            seed=seed,
            settings=parse_pairs(settings or []),
            overwrite=overwrite,
            progress=progress,
        )
    print_result(result, as_json)
