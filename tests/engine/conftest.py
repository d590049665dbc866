"""One pair of worker processes for all tests of a file: starting them costs seconds."""

from __future__ import annotations

import pytest

import torchspectral as ts
from torchspectral.engine import executor
from torchspectral.engine.method import Scope


@pytest.fixture(scope="session")
def pool():
    shared = executor.Workers(2)
    shared._start()
    yield shared
    shared.close()


@pytest.fixture
def two_workers(pool, monkeypatch):
    """`run` with two processes, small tiles and no new start."""

    def start(self):
        return pool._executor

    def run(method, inputs, **options):
        if not isinstance(inputs, dict):
            inputs = {"cube": inputs}
        if method.scope not in (Scope.TILE, Scope.SCENE):
            options.setdefault("tile", (16, 16))
        with monkeypatch.context() as patch:
            patch.setattr(executor.Workers, "_start", start)
            return ts.run(method, inputs, options=ts.RunOptions(workers=2, **options))

    return run
