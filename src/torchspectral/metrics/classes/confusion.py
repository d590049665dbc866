"""Confusion matrix and what follows from it; counts add and merge."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Self

import numpy as np

from torchspectral.errors import BadInput


def confusion_matrix(guess: Any, truth: Any, classes: int, ignore: int = -1) -> np.ndarray:
    """Counts of (true class, predicted class).

    Parameters
    ----------
    guess, truth : array_like of int, same shape
        Class indices from 0.
    classes : int
        Guesses outside 0..classes-1 count as a miss of the true class, in an extra last column.
    ignore : int
        Places where `truth` is this do not count.

    Returns
    -------
    ndarray of int, shape (classes, classes + 1)

    Raises
    ------
    BadInput
        Shapes differ, or a true class lies outside 0..classes-1.
    """
    guess, truth = np.asarray(guess).ravel(), np.asarray(truth).ravel()
    if guess.shape != truth.shape:
        raise BadInput(f"got {guess.size} predicted and {truth.size} true classes, expected as many of both")
    keep = truth != ignore
    guess, truth = guess[keep].astype(np.int64), truth[keep].astype(np.int64)
    if truth.size and (truth.min() < 0 or truth.max() >= classes):
        wrong = truth[(truth < 0) | (truth >= classes)][0]
        raise BadInput(f"got the true class {wrong}, expected 0 to {classes - 1}: labels out of range")
    guess = np.where((guess < 0) | (guess >= classes), classes, guess)
    counts = np.bincount(truth * (classes + 1) + guess, minlength=classes * (classes + 1))
    return counts.reshape(classes, classes + 1)


class Confusion:
    """Agreement of predicted with true classes.

    Parameters
    ----------
    names : sequence of str
        Of the classes, in the order of their indices.
    ignore : int
        True class that does not count.

    Notes
    -----
    OA = sum p_ii. AA: mean recall. kappa = (OA - p_e) / (1 - p_e) with p_e the agreement of chance from the margins;
    its variance is that of large samples of independent points, which neighbouring pixels are not: it is then too
    small. IoU_k = TP / (TP + FP + FN); micro: all counts pooled, OA / (2 - OA) where every point is classified. F1
    micro equals OA there. Macro figures are means over the classes that occur in the truth; a class that was never
    predicted counts 0.

    References
    ----------
    Cohen, Educational and Psychological Measurement 20 (1960). Fleiss, Cohen, Everitt, Psychological Bulletin 72 (1969)
    (variance). Congalton, Green, "Assessing the Accuracy of Remotely Sensed Data", CRC Press (1999).
    """

    def __init__(self, names: Sequence[str], ignore: int = -1) -> None:
        self.names = [str(n) for n in names]
        self.ignore = ignore
        self.counts = np.zeros((len(self.names), len(self.names) + 1), dtype=np.int64)

    def update(self, guess: Any, truth: Any) -> Self:
        """Add predicted and true class indices of one shape."""
        self.counts += confusion_matrix(guess, truth, len(self.names), self.ignore)
        return self

    def merge(self, other: Confusion) -> Self:
        """Take in the counts of another."""
        self.counts += other.counts
        return self

    @property
    def total(self) -> int:
        """Points that count."""
        return int(self.counts.sum())

    def per_class(self) -> dict[str, np.ndarray]:
        """``support``, ``predicted``, ``precision``, ``recall``, ``f1``, ``iou`` of each class; NaN where undefined.

        Precision is 0 for a class that occurs and was never predicted, and NaN for one that neither occurs nor was.
        """
        hits = np.diag(self.counts).astype(np.float64)
        support, predicted = self.counts.sum(1), self.counts[:, :-1].sum(0)
        seen = support > 0
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = hits / support
            precision = np.where(predicted > 0, hits / predicted, np.where(seen, 0.0, np.nan))
            f1 = np.where(support + predicted > 0, 2 * hits / (support + predicted), np.nan)
            union = support + predicted - hits
            iou = np.where(union > 0, hits / union, np.nan)
        return {
            "support": support, "predicted": predicted, "precision": precision, "recall": recall, "f1": f1, "iou": iou
        }  # fmt: skip

    def compute(self) -> dict[str, float]:
        """All figures of the whole.

        Returns
        -------
        dict of str to float
            ``oa, aa, kappa, kappa_std, f1_micro, f1_macro, iou_micro, iou_macro, precision_macro, samples``.

        Raises
        ------
        BadInput
            Nothing was counted.
        """
        n = self.total
        if not n:
            raise BadInput("no labelled point was compared: nothing to measure")
        each = self.per_class()
        seen = each["support"] > 0
        hits, predicted = float(np.trace(self.counts[:, :-1])), float(each["predicted"].sum())
        kappa, spread = self._kappa()

        def mean(name: str) -> float:
            return float(each[name][seen].mean())

        return {
            "oa": hits / n,
            "aa": mean("recall"),
            "kappa": kappa,
            "kappa_std": spread,
            "f1_micro": 2 * hits / (n + predicted),
            "f1_macro": mean("f1"),
            "iou_micro": hits / (n + predicted - hits),
            "iou_macro": mean("iou"),
            "precision_macro": mean("precision"),
            "samples": float(n),
        }

    def _kappa(self) -> tuple[float, float]:
        """Cohen's kappa and its large-sample standard deviation."""
        size = self.counts.shape[1]
        table = np.zeros((size, size))
        table[:-1] = self.counts
        table /= self.total
        rows, cols = table.sum(1), table.sum(0)
        agree, chance = float(np.trace(table)), float(rows @ cols)
        if chance >= 1:
            return (1.0 if agree == 1 else 0.0), 0.0
        kappa = (agree - chance) / (1 - chance)
        third = float((np.diag(table) * (rows + cols)).sum())
        # t4 = sum_ij p_ij (p_j. + p_.i)^2
        fourth = float((table * (rows[None, :] + cols[:, None]) ** 2).sum())
        miss, rest = 1 - agree, 1 - chance
        variance = (
            agree * miss / rest**2
            + 2 * miss * (2 * agree * chance - third) / rest**3
            + miss**2 * (fourth - 4 * chance**2) / rest**4
        ) / self.total
        return kappa, math.sqrt(max(variance, 0.0))

    def table(self) -> list[dict[str, Any]]:
        """One row a class: name and the figures of `per_class`."""
        each = self.per_class()
        return [
            {"class": name, **{key: column[i].item() for key, column in each.items()}}
            for i, name in enumerate(self.names)
        ]
