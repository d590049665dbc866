"""Other processes: order, errors, and a Dask cluster."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import numpy as np
import pytest
from engine_methods import Blur, Contrast, Learn, scene
from engine_stages import Square

import torchspectral as ts
from torchspectral.engine import executor
from torchspectral.errors import BadInput, BadSettings


def test_records_come_in_order(pool):
    expected = [n**2 for n in range(30)]
    assert list(executor.Workers(1).run(Square(), range(30))) == expected
    assert list(pool.run(Square(), range(30))) == expected
    assert list(pool.run(Square(), [])) == []


def test_errors_travel(pool):
    for workers in (executor.Workers(1), pool):
        with pytest.raises(BadInput, match="item 5"):
            list(workers.run(Square(fail_at=5), range(30)))


def test_a_generator_that_is_left_cleans_up(pool):
    for workers in (executor.Workers(1), pool):
        run = workers.run(Square(), range(1000))
        assert next(run) == 0
        run.close()


@pytest.mark.parametrize("workers", [0, -1, 1.5, "two"])
def test_bad_numbers_of_workers(workers):
    with pytest.raises(BadSettings):
        ts.RunOptions(workers=workers)


SCRIPT = """
import os, signal, sys, time
sys.path.insert(0, {tests!r})
from engine_stages import Square
from torchspectral.engine.executor import Workers
from torchspectral.errors import TooLarge
workers = Workers(2)
pids = list(workers._start()._processes)
print(*pids, flush=True)
if "die" in sys.argv:
    try:
        list(workers.run(Square(die_at=7), range(30)))
    except TooLarge as error:
        print(error)
    workers.close()
else:
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("how", ["die", pytest.param("orphan", marks=pytest.mark.slow)])
def test_scripts_need_no_guard_and_leave_no_process(how, tmp_path):
    from pathlib import Path

    script = tmp_path / "script.py"
    script.write_text(SCRIPT.format(tests=str(Path(__file__).parent)))
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    done = subprocess.run([sys.executable, script, how], capture_output=True, text=True, env=env, timeout=60)
    first, *rest = done.stdout.splitlines()
    pids = [int(p) for p in first.split()]
    assert len(pids) == 2, done.stderr
    if how == "die":
        assert done.returncode == 0 and "fewer workers" in rest[0], done.stderr
    deadline = time.monotonic() + 10
    while any(os.path.exists(f"/proc/{pid}") for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not any(os.path.exists(f"/proc/{pid}") for pid in pids)


def test_a_scheduler_that_does_not_answer(monkeypatch):
    with pytest.raises(BadSettings, match="cannot reach a Dask scheduler"):
        ts.run(Blur(), {"cube": scene()}, options=ts.RunOptions(cluster="nonsense://127.0.0.1:1"))
    # A client that failed must not be left for the next dask computation to wait for.
    distributed = pytest.importorskip("distributed")
    with pytest.raises(ValueError, match="No global client"):
        distributed.get_client(timeout=0.1)


@pytest.mark.parametrize(
    "method",
    [Learn(), pytest.param(Blur(), marks=pytest.mark.slow), pytest.param(Contrast(), marks=pytest.mark.slow)],
    ids=lambda m: type(m).__name__,
)
def test_dask_cluster_gives_the_same_bytes(method):
    distributed = pytest.importorskip("distributed")
    cube = scene()
    one = ts.run(method, {"cube": cube})
    with (
        distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as local,
        distributed.Client(local) as client,
    ):
        for cluster in (client, local.scheduler_address):
            many = ts.run(method, {"cube": cube}, options=ts.RunOptions(cluster=cluster))
            np.testing.assert_array_equal(one["cube"], many["cube"])


@pytest.mark.slow
def test_local_cluster_by_name():
    cube = scene()
    one, many = (ts.run(Blur(), {"cube": cube}, options=ts.RunOptions(workers=2, cluster=c)) for c in (None, "local"))
    np.testing.assert_array_equal(one["cube"], many["cube"])


def test_workers_end_quietly(tmp_path, capfd):
    lazy = ts.open(ts.save(scene(), tmp_path / "scene.hdr"))
    ts.run(Blur(), {"cube": lazy}, out=tmp_path / "out.hdr", options=ts.RunOptions(workers=2, tile=(16, 16)))
    assert capfd.readouterr().err == ""
