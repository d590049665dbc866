"""The representation monitor: in our loop, in any Lightning training, and what `diagnose` makes of it."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.errors import BadSettings
from torchspectral.learn.runs import KEPT, MONITORED, Run
from torchspectral.learn.train import train

pytest.importorskip("lightning")


class EncoderNetwork(torch.nn.Module):
    def __init__(self, bands: int) -> None:
        super().__init__()
        self.drop = torch.nn.Dropout2d(0.2)
        self.layer = torch.nn.Conv2d(bands, 6, 3, padding=1)
        self.back = torch.nn.Conv2d(6, bands, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.back(self.drop(self.layer(x)))

    def forward_features(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x).mean((2, 3))


@pytest.fixture
def encoder(toy, monkeypatch: pytest.MonkeyPatch) -> None:
    import toy_recipe

    monkeypatch.setattr(toy_recipe.ToyRecipe, "build", lambda self: EncoderNetwork(**self.model_arguments()))
    monkeypatch.setattr(
        toy_recipe.ToyRecipe,
        "references",
        lambda self, batch: {
            "labels": (batch["target"].mean((1, 2, 3)) > 0.5).long(),
            "input": batch["target"].mean((2, 3)),
        },
    )


def run(out: Path, **settings):
    from toy_recipe import toy_scene

    return train(
        "sharpen", "toy", toy_scene(), out=out, device="cpu", settings={"steps": 24, "held_out": 0.4, **settings}
    )


def test_run_is_monitored_resumes_and_is_told(encoder, tmp_path: Path) -> None:
    plain = run(tmp_path / "plain")
    seen = run(tmp_path / "seen", monitor_every=1, monitor_samples=12)
    # Looking does not change what is learnt.
    for a, b in zip(plain["network"].parameters(), seen["network"].parameters(), strict=True):
        assert torch.equal(a, b)
    rows = Run(tmp_path / "seen").rows(MONITORED)
    assert rows[0]["step"] == 0 and rows[-1]["step"] == 24
    assert {"dse", "effective_rank", "dsmi_labels", "dsmi_input", "overhead"} <= set(rows[0])
    assert not (tmp_path / "plain" / MONITORED).exists()
    with np.load(tmp_path / "seen" / KEPT) as kept:
        assert kept["embeddings"].shape == kept["first"].shape and not np.array_equal(kept["embeddings"], kept["first"])
        assert {"scene", "row", "col", "labels", "spectra"} <= set(kept.files)
    found = ts.diagnose(tmp_path / "seen", out=tmp_path / "report")
    assert "dse_first" in found["numbers"] and {"train_loss", "dse"} <= set(found["curves"].columns)
    assert "Curves" in (tmp_path / "report" / "report.html").read_text()
    told = ts.diagnose(tmp_path / "plain")
    assert not told["numbers"] and any("monitor_every" in note for note in told.report.notes)


def test_labels_on_the_ground_find_the_samples_of_a_run(encoder, tmp_path: Path) -> None:
    import toy_recipe
    from affine import Affine

    from torchspectral.geo import place

    cube = place(toy_recipe.toy_scene(), Affine(30, 0, 500_000, 0, -30, 5_800_000), "EPSG:32633")
    ts.save(cube, tmp_path / "scene.tif")
    classes = (np.indices(cube.shape[1:]).sum(0) // 9 % 3).astype("u1")  # 0 is unlabelled
    ts.save(cube.isel(band=[0]).copy(data=classes[None].astype("f4")), tmp_path / "labels.tif")
    settings = {"steps": 8, "held_out": 0.4, "monitor_every": 1, "monitor_samples": 40}
    train("sharpen", "toy", tmp_path / "scene.tif", out=tmp_path / "run", device="cpu", settings=settings)
    found = ts.diagnose(tmp_path / "run", labels=tmp_path / "labels.tif")
    drawn = found["samples"]
    expected = classes[drawn["row"].to_numpy(), drawn["col"].to_numpy()]
    names = np.unique(expected[expected > 0])
    assert (drawn["label"].to_numpy() == np.where(expected > 0, np.searchsorted(names, expected) + 1, 0)).all()
    assert found["numbers"]["labelled"] == (expected > 0).sum()


@pytest.mark.slow
def test_monitored_run_resumes_to_the_same_curve(encoder, tmp_path: Path) -> None:
    from torchspectral.errors import Interrupted

    whole = run(tmp_path / "whole", monitor_every=1, monitor_samples=12)
    settings = {"steps": 24, "held_out": 0.4, "monitor_every": 1, "monitor_samples": 12}

    def stop(step):
        if step.stage == "train" and step.fraction >= 10 / 24 - 1e-9:
            os.kill(os.getpid(), signal.SIGTERM)

    from toy_recipe import toy_scene

    with pytest.raises(Interrupted):
        train("sharpen", "toy", toy_scene(), out=tmp_path / "two", device="cpu", settings=settings, progress=stop)
    again = train("sharpen", "toy", toy_scene(), out=tmp_path / "two", device="cpu", settings=settings, resume=True)
    for a, b in zip(whole["network"].parameters(), again["network"].parameters(), strict=True):
        assert torch.equal(a, b)
    one, two = (Run(tmp_path / name).rows(MONITORED) for name in ("whole", "two"))
    drop = {"seconds", "overhead"}
    assert [{k: v for k, v in r.items() if k not in drop} for r in one] == [
        {k: v for k, v in r.items() if k not in drop} for r in two
    ]


def test_looks_are_as_far_apart_as_their_cost_asks_for() -> None:
    from torchspectral.learn.monitor import looks_apart

    for samples, patches in ((1000, 20_000), (1000, 5000), (250, 1000), (10, 20)):
        epochs = looks_apart(1, samples, patches)
        # A forward pass of the samples against three (forward, backward) of the patches of these epochs.
        assert samples / (3 * patches * epochs) <= 0.05
    assert looks_apart(1, 1000, 20_000) == 1 and looks_apart(7, 1000, 20_000) == 7


def test_network_without_embeddings_is_refused_before_the_first_step(toy, tmp_path: Path) -> None:
    with pytest.raises(BadSettings, match="monitor_every"):
        run(tmp_path / "run", monitor_every=1)


def test_any_lightning_training(tmp_path: Path) -> None:
    import lightning.pytorch as pl

    from torchspectral.learn.monitor import RepresentationMonitor

    class Plain(pl.LightningModule):
        def __init__(self) -> None:
            super().__init__()
            self.layer = torch.nn.Linear(5, 4)

        def training_step(self, batch, index):
            return self.layer(batch).square().mean()

        def configure_optimizers(self):
            return torch.optim.SGD(self.parameters(), lr=0.5)

    x = torch.randn(32, 5, generator=torch.Generator().manual_seed(0))
    monitor = RepresentationMonitor(lambda: [x], lambda module, batch: module.layer(batch), tmp_path, every=2)
    trainer = pl.Trainer(
        max_epochs=3, accelerator="cpu", logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[monitor], default_root_dir=str(tmp_path),
    )  # fmt: skip
    trainer.fit(Plain(), torch.utils.data.DataLoader(x, batch_size=8))
    assert [row["step"] for row in monitor.rows] == [0, 8, 12]
    assert monitor.rows[-1]["dse"] > 0
