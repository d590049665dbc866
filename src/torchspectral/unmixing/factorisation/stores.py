"""Where the pixels are while a factorisation iterates: in memory, or streamed with the abundances on disk.

Abundances are never part of what is learned: those of a pixel follow from its spectrum and from the factors of every
iteration, so that they are computed again, the same, wherever they are needed.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, Protocol

import torch

from torchspectral.engine.device import one_thread
from torchspectral.engine.method import Source, Tile
from torchspectral.unmixing.factorisation.abundance_rules import AbundanceRule
from torchspectral.unmixing.factorisation.blocks import Block, Factors, Sums, energy
from torchspectral.unmixing.factorisation.neighbours import pixel_graph
from torchspectral.unmixing.factorisation.start import Start

CHUNK = 4096
"""Pixels of a block in memory."""

WRITE_EVERY = 8
"""Iterations between two writings of streamed abundances: reading a tile costs more than repeating a few steps."""

ROLE = "factors"


class Facts:
    """What a pixel brings beside its spectrum: its weight and its guidance, from its neighbours or none."""

    def __call__(self, tile: Tile, start: Start) -> dict[str, torch.Tensor]:
        """Maps (y, x) of the core by name, ``weight`` or ``h``."""
        return {}


@dataclass(frozen=True)
class GraphOf:
    """How the graph between pixels is made; see `neighbours.pixel_graph`."""

    kind: Literal["grid", "knn"] = "grid"
    neighbours: int = 8
    measure: Literal["distance", "angle", "none"] = "distance"
    sigma: float | None = None

    def __call__(self, y: torch.Tensor, valid: torch.Tensor) -> torch.Tensor:
        """The graph of valid pixels (bands, n)."""
        return pixel_graph(y, valid, kind=self.kind, neighbours=self.neighbours, measure=self.measure, sigma=self.sigma)


@dataclass(frozen=True)
class Problem:
    """What turns a tile into a block, and a block into a better one."""

    start: Start
    rule: AbundanceRule
    facts: Facts
    graph: GraphOf | None = None

    def block(self, tile: Tile, *, everywhere: bool = False) -> Block:
        """Valid core pixels (or all of them) at the start."""
        keep = tile.core(tile.valid).reshape(-1)
        cube = tile.core("cube").movedim(-3, 0).to(torch.float64).reshape(tile.lead.shape[1], -1)
        chosen = slice(None) if everywhere or bool(keep.all()) else keep
        y = self.start.pixels(cube[:, chosen])
        maps = {name: value.reshape(-1)[chosen].to(y) for name, value in self.facts(tile, self.start).items()}
        if ROLE in tile and not everywhere:
            stored = tile.core(ROLE)[0].reshape(tile.data[ROLE].shape[1], -1)[:, chosen]
            k = self.start.m.shape[1]
            return Block(y, stored[:k], stored[k] if len(stored) > k else maps.get("h"), maps.get("weight"))
        return Block(y, self.start.abundances(y), maps.get("h"), maps.get("weight"))

    def replay(self, block: Block, factors: Iterable[Factors], first: int = 0) -> Block:
        """Do the steps of these iterations, numbered from `first`."""
        for number, one in enumerate(factors, start=first):
            self.rule.step(block, one, number)
        return block


class Store(Protocol):
    """Pixels and their abundances."""

    def use(self, rule: AbundanceRule) -> None:
        """Change the rule."""
        ...

    def sums(self) -> Sums:
        """Sums for the abundances as they are."""
        ...

    def advance(self, factors: Factors) -> Sums:
        """One abundance step of all pixels, and the sums after it."""
        ...


class MemoryStore:
    """All pixels in memory, float64, in blocks of `CHUNK`.

    Parameters
    ----------
    past : sequence of Factors
        Iterations that were done before.
    whole : bool
        One block only, for rules that couple pixels.
    """

    def __init__(self, source: Source, problem: Problem, past: Sequence[Factors], *, whole: bool = False) -> None:
        self.problem = problem
        self.blocks: list[Block] = []
        with one_thread():
            for tile in source.tiles():
                found = problem.block(tile)
                if problem.graph is not None:
                    clean = problem.start.clean.to(found.y.device)
                    found.graph = problem.graph(found.y[clean], tile.core(tile.valid)[0, 0])
                size = max(found.y.shape[1], 1) if whole else CHUNK
                self.blocks += [_cut(found, first, size) for first in range(0, found.y.shape[1], size)]
            self._energy = [energy(block) for block in self.blocks]
        self._number = 0
        self._past = list(past)

    def use(self, rule: AbundanceRule) -> None:
        """Change the rule; what was done before is then done with it."""
        self.problem = replace(self.problem, rule=rule)

    def catch_up(self) -> None:
        """Repeat the iterations of an earlier call."""
        with one_thread():
            for block in self.blocks:
                self.problem.replay(block, self._past)
        self._number, self._past = len(self._past), []

    def sums(self) -> Sums:
        """Sums for the abundances as they are."""
        rule = self.problem.rule
        with one_thread():
            parts = [
                Sums.of(block, rule.penalty(block), yy) for block, yy in zip(self.blocks, self._energy, strict=True)
            ]
            return _total(parts)

    def advance(self, factors: Factors) -> Sums:
        """One step of every block."""
        with one_thread():
            for block in self.blocks:
                self.problem.rule.step(block, factors, self._number)
        self._number += 1
        return self.sums()


def _cut(block: Block, first: int, size: int) -> Block:
    part = slice(first, first + size)
    h = None if block.h is None else block.h[part].clone()
    weight = None if block.weight is None else block.weight[part].clone()
    return Block(block.y[:, part].contiguous(), block.a[:, part].contiguous(), h, weight, block.graph)


def _total(parts: Sequence[Sums]) -> Sums:
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


class StreamStore:
    """Pixels stay where they are; abundances lie in a mapped array, written now and then.

    Parameters
    ----------
    past : sequence of Factors
        Iterations that were done before.
    written : int
        How many of them the mapped array holds.
    """

    def __init__(self, source: Source, problem: Problem, past: Sequence[Factors], written: int = 0) -> None:
        self._source, self.problem = source, problem
        self.written = written
        self._pending: list[Factors] = list(past[written:])
        self._energy: torch.Tensor | None = None

    def use(self, rule: AbundanceRule) -> None:
        """Change the rule."""
        self.problem = replace(self.problem, rule=rule)

    def catch_up(self) -> None:
        """Nothing: steps are repeated where they are needed."""

    def sums(self) -> Sums:
        """One pass over the scene."""
        f = partial(
            _stream_sums,
            problem=self.problem,
            factors=_cpu(self._pending),
            first=self.written,
            known=self._energy is not None,
        )
        found: Sums = self._source.reduce(f, operator.add)
        self._energy = found.yy if self._energy is None else self._energy
        return replace(found, yy=self._energy)

    def advance(self, factors: Factors) -> Sums:
        """One more step, and its sums; every `WRITE_EVERY` steps the abundances are written."""
        self._pending.append(factors)
        found = self.sums()
        if len(self._pending) >= WRITE_EVERY:
            f = partial(_stream_map, problem=self.problem, factors=_cpu(self._pending), first=self.written)
            self._source.map(ROLE, f)
            self.written += len(self._pending)
            self._pending = []
        return found


def _cpu(factors: Sequence[Factors]) -> list[Factors]:
    return [one.to(torch.device("cpu")) for one in factors]


def _stream_block(tile: Tile, problem: Problem, factors: Sequence[Factors], first: int) -> Block:
    device = tile.lead.device
    return problem.replay(problem.block(tile), (one.to(device) for one in factors), first)


def _stream_sums(tile: Tile, problem: Problem, factors: Sequence[Factors], first: int, known: bool) -> Any:
    block = _stream_block(tile, problem, factors, first)
    nothing = block.y.new_zeros(block.y.shape[0]) if known else None
    return Sums.of(block, problem.rule.penalty(block), nothing).to("cpu")


def _stream_map(tile: Tile, problem: Problem, factors: Sequence[Factors], first: int) -> torch.Tensor:
    block = _stream_block(tile, problem, factors, first)
    rows = block.a if block.h is None else torch.cat([block.a, block.h[None]])
    keep = tile.core(tile.valid).reshape(-1)
    out = rows.new_zeros((len(rows), keep.numel()))
    out[:, keep] = rows
    return out.reshape(1, len(rows), tile.inner.height, tile.inner.width)
