"""The inert unpickler: foreign modules become tensors, and nothing of the stream runs."""

from __future__ import annotations

import builtins
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from torchspectral import weights
from torchspectral.errors import BadWeights, TorchspectralError, UnsafeInput
from torchspectral.weights.foreign import read_foreign


class Evil:
    """Runs a command when it is unpickled by a real unpickler."""

    def __init__(self, *call: object) -> None:
        self.call = call

    def __reduce__(self) -> tuple[object, ...]:
        return self.call[0], tuple(self.call[1:])


class Foreign(torch.nn.Module):
    """A class of somebody's training script."""

    def __init__(self) -> None:
        super().__init__()
        self.body = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.BatchNorm2d(4))
        self.scale = torch.nn.Parameter(torch.full((4,), 2.0))
        self.register_buffer("grid", torch.arange(3.0), persistent=False)
        self.hook = print


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("wrapped", [False, True])
def test_pickled_module_gives_its_state(tmp_path: Path, legacy: bool, wrapped: bool) -> None:
    torch.manual_seed(1)
    network = Foreign()
    file = tmp_path / "whole.pth"
    content = {"model": network, "epoch": 7, "args": Evil(dict)} if wrapped else network
    torch.save(content, file, _use_new_zipfile_serialization=not legacy)
    with pytest.raises(UnsafeInput, match="weights convert"):
        weights.load(file)
    out = weights.convert(file, tmp_path / "out.safetensors", card={"name": "foreign.x"})
    weights.load(out, model=Foreign())
    state = weights.load(out).state
    assert set(state) == set(network.state_dict())
    assert all(torch.equal(state[k], v) for k, v in network.state_dict().items())


CALLS = {
    "os.system": lambda mark: Evil(os.system, f"touch {mark}"),
    "eval": lambda mark: Evil(builtins.eval, f"open({str(mark)!r}, 'w').close()"),
    "exec": lambda mark: Evil(builtins.exec, f"open({str(mark)!r}, 'w').close()"),
    "popen": lambda mark: Evil(subprocess.Popen, ["touch", str(mark)]),
    "getattr": lambda mark: Evil(builtins.getattr, Evil(builtins.__import__, "os"), "system"),
    "open": lambda mark: Evil(builtins.open, str(mark), "w"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("kind", ["zip", "legacy", "pickle"])
def test_malicious_pickle_runs_nothing(tmp_path: Path, call: str, kind: str) -> None:
    mark, file = tmp_path / "ran", tmp_path / "evil.pt"
    content = {"state_dict": {"w": torch.arange(6.0).reshape(2, 3)}, "evil": CALLS[call](mark)}
    if kind == "pickle":
        file.write_bytes(pickle.dumps({"evil": CALLS[call](mark), "w": 1}))
        with pytest.raises(BadWeights):
            weights.convert(file, tmp_path / "out.safetensors")
    else:
        torch.save(content, file, _use_new_zipfile_serialization=kind == "zip")
        out = weights.convert(file, tmp_path / "out.safetensors")
        assert torch.equal(weights.load(out).state["w"], torch.arange(6.0).reshape(2, 3))
    with pytest.raises(TorchspectralError):
        weights.load(file)
    assert not mark.exists()


def test_the_same_file_is_deadly_to_a_real_unpickler(tmp_path: Path) -> None:
    """The marks above would appear: otherwise the tests would prove nothing."""
    for name, make in CALLS.items():
        mark = tmp_path / name
        made = pickle.loads(pickle.dumps(make(mark)))
        if isinstance(made, subprocess.Popen):
            made.wait()
        if hasattr(made, "close"):
            made.close()
        assert mark.exists() or name == "getattr"


def test_nothing_foreign_is_imported(tmp_path: Path) -> None:
    stream = b"\x80\x02cthis\n_is_never_imported\n)R}X\x05\x00\x00\x00thingcantigravity\nfly\nsb."
    file = tmp_path / "x.pkl"
    file.write_bytes(stream)
    with pytest.raises(BadWeights, match="no tensors"):
        read_foreign(file)
    assert "this" not in sys.modules and "antigravity" not in sys.modules


def test_stream_that_writes_onto_a_rebuilder_reaches_no_other(tmp_path: Path) -> None:
    # GLOBAL torch._utils _rebuild_tensor_v2, then BUILD (None, {"__defaults__": (1,)})
    stream = b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\nN}X\x0c\x00\x00\x00__defaults__K\x01\x85s\x86b."
    (tmp_path / "x.pkl").write_bytes(stream)
    with pytest.raises(BadWeights):
        read_foreign(tmp_path / "x.pkl")
    torch.save({"w": torch.ones(2)}, tmp_path / "good.pt")
    assert torch.equal(read_foreign(tmp_path / "good.pt")["w"], torch.ones(2))


def test_memo_bomb_does_not_allocate(tmp_path: Path) -> None:
    (tmp_path / "x.pkl").write_bytes(b"\x80\x02}r\xff\xff\xff\xfe.")
    with pytest.raises(BadWeights, match="no tensors"):
        read_foreign(tmp_path / "x.pkl")


@settings(max_examples=80, deadline=None)
@given(data=st.data())
def test_damaged_files_end_in_a_typed_error(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    folder = tmp_path_factory.mktemp("damaged")
    good = folder / "good.pt"
    torch.save({"w": torch.arange(4.0)}, good, _use_new_zipfile_serialization=data.draw(st.booleans()))
    content = bytearray(good.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    bad = folder / "bad.pt"
    bad.write_bytes(content[: data.draw(st.integers(0, len(content)))])
    for reader in (weights.load, read_foreign):
        try:
            reader(bad)
        except TorchspectralError as error:
            assert "\n" not in str(error)


def test_part_is_chosen(tmp_path: Path) -> None:
    torch.save({"gen": {"w": torch.ones(1)}, "dis": {"w": torch.zeros(1)}}, tmp_path / "gan.pt")
    with pytest.raises(BadWeights, match="choose one part"):
        weights.convert(tmp_path / "gan.pt", tmp_path / "a.safetensors")
    out = weights.convert(tmp_path / "gan.pt", tmp_path / "a.safetensors", part="dis")
    assert weights.load(out).state["w"] == 0


def test_shared_children_do_not_explode(tmp_path: Path) -> None:
    torch.save({"w": torch.ones(1), "deep": _doubled([1], 60)}, tmp_path / "lists.pt")
    assert read_foreign(tmp_path / "lists.pt")["w"] == 1
    module: torch.nn.Module = torch.nn.Linear(1, 1)
    for _ in range(40):
        module = torch.nn.ModuleDict({"a": module, "b": module})
    torch.save(module, tmp_path / "modules.pt")
    with pytest.raises(UnsafeInput, match="modules"):
        read_foreign(tmp_path / "modules.pt")


def _doubled(value: list, times: int) -> list:
    for _ in range(times):
        value = [value, value]
    return value
