"""The restoration bench: rows, files, methods that fail."""

from __future__ import annotations

import json

import numpy as np
import pytest

import torchspectral as ts
from torchspectral.bench.shared import bench_folder
from torchspectral.cli import main
from torchspectral.errors import OutputExists


def test_command_compares_methods(tmp_path, capsys) -> None:
    y, x = np.mgrid[:40, :40] / 20
    values = 0.5 + 0.2 * np.sin(y + np.arange(12)[:, None, None] / 4) * np.cos(x)
    ts.save(ts.make_cube(values.astype(np.float32), quantity="reflectance"), tmp_path / "scene.tif")
    with pytest.raises(SystemExit) as stop:
        main(
            (
                f"bench restore {tmp_path / 'scene.tif'} -o {tmp_path / 'bench'} --json "
                "-m savitzky-golay,wavelet --noise gaussian:30"
            ).split()
        )
    assert stop.value.code == 0
    json.loads(capsys.readouterr().out)
    lines = (tmp_path / "bench" / "scores.csv").read_text().splitlines()
    assert len(lines) == 4 and lines[1].startswith("noisy")
    psnr = [float(line.split(",")[2]) for line in lines[1:]]
    assert min(psnr[1:]) > psnr[0] + 2 and (tmp_path / "bench" / "scores.md").is_file()


def test_a_folder_with_a_bench_is_taken_only_when_asked(tmp_path) -> None:
    (tmp_path / "scores.csv").touch()
    with pytest.raises(OutputExists, match="ask to overwrite, or"):
        bench_folder(tmp_path, overwrite=False)
    with pytest.raises(OutputExists, match="ask to overwrite or to resume, or"):
        bench_folder(tmp_path, overwrite=False, resume=False)
    assert bench_folder(str(tmp_path), overwrite=False, resume=True) == bench_folder(tmp_path, overwrite=True)
    assert bench_folder(tmp_path, overwrite=False, written="report.html") == tmp_path
