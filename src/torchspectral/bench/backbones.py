"""Backbones compared on labelled patch sets: the downstream sets of SpectralEarth, and GFM-Bench.

Every backbone is tuned as a user would tune it (`train classify`), over several seeds, and measured on the published test
part (the held-out part where a set has none). A suite's sets are the folders of the data folder that have their names;
sets that are not there are told, and further patch sets in the folder (generated ones, say) are measured too. What others
have published stands in tables of its own columns; it was measured on the whole sets, by their authors' settings.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from typing import Any

from torchspectral.bench.backbone_sets import (
    FIGURES,
    TEST,
    find_sets,
    learning,
    scenes_of,
    score_set,
    task_of,
    test_part,
)
from torchspectral.bench.backbone_tables import beside, counted, cross_rows, published, tail
from torchspectral.bench.shared import bench_folder, plain_name, rows_of, write_tables
from torchspectral.bench.store import Measured, Store
from torchspectral.errors import BadInput, BadSettings, TorchspectralError, UnknownName, closest
from torchspectral.learn.patch_sets import PatchSet, open_patch_set
from torchspectral.learn.splits import TRAIN
from torchspectral.log import Progress, Step, no_progress
from torchspectral.report.files import write_whole
from torchspectral.result import Report, Result
from torchspectral.settings import Settings, setting

PARTS, RUNS = "parts", "runs"
SUITES = ("spectralearth", "gfm-bench")
TUNINGS = ("frozen", "linear", "knn", "full", "lora", "adapter")


class BackboneBenchSettings(Settings):
    """Settings of the bench of backbones."""

    seeds: int = setting(3, "repetitions with other seeds; figures are then mean and deviation", ge=1)
    tuning: tuple[str, ...] = setting(("frozen", "linear", "knn", "full"), "ways of tuning")
    cross_spectral: bool = setting(
        False, "also train on 120 of 202 bands (or their share) and test on other bands; sets with labels of pixels"
    )
    cross_patches: int = setting(
        64, "most patches that the cross-spectral protocol trains on, and tests on: they are held in memory", ge=2
    )
    keep_runs: bool = setting(False, "keep the folder of each training, with its weights")
    device: str = setting("auto", "auto, cpu, cuda or cuda:N")


@dataclass(frozen=True)
class Contender:
    """A backbone and what it begins from: weights, or "random"."""

    name: str
    backbone: str
    initial: str

    @classmethod
    def of(cls, text: str) -> Contender:
        """``NAME`` takes the only weights on the machine, ``NAME=random`` none, ``NAME=FILE`` these."""
        backbone, _, initial = text.partition("=")
        if not backbone:
            raise BadSettings(f"got the backbone {text!r}, expected NAME, NAME=random or NAME=WEIGHTS")
        return cls(f"{backbone} ({Path(initial).name})" if initial else backbone, backbone, initial)


def bench_backbones(
    data: str | Path,
    *,
    suite: str = "spectralearth",
    backbones: Sequence[str] = ("spec-vit-s", "spec-vit-s=random"),
    sets: Sequence[str] = (),
    out: str | Path,
    seed: int = 0,
    overwrite: bool = False,
    resume: bool = False,
    training: Mapping[str, Any] | None = None,
    progress: Progress = no_progress,
    **settings: Any,
) -> Result:
    """Tune backbones on labelled patch sets; writes tables (CSV, Markdown, LaTeX).

    Parameters
    ----------
    data : path
        Folder with a folder for each set, or one patch set.
    suite : {"spectralearth", "gfm-bench"}
        Whose sets are looked for, and whose published figures stand beside.
    backbones : sequence of str
        ``NAME`` (with the only weights on the machine), ``NAME=random``, ``NAME=FILE|RUN|NAME``.
    sets : sequence of str
        Names of some sets; by default all that are there.
    out : path
        Folder.
    seed : int
        Of the first repetition.
    overwrite, resume : bool
        What to do with a bench that the folder has: begin anew, or keep what it has measured under the same settings.
    training : mapping, optional
        Settings of the tuning (steps, batch, learning_rate, ..); ``epochs`` too. By default 100 epochs, the published
        protocol of SpectralEarth, or 20, that of GFM-Bench.
    **settings
        Fields of `BackboneBenchSettings`.

    Returns
    -------
    Result
        ``scores``: for each set the rows (a backbone and tuning; figures with mean and deviation over the seeds, seconds,
        parameters that learn; those that could not be run have a ``note``); ``missing``: sets that are not there, and why;
        ``cross-spectral``: rows a set, backbone, set of bands and way, where asked for.

    Raises
    ------
    UnknownName, BadSettings, OutputExists
    BadInput
        No set is there.

    References
    ----------
    Braham et al., "SpectralEarth", IEEE JSTARS (2025). Si et al., arXiv 2503.12843 (GFM-Bench). "LESSViT", arXiv 2605.18541
    (bands that change).
    """
    chosen = BackboneBenchSettings.make(settings)
    for way in chosen.tuning:
        if way not in TUNINGS:
            raise UnknownName(f"no tuning {way!r}: {closest(way, TUNINGS)}")
    if suite not in SUITES:
        raise UnknownName(f"no suite {suite!r}: {closest(suite, SUITES)}")
    contenders = [Contender.of(text) for text in backbones]
    if not contenders:
        raise BadSettings("got no backbone to compare, expected at least one")
    folder = bench_folder(out, overwrite=overwrite, resume=resume)
    said = published(suite)
    found, missing = find_sets(Path(data), list(said["sets"]), sets)
    if not found:
        raise BadInput(
            f"{data} has none of the sets of {suite} ({', '.join(said['sets'])}) and no other patch set: each is a folder "
            "of its name, see `torchspectral simulate patches` for small ones to try"
        )
    bench = _Bench(folder, chosen, dict(training or {}), suite, seed, resume, progress)
    for number, (name, path) in enumerate(found.items()):
        bench.measure(name, path, contenders, number / len(found), 1 / len(found))
    return bench.write(said, missing)


class _Bench:
    """One bench: what it has measured so far."""

    def __init__(
        self,
        folder: Path,
        settings: BackboneBenchSettings,
        training: dict[str, Any],
        suite: str,
        seed: int,
        resume: bool,
        progress: Progress,
    ) -> None:
        self.folder, self.settings, self.suite, self.seed = folder, settings, suite, seed
        self.resume, self.progress = resume, progress
        self.epochs = training.pop("epochs", None)
        if self.epochs is None and "steps" not in training:
            self.epochs = 100 if suite == "spectralearth" else 20
        self.training = training
        self.tasks: dict[str, str] = {}
        self.counts: dict[str, dict[str, int]] = {}
        self.measured: dict[str, dict[str, list[Measured]]] = {}
        self.cross: list[dict[str, Any]] = []
        self.notes: list[str] = []

    def measure(self, name: str, path: Path, contenders: Sequence[Contender], done: float, share: float) -> None:
        """All backbones and tunings on one set."""
        rows: dict[str, list[Measured]] = {}
        self.measured[name] = rows
        try:
            patches = open_patch_set(path, broken=str(self.training.get("broken", "refuse")))
            task = task_of(patches)
        except TorchspectralError as error:
            self.notes.append(f"{name}: {type(error).__name__}: {error}")
            del self.measured[name]
            return
        self.tasks[name] = task
        part = test_part(patches)
        self.counts[name] = {"train": patches.count(TRAIN), part: patches.count(part)}
        if part != TEST:
            self.notes.append(f"{name} has no test part: its held-out part is measured on")
        store = Store(self.folder / PARTS / plain_name(name), keep=self.resume, key=self._key(patches))
        turns = [(c, way) for c in contenders for way in self.settings.tuning]
        for number, (contender, way) in enumerate(turns):
            title = f"{contender.name}, {way}"
            self.progress(Step(f"{name} {title}", done + share * number / len(turns)))
            rows[title] = []
            for turn in range(self.settings.seeds):
                rows[title].append(self._turn(store, patches, task, contender, way, self.seed + turn))
                if not rows[title][-1].figures:
                    break
        if self.settings.cross_spectral:
            for contender in contenders:
                self._cross(name, patches, task, contender, store)
        self.progress(Step(name, done + share))

    def _key(self, patches: PatchSet) -> str:
        return json.dumps(
            [patches.fingerprint(), patches.kind, self.epochs, self.training], sort_keys=True, default=str
        )

    def _options(self, contender: Contender, task: str, way: str) -> dict[str, Any]:
        return {
            **self.training,
            "backbone": contender.backbone,
            "initial": contender.initial,
            "tuning": way,
            "task": task,
        }

    def _turn(self, store: Store, patches: PatchSet, task: str, contender: Contender, way: str, seed: int) -> Measured:
        options = self._options(contender, task, way)
        key = plain_name(f"{contender.name}-{way}-{seed}")
        known = store.get(key, options)
        if known is not None:
            return known
        run = self.folder / RUNS / plain_name(patches.path.name) / key
        try:
            found = self._tuned(patches, task, options, run, seed)
        except TorchspectralError as error:
            found = Measured(error=f"{type(error).__name__}: {error}")
        store.put(key, options, found)
        if not self.settings.keep_runs:
            _remove(run)
        return found

    def _tuned(self, patches: PatchSet, task: str, options: dict[str, Any], run: Path, seed: int) -> Measured:
        from torchspectral.learn.train import train

        begun = perf_counter()
        made = train(
            "classify", "backbone", patches.path, out=run, settings=options, epochs=self.epochs, seed=seed,
            device=self.settings.device, overwrite=True,
        )  # fmt: skip
        trained = perf_counter()
        figures = score_set(made["network"], patches, task)
        learns = learning(made["network"], str(options["tuning"]))
        report = made.report.as_dict()
        return Measured([{**figures, "learning [1e3]": learns / 1e3, "seconds": trained - begun}], report)

    def _cross(self, name: str, patches: PatchSet, task: str, contender: Contender, store: Store) -> None:
        """Training on some bands, test on others."""
        from torchspectral.classification.protocol import cross_spectral

        if task != "pixels":
            self.notes.append(f"{name}: no cross-spectral rows, which need labels of pixels")
            return
        scenes = [scenes_of(patches, part, self.settings.cross_patches) for part in (TRAIN, test_part(patches))]
        way = self.settings.tuning[0]
        options = {**self._options(contender, task, way), "initial": contender.initial}
        if self.epochs is not None:
            batch = int(options.get("batch", 8))
            options["steps"] = max(self.epochs * len(scenes[0]) // batch, 1)
        for turn in range(self.settings.seeds):
            key = plain_name(f"cross-{contender.name}-{self.seed + turn}")
            known = store.get(key, options)
            if known is None:
                run = self.folder / RUNS / plain_name(name) / key
                try:
                    _remove(run)
                    table = cross_spectral(
                        *scenes, settings=options, out=run, seed=self.seed + turn,
                        device="cpu" if self.settings.device == "auto" else self.settings.device,
                    )  # fmt: skip
                    known = Measured(table.to_dict("records"))
                except TorchspectralError as error:
                    known = Measured(error=f"{type(error).__name__}: {error}")
                store.put(key, options, known)
                if not self.settings.keep_runs:
                    _remove(run)
            row: dict[str, Any] = {"set": name, "backbone": contender.name, "seed": self.seed + turn}
            if known.error:
                self.notes.append(f"{name}, {contender.name}, cross-spectral: {known.error}")
                return
            self.cross += [{**row, **found} for found in known.figures]

    def write(self, said: dict[str, Any], missing: dict[str, str]) -> Result:
        """Tables of every set, of all sets, and of the cross-spectral protocol."""
        reports: list[Report] = []
        failed: dict[str, str] = {}
        scores: list[dict[str, Any]] = []
        paths: dict[str, str] = {}
        for name, measured in self.measured.items():
            mine: dict[str, str] = {}
            rows = rows_of(measured, reports, mine)
            failed |= {f"{name}, {row}": why for row, why in mine.items()}
            facts = said["sets"].get(name, {})
            rows = [{**row, **beside(facts, str(row["method"]))} for row in rows]
            caption = f"{name}: {self.tasks[name]}, {counted(self.counts[name])}, {self.settings.seeds} seeds"
            paths |= write_tables(self.folder, f"set-{plain_name(name)}", rows, caption=caption)
            main = str(facts.get("main") or FIGURES[self.tasks[name]][0])
            scores += [
                {"set": name, "method": row["method"], "figure": main, "value": row.get(main), **tail(row, facts)}
                for row in rows
            ]
        if not scores:
            raise BadInput("no set could be opened: " + "; ".join(self.notes))
        paths |= write_tables(self.folder, "scores", scores, caption=f"{self.suite}: main figure of each set")
        cross = cross_rows(self.cross, said.get("cross_spectral", {}))
        if cross:
            caption = "Bands that change: trained on the first set of bands, tested on all; micro IoU, drop in percent"
            paths |= write_tables(self.folder, "cross-spectral", cross, caption=caption)
        told = [{"set": name, "why": why} for name, why in missing.items()]
        if told:
            paths |= write_tables(self.folder, "missing", told, caption=f"Sets of {self.suite} that are not there")
        write_whole(
            self.folder / "runs.json", json.dumps([r.as_dict() for r in reports], indent=1, default=str).encode()
        )
        report = Report(
            method=f"bench/backbones ({self.suite})",
            settings={**self.settings.model_dump(mode="json"), "training": self.training, "epochs": self.epochs},
            seed=self.seed,
            notes=[f"published: {said['source']}; percent, on whole sets", *self.notes],
        )
        report.notes += [f"{name} is missing: {why}" for name, why in missing.items()]
        report.notes += [f"{name} was not measured: {why}" for name, why in failed.items()]
        report.figures = {"sets": list(self.measured), "missing": list(missing)}
        return Result({"scores": scores, "missing": told, "cross-spectral": cross}, report, paths)


def _remove(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
