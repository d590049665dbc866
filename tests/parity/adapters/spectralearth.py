"""SpectralEarth: adapter, backbones, masked autoencoder, heads and losses."""

from __future__ import annotations

import re
from typing import Any

import torch
from parity_case import Case, Unsupported
from torch import nn

import torchspectral as ts
from torchspectral.backbones.spectralearth.adapter import SpectralAdapter
from torchspectral.learn.heads.dense import ConvHead
from torchspectral.learn.losses.contrastive import InfoNCE, NTXent
from torchspectral.learn.losses.dino import DINOLoss
from torchspectral.learn.losses.mae import masked_error
from torchspectral.learn.losses.regression import relative_error


def number(case: Case, name: str, default: float) -> float:
    """A number that the case's sentence gives as ``name=..`` or ``name ..``."""
    found = re.search(rf"\b{name}\b[ =:]*([-+.\de]+)", f"{case.constructor}; {case.meta.get('notes', '')}")
    return float(found[1].rstrip(".")) if found else default


def vit_arguments(state: dict[str, list], prefix: str, heads: int) -> dict[str, int]:
    """Size of a Spec. ViT from the shapes of its keys."""
    dim, _, patch, _ = state[f"{prefix}patch_embed.proj.weight"][0]
    classes = state.get(f"{prefix}head.weight", [[0]])[0][0]
    size = round((state[f"{prefix}pos_embed"][0][1] - 1) ** 0.5) * patch
    depth = 1 + max(int(key.split("blocks.")[1].split(".")[0]) for key in state if key.startswith(f"{prefix}blocks."))
    return {
        "dim": dim, "depth": depth, "heads": heads, "patch_size": patch, "image_size": size, "num_classes": classes
    }  # fmt: skip


def heads_of(case: Case, dim: int) -> int:
    """Attention heads: as the case says, else 64 channels a head up to base, and 16 and 24 above."""
    return int(number(case, "num_heads", {1024: 16, 1280: 16, 1536: 24}.get(dim, dim // 64)))


@torch.no_grad()
def run(case: Case) -> dict[str, Any]:
    """Compute the outputs of one case."""
    state, wanted = case.meta.get("state", {}), set(case.meta["output"])
    if not state:
        return losses(case, wanted)
    (x,) = case.tensors("x")
    if "0.weight" in state:
        return {"y": case.load_into(SpectralAdapter())(x)}
    if any(key.startswith("decoder.") for key in state):
        return masked(case, state)
    if any(key.startswith("resnet.") for key in state):
        classes = state.get("resnet.fc.weight", [[0]])[0][0]
        words = f"{case.name} {case.constructor}"
        flags = [word == "True" for word in re.findall(r"\b(?:True|False)\b", words)]
        dilated = flags if len(flags) == 4 else [bool(re.search("dilat", words, re.I))] * 4
        network = case.load_into(ts.create_model("spec-resnet50", num_classes=classes, dilated=dilated))
        maps = [y for y in wanted if len(case.meta["output"][y]["shape"]) == 4]
        return {y: network.feature_maps(x, layers=(-1,))[0] if y in maps else network(x) for y in wanted}
    prefix = "encoder.vit_core." if any(key.startswith("encoder.") for key in state) else "vit_core."
    dim = state[f"{prefix}cls_token"][0][2]
    arguments = vit_arguments(state, prefix, heads_of(case, dim))
    encoder = ts.create_model("spec-vit-s", **arguments)
    if prefix == "vit_core.":
        network = case.load_into(encoder)
        found = {"logits": network(x), "last": network.get_intermediate_layers(x, 1, norm=True)[0]}
        return {name: value for name, value in found.items() if name in wanted}
    classes = max((int(k.split(".")[2]), v[0]) for k, v in state.items() if k.startswith("head.") and len(v[0]) == 4)[
        1
    ][0]
    parts = nn.ModuleDict({"encoder": encoder, "head": ConvHead(dim, classes, arguments["patch_size"])})
    whole = case.load_into(parts)
    return {"logits": whole["head"](whole["encoder"].feature_maps(x)[0])}


def masked(case: Case, state: dict[str, list]) -> dict[str, Any]:
    """Masked autoencoder with given noise."""
    x, noise = case.tensors("x", "noise")
    dim, depth = (
        state["decoder.mask_token"][0][2],
        sum(bool(re.fullmatch(r"decoder.*\d\.norm1\.weight", k)) for k in state),
    )
    heads = [int(n) for n in re.findall(r"heads[ =]*(\d+)", str(case.constructor))] or [3, 16]
    arguments = vit_arguments(state, "encoder.vit_core.", heads[0])
    network = case.load_into(
        ts.create_model(
            "spec-mae-s", **arguments, bands=x.shape[1], mask_ratio=number(case, "mask_ratio", 0.9),
            decoder_dim=dim, decoder_depth=depth, decoder_heads=heads[-1] if len(heads) > 1 else 16,
        )
    )  # fmt: skip
    made = network(x, noise)
    normalised = not re.search(r"norm_pix\w*[ =]*False", str(case.constructor))
    loss = masked_error(made.predicted, made.target, normalised=normalised)
    return {"latent": made.latent, "pred": made.predicted, "idx_mask": made.masked, "loss": loss.reshape(1)}


def losses(case: Case, wanted: set[str]) -> dict[str, Any]:
    """Values of the losses."""
    if "center" in wanted:
        views = {side: case.tensors(*sorted(n for n in case.inputs if n[0] == side)) for side in "ts"}
        loss = DINOLoss(
            views["t"][0].shape[1], number(case, "teacher_temp", 0.04), number(case, "warmup_teacher_temp", 0.04),
            int(number(case, "warmup_teacher_temp_epochs", 30)), number(case, "student_temp", 0.1),
            number(case, "center_momentum", 0.9),
        )  # fmt: skip
        epochs = [int(n) for n in re.search(r"epoch=([\d,]+)", str(case.constructor))[1].strip(",").split(",")]
        values = torch.stack([loss(views["t"], views["s"], epoch) for epoch in epochs])
        return {"loss_seq": values, "center": loss.center}
    temperature = number(case, "temperature", 0.1)
    if "loss_inbatch" in wanted:
        return {"loss_inbatch": NTXent(temperature)(*case.tensors("q", "k")).reshape(1)}
    if {"p", "y"} <= set(case.inputs):
        return {"loss": relative_error(*case.tensors("p", "y")).reshape(1)}
    if {"q", "k"} <= set(case.inputs) and len(wanted) == 1:
        bank = next((n for n in case.inputs if n not in ("q", "k")), None)
        q, k = case.tensors("q", "k")
        loss = InfoNCE(q.shape[1], case.inputs[bank].shape[0] if bank else 0, temperature)
        if bank:
            loss.keys.copy_(nn.functional.normalize(case.tensors(bank)[0], dim=1))
        return {next(iter(wanted)): loss(q, k).reshape(1)}
    raise Unsupported(f"no loss for the outputs {sorted(wanted)}")
