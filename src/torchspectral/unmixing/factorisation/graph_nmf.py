"""NMF that keeps alike pixels alike: their abundances are coupled, so that the scene is held at once."""

from __future__ import annotations

from typing import ClassVar, Literal

from torchspectral.engine.method import Scope, Source, State
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.factorisation.abundance_rules import AbundanceRule, GraphRule
from torchspectral.unmixing.factorisation.base import Factorisation, FactorisationSettings
from torchspectral.unmixing.factorisation.nmf import data_sparseness
from torchspectral.unmixing.factorisation.start import Start
from torchspectral.unmixing.factorisation.stores import GraphOf


class GraphNmfSettings(FactorisationSettings):
    """NMF with a graph between pixels."""

    lam: float = setting(0.1, "factor of the graph's term", ge=0)
    graph: Literal["grid", "knn"] = setting("grid", "grid: the eight neighbours; knn: the spectrally nearest pixels")
    neighbours: int = setting(8, "pixels that each one is tied to, of graph=knn", ge=1, le=64)
    sigma: float | None = setting(
        None, "squared distance at which weights fall to 1/e; None: the mean over the pairs", gt=0
    )


class GraphSparseSettings(GraphNmfSettings):
    """And an l1 penalty."""

    alpha: float | None = setting(
        None, "factor of the l1 penalty; None: from the data, mean sparseness of the bands (Qian)", ge=0
    )


class GraphNmf(Factorisation):
    """Graph-regularised NMF: min 1/2 |Y - M A|^2 + lam/2 tr(A (D - W) A^T), W sparse.

    References
    ----------
    Cai, He, Han, Huang, "Graph regularized nonnegative matrix factorization for data representation", IEEE TPAMI 33(8),
    2011. Zhu, arXiv 1708.05125 (2017).
    """

    Settings: ClassVar[type[Settings]] = GraphNmfSettings
    scope = Scope.SCENE

    def abundance_rule(self, facts: State) -> AbundanceRule:
        """Multiplicative step with the graph."""
        return GraphRule(d=self.settings.d, graph=self.settings.lam)

    def graph(self, facts: State) -> GraphOf:
        """As set."""
        s = self.settings
        return GraphOf(s.graph, s.neighbours, "distance", s.sigma)


class GraphL1Nmf(GraphNmf):
    """Graph-regularised sparse NMF (structured sparse NMF): the graph's term and alpha sum A.

    References
    ----------
    Zhu, Wang, Xiang, Fan, Pan, "Structured sparse method for hyperspectral unmixing", ISPRS J. Photogramm. Remote Sens.
    88, 2014.
    """

    Settings: ClassVar[type[Settings]] = GraphSparseSettings

    def facts_of(self, source: Source, start: Start) -> State:
        """alpha: given, or from the data."""
        given = self.settings.alpha
        return {"alpha": data_sparseness(source, start) if given is None else given}

    def abundance_rule(self, facts: State) -> AbundanceRule:
        """Multiplicative step with the graph and the l1 penalty."""
        return GraphRule(d=self.settings.d, lam=facts["alpha"], graph=self.settings.lam)

    def figures(self, state: State) -> dict[str, object]:
        """And alpha."""
        return {**super().figures(state), **({"alpha": state["facts"]["alpha"]} if "facts" in state else {})}
