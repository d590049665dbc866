"""How many endmembers a scene has: estimates from its sums, upper bounds on real scenes."""

from __future__ import annotations

import math

import torch

from torchspectral.engine.method import Gram
from torchspectral.errors import BadInput
from torchspectral.ops.gram import covariance, eigh_descending
from torchspectral.ops.noise import hfc, hysime

Counts = dict[str, int | list[int]]


def counts_note(counts: Counts) -> list[str]:
    """One sentence about the counts, for the report; none where nothing was counted."""
    if not counts:
        return []
    said = {key: "/".join(map(str, v)) if isinstance(v, (list, tuple)) else v for key, v in counts.items()}
    return [
        f"k=auto took HySime's count: hysime {said['hysime']}, hfc {said['hfc']}, nwhfc {said['nwhfc']} (false alarms of "
        f"1e-3/1e-4/1e-5), elbow {said['elbow']}; an upper bound on real scenes, whose noise is correlated between "
        "bands: choose k yourself"
    ]


def elbow(n: int, total: torch.Tensor, cross: torch.Tensor) -> int:
    """Endmembers at the bend of the scree plot: one more than the principal components before it.

    The bend is the eigenvalue farthest below the chord from the first to the last one, in logarithms.
    """
    values, _ = eigh_descending(covariance(n, total, cross))
    top = float(values[0]) if len(values) else 0.0
    kept = values[: min(len(values), max(n - 1, 1))]
    kept = kept[kept > 1e-13 * top] if top > 0 else kept[:0]
    if len(kept) < 3:
        return len(kept) + 1
    logs = kept.log()
    place = torch.arange(len(logs), dtype=logs.dtype) / (len(logs) - 1)
    chord = logs[0] + (logs[-1] - logs[0]) * place
    return int((chord - logs).argmax()) + 1


def count_endmembers(n: int, total: torch.Tensor, cross: torch.Tensor) -> Counts:
    """Counts of the estimators: "hysime", "hfc" and "nwhfc" (at false alarms of 1e-3, 1e-4, 1e-5), "elbow".

    Parameters
    ----------
    n, total, cross : int, Tensor (bands,), Tensor (bands, bands)
        Count, sums and cross products of the valid pixels, float64.
    """
    found = hysime(n, cross)
    return {
        "hysime": found.k,
        "hfc": list(hfc(n, total, cross)),
        "nwhfc": list(hfc(n, total, cross, noise=found.noise)),
        "elbow": elbow(n, total, cross),
    }


def choose_k(k: int | str, most: int, n: int, total: torch.Tensor, cross: torch.Tensor) -> tuple[int, Counts]:
    """Endmembers to find, and what the estimators said where they were asked (k "auto")."""
    if k != "auto":
        return int(k), {}
    counts = count_endmembers(n, total, cross)
    found = counts["hysime"]
    assert isinstance(found, int)
    return min(max(found, 2), most, cross.shape[0]), counts


def check_sums(gram: Gram) -> None:
    """Refuse scenes that cannot hold endmembers.

    Raises
    ------
    BadInput
        Fewer than two valid pixels, infinite values, or zeros alone.
    """
    if gram.n < 2:
        raise BadInput(f"got {gram.n} valid pixels, expected at least 2 to find endmembers: check the mask and nodata")
    if not math.isfinite(gram.peak) or not bool(torch.isfinite(gram.cross).all()):
        raise BadInput("got pixels with infinite values, expected finite ones or nodata: mask them first")
    if not bool((gram.cross.diagonal() > 0).any()):
        raise BadInput("all valid pixels are zero, expected spectra")
