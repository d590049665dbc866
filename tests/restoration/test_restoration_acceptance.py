"""What restorations must reach on real scenes and in short trainings; the long ones are slow."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.metrics.restoration import residual_autocorrelation
from torchspectral.restoration.data import generated_scenes
from torchspectral.restoration.training import recipe
from torchspectral.synth import mixed_scene


def correlation(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Of each band, (bands,)."""
    one, other = (v.reshape(len(v), -1) - v.mean((1, 2))[:, None] for v in (one, other))
    return (one * other).sum(1) / np.sqrt((one**2).sum(1) * (other**2).sum(1))


def held_to_noise(before: np.ndarray, result: ts.Result) -> tuple[np.ndarray, np.ndarray]:
    """Of each band of more than 30 dB: how alike neighbours in what was removed are, the larger of across and along
    track, and the correlation with the restored band's gradient."""
    clear = result["bands"]["snr"].to_numpy(float) > 30
    after = result["cube"].values
    after = after[np.isfinite(after).any((1, 2))][clear].astype(np.float64)
    removed = torch.from_numpy(before[clear].astype(np.float64) - after)
    slope = np.stack([np.hypot(*np.gradient(band)) for band in after])
    alike = torch.maximum(residual_autocorrelation(removed, (0, 1)), residual_autocorrelation(removed, (1, 0)))
    return alike.numpy(), correlation(removed.numpy(), slope)


def check_enmap(samples: Path, tile: str) -> None:
    scene = ts.open(samples / "enmap" / "images" / f"enmap_potsdam_tile_{tile}.tif")
    values, good = scene.values, scene["good"].values.astype(bool)
    used = good & np.isfinite(values).any((1, 2))
    assert not used[129:135].any()
    result = ts.restore(scene, method="fast-eigen", account=False)
    out = result["cube"].values
    assert np.isfinite(out[used]).all() and not np.isfinite(out[~used]).any()
    alike, slope = held_to_noise(values[used], result)
    assert len(alike) > 200 and alike.max() < 0.1
    # By chance alone 5 % of 32 x 32 pixels correlate by more than 0.05.
    assert np.median(np.abs(slope)) < 0.03 and (slope > 0.05).mean() < 0.12
    assert result.report.figures["given_back_bands"] > 0.8 * len(alike)


def test_what_is_removed_from_enmap_is_white_and_its_gap_stays(samples: Path) -> None:
    check_enmap(samples, "128_96")


@pytest.mark.slow
def test_what_is_removed_from_each_tile_of_enmap_is_white(samples: Path) -> None:
    tiles = sorted((samples / "enmap" / "images").glob("enmap_potsdam_tile_*.tif"))
    assert len(tiles) == 14
    for path in tiles:
        check_enmap(samples, path.stem.removeprefix("enmap_potsdam_tile_"))


@pytest.mark.slow
def test_what_is_removed_from_indian_pines_is_white() -> None:
    scene = pytest.importorskip("torchspectral.io.samples").indian_pines()[0]
    alike, slope = held_to_noise(scene.values, ts.restore(scene, method="fast-eigen", account=False))
    assert len(alike) > 180 and alike.max() < 0.1
    # One band of 186 is at 0.056.
    assert np.median(np.abs(slope)) < 0.01 and (slope > 0.05).sum() <= 1 and slope.max() < 0.06


def test_lost_bands_come_back_far_above_zeros() -> None:
    clean = mixed_scene(32, 40, 36, snr=None, seed=3)
    cube = ts.make_cube(clean.values, wavelength=np.linspace(400, 1000, 32), quantity="reflectance")
    values = ts.degrade(cube, "bands:0.2", 0)["cube"].values
    lost = np.ptp(values, (1, 2)) == 0
    holes = cube.copy(data=np.where(lost[:, None, None], np.nan, values))
    out = ts.restore(holes, method="bad-pixels", account=False)["cube"].values

    def psnr(image: np.ndarray) -> float:
        return float(-10 * np.log10(np.mean((image[lost] - cube.values[lost]) ** 2)))

    assert lost.sum() >= 5 and psnr(out) > psnr(values) + 10


@pytest.mark.slow
def test_sixty_steps_of_mp_hsir_help_three_tasks() -> None:
    tasks = ("gaussian", "inpaint", "bands")
    settings = {"patch": 32, "batch": 4, "learning_rate": 2e-3, "decay": "constant"}
    scenes = [
        ts.make_cube(mixed_scene(8, 64, 64, seed=s, snr=None).values, wavelength=np.linspace(450, 900, 8),
                     quantity="reflectance")
        for s in range(3)
    ]  # fmt: skip
    made = recipe("mp-hsir-s", settings | {"noise": ",".join(tasks)})
    made.prepare(scenes)
    torch.manual_seed(0)
    network = made.build()
    clean = torch.cat([torch.from_numpy(made.pairs(s)["target"]).unfold(1, 32, 32).unfold(2, 32, 32)
                       .flatten(1, 2).movedim(1, 0) for s in scenes])  # fmt: skip

    def misfits() -> list[float]:
        found = []
        for task in tasks:
            one = recipe("mp-hsir-s", {"noise": task})
            one.wavelength = made.wavelength
            noisy, numbers, facts = one.degraded(clean, 0, torch.Generator().manual_seed(5))
            with torch.no_grad():
                found.append(float((one.restored(network.eval(), noisy, numbers, facts) - clean).abs().mean()))
        return found

    before = misfits()
    optimiser = made.optimiser(network.parameters())
    network.train()
    for _ in range(60):
        loss = made.loss(network, {"target": clean[torch.randint(0, len(clean), (4,))]})
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert all(after < 0.6 * start for start, after in zip(before, misfits(), strict=True))


@pytest.mark.slow
def test_hsdt_s_from_scratch_beats_five_components(tmp_path: Path) -> None:
    scenes = generated_scenes(16, 31, 96, seed=0)
    settings = {"noise": "gaussian:50", "patch": 32, "stride": 32, "batch": 4, "decay": "cosine",
                "learning_rate": 3e-3, "validate_every": 60}  # fmt: skip
    ts.train("restore", "hsdt-s", scenes, out=tmp_path / "run", steps=60, settings=settings)
    clean = generated_scenes(1, 31, 96, seed=999)[0]
    noisy = ts.degrade(clean, "gaussian:50", 3)["cube"]
    restored = ts.restore(noisy, method="hsdt", weights=tmp_path / "run", account=False)
    five = ts.restore(noisy, method="pca", settings={"components": 5}, account=False)

    def psnr(cube) -> float:
        return float(-10 * np.log10(np.mean((cube.values - clean.values) ** 2) / np.ptp(clean.values) ** 2))

    out = psnr(restored["cube"])
    assert out > psnr(noisy) + 10 and out > psnr(five["cube"]), (psnr(noisy), psnr(five["cube"]), out)
