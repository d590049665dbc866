"""RawArray against plain numpy indexing."""

from __future__ import annotations

import errno
import os
import pickle
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchspectral.errors import BadCube, BrokenProduct, OutputFailed, ProductNotFound
from torchspectral.io import raw as raw_module
from torchspectral.io.raw import RawArray

ORDER = {"bsq": (0, 1, 2), "bil": (1, 0, 2), "bip": (1, 2, 0)}


def _file(path: Path, array: np.ndarray, interleave: str, offset: int = 0, byteorder: str = "<") -> RawArray:
    disk = np.ascontiguousarray(array.transpose(ORDER[interleave]), dtype=array.dtype.newbyteorder(byteorder))
    path.write_bytes(b"\7" * offset + disk.tobytes())
    return RawArray(path, array.shape, array.dtype, interleave, offset, byteorder)


axis_key = st.one_of(
    st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(1, 3)).map(lambda t: slice(t[0], t[0] + t[1], t[2])),
    st.lists(st.integers(0, 3), min_size=1, max_size=5).map(np.array),
    st.just(slice(None)),
)


@settings(max_examples=150, deadline=None)
@given(
    shape=st.tuples(st.integers(4, 9), st.integers(4, 9), st.integers(4, 9)),
    interleave=st.sampled_from(sorted(ORDER)),
    dtype=st.sampled_from(["u1", "i2", "u2", "i4", "f4", "f8"]),
    byteorder=st.sampled_from("<>"),
    offset=st.sampled_from([0, 1, 37]),
    gap=st.sampled_from([0, 8, 1 << 14]),
    keys=st.tuples(axis_key, axis_key, axis_key),
)
def test_windows_equal_numpy(tmp_path_factory, shape, interleave, dtype, byteorder, offset, gap, keys) -> None:
    array = np.arange(np.prod(shape)).reshape(shape).astype(dtype)
    raw = _file(tmp_path_factory.mktemp("raw") / "a", array, interleave, offset, byteorder)
    before = raw_module.GAP
    raw_module.GAP = gap
    try:
        got = raw.read(keys[1], keys[2], keys[0])
    finally:
        raw_module.GAP = before
    expected = array[keys[0]][:, keys[1]][:, :, keys[2]]
    assert got.dtype == np.dtype(dtype) and got.dtype.isnative
    np.testing.assert_array_equal(got, expected)


@settings(max_examples=80, deadline=None)
@given(
    interleave=st.sampled_from(sorted(ORDER)),
    byteorder=st.sampled_from("<>"),
    tile=st.tuples(st.integers(1, 7), st.integers(1, 8)),
    bands=st.integers(1, 4),
)
def test_tiles_written_in_any_way_read_back(tmp_path_factory, interleave, byteorder, tile, bands) -> None:
    array = np.random.default_rng(0).integers(0, 1000, (4, 7, 8)).astype("i2")
    path = tmp_path_factory.mktemp("raw") / "a"
    raw = RawArray.create(path, array.shape, array.dtype, interleave, 5, byteorder)
    for b in range(0, 4, bands):
        for r in range(0, 7, tile[0]):
            for c in range(0, 8, tile[1]):
                raw.write(r, c, array[b : b + bands, r : r + tile[0], c : c + tile[1]], band=b)
    raw.sync()
    raw.close()
    np.testing.assert_array_equal(raw.read(slice(None), slice(None)), array)
    disk = np.frombuffer(path.read_bytes()[5:], np.dtype("i2").newbyteorder(byteorder))
    np.testing.assert_array_equal(disk, array.transpose(ORDER[interleave]).ravel())


def test_full_rows_take_few_calls(tmp_path, monkeypatch) -> None:
    array = np.zeros((6, 50, 40), "f4")
    calls = []
    real = os.preadv
    monkeypatch.setattr(os, "preadv", lambda fd, views, at: calls.append(at) or real(fd, views, at))
    for interleave, expected in (("bsq", 6), ("bil", 1), ("bip", 1)):
        raw = _file(tmp_path / interleave, array, interleave)
        calls.clear()
        raw.read(slice(10, 20), slice(None))
        assert len(calls) == expected, interleave
        calls.clear()
        raw.read(slice(None), slice(None))
        assert len(calls) == 1


def test_lazy_variable_indexes_and_pickles(tmp_path) -> None:
    array = np.arange(4 * 5 * 6, dtype="f4").reshape(4, 5, 6)
    variable = _file(tmp_path / "a", array, "bil").lazy()
    variable = pickle.loads(pickle.dumps(variable))
    np.testing.assert_array_equal(variable[2].values, array[2])
    np.testing.assert_array_equal(variable[:, -1, ::2].values, array[:, -1, ::2])
    np.testing.assert_array_equal(variable[[3, 0], ::-1].values, array[[3, 0], ::-1])
    np.testing.assert_array_equal(variable[1:3][:, 2:][0, :, [1, 1]].values, array[1:3][:, 2:][0][:, [1, 1]])


def test_threads_share_one_array(tmp_path) -> None:
    array = np.random.default_rng(1).random((3, 64, 64)).astype("f4")
    raw = _file(tmp_path / "a", array, "bip")
    wrong = []

    def work(row: int) -> None:
        for _ in range(50):
            if not np.array_equal(raw.read(slice(row, row + 8), slice(5, 60)), array[:, row : row + 8, 5:60]):
                wrong.append(row)

    threads = [threading.Thread(target=work, args=(r,)) for r in range(0, 32, 8)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert not wrong


def test_sparse_create_takes_no_disk(tmp_path) -> None:
    raw = RawArray.create(tmp_path / "a", (100, 1000, 1000), "f4")
    assert raw.path.stat().st_size == 400_000_000
    assert raw.path.stat().st_blocks * 512 < 1_000_000
    assert not raw.read(slice(3, 4), slice(0, 5)).any()


def test_bad_files_are_typed(tmp_path) -> None:
    with pytest.raises(ProductNotFound, match="does not exist"):
        RawArray(tmp_path / "none", (1, 1, 1), "f4")
    (tmp_path / "short").write_bytes(b"abc")
    with pytest.raises(BrokenProduct, match="3 bytes, expected 4"):
        RawArray(tmp_path / "short", (1, 1, 1), "f4")
    (tmp_path / "ok").write_bytes(bytes(64))
    raw = RawArray(tmp_path / "ok", (1, 4, 4), "f4")
    os.truncate(tmp_path / "ok", 32)
    with pytest.raises(BrokenProduct, match="ended at byte 32"):
        raw.read(slice(None), slice(None))
    for bad in ({"interleave": "bbq"}, {"byteorder": "="}, {"shape": (0, 1, 1)}, {"offset": -1}):
        with pytest.raises(BadCube):
            RawArray(**{"path": tmp_path / "ok", "shape": (1, 1, 1), "dtype": "f4", **bad})
    with pytest.raises(BadCube, match="inside"):
        RawArray.create(tmp_path / "w", (1, 4, 4), "f4").write(3, 0, np.zeros((1, 2, 4)))


def test_full_disk_is_output_failed(tmp_path, monkeypatch) -> None:
    raw = RawArray.create(tmp_path / "a", (1, 4, 4), "f4")

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(OutputFailed, match="disk is full"):
        raw.write(0, 0, np.zeros((1, 4, 4)))
    with pytest.raises(OutputFailed, match="cannot write"):
        RawArray.create(tmp_path / "no" / "where", (1, 1, 1), "f4")
