"""LESS ViT: embeddings, blocks, encoder and Hyper-MAE, built from the words of the case and the shapes of its state."""

from __future__ import annotations

import re
from typing import Any

import torch
from parity_case import Case, Unsupported

from torchspectral.backbones.less_vit import HyperMAE, LessViT
from torchspectral.backbones.less_vit import embedding as parts
from torchspectral.backbones.less_vit.block import LessBlock
from torchspectral.backbones.less_vit.options import BlockSettings

NAMES = {"channel_embed_dims_per_head": "channel_width", "decoder_embed_dim": "decoder_dim",
         "decoder_num_heads": "decoder_heads", "decoder_channel_embed_dims_per_head": "decoder_channel_width",
         "norm_pix_loss": "norm_pix", "layer_norm_eps": "eps", "dim": "dim", "attention_radius": "radius"}  # fmt: skip
KEPT = {"patch_size", "embed_dim", "depth", "num_heads", "rank", "qkv_bias", "qk_norm", "skip_pool", "init_values",
        "mlp_ratio", "rope_base", "decoder_depth", "mask_ratio", "channel_mask_ratio"}  # fmt: skip


def words(case: Case) -> dict[str, Any]:
    """Settings named in a case: ``name=value`` in its sentence, or its mapping."""
    made = case.constructor
    found = made if isinstance(made, dict) else dict(re.findall(r"(\w+)\s*=\s*('[^']*'|[\w.+-]+)", str(made)))
    return {k: _value(v.strip("'")) if isinstance(v, str) else v for k, v in found.items()}


def _value(text: str) -> Any:
    if text in ("True", "False", "None"):
        return {"True": True, "False": False}.get(text)
    return (
        (float(text) if "." in text or "e" in text else int(text))
        if re.fullmatch(r"[-+]?[\d.]+(e-?\d+)?", text)
        else text
    )


def settings(case: Case, prefix: str = "") -> dict[str, Any]:
    """Arguments of the encoder or of Hyper-MAE; what the state tells is taken from there."""
    said, state = words(case), case.meta["state"]
    found = {NAMES.get(k, k): v for k, v in said.items() if NAMES.get(k, k) in KEPT or (k in NAMES and k != "dim")}
    radius = found.pop("radius", None)
    block = f"{prefix}blocks.0."
    heads = found.get("num_heads", 12)
    narrow = state[f"{block}attn.low_dim_pool.channel_norm.weight"][0][0]
    found["channel_width"] = narrow // heads
    found["rank"] = state[f"{block}attn.attn.channel_branch.v.weight"][0][0] // narrow
    found["qkv_bias"] = f"{block}attn.attn.channel_branch.v.bias" in state
    found["qk_norm"] = f"{block}attn.attn.channel_branch.q_norm.weight" in state
    found["skip_pool"] = f"{block}attn.low_dim_pool.channel_pool.q.weight" not in state
    found["init_values"] = 1.0 if f"{block}ls1.gamma" in state else None
    told = str(case.constructor).lower() + str(case.meta.get("notes", "")).lower()
    rope = bool(
        said.get("use_rope_embed", any("periods_" in k for k in state) or "rope" in str(case.constructor).lower())
    )
    shares = case.params["wv"].get("high", 1) <= 1.5
    found |= {"embedding": "rope", "wavelength_range": (0.0, 1.0) if shares else parts.ENMAP_RANGE} if rope else {}
    spoken_of = re.search(r"(?<!no )(?<!without )perception", told) is not None
    masked = said.get("use_perception_field_mask", spoken_of or radius is not None)
    if masked:
        spoken = re.search(r"radius[^\d]{0,4}(\d+)", told)
        found["perception_radius"] = float(radius or (spoken and spoken[1]) or (360 if rope else 640))
    return found | {"resolution": float(said.get("spatial_resolution", 30))}


def fill(case: Case, network: torch.nn.Module) -> torch.nn.Module:
    """The case's state, strictly but for the periods of the rotary embedding, which keep their values."""
    state, own = case.state(), network.state_dict()
    differing = [k for k in set(own) ^ set(case.meta["state"]) if "periods_" not in k]
    assert not differing, f"keys differ: {sorted(differing)[:8]}"
    network.load_state_dict({k: v for k, v in state.items() if "periods_" not in k}, strict=False)
    return network.train(case.meta.get("mode") == "train")


@torch.no_grad()
def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    kind, said, outputs = str(case.constructor), words(case), case.meta["output"]
    state = case.meta.get("state", {})
    if "perception_field_mask(" in kind and not state:
        calls = [call for call in kind.split("get_perception_field_mask") if "(" in call]
        return {name: _mask(call).float() for name, call in zip(outputs, calls, strict=True)}
    if "pos_chan" in outputs:
        (waves,) = case.tensors("wv")
        embed, side = (
            parts.SinCosEmbedding(outputs["pos_chan"]["shape"][-1]),
            round((outputs["pos_chan"]["shape"][2] - 1) ** 0.5),
        )
        return {"pos_chan": embed(waves, side, side, said.get("spatial_resolution", 30))}
    if "sin_hw" in outputs:
        waves, q = case.tensors("wv", "q")
        rope = parts.SpatialSpectralRoPE(outputs["sin_hw"]["shape"][-1], outputs["sin_c"]["shape"][-1], said["base"])
        side = round(outputs["sin_hw"]["shape"][0] ** 0.5)
        (sin_hw, cos_hw), (sin_c, cos_c) = rope.spatial(side, side), rope.spectral(waves[0])
        return {"sin_hw": sin_hw, "cos_hw": cos_hw, "sin_c": sin_c, "cos_c": cos_c, "periods_hw": rope.periods_hw,
                "periods_c": rope.periods_c, "rope_applied_c": parts.rotate(q, (sin_c, cos_c))}  # fmt: skip
    if "proj.0.weight" in state:
        dim, _, _, patch, _ = state["proj.0.weight"][0]
        return {"y": fill(case, parts.TiedPatchEmbed(patch, dim // 2))(*case.tensors("x"))}
    if "norm1.weight" in state:
        names = ("rank", "qkv_bias", "qk_norm", "skip_pool", "init_values", "mlp_ratio")
        given = {name: said[name] for name in names if name in said}
        block = LessBlock(
            BlockSettings(*(said[k] for k in ("dim", "num_heads", "channel_dim", "spatial_dim")), **given)
        )
        return {"y": fill(case, block)(*case.tensors("x"))}
    if "tokens" in outputs:
        made = {
            k: v for k, v in settings(case).items() if "decoder" not in k and "mask_ratio" not in k and k != "norm_pix"
        }
        tokens = fill(case, LessViT(**made))(*case.tensors("x", "wv"))
        return {"tokens": tokens, "cls": tokens[:, 0, 0]}
    if "recon" in outputs:
        network = fill(case, HyperMAE(**({"norm_pix": True} | settings(case, "encoder.")), decoder_rope=False))
        got = network(*case.tensors("x", "wv"), noise=tuple(case.tensors("noise_c", "noise_p")))
        return {"recon": got.prediction, "target": got.target, "loss": got.loss[None],
                "channel_mask": got.channel_mask, "pos_mask": got.position_mask}  # fmt: skip
    raise Unsupported(f"no such part of LESS ViT: {kind[:60]}")


def _mask(call: str) -> torch.Tensor:
    count, patch, metres, radius = (float(number) for number in re.findall(r"\d+(?:\.\d+)?", call)[:4])
    side, seen_by_all = round(count**0.5), "cls_token=True" in call
    return parts.perception_mask(side, side, int(patch), metres, radius, cls_token=seen_by_all)
