"""NMF and its sparse variants: pixels do not touch each other, so that scenes of any size stream."""

from __future__ import annotations

import math
from functools import partial
from typing import ClassVar

import torch

from torchspectral.engine.method import Scope, Source, State, Tile
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.factorisation.abundance_rules import AbundanceRule
from torchspectral.unmixing.factorisation.base import Factorisation, FactorisationSettings
from torchspectral.unmixing.factorisation.neighbours import mean_distance, similarity
from torchspectral.unmixing.factorisation.start import Start
from torchspectral.unmixing.factorisation.stores import Facts


class SparseSettings(FactorisationSettings):
    """A factorisation with a sparsity penalty."""

    lam: float | None = setting(
        None, "factor of the penalty; None: from the data, mean sparseness of the bands (Qian)", ge=0
    )


class WNmfSettings(FactorisationSettings):
    """NMF with weighted pixels."""

    sigma: float | None = setting(
        None, "squared distance at which neighbours count as different; None: the mean of all pairs", gt=0
    )


class Nmf(Factorisation):
    """Non-negative matrix factorisation with a soft sum-to-one row: min 1/2 |Y - M A|^2.

    References
    ----------
    Lee and Seung, "Algorithms for non-negative matrix factorization", NIPS 2000. Zhu, "Hyperspectral unmixing: ground
    truth labeling, datasets, benchmark performances and survey", arXiv 1708.05125 (2017).
    """


class _Sparse(Factorisation):
    """Penalty lam sum a^p."""

    Settings: ClassVar[type[Settings]] = SparseSettings
    p: float = 1.0

    def facts_of(self, source: Source, start: Start) -> State:
        """lam: given, or from the data."""
        given = self.settings.lam
        return {"lam": data_sparseness(source, start) if given is None else given}

    def abundance_rule(self, facts: State) -> AbundanceRule:
        """Multiplicative step with the penalty's slope below the line."""
        return AbundanceRule(d=self.settings.d, lam=facts["lam"], p=self.p)

    def figures(self, state: State) -> dict[str, object]:
        """And lam."""
        return {**super().figures(state), **({"lam": state["facts"]["lam"]} if "facts" in state else {})}


class L1Nmf(_Sparse):
    """NMF with an l1 penalty on the abundances: min 1/2 |Y - M A|^2 + lam sum A.

    References
    ----------
    Hoyer, "Non-negative sparse coding", NNSP 2002. Zhu, arXiv 1708.05125 (2017).
    """


class L12Nmf(_Sparse):
    """NMF with an l1/2 penalty on the abundances: min 1/2 |Y - M A|^2 + lam sum A^(1/2).

    References
    ----------
    Qian, Jia, Zhou, Robles-Kelly, "Hyperspectral unmixing via L1/2 sparsity-constrained nonnegative matrix
    factorization", IEEE TGRS 49(11), 2011.
    """

    p = 0.5


class WNmf(Factorisation):
    """NMF with pixels weighted by how alike their neighbours are: min 1/2 sum_n w_n |y_n - M a_n|^2.

    w_n is the mean of exp(-|y_n - y_j|^2 / sigma) over the valid ones of the eight neighbours. **This definition is
    ours**: no source that was seen defines the weights. They act on the endmembers alone, since the weight of a pixel
    cancels in its own abundance step.
    """

    Settings: ClassVar[type[Settings]] = WNmfSettings
    scope = Scope.LOCAL
    halo = 1

    def facts_of(self, source: Source, start: Start) -> State:
        """Sigma."""
        given = self.settings.sigma
        return {"sigma": mean_distance(source, start) if given is None else given}

    def pixel_facts(self, facts: State) -> Facts:
        """Weights."""
        return Alike(float(facts["sigma"]))


class Alike(Facts):
    """Weight of a pixel: how alike its neighbours are."""

    def __init__(self, sigma: float) -> None:
        self.sigma = sigma

    def __call__(self, tile: Tile, start: Start) -> dict[str, torch.Tensor]:
        """``weight``, at least 1e-3."""
        return {"weight": similarity(tile, start, self.sigma).clamp_min(1e-3)}


def data_sparseness(source: Source, start: Start) -> float:
    """Factor of the sparsity penalty from the data: (1 / sqrt L) sum_l (sqrt N - |y_l|_1 / |y_l|_2) / sqrt(N - 1).

    References
    ----------
    Qian et al., IEEE TGRS 49(11), 2011, eq. (24).
    """
    n, one, two = source.reduce(partial(_norms, start=start), lambda a, b: (a[0] + b[0], a[1] + b[1], a[2] + b[2]))
    if n < 2:
        return 0.0
    live = two > 0
    ratio = one[live] / two[live].sqrt()
    return max(float((math.sqrt(n) - ratio).sum()) / math.sqrt(n - 1) / math.sqrt(len(two)), 0.0)


def _norms(tile: Tile, start: Start) -> tuple[int, torch.Tensor, torch.Tensor]:
    y = start.pixels(tile.core_pixels("cube").to(torch.float64))
    return y.shape[1], y.sum(1), (y**2).sum(1)
