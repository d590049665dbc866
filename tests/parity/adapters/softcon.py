"""SoftCon: encoders and the soft contrastive loss."""

from __future__ import annotations

from typing import Any

import torch
from parity_case import Case, Unsupported
from parity_words import NUMBER, Said, blocks, layers_called, nothing

import torchspectral as ts
from torchspectral.learn.losses.soft_contrastive import SoftContrastive, label_similarity

MODALITY = {13: "sentinel-2", 2: "sentinel-1"}
IDLE = {
    "block_chunks": nothing, "num_register_tokens": nothing, "drop_path_rate": nothing, "drop_path_uniform": lambda v: True,
    "interpolate_offset": lambda v: v == 0.1, "interpolate_antialias": nothing, "init_values": lambda v: True, "pretrained": nothing,
    "weights": nothing, "ffn_layer": lambda v: v == "mlp", "ffn_bias": bool, "proj_bias": bool, "qkv_bias": bool, "bias": nothing,
    "fc": lambda v: v == "Identity", "kernel_size": lambda v: v == 7, "stride": lambda v: v == 2, "padding": lambda v: v == 3,
    "num_classes": nothing, "patch_size": lambda v: v == 14, "embed_dim": lambda v: True, "mlp_ratio": lambda v: v == 4,
}  # fmt: skip
WORDS = (
    "n",
    "reshape",
    "norm",
    "return_class_token",
    "cls",
    "patch",
    "feat",
    "y",
    "labels",
    "label_sim",
    "soft",
    "info_nce",
    "total",
)


@torch.no_grad()
def run(case: Case) -> dict[str, Any]:
    """Compute the outputs of one case."""
    state, said = (
        case.meta.get("state", {}),
        Said(case, {"lambda": "lam", "weight": "lam", "temperature": "tau"}, ("tau", "lam", "lambda")),
    )
    if not state:
        return soft(case, said)
    (x,) = case.tensors("x")
    if said.agree("in_chans", x.shape[1]) not in MODALITY:
        raise Unsupported(f"an encoder of {x.shape[1]} bands: published ones see 13 (Sentinel-2) or 2 (Sentinel-1)")
    modality, outputs = MODALITY[x.shape[1]], case.meta["output"]
    if "conv1.weight" in state:
        said.finish(WORDS, IDLE)
        network = case.load_into(ts.create_model("softcon-resnet50", modality=modality))
        maps = [name for name, o in outputs.items() if len(o["shape"]) == 4]
        return {k: network.feature_maps(x, layers=(-1,))[0] if k in maps else network(x) for k in outputs}
    dim, size = state["cls_token"][0][2], round((state["pos_embed"][0][1] - 1) ** 0.5) * 14
    said.agree("img_size", size), said.agree("depth", blocks(state)), said.agree("embed_dim", dim)
    heads = said.take("num_heads", dim // 64)
    made = ts.create_model(
        "softcon-vit-s", modality=modality, image_size=size, dim=dim, depth=blocks(state), heads=heads
    )
    said.finish(WORDS, IDLE)
    network = case.load_into(made)
    return {name: answer(network, said, x, name, o["shape"]) for name, o in outputs.items()}


def answer(network: Any, said: Said, x: torch.Tensor, name: str, shape: list[int]) -> torch.Tensor:
    """One output, by what the case says of it, else by its shape."""
    called = layers_called(said, name) or {}
    given = {k: v for k, v in called.items() if k in ("n", "reshape", "norm", "return_class_token")}
    patches, token = network.get_intermediate_layers(
        x, **{"n": 1, "reshape": len(shape) == 4, **given, "return_class_token": True}
    )[called.get("index", 0)]
    return token if len(shape) == 2 else patches


def soft(case: Case, said: Said) -> dict[str, Any]:
    """The loss on labels made as the case says."""
    z1, z2, y = case.tensors("z1", "z2", "y")
    above = said.match(rf"(?:u|y)\s*>\s*({NUMBER})")
    labels = (y > float(above[1] if above else 0.6)).float()
    if said.match(r"(?:all[- ]?zero|empty|unlabel\w*|zero)\s+(?:label\s+)?rows?\b[^.;:]*class 0"):
        labels[labels.sum(1) == 0, 0] = 1
    terms = SoftContrastive(float(said.take("tau", 0.2)), float(said.take("lam", 0.1))).terms(z1, z2, labels)
    said.finish(WORDS, IDLE)
    return {
        "labels": labels, "label_sim": label_similarity(labels), "soft": terms.soft.reshape(1),
        "info_nce": terms.contrast.reshape(1), "total": terms.total.reshape(1),
    }  # fmt: skip
