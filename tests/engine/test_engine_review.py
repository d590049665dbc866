"""What a caller measures before the values are written reaches every file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

import torchspectral as ts
from torchspectral.engine import Output, Review, run
from torchspectral.errors import OutputExists


def cube():
    values = np.random.default_rng(0).random((4, 12, 10), dtype=np.float32)
    return ts.make_cube(values, wavelength=[500, 600, 700, 800], quantity="reflectance")


def review(seen: dict[str, Any]) -> Review:
    def look(values, report):
        seen["mean"] = float(values["cube"].mean())
        report.figures["mean"] = seen["mean"]
        report.notes.append("looked at")
        return {"means": pd.DataFrame({"mean": values["cube"].mean(("y", "x")).values})}

    return Review(look, (Output("means", kind="table"),))


@pytest.mark.parametrize("target", ["out.tif", "out.hdr", "folder/"])
def test_files_say_what_was_measured(tmp_path: Path, target: str) -> None:
    seen: dict[str, Any] = {}
    method = ts.create_method("restoration", "mnf")
    result = run(method, {"cube": cube()}, out=f"{tmp_path}/{target}", review=review(seen))
    assert seen["mean"] == pytest.approx(float(result["cube"].mean()), abs=1e-6)
    assert len(result["means"]) == 4 and next(iter(result)) == "cube"
    for name, path in result.paths.items():
        known = yaml.safe_load(Path(f"{path}.run.yaml").read_text())
        assert known["figures"]["mean"] == pytest.approx(seen["mean"]) and "looked at" in known["notes"], name
    assert ("means" in result.paths) == target.endswith("/")


def test_in_memory_and_kept_files(tmp_path: Path) -> None:
    method = ts.create_method("restoration", "mnf")
    result = run(method, {"cube": cube()}, review=review({}))
    assert result.report.figures["mean"] > 0 and "review" in result.report.seconds
    (tmp_path / "means.csv").write_text("mine")
    with pytest.raises(OutputExists, match=r"means\.csv"):
        run(method, {"cube": cube()}, out=f"{tmp_path}/", review=review({}))
