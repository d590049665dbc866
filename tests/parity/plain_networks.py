"""Networks of restoration and super-resolution as their specifications are written, on a mapping of weights.

Nothing here is fused, shared or done in pieces: the library's formulations are held against these where no stored case
reaches (other sizes, scales, numbers of bands and versions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import torch
import torch.nn.functional as F

Weights = Mapping[str, torch.Tensor]


def below(w: Weights, prefix: str) -> dict[str, torch.Tensor]:
    """The weights under a name."""
    return {key.removeprefix(prefix + "."): value for key, value in w.items() if key.startswith(prefix + ".")}


def conv2(x: torch.Tensor, w: Weights, name: str, groups: int = 1) -> torch.Tensor:
    weight = w[name + ".weight"]
    return F.conv2d(x, weight, w.get(name + ".bias"), padding=weight.shape[-1] // 2, groups=groups)


def conv3(x: torch.Tensor, w: Weights, name: str, stride: int = 1) -> torch.Tensor:
    weight = w[name + ".weight"]
    padding = tuple(side // 2 for side in weight.shape[2:])
    return F.conv3d(x, weight, w.get(name + ".bias"), (1, stride, stride), padding)


def linear(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    return F.linear(x, w[name + ".weight"], w.get(name + ".bias"))


def norm(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    return F.layer_norm(x, x.shape[-1:], w[name + ".weight"], w[name + ".bias"], 1e-5)


def twice(x: torch.Tensor) -> torch.Tensor:
    return F.interpolate(x, scale_factor=(1, 2, 2), mode="trilinear", align_corners=True)


def steps(scale: int) -> list[int]:
    return [3] if scale == 3 else [2] * round(math.log2(scale))


# ESSAformer


def essa_attention(tokens: torch.Tensor, w: Weights) -> torch.Tensor:
    q, k, v = linear(tokens, w, "lnqkv").chunk(3, -1)
    q, k = (t - t.mean(-1, keepdim=True) for t in (q, k))
    q, k = (t**2 / ((t**2).sum(-1, keepdim=True) + 1e-7) for t in (q, k))
    q, k = F.normalize(q, dim=-1), F.normalize(k, dim=-2)
    return linear(v + q @ (k.transpose(1, 2) @ v) / math.sqrt(tokens.shape[1]), w, "ln")


def essa_refiner(t: torch.Tensor, w: Weights, stack: str) -> torch.Tensor:
    tokens = essa_attention(norm(t.flatten(2).transpose(1, 2), w, "norm"), below(w, "attn"))
    z = torch.cat([tokens.transpose(1, 2).reshape(t.shape), t], 1)
    z = F.leaky_relu(conv2(z, w, f"{stack}.0"), 0.2)
    z = F.leaky_relu(conv2(z, w, f"{stack}.3"), 0.2)
    return conv2(z, w, f"{stack}.6") + t


def essaformer(w: Weights, x: torch.Tensor, scale: int) -> torch.Tensor:
    b = below(w, "blockup")

    def up(z: torch.Tensor) -> torch.Tensor:
        for number, factor in enumerate(steps(scale)):
            z = F.pixel_shuffle(conv2(z, b, f"convupsample.{2 * number}"), factor)
        return z

    def down(z: torch.Tensor) -> torch.Tensor:
        for number, factor in enumerate(steps(scale)):
            z = F.pixel_unshuffle(conv2(z, b, f"convdownsample.{2 * number}"), factor)
        return z

    def fine(z: torch.Tensor) -> torch.Tensor:
        return essa_refiner(z, below(b, "convup"), "convu")

    def coarse(z: torch.Tensor) -> torch.Tensor:
        return essa_refiner(z, below(b, "convdown"), "convd")

    first = conv2(x, w, "conv_first")
    x1 = fine(up(first))
    x2 = coarse(down(x1) + first)
    x3 = fine(up(x2) + x1)
    x4 = coarse(down(x3) + x2)
    return conv2(fine(up(x4) + x3), w, "conv_last")


# DeepShare


def share_branch(x: torch.Tensor, w: Weights, share: float, scale: int) -> torch.Tensor:
    first = y = conv2(x, w, "head")
    for number in (1, 2, 3):
        block = below(w, f"body.net{number}")
        y = y + share * conv2(F.relu(conv2(y, block, "spa.body.0")), block, "spa.body.2")
        z = conv2(F.relu(conv2(y, block, "spc.body.0")), block, "spc.body.2")
        gain = F.relu(conv2(z.mean((2, 3), keepdim=True), block, "spc.body.3.conv_du.0"))
        y = y + share * z * torch.sigmoid(conv2(gain, block, "spc.body.3.conv_du.2"))
    y = y + first
    for number, factor in enumerate(steps(scale)):
        y = F.pixel_shuffle(conv2(y, w, f"upsample.{2 * number}"), factor)
    return conv2(y, w, "tail") if "tail.weight" in w else y


def deepshare(
    w: Weights, x: torch.Tensor, up: torch.Tensor, kind: str, size: int, shared: int, scale: int, share: float
) -> torch.Tensor:
    def both(z: torch.Tensor) -> torch.Tensor:
        return share_branch(share_branch(z, below(w, "branch1"), share, scale // 2), below(w, "branch2"), share, 2)

    if kind == "rgb":
        trunk = share_branch(both(x), below(w, "trunk_RGB"), share, 1)
        return conv2(trunk + conv2(up, w, "skip_conv_RGB"), w, "final_RGB")
    bands = x.shape[1]
    total, hits = torch.zeros_like(up), up.new_zeros(bands)
    for group in range(math.ceil((bands - shared) / (size - shared))):
        end = min(group * (size - shared) + size, bands)
        total[:, end - size : end] += both(x[:, end - size : end])
        hits[end - size : end] += 1
    trunk = share_branch(total / hits[:, None, None], below(w, "trunk"), share, 1)
    return conv2(trunk + conv2(up, w, "skip_conv"), w, "final")


# HSDT


def hsdt_block(x: torch.Tensor, w: Weights, similar: bool) -> torch.Tensor:
    x = x.permute(0, 3, 4, 2, 1)
    mean = x.mean((1, 2))
    mix = (mean @ mean.transpose(1, 2) if similar else linear(mean, w, "attn.attn_proj")).softmax(-1)
    y = linear(mix[:, None, None] @ linear(x, w, "attn.value_proj"), w, "attn.fc") + x
    a, b = linear(y, w, "ffn.w_3").chunk(2, -1)
    return (linear(F.gelu(linear(y, w, "ffn.w_1")), w, "ffn.w_2") + a * torch.sigmoid(b)).permute(0, 4, 3, 1, 2)


def hsdt_layer(x: torch.Tensor, w: Weights, kind: str, similar: bool) -> torch.Tensor:
    x = twice(x) if kind == "up" else x
    if kind == "same":
        y = F.leaky_relu(conv3(x, w, "conv.dw_conv.0"), 0.01)
        x = F.leaky_relu(conv3(y, w, "conv.dw_conv.2"), 0.01) + conv3(x, w, "conv.pw_conv")
    else:
        x = conv3(x, w, "conv", 2 if kind == "down" else 1)
    x = F.batch_norm(x, w["bn.running_mean"], w["bn.running_var"], w["bn.weight"], w["bn.bias"], eps=1e-5)
    return hsdt_block(x, below(w, "attn"), similar)


def hsdt(w: Weights, x: torch.Tensor, layers: int, sampled: Sequence[int], similar: bool = False) -> torch.Tensor:
    y = hsdt_layer(x, below(w, "head"), "same", similar)
    kept = [y]
    for k in range(layers):
        y = hsdt_layer(y, below(w, f"encoder.layers.{k}"), "down" if k in sampled else "same", similar)
        kept += [y] if k < layers - 1 else []
    for number, k in enumerate(reversed(range(layers))):
        y = y + kept.pop() if number else y
        y = hsdt_layer(y, below(w, f"decoder.layers.{number}"), "up" if k in sampled else "same", similar)
    return conv3(y + kept.pop(), w, "tail") + x[:, :1]


def hsdt_ssr(w: Weights, x: torch.Tensor, layers: int, sampled: Sequence[int]) -> torch.Tensor:
    h, width = x.shape[-2:]
    x = F.pad(x, (0, (width // 8 + 1) * 8 - width, 0, (h // 8 + 1) * 8 - h))
    cube = F.leaky_relu(F.conv2d(x, w["proj.weight"]), 0.01)[:, None]
    return hsdt(w, cube, layers, sampled)[:, 0, :, :h, :width]


# MAN


def mlp(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    return conv3(torch.tanh(conv3(x, w, f"{name}.w_1")), w, f"{name}.w_2")


def recurrence(z: torch.Tensor, f: torch.Tensor, backward: bool) -> torch.Tensor:
    out, h = torch.zeros_like(z), torch.zeros_like(z[:, :, 0])
    for band in reversed(range(z.shape[2])) if backward else range(z.shape[2]):
        h = f[:, :, band] * h + (1 - f[:, :, band]) * z[:, :, band]
        out[:, :, band] = h
    return out


def man_block(x: torch.Tensor, w: Weights, backward: bool) -> torch.Tensor:
    z, f = torch.tanh(mlp(x, w, "inter_sa.ffn1")), torch.sigmoid(mlp(x, w, "inter_sa.ffn2"))
    half = z.shape[1] // 2

    def turned(t: torch.Tensor) -> torch.Tensor:
        return torch.cat([t[:, :half], t[:, half:].flip(2)], 1)

    h = turned(recurrence(turned(z), turned(f), backward))
    u = conv3(h, w, "intra_sa.w_3") * h + h
    return conv3(F.gelu(conv3(u, w, "intra_sa.w_1")), w, "intra_sa.w_2")


def man_skip(
    x: torch.Tensor, y: torch.Tensor, w: Weights, name: str, between: Callable[[torch.Tensor], torch.Tensor]
) -> torch.Tensor:
    share = torch.sigmoid(conv3(between(conv3(torch.cat([x, y], 1), w, f"{name}.0")), w, f"{name}.2"))
    return (1 - share) * x + share * y


def man(w: Weights, x: torch.Tensor, layers: int, sampled: Sequence[int]) -> torch.Tensor:
    first = y = man_block(conv3(x, w, "head.conv"), below(w, "head"), False)
    kept = []
    for k in range(layers):
        own = below(w, f"encoder.layers.{k}")
        y = man_block(conv3(y, own, "conv", 2 if k in sampled else 1), own, k % 2 == 0)
        kept += [y] if k < layers - 1 else []
    for number, k in enumerate(reversed(range(layers))):
        own = below(w, f"decoder.layers.{number}")
        if number:
            fusion = below(w, f"decoder.fusions.{number}")
            y = man_skip(y, kept.pop(), fusion, "weight", lambda t: F.leaky_relu(t, 0.01))
        y = conv3(twice(y), own, "conv.conv3d") if k in sampled else conv3(y, own, "conv")
        y = man_block(y, own, number % 2 == 0)
    return conv3(y + first, w, "tail") + x[:, :1]


def man_v1_block(x: torch.Tensor, w: Weights, directions: Sequence[tuple[str, bool]]) -> torch.Tensor:
    z = torch.tanh(mlp(x, w, "ffn_f"))
    h = sum(recurrence(z, torch.sigmoid(mlp(x, w, gate)), backward) for gate, backward in directions)
    assert isinstance(h, torch.Tensor)
    return h * torch.sigmoid(conv3(h.mean((2, 3, 4), keepdim=True), w, "sca.sca.1"))


def man_v1(w: Weights, x: torch.Tensor, layers: int, sampled: Sequence[int]) -> torch.Tensor:
    both = [("ffn_w", False), ("ffn_w2", True)]
    first = y = man_v1_block(conv3(x, w, "head.0"), below(w, "head.1"), both)
    kept = []
    for k in range(layers):
        own = below(w, f"encoder.layers.{k}")
        y = man_v1_block(conv3(y, own, "conv", 2 if k in sampled else 1), below(own, "attn"), [("ffn_w", k % 2 == 1)])
        kept += [y] if k < layers - 1 else []
    for number, k in enumerate(reversed(range(layers))):
        own = below(w, f"decoder.layers.{number}")
        if number:
            y = man_skip(y, kept.pop(), below(w, f"decoder.fusions.{number}"), "conv_weight", torch.tanh)
        y = conv3(twice(y), own, "conv") if k in sampled else F.conv_transpose3d(y, own["conv.weight"], padding=1)
        y = man_v1_block(y, below(own, "attn"), [("ffn_w", k % 2 == 0)])
    y = F.conv_transpose3d(y + first, w["tail.0.weight"], w["tail.0.bias"], padding=1)
    return man_v1_block(y, below(w, "tail.1"), both) + x[:, :1]


# MP-HSIR


def channel_norm(x: torch.Tensor, w: Weights, name: str) -> torch.Tensor:
    return norm(x.permute(0, 2, 3, 1), w, f"{name}.body").permute(0, 3, 1, 2)


def between_channels(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, w: Weights) -> torch.Tensor:
    heads, shape = w["temperature"].shape[0], q.shape
    q, k, v = (t.reshape(t.shape[0], heads, t.shape[1] // heads, -1) for t in (q, k, v))
    mix = F.normalize(q, dim=-1) @ F.normalize(k, dim=-1).transpose(-1, -2) * w["temperature"]
    return conv2((mix.softmax(-1) @ v).reshape(shape), w, "project_out")


def channel_attention(x: torch.Tensor, w: Weights) -> torch.Tensor:
    qkv = conv2(conv2(x, w, "qkv"), w, "qkv_dwconv", groups=3 * x.shape[1])
    return between_channels(*qkv.chunk(3, 1), w)


def gated(x: torch.Tensor, w: Weights) -> torch.Tensor:
    z = conv2(x, w, "project_in")
    a, b = conv2(z, w, "dwconv", groups=z.shape[1]).chunk(2, 1)
    return conv2(F.gelu(a) * b, w, "project_out")


def window_logits(logits: torch.Tensor, rows: int, cols: int, shift: int) -> torch.Tensor:
    """Logits (image, window, head, token, token) with the mask of shifted windows."""
    region, count = torch.zeros(rows, cols), 0
    cuts = (slice(0, -8), slice(-8, -shift), slice(-shift, None))
    for a in cuts:
        for b in cuts:
            region[a, b] = count
            count += 1
    tokens = region.view(rows // 8, 8, cols // 8, 8).permute(0, 2, 1, 3).reshape(-1, 64)
    mask = torch.where(tokens[:, None] != tokens[:, :, None], -100.0, 0.0).to(logits)
    return logits + mask[None, :, None]


def pgsstb(x: torch.Tensor, w: Weights, compression: int, shift: int) -> torch.Tensor:
    n, dim, rows, cols = x.shape
    heads = w["attn.relative_position_bias_table"].shape[1]
    tokens = x.permute(0, 2, 3, 1)
    y = norm(tokens, w, "norm1").roll((-shift, -shift), (1, 2))
    windows = y.view(n, rows // 8, 8, cols // 8, 8, dim).permute(0, 1, 3, 2, 4, 5).reshape(-1, 64, dim)
    q, k, v = linear(windows, w, "attn.qkv").view(-1, 64, 3, heads, dim // heads).permute(2, 0, 3, 1, 4)
    place = torch.stack(torch.meshgrid(torch.arange(8), torch.arange(8), indexing="ij")).flatten(1)
    gap = place[:, :, None] - place[:, None, :] + 7
    logits = q * (dim // heads) ** -0.5 @ k.transpose(-1, -2)
    logits = logits + w["attn.relative_position_bias_table"][gap[0] * 15 + gap[1]].permute(2, 0, 1)
    if shift:
        logits = window_logits(logits.view(n, -1, heads, 64, 64), rows, cols, shift).view(-1, heads, 64, 64)
    spatial = linear((logits.softmax(-1) @ v).transpose(1, 2).reshape(-1, 64, dim), w, "attn.proj")
    own, mean = below(w, "local_spectral_attn"), spatial.mean(1, keepdim=True)
    shares = linear(mean, own, "linear_prompt").softmax(-1)
    q = linear((shares[..., None] * own["prompt_param"][0, 0]).sum(-2), own, "q")
    k, v = linear(linear(mean, own, "linear_down"), own, "kv").chunk(2, -1)
    mix = (q.transpose(1, 2) @ k * (dim // compression) ** -0.5).softmax(-1)
    gain = linear(linear((mix @ v.transpose(1, 2)).transpose(1, 2), own, "proj"), own, "linear_up")

    def image(t: torch.Tensor) -> torch.Tensor:
        t = t.view(n, rows // 8, cols // 8, 8, 8, dim).permute(0, 1, 3, 2, 4, 5).reshape(n, rows, cols, dim)
        return t.roll((shift, shift), (1, 2))

    broad = channel_attention(image(spatial).permute(0, 3, 1, 2), below(w, "gobal_spectral_attn"))
    tokens = tokens + image(gain * spatial) + broad.permute(0, 2, 3, 1)
    a, b = linear(norm(tokens, w, "norm2"), w, "mlp.fc1").chunk(2, -1)
    return (tokens + linear(a * F.gelu(b), w, "mlp.fc2")).permute(0, 3, 1, 2)


def stage(x: torch.Tensor, w: Weights, compression: int) -> torch.Tensor:
    y = x
    for number in range(len({key.split(".")[1] for key in w})):
        y = pgsstb(y, below(w, f"blocks.{number}"), compression, 4 * (number % 2))
    return y + x


def text_visual_prompt(
    w: Weights, shares: torch.Tensor, text: torch.Tensor, side: int, shape: Sequence[int]
) -> torch.Tensor:
    """As the released code has it: the rows of a batch's prompts take turns in the features of all its samples."""
    mixed = (shares[:, :, None] * text[None]).mean(1)
    learned = (shares[:, :, None, None, None] * w["text_prompt_learnable"]).mean(1)
    y = F.interpolate(learned * mixed, (side, side), mode="nearest")
    own = below(w, "cross_transformer")
    a, b = channel_norm(y, own, "norm11"), channel_norm(w["visual_prompt"], own, "norm12")
    attn, dim = below(own, "attn"), y.shape[1]
    q = conv2(conv2(a, attn, "q"), attn, "q_dwconv", groups=dim)
    k, v = conv2(conv2(b, attn, "kv"), attn, "kv_dwconv", groups=2 * dim).expand(len(y), -1, -1, -1).chunk(2, 1)
    y = y + between_channels(q, k, v, attn)
    y = y + gated(channel_norm(y, own, "norm2"), below(own, "ffn"))
    return conv2(F.interpolate(y, tuple(shape), mode="bilinear", align_corners=False), w, "conv_last")


def prompt_fusion(x: torch.Tensor, prompt: torch.Tensor, w: Weights) -> torch.Tensor:
    own, y = below(w, "transformer"), torch.cat([x, prompt], 1)
    y = y + channel_attention(channel_norm(y, own, "norm1"), below(own, "attn"))
    return conv2(y + gated(channel_norm(y, own, "norm2"), below(own, "ffn")), w, "conv")


def mp_hsir(w: Weights, x: torch.Tensor, task: torch.Tensor, text: torch.Tensor) -> torch.Tensor:
    shares = F.one_hot(task, len(text)).to(x)
    shares = shares.mean(1) if task.ndim == 2 else shares

    def smaller(z: torch.Tensor, name: str) -> torch.Tensor:
        return F.pixel_unshuffle(conv2(z, w, f"{name}.body.0"), 2)

    def larger(z: torch.Tensor, name: str) -> torch.Tensor:
        return F.pixel_shuffle(conv2(z, w, f"{name}.body.0"), 2)

    e1 = stage(conv2(x, w, "patch_embed.proj"), below(w, "encoder_level1"), 8)
    e2 = stage(smaller(e1, "down1_2"), below(w, "encoder_level2"), 16)
    z = stage(smaller(e2, "down2_3"), below(w, "latent"), 32)
    p1 = text_visual_prompt(below(w, "prompt1"), shares, text, 64, e1.shape[-2:])
    p2 = text_visual_prompt(below(w, "prompt2"), shares, text, 32, e2.shape[-2:])
    joined = torch.cat([larger(z, "up3_2"), prompt_fusion(e2, p2, below(w, "fusion2"))], 1)
    d2 = stage(conv2(joined, w, "reduce_chan_level2"), below(w, "decoder_level2"), 16)
    d1 = torch.cat([larger(d2, "up2_1"), prompt_fusion(e1, p1, below(w, "fusion1"))], 1)
    d1 = stage(stage(d1, below(w, "decoder_level1"), 8), below(w, "refinement"), 8)
    return conv2(d1, w, "output") + x
