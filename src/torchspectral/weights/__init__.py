"""Weights: find, check, load, convert and keep them; networks by name.

A set of weights is a safetensors file (or a PyTorch file of tensors) with a card beside it. Nothing here ever unpickles
foreign objects: `load` reads tensors only, `convert` reads foreign pickles with an unpickler that cannot run anything.
"""

from __future__ import annotations

from torchspectral.weights.card import WeightsCard, WorkingScale, make_card, read_card
from torchspectral.weights.files import read_state, save
from torchspectral.weights.fit import check_fit
from torchspectral.weights.foreign import convert
from torchspectral.weights.loading import Weights, inspect, load
from torchspectral.weights.networks import ModelCard, create_model, models
from torchspectral.weights.store import Entry, add, find, list_weights, listing, store_dir

__all__ = [
    "Entry",
    "ModelCard",
    "Weights",
    "WeightsCard",
    "WorkingScale",
    "add",
    "check_fit",
    "convert",
    "create_model",
    "find",
    "inspect",
    "list_weights",
    "listing",
    "load",
    "make_card",
    "models",
    "read_card",
    "read_state",
    "save",
    "store_dir",
]
