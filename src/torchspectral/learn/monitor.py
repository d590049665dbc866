"""What embeddings become while a network is trained: a callback for any Lightning training, and for our own loop.

The same samples are embedded every few epochs, and the measures of `metrics.representation` are written with the step.
A look costs one forward pass of the samples and eigenvalue problems of their number (`benchmarks/representation.py`
measures both). A step costs about three forward passes, so a run of ours looks no more often than keeps the first below
4 % of the training; the second is a fraction of a second at 1000 samples. The column ``overhead`` holds what each look
cost of the time since the one before, and a share above 5 % is logged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import nullcontext
from pathlib import Path
from time import perf_counter
from typing import Any
from uuid import uuid4

import lightning.pytorch as pl
import numpy as np
import torch

from torchspectral.errors import BadInput, BadSettings, OutputFailed
from torchspectral.learn.patches import PatchStore
from torchspectral.learn.recipe import Recipe
from torchspectral.learn.runs import KEPT, MONITORED, Run
from torchspectral.learn.splits import HELD_OUT, TRAIN
from torchspectral.log import get_logger
from torchspectral.metrics.representation import alarms, clusters_of, label_summary, summary

MOST = 2000
OVERHEAD = 0.05
FORWARD_SHARE = 0.04
CLUSTERS = 10
_SHOWN = (
    "dse", "dse_share", "renyi2", "effective_rank", "participation_ratio", "rank_me", "uniformity", "self_cluster",
    "zero_rows", "dsmi_labels", "dsmi_labels_median", "dsmi_shuffled", "knn_overall", "knn_macro",
)  # fmt: skip


class RepresentationMonitor(pl.Callback):
    """Measures the embeddings of fixed samples every few epochs; use it with any `Trainer`.

    Writes ``representation.csv`` (a row a look) and ``representation.npz`` (embeddings of the first and the last look,
    labels, input, places), which `torchspectral.diagnose` reads.

    Parameters
    ----------
    batches : callable
        Returns the samples as an iterable of batches, always the same ones in the same order; at most 2000 samples.
    embed : callable
        ``embed(module, batch)`` gives embeddings (n, d); called in evaluation mode, without gradient. The module is
        the trainer's, or its ``network`` in our own loop.
    folder : path
    every : int
        Epochs between looks. A run is also looked at before its first step and after its last.
    steps : int
        Steps between looks, in place of epochs; 0: epochs.
    labels : array of int, shape (n,), optional
        For mutual information and the kNN probe.
    inputs : array, shape (n, d), optional
        What the embeddings are made from; clustered once.
    places : mapping of str to array (n,), optional
        Kept beside the embeddings: scene, row, col.
    sigma, t
        See `metrics.representation.dse`; embeddings are brought to length 1.

    Attributes
    ----------
    rows : list of dict
        What was measured.

    Raises
    ------
    BadSettings
    """

    def __init__(
        self,
        batches: Callable[[], Iterable[Any]],
        embed: Callable[[Any, Any], torch.Tensor],
        folder: str | Path,
        *,
        every: int = 1,
        steps: int = 0,
        labels: Any = None,
        inputs: Any = None,
        places: Mapping[str, np.ndarray] | None = None,
        sigma: float | str | None = None,
        t: float = 1.0,
    ) -> None:
        if every < 1 or steps < 0:
            raise BadSettings(f"got every={every} epochs and steps={steps}, expected at least 1 and 0")
        self.batches, self.embed, self.run = batches, embed, Run(folder)
        self.every, self.steps, self.sigma, self.t = every, steps, sigma, t
        self.labels = None if labels is None else np.asarray(labels)
        self.inputs = None if inputs is None else np.asarray(inputs, dtype=np.float32)
        self.clusters: np.ndarray | None = None
        self.places = dict(places or {})
        self.rows: list[dict[str, float]] = []
        self.last = perf_counter()
        self.told: set[str] = set()

    def on_train_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Look at the untrained network."""
        known = self.run.rows(MONITORED)
        self.rows = known
        self.last = perf_counter()
        if not known and trainer.is_global_zero:
            self.look(trainer, pl_module)

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, *_: Any) -> None:
        """Look where so many steps are over."""
        if not self.steps or not trainer.is_global_zero or not getattr(pl_module, "between_steps", True):
            return
        step = self._step(trainer, pl_module)
        if step % self.steps == 0 or step >= getattr(pl_module, "stop", float("inf")):
            self.look(trainer, pl_module, step)

    def on_train_epoch_end(self, trainer: pl.Trainer, pl_module: Any) -> None:
        """Look where so many epochs are over, and after the last."""
        last = trainer.max_epochs is not None and trainer.current_epoch + 1 == trainer.max_epochs
        if not self.steps and trainer.is_global_zero and (last or (trainer.current_epoch + 1) % self.every == 0):
            self.look(trainer, pl_module)

    def look(self, trainer: pl.Trainer, module: Any, step: int | None = None) -> dict[str, float]:
        """Measure now.

        Returns
        -------
        dict
            The row that was written.

        Raises
        ------
        BadInput
            More than 2000 samples, or embeddings that are not finite.
        OutputFailed
        """
        begun = perf_counter()
        network = getattr(module, "network", module)
        x = self._embeddings(trainer, network, module.device)
        row: dict[str, float] = {"step": self._step(trainer, module) if step is None else step}
        numbers = summary(x, sigma=self.sigma, t=self.t)
        if self.labels is not None:
            known = np.flatnonzero(self.labels >= 0)
            numbers |= label_summary(x[known], self.labels[known], sigma=numbers["sigma"], t=self.t)
        row |= {"samples": int(numbers["samples"]), "sigma": numbers["sigma"], "t": self.t}
        row |= {name: numbers[name] for name in _SHOWN if name in numbers}
        if self.inputs is not None:
            row["dsmi_input"] = self._input_information(x, numbers["sigma"])
        self._keep(x.cpu().numpy(), first=not self.rows)
        self._tell(numbers)
        took = perf_counter() - begun
        between = max(begun - self.last, 1e-9)
        row |= {"seconds": took, "overhead": took / between if self.rows else 0.0}
        if self.rows and row["overhead"] > OVERHEAD and "overhead" not in self.told:
            self.told.add("overhead")
            get_logger("learn").warning(
                "monitoring takes %.0f %% of the training: raise monitor_every or lower monitor_samples",
                100 * row["overhead"],
            )
        self.rows.append(row)
        self.run.add_row(row, MONITORED)
        self.last = perf_counter()
        return row

    def _embeddings(self, trainer: pl.Trainer, network: torch.nn.Module, device: Any) -> torch.Tensor:
        training = network.training
        network.eval()
        plugin = getattr(trainer, "precision_plugin", None)
        found = []
        try:
            forked = torch.random.fork_rng([device] if device.type == "cuda" else [])
            with forked, torch.no_grad(), plugin.forward_context() if plugin is not None else nullcontext():
                for batch in self.batches():
                    moved = pl.utilities.move_data_to_device(batch, device)
                    found.append(self.embed(network, moved).detach().float())
        finally:
            network.train(training)
        if not found or found[0].ndim != 2:
            raise BadInput("the monitored samples gave no embeddings of shape (samples, dimensions)")
        x = torch.cat(found)
        if x.shape[0] > MOST:
            raise BadInput(
                f"got {x.shape[0]} samples to monitor, expected at most {MOST}: the cost grows with the cube"
            )
        return x

    def _input_information(self, x: torch.Tensor, sigma: float) -> float:
        from torchspectral.metrics.representation import dsmi

        if self.clusters is None:
            assert self.inputs is not None
            self.clusters = clusters_of(self.inputs, count=min(CLUSTERS, len(self.inputs) - 1))
        return float(dsmi(x, clusters=self.clusters, sigma=sigma, t=self.t))

    def _keep(self, x: np.ndarray, first: bool) -> None:
        path = self.run.path / KEPT
        arrays: dict[str, Any] = {"embeddings": x, **self.places}
        if self.labels is not None:
            arrays["labels"] = self.labels
        if self.inputs is not None:
            arrays["spectra"] = self.inputs
        if not first and path.is_file():
            with np.load(path, allow_pickle=False) as before:
                arrays["first"] = before["first"]
        else:
            arrays["first"] = x
        temporary = path.with_name(f".{path.name}.{uuid4().hex[:8]}.npz")
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            np.savez(temporary, **arrays)
            temporary.replace(path)
        except OSError as error:
            raise OutputFailed(f"{path} could not be written: {error}") from error
        finally:
            temporary.unlink(missing_ok=True)

    def _tell(self, numbers: Mapping[str, float]) -> None:
        best = max((row for row in self.rows if "dse" in row), key=lambda row: row["dse"], default=None)
        for sentence in alarms(numbers, best):
            if sentence.partition(":")[0] not in self.told:
                self.told.add(sentence.partition(":")[0])
                get_logger("learn").warning("the representation is in trouble: %s", sentence)

    @staticmethod
    def _step(trainer: pl.Trainer, module: Any) -> int:
        return int(getattr(module, "done", trainer.global_step))


def run_monitor(recipe: Recipe, store: PatchStore, run: Run) -> RepresentationMonitor:
    """The monitor of a run: held-out patches, evenly thinned, in fixed order.

    Raises
    ------
    BadSettings
        The recipe's network has no embeddings; said before anything is trained.
    """
    s = recipe.settings
    count = store.count(HELD_OUT)
    index = np.unique(np.linspace(0, count - 1, min(s.monitor_samples, count)).round().astype(np.int64))

    def batches() -> Iterable[dict[str, torch.Tensor]]:
        for start in range(0, index.size, s.batch):
            samples = [store.sample(HELD_OUT, int(i)) for i in index[start : start + s.batch]]
            yield {role: torch.from_numpy(np.stack([p[role] for p in samples])) for role in samples[0]}

    labels, inputs = [], []
    for batch in batches():
        held = recipe.references(batch)
        labels += [held["labels"]] if "labels" in held else []
        inputs += [held["input"]] if "input" in held else []
    windows = store.windows[HELD_OUT][index]
    epochs = looks_apart(s.monitor_every, index.size, store.count(TRAIN))
    return RepresentationMonitor(
        batches,
        recipe.embed,
        run.path,
        every=epochs,
        steps=max(round(epochs * store.count(TRAIN) / s.batch), 1),
        labels=torch.cat(labels).numpy() if labels else None,
        inputs=torch.cat(inputs).numpy() if inputs and index.size > CLUSTERS else None,
        places={
            "scene": windows[:, 0],
            "row": windows[:, 1] + windows[:, 3] // 2,
            "col": windows[:, 2] + windows[:, 4] // 2,
        },
    )


def looks_apart(every: int, samples: int, patches: int) -> int:
    """Epochs between looks: `every`, or as many more as keep embedding the samples below 4 % of the training."""
    return max(every, -(-samples // max(int(3 * FORWARD_SHARE * patches), 1)))
