"""Archetypal analysis: endmembers are mixtures of pixels, pixels are mixtures of endmembers.

EDAA descends by entropy from many starts; archetypal analysis proper takes exact steps on the simplex.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import torch

from torchspectral.engine.method import BandRule, Input, Method, Output, Scope, Size, Source, State, Tile
from torchspectral.errors import BadInput, BadSettings
from torchspectral.ops.bvls import simplex_gram
from torchspectral.ops.fcls import AbundanceSolver
from torchspectral.ops.vca import check_span
from torchspectral.settings import setting
from torchspectral.unmixing.counting import check_sums, choose_k, counts_note
from torchspectral.unmixing.geometric.base import ENDMEMBERS, ExtractionSettings, endmember_names
from torchspectral.unmixing.library.base import residual, spectra_for
from torchspectral.unmixing.picking import as_is, collect

STILL = 1e-3
"""Deviation of the abundances below which a run has not left its uniform start."""


class EdaaSettings(ExtractionSettings):
    """EDAA; defaults of the authors."""

    iterations: int = setting(100, "outer iterations T", ge=1)
    steps_a: int = setting(5, "steps of the abundances in an iteration, K1", ge=1)
    steps_b: int = setting(5, "steps of the mixtures of pixels in an iteration, K2", ge=1)
    runs: int = setting(50, "starts M", ge=1)
    within: float = setting(0.05, "runs whose residual is this close, relatively, to the best may win", ge=0)
    compat: Literal["", "authors-code"] = setting(
        "",
        "authors-code: step exponents from -3 to 3, most of which never move, and the least correlated of the runs "
        "within reach even where it has not moved",
    )


class ArchetypalSettings(ExtractionSettings):
    """Archetypal analysis."""

    iterations: int = setting(100, "sweeps over the archetypes", ge=1)
    tolerance: float = setting(1e-6, "relative change of the loss at which it stops", ge=0)


class _Archetypes(Method):
    """What both methods share: all valid pixels are held, abundances of the fitted scene come from the fit.

    State
    -----
    endmembers : Tensor, shape (k, bands)
    shares : Tensor, shape (k, valid pixels)
        Abundances of the scene that was fitted.
    mark : float
        Tells that scene from others, whose abundances are the exact ones for these endmembers.
    """

    inputs = (Input("cube"),)
    outputs: tuple[Output, ...] = (
        Output("abundances", kind="layers", names="=endmember_names", undo_scale=False),
        Output("rmse", kind="layers", names=("rmse",), undo_scale=False),
        ENDMEMBERS,
    )
    scope = Scope.SCENE
    bands = BandRule(least=2)
    needs_fit = True

    def __init__(self, settings: Any = None) -> None:
        super().__init__(settings)
        if self.settings.k != "auto" and self.settings.k < 2:
            raise BadSettings(f"got k={self.settings.k}, expected at least 2 endmembers: one leaves nothing to unmix")

    def _gather(self, source: Source) -> tuple[torch.Tensor, int, Any]:
        gram = source.gram()
        check_sums(gram)
        n, total, cross = gram.n, gram.total.cpu(), gram.cross.cpu()
        k, counts = choose_k(self.settings.k, self.settings.most, n, total, cross)
        check_span(n, total, cross, k)
        pixels, index = collect(source, as_is)
        return pixels[:, torch.argsort(index)], k, counts

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Abundances (n, k, y, x) and residual (n, 1, y, x)."""
        cube, spectra = tile["cube"], spectra_for(tile, state)
        n, _, rows, cols = cube.shape
        valid = tile.valid[0, 0]
        pixels = cube[0][:, valid]
        if "mark" in state and n == 1 and _mark(pixels) == state["mark"]:
            found = state["shares"].to(cube.device, torch.float64)
        else:
            found = AbundanceSolver(spectra, "fcls").solve(pixels)
        planes = found.new_zeros((len(spectra), rows, cols))
        planes[:, valid] = found
        return {"abundances": planes[None].to(cube.dtype), "rmse": residual(cube, spectra, planes[None])}

    def memory(self, size: Size) -> dict[str, int]:
        """The pixels three times, and a dozen arrays of k numbers a pixel."""
        k = self.settings.most if self.settings.k == "auto" else self.settings.k
        pixels = size.rows * size.cols
        return {"fit": pixels * (12 * size.bands + 12 * 8 * k), "apply": pixels * (8 * size.bands + 16 * k)}

    def figures(self, state: State) -> dict[str, Any]:
        """How the fit went."""
        told = ("k", "counts", "run", "residual", "iterations", "loss")
        said = {key: state[key] for key in told if state.get(key) not in (None, {})}
        return said | ({"warnings": counts_note(state["counts"])} if state.get("counts") else {})


def _mark(pixels: torch.Tensor) -> float:
    """A number that tells the pixels of one scene from those of another."""
    values = pixels.to(torch.float64)
    weights = torch.arange(1, values.shape[1] + 1, dtype=torch.float64, device=values.device)
    return float((values.sum(0) * weights).sum()) + values.shape[1]


def draw_exponent(seed: int, as_coded: bool) -> int:
    """Exponent of two of the step: -3..3 in the authors' code, of which only the positive ones move."""
    random = np.random.RandomState(seed)
    return int(random.randint(-3, 4) if as_coded else random.randint(1, 4))


def edaa_run(
    pixels: torch.Tensor,
    k: int,
    seed: int,
    exponent: int,
    *,
    iterations: int = 100,
    steps_a: int = 5,
    steps_b: int = 5,
) -> tuple[torch.Tensor, torch.Tensor]:
    """One run of entropic descent: B (n, k), columns on the simplex, and A (k, n), float32.

    Parameters
    ----------
    pixels : Tensor, shape (bands, n)
    k, seed : int
    exponent : int
        The step is 2^exponent over the squared norm of the first endmembers.
    """
    y = pixels.to(torch.float32)
    n = y.shape[1]
    generator = torch.Generator().manual_seed(seed)
    b = torch.softmax(0.1 * torch.rand((n, k), generator=generator), dim=0).to(y.device)
    a = torch.full((k, n), 1 / k, dtype=torch.float32, device=y.device)
    step_a = 2.0**exponent / float(torch.linalg.matrix_norm(y @ b, 2)) ** 2
    step_b = step_a * math.sqrt(k / n)
    tiny = torch.finfo(torch.float32).tiny
    for _ in range(iterations):
        mixed = y @ b
        inner, products = mixed.T @ mixed, mixed.T @ y
        for _ in range(steps_a):
            a = torch.softmax(a.clamp_min(tiny).log() + step_a * (products - inner @ a), dim=0)
        overlap, target = a @ a.T, y @ a.T
        for _ in range(steps_b):
            slope = y.T @ (target - (y @ b) @ overlap)
            b = torch.softmax(b.clamp_min(tiny).log() + step_b * slope, dim=0)
    return b, a


def correlation_of(endmembers: torch.Tensor) -> float:
    """Largest correlation between two of the columns (bands, k)."""
    centred = endmembers - endmembers.mean(0)
    unit = centred / centred.norm(dim=0).clamp_min(torch.finfo(centred.dtype).tiny)
    found = unit.T @ unit
    found.fill_diagonal_(-torch.inf)
    return float(found.max())


def edaa(
    pixels: torch.Tensor,
    k: int,
    seed: int = 0,
    *,
    iterations: int = 100,
    steps_a: int = 5,
    steps_b: int = 5,
    runs: int = 50,
    within: float = 0.05,
    as_coded: bool = False,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Endmembers (k, bands) and abundances (k, n), float32, of pixels (bands, n).

    References
    ----------
    Zouaoui, Muhawenayo, Rasti, Chanussot and Mairal, "Entropic descent archetypal analysis for blind hyperspectral
    unmixing", IEEE TIP 32, 2023.
    """
    best = _Runs(within, as_coded)
    for run in range(runs):
        exponent = draw_exponent(run + seed, as_coded)
        b, a = edaa_run(
            pixels, k, run + seed, exponent, iterations=iterations, steps_a=steps_a, steps_b=steps_b
        )  # fmt: skip
        best.add(run, pixels.to(torch.float32), b, a)
    return best.winner()[1:3]


class _Runs:
    """Candidates of all runs; those out of reach of the best residual are dropped as it falls."""

    def __init__(self, within: float, as_coded: bool) -> None:
        self.within, self.as_coded = within, as_coded
        self.kept: list[dict[str, Any]] = []

    def add(self, run: int, y: torch.Tensor, b: torch.Tensor, a: torch.Tensor) -> None:
        """Take a run."""
        mixed = y @ b
        fit = float((y - mixed @ a).abs().sum())
        if not math.isfinite(fit):
            return
        moved = self.as_coded or float(a.std()) > STILL
        row = {"run": run, "fit": fit, "correlation": correlation_of(mixed), "moved": moved}
        self.kept.append(row | {"endmembers": mixed.T.contiguous(), "shares": a})
        able = [r for r in self.kept if r["moved"]] or self.kept
        least = min(r["fit"] for r in able)
        self.kept = [r for r in able if (r["fit"] - least) / max(r["fit"], 1e-30) < self.within or r["fit"] == least]

    def winner(self) -> tuple[dict[str, Any], torch.Tensor, torch.Tensor]:
        """The least correlated of those that are kept."""
        if not self.kept:
            raise BadInput("no run of the entropic descent stayed finite: check the scene's values")
        row = min(self.kept, key=lambda r: r["correlation"])
        return row, row["endmembers"], row["shares"]


class Edaa(_Archetypes):
    """Entropic descent archetypal analysis: blind unmixing from many starts, each pixel a candidate.

    References
    ----------
    Zouaoui, Muhawenayo, Rasti, Chanussot and Mairal, "Entropic descent archetypal analysis for blind hyperspectral
    unmixing", IEEE TIP 32, 2023.
    """

    Settings = EdaaSettings

    def fit(self, source: Source, seed: int, state: State | None) -> Iterator[tuple[State, float]]:
        """Every run is a round: a stopped fit goes on with the next."""
        s = self.settings
        pixels, k, counts = self._gather(source)
        y = pixels.to(torch.float32)
        best = _Runs(s.within, bool(s.compat))
        state = dict(state or {})
        best.kept = [{**row} for row in state.get("kept", [])]
        for run in range(int(state.get("next", 0)), s.runs):
            exponent = draw_exponent(run + seed, bool(s.compat))
            b, a = edaa_run(
                y, k, run + seed, exponent, iterations=s.iterations, steps_a=s.steps_a, steps_b=s.steps_b
            )  # fmt: skip
            best.add(run, y, b, a)
            if run + 1 < s.runs:
                yield {"kept": best.kept, "next": run + 1}, (run + 1) / s.runs
        row, endmembers, shares = best.winner()
        done = {"endmembers": endmembers.double(), "endmember_names": endmember_names(k), "shares": shares}
        facts = {"k": k, "counts": counts, "run": row["run"], "residual": row["fit"], "mark": _mark(pixels)}
        yield {**done, **facts}, 1.0


def nearest_mixture(atoms: torch.Tensor, target: torch.Tensor, most: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """The mixture of atoms (bands, n) nearest to a target (bands,): indices and weights of the atoms that it needs.

    An active set that grows by the atom of steepest descent: no more than bands + 1 atoms are held, whatever n.
    """
    members = [int((atoms - target[:, None]).square().sum(0).argmin())]
    weights = torch.ones(1, dtype=torch.float64, device=atoms.device)
    for _ in range(most):
        part = atoms[:, members]
        rest = target - part @ weights
        gains = atoms.T @ rest
        entering = int(gains.argmax())
        here = float((part.T @ rest) @ weights)
        if float(gains[entering]) - here <= 1e-10 * (1e-300 + float(target.square().sum())) or entering in members:
            break
        members.append(entering)
        part = atoms[:, members]
        weights = simplex_gram(part.T @ part, (part.T @ target)[:, None])[:, 0]
        keep = weights > 0
        members = [m for m, k in zip(members, keep.tolist(), strict=True) if k]
        weights = weights[keep]
    return torch.tensor(members, device=atoms.device), weights


def archetypal_analysis(
    pixels: torch.Tensor,
    start: torch.Tensor,
    iterations: int = 100,
    tolerance: float = 1e-6,
    before: float = math.inf,
) -> Iterator[tuple[torch.Tensor, torch.Tensor, float]]:
    """Archetypes (k, bands), abundances (k, n) and half the squared residual after each sweep.

    Parameters
    ----------
    pixels : Tensor, shape (bands, n)
    start : Tensor, shape (k, bands)
        First archetypes, each a mixture of pixels.
    before : float
        Loss of the sweep before, where this goes on from one.

    References
    ----------
    Chen, Mairal and Harchaoui, "Fast and robust archetypal analysis for representation learning", CVPR 2014.
    """
    y, z = pixels.to(torch.float64), start.to(pixels.device, torch.float64).T.clone()
    for _ in range(iterations):
        shares = AbundanceSolver(z.T, "fcls").solve(y)
        rest = y - z @ shares
        for j in range(z.shape[1]):
            power = float(shares[j].square().sum())
            if power <= 1e-12:
                continue
            members, weights = nearest_mixture(y, z[:, j] + rest @ shares[j] / power)
            fresh = y[:, members] @ weights
            rest = rest - (fresh - z[:, j])[:, None] * shares[j][None]
            z[:, j] = fresh
        shares = AbundanceSolver(z.T, "fcls").solve(y)
        loss = float((y - z @ shares).square().sum()) / 2
        yield z.T.contiguous(), shares, loss
        if before - loss <= tolerance * loss:
            return
        before = loss


class ArchetypalAnalysis(_Archetypes):
    """Archetypal analysis: alternating exact least squares on the simplex, from the pixels that SiVM finds.

    References
    ----------
    Cutler and Breiman, "Archetypal analysis", Technometrics 36(4), 1994. Chen, Mairal and Harchaoui, "Fast and robust
    archetypal analysis for representation learning", CVPR 2014.
    """

    Settings = ArchetypalSettings

    def fit(self, source: Source, seed: int, state: State | None) -> Iterator[tuple[State, float]]:
        """Every sweep is a round."""
        from torchspectral.unmixing.geometric.sivm import sivm

        s = self.settings
        pixels, k, counts = self._gather(source)
        state = dict(state or {})
        done = int(state.get("iterations", 0))
        start = state["endmembers"].cpu() if done else pixels[:, sivm(pixels, k)].T
        base = {"endmember_names": endmember_names(k), "k": k, "counts": counts, "mark": _mark(pixels)}
        before = float(state.get("loss", math.inf))
        for spectra, shares, loss in archetypal_analysis(pixels, start, s.iterations - done, s.tolerance, before):
            done += 1
            state = {**base, "endmembers": spectra, "shares": shares, "loss": loss, "iterations": done}
            yield state, done / s.iterations
        yield state, 1.0
