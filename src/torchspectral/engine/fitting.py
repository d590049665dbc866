"""The working scale and `fit`: passes before `apply`, journaled round by round."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from torchspectral.engine import scaling
from torchspectral.engine.method import State
from torchspectral.engine.source import EngineSource
from torchspectral.engine.states import load_state, save_state, to_device
from torchspectral.log import Step

if TYPE_CHECKING:
    from torchspectral.engine.job import Job

ROUND_SECONDS = 2.0
"""Least time between two rounds of `fit`, or states of frames, that are journaled [s]."""


def find_scale(job: Job) -> tuple[Any, Any]:
    """Settle the working scale of every role; gain and offset of the lead.

    Raises
    ------
    BadInput, BadSettings
    """
    rule = job.method.scale
    statistics: dict[str, Any] | None = None
    if scaling.needs_statistics(rule):
        with job.timed("scale"):
            lead = job.scene.lead.name
            names = [n for n, r in job.scene.roles.items() if (n == lead or n in rule.own) and not r.labels]
            stage = scaling.StatisticsStage(replace(job.scene, halo=0), names)
            items = [(frame, cut) for frame in range(job.frames) for cut in job.plan.fit]
            for number, part in enumerate(job.workers.run(stage, items)):
                statistics = scaling.merge_statistics(statistics, part)
                job.progress(Step("scale", (number + 1) / len(items)))
    count = job.inputs.lead.sizes["band"]
    numbers = scaling.numbers_of(rule, job.scene, job.inputs.bands, count, statistics)
    scaling.apply_scale(job.scene.roles, numbers)
    found = numbers[job.scene.lead.name]
    for name, spectra in job.scene.spectra.items():
        gain, offset = (np.asarray(n, dtype=spectra.dtype) for n in found)
        job.scene.spectra[name] = (spectra - offset) / gain
    scaling.describe(rule, numbers, job.method.outputs, job.report)
    return found


def fit(job: Job) -> State:
    """What the method learns from the scene, on the CPU; the given state where it does not fit."""
    if not job.fits:
        return to_device(job.given_state or {}, "cpu")
    import torch

    assert job.workspace is not None
    source = EngineSource(
        replace(job.scene, mapped={}),
        job.plan.fit,
        job.workers,
        job.workspace,
        seed=job.options.seed,
        device=job.device,
        frames=job.frames,
        multiple=job.method.multiple,
        limit=job.limit,
        progress=job.progress,
    )
    state, done = _last_round(job, source)
    if not done:
        start = job.given_state if state is None else state
        cuda = [torch.device(job.device).index or 0] if job.device.startswith("cuda") else []
        with job.timed("fit"), torch.random.fork_rng(devices=cuda):
            torch.manual_seed(job.options.seed)
            given = None if start is None else to_device(start, job.device)
            found = job.method.fit(source, job.options.seed, given)
            learned = found if isinstance(found, Mapping) else _rounds(job, found, source)
        state = to_device(dict(learned or {}), "cpu")
        _journal(job, source, state, done=True)
    job.scene.mapped = source.scene.mapped
    return dict(state or {})


def _rounds(job: Job, rounds: Iterable[tuple[State, float]], source: EngineSource) -> State:
    """Drive a long fit, journaling a round now and then."""
    state: State = {}
    written = time.monotonic()
    for state, fraction in rounds:
        job.progress(Step("fit", min(max(float(fraction), 0.0), 1.0)))
        if job.journal is not None and time.monotonic() - written >= ROUND_SECONDS:
            _journal(job, source, state, done=False)
            written = time.monotonic()
    return state


def _journal(job: Job, source: EngineSource, state: State, *, done: bool) -> None:
    if job.journal is None:
        return
    number = len(job.journal.of("round")) + 1
    name = f"round-{number}.state"
    save_state(job.journal.folder / name, state)
    job.journal.add("round", state=name, done=done, **source.snapshot())
    source.commit()
    (job.journal.folder / f"round-{number - 1}.state").unlink(missing_ok=True)


def _last_round(job: Job, source: EngineSource) -> tuple[State | None, bool]:
    rounds = job.journal.of("round") if job.journal else []
    if not rounds or job.journal is None:
        return None, False
    state = load_state(job.journal.folder / rounds[-1]["state"])
    source.restore(rounds[-1])
    return state, bool(rounds[-1]["done"])
