"""RRLbS: unmixing that is robust to bad channels and learns how sparse each pixel is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

import torch

from torchspectral.engine.method import Output, Scope, Source, State, Tile
from torchspectral.errors import BadSettings
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.factorisation.abundance_rules import AbundanceRule, neighbour_sums
from torchspectral.unmixing.factorisation.base import Factorisation, FactorisationSettings
from torchspectral.unmixing.factorisation.blocks import Block, Factors, Sums
from torchspectral.unmixing.factorisation.channels import band_quality
from torchspectral.unmixing.factorisation.neighbours import mean_distance, similarity
from torchspectral.unmixing.factorisation.start import Start
from torchspectral.unmixing.factorisation.stores import Facts, GraphOf, MemoryStore, StreamStore

SMALLEST = 1e-6
"""Residuals of channels are at least this share of the largest one."""


class RrlbsSettings(FactorisationSettings):
    """Robust representation and learning-based sparsity; where the paper was not read the defaults are the derivation's."""

    draws: int = setting(10, "runs of VCA; the one whose simplex is largest is the start", ge=1)
    d: float = setting(3.0, "sum-to-one row; a strong one (15) hides outlier channels by itself", ge=0)
    tolerance: float = setting(1e-5, "relative change of the objective over `checks` iterations that ends it", ge=0)
    lambda_rel: float = setting(
        0.2, "factor of the penalty relative to the residual at the start; 0: no sparsity", ge=0
    )
    lam: float | None = setting(None, "factor of the penalty itself, in place of lambda_rel", ge=0)
    guide: Literal["learned", "data", "none"] = setting(
        "learned", "guidance map: sparseness of the abundances, likeness of neighbours in the data, or one number"
    )
    h: float = setting(0.5, "guidance of every pixel with guide=none; the exponent is 1 - h", ge=0, lt=1)
    h_max: float = setting(0.9, "largest guidance; the smallest exponent is 1 - h_max", gt=0, lt=1)
    burn_in: int = setting(50, "iterations before the map is learned", ge=0)
    every: int = setting(10, "iterations between two updates of the map", ge=1)
    freeze: int = setting(500, "iteration after which the map stays as it is", ge=0)
    smooth: Literal["none", "mean", "angle"] = setting(
        "none", "3 x 3 filter of the learned map, plain or weighted by spectral angle; holds the scene at once"
    )
    robust: bool = setting(True, "weigh channels by their residual (l2,1 norm); False: plain squares")
    row_weight: Literal["mean", "frozen"] = setting(
        "mean", "weight of the sum-to-one row: the mean channel weight of each iteration, or of the first"
    )
    screen: float = setting(
        5.0,
        "channels whose correlation with their neighbours lies this many robust deviations low do not take part in "
        "the start; 0: all do",
        ge=0,
    )


class Rrlbs(Factorisation):
    """Unmixing with an l2,1 loss over channels and an l_p penalty whose exponent a guidance map sets for each pixel.

    min |Y - M A|_{2,1} + lam sum_n sum_k A_kn^(1 - h_n), M, A >= 0. Runs on scenes with their noisy or blank channels
    (``bands="all"``): these get low weights, which are handed out.

    Outputs
    -------
    abundances, rmse, endmembers
    guidance : layer
        h: 0 mixed to h_max pure (not with guide=none).
    band_quality : table
        Weight of each channel and suggested bad bands, see `channels.band_quality` (not with robust=False).

    Notes
    -----
    Of the paper only the abstract was read. Objective and the idea of its terms are the paper's; the updates
    (majorise-minimise), the rule that learns h (Hoyer's sparseness of a pixel's abundances) and all defaults are derived
    here.

    References
    ----------
    Zhu, Wang, Fan, Meng, Pan, "Effective spectral unmixing via robust representation and learning-based sparsity",
    arXiv 1409.0685 (2014). Hoyer, "Non-negative matrix factorization with sparseness constraints", JMLR 5, 2004.
    """

    Settings: ClassVar[type[Settings]] = RrlbsSettings

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        s = self.settings
        if s.smooth != "none" and s.guide != "learned":
            raise BadSettings(f"got smooth={s.smooth} with guide={s.guide}: only a learned map is filtered")
        self.screen = s.screen
        if s.smooth != "none":
            self.scope = Scope.SCENE
        elif s.guide == "data":
            self.scope, self.halo = Scope.LOCAL, 1
        if s.guide != "none":
            self.outputs = (*self.outputs, Output("guidance", kind="layers", names=("guidance",), undo_scale=False))
        if s.robust:
            self.outputs = (*self.outputs, Output("band_quality", kind="table", from_state=True))

    def facts_of(self, source: Source, start: Start) -> State:
        """Facts of the guidance map; the penalty's factor is settled later."""
        facts: State = {"lam": 1.0 if self._sparse else 0.0}
        if self.settings.guide == "data":
            facts["sigma"] = mean_distance(source, start)
            low, high = source.reduce(partial(_likeness, start=start, sigma=facts["sigma"]), _widest)
            facts |= {"low": low, "high": high}
        return facts

    @property
    def _sparse(self) -> bool:
        s = self.settings
        return bool(s.lambda_rel if s.lam is None else s.lam)

    def settle(self, sums: Sums, m: torch.Tensor, facts: State) -> State:
        """lam, once and for all: from the start's residual."""
        s = self.settings
        if not self._sparse:
            return facts
        residual = sums.residual(m)
        if s.robust:
            # The objective's own factor: channel weights q = 2 U stand for the halves of the other methods.
            return {
                **facts,
                "lam": s.lam if s.lam is not None else s.lambda_rel * float(residual.sqrt().sum()) / sums.penalty,
            }
        lam = s.lam if s.lam is not None else s.lambda_rel * float(residual.sum()) / sums.penalty
        return {**facts, "lam": lam / 2}

    def abundance_rule(self, facts: State) -> AbundanceRule:
        """Multiplicative step with a map."""
        s = self.settings
        learned = s.guide == "learned"
        return GuidedRule(
            d=s.d,
            lam=facts["lam"],
            p=1 - s.h,
            h_max=s.h_max,
            first=s.burn_in if learned else -1,
            every=s.every,
            last=s.freeze,
        )

    def pixel_facts(self, facts: State) -> Facts:
        """The map at the start."""
        if self.settings.guide == "none":
            return Facts()
        if self.settings.guide == "learned":
            return NoGuidance()
        return DataGuidance(facts["sigma"], facts["low"], facts["high"], self.settings.h_max)

    def graph(self, facts: State) -> GraphOf | None:
        """Neighbours of the filter."""
        measure: dict[str, Any] = {"mean": "none", "angle": "angle"}
        return GraphOf("grid", 8, measure[self.settings.smooth]) if self.settings.smooth != "none" else None

    def channel_weights(
        self, sums: Sums, m: torch.Tensor, start: Start, facts: State, rows: Sequence[float] = ()
    ) -> tuple[torch.Tensor | None, float]:
        """q_l = 1 / |R_l|, twice the U of the derivation; constant channels get none."""
        if not self.settings.robust:
            return None, 1.0
        live = start.live.to(m.device)
        residual = sums.residual(m).sqrt()
        least = SMALLEST * float(residual[live].max()) if bool(live.any()) else 1.0
        weight = torch.where(live, 1 / residual.clamp_min(max(least, 1e-150)), 0.0)
        row = float(weight[live].mean()) if bool(live.any()) else 1.0
        return weight, rows[0] if rows and self.settings.row_weight == "frozen" else row

    def data_term(self, residual: torch.Tensor, start: Start) -> float:
        """The l2,1 norm."""
        if not self.settings.robust:
            return super().data_term(residual, start)
        return float(residual.sqrt()[start.live.to(residual.device)].sum())

    def may_stop(self, number: int, curve: Sequence[float]) -> bool:
        """Over `checks` iterations together, and never while the map is still learned."""
        s = self.settings
        if s.guide == "learned" and self._sparse and number <= s.freeze:
            return False
        if len(curve) <= s.checks:
            return False
        return abs(curve[-1 - s.checks] - curve[-1]) < s.tolerance * max(abs(curve[-1]), 1e-300)

    def final(self, store: MemoryStore | StreamStore, source: Source, state: State) -> State:
        """And what the weights say of each channel."""
        found = super().final(store, source, state)
        if self.settings.robust:
            live = state["begin"]["live"]
            weight = state["channel_now"].cpu()
            found["band_quality"] = band_quality(weight.numpy(), live.cpu().numpy(), source.info.wavelength)
        return found

    def figures(self, state: State) -> dict[str, Any]:
        """And lam, channels left out of the start, suggested bad bands."""
        found = super().figures(state)
        if "begin" not in state:
            return found
        clean = state["begin"]["clean"]
        found["lam"] = state["facts"]["lam"] * (1 if self.settings.robust else 2)
        found["screened_bands"] = [int(i) + 1 for i in (~clean).nonzero()[:, 0]]
        if "band_quality" in state:
            table = state["band_quality"]
            found["suggested_bad_bands"] = [
                int(b) for b, bad in zip(table["band"], table["suggested_bad"], strict=True) if bad
            ]
        return found


@dataclass(frozen=True)
class GuidedRule(AbundanceRule):
    """Multiplicative step whose exponents are learned from the abundances in some iterations.

    Attributes
    ----------
    h_max : float
    first, every, last : int
        Iterations (from 0) before which the map is renewed; ``first < 0``: never.
    """

    h_max: float = 0.9
    first: int = -1
    every: int = 10
    last: int = 500

    def step(self, block: Block, factors: Factors, number: int) -> None:
        """Renew the map where it is time, then improve the abundances."""
        if 0 <= self.first <= number <= self.last and (number - self.first) % self.every == 0:
            h = hoyer(block.a).clamp(0, self.h_max)
            if block.graph is not None:
                near, degree = neighbour_sums(block, h[None])
                h = (near[0] + h) / (degree + 1)
            block.h = h
        super().step(block, factors, number)


def hoyer(a: torch.Tensor) -> torch.Tensor:
    """Sparseness (sqrt(k) - |a|_1 / |a|_2) / (sqrt(k) - 1) of each column of (k, n), 0..1; 0 for zero columns."""
    root = a.shape[0] ** 0.5
    norm = a.norm(dim=0)
    ratio = torch.where(norm > 0, a.abs().sum(0) / norm.clamp_min(1e-300), root)
    return (root - ratio) / (root - 1)


class NoGuidance(Facts):
    """h = 0, l1, until a map is learned."""

    def __call__(self, tile: Tile, start: Start) -> dict[str, torch.Tensor]:
        """``h`` of the core."""
        return {"h": torch.zeros(tile.inner.height, tile.inner.width, dtype=torch.float64, device=tile.lead.device)}


@dataclass(frozen=True)
class DataGuidance(Facts):
    """Likeness of neighbours, from `low` (0) to `high` (1) of the scene, up to `h_max`."""

    sigma: float
    low: float
    high: float
    h_max: float

    def __call__(self, tile: Tile, start: Start) -> dict[str, torch.Tensor]:
        """``h`` of the core."""
        alike = similarity(tile, start, self.sigma)
        return {"h": ((alike - self.low) / max(self.high - self.low, 1e-12)).clamp(0, self.h_max)}


def _likeness(tile: Tile, start: Start, sigma: float) -> tuple[float, float]:
    alike = similarity(tile, start, sigma)[tile.core(tile.valid)[0, 0]]
    return (float(alike.min()), float(alike.max())) if alike.numel() else (1.0, 0.0)


def _widest(one: tuple[float, float], other: tuple[float, float]) -> tuple[float, float]:
    return min(one[0], other[0]), max(one[1], other[1])
