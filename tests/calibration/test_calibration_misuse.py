"""What a hostile file, or a tired user, does to calibration: one clear refusal, and nothing left behind."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from gain_data import lines, texture

import torchspectral as ts
from torchspectral.calibration import interferometer as fp
from torchspectral.calibration import read_gains
from torchspectral.calibration.gain.ground import lines_by_shift, sum_cells
from torchspectral.cli import main
from torchspectral.errors import BadInput, BadSettings, BrokenProduct, OutputFailed, TorchspectralError

SIGMA = np.linspace(1.0, 2.0, 60)


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return int(stop.value.code or 0)


def device(count: int = 24) -> fp.Characterization:
    flat = np.ones(count)
    return fp.Characterization(1 + 0.4 * np.arange(count), flat, 0.2 * flat, 0 * flat, wavenumber=SIGMA, name="toy")


def interferogram() -> object:
    wavelength = 1000 / np.linspace(1.95, 1.05, 20)
    values = 0.2 + 0.5 * np.exp(-0.5 * ((wavelength[:, None, None] - 700 - 9 * np.arange(4)) / 90) ** 2)
    cube = ts.make_cube(np.repeat(values, 3, 1).astype(np.float32), wavelength=wavelength, quantity="reflectance")
    return fp.simulate(cube, device())


# Devices


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"domain": [1, 1]}, "domain"),
        ({"domain": [1]}, "no whole device file"),
        ({"domain": [2, 1]}, "domain"),
        ({"wavenumber": []}, "do not ascend"),
        ({"wavenumber": [2, 1]}, "do not ascend"),
        ({"wavenumber": [None, 1, 2]}, "do not ascend"),
        ({"wavenumber": [0, 1]}, "do not ascend"),
        ({"wavenumber": [1e300, 2e300]}, "do not ascend"),
        ({"parameters": {"opd": [[1e300]] * 24}}, "path differences of up to 1e\\+300"),
        ({"parameters": {"gain": [[1.0] * 5000] * 24}}, "at most 64"),
        ({"parameters": {"reflectivity": [[1e999]] * 24}}, "not finite"),
        ({"recipe": "abc"}, "no list of steps"),
        ({"geometry": {"image_size": [10**6, 10**6], "subimage_size": [9, 9], "subimage_center": [5, 5],
                       "subimage_amount": [4, 6]}}, "at most 268435456 pixels"),
    ],
)  # fmt: skip
def test_hostile_devices_are_refused(tmp_path: Path, change: dict, message: str) -> None:
    device().save(tmp_path / "d.json")
    whole = json.loads((tmp_path / "d.json").read_text())
    change = {n: {**whole[n], **v} if n == "parameters" else v for n, v in change.items()}
    (tmp_path / "d.json").write_text(json.dumps({**whole, **change}))
    with pytest.raises(TorchspectralError, match=message):
        fp.load_device(tmp_path / "d.json")


def test_a_device_cut_anywhere_is_refused(tmp_path: Path) -> None:
    device(3).save(tmp_path / "d.json")
    text = (tmp_path / "d.json").read_text()
    for end in range(0, len(text), 97):
        (tmp_path / "d.json").write_text(text[:end])
        with pytest.raises(BrokenProduct):
            fp.load_device(tmp_path / "d.json")


def test_strengths_and_wavelengths_beyond_reason() -> None:
    y = interferogram()
    for method, settings in (
        ("phillips-twomey", {"regularisation": 1e308}),
        ("ridge", {"regularisation": 1e308, "non_negative": True}),
        ("loris-verhoeven", {"regularisation": float("inf")}),
        ("tsvd", {"ratio": float("nan")}),
    ):
        with pytest.raises(BadSettings, match="expected"):
            ts.reconstruct(y, device(), method=method, settings=settings)
    with pytest.raises(BadInput, match="at most 8192"):
        ts.reconstruct(y, device(), wavelength=np.linspace(500, 900, 100_000))
    opaque = device()
    opaque.reflectivity[3] = 1.0
    opaque.opd[3] = opaque.phase_shift[3] = 0.0
    with pytest.raises(BadInput, match="number 3"):
        fp.forward_matrix(opaque, SIGMA)


def test_a_reconstruction_is_repeated_by_its_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    ts.save(interferogram(), "y.tif")
    device().save("d.json")
    words = ["--wavelengths", "520:940:15", "--set", "order=1", "--flagged", "--dtype", "int16"]
    assert run("reconstruct", "y.tif", "--device", "d.json", *words, "-o", "x.tif") == 0
    assert run("reconstruct", "--config", "x.tif.run.yaml", "-o", "again.tif") == 0
    assert Path("x.tif").read_bytes() == Path("again.tif").read_bytes()
    np.testing.assert_allclose(ts.open("x.tif")["wavelength"], np.linspace(520, 940, 15), atol=1e-3)


# Acquisitions


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"data": 0 * SIGMA[None]}, "all data are zero"),
        ({"data": 1e200 * SIGMA[None]}, "at most 1e\\+100"),
        ({"norm": 0 * SIGMA[None]}, "no interferometer has a norm above 0"),
        ({"wavenumber": np.r_[SIGMA[:5], SIGMA[4:-1]]}, "do not ascend"),
    ],
)
def test_hopeless_acquisitions_are_refused(change: dict, message: str) -> None:
    with pytest.raises(BadInput, match=message):
        fp.characterise(**{"data": 1 + 0.1 * SIGMA[None], "wavenumber": SIGMA, **change})


def test_a_dark_flat_field_is_flagged_and_tiny_numbers_are_no_loss() -> None:
    data = 1 + 0.4 * np.cos(2 * np.pi * np.array([[4.0], [5.1], [6.2]]) * SIGMA)
    norm = np.ones_like(data)
    norm[1] = -1
    found = fp.characterise(1e-200 * data, SIGMA, norm=norm)
    assert "no signal" in found.flags[1] and all("no signal" not in found.flags[i] for i in (0, 2))
    np.testing.assert_allclose(found.rmse, fp.characterise(data, SIGMA, norm=norm).rmse, rtol=1e-6)


def test_an_acquisition_is_never_written_over_and_a_failure_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "acquisition"
    folder.mkdir()
    np.save(folder / "data.npy", 1 + 0.4 * np.cos(2 * np.pi * np.array([[4.0], [5.1]]) * SIGMA))
    np.save(folder / "central_wavenumbers.npy", SIGMA)
    for name in ("", "device.json", "options.json"):
        with pytest.raises(OutputFailed, match="part of the acquisition"):
            fp.calibrate_folder(folder, folder / name, pictures=False, overwrite=True)

    def full(*_: object, **__: object) -> None:
        raise OutputFailed("no space left")

    monkeypatch.setattr(fp.Characterization, "save", full)
    with pytest.raises(OutputFailed, match="no space"):
        fp.calibrate_folder(folder, tmp_path / "d.json", pictures=False)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["acquisition"]


# Gains


def test_far_apart_lines_cost_what_they_hold() -> None:
    cubes, _ = lines(texture(1, 40, 60), (0, 7, 12), 40)
    near = lines_by_shift(cubes, [(0, 0), (3, 7), (0, 12)])
    far = lines_by_shift([*cubes, cubes[0]], [(0, 0), (3, 7), (0, 12), (1_000_000_000, 0)])
    band = np.arange(1)
    for one, other in zip(sum_cells(near, band), sum_cells(far, band), strict=True):
        np.testing.assert_allclose(one.form(0), other.form(0))
    with pytest.raises(BadSettings, match="expected at most"):
        lines_by_shift(cubes, [(0, 0), (0, 7), (0, 10**20)])


def test_gains_of_wrong_shifts_and_of_nothing() -> None:
    cubes, _ = lines(texture(1, 40, 60), (0, 7, 12), 40)
    right = [(0, 0), (0, 7), (0, 12)]
    found = ts.calibrate_gain(cubes, shifts=[(0, 0), (-3, -7), (0, 12)])
    assert any("explain little" in note for note in found.report.notes)
    assert not ts.calibrate_gain(cubes, shifts=right).report.notes
    with pytest.raises(BadInput, match="agree better than noise"):
        ts.calibrate_gain(cubes, shifts=right, settings={"snr": 1})
    for word in ("banana", "cuda:99"):
        with pytest.raises(BadSettings, match="device"):
            ts.calibrate_gain(cubes, shifts=right, device=word)
    for method in ("moments", "histogram", "polynomial"):
        with pytest.raises(BadInput, match="no gains written"):
            ts.calibrate_gain(cubes[0] * 0, method=method)
    with pytest.raises(BadInput, match="above the signal"):
        ts.calibrate_gain(cubes[0], method="moments", dark=float(cubes[0].mean()))


@pytest.mark.parametrize(
    "row", ["1,0,1", "1.5,1,1", "1e300,1,1", "1,1,0", "1,1,-1", "1,2000000000,1", "1,1,inf"], ids=str
)
def test_gains_that_are_none(tmp_path: Path, row: str) -> None:
    (tmp_path / "g.csv").write_text(f"band,detector,gain\n{row}\n")
    with pytest.raises(BrokenProduct):
        read_gains(tmp_path / "g.csv")


def test_what_stops_the_correction_is_said_before_gains_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    ts.save(ts.make_cube(np.random.default_rng(0).uniform(1, 2, (1, 30, 9))), "line.hdr")
    before = sorted(tmp_path.iterdir())
    words = ["calibrate", "gain", "line.hdr", "-m", "moments", "-o", "g.csv"]
    for more in (["--apply", "."], ["--apply", "new/", "--dtype", "float17"], ["--apply", "line.hdr"]):
        assert run(*words, *more) == 2
    assert run("calibrate", "gain", "line.hdr", "-m", "magic", "-o", "g.csv", "--dry-run") == 2
    assert sorted(tmp_path.iterdir()) == before
    capfd.readouterr()


# Reflectance


def references(level: int = 4000, dtype: type = np.uint16) -> list:
    return [
        ts.make_cube(np.full((3, rows, 5), value, dtype), wavelength=[500.0, 600.0, 700.0])
        for rows, value in ((6, 2000), (4, level), (4, 100))
    ]


def test_bands_that_are_left_out_may_saturate() -> None:
    raw, white, dark = references()
    white.values[1] = 65535
    with pytest.raises(BadInput, match="in 1 of 3 bands"):
        ts.calibrate_reflectance(raw, white, dark)
    found = ts.calibrate_reflectance(raw, white, dark, bands=[0, 2])
    assert np.isnan(found["cube"].values[1]).all() and np.isfinite(found["cube"].values[[0, 2]]).all()
    assert found.report.figures["bad_detector_pixels"] == 0 and found.report.options["bands"] == [0, 2]


@pytest.mark.parametrize(("dtype", "top"), [(np.int16, 2**15 - 1), (np.int32, 2**31 - 1), (np.uint32, 2**32 - 1)])
def test_the_top_of_a_type_is_saturation(dtype: type, top: int) -> None:
    raw, white, dark = references(top, dtype)
    with pytest.raises(BadInput, match="white panel saturates"):
        ts.calibrate_reflectance(raw, white, dark)


@pytest.mark.parametrize("time", [0, -1.0, float("nan"), "long"])
def test_a_header_time_that_is_none_is_unknown(time: object) -> None:
    raw, white, dark = references()
    raw.attrs["integration_time"], white.attrs["integration_time"] = time, 5.0
    told = ts.calibrate_reflectance(raw, white, dark).report
    assert told.figures["integration_time_ratio"] == 1 and any("not known" in note for note in told.notes)


def test_references_without_values_are_named() -> None:
    raw, white, dark = references()
    empty = (white * np.nan).assign_attrs(white.attrs)
    with pytest.raises(BadInput, match="the white reference has no values"):
        ts.calibrate_reflectance(raw, empty, dark)
    with pytest.raises(BadInput, match="the dark has no values"):
        ts.calibrate_reflectance(raw, white, empty)
