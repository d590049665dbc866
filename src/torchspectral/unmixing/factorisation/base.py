"""What all factorisations share: start, iterations, stop rule, and abundances that follow from what was learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Literal

import torch

from torchspectral.engine.method import (
    BandRule,
    Input,
    Method,
    Output,
    Round,
    Scope,
    Size,
    Source,
    State,
    Tile,
)
from torchspectral.errors import BadInput, BadSettings, BandMismatch
from torchspectral.settings import Settings, setting
from torchspectral.unmixing.factorisation.abundance_rules import AbundanceRule
from torchspectral.unmixing.factorisation.blocks import EPS, Block, Factors, Sums
from torchspectral.unmixing.factorisation.endmember_rules import EndmemberRule
from torchspectral.unmixing.factorisation.start import Start, find_start
from torchspectral.unmixing.factorisation.stores import CHUNK, Facts, GraphOf, MemoryStore, Problem, StreamStore
from torchspectral.unmixing.vca_fcls import ENDMEMBERS, endmember_names

ROUND = 10
"""Iterations between two rounds that can be journaled."""

CURVE = 200
"""Points of the objective curve in the report."""


class FactorisationSettings(Settings):
    """What every factorisation takes; constants are for data whose largest value is 1, as the method scales them."""

    k: int | Literal["auto"] = setting(
        "auto", 'endmembers, at least 2; "auto" counts signal dimensions by HySime, an upper bound on real scenes'
    )
    most: int = setting(20, "largest number that k=auto may choose", ge=2)
    start: Literal["vca", "random"] = setting(
        "vca", "vca: VCA and FCLS; random: pixels drawn with the run's seed, equal shares"
    )
    draws: int = setting(1, "runs of VCA; the one whose simplex is largest is the start", ge=1)
    lift: float = setting(
        1e-3, "start abundances are at least this: a zero of FCLS would stay zero in multiplicative steps", ge=0, lt=1
    )
    d: float = setting(15.0, "sum-to-one row appended to data and endmembers; smaller is softer, 0 is none", ge=0)
    iterations: int = setting(3000, "most iterations", ge=1)
    tolerance: float = setting(1e-4, "relative change of the objective that counts as none", ge=0)
    checks: int = setting(10, "iterations in a row without change after which it stops", ge=1)
    normalise: bool = setting(True, "divide the abundances of a pixel by their sum in the end: the row is soft")
    in_memory: int = setting(
        2048, "scenes that take more in float64 are streamed, once or twice an iteration", unit="MB", ge=0
    )


class Factorisation(Method):
    """Base of all factorisations.

    Outputs
    -------
    abundances : layers, one an endmember, 0..1
    rmse : layer
        Root mean square residual over the bands, in the cube's units, of the abundances before `normalise`.
    endmembers : spectra, in the cube's units

    State
    -----
    endmembers, endmember_names
        As found.
    path : list of Tensor (bands, k)
        Endmembers that each iteration's abundance step used: abundances of any pixel follow from them.
    channel, row : list
        Channel weights and the weight of the sum-to-one row of each iteration, where the method has them.
    begin : dict
        The start and the scene's facts.
    curve : list of float
        Objective before the first and after each iteration, data scaled to a maximum of 1.
    """

    Settings: ClassVar[type[Settings]] = FactorisationSettings
    inputs = (Input("cube"),)
    outputs: tuple[Output, ...] = (
        Output("abundances", kind="layers", names="=endmember_names", undo_scale=False),
        Output("rmse", kind="layers", names=("rmse",), undo_scale=False),
        ENDMEMBERS,
    )
    scope: Scope = Scope.PIXEL
    bands = BandRule(least=2)
    needs_fit = True
    compute_dtype = "float64"
    screen: float = 0.0
    robust: bool = False

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        if self.settings.k != "auto" and self.settings.k < 2:
            raise BadSettings(f"got k={self.settings.k}, expected at least 2 endmembers: one leaves nothing to unmix")

    # What a method says of itself

    def facts_of(self, source: Source, start: Start) -> State:
        """Numbers of the scene that weights, guidance and penalties need; kept in the state."""
        return {}

    def abundance_rule(self, facts: State) -> AbundanceRule:
        """The abundance step."""
        return AbundanceRule(d=self.settings.d)

    def endmember_rule(self, facts: State) -> EndmemberRule:
        """The endmember step."""
        return EndmemberRule()

    def pixel_facts(self, facts: State) -> Facts:
        """Weights and guidance of pixels."""
        return Facts()

    def graph(self, facts: State) -> GraphOf | None:
        """How pixels are coupled, of methods of scene scope."""
        return None

    def settle(self, sums: Sums, m: torch.Tensor, facts: State) -> State:
        """Complete the facts once the sums at the start are known (penalties relative to the residual)."""
        return facts

    def may_stop(self, number: int, curve: Sequence[float]) -> bool:
        """Whether the objective has come to rest after iteration `number` (from 1)."""
        checks = self.settings.checks
        last = curve[-checks - 1 :]
        return len(curve) > checks and all(
            abs(a - b) < self.settings.tolerance * max(abs(b), 1e-300) for a, b in pairwise(last)
        )

    # The engine of updates

    def fit(self, source: Source, seed: int, state: State | None) -> Iterator[Round]:
        """Alternate abundance and endmember steps; a round every ten iterations."""
        s = self.settings
        device = source.gram().cross.device
        state = self._begin(source, seed) if state is None else dict(state)
        start, facts = Start.from_state(state["begin"]), state["facts"]
        past = factors_of(state, device)
        problem = Problem(start, self.abundance_rule(facts), self.pixel_facts(facts), self.graph(facts))
        store = self._store(source, problem, past, state)
        if not state["curve"]:
            first = store.sums().to(device)
            state["facts"] = facts = self.settle(first, start.m.to(device), facts)
            store.use(self.abundance_rule(facts))
            first = store.sums().to(device) if problem.rule != store.problem.rule else first
            state["m"] = start.m.to(device)
            state["channel_now"], row = self.channel_weights(first, state["m"], start, facts)
            state["row_now"] = row
            state["curve"] = [self.objective(first, state["m"], facts, start, row)]
        store.catch_up()
        rule = self.endmember_rule(facts)
        m, channel, row = state["m"].to(device), state["channel_now"], state["row_now"]
        channel = None if channel is None else channel.to(device)
        while not state["stopped"]:
            factors = Factors(m, channel, row)
            sums = store.advance(factors).to(device)
            m = rule.step(m, sums)
            state["path"].append(factors.m)
            state["channel"].append(factors.channel)
            state["row"].append(row)
            channel, row = self.channel_weights(sums, m, start, facts, state["row"])
            state["curve"].append(self.objective(sums, m, facts, start, row))
            number = len(state["path"])
            if self.may_stop(number, state["curve"]):
                state["stopped"] = "tolerance"
            elif number >= s.iterations:
                state["stopped"] = "iterations"
            state |= {"m": m, "channel_now": channel, "row_now": row}
            if number % ROUND == 0 and not state["stopped"]:
                state["written"] = getattr(store, "written", 0)
                yield {**state, "endmembers": m.T * start.peak}, min(number / s.iterations, 0.999)
        state["endmembers"] = (m.T * start.peak).contiguous()
        state |= self.final(store, source, state)
        yield state, 1.0

    def _begin(self, source: Source, seed: int) -> State:
        s = self.settings
        start = find_start(
            source, seed, k=s.k, most=s.most, start=s.start, screen=self.screen, lift=s.lift, draws=s.draws
        )
        names = endmember_names(start.m.shape[1])
        return {
            "begin": start.as_state(), "facts": self.facts_of(source, start), "endmember_names": names, "path": [],
            "channel": [], "row": [], "curve": [], "stopped": "", "written": 0,
        }  # fmt: skip

    def _store(
        self, source: Source, problem: Problem, past: Sequence[Factors], state: State
    ) -> MemoryStore | StreamStore:
        if self.scope is Scope.SCENE:
            return MemoryStore(source, problem, past, whole=True)
        pixels = source.gram().n * (source.info.bands + problem.start.m.shape[1] + 2) * 8
        if pixels <= self.settings.in_memory * 2**20:
            return MemoryStore(source, problem, past)
        return StreamStore(source, problem, past, int(state["written"]))

    def channel_weights(
        self, sums: Sums, m: torch.Tensor, start: Start, facts: State, rows: Sequence[float] = ()
    ) -> tuple[torch.Tensor | None, float]:
        """Weights of the channels for the next abundance step, and that of the sum-to-one row."""
        return None, 1.0

    def objective(self, sums: Sums, m: torch.Tensor, facts: State, start: Start, row: float) -> float:
        """Value after an endmember step, from the sums alone."""
        rule = self.abundance_rule(facts)
        value = self.data_term(sums.residual(m), start) + 0.5 * row * rule.d**2 * sums.row_error()
        return value + sums.penalty + self.endmember_rule(facts).penalty(m, sums.n)

    def data_term(self, residual: torch.Tensor, start: Start) -> float:
        """From the squared residual of each channel."""
        return 0.5 * float(residual.sum())

    def final(self, store: MemoryStore | StreamStore, source: Source, state: State) -> State:
        """Further values of the state, once: of scene scope, the abundances themselves."""
        if self.scope is not Scope.SCENE:
            return {}
        assert isinstance(store, MemoryStore)
        tile = next(iter(source.tiles()))
        keep = tile.valid[0, 0].reshape(-1)
        maps = store.blocks[0].a if store.blocks[0].h is None else _with_guidance(store.blocks[0])
        out = maps.new_zeros((len(maps), keep.numel()))
        out[:, keep] = maps
        return {"maps": out.reshape(len(maps), *source.info.shape)}

    # Applying

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Abundances (n, k, y, x) and residual (n, 1, y, x) of the core."""
        if "begin" not in state:
            raise BadInput(
                "got a state with endmembers alone, expected one that this method fitted: to unmix with given "
                "endmembers use fcls"
            )
        start, facts = Start.from_state(state["begin"]), state["facts"]
        bands = tile.lead.shape[1]
        if start.m.shape[0] != bands:
            raise BandMismatch(f"the state has {start.m.shape[0]} bands and the cube {bands}, expected the same")
        size = (tile.inner.height, tile.inner.width)
        found: dict[str, list[torch.Tensor]] = {"abundances": [], "rmse": [], "guidance": []}
        problem = Problem(start, self.abundance_rule(facts), self.pixel_facts(facts))
        past = factors_of(state, tile.lead.device)
        spectra = state["endmembers"].to(tile.lead.device).T
        for n in range(tile.lead.shape[0]):
            one = Tile({"cube": tile["cube"][n : n + 1]}, tile.window, tile.inner, tile.valid[n : n + 1], tile.info)
            block = self._abundances(problem, one, past, state)
            cube = one.core("cube")[0].reshape(bands, -1)
            rmse = (cube - spectra @ block.a).square().mean(0).sqrt()
            a = block.a / block.a.sum(0).clamp_min(EPS) if self.settings.normalise else block.a
            found["abundances"].append(a.reshape(-1, *size))
            found["rmse"].append(rmse.reshape(1, *size))
            if block.h is not None:
                found["guidance"].append(block.h.reshape(1, *size))
        wanted = {output.name for output in self.outputs}
        return {name: torch.stack(parts) for name, parts in found.items() if name in wanted and parts}

    def _abundances(self, problem: Problem, tile: Tile, past: Sequence[Factors], state: State) -> Block:
        """The block of a tile after all iterations."""
        if self.scope is Scope.SCENE:
            maps = state["maps"].to(tile.lead.device)
            if maps.shape[1:] != tile.lead.shape[-2:]:
                raise BadInput(
                    f"the state belongs to a scene of {maps.shape[1]} x {maps.shape[2]} pixels, got one of "
                    f"{tile.lead.shape[-2]} x {tile.lead.shape[-1]}: neighbours take part, so fit it anew"
                )
            k = problem.start.m.shape[1]
            flat = maps.reshape(len(maps), -1)
            return Block(flat[:0], flat[:k], flat[k] if len(flat) > k else None)
        whole = problem.block(tile, everywhere=True)
        for first in range(0, whole.y.shape[1], CHUNK):
            part = slice(first, first + CHUNK)
            h = None if whole.h is None else whole.h[part]
            weight = None if whole.weight is None else whole.weight[part]
            block = problem.replay(Block(whole.y[:, part].contiguous(), whole.a[:, part], h, weight), past)
            whole.a[:, part] = block.a
            if whole.h is not None and block.h is not None:
                whole.h[part] = block.h
        return whole

    def memory(self, size: Size) -> dict[str, int]:
        """Pixels in float64, twice, abundances and guidance; in `fit` the scene as far as it is held."""
        pixels = size.rows * size.cols
        tile = pixels * (2 * size.bands + 64) * 8
        if self.scope is Scope.SCENE:
            return {"fit": tile + pixels * 8 * 40, "apply": tile}
        return {"fit": tile + self.settings.in_memory * 2**20, "apply": tile}

    def figures(self, state: State) -> dict[str, Any]:
        """How far it came, why it stopped, and the objective on the way."""
        if "begin" not in state:
            return {}
        curve = [float(v) for v in state["curve"]]
        start = Start.from_state(state["begin"])
        step = max(1, -(-len(curve) // CURVE))
        places = sorted({*range(0, len(curve), step), len(curve) - 1})
        last = abs(curve[-2] - curve[-1]) / max(abs(curve[-1]), 1e-300) if len(curve) > 1 else None
        found: dict[str, Any] = {
            **dict(start.figures),
            "iterations": len(curve) - 1,
            "stopped": state["stopped"],
            "last_change": last,
            "objective": {"iteration": places, "value": [curve[i] for i in places]},
            "scale": start.peak,
            "negative_values": start.negative,
        }
        warnings = []
        if start.negative:
            warnings.append(f"{start.negative} values below 0 were taken as 0")
        return {**found, **({"warnings": warnings} if warnings else {})}


def _with_guidance(block: Block) -> torch.Tensor:
    assert block.h is not None
    return torch.cat([block.a, block.h[None]])


def factors_of(state: State, device: torch.device) -> list[Factors]:
    """Factors of every iteration that a state holds."""
    channels = state["channel"]
    return [
        Factors(m, channel, float(row)).to(device)
        for m, channel, row in zip(state["path"], channels, state["row"], strict=True)
    ]
