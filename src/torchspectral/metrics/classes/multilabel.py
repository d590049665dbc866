"""Several classes at once for each sample: accuracy, F1 and average precision, micro and macro."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from torchspectral.errors import BadInput


class MultiLabel:
    """Agreement of scores with sets of classes.

    Parameters
    ----------
    names : sequence of str
        Of the classes.
    threshold : float
        A class is predicted where its probability is above it.

    Notes
    -----
    Average precision is the sum over the samples in falling order of score of precision times gain in recall, ties taken
    together (no interpolation). ``map_macro``: mean over the classes that occur; ``map_micro``: all pairs of sample and
    class in one list. The literature's mAP is either. Accuracy counts pairs.
    """

    def __init__(self, names: Sequence[str], threshold: float = 0.5) -> None:
        self.names, self.threshold = [str(n) for n in names], threshold
        self.scores: list[np.ndarray] = []
        self.truth: list[np.ndarray] = []

    def update(self, probabilities: Any, truth: Any) -> Self:
        """Add samples: probabilities (n, classes), 0..1, and what holds (n, classes), 0 or 1.

        Raises
        ------
        BadInput
        """
        scores, known = np.asarray(probabilities, dtype=np.float64), np.asarray(truth)
        if scores.shape != known.shape or scores.ndim != 2 or scores.shape[1] != len(self.names):
            raise BadInput(
                f"got probabilities of shape {scores.shape} and labels of shape {known.shape}, expected "
                f"(samples, {len(self.names)}) twice"
            )
        if not np.isin(known, (0, 1)).all():
            raise BadInput("labels hold other numbers than 0 and 1, expected one column a class")
        self.scores.append(scores)
        self.truth.append(known.astype(bool))
        return self

    def merge(self, other: MultiLabel) -> Self:
        """Take in the samples of another."""
        self.scores += other.scores
        self.truth += other.truth
        return self

    def per_class(self) -> dict[str, np.ndarray]:
        """``support``, ``precision``, ``recall``, ``f1``, ``ap`` of each class; NaN for classes that do not occur."""
        scores, truth = self._all()
        guess = scores > self.threshold
        hits, support, predicted = ((a).sum(0).astype(float) for a in (guess & truth, truth, guess))
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = hits / support
            precision = np.where(predicted > 0, hits / predicted, np.where(support > 0, 0.0, np.nan))
            f1 = np.where(support > 0, 2 * hits / (support + predicted), np.nan)
        ap = np.array([average_precision(scores[:, k], truth[:, k]) for k in range(truth.shape[1])])
        return {"support": support, "precision": precision, "recall": recall, "f1": f1, "ap": ap}

    def compute(self) -> dict[str, float]:
        """``accuracy, f1_micro, f1_macro, map_micro, map_macro, samples``.

        Raises
        ------
        BadInput
            No sample, or no class occurs.
        """
        scores, truth = self._all()
        if not truth.any():
            raise BadInput("no class occurs in any sample: nothing to measure")
        guess = scores > self.threshold
        each = self.per_class()
        hits = float((guess & truth).sum())
        return {
            "accuracy": float((guess == truth).mean()),
            "f1_micro": 2 * hits / float(truth.sum() + guess.sum()),
            "f1_macro": float(np.nanmean(each["f1"])),
            "map_micro": average_precision(scores.ravel(), truth.ravel()),
            "map_macro": float(np.nanmean(each["ap"])),
            "samples": float(len(truth)),
        }

    def table(self) -> list[dict[str, Any]]:
        """One row a class."""
        each = self.per_class()
        return [
            {"class": name, **{key: column[i].item() for key, column in each.items()}}
            for i, name in enumerate(self.names)
        ]

    def _all(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.scores:
            raise BadInput("no sample was compared: nothing to measure")
        return np.concatenate(self.scores), np.concatenate(self.truth)


def average_precision(scores: np.ndarray, truth: np.ndarray) -> float:
    """Area under precision over recall as a sum of steps; NaN where nothing is true.

    Parameters
    ----------
    scores : ndarray (n,)
    truth : ndarray of bool (n,)
    """
    positives = int(truth.sum())
    if not positives:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    ordered, known = scores[order], truth[order]
    last = np.append(np.flatnonzero(np.diff(ordered)), len(ordered) - 1)  # the end of each run of equal scores
    hits = np.cumsum(known)[last]
    precision, gain = hits / (last + 1), np.diff(hits, prepend=0) / positives
    return float((precision * gain).sum())
