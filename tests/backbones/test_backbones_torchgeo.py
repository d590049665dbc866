"""Patches as TorchGeo's trainers take them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from torchspectral.errors import BandMismatch
from torchspectral.learn.patch_sets import PatchSet, TorchGeoSamples, open_patch_set, simulate_patches


@pytest.fixture(scope="module")
def patches(tmp_path_factory: pytest.TempPathFactory) -> PatchSet:
    folder = tmp_path_factory.mktemp("torchgeo") / "set"
    simulate_patches(folder, 8, sensor="sentinel-2a", settings={"size": 32, "grain": 2, "holes": 1.0})
    return open_patch_set(folder)


def test_keys_types_and_shapes(patches: PatchSet) -> None:
    mean, std = patches.statistics()
    raw, ready = TorchGeoSamples(patches), TorchGeoSamples(patches, "train", mean, std)
    plain, sample = patches.sample("train", 0), ready[0]
    bands, side = patches.shape[0], patches.shape[1]
    assert sample["image"].shape == (bands, side, side) and sample["image"].dtype == torch.float32
    assert sample["mask"].shape == (side, side) and sample["mask"].dtype == torch.int64
    gone = torch.from_numpy(plain["valid"][0] == 0)
    assert gone.any() and (sample["mask"][gone] == ready.ignore).all() and not sample["image"][:, gone].any()
    kept = (plain["image"] - mean[:, None, None]) / std[:, None, None]
    np.testing.assert_allclose(sample["image"][:, ~gone], kept[:, ~gone.numpy()], rtol=1e-4, atol=1e-4)
    assert torch.equal(raw[0]["image"], torch.from_numpy(plain["image"])) and len(raw) == patches.count("train")
    assert torch.equal(raw[0]["mask"][~gone], torch.from_numpy(plain["mask"][0]).long()[~gone])
    assert raw[0]["label"].dtype == torch.int64
    with pytest.raises(BandMismatch, match="deviations"):
        TorchGeoSamples(patches, "train", mean)


def test_torchgeo_trains_on_them(patches: PatchSet) -> None:
    """Two steps of the real task: seen to pass with TorchGeo 0.8.1."""
    pytest.importorskip("torchgeo")
    import lightning
    from torchgeo.trainers import SemanticSegmentationTask

    samples = TorchGeoSamples(patches, "train", *patches.statistics())
    task = SemanticSegmentationTask(
        model="fcn", in_channels=patches.shape[0], task="multiclass", num_classes=samples.ignore + 1,
        ignore_index=samples.ignore, num_filters=4,
    )  # fmt: skip
    trainer = lightning.Trainer(
        max_steps=2, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task, DataLoader(samples, 2))
    assert trainer.global_step == 2
