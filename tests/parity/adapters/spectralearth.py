"""SpectralEarth: adapter, backbones, baselines, segmenters, masked autoencoder and losses, sized by the case's state."""

from __future__ import annotations

import math
import re
from typing import Any

import torch
from parity_case import Case, Unsupported
from parity_words import Said, blocks, layers_called, nothing
from torch import nn

import torchspectral as ts
from torchspectral.backbones.spectralearth.adapter import SpectralAdapter
from torchspectral.learn.heads.dense import ConvHead, FCNHead
from torchspectral.learn.losses.contrastive import InfoNCE, NTXent
from torchspectral.learn.losses.dino import DINOLoss
from torchspectral.learn.losses.mae import masked_error
from torchspectral.learn.losses.regression import relative_error

WIDE = {1024: 16, 1280: 16, 1536: 24}
"""Heads of the widths that have not 64 channels a head."""
ALIASES = {
    "embed_dim": "dim",
    "norm_pix_loss": "norm_pix",
    "norm_pix_target": "norm_pix",
    "decoder_num_heads": "decoder_heads",
}
PROSE = ("mask_ratio", "norm_pix", "num_heads", "temperature", "teacher_temp", "warmup_teacher_temp",
         "warmup_teacher_temp_epochs", "student_temp", "center_momentum")  # fmt: skip
IDLE = {
    "drop_rate": nothing, "drop_path_rate": nothing, "attn_drop_rate": nothing, "proj_drop_rate": nothing, "pos_drop_rate": nothing,
    "dropout": nothing, "pretrained": nothing, "init_values": nothing, "global_pool": lambda v: v in ("token", "avg", "", None),
    "class_token": bool, "qkv_bias": bool, "gather_distributed": nothing, "norm_layer": lambda v: True,
    "eps": lambda v: v == 1e-6, "align_corners": nothing, "mlp_ratio": lambda v: v == 4,
}  # fmt: skip
WORDS = (
    "backbone",
    "encoder",
    "decoder",
    "head",
    "n",
    "norm",
    "reshape",
    "name",
    "model",
    "x",
    "logits",
    "last",
    "features",
    "feat",
)


@torch.no_grad()
def run(case: Case) -> dict[str, Any]:
    """Compute the outputs of one case."""
    state, said = case.meta.get("state", {}), Said(case, ALIASES, PROSE)
    if not state:
        return losses(case, said)
    (x,) = case.tensors("x")
    said.agree("in_chans", x.shape[1]), said.agree("num_bands", x.shape[1])
    if any(key.startswith("decoder.") for key in state):
        return masked(case, said, x)
    names = {key.split(".", 1)[0] for key in state}
    whole = next(
        (
            n
            for n in ("encoder", "backbone", "model")
            if n in names and any(f"{n}.{k}" in key for k in INSIDE for key in state)
        ),
        "",
    )
    inner = {k.removeprefix(f"{whole}.") if whole else k: v for k, v in state.items()}
    if "0.weight" in inner or {k.split(".")[0] for k in inner} == {"spectral_adapter"}:
        network: nn.Module = (
            SpectralAdapter() if "0.weight" in inner else nn.ModuleDict({"spectral_adapter": SpectralAdapter()})
        )
        said.finish(WORDS, IDLE)
        return {y: getattr(case.load_into(network), "spectral_adapter", network)(x) for y in case.meta["output"]}
    encoder = resnet(case, said, inner) if "layer4.0.conv1.weight" in " ".join(inner) else vit(said, inner, x)
    if not whole:
        return {y: answer(case, said, load(case, encoder), x, y) for y in finished(case, said)}
    kept = {k: v for k, v in state.items() if not k.startswith(f"{whole}.")}
    classes = [v[0] for v in kept.values() if len(v[0]) == 4][-1][0]
    said.agree("num_classes", classes) if "num_classes" in said and said.found["num_classes"] else said.take(
        "num_classes"
    )
    outputs = finished(case, said)
    if hasattr(encoder, "patch_size") or getattr(encoder, "vit_core", None) is not None:
        network = case.load_into(
            nn.ModuleDict({whole: encoder, "head": ConvHead(encoder.dim, classes, encoder.stride)})
        )
        return {y: network["head"](network[whole].feature_maps(x)[0]) for y in outputs}
    head = FCNHead(encoder.dim, classes, next(v[0][0] for v in kept.values() if len(v[0]) == 4))
    filled = case.state()
    encoder.load_state_dict(
        {k.removeprefix(f"{whole}."): v for k, v in filled.items() if k.startswith(f"{whole}.")} | counters(encoder)
    )
    rest = [v for k, v in filled.items() if k in kept and v.is_floating_point()]
    head.load_state_dict(
        dict(zip([k for k, v in head.state_dict().items() if v.is_floating_point()], rest, strict=True))
        | counters(head)
    )
    return {y: head.eval()(encoder.eval().feature_maps(x, layers=(-1,))[0], tuple(x.shape[-2:])) for y in outputs}


INSIDE = ("spectral_adapter.0.weight", "resnet.layer1.0.conv1.weight", "vit_core.cls_token")


def finished(case: Case, said: Said) -> list[str]:
    """The outputs, once every setting was taken."""
    said.finish(WORDS, IDLE)
    return list(case.meta["output"])


def counters(network: nn.Module) -> dict[str, torch.Tensor]:
    """Entries that are no floating-point numbers, as they are."""
    return {k: v for k, v in network.state_dict().items() if not v.is_floating_point()}


def load(case: Case, network: Any) -> Any:
    """Fill a backbone; baselines have their keys without ``core.``."""
    if not hasattr(network, "core"):
        return case.load_into(network)
    case.load_into(network.core)
    return network.eval()


def vit(said: Said, state: dict[str, list], x: torch.Tensor) -> Any:
    """A Spec. ViT, or the plain one, sized by its keys."""
    prefix = "vit_core." if "vit_core.cls_token" in state else ""
    return ts.create_model("spec-vit-s" if prefix else "enmap-vit-s", **vit_arguments(said, state, prefix))


def vit_arguments(said: Said, state: dict[str, list], prefix: str, heads: int | None = None) -> dict[str, int]:
    """Size of a transformer from the shapes of its keys; the words must agree with them."""
    dim, _, patch, _ = state[f"{prefix}patch_embed.proj.weight"][0]
    size = round((state[f"{prefix}pos_embed"][0][1] - 1) ** 0.5) * patch
    said.agree("token_patch_size", patch), said.agree("img_size", size), said.agree("image_size", size)
    if said.take("patch_size", patch) not in (patch, size):  # the authors call the image's size so
        raise ValueError(
            f"the case says patch_size={said.found['patch_size']}, its state patches of {patch} in images of {size}"
        )
    classes = state.get(f"{prefix}head.weight", [[0]])[0][0]
    if f"{prefix}head.weight" in state or (heads is None and not said.found.get("num_classes")):
        said.agree("num_classes", classes)
    if heads is None:
        spoken = said.match(rf"\b{dim}\s*[x/]\s*\d+\s*[x/]\s*(\d+)") or said.match(
            r"\b(\d+)\s*heads|\bheads\s*[=:]?\s*(\d+)"
        )
        heads = (
            said.take("num_heads")
            or said.take("heads")
            or (spoken and int(spoken[1] or spoken[2]))
            or WIDE.get(dim, max(dim // 64, 1))
        )
    found = {"dim": said.agree("dim", dim), "depth": said.agree("depth", blocks(state, prefix)), "heads": heads}
    return {**found, "patch_size": patch, "image_size": size, "num_classes": classes}


def resnet(case: Case, said: Said, state: dict[str, list]) -> Any:
    """A Spec. ResNet-50, dilated where the case says so, or the plain one."""
    classes = next((v[0][0] for k, v in state.items() if k.endswith("fc.weight")), 0)
    if classes or not said.found.get("num_classes"):  # else of a segmenter around it, which is held against its head
        said.agree("num_classes", classes)
    if not any(k.startswith("resnet.") for k in state):
        return ts.create_model("enmap-resnet50", num_classes=classes)
    return ts.create_model("spec-resnet50", num_classes=classes, dilated=dilated(case, said))


def dilated(case: Case, said: Said) -> list[bool]:
    """Stages that keep their resolution: four switches, numbers of stages, or what the output's size tells."""
    names = [n for n in said.found if re.search("dilat|stride", n)]
    values = [said.take(n) for n in names]
    words = re.search(r"[\[(]\s*((?:(?:True|False)\s*,?\s*){4})[\])]", f"{case.constructor} {said.notes}")
    flags: list[bool] | None = (
        re.findall("True|False", words[1]) and [w == "True" for w in re.findall("True|False", words[1])]
        if words
        else None
    )
    spoken = re.search("dilat", f"{case.name} {said.text}", re.I) is not None and not re.search(
        r"(un|non-|not )dilated", said.text, re.I
    )
    large = [s["shape"] for s in case.meta["output"].values() if len(s["shape"]) == 4 and s["shape"][1] == 2048]
    if flags is None and large:
        strided = round(math.log2(case.params["x"]["shape"][-1] / large[0][-1]))
        flags = [i >= strided for i in range(4)]
    for value in values:
        if (
            flags is None
            and isinstance(value, list | tuple)
            and len(value) == 4
            and all(isinstance(v, bool) for v in value)
        ):
            flags = list(value)
        elif (
            flags is None
            and isinstance(value, list | tuple)
            and all(1 <= v <= 4 for v in value)
            and len(set(value)) < 4
        ):
            flags = [i + 1 in value for i in range(4)]
        elif flags is None and isinstance(value, bool):
            flags = [value] * 4
    return flags if flags is not None else [spoken] * 4


def answer(case: Case, said: Said, network: Any, x: torch.Tensor, name: str) -> torch.Tensor:
    """One output of a backbone, by what the case says of it, else by its shape."""
    shape, called = case.meta["output"][name]["shape"], layers_called(said, name)
    if called is not None:
        n, reshape, norm = (called.get(k, default) for k, default in (("n", 1), ("reshape", False), ("norm", False)))
        return network.get_intermediate_layers(x, n, reshape=bool(reshape), norm=bool(norm))[called["index"]]
    if len(shape) == 2:
        made = network(x)
        return made if list(made.shape) == list(shape) else network.forward_features(x)
    if len(shape) == 3:
        return network.get_intermediate_layers(x, 1, norm=True)[0]
    dims = list(network.map_dims)
    return network.feature_maps(x, layers=(dims.index(shape[1]) if len(dims) > 1 else -1,))[0]


def masked(case: Case, said: Said, x: torch.Tensor) -> dict[str, Any]:
    """Masked autoencoder with given noise."""
    state, (noise,) = case.meta["state"], case.tensors("noise")
    before, _, after = said.text.partition("ecoder")
    heads = [re.search(r"(?:num_)?heads[ =:]*(\d+)", part) for part in (before, after)]
    arguments = vit_arguments(said, state, "encoder.vit_core.", int(heads[0][1]) if heads[0] else None)
    for name in ("num_heads", "decoder_heads", "decoder_depth", "decoder_embed_dim", "decoder_dim", "mlp_ratio"):
        said.take(name)
    patches, kept = (
        noise.shape[1] - 1,
        next((o["shape"][1] for n, o in case.meta["output"].items() if n == "latent"), None),
    )
    ratio = said.take("mask_ratio", 0.9)
    if kept is not None and int(patches * (1 - ratio)) + 1 != kept:
        if "mask_ratio" in said:
            raise ValueError(f"the case says mask_ratio={ratio}, its latent has {kept} of {patches} tokens")
        ratio = 1 - (kept - 0.5) / patches
    network = case.load_into(
        ts.create_model(
            "spec-mae-s", **arguments, bands=x.shape[1], mask_ratio=ratio, decoder_dim=state["decoder.mask_token"][0][2],
            decoder_depth=blocks([k.replace("decoder.decoder_", "") for k in state if k.startswith("decoder.")]),
            decoder_heads=int(heads[1][1]) if heads[1] else 16,
        )
    )  # fmt: skip
    normalised = bool(said.take("norm_pix", True)) and not said.match(r"(?:no|without|un)[ -]?norm")
    said.finish(WORDS, IDLE)
    made = network(x, noise)
    loss = masked_error(made.predicted, made.target, normalised=normalised)
    return {"latent": made.latent, "pred": made.predicted, "target": made.target, "idx_mask": made.masked,
            "idx_keep": made.kept, "loss": loss.reshape(1)}  # fmt: skip


def losses(case: Case, said: Said) -> dict[str, Any]:
    """Values of the losses."""
    wanted = set(case.meta["output"])
    if "center" in wanted:
        views = {side: case.tensors(*sorted(n for n in case.inputs if n[0] == side)) for side in "ts"}
        said.agree("output_dim", views["t"][0].shape[1]), said.take("epoch"), said.take("epochs")
        loss = DINOLoss(
            views["t"][0].shape[1], said.take("teacher_temp", 0.04), said.take("warmup_teacher_temp", 0.04),
            int(said.take("warmup_teacher_temp_epochs", 30)), said.take("student_temp", 0.1), said.take("center_momentum", 0.9),
        )  # fmt: skip
        said.finish(WORDS, IDLE)
        epochs = said.match(r"\bepochs?\s*[=: ]\s*[\[(]?((?:\d+\s*,?\s*)+)")
        numbers = [int(n) for n in re.findall(r"\d+", epochs[1])] if epochs else [0]
        values = torch.stack([loss(views["t"], views["s"], epoch) for epoch in numbers])
        return {name: loss.center if name == "center" else values for name in wanted}
    temperature, queue = said.take("temperature", said.take("T", 0.1)), said.take("memory_bank_size", 0)
    if {"p", "y"} <= set(case.inputs):
        said.finish(WORDS, IDLE)
        return {name: relative_error(*case.tensors("p", "y")).reshape(1) for name in wanted}
    if {"q", "k"} <= set(case.inputs) and len(wanted) == 1:
        q, k = case.tensors("q", "k")
        bank = next((n for n in case.inputs if n not in ("q", "k")), None)
        for name in ("queue", "bank", "queue_size", "labels", "logits"):
            said.take(name)
        said.finish((*WORDS, "q", "k", "l_pos", "l_neg"), IDLE)
        if bank is None:
            if not nothing(queue if not isinstance(queue, tuple | list) else queue[0]):
                raise Unsupported("a queue without its keys")
            return {next(iter(wanted)): NTXent(temperature)(q, k).reshape(1)}
        (keys,) = case.tensors(bank)
        keys = keys.T if keys.shape[1] != q.shape[1] else keys  # published queues are (features, keys)
        loss = InfoNCE(q.shape[1], len(keys), temperature)
        loss.keys.copy_(nn.functional.normalize(keys, dim=1))
        return {next(iter(wanted)): loss(q, k).reshape(1)}
    raise Unsupported(f"no loss for the outputs {sorted(wanted)}")
