"""Seconds and memory of the super-resolution networks against their plain formulations.

``python benchmarks/superres.py [--repeats N]``. The plain formulations are written here as the papers' code states
them, layer by layer, and hold the same parity cases (they are compared with ours before they are timed).
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional as F

import torchspectral as ts
from machine import measure

WANTED = {"essaformer": 1.3, "spectral-mixup": 1.5}


def plain_attention(attention: nn.Module, tokens: torch.Tensor) -> torch.Tensor:
    """Attention of ESSAformer on (n, token, dim)."""
    q, k, v = attention.lnqkv(tokens).chunk(3, -1)
    parts = []
    for part in (q, k):
        part = part - part.mean(-1, keepdim=True)
        square = part.pow(2)
        parts.append(square / (square.sum(-1, keepdim=True) + 1e-7))
    q, k = F.normalize(parts[0], dim=-1), F.normalize(parts[1], dim=-2)
    return attention.ln(v + q @ (k.transpose(-2, -1) @ v) / tokens.shape[1] ** 0.5)


def plain_refiner(module: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A refinement of ESSAformer."""
    n, dim, height, width = x.shape
    tokens = plain_attention(module.attn, module.norm(x.flatten(2).transpose(1, 2)))
    image = tokens.transpose(1, 2).reshape(n, dim, height, width)
    return getattr(module, module.stack_name)(torch.cat([image, x], 1)) + x


def plain_essaformer(network: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """ESSAformer, module by module."""
    blocks = network.blockup
    first = network.conv_first(x)
    x1 = plain_refiner(blocks.convup, blocks.convupsample(first))
    x2 = plain_refiner(blocks.convdown, blocks.convdownsample(x1) + first)
    x3 = plain_refiner(blocks.convup, blocks.convupsample(x2) + x1)
    x4 = plain_refiner(blocks.convdown, blocks.convdownsample(x3) + x2)
    x5 = plain_refiner(blocks.convup, blocks.convupsample(x4) + x3)
    return network.conv_last(x5)


def plain_branch(branch: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """A branch of DeepShare."""
    x = branch.head(x)
    y = x
    for block in (branch.body.net1, branch.body.net2, branch.body.net3):
        y = y + block.spa.body(y) * block.spa.share
        first, _, second, attention = block.spc.body
        z = second(F.relu(first(y)))
        z = z * attention.conv_du(F.adaptive_avg_pool2d(z, 1))
        y = y + z * block.spc.share
    x = branch.upsample(y + x)
    return branch.tail(x) if hasattr(branch, "tail") else x


def plain_deepshare(network: nn.Module, x: torch.Tensor, lms: torch.Tensor) -> torch.Tensor:
    """The spectral path of DeepShare, group by group."""
    total, hits = torch.zeros_like(lms), torch.zeros(lms.shape[1])
    for start in network.starts:
        group = slice(start, start + network.n_subs)
        total[:, group] += plain_branch(network.branch2, plain_branch(network.branch1, x[:, group]))
        hits[group] += 1
    return network.final(plain_branch(network.trunk, total / hits[:, None, None]) + network.skip_conv(lms))


def peak_of(call: Callable[[], object]) -> float:
    """Largest memory held by tensors during a call, beyond what was held before [MiB]."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    held, most = 0, 0
    events = [e for e in profile.profiler.kineto_results.events() if e.name() == "[memory]"]
    for event in sorted(events, key=lambda e: e.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most / 2**20


def compare(
    name: str, ours: Callable[[], torch.Tensor], plain: Callable[[], torch.Tensor], repeats: int
) -> dict[str, float]:
    """Figures of one network; processor seconds, as the machine is shared."""
    off = float((ours() - plain()).abs().max() / plain().std())
    assert off < 1e-3, f"{name}: the two differ by {off} of the output's deviation"
    best = {"ours": float("inf"), "plain": float("inf")}
    for _ in range(repeats):
        for kind, call in (("plain", plain), ("ours", ours)):
            start = time.process_time()
            call()
            best[kind] = min(best[kind], time.process_time() - start)
    return {
        "plain_s": best["plain"],
        "ours_s": best["ours"],
        "times_faster": best["plain"] / best["ours"],
        "plain_mib": peak_of(plain),
        "ours_mib": peak_of(ours),
        "off": off,
    }


def rows(repeats: int = 3, names: tuple[str, ...] = tuple(WANTED)) -> dict[str, dict[str, float]]:
    """Figures by network, one thread, published widths, x4."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    found = {}
    try:
        with torch.no_grad():
            torch.manual_seed(0)
            if "essaformer" in names:
                network = ts.create_model("essaformer", bands=128).eval()
                x = torch.rand(1, 128, 32, 32)
                found["essaformer"] = compare(
                    "essaformer", lambda: network(x), lambda: plain_essaformer(network, x), repeats
                )
            if "spectral-mixup" in names:
                share = ts.create_model("spectral-mixup", bands=31).eval()
                low, lms = torch.rand(1, 31, 32, 32), torch.rand(1, 31, 128, 128)
                found["spectral-mixup"] = compare(
                    "spectral-mixup", lambda: share(low, lms), lambda: plain_deepshare(share, low, lms), repeats
                )
    finally:
        torch.set_num_threads(threads)
    return found


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="*", default=list(WANTED))
    given = parser.parse_args()
    print(measure())
    print(f"{'network':16} {'plain':>8} {'ours':>8} {'faster':>8} {'wanted':>7} {'plain memory':>14} {'ours':>10}")
    for name, row in rows(given.repeats, tuple(given.only)).items():
        print(
            f"{name:16} {row['plain_s']:6.2f} s {row['ours_s']:6.2f} s {row['times_faster']:6.2f} x {WANTED[name]:5.1f} x "
            f"{row['plain_mib']:10.0f} MiB {row['ours_mib']:6.0f} MiB"
        )


if __name__ == "__main__":
    main()
