"""Geometric, sparse and archetypal systems of the unmixing cases: arguments from the case's constructor line."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import unmixing_problem
from parity_fill import make_input

from torchspectral.unmixing.archetypal import edaa
from torchspectral.unmixing.geometric.sisal import sisal
from torchspectral.unmixing.geometric.sivm import sivm
from torchspectral.unmixing.library.clsunsal import clsunsal
from torchspectral.unmixing.library.s2wsu import s2wsu
from torchspectral.unmixing.library.sunaa import sunaa
from torchspectral.unmixing.library.sunsal import sunsal

Problem = Mapping[str, Any]


def library(problem: Problem, spectra: torch.Tensor, atoms: int = 40) -> torch.Tensor:
    """The cases' library (atom, band): made as the spectra are, which come first."""
    base = make_input((atoms, 8), int(problem["seed"]) + 7).astype(np.float64)
    places = np.linspace(0, 7, int(problem["L"]))
    made = np.stack([0.8 * np.interp(places, np.arange(8), row) + 0.05 for row in base])
    made[: len(spectra)] = spectra.numpy()
    return torch.from_numpy(made)


def arguments(line: str) -> dict[str, Any]:
    """Keywords of all calls of a constructor line, and the names of the last call's positional arguments."""
    found: dict[str, Any] = {}
    tree = ast.parse(line, mode="eval").body
    found["given"] = [a.id for a in getattr(tree, "args", []) if isinstance(a, ast.Name)]
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        for keyword in call.keywords:
            value = ast.literal_eval(keyword.value)
            found |= value if keyword.arg is None else {keyword.arg: value}
    return found


def run(system: str, case: Any) -> dict[str, Any]:
    """Outputs of one case."""
    problem = case.params["problem"]
    pixels, spectra, _ = unmixing_problem.make(problem)
    p, said = int(problem["p"]), arguments(case.meta["constructor"])
    atoms = library(problem, spectra)
    seed = int(said.get("seed", 0))
    if system == "sivm":
        found = sivm(pixels, p)
        return {"endmembers": pixels[:, found], "indices": found}
    if system == "sisal":
        return {"endmembers": sisal(pixels, p, seed, tau=said.get("tau", 1e-6), spherise=False).T}
    if system.startswith("sunsal"):
        found, _ = sunsal(
            pixels,
            spectra if said["given"][-1] == "E" else atoms,
            l1=said.get("lambd", 1e-3),
            positive=said.get("positivity", True),
            sum_to_one=said.get("addone", False),
            iterations=said.get("AL_iters", 1000),
            tolerance=said.get("tol", 1e-4),
            together=True,
        )
        return {"abundances": found}
    if system == "clsunsal":
        found, _ = clsunsal(
            pixels,
            atoms,
            l21=said.get("lambd", 0.01),
            mu=said.get("mu", 0.1),
            iterations=said.get("AL_iters", 1000),
            tolerance=said.get("tol", 1e-4),
            as_coded=True,
        )
        return {"abundances": found}
    if system == "s2wsu":
        everywhere = torch.ones((int(problem["H"]), int(problem["W"])), dtype=torch.bool)
        return {"abundances": s2wsu(pixels, atoms, everywhere, l1=said.get("lambd", 1e-3))}
    if system == "sunaa":
        mixtures, shares = sunaa(pixels, atoms, p, said.get("T", 500))
        return {"abundances": mixtures @ shares}
    found, shares = edaa(
        pixels,
        p,
        seed,
        iterations=said.get("T", 100),
        steps_a=said.get("K1", 5),
        steps_b=said.get("K2", 5),
        runs=said.get("M", 50),
        as_coded=True,
    )
    return {"endmembers": found.T, "abundances": shares}


SYSTEMS = ("sivm", "sisal", "sunsal_asc", "sunsal_pos", "sunsal_cls", "clsunsal", "s2wsu", "sunaa", "edaa")


def compare(case: Any, got: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """As the case says; of SUnAA, whose library of rank 8 leaves B A open, the model D B A and the loss.

    Where the reference itself is chaotic (its own loss lies above what a tenth of a percent allows) the constraints
    and the range between the loss of the full library and the reference's are what must hold.
    """
    if not case.name.startswith("sunaa"):
        return case.compare(got)
    pixels, spectra, _ = unmixing_problem.make(case.params["problem"])
    atoms = library(case.params["problem"], spectra)
    with np.load(case.folder / f"{case.name}.npz", allow_pickle=False) as stored:
        want = torch.from_numpy(np.array(stored["abundances"])).double()
    have = torch.as_tensor(got["abundances"]).double()
    model, known = atoms.T @ have, atoms.T @ want
    on_simplex = max(float((have.sum(0) - 1).abs().max()), float((-have).max()))
    error = float((model - known).abs().max())
    loss, reference = (float((pixels - m).square().sum()) / 2 for m in (model, known))
    same = error <= 1e-4 and abs(loss / reference - 1) <= 1e-3
    row = {
        "ok": on_simplex <= 1e-6 and (same or _chaotic(case, pixels, atoms, loss)),
        "max_error": error,
        "of_allowed": error / 1e-4,
        "values": int(have.numel()),
    }
    if not row["ok"]:
        row["reason"] = f"D B A off by {error:.3g}, loss {loss:.4f} against {reference:.4f}, simplex {on_simplex:.1e}"
    return {"abundances": row}


def _chaotic(case: Any, pixels: torch.Tensor, atoms: torch.Tensor, loss: float) -> bool:
    """Whether noise of 1e-9 moves the answer by more than the comparison allows, and the loss is a fair one still."""
    from torchspectral.ops.fcls import fcls

    p, said = int(case.params["problem"]["p"]), arguments(case.meta["constructor"])
    losses = []
    for seed in range(2):
        noise = torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(pixels.shape)))
        near = pixels * (1 + 1e-9 * noise)
        mixtures, shares = sunaa(near, atoms, p, said.get("T", 500))
        losses.append(float((pixels - atoms.T @ (mixtures @ shares)).square().sum()) / 2)
    full = float((pixels - atoms.T @ fcls(pixels, atoms)).square().sum()) / 2
    return max(*losses, loss) > 1.001 * min(*losses, loss) and full <= loss <= 1.15 * full
