"""Every recipe, killed by the system in the middle of a run: it goes on to the same curves and the same checkpoint."""

from __future__ import annotations

import multiprocessing
import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from recipe_cases import MORE, SIZES, data_of, settings_of

from torchspectral import weights
from torchspectral.learn.runs import LAST, Run
from torchspectral.learn.train import train
from torchspectral.log import Step

pytest.importorskip("lightning")
QUICK = "spectralearth-moco"
CASES = [pytest.param(case, marks=() if case == QUICK else pytest.mark.slow) for case in (*SIZES, *MORE)]


def run(case: str, folder: Path, name: str, **more: Any) -> Any:
    data, files = data_of(case, folder)
    # Two parts a step where a recipe allows it, and an odd number of steps between checkpoints.
    parts = {"accumulate": 2} if "mae" in case or "gpt" in case else {}
    settings = {**settings_of(case), **files, **parts, "steps": 12, "checkpoint_every": 3}
    Run.plot = lambda self: None  # type: ignore[method-assign]
    torch.set_num_threads(1)
    return train("pretrain", case.split()[0], data, out=folder / name, device="cpu", settings=settings, **more)


def kill(step: Step) -> None:
    """No handler, no farewell: as the system does where memory runs out."""
    if step.stage == "train" and "step 10," in step.detail:
        os.kill(os.getpid(), signal.SIGKILL)


def killed(case: str, folder: Path, name: str) -> None:
    run(case, folder, name, progress=kill)


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


@pytest.mark.parametrize("case", CASES)
def test_killed_goes_on_alike(case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "plot", Run.plot)  # put back afterwards
    data_of(case, tmp_path)
    process = multiprocessing.get_context("spawn").Process(target=killed, args=(case, tmp_path, "parts"))
    process.start()
    whole = run(case, tmp_path, "whole")
    process.join()
    assert process.exitcode == -signal.SIGKILL
    parts, before = Run(tmp_path / "parts"), Run(tmp_path / "whole")
    assert parts.load_checkpoint(LAST)["step"] == 9 and not parts.weights.exists()
    torn = parts.path / "checkpoints/.last.pt.0123abcd"
    torn.write_bytes(b"half a checkpoint")
    resumed = run(case, tmp_path, "parts", resume=True)
    assert not torn.exists()
    a, b = before.load_checkpoint(LAST), parts.load_checkpoint(LAST)
    assert a["step"] == 12 and same(a, b)
    assert (before.path / "curves.csv").read_text() == (parts.path / "curves.csv").read_text()
    assert same(dict(whole["network"].state_dict()), dict(resumed["network"].state_dict()))
    # The run is a set of weights: the encoder alone, with its card.
    loaded = weights.load(parts.path)
    state = loaded.build().state_dict()
    assert same(dict(state), {k: v for k, v in resumed["network"].state_dict().items() if k in state})
    assert loaded.card.quantity == "reflectance" and "speed" not in loaded.card.metrics
    assert {"samples_per_second", "peak_memory_mib"} <= set(whole["curves"].columns)
    assert whole.report.figures["speed"]["peak_memory_mib"] > 0
    if case == QUICK:
        card, network = loaded.card, loaded.build()
        assert len(card.wavelengths) == len(card.mean) == len(card.std) == 78 and card.values[0] > 0
        assert card.model == "spec-vit-s" and card.constructor == {"image_size": 8, "dim": 8, "depth": 1, "heads": 2}
        with torch.no_grad():
            vector = network.forward_features(network.as_input(torch.rand(1, 78, 8, 8), card.mean, card.std))
        assert vector.shape == (1, 8) and torch.isfinite(vector).all()
        notes = resumed.report.notes
        assert any("embed SCENE --weights" in n for n in notes) and any("show one date" in n for n in notes)
