"""The toy recipe in place of a room's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    import toy_recipe

    from torchspectral.learn import train as module

    monkeypatch.setattr(module, "find_recipe", lambda task, method, settings=None: toy_recipe.recipe(method, settings))
