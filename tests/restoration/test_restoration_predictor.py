"""The predictor of degradations: its size, its training, and the task that a scene gets."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.errors import BadSettings, BadWeights, BandMismatch
from torchspectral.restoration.mp_hsir.predictor import DegradationPredictor, FourierUnit
from torchspectral.restoration.mp_hsir.telling import gaps, tell
from torchspectral.restoration.training import recipe
from torchspectral.weights import WeightsCard, save


def scene(bands: int = 6, side: int = 40) -> object:
    values = np.random.default_rng(0).uniform(0.1, 1, (bands, side, side)).astype(np.float32)
    return ts.make_cube(values, wavelength=np.linspace(400, 1000, bands), quantity="reflectance")


def test_size_is_the_published_one() -> None:
    with torch.device("meta"):
        made = ts.create_model("mp-hsir-predictor-natural")
    assert sum(p.numel() for p in made.parameters()) == 10_899_557
    small = DegradationPredictor(4, 3, 16).eval()
    with torch.no_grad():
        assert small(torch.rand(2, 4, 20, 33)).shape == (2, 3)
    with pytest.raises(BandMismatch, match="4, y, x"):
        small(torch.rand(2, 5, 8, 8))
    with pytest.raises(BadSettings, match="multiple of 16"):
        DegradationPredictor(4, 3, 20)


def test_fourier_unit_has_all_real_parts_first() -> None:
    torch.manual_seed(0)
    unit, x = FourierUnit(3).eval(), torch.rand(1, 3, 6, 8)
    spectrum = np.fft.rfft2(x[0].numpy(), norm="ortho")
    both = np.concatenate([spectrum.real, spectrum.imag])
    mixed = np.tensordot(unit.conv_layer.weight[:, :, 0, 0].detach().numpy(), both, 1) / np.sqrt(1 + 1e-5)
    mixed = mixed.clip(0)
    with torch.no_grad():
        np.testing.assert_allclose(
            unit(x)[0], np.fft.irfft2(mixed[:3] + 1j * mixed[3:], s=(6, 8), norm="ortho"), atol=1e-5
        )


def test_training_step_and_score() -> None:
    made = recipe("mp-hsir-predictor", {"width": 16})
    made.prepare([scene()])
    assert made.model_arguments() == {"bands": 6, "tasks": 6, "width": 16}
    torch.manual_seed(0)
    network = made.build()
    batch = {"target": torch.from_numpy(made.pairs(scene(side=32))["target"])[None].repeat(2, 1, 1, 1)}
    made.loss(network.train(), batch).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in network.parameters())
    wanted = made.wanted([1], torch.zeros(1))
    logits = torch.tensor([[-9.0, 0.0, -9.0, -9.0, -9.0, -9.0]])
    assert float(made.entropy(logits, wanted)) == pytest.approx(3 * np.log(2) / 6, rel=1e-2), (
        "complex noise counts thrice"
    )
    with torch.no_grad():
        assert 0 <= made.validate(network.eval(), batch)["right"] <= 1
    assert "haze" not in recipe("mp-hsir-predictor-natural").tasks
    with pytest.raises(BadSettings, match="networks that restore"):
        recipe("mp-hsir-predictor", {"clamp": True})


def test_gaps_tell_the_task() -> None:
    cube = scene()
    assert gaps(cube) == (0, 0.0)
    with pytest.raises(BadSettings, match="give predictor=FILE"):
        tell(cube)
    lost = cube.copy(deep=True)
    lost.values[2] = 0
    lost.values[:, :9] = np.nan  # empty pixels are no gaps
    assert tell(lost)[0] == "bands"
    cube = scene(20)
    holes = cube.copy(data=np.where(np.random.default_rng(1).random(cube.shape) < 0.7, 0, cube.values))
    assert tell(holes)[0] == "inpaint" and gaps(holes)[1] == pytest.approx(0.7, abs=0.03)


def test_restore_takes_the_task_that_the_predictor_tells(tmp_path) -> None:
    torch.manual_seed(0)
    own = {"bands": 6, "tasks": 6, "width": 16}
    network = ts.create_model("mp-hsir-predictor", **own)
    torch.nn.init.zeros_(network.fc.weight)
    with torch.no_grad():
        network.fc.bias.copy_(torch.tensor([-5.0, -5, 5, -5, -5, 5]))
    card = WeightsCard(name="mp-hsir-predictor.test", model="mp-hsir-predictor", constructor=own,
                       wavelengths=list(np.linspace(400, 1000, 6)))  # fmt: skip
    path = save(tmp_path / "predictor.safetensors", network.state_dict(), card)
    assert tell(scene(), path)[0] == "blur+haze"
    settings = {"task": "auto", "predictor": path, "tile": 32, "overlap": 0}
    result = ts.restore(scene(20), method="mp-hsir", settings=settings, account=False)
    assert result.report.figures["tasks"] == [2, 5]
    assert any("blur+haze was chosen by the predictor" in note for note in result.report.notes)
    with pytest.raises(BadSettings, match="task=auto"):
        ts.restore(scene(), method="mp-hsir", settings={"task": "deblur", "predictor": path})
    with pytest.raises(BadWeights, match="expected mp-hsir-predictor"):
        tell(scene(), "mp-hsir-m.generated")
