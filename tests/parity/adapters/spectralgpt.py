"""SpectralGPT: masked autoencoder, encoder, classifier, SegMunich and OSCD networks, sized by the case's state and words."""

from __future__ import annotations

import re
from typing import Any

import torch
from parity_case import Case
from parity_words import Said, blocks, nothing

from torchspectral.backbones.spectralgpt import SpectralGPT, SpectralGPTClassifier, SpectralGPTMAE
from torchspectral.learn.heads.segmunich import OSCDHead, SegMunichHead

WIDE = {1024: 16, 1280: 16}
"""Heads of the widths that have not 64 channels a head."""
ALIASES = {"img": "img_size", "input_size": "img_size", "image_size": "img_size", "norm_pix": "norm_pix_loss", "patch": "patch_size",
           "num_frames": "bands", "t_patch_size": "spectral_patch", "decoder_embed_dim": "decoder_dim",
           "decoder_num_heads": "decoder_heads", "nb_classes": "num_classes"}  # fmt: skip
PROSE = (
    "mask_ratio",
    "norm_pix_loss",
    "norm_pix",
    "num_heads",
    "decoder_num_heads",
    "t_patch_size",
    "patch_size",
    "img_size",
)
IDLE = {
    "drop_path_rate": nothing, "drop_path": nothing, "dropout": nothing, "drop_rate": nothing, "attn_drop_rate": nothing,
    "no_qkv_bias": lambda v: True, "cls_embed": nothing, "in_chans": lambda v: v == 1, "pool": lambda v: v in ("mean", "avg"),
    "global_pool": lambda v: v in (True, "avg", "mean", None), "trunc_init": lambda v: True, "pretrained": nothing,
    "norm_layer": lambda v: True, "eps": lambda v: v == 1e-6,
}  # fmt: skip
WORDS = ("pred_t_dim", "num_classes", "L", "N", "ids_shuffle", "keep", "out")


def encoder(case: Case, said: Said) -> dict[str, Any]:
    """Arguments of the encoder: what the state tells, and the heads, which only the words tell."""
    state = {key: shape for key, (shape, _) in case.meta["state"].items()}
    dim, _, t, patch, _ = state["patch_embed.proj.weight"]
    bands, size = _images(case)[0].shape[1], _images(case)[0].shape[-1]
    spoken = re.search(rf"(?<!decoder )\b{dim}\s*x\s*\d+\s*x\s*(\d+)", said.text)
    heads = said.take("num_heads") or (spoken and int(spoken[1])) or WIDE.get(dim, max(dim // 64, 1))
    wide = state["blocks.0.mlp.fc1.weight"]
    joint = "pos_embed_spatial" not in state
    for name, value in (
        ("embed_dim", dim), ("depth", blocks(state)), ("img_size", size), ("patch_size", patch), ("spectral_patch", t),
        ("bands", bands), ("sep_pos_embed", not joint), ("mlp_ratio", wide[0] / wide[1]),
    ):  # fmt: skip
        said.agree(name, value)
    if "decoder_pred.weight" in state and state["decoder_pred.weight"][0] != t * patch**2:
        raise ValueError("the decoder predicts other bands than a token has (pred_t_dim is not num_frames)")
    return {
        "embed_dim": dim, "depth": blocks(state), "num_heads": heads, "image_size": size, "patch_size": patch,
        "spectral_patch": t, "bands": bands, "separate_positions": not joint, "mlp_ratio": wide[0] / wide[1],
        "qkv_bias": "blocks.0.attn.q.bias" in state, "max_tokens": 1 << 20,
    }  # fmt: skip


def _images(case: Case) -> list[torch.Tensor]:
    """Images (n, bands, H, W); published ones have an axis of one channel before the bands."""
    images = case.tensors(*[name for name in case.inputs if "noise" not in name])
    return [image[:, 0] if image.ndim == 5 else image for image in images]


def masked_autoencoder(case: Case, said: Said) -> SpectralGPTMAE:
    """Build it; the decoder's heads come from the words."""
    state = {key: shape for key, (shape, _) in case.meta["state"].items()}
    width, depth = state["decoder_embed.weight"][0], blocks(state, "decoder_")
    spoken = re.search(rf"decoder[ _a-z]*\s*=?\s*{width}\s*x\s*\d+\s*x\s*(\d+)", said.text, re.I)
    heads = said.take("decoder_heads") or (spoken and int(spoken[1])) or 16
    said.agree("decoder_dim", width), said.agree("decoder_depth", depth)
    bare = said.match(r"norm[_ -]?pix(?![\w ]*(?:=|:|\s)\s*(?:False|off|no\b|0))(?:\b|_)") and not said.match(
        r"\b(?:no|without)\s+norm"
    )
    normalised = said.take("norm_pix_loss") if "norm_pix_loss" in said.found else bool(bare)
    return SpectralGPTMAE(
        norm_pix=bool(normalised), decoder_dim=width, decoder_depth=depth, decoder_heads=heads, **encoder(case, said)
    )


def ratio(case: Case, said: Said, tokens: int) -> float:
    """Share of hidden tokens that the words tell; the latent must agree."""
    at = said.match(r"@\s*(0?\.\d+|\d+\s*%)|(\d+)\s*%")
    spoken = (
        float(at[1])
        if at and at[1] and "%" not in at[1]
        else float((at[1] or at[2]).rstrip(" %")) / 100
        if at
        else None
    )
    found = said.take("mask_ratio", spoken)
    kept = case.meta["output"].get("latent", {"shape": [0, 0]})["shape"][1]
    if kept and found is not None and int(tokens * (1 - found)) != kept:
        raise ValueError(f"the case says that {found} of {tokens} tokens are hidden, its latent has {kept}")
    return 1 - (kept + 0.5) / tokens if kept else 0.9 if found is None else found


@torch.no_grad()
def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    outputs, state, said, images = case.meta["output"], case.meta["state"], Said(case, ALIASES, PROSE), _images(case)
    if "decoder_embed.weight" in state:
        (noise,) = case.tensors(next(name for name in case.inputs if "noise" in name))
        with torch.device("meta"):
            network = masked_autoencoder(case, said)
        hidden = ratio(case, said, noise.shape[1])
        said.finish(WORDS, IDLE)
        got = case.load_into(network)(images[0], noise=noise, mask_ratio=hidden)
        found = {"latent": got.latent, "pred": got.prediction, "mask": got.mask, "ids_restore": got.restore,
                 "loss": got.loss, "l1": got.token_loss, "l2": got.spectral_loss, "loss1": got.token_loss,
                 "loss2": got.spectral_loss}  # fmt: skip
        return {k: v.reshape(outputs[k]["shape"]) if v.ndim == 0 and k in outputs else v for k, v in found.items()}
    classes = state.get("head.weight", state.get("cls_seg.0.weight", [[0]]))[0][0]
    arguments = encoder(case, said)
    if classes:
        said.agree("num_classes", classes)
    said.finish(WORDS, IDLE)
    if "cls_seg.0.weight" not in state:
        with torch.device("meta"):
            network = SpectralGPTClassifier(classes, **arguments) if classes else SpectralGPT(**arguments)
        network = case.load_into(network)
        return {
            k: network.tokens(images[0]) if len(o["shape"]) == 3 else network(images[0]) for k, o in outputs.items()
        }
    with torch.device("meta"):
        backbone = SpectralGPT(**arguments)
        head = (SegMunichHead if len(images) == 1 else OSCDHead)(backbone.dim, backbone.groups, classes)
    filled = case.state()
    parts = [{k: v for k, v in filled.items() if k in part.state_dict()} for part in (backbone, head)]
    assert len(parts[0]) + len(parts[1]) == len(filled) and not set(parts[0]) & set(parts[1])
    backbone.load_state_dict(parts[0], assign=True), head.load_state_dict(parts[1], assign=True)
    return {next(iter(outputs)): head.eval()(*[backbone.eval().spectral_maps(image) for image in images])}
