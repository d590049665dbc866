"""NMF with a penalty on the endmembers, solved by projected gradients."""

from __future__ import annotations

from typing import ClassVar

from torchspectral.engine.method import Source, State
from torchspectral.ops.gram import eigh_descending
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.factorisation.abundance_rules import AbundanceRule, ProjectedGradientRule
from torchspectral.unmixing.factorisation.base import Factorisation, FactorisationSettings
from torchspectral.unmixing.factorisation.endmember_rules import Dissimilarity, EndmemberRule, Volume
from torchspectral.unmixing.factorisation.start import Start


class EdcNmfSettings(FactorisationSettings):
    """Endmember dissimilarity constraint; its factors are for each pixel, so that any scene size is treated alike."""

    smooth: float = setting(1e-3, "factor of the squared differences of neighbouring bands", ge=0)
    distance: float = setting(1e-3, "factor of the squared distances of endmembers", ge=0)
    steps: int = setting(10, "gradient steps of the endmembers in one iteration", ge=1)


class CnmfMvcSettings(FactorisationSettings):
    """Minimum volume constraint; its factor is for each pixel, so that any scene size is treated alike."""

    lam: float = setting(0.015, "factor of the squared volume", ge=0)
    steps: int = setting(10, "gradient steps of the endmembers in one iteration", ge=1)
    abundance_steps: int = setting(20, "gradient steps of the abundances in one iteration", ge=1)


class EdcNmf(Factorisation):
    """NMF whose endmembers are smooth and close together; endmembers by projected gradient.

    References
    ----------
    Wang, Du, Zhang, "An endmember dissimilarity constrained non-negative matrix factorization method for hyperspectral
    unmixing", IEEE JSTARS 6(2), 2013. The form of the penalty is ours: the paper's text was not read.
    """

    Settings: ClassVar[type[Settings]] = EdcNmfSettings

    def endmember_rule(self, facts: State) -> EndmemberRule:
        """Projected gradient."""
        s = self.settings
        return Dissimilarity(s.steps, smooth=s.smooth, distance=s.distance)


class CnmfMvc(Factorisation):
    """NMF with the squared volume of the endmembers' simplex as penalty; both factors by projected gradient.

    References
    ----------
    Miao and Qi, "Endmember extraction from highly mixed data using minimum volume constrained nonnegative matrix
    factorization", IEEE TGRS 45(3), 2007.
    """

    Settings: ClassVar[type[Settings]] = CnmfMvcSettings

    def facts_of(self, source: Source, start: Start) -> State:
        """Principal axes that the volume is measured along."""
        gram = source.gram()
        _, vectors = eigh_descending(gram.covariance.cpu())
        return {"axes": vectors[:, : start.m.shape[1] - 1].contiguous(), "mean": (gram.mean.cpu() / start.peak)}

    def abundance_rule(self, facts: State) -> AbundanceRule:
        """Projected gradient."""
        return ProjectedGradientRule(d=self.settings.d, inner=self.settings.abundance_steps)

    def endmember_rule(self, facts: State) -> EndmemberRule:
        """Projected gradient."""
        s = self.settings
        return Volume(s.steps, lam=s.lam, axes=facts["axes"], mean=facts["mean"])
