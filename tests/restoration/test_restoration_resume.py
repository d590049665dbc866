"""A restoration that is killed goes on from the command line, and ends with the same bytes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import torchspectral as ts
from torchspectral.synth import mixed_scene

DYING = """
import os, signal, sys
from torchspectral.cli.app import main
from torchspectral.engine import fitting
from torchspectral.engine.journal import Journal

fitting.ROUND_SECONDS = 0
add, wanted = Journal.add, sys.argv[1]

def deadly(self, kind, **values):
    add(self, kind, **values)
    deadly.seen += kind == wanted
    if deadly.seen == 2:
        os.kill(os.getpid(), signal.SIGKILL)

deadly.seen = 0
Journal.add = deadly
sys.argv[1:] = sys.argv[2:]
main()
"""


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "settings"), [("block", ["robust=off"]), ("round", ["robust=on", "loops=3"])])
def test_killed_and_resumed_from_the_command_line(tmp_path: Path, kind: str, settings: list[str]) -> None:
    made = mixed_scene(5, 40, 36, seed=2, snr=25)
    ts.save(ts.make_cube(made.values, wavelength=made.wavelength, quantity="reflectance"), tmp_path / "scene.hdr")
    chosen = [part for pair in (*settings, "search=2", "patch=4") for part in ("--set", pair)]
    command = ["restore", "scene.hdr", "--method", "fast-eigen", *chosen, "--tile", "16x16"]

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, *words], cwd=tmp_path, capture_output=True, text=True, env=os.environ)

    killed = run("-c", DYING, kind, *command, "-o", "parts.hdr")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not (tmp_path / "parts.img").exists() and (tmp_path / ".parts.hdr.partial").is_dir()
    resumed = run("-m", "torchspectral.cli", *command, "-o", "parts.hdr", "--resume")
    assert resumed.returncode == 0, resumed.stderr
    assert not (tmp_path / ".parts.hdr.partial").exists()
    from torchspectral.cli.app import main

    whole = tmp_path / "whole.hdr"
    with pytest.MonkeyPatch.context() as patch, pytest.raises(SystemExit) as done:
        patch.chdir(tmp_path)
        patch.setattr(sys, "argv", ["torchspectral", *command, "-o", str(whole)])
        main()
    assert not done.value.code
    assert (tmp_path / "parts.img").read_bytes() == (tmp_path / "whole.img").read_bytes()
    assert np.isfinite(ts.open(whole).values).all()
