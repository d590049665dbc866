"""Z-PNN: architectures, sensors, phases, adaptation through the engine."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.io import loadmat

import torchspectral as ts
from torchspectral.errors import BadSettings, BadWeights, BandMismatch, GridMismatch, MissingWeights
from torchspectral.ops.interpolate import ideal_interp
from torchspectral.sharpening.zero_shot import z_pnn
from torchspectral.sharpening.zero_shot.multispectral import phases, reduced, sensor_values, smooth_kernel

QUICK = {"epochs": 2, "coregistration": True}


def scene(bands: int = 4, ratio: int = 4, size: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    fine = torch.rand(1, bands, ratio * size + 6, ratio * size + 6, generator=generator)
    fine = torch.nn.functional.avg_pool2d(fine, 7, 1)
    return torch.nn.functional.avg_pool2d(fine, ratio), fine.mean(1, keepdim=True)


@pytest.mark.parametrize("kind", ["pnn", "pannet", "drpnn"])
@pytest.mark.parametrize(("bands", "ratio"), [(4, 4), (3, 3)])
def test_every_architecture_learns_from_scratch(kind, bands, ratio):
    method = z_pnn.ZPNNScratch(z_pnn.ZPNNScratchSettings.make(epochs=2, architecture=kind, sensor="other"))
    cube, pan = scene(bands, ratio, 18)
    *_, (state, fraction) = method.adapt(cube, pan)
    assert fraction == 1 and z_pnn.architecture_of(state) == kind
    out = method.predict(z_pnn.network_of(state), ideal_interp(cube, ratio), pan)
    assert out.shape == (1, bands, 18 * ratio, 18 * ratio) and torch.isfinite(out).all()
    assert len(state["trace"]["total"]) == 2 and len(state["bands"]["band"]) == bands


def test_fixed_filters_of_pannet_stay():
    cube, pan = scene()
    torch.manual_seed(0)
    start = z_pnn.build("pannet", 4, 4).state_dict()
    method = z_pnn.ZPNN(z_pnn.ZPNNSettings.make(epochs=2, sensor="GE1", learning_rate=1e-3))
    *_, (state, _) = method.adapt(cube, pan, dict(start))
    torch.testing.assert_close(state["dephtconv_ms.weight"], start["dephtconv_ms.weight"])
    assert not torch.equal(state["Conv.weight"], start["Conv.weight"])


def test_the_last_layer_of_drpnn_is_slow():
    net = z_pnn.build("drpnn", 4, 4)
    optimiser, plateau = z_pnn.ZPNN()._optimiser(net, sensor_values("WV3", 8))
    assert [group["lr"] for group in optimiser.param_groups] == pytest.approx([1e-5, 1e-6]) and plateau is None


def test_sensors():
    assert sensor_values("worldview-3", 8).gains[0] == 0.325 and sensor_values("WV2", 8).beta == 0.36
    assert sensor_values("ikonos", 4).kernels == (5, 5, 5) and sensor_values("GE1", 4).learning_rate == 5e-5
    assert sensor_values("enmap", 3, 0.28).gains == (0.28,) * 3
    with pytest.raises(GridMismatch, match="WV3 has 8"):
        sensor_values("WV3", 4)
    kernel = smooth_kernel(4, 0.3)
    assert kernel.shape == (41, 41) and kernel.min() >= 0 and kernel.sum() == pytest.approx(1)


@pytest.mark.parametrize("place", [(0, 1), (3, 2)])
def test_phases_are_found(place):
    _, pan = scene(1, 4, 24)
    smooth = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(pan, (4, 4, 4, 4), mode="replicate"), 9, 1)
    low = smooth[..., place[0] :: 4, place[1] :: 4]
    assert phases(low, pan, smooth_kernel(4, 0.3)) == [place]


def test_reduced_pair_has_the_reference_size():
    cube, pan = scene()
    low, fine = reduced(cube[0], pan[0], 4, (0.3,) * 4)
    assert low.shape == (4, 5, 5) and fine.shape == (1, 20, 20)


def test_weights_decide_and_are_checked():
    cube, pan = scene()
    torch.manual_seed(0)
    weights = dict(z_pnn.build("pnn", 4, 4, (5, 5, 5)).state_dict())
    method = z_pnn.ZPNN(z_pnn.ZPNNSettings.make(QUICK))
    *_, (state, _) = method.adapt(cube, pan, weights)
    assert state["conv1.weight"].shape[-1] == 5 and "phase_row" in state["bands"]
    with pytest.raises(BandMismatch, match="4 bands"):
        list(method.adapt(cube[:, :3], pan, weights))
    with pytest.raises(BadSettings, match="weights are of pnn"):
        list(z_pnn.ZPNN(z_pnn.ZPNNSettings.make(architecture="drpnn")).adapt(cube, pan, weights))
    with pytest.raises(MissingWeights):
        list(method.adapt(cube, pan))
    with pytest.raises(BadWeights):
        list(method.adapt(cube, pan, {"other": torch.zeros(1)}))


def test_the_worldview_crop_with_published_weights(samples):
    """Through the public call, with a file that has no card beside it: the loss falls, the guard finds no bad band."""
    sample = loadmat(samples / "pansharpening/WV3_example.mat")
    cube = ts.make_cube(sample["I_MS_LR"].transpose(2, 0, 1), quantity="dn", attrs={"sensor": "worldview-3"})
    pan = ts.make_cube(sample["I_PAN"][None], quantity="dn")
    weights = samples / "weights/z-pnn/WV3_Z-PNN_model.tar"
    result = ts.sharpen(
        cube, pan, method="z-pnn", weights=weights, settings={"epochs": 4, "sensor": "WV3"}, check_shift=False
    )
    losses = result["trace"]["total"].to_numpy()
    assert losses[-1] < losses[0]
    assert result["cube"].shape == (8, 128, 128) and result.report.figures["architecture"] == "pnn"
    assert 0.9 < float(result["cube"].mean() / cube.mean()) < 1.1
    assert np.isfinite(result["bands"]["spectral_ratio"]).all()
