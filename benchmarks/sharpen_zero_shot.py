"""Zero-shot sharpening against plain formulations: ``python benchmarks/sharpen_zero_shot.py [--quick] [--json]``.

Three questions, in CPU time of one thread: how long is one iteration of R-PNN and rho-PNN against the plain formulation (integral images in
float64, dense MTF convolution, contiguous layout; it passes the same parity cases), at equal losses; what is computed
for several bands side by side; and whether peak memory grows with the number of bands.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import torchspectral as ts
from machine import measure
from sharpen_classical import best_cpu
from torchspectral.ops.mtf import mtf_kernel
from torchspectral.sharpening.zero_shot.correlation import LocalCorrelation
from torchspectral.sharpening.zero_shot.losses import SensorView, spectral_loss, structural_loss
from torchspectral.sharpening.zero_shot.networks import RhoPNNNetwork, RPNNNetwork
from torchspectral.synth.scenes import mixed_scene

RATIO, TAPS = 6, 61
COUNTS = (8, 32, 64, 128)
"""Bands at which memory is measured."""

TARGET = 1.3
"""Times faster that an iteration must be."""


def plain_sums(x: torch.Tensor, half: int) -> torch.Tensor:
    """Box sums from integral images."""
    total = torch.nn.functional.pad(x, (half,) * 4).cumsum(-1).cumsum(-2)
    w = 2 * half
    return total[..., w:, w:] - total[..., :-w, w:] - total[..., w:, :-w] + total[..., :-w, :-w]


def plain_field(a: torch.Tensor, b: torch.Tensor, half: int, clip_cross: bool) -> torch.Tensor:
    """Local correlation in float64 by automatic differentiation."""

    def limited(s: torch.Tensor) -> torch.Tensor:
        return torch.where((s > 1e-20) & (s < s.max()), s, s.detach().clamp_min(1e-20))

    a, b = (x - plain_sums(x, half) / (4 * half * half) for x in (a.double(), b.double()))
    cross = plain_sums(a * b, half)
    cross = limited(cross) if clip_cross else cross
    return cross / ((limited(plain_sums(a * a, half)) * limited(plain_sums(b * b, half))).sqrt() + 1e-20)


def plain_view(image: torch.Tensor) -> torch.Tensor:
    """MTF filter as a dense convolution, then decimation."""
    kernel = torch.from_numpy(mtf_kernel(float(RATIO), 0.3, TAPS).copy()).to(image)[None, None]
    return torch.nn.functional.conv2d(image, kernel)[..., RATIO // 2 :: RATIO, RATIO // 2 :: RATIO]


def problem(pieces: int, side: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Band, PAN and coarse band, all alike but for texture."""
    random = torch.Generator().manual_seed(0)
    pan = torch.nn.functional.avg_pool2d(torch.rand(pieces, 1, side + 8, side + 8, generator=random), 9, 1) / 4
    band = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(pan, (3,) * 4, mode="replicate"), 7, 1)
    return band, pan, band[..., RATIO // 2 :: RATIO, RATIO // 2 :: RATIO]


def iteration(name: str, pieces: int, side: int, *, plain: bool) -> tuple[Callable[[], None], dict[str, float]]:
    """One step of adaptation with both losses, and where it leaves its last losses."""
    band, pan, low = problem(pieces, side)
    torch.manual_seed(0)
    net = RPNNNetwork() if name == "r-pnn" else RhoPNNNetwork()
    rolling = name == "r-pnn"
    x = torch.cat([band, pan], 1)
    x = torch.nn.functional.pad(x, (6,) * 4, mode="reflect") if rolling else x
    if not plain:
        net, x = net.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-5)
    field, view = LocalCorrelation(pan, 3, clip_cross=rolling), SensorView.of(RATIO, 0.3)
    low, losses = view.crop(low), {}

    def step() -> None:
        optimiser.zero_grad()
        out = net(x)
        correlation = plain_field(out, pan, 3, rolling) if plain else field(out)
        spectral = spectral_loss(plain_view(out) if plain else view(out), low)
        structural, _ = structural_loss(correlation if rolling else correlation.abs())
        (spectral + 0.5 * structural).backward()
        optimiser.step()
        losses.update(spectral=float(spectral.detach()), structural=float(structural.detach()))

    return step, losses


def per_iteration(repeats: int = 5, side: int = 204) -> list[dict[str, Any]]:
    """Seconds of an iteration of both methods, ours and plain, and how far their losses differ after as many steps."""
    rows = []
    for name, pieces, size in (("r-pnn", 1, side), ("rho-pnn", 1, side), ("rho-pnn", 4, 90)):
        ours, our_losses = iteration(name, pieces, size, plain=False)
        plain, plain_losses = iteration(name, pieces, size, plain=True)
        seconds = [float("inf"), float("inf")]
        for _ in range(repeats + 1):  # in turn, so that both meet the same load
            seconds = [min(s, best_cpu(1, call)) for s, call in zip(seconds, (ours, plain), strict=True)]
        rows.append(
            {
                "method": name,
                "pieces": pieces,
                "side": size,
                "ours_s": seconds[0],
                "plain_s": seconds[1],
                "times_faster": seconds[1] / seconds[0],
                "loss_difference": max(abs(our_losses[k] / plain_losses[k] - 1) for k in our_losses),
                "target": TARGET,
            }
        )
    return rows


def side_by_side(bands: int = 16, repeats: int = 3, side: int = 204) -> dict[str, Any]:
    """What needs no earlier band, for many bands at once and one by one: views, fields, the allowed structural loss."""
    band, pan, _ = problem(1, side)
    many = band * torch.linspace(0.5, 1.5, bands)[None, :, None, None]
    view, field = SensorView.of(RATIO, 0.3), LocalCorrelation(pan, 3)

    def work(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return view(image), field(image)

    def one_by_one() -> None:
        for number in range(bands):
            work(many[:, number : number + 1])

    together, alone = work(many), [work(many[:, n : n + 1]) for n in range(bands)]
    gap = max(
        float((together[k] - torch.cat([pair[k] for pair in alone], 1)).abs().max() / together[k].abs().max())
        for k in (0, 1)
    )
    return {
        "bands": bands,
        "together_s": best_cpu(repeats, lambda: work(many)),
        "one_by_one_s": best_cpu(repeats, one_by_one),
        "difference": gap,
    }


QUICK: dict[str, dict[str, Any]] = {
    "r-pnn": {"first_iterations": 2, "most_iterations": 1},
    "rho-pnn": {"ensemble": 1, "ensemble_epochs": 1, "epochs": 1, "sharpenings": 1, "eta": 0.0},
}
"""Schedules that touch all memory a band needs."""

_CHILD = """
import json, resource, sys, torch, torchspectral as ts
torch.set_num_threads(1)
torch.manual_seed(0)
folder, method, settings = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
state = ts.create_model("r-pnn").state_dict() if method == "r-pnn" else None
ts.sharpen(ts.open(folder + "/hs.tif"), ts.open(folder + "/pan.tif"), method=method, out=folder + "/out.tif",
    settings=settings, state=state, device="cpu", check_shift=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024)
"""


def memory(method: str, bands: int, side: int = 24, ratio: int = 2, **settings: Any) -> dict[str, Any]:
    """Peak resident memory of a run from file to file, in a process of its own that does nothing else."""
    scene = mixed_scene(bands, side, side, seed=0)
    pan = scene.values.mean(0).repeat(ratio, 0).repeat(ratio, 1)[None]
    with tempfile.TemporaryDirectory() as folder:
        cube = ts.make_cube(scene.values, wavelength=scene.wavelength, quantity="reflectance")
        ts.save(cube, Path(folder) / "hs.tif")
        ts.save(ts.make_cube(pan, quantity="reflectance"), Path(folder) / "pan.tif")
        words = [sys.executable, "-c", _CHILD, folder, method, json.dumps(QUICK[method] | settings)]
        done = subprocess.run(words, capture_output=True, text=True, check=True)
    network = sum(p.numel() for p in (RPNNNetwork() if method == "r-pnn" else RhoPNNNetwork()).parameters())
    return {
        "method": method, "bands": bands, "coarse_side": side, "ratio": ratio,
        "peak_bytes": int(done.stdout.split()[-1]), "networks_bytes": bands * network * 4,
    }  # fmt: skip


def rows() -> list[dict[str, Any]]:
    """Iterations and memory as mappings."""
    return per_iteration() + [memory(method, bands) for method in QUICK for bands in COUNTS]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller images, fewer repeats")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002
    machine = measure()
    size: dict[str, Any] = {"repeats": 2, "side": 120} if given.quick else {}
    result = {"iterations": per_iteration(**size), "side_by_side": side_by_side(side=size.get("side", 204))}
    result["memory"] = [memory(name, bands) for name in QUICK for bands in (COUNTS[::3] if given.quick else COUNTS)]
    if given.json:
        print(json.dumps({"machine": vars(machine), **result}, indent=1))
        return
    print(machine)
    for row in result["iterations"]:
        print(
            f"{row['method']:8s} {row['pieces']} x {row['side']}^2: {row['ours_s'] * 1e3:7.1f} ms an iteration, plain "
            f"{row['plain_s'] * 1e3:7.1f} ms, {row['times_faster']:.2f} times (target {TARGET}), losses differ by "
            f"{row['loss_difference']:.1e}"
        )
    pair = result["side_by_side"]
    print(
        f"{pair['bands']} bands side by side {pair['together_s'] * 1e3:.1f} ms, one by one "
        f"{pair['one_by_one_s'] * 1e3:.1f} ms, differ by {pair['difference']:.1e}"
    )
    for row in result["memory"]:
        print(
            f"{row['method']:8s} {row['bands']:4d} bands of {row['coarse_side']}^2 x {row['ratio']}: peak "
            f"{row['peak_bytes'] / 1e6:.0f} MB; all networks are {row['networks_bytes'] / 1e6:.1f} MB"
        )


if __name__ == "__main__":
    main()
