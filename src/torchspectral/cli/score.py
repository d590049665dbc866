"""`torchspectral score`: an output against the truth."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from torchspectral.cli.options import Json, Opening, parse_opening


def score(
    output: Annotated[Path, typer.Argument(help="What a method made.", show_default=False)],
    truth: Annotated[Path, typer.Argument(help="The truth.", show_default=False)],
    ratio: Annotated[int, typer.Option("--ratio", help="Resolution ratio of a sharpening (for ERGAS).", min=1)] = 1,
    crop: Annotated[int, typer.Option("--crop", help="Pixels to leave out at each edge.", min=0)] = 0,
    opening: Opening = None,
    truth_opening: Annotated[
        list[str] | None, typer.Option("--open-truth", help="The same for the truth, KEY=VALUE; repeat for more.")
    ] = None,
    classes: Annotated[
        bool,
        typer.Option(
            "--classes", help="OUTPUT is a class map, TRUTH labels: raster, polygons, points or CSV of pixels."
        ),
    ] = False,
    field: Annotated[
        str | None, typer.Option("--field", help="With --classes: column of a vector or CSV that holds the classes.")
    ] = None,
    confusion: Annotated[
        Path | None, typer.Option("--confusion", help="With --classes: CSV for the confusion matrix.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Compare two cubes: ERGAS, SAM, Q2n, PSNR, SSIM, RMSE and the figures of each band; or a class map with labels.

    Example: torchspectral score sharp.tif pair/truth.tif --ratio 4

    Example: torchspectral score classes.tif fields.gpkg --classes --confusion confusion.csv
    """
    from torchspectral.cli.show import facts, finite, print_json
    from torchspectral.errors import BadSettings
    from torchspectral.io import open_product
    from torchspectral.metrics.score import score as compare

    if classes:
        _classes(output, truth, field, confusion, as_json)
        return
    if field is not None or confusion is not None:
        raise BadSettings("got --field or --confusion without --classes, expected them with class maps only")
    made, wanted = parse_opening(opening), parse_opening(truth_opening)
    result = compare(open_product(output, **made), open_product(truth, **wanted), ratio=ratio, crop=crop)
    figures = result.report.figures
    if as_json:
        print_json(finite(figures))
    else:
        facts({k: v for k, v in figures.items() if isinstance(v, int | float | str)})


def _classes(output: Path, truth: Path, field: str | None, confusion: Path | None, as_json: bool) -> None:
    from torchspectral.cli.show import facts, finite, print_json
    from torchspectral.io.labels import read_labels
    from torchspectral.metrics.classes import confusion_csv, score_classes
    from torchspectral.report.files import write_whole

    found = read_labels(output)
    labels = read_labels(truth, like=found.expand_dims("band"), field=field)
    result = score_classes(found, labels)
    if confusion is not None:
        write_whole(confusion, confusion_csv(result["confusion"]).encode(), overwrite=False)
    figures = result.report.figures
    if as_json:
        print_json(finite(figures))
        return
    facts({k: v for k, v in figures.items() if isinstance(v, int | float | str)})
    facts({f"F1 of {row['class']}": round(row["f1"], 4) for row in figures["per_class"] if row["f1"] == row["f1"]})
