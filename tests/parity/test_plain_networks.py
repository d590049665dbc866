"""Sizes, scales and versions of the networks that no stored case has, against the specifications' own arithmetic."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import plain_networks as plain  # noqa: E402
from parity_fill import fill_state_dict  # noqa: E402

import torchspectral as ts  # noqa: E402


def filled(model: str, **arguments: Any) -> torch.nn.Module:
    """A network with the weights of the cases, in evaluation mode and float64: what differs is arithmetic."""
    network = ts.create_model(model, **arguments)
    fill_state_dict(network.state_dict(), ["attn_mask"])
    return network.double().eval()


def held(network: torch.nn.Module, out: torch.Tensor, wanted: torch.Tensor) -> None:
    torch.testing.assert_close(out, wanted, rtol=1e-9, atol=1e-9 * float(wanted.std()))


def rand(*shape: int) -> torch.Tensor:
    return torch.rand(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.mark.parametrize(("bands", "dim", "scale"), [(5, 18, 3), (31, 16, 8), (3, 12, 1), (7, 8, 2), (12, 20, 4)])
def test_essaformer(bands: int, dim: int, scale: int) -> None:
    network, x = filled("essaformer", bands=bands, dim=dim, scale=scale), rand(2, bands, 5, 6)
    with torch.no_grad():
        held(network, network(x), plain.essaformer(network.state_dict(), x, scale))


@pytest.mark.parametrize(
    ("bands", "size", "shared", "scale", "share", "kind"),
    [(34, 6, 1, 2, 0.1, "spectral"), (102, 8, 2, 4, 0.1, "spectral"), (12, 8, 2, 8, 0.2, "spectral"),
     (11, 8, 3, 6, 0.1, "spectral"), (31, 8, 2, 4, 0.1, "rgb")],
)  # fmt: skip
def test_deepshare(bands: int, size: int, shared: int, scale: int, share: float, kind: str) -> None:
    network = filled(
        "spectral-mixup", bands=bands, n_subs=size, n_ovls=shared, n_feats=16, scale=scale, res_scale=share
    )
    channels = size if kind == "rgb" else bands
    x, up = rand(2, channels, 5, 4), rand(2, channels, 5 * scale, 4 * scale)
    with torch.no_grad():
        wanted = plain.deepshare(network.state_dict(), x, up, kind, size, shared, scale, share)
        held(network, network(x, up, kind), wanted)


@pytest.mark.parametrize(
    ("arguments", "bands", "similar"),
    [({"channels": 4, "half_layers": 7, "sampled": (1, 3, 5)}, 9, False), ({"channels": 4, "in_channels": 2}, 9, False),
     ({"channels": 6}, 9, True), ({"channels": 4}, 5, True)],
)  # fmt: skip
def test_hsdt(arguments: dict[str, Any], bands: int, similar: bool) -> None:
    network, x = filled("hsdt-m", bands=9, **arguments), rand(2, arguments.get("in_channels", 1), bands, 8, 16)
    with torch.no_grad():
        wanted = plain.hsdt(
            network.state_dict(), x, arguments.get("half_layers", 5), arguments.get("sampled", (1, 3)), similar
        )
        held(network, network(x, attention="similarity" if similar else "guided"), wanted)


@pytest.mark.parametrize("size", [(8, 16), (5, 11)])
def test_hsdt_for_reconstruction(size: tuple[int, int]) -> None:
    network, x = filled("hsdt-ssr", bands=9, channels=4), rand(1, 3, *size)
    with torch.no_grad():
        held(network, network(x), plain.hsdt_ssr(network.state_dict(), x, 5, (1, 3)))


@pytest.mark.parametrize("version", ["man-m", "man-v1"])
@pytest.mark.parametrize(("layers", "sampled", "bands"), [(5, (1, 3), 1), (5, (1, 3), 7), (7, (1, 3, 5), 4)])
def test_man(version: str, layers: int, sampled: tuple[int, ...], bands: int) -> None:
    network, x = filled(version, channels=4, half_layers=layers, sampled=sampled), rand(2, 1, bands, 8, 16)
    form = plain.man_v1 if version == "man-v1" else plain.man
    with torch.no_grad():
        held(network, network(x), form(network.state_dict(), x, layers, sampled))


@pytest.mark.parametrize(
    ("shape", "task", "tasks"),
    [((1, 6, 64, 32), [2], 6), ((2, 6, 32, 32), [1, 5], 7), ((2, 6, 32, 32), [[0, 2], [3, 4]], 6), ((1, 6, 32, 32), [0], 1)],
)  # fmt: skip
def test_mp_hsir(shape: tuple[int, ...], task: list[Any], tasks: int) -> None:
    mode = "coupled" if shape[0] > 1 else "released"
    network = filled(
        "mp-hsir", bands=6, dim=16, tasks=tasks, blocks=(1, 2, 1), refinement=2, heads=(2, 4, 8), text_mode=mode
    )
    x, text = rand(*shape), 2 * rand(tasks, 512) - 1
    with torch.no_grad():
        wanted = plain.mp_hsir(network.state_dict(), x, torch.tensor(task), text)
        held(network, network(x, torch.tensor(task), text), wanted)
