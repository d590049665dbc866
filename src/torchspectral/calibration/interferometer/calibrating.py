"""From an acquisition's folder to a device file with its table and pictures."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torchspectral.calibration.interferometer.acquisition import FILES, read_acquisition
from torchspectral.calibration.interferometer.characterising import Attempts, characterise
from torchspectral.calibration.interferometer.recipes import Recipe
from torchspectral.calibration.interferometer.regression import Solver
from torchspectral.errors import OutputExists, OutputFailed
from torchspectral.log import Progress, no_progress
from torchspectral.result import Report, Result

READ = ("options.json", "characterization_options.json", "device.json", *(f"{name}.npy" for name in FILES))
"""Names of an acquisition's files."""


def calibrate_folder(
    path: str | Path,
    out: str | Path | None = None,
    *,
    recipe: Recipe | Sequence[Any] | str | Path | None = None,
    solver: Solver = "lm",
    attempts: Attempts = "doubtful",
    reflectivity_bounds: tuple[float, float] | None = None,
    pictures: bool = True,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> Result:
    """Characterise the acquisition in a folder, and write what was found.

    Parameters
    ----------
    path : path
        Folder of an acquisition, see `read_acquisition`.
    out : path, optional
        ``NAME.json`` for a device file, any other name for a folder in the authors' layout. Beside (in) it come the
        table (NAME.csv), the pictures (NAME.png with all interferometers, NAME.fits.png with data and fits) and
        NAME.json.run.yaml.
    recipe, solver, attempts, reflectivity_bounds
        As for `characterise`.
    pictures : bool
        Draw.

    Returns
    -------
    Result
        ``device`` (Characterization) and ``table`` (DataFrame, one row an interferometer).

    Raises
    ------
    ProductNotFound, BrokenProduct, BadInput, BadSettings, OutputExists, OutputFailed
    """
    import pandas as pd  # type: ignore[import-untyped]

    import torchspectral

    started = time.perf_counter()
    source = read_acquisition(path)
    targets = _targets(out, pictures)
    _refuse_input(Path(path), targets)
    for target in targets.values():
        if target.exists() and not overwrite:
            raise OutputExists(f"{target} exists: --overwrite (overwrite=True) replaces it, or choose another name")
    device = characterise(
        source,
        recipe=recipe,
        solver=solver,
        attempts=attempts,
        reflectivity_bounds=reflectivity_bounds,
        progress=progress,
    )
    table = pd.DataFrame(device.table())
    report = Report(
        method="calibration/interferometer",
        inputs={"acquisition": str(Path(path).resolve())},
        settings={
            "solver": solver,
            "attempts": attempts,
            "reflectivity_bounds": list(reflectivity_bounds) if reflectivity_bounds else None,
            "recipe": device.recipe,
        },
        figures=device.figures(),
        notes=list(device.notes),
        version=torchspectral.__version__,
    )
    report.seconds["total"] = round(time.perf_counter() - started, 3)
    if targets:
        _write(device, source, table, targets, report)
    return Result({"device": device, "table": table}, report, {n: str(p) for n, p in targets.items()})


def _targets(out: str | Path | None, pictures: bool) -> dict[str, Path]:
    if out is None:
        return {}
    device = Path(out)
    single = device.suffix.lower() == ".json"
    beside = {"table": (".csv", "table.csv")}
    if pictures:
        beside |= {"overview": (".png", "overview.png"), "fits": (".fits.png", "fits.png")}
    places = {name: device.with_suffix(s) if single else device / file for name, (s, file) in beside.items()}
    return {"device": device, **places}


def _refuse_input(folder: Path, targets: dict[str, Path]) -> None:
    """Nothing is written over an acquisition, nor under a name that it would be read by the next time."""
    taken = {folder.resolve()} | {folder.resolve() / name for name in READ}
    for target in targets.values():
        if target.resolve() in taken:
            raise OutputFailed(
                f"the output {target} is, or would become, a part of the acquisition: choose another name"
            )


def _write(device: Any, source: Any, table: Any, targets: dict[str, Path], report: Report) -> None:
    from torchspectral.calibration.interferometer.figures import fits_figure, overview_figure
    from torchspectral.io.writers.run_yaml import run_path, write_run
    from torchspectral.report.files import write_whole
    from torchspectral.report.style import figure_png

    # All is made before anything is written, and the device last: what can fail has failed by then.
    files = {"table": table.to_csv(index=False).encode()}
    if "overview" in targets:
        files |= {"overview": figure_png(overview_figure(device)), "fits": figure_png(fits_figure(device, source))}
    new = [targets[name] for name in files if not targets[name].exists()]
    try:
        targets["table"].parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputFailed(f"cannot write {targets['device']}: {error.strerror or error}") from error
    try:
        for name, data in files.items():
            write_whole(targets[name], data, overwrite=True)
        device.save(targets["device"], overwrite=True)
    except BaseException:
        for path in new:
            path.unlink(missing_ok=True)
        raise
    write_run(run_path(targets["device"]), report, targets["device"])
