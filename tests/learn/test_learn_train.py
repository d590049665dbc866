"""Runs: bit-exact resume, signals, run folder, weights."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from toy_recipe import ToyNetwork, toy_scene

from torchspectral import weights
from torchspectral.errors import (
    BadInput,
    BadSettings,
    BadWeights,
    Interrupted,
    JournalMismatch,
    OutputExists,
    OutputFailed,
    ProductNotFound,
    UnknownName,
)
from torchspectral.learn.sampling import batch_of
from torchspectral.learn.train import find_recipe, room_of, train
from torchspectral.log import Step

pytest.importorskip("lightning")
pytestmark = pytest.mark.usefixtures("toy")


def run(out: Path, **more):
    return train("sharpen", "toy", toy_scene(), **{"out": out, "device": "cpu", **more})


def checkpoint(folder: Path) -> dict:
    return torch.load(folder / "checkpoints" / "last.pt", weights_only=True)


def same(a: object, b: object) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return a == b


class Stop:
    """Progress callback that stops the run when a number of steps is done."""

    def __init__(self, step: int, how: str) -> None:
        self.step, self.how = step, how

    def __call__(self, step: Step) -> None:
        if step.stage == "train" and f"step {self.step}," in step.detail:
            if self.how == "crash":
                raise RuntimeError("power cut")
            os.kill(os.getpid(), getattr(signal, self.how))


@pytest.mark.parametrize(("decay", "how"), [("constant", "SIGINT"), ("cosine", "SIGTERM"), ("cosine", "crash")])
def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path, how: str, decay: str) -> None:
    settings = {"steps": 34, "decay": decay, "clip": 1.0, "validate_every": 7, "checkpoint_every": 4}
    whole = run(tmp_path / "whole", settings=settings)
    error = RuntimeError if how == "crash" else Interrupted
    with pytest.raises(error) as caught:
        run(tmp_path / "parts", settings=settings, progress=Stop(10, how))
    reached = checkpoint(tmp_path / "parts")["step"]
    assert reached == (8 if how == "crash" else 10)
    if how != "crash":
        assert "ts.train('sharpen', 'toy', CUBES" in str(caught.value) and "resume=True)`" in str(caught.value)
        assert "10 of 34 steps" in str(caught.value)
        with pytest.raises(BadWeights, match="no finished weights"):
            weights.find(tmp_path / "parts")
    with pytest.raises(error):
        run(tmp_path / "parts", resume=True, progress=Stop(20, how))
    parts = run(tmp_path / "parts", resume=True)
    a, b = checkpoint(tmp_path / "whole"), checkpoint(tmp_path / "parts")
    assert a["step"] == 34 and same(a, b)
    assert (tmp_path / "whole/curves.csv").read_text() == (tmp_path / "parts/curves.csv").read_text()
    assert same(dict(whole["network"].state_dict()), dict(parts["network"].state_dict()))


def test_seed_decides(tmp_path: Path) -> None:
    a, b, c = (run(tmp_path / n, seed=seed, steps=4)["network"] for n, seed in (("a", 1), ("b", 1), ("c", 2)))
    assert same(dict(a.state_dict()), dict(b.state_dict()))
    assert not same(dict(a.state_dict()), dict(c.state_dict()))


def test_callers_random_numbers_are_left_alone(tmp_path: Path) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    handler = signal.getsignal(signal.SIGINT)
    run(tmp_path / "a", steps=2)
    assert torch.equal(torch.rand(3), expected) and signal.getsignal(signal.SIGINT) is handler


def test_run_folder_and_weights(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "my run"
    result = run(folder, epochs=2, card={"licence": "CC-BY-4.0", "attribution": "somebody"})
    assert capfd.readouterr() == ("", "")
    names = {p.name for p in folder.iterdir()}
    assert names == {
        "run.yaml", "curves.csv", "speed.csv", "curves.png", "metrics.json", "checkpoints", "patches.zarr", "weights.safetensors",
        "weights.yaml",
    }  # fmt: skip
    facts = yaml.safe_load((folder / "run.yaml").read_text())
    assert facts["patches"]["train"] * 2 <= facts["settings"]["steps"] * 4 < facts["patches"]["train"] * 2 + 4
    assert "'steps': " in facts["command"] and facts["split"].startswith("0%")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics["held_out_ground"]["loss"] > 0
    columns = ["step", "train_loss", "held_out_loss", "learning_rate", "samples_per_second", "peak_memory_mib"]
    assert list(result["curves"].columns) == columns and metrics["speed"]["samples_per_second"] > 0
    loaded = weights.load(folder, model=ToyNetwork(3))
    assert loaded.card.name == "toy.my-run" and loaded.card.licence == "CC-BY-4.0" and loaded.card.bands == 3
    assert loaded.card.metrics["held_out_ground"] == metrics["held_out_ground"]
    assert loaded.card.constructor == {"bands": 3} and loaded.card.wavelengths == [450.0, 650.0, 850.0]
    best = torch.load(folder / "checkpoints/best.pt", weights_only=True)
    assert same(loaded.state, dict(best["model"]))
    values = np.array(result["curves"]["held_out_loss"])
    assert best["step"] == int(result["curves"]["step"][values.argmin()])


def test_command_of_files_can_be_typed(tmp_path: Path) -> None:
    import shlex

    import torchspectral as ts

    scene = tmp_path / "my scene.zarr"
    ts.save(toy_scene(), scene)
    folder = tmp_path / "run"
    with pytest.raises(Interrupted) as caught:
        train(
            "sharpen", "toy", scene, out=folder, device="cpu", steps=30, seed=3, settings={"patch": 6},
            progress=Stop(10, "SIGINT"),
        )  # fmt: skip
    words = shlex.split(str(caught.value).split("`")[1])
    expected = ["torchspectral", "train", "sharpen", "--method", "toy", "--data", str(scene), "--set", "steps=30"]
    assert words == [*expected, "--set", "patch=6", "--seed", "3", "-o", str(folder), "--resume"]
    train("sharpen", "toy", scene, out=folder, device="cpu", seed=3, resume=True)
    assert checkpoint(folder)["step"] == 30


def test_learning_happens(tmp_path: Path) -> None:
    curves = run(tmp_path / "a", steps=120, settings={"validate_every": 40})["curves"]
    assert curves["held_out_loss"].iloc[-1] < 0.5 * curves["held_out_loss"].iloc[0]


def test_more_steps_go_on(tmp_path: Path) -> None:
    run(tmp_path / "a", steps=6)
    run(tmp_path / "a", steps=12, resume=True)
    run(tmp_path / "b", steps=12)
    assert same(checkpoint(tmp_path / "a")["model"], checkpoint(tmp_path / "b")["model"])


def test_shared_store_and_random_split(tmp_path: Path) -> None:
    a = run(tmp_path / "a", steps=2, store=tmp_path / "p.zarr", settings={"split": "random"})
    run(tmp_path / "b", steps=2, store=tmp_path / "p.zarr", settings={"split": "random"})
    assert "too good" in a.report.notes[0] and not (tmp_path / "a/patches.zarr").exists()


@pytest.mark.parametrize("precision", ["bf16", "float64"])
def test_precision(tmp_path: Path, precision: str) -> None:
    if precision == "float64":
        state = run(tmp_path / "a", steps=2, precision=precision)["network"].state_dict()
        assert state["layer.weight"].dtype == torch.float32
    else:
        run(tmp_path / "a", steps=2, precision=precision)


def test_batches_cover_each_epoch_once() -> None:
    drawn = [key for step in range(15) for key in batch_of(step, seed=3, count=20, batch=4)]
    for epoch in range(3):
        assert sorted(i for e, i in drawn if e == epoch) == list(range(20))
    assert [i for e, i in drawn if e == 0] != [i for e, i in drawn if e == 1]
    assert len(batch_of(0, seed=0, count=3, batch=8)) == 8


def test_what_goes_wrong(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not finite at step"):
        run(tmp_path / "inf", settings={"explode": True})
    run(tmp_path / "a", steps=2)
    with pytest.raises(OutputExists, match="holds a run"):
        run(tmp_path / "a")
    with pytest.raises(JournalMismatch, match="another seed"):
        run(tmp_path / "a", seed=4, resume=True)
    with pytest.raises(JournalMismatch, match="patch=8, now patch=6"):
        run(tmp_path / "a", settings={"patch": 6}, resume=True)
    run(tmp_path / "a", steps=2, overwrite=True)
    with pytest.raises(ProductNotFound, match="no run to resume"):
        run(tmp_path / "new", resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("precious")
    with pytest.raises(OutputFailed, match="no run folder"):
        run(tmp_path / "other", overwrite=True)
    with pytest.raises(BadSettings, match="one of them"):
        run(tmp_path / "b", steps=2, epochs=1)
    with pytest.raises(BadSettings, match="divides the batch"):
        run(tmp_path / "b", devices=3)
    (tmp_path / "a" / "checkpoints" / "last.pt").write_bytes(b"rubbish")
    with pytest.raises(BadWeights, match="begin the run again"):
        run(tmp_path / "a", resume=True)


def test_tasks_and_recipes_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    assert room_of("sharpening") == room_of("sharpen") == "sharpening"
    with pytest.raises(UnknownName, match="sharpen"):
        room_of("sharpn")
    monkeypatch.undo()
    assert find_recipe("sharpen", "hyperpnn", {"patch": 32}).settings.patch == 32
    with pytest.raises(UnknownName):
        find_recipe("sharpen", "gsa")


@pytest.mark.slow
def test_two_processes_share_a_batch(tmp_path: Path) -> None:
    one = run(tmp_path / "one", steps=6)["network"]
    two = run(tmp_path / "two", steps=6, devices=2)["network"]
    assert checkpoint(tmp_path / "two")["step"] == 6
    assert one.layer.weight.shape == two.layer.weight.shape
