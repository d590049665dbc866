"""The three recipes of SpectralEarth on real EnMAP tiles and on generated patches; minutes long."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_pretraining_spectralearth import scene

import torchspectral as ts
from torchspectral.learn.runs import Run

pytestmark = pytest.mark.slow

COMMON: dict[str, Any] = {
    "patch": 8,
    "batch": 16,
    "network": {"dim": 32, "depth": 2, "heads": 2},
    "block": 16,
    "guard": 0,
    "validate_every": 20,
    "validate_patches": 32,
    "checkpoint_every": 50,
    "crop_least": 0.4,
}
OWN: dict[str, dict[str, Any]] = {
    "spectralearth-dino": {"momentum": 0.99, "outputs": 32, "hidden": 64, "bottleneck": 32},
    "spectralearth-mae": {"learning_rate": 3e-3, "decoder_dim": 32, "decoder_heads": 2, "mask": 0.5},
    "spectralearth-moco": {"learning_rate": 0.05, "momentum": 0.99, "queue": 128, "hidden": 64, "outputs": 32},
}


def data_of(which: str, samples: Path) -> Any:
    return samples / "enmap/images" if which == "enmap" else [scene(seed, 96) for seed in range(3)]


@pytest.mark.parametrize("which", ["enmap", "generated"])
@pytest.mark.parametrize("method", OWN)
def test_the_loss_falls_without_collapse(method: str, which: str, samples: Path, tmp_path: Path) -> None:
    made = ts.train(
        "pretrain", method, data_of(which, samples), out=tmp_path / "run", steps=160, device="cpu",
        settings={**COMMON, **OWN[method]},
    )  # fmt: skip
    curves = made["curves"]
    for name, least in (("train_loss", 0.1), ("held_out_loss", 0.01)):
        # Random keys are told apart easily: MoCo's first steps, whose queue is not yet of patches, do not count.
        losses = curves[name].to_numpy()[int(name == "train_loss" and method.endswith("moco")) :]
        assert np.mean(losses[-2:]) < losses[0] - least, curves.round(3).T.to_string()
    if method.endswith("dino"):
        assert curves["held_out_entropy"].iloc[-1] < curves["held_out_entropy_of_all"].iloc[-1] - 0.1
    if method.endswith("moco"):
        assert curves["held_out_similarity"].iloc[-1] < 0.9
        assert curves["held_out_found"].iloc[-1] > 2 * curves["held_out_found"].iloc[0]


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    settings = {**COMMON, **OWN["spectralearth-dino"], "validate_every": 3, "checkpoint_every": 6, "batch": 8}
    runs = [
        ts.train(
            "pretrain", "spectralearth-dino", scene(), out=tmp_path / str(count), steps=6, device="cpu", devices=count,
            precision="float64", settings=settings, store=tmp_path / "patches.zarr",
        )
        for count in (1, 2)
    ]  # fmt: skip
    one, two = (Run(tmp_path / str(count)).load_checkpoint("last")["model"] for count in (1, 2))
    for name, value in one.items():
        torch.testing.assert_close(two[name].double(), value.double(), rtol=1e-4, atol=1e-5, msg=name)
    assert runs[0]["curves"]["held_out_loss"].to_numpy() == pytest.approx(
        runs[1]["curves"]["held_out_loss"].to_numpy(), rel=1e-4
    )


@pytest.mark.parametrize("method", OWN)
def test_bf16_trains(method: str, tmp_path: Path) -> None:
    settings = {**COMMON, **OWN[method], "validate_every": 3, "checkpointing": True, "accumulate": 2}
    made = ts.train(
        "pretrain", method, scene(), out=tmp_path / "run", steps=6, device="cpu", precision="bf16", settings=settings
    )
    assert np.isfinite(made["curves"]["held_out_loss"]).all()
    assert all(p.dtype == torch.float32 for p in made["network"].parameters())


def test_the_command_line_trains_on_a_generated_patch_set(tmp_path: Path) -> None:
    from typer.testing import CliRunner

    from torchspectral.cli.app import build

    def call(*words: str) -> None:
        done = CliRunner().invoke(build(), list(words))
        assert done.exit_code == 0, done.output

    call("simulate", "patches", "-n", "24", "--set", "size=16", "-o", f"{tmp_path}/patches")
    small = ["patch=16", "batch=8", "network={dim: 16, depth: 1, heads: 2}", "hidden=16", "outputs=16"]
    pairs = [word for pair in small for word in ("--set", pair)]
    call(
        "train", "pretrain", "--method", "spectralearth-dino", "--data", f"{tmp_path}/patches", "--steps", "4", *pairs,
        "-o", f"{tmp_path}/run",
    )  # fmt: skip
    card = ts.weights.load(tmp_path / "run").card
    assert card.model == "spec-vit-s" and card.bands == 202 and card.quantity == "reflectance"
