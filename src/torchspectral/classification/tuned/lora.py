"""Low-rank updates of a frozen backbone, by peft; merged into its weights before export."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from torchspectral.errors import BadSettings, MissingDependency

ATTENTION = re.compile(r"(^|\.)(attn|attention)\.")


def add_lora(
    network: Any, rank: int = 8, alpha: float = 16.0, dropout: float = 0.0, targets: Sequence[str] = ()
) -> list[str]:
    """Give linear layers of a network's backbone trainable low-rank updates.

    Parameters
    ----------
    network : BackboneClassifier
    rank : int
    alpha : float
        The update counts alpha / rank.
    dropout : float
    targets : sequence of str
        Last parts of the layers' names ("qkv"); by default all linear layers of the attention, or, where none of these
        is called as a layer, all linear layers of the blocks.

    Returns
    -------
    list of str
        The layers.

    Raises
    ------
    BadSettings
        No such layer, or one whose weight the network reads itself, which would pass the update by.
    MissingDependency

    References
    ----------
    Hu et al., "LoRA: low-rank adaptation of large language models", ICLR (2022).
    """
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise MissingDependency(
            "tuning=lora needs peft, which is not installed: pip install 'torchspectral[train]'"
        ) from error
    called = called_layers(network)
    if targets:
        wanted = [n for n in _linear(network.backbone) if n.rsplit(".", 1)[-1] in targets or n in targets]
        passed = [n for n in wanted if n not in called]
        if passed:
            raise BadSettings(
                f"the backbone reads the weight of {passed[0]} itself: an update of it would have no effect"
            )
    else:
        wanted = [n for n in called if ATTENTION.search(n)] or [n for n in called if "block" in n]
    if not wanted:
        kinds = sorted({n.rsplit(".", 1)[-1] for n in called})
        raise BadSettings(
            f"no linear layer for LoRA in this backbone, expected some of {', '.join(kinds) or 'none'}: choose "
            "tuning=frozen, adapter or full"
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # peft divides it
        lora_dropout=dropout,
        target_modules=wanted,
    )
    inject_adapter_in_model(config, network.backbone)
    return wanted


def called_layers(network: Any) -> list[str]:
    """Linear layers of the backbone that are called as layers, in training and in evaluation."""
    backbone = network.backbone
    seen: list[set[str]] = []
    mode = backbone.training
    bands = network.mean.numel()
    # Layers may be called for few tokens and passed by for many, so the images are as large as in training.
    size = -(-network.patch // backbone.stride) * backbone.stride
    kept = torch.get_rng_state()
    try:
        for training in (True, False):
            found: set[str] = set()
            hooks = [
                layer.register_forward_hook(lambda *_, name=name, found=found: found.add(name))
                for name, layer in _linear(backbone).items()
            ]
            frozen = [m for m in backbone.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
            backbone.train(training)
            for module in frozen:
                module.eval()  # one look must not move the running statistics
            try:
                with torch.set_grad_enabled(training):
                    network.encode(torch.zeros(1 + 2 * training, bands, size, size, device=network.mean.device))
            finally:
                for hook in hooks:
                    hook.remove()
            seen.append(found)
    finally:
        torch.set_rng_state(kept)
        backbone.train(mode)
    return [name for name in _linear(backbone) if all(name in found for found in seen)]


def merge_lora(network: Any) -> None:
    """Add the updates to the weights and put the plain layers back."""
    from peft.tuners.lora import LoraLayer

    for name, module in list(network.backbone.named_modules()):
        if isinstance(module, LoraLayer):
            module.merge()
            parent, _, last = name.rpartition(".")
            setattr(network.backbone.get_submodule(parent), last, module.get_base_layer())


def _linear(backbone: nn.Module) -> dict[str, nn.Module]:
    return {name: m for name, m in backbone.named_modules() if isinstance(m, nn.Linear)}
