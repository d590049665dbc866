"""SpectralGPT: masked autoencoder, classifier and the SegMunich network, sized by the case's state and words."""

from __future__ import annotations

import re
from typing import Any

import torch
from parity_case import Case

from torchspectral.backbones.spectralgpt import SpectralGPT, SpectralGPTClassifier, SpectralGPTMAE
from torchspectral.learn.heads.segmunich import OSCDHead, SegMunichHead


def encoder(case: Case) -> dict[str, Any]:
    """Arguments of the encoder: what the state tells, and the heads, which only the words tell."""
    state = {key: shape for key, (shape, _) in case.meta["state"].items()}
    dim, _, t, patch, _ = state["patch_embed.proj.weight"]
    bands, size = case.params["x"]["shape"][1], case.params["x"]["shape"][-1]
    said = _said(case, r"\bnum_heads\s*=\s*(\d+)") or _said(case, rf"{dim}\s*x\s*\d+\s*x\s*(\d+)")
    return {
        "embed_dim": dim, "depth": 1 + max(int(k.split(".")[1]) for k in state if k.startswith("blocks.")),
        "num_heads": said or {1024: 16, 1280: 16}.get(dim, max(dim // 64, 1)), "image_size": size, "patch_size": patch,
        "spectral_patch": t, "bands": bands, "separate_positions": "pos_embed_spatial" in state,
        "qkv_bias": "blocks.0.attn.q.bias" in state,
    }  # fmt: skip


def _said(case: Case, pattern: str) -> int | None:
    found = re.search(pattern, str(case.constructor))
    return int(found[1]) if found else None


def masked_autoencoder(case: Case) -> SpectralGPTMAE:
    """Build it; the decoder's heads come from the words."""
    state, words = case.meta["state"], str(case.constructor) + str(case.meta.get("notes", ""))
    width = state["decoder_embed.weight"][0][0]
    heads = _said(case, r"decoder_num_heads\s*=\s*(\d+)") or _said(case, rf"decoder {width}\s*x\s*\d+\s*x\s*(\d+)")
    return SpectralGPTMAE(
        norm_pix=bool(re.search(r"norm_pix(_loss)?\W{0,3}(True|on)|norm-pix", words)), decoder_dim=width,
        decoder_depth=1 + max(int(k.split(".")[1]) for k in state if k.startswith("decoder_blocks.")),
        decoder_heads=heads or 16, mlp_ratio=state["blocks.0.mlp.fc1.weight"][0][0] / state["blocks.0.mlp.fc1.weight"][0][1],
        **encoder(case),
    )  # fmt: skip


def ratio(case: Case) -> float:
    """Share of hidden tokens that the words tell."""
    found = re.search(
        r"mask[_ -]?ratio\W{0,3}(0?\.\d+)|@ ?(0?\.\d+)", str(case.constructor) + str(case.meta.get("notes", ""))
    )
    return float(found[1] or found[2]) if found else 0.9


@torch.no_grad()
def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    outputs, state = case.meta["output"], case.meta["state"]
    images = case.tensors(*[name for name in case.inputs if name != "noise"])
    if "decoder_embed.weight" in state:
        (noise,) = case.tensors("noise")
        hidden = 1 - (outputs["latent"]["shape"][1] + 0.5) / noise.shape[1] if "latent" in outputs else ratio(case)
        with torch.device("meta"):
            network = masked_autoencoder(case)
        got = case.load_into(network)(images[0], noise=noise, mask_ratio=hidden)
        found = {"latent": got.latent, "pred": got.prediction, "mask": got.mask, "ids_restore": got.restore,
                 "loss": got.loss, "l1": got.token_loss, "l2": got.spectral_loss}  # fmt: skip
        return {k: v.reshape(outputs[k]["shape"]) if v.ndim == 0 and k in outputs else v for k, v in found.items()}
    if "head.weight" in state:
        with torch.device("meta"):
            network = SpectralGPTClassifier(state["head.weight"][0][0], **encoder(case))
        return {next(iter(outputs)): case.load_into(network)(images[0])}
    kind = SegMunichHead if len(images) == 1 else OSCDHead
    with torch.device("meta"):
        backbone = SpectralGPT(**encoder(case))
        head = kind(backbone.dim, backbone.groups, state["cls_seg.0.weight"][0][0])
    filled = case.state()
    parts = [{k: v for k, v in filled.items() if k in part.state_dict()} for part in (backbone, head)]
    assert len(parts[0]) + len(parts[1]) == len(filled) and not set(parts[0]) & set(parts[1])
    backbone.load_state_dict(parts[0], assign=True), head.load_state_dict(parts[1], assign=True)
    return {next(iter(outputs)): head.eval()(*[backbone.eval().spectral_maps(image) for image in images])}
