"""Support vector machine with a radial kernel."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from torchspectral.classification.baselines.base import Baseline, BaselineSettings, grouped_folds
from torchspectral.settings import Settings, setting

TEMPERATURES = np.geomspace(0.02, 5, 30)


class SVMSettings(BaselineSettings):
    """Settings of the support vector machine; the grids are the review's."""

    c: list[float] = setting([1.0, 10.0, 100.0, 1000.0], "costs to choose from", min_length=1)
    gamma: list[float] = setting(
        [0.1, 0.01, 0.001], "widths of the kernel exp(-gamma d^2) to choose from", min_length=1
    )
    folds: int = setting(3, "of the cross-validation, whose folds are blocks of ground", ge=2, le=10)
    search: int = setting(2000, "labelled pixels that the search uses; the last fit takes all", ge=10)


class SVM(Baseline):
    """One-against-one support vector machines, cost and kernel by cross-validation over blocks of ground.

    Probabilities are the softmax of votes with confidences, at a temperature that is chosen on the folds.

    References
    ----------
    Melgani, Bruzzone, "Classification of hyperspectral remote sensing images with support vector machines", IEEE TGRS
    42(8) (2004). Audebert, Le Saux, Lefevre, "Deep learning for classification of hyperspectral data", IEEE GRSM 7(2)
    (2019): grids.
    """

    Settings: ClassVar[type[Settings]] = SVMSettings
    name: ClassVar[str] = "svm"

    def learn(self, x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, Any]:
        """Support vectors and their coefficients."""
        from sklearn.svm import SVC

        from torchspectral.classification.baselines.base import drawn

        s = self.settings
        small = drawn(y, s.search, seed)
        folds = grouped_folds(y[small], groups[small], s.folds, seed)
        best, chosen, temperature = -1.0, (s.c[0], s.gamma[0]), 0.2
        for c, gamma in itertools.product(s.c, s.gamma) if folds else ():
            right, margins, truth = 0, [], []
            for a, b in folds:
                model = SVC(C=c, gamma=gamma, class_weight="balanced").fit(x[small][a], y[small][a])
                votes = torch.from_numpy(x[small][b])
                found = votes_of(votes, _arrays(model, len(np.unique(y)))).numpy()
                right += int((found.argmax(1) == y[small][b]).sum())
                margins.append(found)
                truth.append(y[small][b])
            if right > best:
                best, chosen = right, (c, gamma)
                temperature = _temperature(np.concatenate(margins), np.concatenate(truth))
        model = SVC(C=chosen[0], gamma=chosen[1], class_weight="balanced").fit(x, y)
        tested = sum(len(b) for _, b in folds)
        return {
            **_arrays(model, len(np.unique(y))),
            "chosen_c": float(chosen[0]),
            "temperature": float(temperature),
            "cross_validated_oa": best / tested if tested else 0.0,
        }

    def chosen_again(self, state: Mapping[str, Any]) -> SVM:
        """With the cost and width that were found, without a search."""
        found = {"c": [state["chosen_c"]], "gamma": [state["width"]]}
        return SVM(self.settings.model_copy(update=found))

    def scores(self, x: torch.Tensor, state: Mapping[str, Any]) -> torch.Tensor:
        """Softmax of the votes."""
        return (votes_of(x, state) / float(state["temperature"])).softmax(1)


def _arrays(model: Any, classes: int) -> dict[str, Any]:
    return {
        "vectors": np.ascontiguousarray(model.support_vectors_),
        "coefficients": np.ascontiguousarray(model.dual_coef_),
        "intercepts": np.ascontiguousarray(model.intercept_),
        "counts": [int(n) for n in model.n_support_],
        "width": float(model._gamma),
    }


def votes_of(x: torch.Tensor, state: Mapping[str, Any]) -> torch.Tensor:
    """Votes of the pairs of classes and, as parts of a vote, their confidences, (n, classes)."""
    vectors, dual, offset = (torch.as_tensor(state[k]).to(x) for k in ("vectors", "coefficients", "intercepts"))
    counts = list(state["counts"])
    kernel = torch.exp(-float(state["width"]) * torch.cdist(x, vectors).square())
    ends = np.cumsum([0, *counts])
    k = len(counts)
    votes, sums = x.new_zeros(len(x), k), x.new_zeros(len(x), k)
    for number, (i, j) in enumerate(itertools.combinations(range(k), 2)):
        one, two = slice(ends[i], ends[i + 1]), slice(ends[j], ends[j + 1])
        # libsvm keeps, for each vector of class i, its coefficient against class j in row j - 1 (and the reverse in row i).
        found = kernel[:, one] @ dual[j - 1, one] + kernel[:, two] @ dual[i, two]
        if k == 2:
            found = -(found + offset[number])  # for two classes scikit-learn turns the sign round
        else:
            found = found + offset[number]
        first = found > 0
        votes[:, i] += first
        votes[:, j] += ~first
        sums[:, i] += found
        sums[:, j] -= found
    return votes + sums / (3 * (sums.abs() + 1))


def _temperature(votes: np.ndarray, truth: np.ndarray) -> float:
    """The temperature with the least mean negative logarithm of the true class's probability."""
    scores = votes[None] / TEMPERATURES[:, None, None]
    scores = scores - scores.max(2, keepdims=True)
    logs = scores - np.log(np.exp(scores).sum(2, keepdims=True))
    cost = -logs[:, np.arange(len(truth)), truth].mean(1)
    return float(TEMPERATURES[int(cost.argmin())])
