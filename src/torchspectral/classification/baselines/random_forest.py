"""Random forest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import torch

from torchspectral.classification.baselines.base import Baseline, BaselineSettings
from torchspectral.settings import Settings, setting


class RandomForestSettings(BaselineSettings):
    """Settings of the random forest."""

    trees: int = setting(300, "trees", ge=1, le=5000)
    leaf: int = setting(1, "least labelled pixels in a leaf", ge=1)
    depth: int = setting(0, "most splits from root to leaf; 0: any", ge=0)


class RandomForest(Baseline):
    """Mean over trees of the shares of the classes in the leaves; trees of bootstrap samples, classes balanced.

    References
    ----------
    Breiman, "Random forests", Machine Learning 45 (2001).
    """

    Settings: ClassVar[type[Settings]] = RandomForestSettings
    name: ClassVar[str] = "random-forest"

    def learn(self, x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, Any]:
        """Nodes of all trees one after another: band, threshold, children, shares of the classes."""
        from sklearn.ensemble import RandomForestClassifier

        s = self.settings
        model = RandomForestClassifier(
            s.trees, min_samples_leaf=s.leaf, max_depth=s.depth or None, class_weight="balanced", oob_score=s.trees > 20,
            random_state=seed, n_jobs=1,
        ).fit(x.astype(np.float32), y)  # fmt: skip
        trees = [e.tree_ for e in model.estimators_]
        starts = np.cumsum([0, *(t.node_count for t in trees)])
        shares = np.concatenate([t.value[:, 0] for t in trees])
        parts: dict[str, Any] = {
            "band": np.concatenate([np.maximum(t.feature, 0) for t in trees]).astype(np.int32),
            "threshold": np.concatenate([t.threshold for t in trees]),
            "left": np.concatenate([np.where(t.children_left < 0, np.arange(t.node_count), t.children_left) + a for t, a in zip(trees, starts[:-1], strict=True)]).astype(np.int32),
            "right": np.concatenate([np.where(t.children_right < 0, np.arange(t.node_count), t.children_right) + a for t, a in zip(trees, starts[:-1], strict=True)]).astype(np.int32),
            "shares": (shares / shares.sum(1, keepdims=True)).astype(np.float32),
            "roots": starts[:-1].astype(np.int32),
            "deepest": int(max(t.max_depth for t in trees)),
        }  # fmt: skip
        if s.trees > 20:
            parts["out_of_bag_oa"] = float(model.oob_score_)
        return parts

    def scores(self, x: torch.Tensor, state: Mapping[str, Any]) -> torch.Tensor:
        """Walk all trees at once, a level a step."""
        band, left, right, roots = (state[k].to(x.device).long() for k in ("band", "left", "right", "roots"))
        threshold, shares = state["threshold"].to(x), state["shares"].to(x.device)
        x = x.float().to(threshold)  # trees were grown on float32
        total = x.new_zeros(len(x), shares.shape[1])
        for group in roots.split(64):
            node = group.expand(len(x), -1)
            for _ in range(int(state["deepest"])):
                value = x.gather(1, band[node])
                node = torch.where(value <= threshold[node], left[node], right[node])
            total += shares[node].sum(1).to(total)
        return total / len(roots)
