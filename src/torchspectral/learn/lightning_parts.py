"""The Lightning module and callback of a training; imported only when one runs.

Lightning brings devices, precision and gradient clipping. Steps, checkpoints, order of samples and random numbers are
ours, because a run must resume bit for bit in the middle of an epoch.
"""

from __future__ import annotations

import math
import random
import signal
import threading
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch

from torchspectral.errors import BadInput
from torchspectral.learn.losses.gather import alone, mean_over_processes
from torchspectral.learn.patches import PatchStore
from torchspectral.learn.recipe import Recipe
from torchspectral.learn.runs import BEST, LAST, SPEED, Run
from torchspectral.learn.sampling import held_out_loader, seed_of, training_loader
from torchspectral.learn.speed import Speed
from torchspectral.learn.sync_norm import share_statistics
from torchspectral.log import Progress, Step, no_progress

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class TrainingModule(pl.LightningModule):
    """A network with its recipe.

    Parameters
    ----------
    recipe : Recipe
    network : torch.nn.Module or None
        None: it is built in the process that trains it.
    store : PatchStore
    seed : int
    start : dict or None
        The checkpoint to go on from.
    stop : int
        Number of the last step.
    shared : bool
        Batch normalisation is that of all processes.
    """

    def __init__(
        self,
        recipe: Recipe,
        network: torch.nn.Module | None,
        store: PatchStore,
        *,
        seed: int,
        start: dict[str, Any] | None,
        stop: int,
        shared: bool = False,
    ) -> None:
        super().__init__()
        self.recipe, self.store, self.seed, self.shared = recipe, store, seed, shared
        self.network: Any = network
        self.start = start or {}
        self.first = int(self.start.get("step", 0))
        self.stop = stop
        self.done = self.first
        self.sum = torch.tensor(float(self.start.get("loss_sum", 0.0)), dtype=torch.float64)
        self.since = int(self.start.get("loss_count", 0))
        self.plan: Any = None
        self.parts = 0

    @property
    def between_steps(self) -> bool:
        """Whether the batch that was worked off last completed an optimiser step."""
        return self.parts == 0

    def configure_model(self) -> None:
        """Build the network where this process has none, on the CPU, as one process would."""
        if self.network is None:
            dtype = torch.get_default_dtype()
            torch.set_default_dtype(torch.float32)
            with torch.device("cpu"):
                network = fresh_network(self.recipe, self.seed, self.start)
            torch.set_default_dtype(dtype)
            if self.shared:
                network = share_statistics(network, accelerator=self.trainer.strategy.root_device.type == "cuda")
            self.network = network

    def configure_optimizers(self) -> Any:
        """The recipe's optimiser and schedule, with the state of the checkpoint."""
        optimiser = self.recipe.optimiser_of(self.network)
        self.plan = self.recipe.schedule(optimiser)
        if "optimiser" in self.start:
            optimiser.load_state_dict(self.start["optimiser"])
        if self.plan is None:
            return optimiser
        if self.start.get("schedule"):
            self.plan.load_state_dict(self.start["schedule"])
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": self.plan, "interval": "step"}}

    def train_dataloader(self) -> Any:
        """Batches that are still to come."""
        return training_loader(
            self.store, self.recipe, self.seed, self.first, self.stop, self.global_rank, self.trainer.world_size
        )

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        """Seed everything that this step may draw."""
        number = seed_of(self.seed, self.done * self.recipe.settings.accumulate + self.parts, self.global_rank)
        torch.manual_seed(number)
        np.random.seed(number % 2**32)  # noqa: NPY002  networks of others may draw from it
        random.seed(number)
        self.recipe.begin_step(self.done)

    def training_step(self, batch: dict[str, torch.Tensor], batch_idx: int) -> torch.Tensor:
        """Loss of one batch."""
        loss = self.recipe.loss(self.network, batch)
        self.sum = self.sum.to(loss.device) + loss.detach().double()
        self.since += 1
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Let the recipe see the gradients and the optimiser's groups."""
        self.recipe.before_update(self.network, optimizer, self.done)

    def checkpoint(self, best: float | None) -> dict[str, Any]:
        """Everything that the next step depends on."""
        optimiser: Any = self.optimizers(use_pl_optimizer=False)
        return {
            "step": self.done,
            "model": self.network.state_dict(),
            "optimiser": optimiser.state_dict(),
            "schedule": self.plan.state_dict() if self.plan is not None else {},
            "scaler": self.trainer.precision_plugin.state_dict(),
            "loss_sum": float(self.sum),
            "loss_count": self.since,
            "best": best,
        }


def fresh_network(recipe: Recipe, seed: int, start: dict[str, Any] | None) -> torch.nn.Module:
    """The recipe's network with first weights that follow from the seed, or with those of a checkpoint."""
    torch.manual_seed(seed)
    network = recipe.build()
    if start:
        network.load_state_dict(start["model"])
    return network


class Counter(pl.Callback):
    """Counts optimiser steps and tells the recipe of each; the first of the callbacks."""

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Count a batch, and a step where it was its last part."""
        module.parts = (module.parts + 1) % module.recipe.settings.accumulate
        if module.between_steps:
            module.done += 1
            module.recipe.after_step(module.network, module.done)


class Keeper(pl.Callback):
    """Validates, keeps checkpoints and curves, reports progress, stops cleanly on a signal.

    Parameters
    ----------
    run : Run
    best : float or None
        Best value of the monitored figure so far.
    progress : callable
    """

    def __init__(self, run: Run, best: float | None, progress: Progress) -> None:
        self.run, self.best, self.progress = run, best, progress
        self.asked = False
        self.figures: dict[str, float] = {}
        self.speed = Speed()

    def __getstate__(self) -> dict[str, Any]:
        # A progress bar stays with the process that shows it.
        return {**self.__dict__, "progress": no_progress}

    def ask(self, *_: Any) -> None:
        """Stop after this step; a second signal stops at once."""
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True

    def on_train_start(self, trainer: pl.Trainer, module: Any) -> None:
        """Restore the scaler; take the signals, which Lightning has taken for itself just before."""
        self.speed.start(module.device)
        self.figures = dict(module.start.get("figures", {}))
        if module.start.get("scaler"):
            trainer.precision_plugin.load_state_dict(module.start["scaler"])
        if threading.current_thread() is threading.main_thread():
            for number in SIGNALS:
                signal.signal(number, self.ask)

    def on_train_batch_end(self, trainer: pl.Trainer, module: Any, *_: Any) -> None:
        """Validate and keep where it is time."""
        if not module.between_steps:
            return
        self.speed.count(module.recipe.settings.batch)
        s, step, last = module.recipe.settings, module.done, module.done >= module.stop
        if step % 10 == 0 or last:
            self._check_loss(module)
            detail = f"step {step}, loss {float(module.sum) / max(module.since, 1):.4g}"
            if trainer.is_global_zero:
                self.progress(Step("train", step / module.stop, detail))
        stop = self.asked
        if trainer.world_size > 1:
            stop = trainer.strategy.reduce_boolean_decision(stop, all=False)
        judged, kept = step % s.validate_every == 0 or last, step % s.checkpoint_every == 0 or last or stop
        if judged or kept:
            module.sum = mean_over_processes(module.sum)
        if judged:
            if trainer.is_global_zero:
                self.run.add_row({"step": step, **self.speed.figures()}, SPEED)
                with alone():
                    self._validate(trainer, module)
            module.sum = torch.zeros_like(module.sum)
            module.since = 0
            self.speed.start(module.device)
        if kept and trainer.is_global_zero:
            self.run.save_checkpoint(LAST, {**module.checkpoint(self.best), "figures": self.figures})
            self.speed.start(module.device)
        if stop:
            trainer.should_stop = True

    def _check_loss(self, module: Any) -> None:
        if not math.isfinite(float(module.sum)):
            raise BadInput(
                f"the loss is not finite at step {module.done}: lower learning_rate, set clip, or look at the "
                "scale of the scenes"
            )

    def _validate(self, trainer: pl.Trainer, module: Any) -> None:
        figures = validate(module.recipe, module.network, module.store, module.device, trainer.precision_plugin)
        optimiser: Any = module.optimizers(use_pl_optimizer=False)
        row = {
            "step": module.done,
            "train_loss": float(module.sum) / max(module.since, 1),
            **{f"held_out_{name}": value for name, value in figures.items()},
            "learning_rate": float(optimiser.param_groups[0]["lr"]),
            **module.recipe.scheduled(module.done),
        }
        self.run.add_row(row)
        self.figures = figures
        value = float(figures[module.recipe.monitor])
        sign = -1 if module.recipe.mode == "max" else 1
        if math.isfinite(value) and (self.best is None or sign * value < sign * self.best):
            self.best = value
            if module.recipe.exports == "best":
                kept = {"step": module.done, "model": module.network.state_dict(), "figures": figures}
                self.run.save_checkpoint(BEST, kept)


def validate(
    recipe: Recipe, network: torch.nn.Module, store: PatchStore, device: Any, precision: Any
) -> dict[str, float]:
    """Mean figures over the held-out patches, in the precision of the training."""
    totals: dict[str, float] = {}
    count = 0
    training = network.training
    network.eval()
    with torch.no_grad(), precision.forward_context():
        for batch in held_out_loader(store, recipe):
            size = next(iter(batch.values())).shape[0]
            moved = {role: precision.convert_input(t.to(device)) for role, t in batch.items()}
            figures = recipe.validate(network, moved)
            for name, value in figures.items():
                totals[name] = totals.get(name, 0.0) + float(value) * size
            count += size
    network.train(training)
    means = {name: total / count for name, total in totals.items()}
    if recipe.monitor not in means:
        raise BadInput(f"the recipe of {recipe.method} monitors {recipe.monitor!r}, expected one of {', '.join(means)}")
    return means
