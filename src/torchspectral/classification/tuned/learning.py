"""What a tuning learns: the head, and which of the backbone's parameters."""

from __future__ import annotations

from typing import Any

import torch

from torchspectral.backbones.starting import declared
from torchspectral.classification.tuned.blocks import block_of
from torchspectral.classification.tuned.data import TuningData
from torchspectral.classification.tuned.network import DENSE, BackboneClassifier
from torchspectral.errors import BadSettings

HEADS = {"linear": "linear", "knn": "knn"}
"""Heads that a tuning decides."""

FROZEN = ("linear", "knn", "frozen", "lora", "adapter")
"""Tunings whose backbone stays in evaluation mode."""


def check_settings(s: Any) -> None:
    """Refuse settings that contradict each other.

    Raises
    ------
    BadSettings
    """
    if s.unfrozen and s.tuning != "frozen":
        raise BadSettings(f"got unfrozen={s.unfrozen} with tuning={s.tuning}, expected tuning=frozen")
    if s.tuning in HEADS and s.head not in ("auto", "linear"):
        raise BadSettings(f"got head={s.head} with tuning={s.tuning}: choose tuning=frozen for this head")


def head_of(s: Any, data: TuningData) -> str:
    """The head: of the tuning, of the user, or one that suits task and backbone."""
    if s.tuning in HEADS:
        return HEADS[s.tuning]
    if s.head != "auto":
        return str(s.head)
    if s.task not in DENSE:
        return "linear"
    known = declared(data.backbone, data.arguments or data.plain_arguments())
    doubles = known.stride > 1 and known.stride & (known.stride - 1) == 0
    return "conv" if len(known.map_dims) == 1 and doubles else "fcn"


def network_arguments(s: Any, data: TuningData) -> dict[str, Any]:
    """Constructor arguments of the network as it is trained."""
    head = head_of(s, data)
    made: dict[str, Any] = {
        "backbone": data.backbone,
        "arguments": data.arguments,
        "class_names": list(data.classes.names),
        "class_numbers": list(data.classes.numbers),
        "class_colors": [list(c) for c in data.classes.colors],
        "bands": len(data.index),
        "patch": s.patch,
        "wavelengths": data.wavelengths,
        "head": head,
        "task": s.task,
    }
    if head == "upernet":
        made["width"] = s.width
    if head == "knn":
        made |= {"bank": s.bank, "k": s.k, "temperature": s.temperature}
    return made


def check_tuning(s: Any, data: TuningData) -> None:
    """Refuse what this backbone cannot do before anything is cut; a network without memory for its weights tells.

    Raises
    ------
    BadSettings, BandMismatch
    """
    with torch.device("meta"):
        BackboneClassifier(**network_arguments(s, data))
    known = declared(data.backbone, data.arguments)
    if s.tuning == "adapter" and not any("spectral_adapter" in name for name, _ in known.named_parameters()):
        raise BadSettings(f"{data.backbone} has no spectral adapter: choose tuning=lora, frozen or full")
    if s.tuning == "lora" and not any(isinstance(m, torch.nn.Linear) for m in known.modules()):
        raise BadSettings(f"{data.backbone} has no linear layers for low-rank updates: choose tuning=frozen or full")


def set_learning(network: BackboneClassifier, s: Any) -> None:
    """Freeze what does not learn, and put low-rank updates in where these do."""
    if s.tuning == "lora":
        from torchspectral.classification.tuned.lora import add_lora

        add_lora(network, s.rank, s.alpha, targets=s.targets)
    network.frozen = s.tuning in FROZEN and not s.unfrozen
    for name, parameter in network.backbone.named_parameters():
        parameter.requires_grad_(_learns(s, name))


def _learns(s: Any, name: str) -> bool:
    if s.tuning in ("full", "lora", "adapter"):
        return s.tuning == "full" or ("lora_" if s.tuning == "lora" else "spectral_adapter") in name
    if not s.unfrozen:
        return False
    place = block_of(name)
    return place is not None and place < s.unfrozen


def parameter_groups(network: BackboneClassifier, s: Any) -> list[dict[str, Any]]:
    """What learns, for an optimiser: the head, and the backbone at a rate of its own; empty where nothing does."""
    inside = [p for p in network.backbone.parameters() if p.requires_grad]
    known = {id(p) for p in inside}
    head = [p for p in network.parameters() if p.requires_grad and id(p) not in known]
    groups: list[dict[str, Any]] = [{"params": head, "lr": s.learning_rate}] if head else []
    if inside:
        groups.append({"params": inside, "lr": s.learning_rate * s.backbone_rate})
    return groups
