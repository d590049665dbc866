"""LESS ViT: embeddings, blocks, encoder and Hyper-MAE, built from the words of the case and the shapes of its state."""

from __future__ import annotations

import re
from typing import Any

import torch
from parity_case import Case, Unsupported
from parity_words import NUMBER, Said, blocks, nothing

from torchspectral.backbones.less_vit import HyperMAE, LessViT
from torchspectral.backbones.less_vit import embedding as parts
from torchspectral.backbones.less_vit.block import LessBlock
from torchspectral.backbones.less_vit.options import BlockSettings

ALIASES = {"layer_norm_eps": "eps", "norm_eps": "eps", "embed_dims": "embed_dim", "norm_pix": "norm_pix_loss", "rope": "use_rope_embed",
           "use_rope": "use_rope_embed", "qk_normalization": "qk_norm", "layer_scale_init_value": "init_values", "attn_type": "operator",
           "attention_type": "operator", "attention_op": "operator", "perception_radius": "attention_radius", "resolution": "spatial_resolution",
           "radius": "attention_radius", "attention_probs_dropout_prob": "attn_drop", "hidden_dropout_prob": "drop"}  # fmt: skip
PROSE = ("spatial_resolution", "mask_ratio", "channel_mask_ratio", "norm_pix_loss", "rank", "num_heads", "decoder_num_heads", "rope_base",
         "attention_radius", "skip_pool", "qk_norm", "qkv_bias", "use_rope_embed", "use_perception_field_mask")  # fmt: skip
RATES = ("drop", "attn_drop", "proj_drop", "drop_path", "drop_rate", "attn_drop_rate", "drop_path_rate", "dropout", "attention_dropout",
         "pos_chan_drop", "head_drop_rate", "patch_drop_rate", "channel_dropout", "moe")  # fmt: skip
OPERATORS = {"low_rank": "low_rank", "lowrank": "low_rank", "less": "low_rank", "additive": "additive", "full": "full"}
WORDS = ("modal", "mode", "channel_ids", "cls_token", "wv", "optical_channel_wv", "radar_channel_wv", "drop_path_uniform", "return_dict",
         "hidden_act", "act_layer", "norm_layer", "initializer_range", "noise_c", "noise_p", "loss", "decoder_mask_ratio")  # fmt: skip


def finish(case: Case, said: Said) -> None:
    """Every setting is taken by now; rates of dropout count in training only."""
    training = case.meta.get("mode") == "train"
    said.finish(WORDS, {name: (nothing if training else lambda v: True) for name in RATES})


def of_block(said: Said, state: dict[str, list], block: str, heads: int) -> dict[str, Any]:
    """Options of a block that the keys of its state tell; the words must agree."""
    kind = (
        "full"
        if f"{block}attn.qkv.weight" in state
        else "additive"
        if f"{block}attn.P_c.weight" in state
        else "low_rank"
    )
    if OPERATORS.get(str(said.take("operator", kind)), kind) != kind:
        raise ValueError(f"the case says operator {said.found['operator']!r}, its state is of {kind}")
    dim, ratio = (
        state[f"{block}norm1.weight"][0][0],
        state[f"{block}mlp.fc1.weight"][0][0] / state[f"{block}norm1.weight"][0][0],
    )
    found: dict[str, Any] = {"operator": kind, "mlp_ratio": said.agree("mlp_ratio", ratio)}
    found["init_values"] = said.take("init_values", 1.0) if f"{block}ls1.gamma" in state else None
    if kind == "full":
        found["qkv_bias"] = said.agree("qkv_bias", f"{block}attn.qkv.bias" in state)
        found["qk_norm"] = said.agree("qk_norm", f"{block}attn.q_norm.weight" in state)
        said.take("rank"), said.take("skip_pool")
        return found | {"channel_width": said.take("channel_embed_dims_per_head", 4), "dim": dim}
    branch, narrow = (
        f"{block}attn.attn." if kind == "low_rank" else f"{block}attn.",
        state[f"{block}attn.low_dim_pool.channel_norm.weight"][0][0],
    )
    found["channel_width"] = said.agree("channel_embed_dims_per_head", narrow // heads)
    found["rank"] = said.agree("rank", state[f"{branch}channel_branch.v.weight"][0][0] // narrow)
    found["qkv_bias"] = said.agree("qkv_bias", f"{branch}channel_branch.v.bias" in state)
    found["qk_norm"] = said.agree("qk_norm", f"{branch}channel_branch.q_norm.weight" in state)
    found["skip_pool"] = said.agree("skip_pool", f"{block}attn.low_dim_pool.channel_pool.q.weight" not in state)
    return found | {"dim": dim}


def of_encoder(case: Case, said: Said, prefix: str = "") -> dict[str, Any]:
    """Arguments of the encoder: what the state tells is taken from there, and the words must agree."""
    state = case.meta["state"]
    dim = state[f"{prefix}cls_token"][0][2]
    heads = said.take("num_heads") or max(dim // 64, 1)
    found = of_block(said, state, f"{prefix}blocks.0.", heads)
    found |= {
        "embed_dim": said.agree("embed_dim", found.pop("dim")),
        "depth": said.agree("depth", blocks(state, prefix)),
    }
    found |= {
        "patch_size": said.agree("patch_size", state[f"{prefix}optical_patch_embed.proj.0.weight"][0][3]),
        "num_heads": heads,
    }
    unsaid = any("periods_" in key for key in state) or re.search(
        r"(?<!no )(?<!without )(?<!_)\b(?:ss)?rope\b(?!\s*[=:]?\s*(?:False|off|0\b))", said.text, re.I
    )
    rope = bool(said.take("use_rope_embed", unsaid is not None and unsaid is not False))
    shares = case.params[next(n for n in case.inputs if n.startswith("wv"))].get("high", 1) <= 1.5
    base = said.take("rope_base", said.take("base", 100.0))
    found |= (
        {"embedding": "rope", "rope_base": float(base), "wavelength_range": (0.0, 1.0) if shares else parts.ENMAP_RANGE}
        if rope
        else {}
    )
    if "eps" in said:
        found["eps"] = said.take("eps")
    spoken = re.search(r"(?<!no )(?<!without )(?<!use_)(?<!_)perception", f"{said.text} {said.notes}", re.I) is not None
    radius = said.take("attention_radius")
    if said.take("use_perception_field_mask", spoken or radius is not None):
        metres = re.search(rf"radius\D{{0,4}}({NUMBER})", f"{said.text} {said.notes}", re.I)
        found["perception_radius"] = float(radius or (metres and metres[1]) or (360 if rope else 640))
    return found | {"resolution": float(said.take("spatial_resolution", 30)), "max_tokens": 1 << 20}


def of_decoder(case: Case, said: Said) -> dict[str, Any]:
    """Arguments of the decoder."""
    state, heads = case.meta["state"], said.take("decoder_num_heads", 16)
    dim = state["decoder.mask_token"][0][-1]
    narrow = state["decoder.decoder_blocks.0.attn.low_dim_pool.channel_norm.weight"][0][0]
    return {
        "decoder_dim": said.agree("decoder_embed_dim", dim), "decoder_heads": heads,
        "decoder_depth": said.agree("decoder_depth", blocks(state, "decoder.decoder_")),
        "decoder_channel_width": said.agree("decoder_channel_embed_dims_per_head", narrow // heads),
    }  # fmt: skip


def fill(case: Case, network: torch.nn.Module) -> torch.nn.Module:
    """The case's state, strictly but for the periods of the rotary embedding, which keep their values."""
    state, own = case.state(), network.state_dict()
    differing = [k for k in set(own) ^ set(case.meta["state"]) if "periods_" not in k]
    assert not differing, f"keys differ: {sorted(differing)[:8]}"
    network.load_state_dict({k: v for k, v in state.items() if "periods_" not in k}, strict=False)
    return network.train(case.meta.get("mode") == "train")


def images(case: Case, said: Said) -> tuple[list[Any], dict[str, Any]]:
    """Images and wavelengths as the networks take them; `modal` says what a single image is of."""
    names = [n for n in case.inputs if not n.startswith(("wv", "noise"))]
    waves = [n for n in case.inputs if n.startswith("wv")]
    modal = str(said.take("modal", "optical" if len(names) == 1 else "multi"))
    if (
        modal not in ("optical", "radar", "multi")
        or len(names) != len(waves)
        or (len(names) == 2) != (modal == "multi")
    ):
        raise Unsupported(f"modal={modal!r} with the images {names}")
    if modal == "multi":
        optical, radar = sorted(zip(names, waves, strict=True), key=lambda pair: "radar" in pair[0] or "sar" in pair[0])
        second = case.tensors(*radar)
        return case.tensors(*optical), {"radar": second[0], "radar_wavelengths": second[1]}
    one = case.tensors(names[0], waves[0])
    return (one, {}) if modal == "optical" else ([None], {"radar": one[0], "radar_wavelengths": one[1]})


@torch.no_grad()
def run(case: Case) -> dict:
    """Compute the outputs of one case."""
    said, outputs, state = Said(case, ALIASES, PROSE), case.meta["output"], case.meta.get("state", {})
    if not state:
        return tables(case, said)
    if "proj.0.weight" in state:
        dim, _, _, patch, _ = state["proj.0.weight"][0]
        said.agree("patch_size", patch), said.agree("embed_dim", dim // 2), finish(case, said)
        return {name: fill(case, parts.TiedPatchEmbed(patch, dim // 2))(*case.tensors("x")) for name in outputs}
    if "norm1.weight" in state:
        heads = said.take("num_heads", max(state["norm1.weight"][0][0] // 64, 1))
        made = of_block(said, state, "", heads)
        dim, width = said.agree("dim", made.pop("dim")), made.pop("channel_width")
        said.agree("channel_dim", width * heads), said.agree("spatial_dim", dim // width)
        block = LessBlock(BlockSettings.of_tokens(dim, heads, width, eps=said.take("eps", 1e-5), **made))
        finish(case, said)
        return {name: fill(case, block)(*case.tensors("x")) for name in outputs}
    if "recon" not in outputs:
        made = of_encoder(case, said)
        for name in (
            "mask_ratio",
            "channel_mask_ratio",
            "norm_pix_loss",
            *(n for n in said.found if n.startswith("decoder_")),
        ):
            said.take(name)  # of a configuration that encoder and decoder share
        (x, *waves), radar = images(case, said)
        finish(case, said)
        tokens = fill(case, LessViT(**made))(x, *waves, **radar)
        return {name: _tokens(tokens, o["shape"]) for name, o in outputs.items()}
    made = of_encoder(case, said, "encoder.") | of_decoder(case, said)
    made |= {"mask_ratio": said.take("mask_ratio", 0.75), "channel_mask_ratio": said.take("channel_mask_ratio", 0.5)}
    made["norm_pix"] = bool(said.take("norm_pix_loss", True))
    (x, *waves), radar = images(case, said)
    finish(case, said)
    network = fill(case, HyperMAE(**made, decoder_rope=False))
    got = network(
        x, *waves, **radar, noise=tuple(case.tensors(*sorted(n for n in case.inputs if n.startswith("noise"))))
    )
    return {"recon": got.prediction, "target": got.target, "loss": got.loss[None], "channel_mask": got.channel_mask,
            "pos_mask": got.position_mask, "position_loss": got.position_loss[None], "channel_loss": got.channel_loss[None]}  # fmt: skip


def _tokens(grid: torch.Tensor, shape: list[int]) -> torch.Tensor:
    """The grid, the image's token, the row of places or the column of channels, whichever has the shape."""
    found = (grid, grid[:, 0, 0], grid[:, 0, 1:], grid[:, 1:, 0], grid[:, 0], grid[:, :, 0], grid[:, 1:, 1:])
    return next((part for part in found if list(part.shape) == list(shape)), grid)


def tables(case: Case, said: Said) -> dict[str, Any]:
    """Embeddings of places and wavelengths, and perception masks."""
    outputs, kind = case.meta["output"], said.text
    if "perception_field_mask(" in kind:
        calls = [call for call in kind.split("get_perception_field_mask") if "(" in call]
        return {name: _mask(call).float() for name, call in zip(outputs, calls, strict=True)}
    if "pos_chan" in outputs:
        (waves,), shape = case.tensors(next(n for n in case.inputs)), outputs["pos_chan"]["shape"]
        made = parts.SinCosEmbedding(shape[-1])(
            waves, *2 * [round((shape[2] - 1) ** 0.5)], said.take("spatial_resolution", 30)
        )
        said.agree("embed_dim", shape[-1]), finish(case, said)
        return {"pos_chan": made}
    if "sin_hw" in outputs:
        (waves,) = case.tensors("wv")
        heads = said.take("num_heads")
        widths = [outputs[name]["shape"][-1] for name in ("sin_hw", "sin_c")]
        if heads is not None:
            said.agree("spatial_dim", widths[0] * heads), said.agree("channel_dim", widths[1] * heads)
        rope = parts.SpatialSpectralRoPE(*widths, said.take("base", said.take("rope_base", 100.0)))
        finish(case, said)
        side = round(outputs["sin_hw"]["shape"][0] ** 0.5)
        (sin_hw, cos_hw), (sin_c, cos_c) = rope.spatial(side, side), rope.spectral(waves[0])
        found = {"sin_hw": sin_hw, "cos_hw": cos_hw, "sin_c": sin_c, "cos_c": cos_c, "periods_hw": rope.periods_hw,
                 "periods_c": rope.periods_c}  # fmt: skip
        for name in set(outputs) - set(found):  # queries that are turned, by the axis that their length tells
            query = next(
                q
                for n in case.inputs
                if n != "wv" and list((q := case.tensors(n)[0]).shape) == list(outputs[name]["shape"])
            )
            found[name] = parts.rotate(query, (sin_c, cos_c) if query.shape[-2] == len(sin_c) + 1 else (sin_hw, cos_hw))
        return found
    raise Unsupported(f"no such part of LESS ViT: {kind[:60]}")


def _mask(call: str) -> torch.Tensor:
    count, patch, metres, radius = (float(number) for number in re.findall(r"\d+(?:\.\d+)?", call)[:4])
    side, seen_by_all = round(count**0.5), re.search(r"cls_token\s*=\s*True", call) is not None
    return parts.perception_mask(side, side, int(patch), metres, radius, cls_token=seen_by_all)
