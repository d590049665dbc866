"""Self-calibration and its speed: ``python benchmarks/calibrate.py [--only SECTION ...] [--samples DIR] [--seeds N] [--pixels N] [--json]``.

Prints the tables of section 4 (synthetic models) and 5.1 (overlap on a real Jasper Ridge band, beside the baselines)
of the specification, the ripple of the real scene before and after gains from known spectra, and the time and memory
of accumulating a scene, each beside the figure that it is held to; then the tables of `calibrate_interferometer`.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch

import calibrate_interferometer
import torchspectral as ts
from machine import measure
from torchspectral.calibration import SelfCal
from torchspectral.calibration.gain.models import Snapshots
from torchspectral.calibration.gain.stack import error_db, simulate, solve_dense
from torchspectral.errors import BadInput

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests" / "calibration"))

SECTIONS = ["models", "overlap", "ripple", "accumulate", "interferometers"]
MODELS: list[tuple[str, int, int, int, tuple[float, float], dict[int, str]]] = [
    ("a", 128, 64, 2, (0.5, 1.5), {20: "-11.1", 40: "-31.9", 60: "-51.8", 80: "-71.8"}),
    ("a", 128, 64, 4, (0.5, 1.5), {20: "-19.2", 40: "-39.7", 60: "-59.7", 80: "-79.7"}),
    ("a", 128, 64, 8, (0.5, 1.5), {20: "-24.8", 40: "-44.8"}),
    ("a", 128, 64, 4, (0.1, 1.9), {20: "-6.8", 40: "-27.8", 60: "-48.0"}),
    ("a", 64, 128, 2, (0.5, 1.5), {999: "fails"}),
    ("a", 64, 128, 3, (0.5, 1.5), {999: "-277"}),
    ("c", 128, 8, 2, (0.5, 1.5), {40: "-26 to -34"}),
    ("c", 128, 8, 4, (0.5, 1.5), {40: "-38 to -40"}),
    ("c", 128, 8, 16, (0.5, 1.5), {40: "-47.0"}),
    ("c", 128, 8, 64, (0.5, 1.5), {40: "-53.3"}),
    ("c", 128, 32, 16, (0.5, 1.5), {40: "<= -45"}),
    ("c", 128, 32, 64, (0.5, 1.5), {40: "<= -52"}),
    ("c", 128, 64, 1, (0.5, 1.5), {40: "refused"}),
    ("c", 128, 64, 2, (0.5, 1.5), {40: "-15.2"}),
    ("c", 128, 64, 3, (0.5, 1.5), {40: "-33.9"}),
    ("c", 128, 64, 4, (0.5, 1.5), {40: "-35.6"}),
    ("c", 128, 64, 16, (0.5, 1.5), {40: "-45.5"}),
    ("c", 128, 64, 64, (0.5, 1.5), {40: "-52.5"}),
    ("c", 128, 120, 4, (0.5, 1.5), {40: "refused"}),
    ("c", 128, 120, 16, (0.5, 1.5), {40: "-18.5"}),
]
OVERLAP = {
    (0, 1): ("3.8", "2.3", "0.52"),
    (0, 5): ("6.6", "4.6", "4.2"),
    (0, 7, 12): ("1.8", "0.51", "0.055"),
    (0, 3, 7, 12, 20, 29, 36): ("0.16", "0.051", "0.005"),
}


def models(seeds: int) -> list[dict[str, Any]]:
    """Errors of s and x of the synthetic models, both solvers [dB]."""
    rows = []
    for model, m, n, p, gains, expected in MODELS:
        for snr, figure in expected.items():
            row: dict[str, Any] = {"model": model, "m": m, "n": n, "p": p, "d": f"U{gains}", "snr": snr, "spec": figure}
            for solver in ("ls", "spectral"):
                found = []
                for seed in range(seeds):
                    ys, a, d, x = simulate(model, m, n, p, np.inf if snr == 999 else snr, seed, gains)
                    try:
                        got = SelfCal(model, solver).fit(ys, a)
                    except BadInput:
                        continue
                    found.append((error_db(got.s, 1 / d), error_db(got.x, x)))
                row[f"s {solver}"] = round(float(np.mean(found, 0)[0]), 1) if found else "refused"
                if solver == "ls":
                    row["x ls"] = round(float(np.mean(found, 0)[1]), 1) if found else "refused"
            rows.append(row)
    return rows


def exactness(seeds: int) -> list[dict[str, Any]]:
    """Without noise; the reduced form against the dense stack; what is said below the count; the slope by the noise."""
    rows: list[dict[str, Any]] = []
    for model, m, n, p, bound in (("a", 128, 64, 2, 1e-10), ("a", 64, 128, 3, 1e-10), ("c", 128, 64, 2, 1e-8)):
        ys, a, d, x = simulate(model, m, n, p)
        for solver in ("ls", "spectral"):
            got = SelfCal(model, solver).fit(ys, a)
            worst = 10 ** (max(error_db(got.s, 1 / d), error_db(got.x, x)) / 20)
            rows.append(_line(f"{model} {m} x {n}, p={p}, no noise, {solver}: relative error", worst, bound))
    for model in ("a", "b", "c"):
        ys, a, _, _ = simulate(model, 40, 12, 4, 40)
        s = solve_dense(model, ys, a, "ls")[0]
        gap = np.abs(SelfCal(model).fit(ys, a).s - s).max() / np.abs(s).max()
        rows.append(_line(f"{model}: reduced form off the dense stack", gap, 1e-8))
    cal = SelfCal("a")
    ys, a, _, _ = simulate("a", 64, 128, 2)
    with contextlib.suppress(BadInput):
        cal.fit(ys, a)
    rows.append(_line("a 64 x 128, p=2: null_dim off 64 by", abs(cal.diagnose().null_dim - 64), 0))
    errors = []
    for snr in (40, 60, 80):
        made = [simulate("a", 128, 64, 4, snr, seed) for seed in range(seeds)]
        errors.append(np.mean([error_db(SelfCal("a").fit(ys, a).s, 1 / d) for ys, a, d, _ in made]))
    slope = float(np.abs(np.diff(errors) + 20).max())
    rows.append(_line("a, p=4, 40 to 80 dB: slope off -20 dB per 20 dB by [dB]", slope, 1))
    return rows


def _line(what: str, value: float, bound: float) -> dict[str, Any]:
    return {"what": what, "value": f"{value:.2g}", "bound": f"{bound:g}", "holds": bool(value <= bound)}


def overlap(samples: Path, seeds: int) -> list[dict[str, Any]]:
    """Gain error left on the real band [percent], the baselines, and what was told beforehand."""
    from gain_data import jasper, left, lines

    scene = jasper(samples)[0][60:61]
    rows = []
    for shifts, figures in OVERLAP.items():
        for snr, figure in zip((30, 40, 60), figures, strict=True):
            row: dict[str, Any] = {"shifts": ",".join(map(str, shifts)), "snr": snr, "spec %": figure}
            found: dict[str, list[float]] = {
                "left %": [],
                "told %": [],
                "moments %": [],
                "histogram %": [],
                "polynomial %": [],
            }
            for seed in range(seeds):
                cubes, truth = lines(scene, shifts, 64, snr, seed=seed)
                given = [(0, s) for s in shifts]
                result = ts.calibrate_gain(cubes, shifts=given, settings={"groups": "each"})
                band = result["gains"].record["bands"][0]
                found["left %"].append(left(result["gains"].gain, truth))
                found["told %"].append(100 * band["predicted_error"])
                for method in ("moments", "histogram", "polynomial"):
                    gains = ts.calibrate_gain(cubes, method=method)["gains"]
                    found[f"{method} %"].append(left(gains.gain, truth))
                row |= {"groups": band["groups"], "gap": f"{band['spectral_gap']:.1e}", "weak": band["weakly_linked"]}
            rows.append({**row, **{name: f"{np.mean(values):.3g}" for name, values in found.items()}})
    return rows


def ripple(samples: Path) -> list[dict[str, Any]]:
    """A 5 % ripple on the real scene: spread before and after [percent], by the defaults and without a prior."""
    from gain_data import jasper, jasper_library

    scene, wavelength = jasper(samples)
    spectra = jasper_library(samples)
    library = ts.make_spectra(spectra, [str(n) for n in range(len(spectra))], wavelength=wavelength)
    rows = []
    for seed in (0, 1):
        random = np.random.RandomState(seed)
        d = 1 + 0.05 * random.randn(198)
        y = d[:, None, None] * scene
        y = y + np.sqrt((y**2).mean()) * 1e-2 * random.randn(*y.shape)
        cube = ts.make_cube(y, wavelength=wavelength, quantity="reflectance")
        for name, settings in (("default", {}), ("k=4", {"k": [4], "ridge": [0.01]}), ("lambda=0", {"ridge": [0.0]})):
            row: dict[str, Any] = {"seed": seed, "settings": name, "in %": f"{100 * (d / d.mean()).std():.2f}"}
            try:
                gains = ts.calibrate_gain(cube, method="spectral", library=library, settings=settings)["gains"]
                error = gains.gain[:, 0] * d
                row["left %"] = f"{100 * (error / error.mean()).std():.2f}"
                row |= {"k": gains.record["k"], "ridge": gains.record["ridge"]}
            except BadInput:
                row["left %"] = "refused"
            rows.append(row)
    return rows


def accumulate(pixels: int, bands: int = 224) -> dict[str, Any]:
    """Processor time and memory of the sums over `pixels` spectra, alone and through the tool from a file on disk."""
    side = max(20, int(pixels**0.5))
    with tempfile.TemporaryDirectory() as folder:
        random = np.random.default_rng(0)
        pure = random.uniform(0.1, 0.9, (15, bands)).cumsum(1) / bands
        gains = (1 + 0.05 * random.normal(size=bands))[:, None]
        scene = np.empty((bands, side, side), np.float32)
        for row in range(side):
            scene[:, row] = (pure.T @ random.dirichlet(np.ones(15), side).T) * gains
        wavelength = np.linspace(400, 2500, bands)
        ts.save(ts.make_cube(scene, wavelength=wavelength, quantity="reflectance"), f"{folder}/scene.hdr")
        del scene
        ts.save(ts.make_spectra(pure, [str(n) for n in range(15)], wavelength=wavelength), f"{folder}/library.sli")
        parts = [_apart(name, folder, pixels, bands) for name in ("sums", "tool")]
    return {"pixels": pixels, "bands": bands, **parts[0], **parts[1], "spec": "< 8 s, < 300 MB"}


def _apart(name: str, folder: str, pixels: int, bands: int) -> dict[str, Any]:
    """One measurement in a process of its own, so that memory is only its own."""
    words = [sys.executable, __file__, "--measure", name, folder, str(pixels), str(bands)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def measured(name: str, folder: str, pixels: int, bands: int) -> dict[str, Any]:
    """Processor seconds and rise of the peak memory [MB] of one way to accumulate."""
    torch.set_num_threads(1)
    from torchspectral.io.libraries import read_library

    sums = Snapshots(torch.linalg.qr(torch.rand(bands, 15, dtype=torch.float64))[0])
    block = torch.rand(20_000, bands)
    sums.add(block[:100])
    library = read_library(Path(folder) / "library.sli")
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before, started = _peak(), time.process_time()
    if name == "sums":
        for _ in range(pixels // len(block)):
            sums.add(block)
    else:
        cube = ts.open(f"{folder}/scene.hdr")
        ts.calibrate_gain(cube, method="spectral", library=library, settings={"k": [10, 14]})
    seconds = time.process_time() - started
    rise = (_peak() - before) / 1024
    title = "sums" if name == "sums" else "tool, from disk"
    return {f"{title} [s]": round(seconds, 2), f"{title} [MB]": round(rise)}


def _peak() -> int:
    """Peak of the resident memory [kB]."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])


def show(title: str, rows: list[dict[str, Any]]) -> None:
    print(f"\n{title}")
    names = list(rows[0])
    for row in rows[1:]:
        names += [n for n in row if n not in names]
    cells = [names, *([str(row.get(n, "")) for n in names] for row in rows)]
    widths = [max(len(r[i]) for r in cells) for i in range(len(names))]
    for row in cells:
        print("  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--samples", type=Path, default=ROOT.parent / "shared" / "data")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--pixels", type=int, default=1_000_000)
    parser.add_argument("--only", nargs="+", choices=SECTIONS, default=SECTIONS)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    if chosen.measure:
        name, folder, pixels, bands = chosen.measure
        print(json.dumps(measured(name, folder, int(pixels), int(bands))))
        return
    torch.set_num_threads(1)
    machine = measure()
    found: dict[str, Any] = {}
    real = (chosen.samples / "unmixing" / "jasper").is_dir()
    if "models" in chosen.only:
        found |= {"models": models(chosen.seeds), "exactness, counts and slope": exactness(chosen.seeds)}
    if "overlap" in chosen.only and real:
        found["overlap"] = overlap(chosen.samples, chosen.seeds)
    if "ripple" in chosen.only and real:
        found["ripple"] = ripple(chosen.samples)
    if "accumulate" in chosen.only:
        found["accumulate"] = [accumulate(chosen.pixels)]
    if "interferometers" in chosen.only and (chosen.samples / "irca").is_dir():
        found |= calibrate_interferometer.rows(chosen.samples)
    if chosen.json:
        print(json.dumps({"machine": vars(machine), **found}, default=str))
        return
    print(machine)
    titles = {
        "models": "Errors after the best scale [dB]: found, and the specification's for s by least squares",
        "overlap": "Overlap on a real band, 64 detectors, 100 lines, gains of 5 %: error left [percent of gain]",
        "ripple": "Gains from known spectra, real scene with a ripple at 40 dB",
        "accumulate": "Accumulating a scene: processor time on one core, rise of the peak memory",
    }
    for name, table in found.items():
        show(titles.get(name, name.capitalize()), table)


if __name__ == "__main__":
    main()
