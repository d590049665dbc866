"""Blind unmixing measured: ``python benchmarks/unmix_blind.py [--samples DIR] [--seeds N] [--only NAME ...] [--json]``.

Tables of the NMF family and of RRLbS on complex synthetic images (endmembers from DIR/unmixing/libraries where it is
there, else generated ones), on Samson and Jasper Ridge where DIR has them, and the time of 200 iterations on one core.
Angles in rad over the bands without outliers, RMSE of abundances after division by their sum; means over the seeds.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

import torchspectral as ts
from machine import measure
from torchspectral.synth import mixture
from torchspectral.unmixing import score

Row = dict[str, Any]
RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "start": ("vca-fcls", {}),
    "nmf": ("nmf", {}),
    "l1-nmf": ("l1-nmf", {}),
    "l12-nmf": ("l12-nmf", {}),
    "g-l1-nmf": ("g-l1-nmf", {}),
    "w-nmf": ("w-nmf", {}),
    "edc-nmf": ("edc-nmf", {}),
    "cnmf-mvc": ("cnmf-mvc", {}),
    "rrlbs": ("rrlbs", {}),
}


def usgs(samples: Path | None) -> dict[str, Any]:
    """Spectra and wavelengths of the USGS library of 1995, where it is there."""
    path = None if samples is None else samples / "unmixing/libraries/USGS_1995_Library.mat"
    if path is None or not path.exists():
        return {}
    import scipy.io

    table = scipy.io.loadmat(path)["datalib"]
    return {"spectra": table[:, 3:].T, "wavelength": table[:, 0] * 1000}


def run(cube: xr.DataArray, k: int, method: str, settings: Mapping[str, Any], seed: int = 0) -> Any:
    """One unmixing on one core."""
    return ts.unmix(cube, k, method=method, settings=dict(settings), seed=seed, device="cpu")


def figures(
    library: Mapping[str, Any],
    fields: Mapping[str, Any],
    runs: Mapping[str, tuple[str, dict[str, Any]]],
    seeds: Sequence[int],
    k: int = 4,
    iterations: int = 200,
) -> dict[str, tuple[float, float]]:
    """Mean angle and RMSE of each run over the images of the seeds."""
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for seed in seeds:
        made = mixture(k, seed, **library, settings={"min_angle": 0.2, **fields})
        cube = ts.make_cube(made.values.astype(np.float32), wavelength=made.wavelength, quantity="reflectance")
        good = ~made.outlier
        for name, (method, own) in runs.items():
            more = {} if method == "vca-fcls" else {"iterations": iterations, "tolerance": 0.0}
            result = run(cube, k, method, {**more, **own})
            spectra = result["endmembers"].values[:, good]
            one = score(spectra, result["abundances"], made.endmembers[:, good], made.abundances).figures
            found[name].append((one["mean_angle"], one["rmse"]))
    return {
        name: (float(np.mean([p[0] for p in ps])), float(np.mean([p[1] for p in ps]))) for name, ps in found.items()
    }


def _rows(table: str, case: str, found: Mapping[str, tuple[float, float]]) -> list[Row]:
    return [{"table": table, "case": case, "run": n, "angle": a, "rmse": e} for n, (a, e) in found.items()]


def outliers(samples: Path | None, seeds: Sequence[int]) -> list[Row]:
    """Outlier bands: the robust loss against plain NMF from the same clean-band start, for three sum-to-one rows."""
    library = usgs(samples)
    rows: list[Row] = []
    for case, fields in {
        "none": {"snr": 30.0},
        "10 of 1x": {"snr": 30.0, "outliers": 10},
        "20 of 1x": {"snr": 30.0, "outliers": 20},
        "10 of 3x": {"snr": 30.0, "outliers": 10, "outlier_level": 3.0},
    }.items():
        runs: dict[str, tuple[str, dict[str, Any]]] = {"vca-fcls": ("vca-fcls", {})}
        for d in (0.0, 3.0, 15.0):
            runs[f"nmf d={d:g}"] = ("rrlbs", {"robust": False, "lambda_rel": 0.0, "d": d})
            runs[f"robust d={d:g}"] = ("rrlbs", {"lambda_rel": 0.0, "d": d})
        runs["rrlbs .05"], runs["rrlbs .2"] = ("rrlbs", {"lambda_rel": 0.05}), ("rrlbs", {"lambda_rel": 0.2})
        rows += _rows("outliers", case, figures(library, fields, runs, seeds))
    return rows


def sparsity(samples: Path | None, seeds: Sequence[int]) -> list[Row]:
    """The penalty of RRLbS on scenes with and without pure pixels."""
    runs = {f"rrlbs {v:g}": ("rrlbs", {"lambda_rel": v}) for v in (0.0, 0.05, 0.2, 0.5)}
    rows: list[Row] = []
    for purity in (0.8, 0.95, 1.0):
        found = figures(usgs(samples), {"purity": purity, "snr": 25.0}, runs, seeds)
        rows += _rows("sparsity", f"purity {purity:g}", found)
    return rows


def axes(samples: Path | None, seeds: Sequence[int]) -> list[Row]:
    """The survey's four axes: noise, purity, number of endmembers, size of the image."""
    library = usgs(samples)
    rows: list[Row] = []
    for snr in (15.0, 25.0, 35.0, None):
        rows += _rows("axes", f"snr {snr or 'inf'}", figures(library, {"snr": snr}, RUNS, seeds))
    for purity in (0.7, 0.9, 1.0):
        rows += _rows("axes", f"purity {purity:g}", figures(library, {"purity": purity}, RUNS, seeds))
    for k in (3, 6, 10):
        rows += _rows("axes", f"k {k}", figures(library, {"min_angle": 0.1}, RUNS, seeds, k=k))
    for z in (6, 10):
        rows += _rows("axes", f"z {z}", figures(library, {"z": z}, RUNS, seeds))
    return rows


def scenes(samples: Path | None, seeds: Sequence[int]) -> list[Row]:
    """Samson and Jasper Ridge with their stop rules: mean and standard deviation over the seeds of VCA."""
    rows: list[Row] = []
    for name, (cube, spectra, shares) in real_scenes(samples).items():
        k = len(spectra)
        for label, (method, own) in RUNS.items():
            ones = []
            for seed in seeds:
                result = run(cube, k, method, own, seed)
                ones.append(score(result["endmembers"], result["abundances"], spectra, shares).figures)
            angle, error = (np.array([one[key] for one in ones]) for key in ("mean_angle", "rmse"))
            rows.append(
                {
                    "table": "scenes", "case": name, "run": label, "angle": float(angle.mean()),
                    "rmse": float(error.mean()), "angle_std": float(angle.std()), "rmse_std": float(error.std()),
                }
            )  # fmt: skip
    return rows


def real_scenes(samples: Path | None) -> dict[str, tuple[xr.DataArray, np.ndarray, np.ndarray]]:
    """Cube (maximum 1), true spectra and abundances of the scenes that are there."""
    found: dict[str, tuple[xr.DataArray, np.ndarray, np.ndarray]] = {}
    folder = None if samples is None else samples / "unmixing"
    if folder is None or not folder.exists():
        return found
    import scipy.io

    if (folder / "samson").exists():
        values = scipy.io.loadmat(folder / "samson/samson_1.mat")["V"].reshape(156, 95, 95).transpose(0, 2, 1)
        spectra = scipy.io.loadmat(folder / "samson/E.mat")["E"].T
        shares = scipy.io.loadmat(folder / "samson/A_true.mat")["A_true"].transpose(2, 0, 1)
        found["samson"] = (_cube(values), spectra, shares)
    if (folder / "jasper").exists():
        values = scipy.io.loadmat(folder / "jasper/jasperRidge2_R198.mat")["Y"].astype(float)
        truth = scipy.io.loadmat(folder / "jasper/end4.mat")
        cube = _cube((values / values.max()).reshape(198, 100, 100).transpose(0, 2, 1))
        shares = truth["A"].reshape(4, 100, 100).transpose(0, 2, 1)
        found["jasper"] = (cube, truth["M"].T, shares)
    return found


def _cube(values: np.ndarray) -> xr.DataArray:
    return ts.make_cube(np.ascontiguousarray(values, dtype=np.float32), quantity="reflectance")


def speed(samples: Path | None, seeds: Sequence[int]) -> list[Row]:
    """Seconds of 200 iterations, 64 x 64 x 224, five endmembers, start and abundances included, one core."""
    made = mixture(5, 0, settings={"snr": 30.0})
    cube = _cube(made.values)
    rows: list[Row] = []
    for label, (method, own) in RUNS.items():
        more = {} if method == "vca-fcls" else {"iterations": 200, "tolerance": 0.0}
        best, busy = np.inf, np.inf
        for _ in range(2):
            started, worked = time.perf_counter(), time.process_time()
            run(cube, 5, method, {**more, **own})
            best, busy = min(best, time.perf_counter() - started), min(busy, time.process_time() - worked)
        case = "64x64x224, k=5, 200 iterations"
        rows.append({"table": "speed", "case": case, "run": label, "seconds": best, "cpu_seconds": busy})
    return rows


TABLES: dict[str, Callable[[Path | None, Sequence[int]], list[Row]]] = {
    "speed": speed,
    "outliers": outliers,
    "sparsity": sparsity,
    "scenes": scenes,
    "axes": axes,
}


def measured(samples: Path | None, seeds: Sequence[int], only: Sequence[str] = ()) -> list[Row]:
    """Rows of all tables, or of some."""
    return [row for name, table in TABLES.items() if not only or name in only for row in table(samples, seeds)]


def show(rows: Sequence[Row]) -> str:
    """The rows as text."""
    lines, last = [], ""
    for row in rows:
        head = f"{row['table']}: {row['case']}"
        lines += [head] if head != last else []
        last = head
        if "seconds" in row:
            lines.append(f"  {row['run']:14s} {row['seconds']:7.2f} s, of which computing {row['cpu_seconds']:.2f} s")
            continue
        spread = f"  (std {row['angle_std']:.3f}, {row['rmse_std']:.3f})" if "angle_std" in row else ""
        lines.append(f"  {row['run']:14s} angle {row['angle']:.3f}  rmse {row['rmse']:.3f}{spread}")
    return "\n".join(lines)


def main() -> None:
    """Print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=Path, default=None, help="folder that holds unmixing/")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", nargs="+", choices=sorted(TABLES), default=[])
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    machine = measure()
    rows = measured(given.samples, range(given.seeds), given.only)
    if given.json:
        print(json.dumps({"machine": vars(machine), "rows": rows}))
        return
    print(machine)
    print(show(rows))


if __name__ == "__main__":
    main()
