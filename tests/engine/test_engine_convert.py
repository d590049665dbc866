"""`convert` and `stream`: nothing computed means nothing changed; killed and resumed."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from affine import Affine

import torchspectral as ts
from torchspectral.engine import streaming
from torchspectral.engine.journal import partial_folder
from torchspectral.errors import Interrupted, JournalMismatch, OutputExists
from torchspectral.geo import grid_of, place

FORK = multiprocessing.get_context("fork")


@pytest.fixture(params=["bsq", "bil", "bip"])
def product(request, tmp_path):
    """An ENVI product of scaled integers in each interleave."""
    rng = np.random.default_rng(0)
    numbers = rng.integers(0, 10000, (12, 70, 40)).astype(np.int16)
    numbers[:, :5, :7] = -9999
    cube = ts.make_cube(
        numbers,
        wavelength=np.linspace(430, 2400, 12),
        fwhm=np.full(12, 200.0),
        good=np.arange(12) != 6,
        quantity="reflectance",
        attrs={"packing": {"scale": [1e-4], "offset": [0.0], "nodata": -9999}},
    )
    cube = place(cube, Affine(30, 0, 500000, 0, -30, 4000000), "EPSG:32632")
    (tmp_path / "in").mkdir()
    return ts.save(cube, tmp_path / "in" / "scene.hdr", interleave=request.param)


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 5000)
    monkeypatch.setattr(streaming, "RUN_BYTES", 5000)


def raw_of(path):
    from torchspectral.io import open_product

    return open_product(path, raw=True)


@pytest.mark.parametrize("name", ["out.hdr", "out.tif", "out.zarr"])
def test_stored_integers_stay_what_they_are(product, tmp_path, name):
    result = ts.convert(product, tmp_path / name)
    a, b = raw_of(product), raw_of(tmp_path / name)
    assert b.dtype == np.int16 and b.attrs["packing"]["scale"] == a.attrs["packing"]["scale"]
    np.testing.assert_array_equal(a, b)
    for coordinate in ("wavelength", "fwhm", "good", "number", "x", "y"):
        np.testing.assert_array_equal(a[coordinate], b[coordinate])
    assert grid_of(a) == grid_of(b)
    np.testing.assert_array_equal(result.primary, ts.open(product))
    assert result.report.method == "convert" and (tmp_path / f"{name}.run.yaml").exists()


def test_envi_keeps_its_interleave_and_bytes(product, tmp_path):
    ts.convert(product, tmp_path / "out.hdr")
    assert (tmp_path / "out.img").read_bytes() == product.with_suffix(".img").read_bytes()


def test_cuts_of_bands_and_windows_compute_nothing(product, tmp_path):
    source = raw_of(product)
    box = (500000 + 30 * 4, 4000000 - 30 * 50, 500000 + 30 * 31, 4000000 - 30 * 2)
    ts.convert(product, tmp_path / "out.hdr", bbox=box, bands="good")
    out = raw_of(tmp_path / "out.hdr")
    expected = source.isel(band=source["good"].values, y=slice(2, 50), x=slice(4, 31))
    assert out.dtype == np.int16
    np.testing.assert_array_equal(out, expected)
    np.testing.assert_array_equal(out["x"], expected["x"])
    ts.convert(product, tmp_path / "few.tif", bands=[3, 1])
    np.testing.assert_array_equal(raw_of(tmp_path / "few.tif"), source.isel(band=[3, 1]))


def test_masks_and_sensors(product, tmp_path):
    cube = ts.open(product)
    keep = cube[0].drop_vars("band", errors="ignore").copy(data=np.random.default_rng(1).random((70, 40)) > 0.5)
    out = ts.convert(product, tmp_path / "masked.hdr", mask=keep).primary
    np.testing.assert_array_equal(np.isnan(out.values), ~keep.values[None] | np.isnan(cube.values))
    result = ts.convert(product, tmp_path / "s2.tif", resample="sentinel-2a")
    np.testing.assert_allclose(result.primary, ts.resample(cube, "sentinel-2a"), rtol=1e-6)
    assert result.report.resampled


def test_workers_write_the_same_file(product, tmp_path, pool, monkeypatch):
    monkeypatch.setattr(streaming, "BLOCK_BYTES", 5000)
    ts.convert(product, tmp_path / "one.hdr", resample=ts.open(product)["wavelength"].values[1:5] + 20)
    monkeypatch.setattr("torchspectral.engine.executor.Workers._start", lambda self: pool._executor)
    ts.convert(product, tmp_path / "two.hdr", resample=ts.open(product)["wavelength"].values[1:5] + 20, workers=2)
    assert (tmp_path / "one.img").read_bytes() == (tmp_path / "two.img").read_bytes()


def dying(fraction, number):
    def progress(step):
        if step.fraction >= fraction:
            os.kill(os.getpid(), number)
            time.sleep(5)

    return progress


@pytest.mark.parametrize("options", [{}, {"bands": "good"}], ids=["whole", "cut"])
def test_killed_and_resumed(product, tmp_path, small_blocks, options):
    out = tmp_path / "out.hdr"
    more = {"progress": dying(0.5, signal.SIGKILL), **options}
    process = FORK.Process(target=ts.convert, args=(product, out), kwargs=more)
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL and partial_folder(out).is_dir() and not out.exists()
    with pytest.raises(OutputExists, match="half-done"):
        ts.convert(product, out, **options)
    with pytest.raises(JournalMismatch):
        ts.convert(product, out, bands=[1, 2], resume=True)
    steps = []
    ts.convert(product, out, resume=True, progress=steps.append, **options)
    assert steps[0].fraction > 0.4
    source = raw_of(product)
    np.testing.assert_array_equal(raw_of(out), source.isel(band=source["good"].values) if options else source)
    assert not partial_folder(out).exists()


def test_ctrl_c(product, tmp_path, small_blocks):
    out = tmp_path / "out.hdr"
    with pytest.raises(Interrupted, match="resume"):
        ts.convert(product, out, progress=dying(0.3, signal.SIGINT))
    ts.convert(product, out, overwrite=True)
    np.testing.assert_array_equal(raw_of(out), raw_of(product))


def test_copying_without_the_kernels_help(product, tmp_path, monkeypatch):
    def cannot(*numbers):
        raise OSError(18, "Invalid cross-device link")

    monkeypatch.setattr(os, "copy_file_range", cannot)
    ts.convert(product, tmp_path / "out.hdr")
    assert (tmp_path / "out.img").read_bytes() == product.with_suffix(".img").read_bytes()


def test_converting_imports_no_torch():
    code = "import sys, torchspectral as ts; import torchspectral.engine.convert; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
