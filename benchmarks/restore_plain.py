"""HSDT and MAN step by step, as their papers say it: what the library's formulations are timed against.

Functions on a state dict; `restore_networks.py` holds them against the same parity cases as the library.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch.nn import functional

State = Mapping[str, torch.Tensor]


class Weights:
    """A state dict seen from one of its layers."""

    def __init__(self, state: State, prefix: str = "") -> None:
        self.state, self.prefix = state, prefix

    def __call__(self, name: str) -> Weights:
        """One layer deeper."""
        return Weights(self.state, f"{self.prefix}{name}.")

    def __getitem__(self, name: str) -> torch.Tensor:
        return self.state[self.prefix + name]

    def get(self, name: str) -> torch.Tensor | None:
        """A tensor that may be absent."""
        return self.state.get(self.prefix + name)


def conv(x: torch.Tensor, w: Weights, stride: int = 1) -> torch.Tensor:
    """A 3-D convolution with zero padding."""
    weight = w["weight"]
    padding = [k // 2 for k in weight.shape[2:]]
    return functional.conv3d(x, weight, w.get("bias"), stride=(1, stride, stride), padding=padding)


def linear(x: torch.Tensor, w: Weights) -> torch.Tensor:
    """A linear layer on the last axis."""
    return functional.linear(x, w["weight"], w.get("bias"))


def up(x: torch.Tensor) -> torch.Tensor:
    """Twice the rows and columns."""
    return functional.interpolate(x, scale_factor=(1, 2, 2), mode="trilinear", align_corners=True)


def hsdt(state: State, x: torch.Tensor, half_layers: int = 5, sampled: Sequence[int] = (1, 3)) -> torch.Tensor:
    """HSDT in evaluation mode, (n, 1, band, y, x)."""
    net = Weights(state)
    first = y = _hsdt_layer(x, net("head"), "same")
    kept = [first]
    for k in range(half_layers):
        y = _hsdt_layer(y, net(f"encoder.layers.{k}"), "down" if k in sampled else "same")
        if k < half_layers - 1:
            kept.append(y)
    for number, k in enumerate(reversed(range(half_layers))):
        y = y if number == 0 else y + kept.pop()
        y = _hsdt_layer(y, net(f"decoder.layers.{number}"), "up" if k in sampled else "same")
    return conv(y + kept.pop(), net("tail")) + x[:, :1]


def _hsdt_layer(x: torch.Tensor, w: Weights, scale: str) -> torch.Tensor:
    if scale == "same":
        y = functional.leaky_relu(conv(x, w("conv.dw_conv.0")), 0.01)
        y = functional.leaky_relu(conv(y, w("conv.dw_conv.2")), 0.01)
        x = y + conv(x, w("conv.pw_conv"))
    else:
        x = conv(up(x) if scale == "up" else x, w("conv"), 2 if scale == "down" else 1)
    bn = w("bn")
    x = functional.batch_norm(x, bn["running_mean"], bn["running_var"], bn["weight"], bn["bias"])
    mean = x.mean((3, 4)).permute(0, 2, 1)
    mix = torch.softmax(linear(mean, w("attn.attn.attn_proj")), dim=-1)
    x = x.permute(0, 3, 4, 2, 1)
    x = linear(mix[:, None, None] @ linear(x, w("attn.attn.value_proj")), w("attn.attn.fc")) + x
    ffn = w("attn.ffn")
    one = linear(functional.gelu(linear(x, ffn("w_1"))), ffn("w_2"))
    value, gate = linear(x, ffn("w_3")).chunk(2, dim=-1)
    return (one + value * torch.sigmoid(gate)).permute(0, 4, 3, 1, 2)


def man(state: State, x: torch.Tensor, half_layers: int = 5, sampled: Sequence[int] = (1, 3)) -> torch.Tensor:
    """MAN, second version, (n, 1, band, y, x)."""
    net = Weights(state)
    first = y = _man_layer(x, net("head"), "same", False)
    kept = []
    for k in range(half_layers):
        y = _man_layer(y, net(f"encoder.layers.{k}"), "down" if k in sampled else "same", k % 2 == 0)
        if k < half_layers - 1:
            kept.append(y)
    for number, k in enumerate(reversed(range(half_layers))):
        if number:
            y = _man_skip(y, kept.pop(), net(f"decoder.fusions.{number}.weight"))
        y = _man_layer(y, net(f"decoder.layers.{number}"), "up" if k in sampled else "same", number % 2 == 0)
    return conv(y + first, net("tail")) + x[:, :1]


def _man_layer(x: torch.Tensor, w: Weights, scale: str, reverse: bool) -> torch.Tensor:
    x = conv(up(x), w("conv.conv3d")) if scale == "up" else conv(x, w("conv"), 2 if scale == "down" else 1)
    inter = w("inter_sa")
    z = torch.tanh(conv(torch.tanh(conv(x, inter("ffn1.w_1"))), inter("ffn1.w_2")))
    f = torch.sigmoid(conv(torch.tanh(conv(x, inter("ffn2.w_1"))), inter("ffn2.w_2")))
    half = x.shape[1] // 2
    z, f = (torch.cat([t[:, :half], t[:, half:].flip(2)], dim=1) for t in (z, f))
    h = _recurrence(z, f, reverse)
    h = torch.cat([h[:, :half], h[:, half:].flip(2)], dim=1)
    intra = w("intra_sa")
    u = conv(h, intra("w_3")) * h + h
    return conv(functional.gelu(conv(u, intra("w_1"))), intra("w_2"))


def _recurrence(z: torch.Tensor, f: torch.Tensor, reverse: bool) -> torch.Tensor:
    before: torch.Tensor | None = None
    states: list[torch.Tensor] = []
    pairs = list(zip(z.split(1, 2), ((1 - f) * z).split(1, 2), f.split(1, 2), strict=True))
    for _, new, gate in reversed(pairs) if reverse else pairs:
        before = new if before is None else gate * before + new
        states.insert(0, before) if reverse else states.append(before)
    return torch.cat(states, dim=2)


def _man_skip(x: torch.Tensor, y: torch.Tensor, w: Weights) -> torch.Tensor:
    share = torch.sigmoid(conv(functional.leaky_relu(conv(torch.cat([x, y], dim=1), w("0")), 0.01), w("2")))
    return (1 - share) * x + share * y
