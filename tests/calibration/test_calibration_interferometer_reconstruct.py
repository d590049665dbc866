"""From a scene to interferograms and back, in memory, streamed, and by the command."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import torchspectral as ts
from torchspectral.calibration import interferometer as fp
from torchspectral.calibration.interferometer.figures import choose_rows
from torchspectral.calibration.interferometer.forward import trapezoid_weights
from torchspectral.cli import main
from torchspectral.errors import BadInput, BadSettings, BandMismatch, MissingMetadata

WAVELENGTH = 1000 / np.linspace(2.4, 1.05, 60)


def instrument(count: int = 150, reflectivity: float = 0.45, **more) -> fp.Characterization:
    random = np.random.default_rng(0)
    return fp.Characterization(
        np.arange(count)[:, None] * 0.2,
        np.full((count, 1), 3.0) * random.uniform(0.9, 1.1, (count, 1)),
        np.full((count, 1), reflectivity),
        random.uniform(0, 0.3, (count, 1)),
        wavenumber=np.linspace(1.0, 2.5, 90),
        name="toy",
        **more,
    )


def scene(rows: int = 6, cols: int = 5, wavelength: np.ndarray = WAVELENGTH):
    random = np.random.default_rng(1)
    centre, width = random.uniform(450, 900, (2, 1, rows, cols))[0], 60 + 60 * random.random((1, rows, cols))
    values = 0.2 + 0.6 * np.exp(-0.5 * ((wavelength[:, None, None] - centre) / width) ** 2)
    return ts.make_cube(values.astype(np.float32), wavelength=wavelength, quantity="reflectance")


def error(found, truth) -> float:
    return float(np.linalg.norm(found.values - truth.values) / np.linalg.norm(truth.values))


@pytest.mark.parametrize("response", ["relative", "absolute"])
def test_round_trip_at_one_percent_noise(response: str) -> None:
    wavelength = 1000 / np.linspace(2.45, 1.02, 74)
    device, cube = instrument(120, reflectivity=0.2), scene(2, 3, wavelength)
    y = fp.simulate(cube, device, response=response)
    assert y.sizes["band"] == device.count and y.attrs["quantity"] == "dn"
    y = y + 0.01 * float(y.std()) * np.random.default_rng(0).uniform(-1, 1, y.shape)
    errors = {}
    for method in ("ridge", "phillips-twomey", "pinv", *(("loris-verhoeven",) if response == "relative" else ())):
        result = ts.reconstruct(y, device, method=method, wavelength=wavelength, response=response)
        np.testing.assert_allclose(result["spectra"]["wavelength"], wavelength)
        errors[method] = error(result["spectra"], cube)
        assert result["rmse"].dims == ("layer", "y", "x")
    worst = errors.pop("pinv")
    assert max(errors.values()) < 0.05 and worst > max(errors.values()), (errors, worst)


def test_flagged_interferometers_are_left_out() -> None:
    flags = tuple(("large residual",) if i in (7, 90) else () for i in range(150))
    device, cube = instrument(), scene()
    y = fp.simulate(cube, device)
    y.values[[7, 90]] += 30.0
    y = y.assign_coords(good=("band", np.arange(150) != 33))
    y.values[33] = np.nan
    kept = ts.reconstruct(y, replace(device, flags=flags), wavelength=WAVELENGTH)
    assert error(kept["spectra"], cube) < 1e-3
    assert any("3 of 150 interferometers" in n for n in kept.report.notes)
    assert kept.report.figures["interferometers"] == 147
    used = ts.reconstruct(y, replace(device, flags=flags), wavelength=WAVELENGTH, flagged=True)
    assert error(used["spectra"], cube) > 10 * error(kept["spectra"], cube)


def test_a_real_round_trip_needs_short_paths_and_no_shared_grid() -> None:
    """Light is continuous, the instrument is characterised from noisy lines, and the wavelengths are its own."""
    sigma, wavelength = np.linspace(1.1, 2.3, 150), np.linspace(435, 909, 60)
    random = np.random.default_rng(0)
    opd = 0.35 + 0.35 * np.arange(40) + random.normal(0, 0.02, 40)
    one = np.ones(40)
    truth = fp.Characterization(opd, 900 * one, 0.25 * one, 0.3 * one, wavenumber=sigma)
    lines = truth.transfer(sigma)
    found = fp.characterise(lines + random.normal(0, 5, lines.shape), sigma, nominal_opd=0.35 + 0.35 * np.arange(40))
    assert (found.usable & ~found.good)[1:4].all(), "short paths are doubtful, not what they let through"
    cube = scene(4, 4, wavelength)
    y = fp.simulate(cube, truth, noise=0.0005)
    errors = {}
    for name, device in (("all", found), ("good", found.rows(found.good))):
        some = y if name == "all" else y.isel(band=found.good)
        x = ts.reconstruct(some, device)["spectra"]
        at = x["wavelength"].values
        wanted = np.apply_along_axis(lambda s, at=at: np.interp(at, wavelength, s), 0, cube.values)
        errors[name] = float(np.linalg.norm(x.values - wanted) / np.linalg.norm(wanted))
    assert errors["all"] < 0.05 and errors["good"] > 3 * errors["all"], errors


def test_the_matrix_integrates_what_lies_between_wavenumbers() -> None:
    device, coarse = instrument(40), np.linspace(1.1, 2.3, 30)
    fine = np.linspace(1.1, 2.3, 29 * 200 + 1)
    x = 0.2 + np.random.default_rng(0).random((30, 3))
    between = np.stack([np.interp(fine, coarse, s) for s in x.T], axis=1)
    for response in ("relative", "absolute"):
        a, b = (fp.forward_matrix(device, s, response=response) for s in (coarse, fine))
        np.testing.assert_allclose(a @ x, b @ between, rtol=1e-4)
        shuffled = np.random.default_rng(1).permutation(30)
        np.testing.assert_allclose(fp.forward_matrix(device, coarse[shuffled], response=response), a[:, shuffled])


def test_a_pixel_that_misses_interferograms_comes_back_empty() -> None:
    device, cube = instrument(), scene()
    y = fp.simulate(cube, device)
    y.values[4, 2, 3] = np.nan
    found = ts.reconstruct(y, device, wavelength=WAVELENGTH)["spectra"]
    assert np.isnan(found.values[:, 2, 3]).all() and np.isfinite(np.delete(found.values.reshape(60, -1), 13, 1)).all()


def test_files_tiles_and_wavelengths(tmp_path: Path) -> None:
    device, cube = instrument(), scene(30, 20)
    y = fp.simulate(cube, device, noise=0.005)
    whole = ts.reconstruct(y, device)
    np.testing.assert_allclose(whole["spectra"]["wavelength"], fp.default_wavelengths(device))
    ts.save(y, tmp_path / "y.tif")
    device.save(tmp_path / "device.json")
    result = ts.reconstruct(ts.open(tmp_path / "y.tif"), tmp_path / "device.json", out=tmp_path / "x.tif", tile=(8, 20))
    again = ts.open(tmp_path / "x.tif")
    np.testing.assert_allclose(again["wavelength"], whole["spectra"]["wavelength"], atol=1e-3)
    np.testing.assert_allclose(again.values, whole["spectra"].values, rtol=1e-4, atol=1e-5)
    assert result.report.settings["order"] == 2 and (tmp_path / "x.tif.run.yaml").exists()
    scaled = ts.reconstruct(y, device, out=tmp_path / "i.hdr", dtype="int16")
    assert ts.open(tmp_path / "i.hdr", raw=True).dtype == np.int16 and "int16" in scaled.report.scaled[0]
    np.testing.assert_allclose(scaled["spectra"].values, whole["spectra"].values, atol=1e-3)
    np.testing.assert_allclose(scaled["spectra"]["wavelength"], whole["spectra"]["wavelength"], atol=1e-3)


def test_off_axis_pixels_are_reconstructed_with_their_own_paths() -> None:
    layout = fp.Geometry((70, 130), (6, 6), (4, 4), (10, 15), "vertical", 0.0, 100.0, 12.0, "toy")
    device, cube = instrument(geometry=layout), scene(6, 6)
    image = fp.simulate(cube, device, mosaic=True)
    assert image.shape == (1, 70, 130)
    found = ts.reconstruct(image, device, wavelength=WAVELENGTH)
    assert error(found["spectra"], cube) < 0.01
    on_axis = replace(device, geometry=replace(layout, field_of_view=0.0))
    blind = ts.reconstruct(fp.subimages(image, device), on_axis, wavelength=WAVELENGTH)
    assert error(blind["spectra"], cube) > 3 * error(found["spectra"], cube)
    larger = fp.simulate(scene(12, 12), device)
    assert larger.shape == (150, 6, 6)


def test_lines_choose_the_regularisation() -> None:
    device, cube = instrument(), scene()
    sigma = np.linspace(1.0, 2.5, 90)
    lines = fp.Acquisition(device.transfer(sigma), sigma)
    y = fp.simulate(cube, device, noise=0.01, response="absolute")
    result = ts.reconstruct(y, device, method="ridge", wavelength=WAVELENGTH, response="absolute", lines=lines)
    assert result.report.figures["chosen_by"] == "known spectra"


def test_the_trapezoidal_rule_in_any_order() -> None:
    axis = np.array([2.0, 1.0, 1.5, 3.0])
    assert trapezoid_weights(axis) @ axis == pytest.approx((9 - 1) / 2)
    assert trapezoid_weights(axis).sum() == pytest.approx(2.0)


def test_what_does_not_fit_is_refused() -> None:
    device, cube = instrument(), scene()
    y = fp.simulate(cube, device)
    with pytest.raises(BandMismatch, match="149 bands for a device of 150"):
        ts.reconstruct(y[:-1], device)
    with pytest.raises(BadInput, match="characterised from 400 to 1000 nm"):
        ts.reconstruct(y, device, wavelength=np.linspace(300, 2000, 50))
    with pytest.raises(BadInput, match="no interferometer is left"):
        ts.reconstruct(y, replace(device, flags=(("large residual",),) * 150))
    with pytest.raises(BadSettings, match="reconstructs no spectra"):
        ts.reconstruct(y, device, method="reflectance")
    with pytest.raises(MissingMetadata, match="no wavelengths"):
        fp.simulate(y, device)
    with pytest.raises(MissingMetadata, match="layout"):
        fp.simulate(cube, device, mosaic=True)
    with pytest.raises(MissingMetadata, match="over which wavenumbers"):
        ts.reconstruct(y, replace(device, wavenumber=None))
    with pytest.raises(BadInput, match="no instrument"):
        ts.run(ts.create_method("calibration", "ridge"), {"interferogram": y})


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    device = instrument()
    ts.save(fp.simulate(scene(), device), tmp_path / "y.tif")
    device.save(tmp_path / "device.json")
    words = ["reconstruct", tmp_path / "y.tif", "--device", tmp_path / "device.json", "-o", tmp_path / "out.tif"]
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in [*words, "--wavelengths", "420:950:50", "--compute", "cpu", "--json"]])
    assert stop.value.code == 0, capsys.readouterr().err
    np.testing.assert_allclose(ts.open(tmp_path / "out.tif")["wavelength"], np.linspace(420, 950, 50), atol=1e-3)
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in [*words, "--wavelengths", "950:420", "--overwrite"]])
    assert stop.value.code == 2


def test_a_folder_becomes_a_device_with_pictures(samples: Path, tmp_path: Path) -> None:
    source = fp.read_acquisition(samples / "irca" / "imagaz_1").rows(slice(16, 22))
    folder = tmp_path / "acquisition"
    folder.mkdir()
    for name, value in (("data", source.data), ("norm", source.norm), ("central_wavenumbers", source.wavenumber)):
        np.save(folder / f"{name}.npy", value)
    result = fp.calibrate_folder(folder, tmp_path / "device.json", recipe="imagaz_1")
    for suffix in (".json", ".csv", ".png", ".fits.png", ".json.run.yaml"):
        assert (tmp_path / f"device{suffix}").stat().st_size > 200
    assert fp.load_device(tmp_path / "device.json").count == 6 == len(result["table"])
    rows = choose_rows(result["device"], 12)
    assert 1 <= len(rows) <= 12 and rows == sorted(set(rows))
    with pytest.raises(BadSettings, match="expected some of 0 to 5"):
        fp.fits_figure(result["device"], source, [99])
    folder_result = fp.calibrate_folder(folder, tmp_path / "folder", recipe="imagaz_1", pictures=False)
    assert (tmp_path / "folder" / "table.csv").exists() and len(folder_result.paths) == 2


_CHART = """
import json, sys
from pathlib import Path
import numpy as np
import torchspectral as ts
from calibrate_interferometer import _plot, chart, figure_png, fp
cube, device = chart(Path(sys.argv[1]))
y = fp.simulate(cube, device, noise=0.001)
kept, error = {}, {}
for method in ("phillips-twomey", "ridge", "pinv"):
    x = ts.reconstruct(y, device, method=method, wavelength=cube["wavelength"].values)["spectra"].values
    kept[0.001, method], error[method] = x, float(np.linalg.norm(x - cube.values) / np.linalg.norm(cube.values))
Path(sys.argv[2]).write_bytes(figure_png(_plot(cube, kept)))
print(json.dumps(error))
"""


@pytest.mark.slow
def test_a_chart_through_the_real_instrument(samples: Path, tmp_path: Path) -> None:
    """24 smooth reflectances on the ColorChecker image's wavenumbers come back, and are drawn, as in the benchmark."""
    words = [sys.executable, "-c", _CHART, str(samples), str(tmp_path / "chart.png")]
    benchmarks = Path(__file__).resolve().parents[2] / "benchmarks"
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=600, cwd=benchmarks)
    error = json.loads(done.stdout.splitlines()[-1])
    assert error["phillips-twomey"] < 0.03 and error["pinv"] > 2 * error["phillips-twomey"], error
    assert (tmp_path / "chart.png").stat().st_size > 20_000
