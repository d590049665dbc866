"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent


def shared_root() -> Path | None:
    """Folder with `data`, `parity` and `specs`, where this checkout has one beside it."""
    given = os.environ.get("TORCHSPECTRAL_SAMPLES")
    for place in ([Path(given)] if given else []) + [ROOT.parent / "shared", ROOT / "shared"]:
        if (place / "data").is_dir():
            return place
    return None


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--require-samples", action="store_true", help="fail where a test would skip")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo):
    report = yield
    if item.config.getoption("--require-samples") and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
    return report


def _folder(name: str) -> Path:
    root = shared_root()
    if root is None:
        pytest.skip("the shared samples are not beside this checkout (set TORCHSPECTRAL_SAMPLES)")
    return root / name


@pytest.fixture(scope="session")
def samples() -> Path:
    """Folder of real sample data."""
    return _folder("data")


@pytest.fixture(scope="session")
def parity_dir() -> Path:
    """Folder of the parity cases."""
    return _folder("parity")


@pytest.fixture(scope="session")
def enmap_block(samples: Path) -> Any:
    """Four EnMAP tiles as one cube of raw numbers, read by GDAL alone; bands without values are left out."""
    import numpy as np
    import rasterio

    import torchspectral as ts

    columns = []
    for x in (128, 160):
        tiles = []
        for y in (96, 128):
            with rasterio.open(samples / f"enmap/images/enmap_potsdam_tile_{x}_{y}.tif") as file:
                tiles.append(file.read())
                tags = [file.tags(i) for i in file.indexes]
        columns.append(np.concatenate(tiles, axis=1))
    image = np.concatenate(columns, axis=2)
    good = (image != -32768).all((1, 2))
    wave, width = (np.array([float(t[name]) for t in tags])[good] for name in ("wavelength", "fwhm"))
    return ts.make_cube(image[good], wavelength=wave, fwhm=width)


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    try:
        import torch
    except ImportError:
        return
    torch.set_num_threads(1)


@pytest.fixture(autouse=True, scope="session")
def _ctrl_c() -> None:
    """Shells start background jobs with Ctrl-C ignored; tests of it need the usual handler."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
