"""What an embedding has learnt: diffusion spectral entropy and mutual information, measures of collapse, probes.

Embeddings are (samples, dimensions), numpy arrays or torch tensors; numpy needs no torch. Nothing is imported before
it is asked for.
"""

from __future__ import annotations

from typing import Any

from torchspectral.lazy import lookup

_PUBLIC = {
    "DiffusionEntropy": "entropy",
    "dse": "entropy",
    "entry_entropy": "entropy",
    "renyi2": "entropy",
    "cse": "entropy",
    "ase": "entropy",
    "Information": "information",
    "clusters_of": "information",
    "dsmi": "information",
    "csmi": "information",
    "asmi": "information",
    "effective_rank": "collapse",
    "participation_ratio": "collapse",
    "rank_me": "collapse",
    "uniformity": "collapse",
    "alignment": "collapse",
    "self_cluster": "collapse",
    "knn_probe": "probes",
    "linear_probe": "probes",
    "summary": "overview",
    "label_summary": "overview",
    "alarms": "overview",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    return lookup(__name__, _PUBLIC, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_PUBLIC])
