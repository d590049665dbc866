"""Half-done outputs: killed and resumed at every stage, refused, taken over, cleaned up."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import time

import numpy as np
import pytest
import torch
import xarray as xr
from engine_methods import Blur, Boxes, Contrast, Diffuse, Follow, Learn, Mapped, Negate, scene

import torchspectral as ts
from torchspectral.engine import fitting
from torchspectral.engine.journal import Journal, fingerprint, partial_folder
from torchspectral.engine.scratch import Workspace
from torchspectral.engine.states import load_state, save_state
from torchspectral.errors import (
    BadInput,
    BadSettings,
    BrokenProduct,
    Interrupted,
    JournalMismatch,
    OutputExists,
    OutputFailed,
    TooLarge,
)

FORK = multiprocessing.get_context("fork")


def run(method, inputs, out=None, progress=None, **options):
    if isinstance(inputs, xr.DataArray):
        inputs = {method.inputs[0].role: inputs}
    more = {"progress": progress} if progress else {}
    return ts.run(method, inputs, out=out, options=ts.RunOptions(**options), **more)


def video():
    frames = xr.concat([scene(bands=2, rows=20, cols=16, holes=False, seed=s) for s in range(5)], "time")
    return frames.transpose("time", "band", "y", "x").assign_attrs(scene().attrs)


def dying(stage, fraction, number=signal.SIGKILL):
    """Progress callback that kills its own process."""

    def progress(step):
        if step.stage == stage and step.fraction >= fraction:
            os.kill(os.getpid(), number)
            time.sleep(5)

    return progress


def killed(stage, fraction, method, inputs, **options):
    """Run in a forked process that dies by SIGKILL at a point of a stage."""
    process = FORK.Process(
        target=run, args=(method, inputs), kwargs={"progress": dying(stage, fraction), **options}, daemon=True
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL


CASES = {
    "rounds": (Diffuse(Diffuse.Settings.make(rounds=5)), "fit", 0.55, {"tile": (16, 16)}),
    "map": (Mapped(), "fit pass 2", 0.55, {"tile": (16, 16)}),
    "after-fit": (Learn(), "apply", 0.5, {"tile": (16, 16)}),
    "blocks": (Blur(), "apply", 0.4, {"tile": (8, 8)}),
    "slots": (Contrast(), "apply", 0.6, {}),
    "blend": (Contrast(), "blend", 0.5, {}),
    "frames": (Follow(), "apply", 0.6, {}),
    "tables": (Boxes(), "apply", 0.5, {"tile": (16, 16)}),
}


@pytest.mark.parametrize("case", CASES)
def test_killed_and_resumed_equals_uninterrupted(case, tmp_path, monkeypatch):
    monkeypatch.setattr(fitting, "ROUND_SECONDS", 0.0)
    method, stage, fraction, options = CASES[case]
    inputs = video() if case == "frames" else scene()
    expected = run(method, inputs, **options)
    out = f"{tmp_path}/out/"
    killed(stage, fraction, method, inputs, out=out, **options)
    assert partial_folder(tmp_path / "out").is_dir()
    steps = []
    result = run(method, inputs, out=out, resume=True, progress=steps.append, **options)
    first = next(s for s in steps if s.stage == stage)
    assert first.fraction > fraction * 0.6, "what was done is done again"
    if stage == "apply" and case == "after-fit":
        assert not any(s.stage.startswith("fit") for s in steps)
    assert list(result) == list(expected)
    for name, value in expected.items():
        if isinstance(value, xr.DataArray):
            np.testing.assert_array_equal(result[name].values, value.values, err_msg=name)
            if "y" in value.dims:
                np.testing.assert_array_equal(result[name]["y"], value["y"])
        else:
            assert result[name].equals(value)
    assert not partial_folder(tmp_path / "out").exists()


def test_tiles_of_an_array_count_for_the_same_work_only(tmp_path):
    space = Workspace(tmp_path)
    space.array("map-u-1", (1, 4, 4), np.float32)
    first = space.tiles("map-u-1", {"mean": torch.ones(3)})
    first.add(1)
    first.add(2)
    with (tmp_path / "map-u-1.tiles").open("a") as file:
        file.write("3")  # killed while it wrote
    assert space.tiles("map-u-1", {"mean": torch.ones(3)}).done == {1, 2}
    assert space.tiles("map-u-1", {"mean": torch.ones(3) + 1e-7}).done == set()
    space.tiles("map-u-1", None).add(1)
    (tmp_path / "map-u-1.raw").unlink()
    assert space.tiles("map-u-1", None).done == set()
    nothing = space.tiles("map-u-1", lambda: None)  # work without bytes
    nothing.add(1)
    assert space.tiles("map-u-1", lambda: None).done == set()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_leave_it_resumable(number, tmp_path):
    cube, out = scene(), tmp_path / "out.tif"
    before = signal.getsignal(number)
    with pytest.raises(Interrupted, match="resume"):
        run(Negate(), cube, out=out, tile=(8, 47), progress=dying("apply", 0.5, number))
    assert signal.getsignal(number) is before
    assert not out.exists() and partial_folder(out).is_dir()
    with pytest.raises(OutputExists, match="half-done"):
        run(Negate(), cube, out=out, tile=(8, 47))
    with pytest.raises(JournalMismatch, match="seed"):
        run(Negate(), cube, out=out, tile=(8, 47), seed=1, resume=True)
    with pytest.raises(JournalMismatch, match="input cube"):
        run(Negate(), cube + 1, out=out, tile=(8, 47), resume=True)
    assert partial_folder(out).is_dir()
    done = run(Negate(), cube, out=out, tile=(8, 47), resume=True)
    np.testing.assert_array_equal(done.primary, run(Negate(), cube).primary)
    assert not partial_folder(out).exists()


@pytest.mark.parametrize(
    ("raised", "seen", "kept"),
    [
        (MemoryError("16 GiB"), TooLarge, True),
        (torch.OutOfMemoryError("16 GiB"), TooLarge, True),
        (BrokenProduct("cut short"), BrokenProduct, True),
        (torch.linalg.LinAlgError("singular"), BadInput, False),
        (BadInput("zeros"), BadInput, False),
        (ValueError("a mistake of ours"), ValueError, True),
    ],
    ids=["memory", "accelerator", "product", "algebra", "input", "mistake"],
)
def test_errors_that_end_a_run_say_what_stays(raised, seen, kept, tmp_path):
    def fail(step):
        if step.stage == "apply" and step.fraction >= 0.5:
            raise raised

    out = tmp_path / "out.tif"
    with pytest.raises(seen):
        run(Negate(), scene(), out=out, tile=(8, 47), progress=fail)
    assert partial_folder(out).is_dir() == kept and not out.exists()


def test_without_an_output_ctrl_c_is_ctrl_c():
    with pytest.raises(KeyboardInterrupt):
        run(Negate(), scene(), progress=dying("apply", 0.1, signal.SIGINT))


def test_overwrite_takes_a_half_done_output_over(tmp_path):
    cube, out = scene(), tmp_path / "out.tif"
    with pytest.raises(Interrupted):
        run(Negate(), cube, out=out, tile=(8, 47), progress=dying("apply", 0.5, signal.SIGINT))
    run(Negate(), cube + 1, out=out, overwrite=True)
    with pytest.raises(OutputExists, match="exists"):
        run(Negate(), cube, out=out)
    with pytest.raises(OutputExists):
        run(Negate(), cube, out=out, resume=True)
    result = run(Negate(), cube, out=out, overwrite=True)
    np.testing.assert_array_equal(result.primary, run(Negate(), cube).primary)


def test_errors_leave_nothing_behind(tmp_path):
    cube = scene()
    with pytest.raises(BadInput):
        run(Learn(), cube.where(False), out=tmp_path / "out.tif")
    with pytest.raises(BadSettings):
        run(Negate(), cube, out=tmp_path / "out.tif", bands="some")
    assert not list(tmp_path.iterdir())


def test_output_equal_to_input_is_refused(tmp_path):
    cube = scene()
    cube.attrs["source"] = [str(tmp_path / "scene.img")]
    (tmp_path / "scene.img").touch()
    with pytest.raises(OutputFailed, match="one of the inputs"):
        run(Negate(), cube, out=tmp_path / "scene.img", overwrite=True)


def test_one_file_takes_the_primary_value_and_a_folder_all(tmp_path):
    cube = scene()
    one = run(Learn(), cube, out=tmp_path / "one.tif")
    assert (tmp_path / "one.tif").exists() and set(one) == {"cube", "ends", "bands"}
    run(Learn(), cube, out=f"{tmp_path}/all/")
    assert {"cube.tif", "ends.sli", "bands.csv"} <= {p.name for p in (tmp_path / "all").iterdir()}
    blurred = run(Blur(), cube, out=tmp_path / "blur.tif")
    assert list(blurred) == ["cube"]
    both = run(Blur(), cube, out={"mean": tmp_path / "m.tif", "cube": tmp_path / "c.tif"})
    assert both.paths.keys() == {"mean", "cube"} and (tmp_path / "m.tif").exists()


def test_an_envi_output_is_the_scratch_file_itself(tmp_path):
    cube = scene()
    result = run(Blur(), cube, out=tmp_path / "blur.hdr", tile=(16, 16))
    np.testing.assert_array_equal(result.primary, run(Blur(), cube, tile=(16, 16))["cube"])
    np.testing.assert_array_equal(result.primary["wavelength"], cube["wavelength"])
    assert not partial_folder(tmp_path / "blur.hdr").exists()


def test_lines_cut_short_are_ignored(tmp_path):
    journal = Journal(tmp_path / "out", {"a": 1})
    journal.add("block", stage="s", block=0)
    journal.add("block", stage="s", block=1)
    journal.close(keep=True)
    path = partial_folder(tmp_path / "out") / "journal.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-5])
    again = Journal(tmp_path / "out", {"a": 1}, resume=True)
    assert set(again.blocks("s")) == {0}
    again.add("block", stage="s", block=2)
    again.close(keep=True)
    assert [json.loads(line)["block"] for line in path.read_text().splitlines()] == [0, 2]


def test_two_processes_do_not_share_an_output(tmp_path):
    journal = Journal(tmp_path / "out", {"a": 1})
    with pytest.raises(OutputExists, match="another process"):
        Journal(tmp_path / "out", {"a": 1}, resume=True)
    journal.close(keep=False)
    assert not partial_folder(tmp_path / "out").exists()


def test_fingerprints_see_values_coordinates_and_files(tmp_path):
    cube = scene()
    mark = fingerprint(cube)
    assert fingerprint(scene()) == mark
    changed = cube.copy(deep=True)
    changed.values[0, 50, 20] += 1
    assert fingerprint(changed) != mark
    assert fingerprint(cube.assign_coords(x=cube["x"] + 30)) != mark
    assert fingerprint(cube.assign_coords(good=("band", np.ones(5, bool)))) != mark


def test_states_survive_files(tmp_path):
    import torch

    shared = torch.arange(6.0).reshape(2, 3)
    state = {
        "a": shared, "b": shared.T, "n": 3, "x": float("nan"), "text": "é", "none": None, "flag": True,
        "nested": {"list": [torch.zeros(0), (1, 2)], 3: {"deep": np.arange(3)}}, "half": shared.bfloat16(),
    }  # fmt: skip
    save_state(tmp_path / "s", state)
    back = load_state(tmp_path / "s")
    assert torch.equal(back["a"], shared) and torch.equal(back["b"], shared.T)
    assert back["nested"]["list"][1] == (1, 2) and list(back["nested"]) == ["list", 3]
    np.testing.assert_array_equal(back["nested"][3]["deep"], np.arange(3))
    assert back["half"].dtype == torch.bfloat16 and np.isnan(back["x"])
    assert {k: back[k] for k in ("n", "text", "none", "flag")} == {"n": 3, "text": "é", "none": None, "flag": True}
    with pytest.raises(BadSettings, match=r"lambda|function"):
        save_state(tmp_path / "s", {"f": lambda: 0})
