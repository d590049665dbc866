"""Unmixing methods compared on labelled scenes, as the survey of the field does: angles, abundance errors, costs.

Every method is run by the engine as a user would run it, with the number of endmembers of the truth, over several seeds.
Methods that find endmembers alone get exact FCLS abundances; methods that unmix with a library get the true endmembers
unless one is given, and are then no blind methods: their rows are floors. Estimates are paired with the truth in both ways
that papers use, by spectral angle and by distance of the abundance maps, in tables of their own.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import xarray as xr

from torchspectral import registry
from torchspectral.bench.shared import bench_folder, cost, key_of, plain_name
from torchspectral.bench.store import Measured, Store
from torchspectral.bench.unmixing_pages import MATCHINGS, Seen, seen_of, write_comparison
from torchspectral.cube import good_bands
from torchspectral.errors import BadInput, BadSettings, TorchspectralError
from torchspectral.log import Progress, Step, get_logger, no_progress
from torchspectral.result import Result
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.base import ROOM, endmembers, settings_of, unmix
from torchspectral.unmixing.scenes import LabelledScene, Place, load_scene
from torchspectral.unmixing.scoring import reconstruction_error, score

PARTS = "parts"
LEFT_OUT = {
    "vca": "its spectra are those of vca-fcls",
    "label": "with the true spectra it is fcls",
    "polygons": "it needs drawn areas",
}
"""Methods that "all" does not run, and why."""
ON_GPU = ("misicnet", "msnet", "suncnn", "undip")
"""Networks that see the whole scene at each of thousands of steps: "all" runs them where there is a GPU."""
SEEDLESS = frozenset({"fcls", "sivm", "atgp", "sunsal", "sunsal-tv", "clsunsal", "s2wsu", "mua", "mesma", "sma"})
"""Methods without anything random (sma and mesma with their default of no draws): one run is enough."""
DRAWS = ("n_mc",)


class UnmixBenchSettings(Settings):
    """Settings of the unmixing bench."""

    seeds: int = setting(20, "repetitions with other seeds; figures are then mean and deviation", ge=1)
    k: int | Literal["true"] = setting(
        "true", "endmembers to look for; true: as many as the truth has. Scenes without truth need a number"
    )
    budget: float | None = setting(
        None,
        "seconds that a method may take on a scene; when they are spent, further seeds are left out",
        unit="s",
        gt=0,
    )
    units: Literal["zhu", "hysupp"] = setting("zhu", "zhu: angles in rad, RMSE plain; hysupp: degrees, RMSE times 100")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")


@dataclass(frozen=True)
class _Task:
    """All turns of one method on one scene; runs in any process."""

    scene: LabelledScene
    method: str
    settings: dict[str, Any]
    library: xr.DataArray | None
    chosen: UnmixBenchSettings
    seed: int
    store: Store


def bench_unmixing(
    scenes: Sequence[LabelledScene | Place],
    *,
    methods: Sequence[str] | None = None,
    library: xr.DataArray | None = None,
    out: str | Path,
    seed: int = 0,
    jobs: int = 1,
    overwrite: bool = False,
    resume: bool = False,
    method_settings: Mapping[str, Mapping[str, Any]] | None = None,
    progress: Progress = no_progress,
    **settings: Any,
) -> Result:
    """Compare unmixing methods; writes tables (CSV, Markdown, LaTeX), a figure a scene and an HTML page.

    Parameters
    ----------
    scenes : sequence of LabelledScene or Place
        See `unmixing.scenes`; places are read one at a time.
    methods : sequence of str, optional
        Cards of the room; all by default, but for those that would repeat another (`LEFT_OUT`) and, without a GPU, those
        that take hours (`ON_GPU`).
    library : DataArray (spectrum, band), optional
        For methods that unmix with one, instead of the true endmembers.
    out : path
        Folder.
    seed : int
        Of the first repetition.
    jobs : int
        Processes; each runs one method on one scene at a time.
    overwrite, resume : bool
        What to do with a bench that the folder has: begin anew, or keep what it has measured under the same settings.
    method_settings : mapping of method to settings, optional
        Settings that are not the defaults; they stand in the report.
    **settings
        Fields of `UnmixBenchSettings`.

    Returns
    -------
    Result
        ``scores`` and ``scores-abundance`` (rows a scene and method: ``SAD``, ``RMSE`` of abundances divided by their
        sum, ``SRE`` [dB], ``RE`` in the scene's units, ``seconds``, ``memory [MB]``, each with mean and deviation over
        the seeds; a method that did not run has a ``note``), ``classes`` and ``classes-abundance`` (the same a class).
        The two kinds differ in how estimates are paired with the truth.

    Raises
    ------
    UnknownName, OutputExists, BadSettings
    BadInput
        No scene, or no method could be run.

    References
    ----------
    Zhu, arXiv 1708.05125 (2017). Rasti et al., IEEE TGRS 2024, doi 10.1109/TGRS.2024.3393570 (HySUPP).
    """
    chosen = UnmixBenchSettings.make(settings)
    if not scenes:
        raise BadInput("got no scene to compare methods on, expected at least one")
    if jobs < 1:
        raise BadSettings(f"got jobs={jobs}, expected at least 1")
    titles = [scene.name for scene in scenes]
    if len({plain_name(t) for t in titles}) != len(titles):
        raise BadSettings(f"got scenes named {', '.join(titles)}, expected names that differ")
    cards = [registry.card(ROOM, name) for name in methods] if methods else registry.methods(ROOM)
    skipped = {} if methods else _left_out(chosen.device)
    names = [card.name for card in cards if card.name not in skipped]
    special = {name: dict(values) for name, values in (method_settings or {}).items()}
    for name in special:
        if registry.card(ROOM, name).name not in names:
            raise BadSettings(f"got settings of {name}, which is not compared: add it to the methods")
    folder = bench_folder(out, overwrite=overwrite, resume=resume)
    seen: list[Seen] = []
    for number, place in enumerate(scenes):
        scene = load_scene(place) if isinstance(place, Place) else place
        store = _store(scene, library, chosen, folder, resume)
        tasks = [_Task(scene, n, special.get(n, {}), library, chosen, seed, store) for n in names]
        one = seen_of(scene)
        share, title = 1 / (len(names) * len(scenes)), scene.name

        def told(
            done: float, what: str, begun: float = number / len(scenes), share: float = share, title: str = title
        ) -> None:
            get_logger("bench").info("%s: %s", title, what)
            progress(Step(title, begun + done * share, what))

        for name, found in _run_all(tasks, jobs, told):
            one.measured[name] = found
        one.measured = {name: one.measured[name] for name in names}
        seen.append(one)
    for one in seen:
        one.given = {card.name: _given(card, library) for card in cards}
        one.asked = {name: 1 if name in SEEDLESS else chosen.seeds for name in one.measured}
    return write_comparison(seen, folder, chosen, seed, skipped)


def _given(card: registry.Card, library: xr.DataArray | None) -> str:
    """What a method was given besides the scene and the number of endmembers."""
    needs = any(str(need).startswith("library") for need in card.needs)
    return "" if not needs else "true spectra" if library is None else "library"


def _left_out(device: str) -> dict[str, str]:
    """Methods that are not run unless they are named, and why."""
    import torch

    if device == "cpu" or not torch.cuda.is_available():
        return LEFT_OUT | dict.fromkeys(ON_GPU, "it takes hours a seed without a GPU: name it to run it")
    return dict(LEFT_OUT)


def _store(
    scene: LabelledScene, library: xr.DataArray | None, chosen: UnmixBenchSettings, folder: Path, resume: bool
) -> Store:
    facts = chosen.model_dump(exclude={"seeds", "device", "budget"})
    key = key_of([scene.cube, scene.abundances, scene.endmembers, library], facts)
    return Store(folder / PARTS / plain_name(scene.name), keep=resume, key=key)


def _run_all(
    tasks: Sequence[_Task], jobs: int, told: Callable[[float, str], None]
) -> Iterator[tuple[str, list[Measured]]]:
    """Each method with its turns; `told` how many methods are done, after every seed (or method, in processes)."""
    if jobs == 1:
        for number, task in enumerate(tasks):

            def step(done: float, what: str, before: int = number) -> None:
                told(before + done, what)

            yield task.method, turns_of(task, step)
        return
    from concurrent.futures import ProcessPoolExecutor, as_completed
    from multiprocessing import get_context

    pool = ProcessPoolExecutor(min(jobs, len(tasks)), mp_context=get_context("spawn"), initializer=_one_thread)
    try:
        waiting = {pool.submit(turns_of, task): task.method for task in tasks}
        for number, done in enumerate(as_completed(waiting), start=1):
            told(number, waiting[done])
            yield waiting[done], done.result()
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _one_thread() -> None:
    import torch

    torch.set_num_threads(1)


def turns_of(task: _Task, told: Callable[[float, str], None] = lambda done, what: None) -> list[Measured]:
    """Measure a method with every seed; what was measured before is taken from the store."""
    seeds = 1 if task.method in SEEDLESS and not set(DRAWS) & task.settings.keys() else task.chosen.seeds
    began = time.perf_counter()
    found: list[Measured] = []
    for turn in range(seeds):
        key = f"{task.method}-{task.seed + turn}"
        known = task.store.get(key, task.settings)
        if known is None:
            spent = time.perf_counter() - began
            if task.chosen.budget is not None and found and spent > task.chosen.budget:
                break
            known = _measure(task, task.seed + turn)
            if turn:
                known = replace(known, picture=None, curve=None, error_map=None)
            task.store.put(key, task.settings, known)
        found.append(known)
        told((turn + 1) / seeds, f"{task.method}, seed {turn + 1} of {seeds}")
        if not known.figures:
            break
    return found


def _measure(task: _Task, seed: int) -> Measured:
    try:
        result = _unmixed(task, seed)
        return _scored(result, task.scene, task.chosen)
    except TorchspectralError as error:
        return Measured(error=f"{type(error).__name__}: {error}")


def _unmixed(task: _Task, seed: int) -> Result:
    """Endmembers and abundances by one method, whatever it needs for that."""
    scene, card, chosen = task.scene, registry.card(ROOM, task.method), task.chosen
    k = scene.k if chosen.k == "true" else int(chosen.k)
    options: dict[str, Any] = {"seed": seed, "device": chosen.device}
    fields = settings_of(task.method).model_fields
    given = {} if "k" in task.settings else {"k": k}
    if card.verb == "endmembers":
        if task.method == "polygons":
            raise BadInput("it needs drawn areas, which labelled scenes do not have")
        found = endmembers(scene.cube, _known(given), method=task.method, settings=task.settings, **options)
        shares = unmix(scene.cube, method="fcls", library=found["endmembers"], **options)
        seconds = found.report.seconds.get("total", 0.0) + shares.report.seconds.get("total", 0.0)
        found.report.seconds = {**found.report.seconds, "total": seconds}
        found.report.peak_memory = max(found.report.peak_memory, shares.report.peak_memory)
        values = {"endmembers": found["endmembers"], "abundances": shares["abundances"], "rmse": shares["rmse"]}
        return Result(values, found.report)
    if any(str(need).startswith("library") for need in card.needs):
        spectra = task.library if task.library is not None else scene.endmembers
        if spectra is None:
            raise BadInput("it needs a library and the scene has no true endmembers: give one (--library)")
        count = _known(given) if "k" in fields and "k" not in task.settings else None
        return unmix(scene.cube, count, method=task.method, library=spectra, settings=task.settings, **options)
    count = None if "k" in task.settings else _known(given)
    return unmix(scene.cube, count, method=task.method, settings=task.settings, **options)


def _known(given: Mapping[str, Any]) -> Any:
    if "k" in given and given["k"] is None:
        raise BadInput("the scene has no truth that says how many endmembers there are: set k (--set k=4)")
    return given.get("k", "auto")


def _scored(result: Result, scene: LabelledScene, chosen: UnmixBenchSettings) -> Measured:
    """Figures under both matchings; maps and spectra in the truth's order for the picture."""
    cube = scene.cube.isel(band=good_bands(scene.cube))
    shown = _on_all_bands(result["endmembers"], scene.cube)
    spectra = shown[:, good_bands(scene.cube)]
    maps = np.asarray(result["abundances"].values, dtype=np.float64)
    pixels = np.asarray(cube.values, dtype=np.float64)
    bands = np.isfinite(spectra).all(0)
    valid = np.isfinite(maps).all(0) & np.isfinite(pixels[bands]).all(0)
    if not valid.any():
        raise BadInput("no pixel has abundances and data")
    figures: dict[str, float] = {}
    found = Measured(report=result.report.as_dict())
    left = reconstruction_error(pixels[bands][:, valid], spectra[:, bands], maps[:, valid])
    degrees, percent = (180 / math.pi, 100.0) if chosen.units == "hysupp" else (1.0, 1.0)
    found.picture, found.curve = maps.astype(np.float32), shown
    found.error_map = np.asarray(result["rmse"].values, dtype=np.float32).reshape(maps.shape[1:])
    if scene.abundances is None or scene.endmembers is None:
        figures["RE"] = left
        found.figures = [figures | cost(result.report)]
        return found
    truth = np.asarray(scene.endmembers.isel(band=good_bands(scene.cube)).values, dtype=np.float64)
    true_maps = np.asarray(scene.abundances.values, dtype=np.float64)
    valid &= np.isfinite(true_maps).all(0)
    for matching in MATCHINGS.values():
        given = score(spectra, maps[:, valid], truth, true_maps[:, valid], matching=matching, names=scene.names)
        figures |= {
            f"{matching}|SAD": given.figures["mean_angle"] * degrees,
            f"{matching}|RMSE": given.figures["rmse"] * percent,
            f"{matching}|SRE [dB]": given.figures["sre"],
        }
        for name in scene.names:
            figures[f"{matching}|{name}|SAD"] = given.angle.get(name, math.nan) * degrees
            figures[f"{matching}|{name}|RMSE"] = given.rmse.get(name, math.nan) * percent
        if matching == "angle":
            found.picture, found.curve = _aligned(maps, shown, given.pairs, len(scene.names))
            found.bands = {f"unmatched {kind}": which for kind, which in given.unmatched.items() if which}
    figures["RE"] = left
    found.figures = [figures | cost(result.report)]
    return found


def _on_all_bands(spectra: xr.DataArray, cube: xr.DataArray) -> np.ndarray:
    """Spectra (spectrum, band) on the cube's bands; NaN in those that the method left out."""
    values = np.asarray(spectra.values, dtype=np.float64)
    if values.shape[1] == cube.sizes["band"]:
        return values
    here, there = (np.asarray(a["wavelength"].values, dtype=np.float64) for a in (spectra, cube))
    place = np.abs(here[:, None] - there).argmin(1)
    if not np.isfinite(here).all() or np.unique(place).size != here.size:
        raise BadInput(f"got endmembers of {here.size} bands, expected the scene's {there.size} or wavelengths of them")
    out = np.full((len(values), there.size), np.nan)
    out[:, place] = values
    return out


def _aligned(
    maps: np.ndarray, spectra: np.ndarray, pairs: Sequence[tuple[int, int]], k: int
) -> tuple[np.ndarray, np.ndarray]:
    total = np.nansum(maps, axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        scaled = maps / np.where(total > 0, total, np.nan)
    ordered, lines = np.full((k, *maps.shape[1:]), np.nan, np.float32), np.full((k, spectra.shape[1]), np.nan)
    for mine, true in pairs:
        ordered[true], lines[true] = scaled[mine], spectra[mine]
    return ordered, lines
