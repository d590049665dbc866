"""`--open KEY=VALUE`: options of readers on the command line, in run files, and through `--config`."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

import torchspectral as ts
from torchspectral.cli.app import main
from torchspectral.cli.options import parse_opening
from torchspectral.errors import BadSettings

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
import sentinel2_miniature as mini


@pytest.fixture(scope="module")
def safe(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A product whose bands come in three pixel sizes, under a name with spaces and umlauts."""
    folder = tmp_path_factory.mktemp("größe und ort")
    return mini.write_safe(folder, offsets=dict.fromkeys(range(13), -1000.0))[0]


def run(*words: object) -> int:
    """Exit code of a command."""
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return int(stop.value.code or 0)


def test_info_quicklook_and_spectrum_take_them(safe: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("info", safe, "--open", "resolution=20", "--json") == 0
    coarse = json.loads(capsys.readouterr().out)
    assert run("info", safe, "--json") == 0
    assert coarse["shape"][1:] == [n // 2 for n in json.loads(capsys.readouterr().out)["shape"][1:]]
    assert run("quicklook", safe, "-o", tmp_path / "a.png", "--open", "resolution=20") == 0
    assert run("spectrum", safe, "--pixel", "--at", "1", "1", "-o", tmp_path / "a.csv", "--open", "resolution=20") == 0
    assert len((tmp_path / "a.csv").read_text().strip().splitlines()) > 5


def test_convert_keeps_them_and_repeats_them(safe: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "a.tif", tmp_path / "b.tif"
    assert run("convert", safe, "-o", first, "--open", "resolution=20", "--mask", "clear") == 0
    known = yaml.safe_load((tmp_path / "a.tif.run.yaml").read_text())
    assert known["options"]["open"] == ["resolution=20"] and "cloud" in known["notes"][0]
    assert run("convert", safe, "--config", tmp_path / "a.tif.run.yaml", "-o", second) == 0
    assert ts.open(second).equals(ts.open(first))


@pytest.mark.parametrize(
    ("pairs", "says"),
    [
        (["resolution"], "expected KEY=VALUE"),
        (["a b=3"], "expected KEY=VALUE"),
        (["bands=3"], "--bands"),
        (["window=1"], "--bbox"),
        (["key=a", "key=b"], "twice"),
        (["key=[1"], "cannot read the value"),
    ],
)
def test_what_is_no_option_of_a_reader(pairs: list[str], says: str) -> None:
    with pytest.raises(BadSettings, match=says):
        parse_opening(pairs)


def test_numbers_as_people_type_them() -> None:
    pairs = ["scale=1e-4", "wavelength=[1E3, 2.5e-1, -3e+2]", "key=1e", "quantity=12e5x", "nodata=-9999"]
    got = parse_opening(pairs)
    assert got == {
        "scale": 1e-4,
        "wavelength": [1000.0, 0.25, -300.0],
        "key": "1e",
        "quantity": "12e5x",
        "nodata": -9999,
    }


def test_the_reader_says_what_it_knows(safe: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for pair, says in (("overlap=average", "has no option 'overlap'"), ("resolution=7", "expected")):
        assert run("info", safe, "--open", pair) == 2
        assert says in capsys.readouterr().err


@pytest.fixture(scope="module")
def mat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of two cubes: which one is opened is an option of its reader."""
    from scipy.io import savemat

    y, x = np.mgrid[:36, :32] / 9
    one = 0.5 + 0.2 * np.sin(y + np.arange(6)[:, None, None] / 2) * np.cos(x)
    noise = np.random.default_rng(0).normal(0, 0.01, one.shape)
    path = tmp_path_factory.mktemp("mat") / "two.mat"
    savemat(path, {"one": (one + noise).transpose(1, 2, 0), "two": (one * 2 + noise).transpose(1, 2, 0)})
    return path


def test_noise_degrade_score_and_simulate_take_them(
    mat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("noise", mat) == 2 and "key=" in capsys.readouterr().err
    assert run("noise", mat, "--open", "key=two", "-o", tmp_path / "noise.csv") == 0
    assert len((tmp_path / "noise.csv").read_text().strip().splitlines()) == 7
    noisy = tmp_path / "noisy.tif"
    assert run("degrade", mat, "--open", "key=one", "--set", "recipe=gaussian:30", "-o", noisy) == 0
    assert yaml.safe_load((tmp_path / "noisy.tif.run.yaml").read_text())["options"]["open"] == ["key=one"]
    capsys.readouterr()
    assert run("score", noisy, mat, "--open-truth", "key=one", "--json") == 0
    assert 10 < json.loads(capsys.readouterr().out)["PSNR"] < 40
    assert run("score", mat, mat, "--open", "key=two", "--open-truth", "key=one", "--json") == 0
    words = ["--open", "key=one", "--open", "wavelength=[450, 500, 550, 600, 650, 700]"]
    assert run("simulate", "wald", mat, *words, "--ratio", 2, "-o", f"{tmp_path}/pair/") == 0
    made = sorted((tmp_path / "pair").glob("truth.*.run.yaml"))
    assert yaml.safe_load(made[0].read_text())["options"]["open"] == words[1::2]


def test_coregister_takes_them_for_both(tmp_path: Path) -> None:
    from affine import Affine

    from torchspectral.geo import place

    rng = np.random.default_rng(1)
    scene = np.kron(rng.random((4, 20, 20)), np.ones((1, 4, 4))).astype(np.float32)
    for name, shift in (("a", 0), ("b", 2)):
        cube = ts.make_cube(np.roll(scene, shift, 2)[:, 4:68, 4:68], quantity="dn")
        ts.save(place(cube, Affine(10, 0, 500000, 0, -10, 4000000), "EPSG:32632"), tmp_path / f"{name}.tif")
    out = tmp_path / "out.tif"
    words = ("coregister", tmp_path / "a.tif", tmp_path / "b.tif", "-o", out)
    assert run(*words, "--open", "reader=envi") == 2 and not out.exists()
    assert run(*words, "--open", "quantity=dn", "--open-reference", "reader=geotiff") == 0
    known = yaml.safe_load((tmp_path / "out.tif.run.yaml").read_text())["options"]
    assert known["open"] == ["quantity=dn"] and known["open_reference"] == ["reader=geotiff"]


def test_benches_take_them(mat: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("bench", "restore", mat, "-m", "savitzky-golay", "--noise", "gaussian:30", "-o", tmp_path / "bench")
    assert run(*words) == 2 and "key=" in capsys.readouterr().err
    assert run(*words, "--open", "key=two") == 0 and (tmp_path / "bench" / "scores.csv").is_file()
    assert run("bench", "superres", mat, "-o", tmp_path / "b") == 2 and "key=" in capsys.readouterr().err
    assert run("bench", "sharpen", mat, "-o", tmp_path / "c", "--open", "nokey=1") == 2


def test_training_diagnosis_and_benches_take_them(
    safe: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from torchspectral.learn.scenes import open_scenes

    plain, coarse = open_scenes(safe)[0], open_scenes(safe, (), {"resolution": 20})[0]
    assert coarse.shape == tuple(n // 2 for n in plain.shape) and coarse.fingerprint != plain.fingerprint
    given = {}
    monkeypatch.setattr("torchspectral.learn.train.train", lambda *words, **more: given.update(more))
    monkeypatch.setattr("torchspectral.cli.show.print_result", lambda *words: None)
    words = ["train", "sharpen", "-m", "hyperpnn", "--data", safe, "-o", tmp_path / "run"]
    assert run(*words, "--open", "resolution=20", "--set", "patch=16", "steps=4") == 0
    assert given["opening"] == {"resolution": 20} and given["settings"] == {"patch": 16, "steps": 4}

    np.save(tmp_path / "cube.npy", np.zeros((9, 16, 12), np.float32))
    (tmp_path / "e.npy").touch()
    words = ["diagnose", tmp_path / "e.npy", "-o", tmp_path / "report/"]
    assert run(*words, "--open", "axes=byx") == 2 and "without --spectra" in capsys.readouterr().err

    class Stop(BadSettings):
        """Far enough."""

    def seen(*values: object, **more: object) -> None:
        given.update(more, first=values[0])
        raise Stop("seen")

    monkeypatch.setattr("torchspectral.diagnosis.base.diagnose", seen)
    assert run(*words, "--spectra", tmp_path / "cube.npy", "--open", "axes=yxb") == 2
    assert given["spectra"].shape == (12, 9, 16)
    monkeypatch.setattr("torchspectral.bench.unmixing.bench_unmixing", seen)
    words = ["bench", "unmix", "--scenes", tmp_path / "cube.npy", "-m", "vca-fcls", "-o", tmp_path / "b/"]
    assert run(*words, "--open", "scale=2") == 2 and "--scale" in capsys.readouterr().err
    assert run(*words, "--scale", "none", "--open", "axes=yxb") == 2
    assert given["first"][0].cube.shape == (12, 9, 16)
