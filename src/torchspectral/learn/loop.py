"""The training loop: from a recipe and a patch store to the last and best checkpoints of a run."""

from __future__ import annotations

import logging
import random
import signal
import threading
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

from torchspectral.engine.device import parse_device
from torchspectral.errors import BadSettings, Interrupted
from torchspectral.learn.patches import PatchStore
from torchspectral.learn.recipe import Recipe
from torchspectral.learn.runs import LAST, Run, missing_lightning
from torchspectral.log import Progress

PRECISION = {"32": "32-true", "64": "64-true"}


def train_network(
    recipe: Recipe,
    store: PatchStore,
    run: Run,
    *,
    seed: int,
    device: str = "auto",
    devices: int = 1,
    progress: Progress,
    resume_command: str,
) -> None:
    """Train until the recipe's number of steps, from the last checkpoint where there is one.

    On the CPU the result is the same, bit for bit, whether the run was stopped in between or not: order of samples,
    augmentation and the random numbers of each step follow from (seed, epoch, step).

    Parameters
    ----------
    recipe : Recipe
    store : PatchStore
    run : Run
        Its checkpoints are read and written.
    seed : int
    device : {"auto", "cpu", "cuda", "cuda:N"}
    devices : int
        Number of processes, each with one device (or one CPU thread); a batch is shared among them.
    progress : callable
    resume_command : str
        For the message when a signal stops the run.

    Raises
    ------
    Interrupted
        SIGINT or SIGTERM: the step was finished and a checkpoint written.
    BadSettings, BadInput, BadWeights, MissingDependency, OutputFailed
    """
    try:
        import lightning.pytorch as pl
        from lightning.pytorch.strategies import DDPStrategy

        from torchspectral.learn.lightning_parts import SIGNALS, Counter, Keeper, TrainingModule, fresh_network
    except ModuleNotFoundError as error:
        raise missing_lightning(error) from error
    s = recipe.settings
    if devices < 1 or s.batch % (devices * s.accumulate):
        parts = f" in {s.accumulate} parts" if s.accumulate > 1 else ""
        raise BadSettings(
            f"got {devices} devices for batches of {s.batch}{parts}, expected a number that divides the batch"
        )
    target = parse_device(device)
    if s.precision == "16-mixed" and target.type == "cpu":
        raise BadSettings("got precision fp16 on the CPU, expected bf16 or float32 there")
    start = run.load_checkpoint(LAST)
    if start is not None and start["step"] >= s.steps:
        return
    run.cut_rows(start["step"] if start else 0)
    with own_random_numbers(), _quiet():
        shared = devices > 1 and recipe.sync_norm
        built = fresh_network(recipe, seed, start)
        # Each of several processes builds its own: not every module can be sent, and large ones need not be.
        network = built if devices == 1 else None
        del built
        best = start.get("best") if start else None
        module = TrainingModule(recipe, network, store, seed=seed, start=start, stop=s.steps, shared=shared)
        keeper = Keeper(run, best, progress)
        watchers: list[pl.Callback] = []
        if s.monitor_every:
            from torchspectral.learn.monitor import run_monitor

            watchers.append(run_monitor(recipe, store, run))
        trainer = pl.Trainer(
            max_steps=s.steps - module.first,
            max_epochs=-1,
            accelerator="gpu" if target.type == "cuda" else "cpu",
            devices=[target.index or 0] if target.type == "cuda" and devices == 1 else devices,
            strategy="auto" if devices == 1 else DDPStrategy(start_method="spawn", broadcast_buffers=not shared),
            accumulate_grad_batches=s.accumulate,
            precision=PRECISION.get(s.precision, s.precision),
            gradient_clip_val=s.clip or None,
            callbacks=[Counter(), *watchers, keeper],
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            use_distributed_sampler=False,
            num_sanity_val_steps=0,
            barebones=False,
            default_root_dir=str(run.path),
            deterministic="warn" if target.type == "cuda" else None,
        )
        try:
            with _signals(SIGNALS, keeper.ask):
                trainer.fit(module)
        except KeyboardInterrupt:
            raise Interrupted(_stopped(run, s.steps, resume_command)) from None
    reached = run.load_checkpoint(LAST)
    if reached is None or reached["step"] < s.steps:
        raise Interrupted(_stopped(run, s.steps, resume_command))


def _stopped(run: Run, steps: int, resume_command: str) -> str:
    last = run.load_checkpoint(LAST)
    step = last["step"] if last else 0
    return f"training was stopped; {step} of {steps} steps are kept in {run.path}: continue with `{resume_command}`"


@contextmanager
def _signals(numbers: tuple[signal.Signals, ...], ask: Callable[..., None]) -> Iterator[None]:
    """Let signals ask for a stop after the running step, and give them back afterwards."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, ask) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def own_random_numbers() -> Iterator[None]:
    """Leave the caller's random numbers as they were."""
    import torch

    kept = (torch.get_rng_state(), np.random.get_state(), random.getstate())  # noqa: NPY002
    deterministic = torch.are_deterministic_algorithms_enabled()
    try:
        yield
    finally:
        torch.set_rng_state(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        random.setstate(kept[2])
        torch.use_deterministic_algorithms(deterministic)


@contextmanager
def _quiet() -> Iterator[None]:
    """Lightning tells hints on the console; a library does not."""
    loggers = [logging.getLogger(name) for name in ("lightning", "lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module="lightning.*")
            warnings.filterwarnings("ignore", message=".*`?lr_scheduler.step.*")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
