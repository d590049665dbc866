"""Principal components and linear discriminants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from torchspectral.classification.baselines.base import Baseline, BaselineSettings
from torchspectral.settings import Settings, setting


class PCALDASettings(BaselineSettings):
    """Settings of PCA and LDA."""

    components: int = setting(30, "principal components of the labelled spectra, at most as many as there can be", ge=1)


class PCALDA(Baseline):
    """Linear discriminants of the principal components; classes share one covariance.

    References
    ----------
    Fisher, "The use of multiple measurements in taxonomic problems", Annals of Eugenics 7 (1936).
    """

    Settings: ClassVar[type[Settings]] = PCALDASettings
    name: ClassVar[str] = "pca-lda"

    def learn(self, x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, Any]:
        """One matrix and one offset a class: both steps are linear."""
        from sklearn.decomposition import PCA
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

        count = min(self.settings.components, *x.shape)
        pca = PCA(count, random_state=seed).fit(x)
        lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto").fit(pca.transform(x), y)
        slopes = lda.coef_ if len(lda.coef_) > 1 else np.stack([np.zeros(count), lda.coef_[0]])
        offsets = lda.intercept_ if len(lda.coef_) > 1 else np.array([0.0, lda.intercept_[0]])
        weight = slopes @ pca.components_
        return {"weight": weight, "bias": offsets - weight @ pca.mean_, "components": count}

    def scores(self, x: torch.Tensor, state: Mapping[str, Any]) -> torch.Tensor:
        """Posterior probabilities."""
        return (x @ state["weight"].to(x).T + state["bias"].to(x)).softmax(1)
