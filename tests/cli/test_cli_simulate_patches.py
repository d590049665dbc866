"""`torchspectral simulate patches`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from torchspectral.cli.app import main
from torchspectral.learn.patch_sets import open_patch_set


def test_simulate_patches(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["simulate", "patches", "-n", "4", "--sensor", "sentinel-2a", "--set", "size=8", "regions=2", "--json"]
    with pytest.raises(SystemExit) as stop:
        main([*words, "-o", str(tmp_path / "set")])
    told = json.loads(capsys.readouterr().out)
    assert not stop.value.code and told["report"]["figures"]["patches"] == 4
    assert len(open_patch_set(tmp_path / "set")) == 4
