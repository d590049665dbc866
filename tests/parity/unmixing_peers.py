"""Geometric, sparse and archetypal systems of the unmixing cases: arguments from the case's constructor line."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import unmixing_problem
from parity_case import Unsupported
from parity_fill import make_input

from torchspectral.ops.vca import vca
from torchspectral.unmixing.archetypal import edaa
from torchspectral.unmixing.geometric.sisal import sisal
from torchspectral.unmixing.geometric.sivm import sivm
from torchspectral.unmixing.library.clsunsal import clsunsal
from torchspectral.unmixing.library.s2wsu import s2wsu
from torchspectral.unmixing.library.sunaa import sunaa
from torchspectral.unmixing.library.sunsal import sunsal

Problem = Mapping[str, Any]


def library(case: Any, spectra: torch.Tensor) -> torch.Tensor:
    """The case's library (atom, band), as many as its recipe says: made as the spectra are, which come first."""
    problem: Problem = case.params["problem"]
    said = re.search(r"Library D \(L x (\d+)\)", str(case.params.get("recipe", "")))
    atoms = int(said[1]) if said else 40
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


_SPARSE = {"AL_iters": "iterations", "tol": "tolerance"}
READ: dict[str, dict[str, str]] = {
    "vca": {"seed": "seed", "snr_input": "snr"},
    "sivm": {"seed": "seed"},
    "sisal": {"seed": "seed", "tau": "tau", "mu": "mu", "MMiters": "iterations", "spherize": "spherise"},
    "sunsal": {"lambd": "l1", "positivity": "positive", "addone": "sum_to_one", **_SPARSE},
    "clsunsal": {"lambd": "l21", "mu": "mu", **_SPARSE},
    "s2wsu": {"lambd": "l1", "mu": "mu", "tol": "tolerance"},
    "sunaa": {"T": "iterations"},
    "edaa": {"seed": "seed", "T": "iterations", "K1": "steps_a", "K2": "steps_b", "M": "runs"},
}
"""By system: the reference's words for our settings."""
DEFAULTS: dict[str, dict[str, Any]] = {
    "vca": {"seed": 0},
    "sisal": {"seed": 0, "tau": 1e-6, "spherise": False},
    "sunsal": {"l1": 1e-3, "positive": True, "sum_to_one": False, "iterations": 1000, "tolerance": 1e-4},
    "clsunsal": {"l21": 0.01, "mu": 0.1, "iterations": 1000, "tolerance": 1e-4},
    "s2wsu": {"l1": 1e-3},
    "sunaa": {"iterations": 500},
    "edaa": {"seed": 0, "iterations": 100, "steps_a": 5, "steps_b": 5, "runs": 50},
}
"""The reference's own, where ours differ."""
SYSTEMS = tuple(READ)


def settings_of(system: str, case: Any) -> tuple[dict[str, Any], list[str]]:
    """Our settings for a case, none left out, and the names of what the reference's call was given."""
    said = arguments(case.meta["constructor"])
    given = said.pop("given")
    if unknown := sorted(set(said) - set(READ[system])):
        raise Unsupported(f"{system} with {', '.join(unknown)} is not built")
    chosen = DEFAULTS.get(system, {}) | {READ[system][word]: value for word, value in said.items()}
    if system == "vca" and not chosen.get("snr"):
        chosen["snr"] = None  # 0 stands for an estimate
    return chosen, given


def run(system: str, case: Any) -> dict[str, Any]:
    """Outputs of one case."""
    problem = case.params["problem"]
    pixels, spectra, _ = unmixing_problem.make(problem)
    p, (chosen, given) = int(problem["p"]), settings_of(system, case)
    atoms = library(case, spectra)
    if system == "vca":
        vertices = vca(pixels, p, **chosen)
        return {"endmembers": vertices.endmembers.T, "indices": vertices.indices}
    if system == "sivm":
        found = sivm(pixels, p)
        return {"endmembers": pixels[:, found], "indices": found}
    if system == "sisal":
        return {"endmembers": sisal(pixels, p, **chosen).T}
    if system == "sunsal":
        used = spectra if given[-1] == "E" else atoms
        return {"abundances": sunsal(pixels, used, together=True, **chosen)[0]}
    if system == "clsunsal":
        return {"abundances": clsunsal(pixels, atoms, as_coded=True, **chosen)[0]}
    if system == "s2wsu":
        everywhere = torch.ones((int(problem["H"]), int(problem["W"])), dtype=torch.bool)
        return {"abundances": s2wsu(pixels, atoms, everywhere, **chosen)}
    if system == "sunaa":
        mixtures, shares = sunaa(pixels, atoms, p, **chosen)
        return {"abundances": mixtures @ shares}
    found, shares = edaa(pixels, p, as_coded=True, **chosen)
    return {"endmembers": found.T, "abundances": shares}


def compare(case: Any, got: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """As the case says; of SUnAA, whose library of rank 8 leaves B A open, the model D B A and the loss.

    Where the reference itself is chaotic (its own loss lies above what a tenth of a percent allows) the constraints
    and the range between the loss of the full library and the reference's are what must hold.
    """
    if not case.name.startswith("sunaa"):
        return case.compare(got)
    pixels, spectra, _ = unmixing_problem.make(case.params["problem"])
    atoms = library(case, spectra)
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

    p, (chosen, _) = int(case.params["problem"]["p"]), settings_of("sunaa", case)
    losses = []
    for seed in range(2):
        noise = torch.from_numpy(np.random.default_rng(seed).standard_normal(tuple(pixels.shape)))
        near = pixels * (1 + 1e-9 * noise)
        mixtures, shares = sunaa(near, atoms, p, **chosen)
        losses.append(float((pixels - atoms.T @ (mixtures @ shares)).square().sum()) / 2)
    full = float((pixels - atoms.T @ fcls(pixels, atoms)).square().sum()) / 2
    return max(*losses, loss) > 1.001 * min(*losses, loss) and full <= loss <= 1.15 * full
