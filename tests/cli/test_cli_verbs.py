"""Every verb end to end: what it writes, that it repeats, and that it leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import typer.main
from affine import Affine

import torchspectral as ts
from torchspectral.cli import main
from torchspectral.cli.app import VERBS, build
from torchspectral.geo.grids import grid_of, place


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return int(stop.value.code or 0)


def make_scene(path: Path, size: int = 32, bands: int = 24, seed: int = 0) -> Path:
    """Three materials in smooth shares, and a little noise."""
    rng = np.random.default_rng(seed)
    rows, cols = np.mgrid[0:size, 0:size] / size
    shares = np.stack([rows, (1 - rows) * cols, (1 - rows) * (1 - cols)])
    pure = 0.1 + 0.5 * rng.random((3, bands))
    values = np.einsum("kb,kyx->byx", pure, shares) + rng.normal(0, 0.002, (bands, size, size))
    cube = ts.make_cube(
        values.astype(np.float32),
        wavelength=np.linspace(450, 900, bands),
        fwhm=np.full(bands, 20.0),
        quantity="reflectance",
    )
    ts.save(place(cube, Affine(30, 0, 362175, 0, -30, 5809965), 32633), path)
    return path


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return make_scene(Path("scene.tif"))


def listing(folder: Path = Path()) -> set[str]:
    return {str(p) for p in folder.rglob("*")}


@cache
def commands() -> list[tuple[str, object]]:
    root = typer.main.get_command(build())
    found = []
    for name, command in root.commands.items():
        found += [(f"{name} {n}", c) for n, c in getattr(command, "commands", {}).items()] or [(name, command)]
    return found


def examples(command: object) -> list[str]:
    return re.findall(r"Example: torchspectral (.+)", command.help)


# What the examples of `--help` talk about; made from one small scene.
def _samples(folder: Path) -> None:
    make_scene(folder / "scene.tif")
    (folder / "scenes").mkdir()
    make_scene(folder / "scenes" / "a.tif", size=64, seed=1)
    assert run("simulate", "wald", "scene.tif", "--ratio", "4", "-o", "pair/") == 0
    for name in ("hs", "pan"):
        (folder / f"{name}.tif").write_bytes((folder / "pair" / f"{name}.tif").read_bytes())
    ts.save(ts.open(folder / "pair" / "truth.tif").isel(band=slice(0, 4)), folder / "guide.tif")
    assert run("sharpen", "hs.tif", "pan.tif", "-o", "sharp.tif") == 0
    for made in ("minerals.sli", "e.csv"):
        assert run("endmembers", "scene.tif", "-k", "3", "-o", made) == 0
    assert run("classify", "scene.tif", "--library", "minerals.sli", "-o", "classes.tif") == 0
    _fields(folder)
    for made in ("model.safetensors", "model.pth"):
        import torch

        torch.save({"a.weight": torch.zeros(2, 2)}, folder / made) if made.endswith("pth") else None
    moved = ts.open(folder / "scene.tif")
    ts.save(moved, folder / "reference.tif")
    embedded = ts.make_layers(moved.values[:6] * 2, [f"e{n}" for n in range(6)])
    ts.save(embedded.assign_coords({c: moved[c] for c in ("y", "x", "spatial_ref")}), folder / "embeddings.tif")
    _instrument(folder)


def _fields(folder: Path) -> None:
    import geopandas
    from shapely import box

    cube = ts.open(folder / "scene.tif")
    west, south, east, north = grid_of(cube).bounds
    middle = (west + east) / 2
    fields = geopandas.GeoDataFrame(
        {"class": ["endmember 1", "endmember 2"]},
        geometry=[box(west, south, middle, north), box(middle, south, east, north)],
        crs=str(grid_of(cube).crs),
    )
    fields.to_file(folder / "fields.gpkg")


def _instrument(folder: Path) -> None:
    from torchspectral.calibration.interferometer import Characterization, simulate

    opd, flat = 1 + 0.35 * np.arange(40), np.ones(40)
    device = Characterization(opd, flat, 0.2 * flat, 0 * flat, wavenumber=np.linspace(1.12, 2.2, 60))
    device.save(folder / "device.json")
    ts.save(simulate(ts.open(folder / "scene.tif"), device), folder / "interferogram.tif")


# Each has a test of its own.
SLOW_EXAMPLES = {
    "demo", "train", "weights add", "calibrate interferometer", "calibrate gain", "calibrate reflectance",
    "bench superres", "bench unmix", "bench backbones", "simulate patches",
}  # fmt: skip


def test_every_example_works_when_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TORCHSPECTRAL_HOME", str(tmp_path / "home"))
    _samples(tmp_path)
    for verb, command in commands():
        found = examples(command)
        assert found, f"{verb} has no example"
        for example in found:
            assert example.split()[: len(verb.split())] == verb.split(), example
            if verb in SLOW_EXAMPLES or "runs/" in example:  # what a training leaves
                continue
            words = shlex.split(example)
            for n, word in enumerate(words[:-1]):  # outputs of other examples stand in the way
                if word == "-o" and (tmp_path / words[n + 1]).exists():
                    words[n + 1] = f"again-{words[n + 1]}"
            capfd.readouterr()
            assert run(*words) == 0, (example, capfd.readouterr().err)


@pytest.mark.parametrize("verb", [v for v, _ in commands()])
def test_help_tells_units_and_defaults(verb: str) -> None:
    command = dict(commands())[verb]
    for param in command.params:
        if param.name == "help":
            continue
        assert getattr(param, "help", None), f"{verb}: {param.name} says nothing"
        assert param.help[0].isupper() or param.help[0] in '"nofv', (verb, param.help)
        assert param.help.endswith((".", ")")), (verb, param.help)


@pytest.mark.parametrize(
    "words",
    [
        [
            "convert",
            "scene.tif",
            "-o",
            "out.hdr",
            "--bands",
            "1-5,9",
            "--bbox",
            "362200",
            "5809300",
            "362800",
            "5809900",
        ],
        ["convert", "scene.tif", "-o", "out.tif", "--dtype", "int16", "--resample", "sentinel-2"],
        ["unmix", "scene.tif", "-k", "3", "-o", "out.tif", "--seed", "4"],
        [
            "restore",
            "scene.tif",
            "-o",
            "out.tif",
            "--method",
            "mnf",
            "--set",
            "components=3",
            "--bands",
            "1-12",
            "--tile",
            "16x32",
        ],
        ["classify", "scene.tif", "--library", "em.sli", "-o", "out.tif", "--set", "max_angle=0.5"],
        ["sharpen", "pair/hs.tif", "pair/pan.tif", "-o", "out.tif", "--method", "mtf-glp-hpm", "--dtype", "int16"],
        ["sharpen", "pair/hs.tif", "pair/pan.tif", "-o", "out.tif", "--bbox", "362300", "5809100", "362700", "5809700"],
        ["endmembers", "scene.tif", "-k", "3", "-o", "out.csv", "--bands", "3-20"],
    ],
    ids=lambda words: " ".join(words[:1] + words[-2:]),
)
def test_run_yaml_repeats_the_run(words: list[str], scene: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if "pair/hs.tif" in words:
        assert run("simulate", "wald", scene, "--ratio", "4", "-o", "pair/") == 0
    if "em.sli" in words:
        assert run("endmembers", scene, "-k", "3", "-o", "em.sli") == 0
    assert run(*words) == 0, capfd.readouterr().err
    out = Path(words[words.index("-o") + 1])
    again = f"again{out.suffix}"
    assert run(words[0], "--config", f"{out}.run.yaml", "-o", again) == 0, capfd.readouterr().err
    for name in {out.name, out.with_suffix(".img").name} if out.suffix == ".hdr" else {out.name}:
        first, second = Path(name).read_bytes(), Path(name.replace("out", "again")).read_bytes()
        assert first == second, name


def test_a_run_yaml_gives_way_to_the_command_line(scene: Path) -> None:
    assert run("convert", scene, "-o", "a.tif", "--bands", "1-3") == 0
    assert run("convert", scene, "-o", "b.tif", "--config", "a.tif.run.yaml", "--bands", "2") == 0
    np.testing.assert_array_equal(ts.open("b.tif").values, ts.open(scene).values[[1]])
    Path("c.yaml").write_text("bands: [1, 3]\ndtype: int16\n")
    assert run("convert", scene, "-o", "d.tif", "--config", "c.yaml") == 0
    np.testing.assert_allclose(ts.open("d.tif").values, ts.open(scene).values[[0, 2]], atol=1e-4)


def test_json_is_one_valid_line(scene: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for words in (
        ["info", scene, "--stats"],
        ["convert", scene, "-o", "a.zarr"],
        ["quicklook", scene, "-o", "a.png"],
        ["spectrum", scene, "--at", "2", "3", "--pixel", "-o", "a.csv"],
        ["simulate", "wald", scene, "-o", "pair/", "--ratio", "2"],
        ["sharpen", "pair/hs.tif", "pair/pan.tif", "-o", "s.tif"],
        ["score", "s.tif", "pair/truth.tif", "--ratio", "2"],
        ["restore", scene, "-o", "r.tif"],
        ["unmix", scene, "-k", "3", "-o", "u/"],
        ["endmembers", scene, "-k", "3", "-o", "e.sli"],
        ["classify", scene, "--library", "e.sli", "-o", "c.tif"],
        ["coregister", scene, scene, "-o", "m.tif"],
        ["methods"],
        ["methods", "sharpening", "bt-h"],
        ["methods", "io"],
        ["methods", "io", "envi"],
        ["weights", "list"],
    ):
        assert run(*words, "--json") == 0, words
        said = capfd.readouterr()
        lines = said.out.splitlines()
        assert len(lines) == 1 and json.loads(lines[0]) is not None, (words, said.out)
        assert not said.err, (words, said.err)


def test_convert_to_every_format_by_every_option(scene: Path, capfd: pytest.CaptureFixture[str]) -> None:
    want = ts.open(scene)
    for suffix in ("tif", "zarr", "hdr"):
        assert run("convert", scene, "-o", f"all.{suffix}") == 0
        np.testing.assert_array_equal(ts.open(f"all.{suffix}").values, want.values)
        assert run("convert", scene, "-o", f"all.{suffix}") == 2
        assert run("convert", scene, "-o", f"all.{suffix}", "--overwrite", "--bands", "1") == 0
        assert ts.open(f"all.{suffix}").sizes["band"] == 1
        assert run("convert", scene, "-o", "folder/", "--to", suffix) == 0
        assert grid_of(ts.open(f"folder/scene.{suffix}")) == grid_of(want)
        assert run("convert", scene, "-o", f"i.{suffix}", "--dtype", "int16") == 0
        np.testing.assert_allclose(ts.open(f"i.{suffix}").values, want.values, atol=6e-5)
    assert run("convert", scene, "-o", "w.hdr", "--workers", "2", "--resume") == 0
    np.testing.assert_array_equal(ts.open("w.hdr").values, want.values)
    capfd.readouterr()
    assert run("convert", scene, "-o", "p.tif", "--dry-run", "--bands", "1-3") == 0
    assert json.loads(capfd.readouterr().out)["shape"] == [3, 32, 32] and not Path("p.tif").exists()


def test_mask_hides_pixels(scene: Path) -> None:
    keep = np.zeros((1, 32, 32), np.uint8)
    keep[:, 4:20] = 1
    mask = ts.make_cube(keep, quantity="dn")
    ts.save(place(mask, Affine(30, 0, 362175, 0, -30, 5809965), 32633), "keep.tif")
    for verb in ("convert", "restore"):
        assert run(verb, scene, "-o", f"{verb}.tif", "--mask", "keep.tif") == 0
        seen = np.isfinite(ts.open(f"{verb}.tif").values[0])
        np.testing.assert_array_equal(seen, keep[0] == 1)


def test_many_inputs_give_each_its_own(scene: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_scene(Path("other.tif"), seed=3)
    Path("list.txt").write_text("scene.tif\n# a comment\nother.tif\n")
    for verb, more, made in (
        ("convert", ["--to", "zarr"], "scene.zarr"),
        ("quicklook", [], "other.png"),
        ("restore", [], "other.tif"),
        ("unmix", ["-k", "3"], "other/endmembers.sli"),
    ):
        for skipped in (False, True):
            assert run(verb, "list.txt", "-o", f"{verb}s/", *more, "--skip-existing") == 0
            rows = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
            assert [r["status"] for r in rows] == ["skipped" if skipped else "done"] * 2
        assert Path(f"{verb}s", made).exists()


def test_pan_of_the_product(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    sys.path.insert(0, str(Path(__file__).parent.parent / "io"))
    try:
        from prisma_miniature import write_product
    finally:
        sys.path.pop(0)
    path = tmp_path / "PRS_L2D_STD_20200101000000_20200101000004_0001.he5"
    write_product(path)
    cube = ts.open(path)
    assert run("sharpen", path, "-o", "sharp.tif") == 0
    sharp = ts.open("sharp.tif")
    assert sharp.shape[1:] == (6 * cube.sizes["y"], 6 * cube.sizes["x"])
    assert grid_of(sharp).bounds == grid_of(cube).bounds
    assert run("sharpen", path, "-o", "part.tif", "--bbox", "500030", "5000820", "500150", "5000970") == 0
    assert grid_of(ts.open("part.tif")).bounds == (500030, 5000820, 500150, 5000970)


def test_errors_leave_nothing(scene: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Path("broken.tif").write_bytes(scene.read_bytes()[:4000])
    Path("broken.hdr").write_text("ENVI\nsamples = 9\n")
    before = listing()
    for words in (
        ["convert", "broken.tif", "-o", "o.tif"],
        ["convert", "broken.tif", "broken.hdr", "-o", "folder/"],
        ["convert", scene, "-o", "no/such/folder/o.zarr", "--bands", "999"],
        ["convert", scene, "-o", "o.zarr", "--dtype", "complex64"],
        ["convert", scene, "-o", "o.xyz"],
        ["restore", scene, "-o", "o.tif", "--set", "components=99"],
        ["restore", scene, "-o", "o.tif", "--set", "nosuch=1"],
        ["restore", scene, "-o", "o.tif", "--device", "cuda:77"],
        ["restore", scene, "-o", "o.tif", "--method", "mnff"],
        ["restore", scene, "-o", "o.tif", "--weights", "nosuch"],
        ["unmix", scene, "-k", "99", "-o", "o/"],
        ["unmix", scene, "-k", "1", "-o", "o/"],
        ["unmix", scene, "--library", "nosuch.sli", "-o", "o/"],
        ["classify", scene, "-o", "o.tif"],
        ["classify", scene, "--labels", scene, "-o", "o.tif"],
        ["sharpen", scene, scene, "-o", "o.tif"],
        ["sharpen", scene, "-o", "o.tif"],
        ["coregister", scene, "broken.tif", "-o", "o.tif"],
        ["coregister", scene, scene, "-o", scene, "--overwrite"],
        ["simulate", "wald", scene, "--ratio", "1", "-o", "pair/"],
        ["simulate", "wald", scene, "--set", "nosuch=1", "-o", "pair/"],
        ["simulate", "wald", scene, "--ratio", "64", "-o", "pair/"],
        ["bench", "sharpen", scene, "--method", "nosuch", "-o", "bench/"],
        ["bench", "sharpen", scene, "--set", "nosuch=1", "-o", "bench/"],
        ["score", scene, "broken.tif"],
        ["train", "nosuch", "--method", "hyperpnn", "--data", scene, "-o", "run/"],
        ["train", "sharpen", "--method", "gsa", "--data", scene, "-o", "run/"],
        ["endmembers", scene, "-k", "x", "-o", "e.csv"],
        ["weights", "inspect", "nosuch"],
        ["weights", "inspect", scene],
        ["weights", "convert", scene, "-o", "x.safetensors"],
        ["weights", "add", "nosuch.at-all", scene],
        ["demo", "-o", "demo/", "--only", "nosuch"],
    ):
        code = run(*words)
        said = capfd.readouterr()
        lines = [line for line in said.err.splitlines() if line.strip()]
        assert code == 2 and len(lines) == 1 and lines[0].startswith("torchspectral: "), (words, code, said.err)
        assert listing() == before, (words, listing() - before)


def test_progress_only_on_a_terminal(scene: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "torchspectral", "restore", scene, "-o", "r.tif", "--method", "mnf"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0 and not done.stderr and "\x1b" not in done.stdout


def test_an_image_without_a_place_is_no_warning(tmp_path: Path) -> None:
    cube = ts.make_cube(np.random.default_rng(0).random((4, 20, 20), np.float32), quantity="reflectance")
    ts.save(cube, tmp_path / "nowhere.tif")
    code = (
        "import warnings; warnings.simplefilter('error')\nimport torchspectral as ts\n"
        f"cube = ts.open({str(tmp_path / 'nowhere.tif')!r}); cube.values\nts.save(cube, {str(tmp_path / 'b.tif')!r})"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "NotGeoreferenced" not in done.stderr, done.stderr


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_ctrl_c_exits_with_130(tmp_path: Path) -> None:
    values = np.random.default_rng(0).random((60, 700, 700), np.float32)
    ts.save(ts.make_cube(values, quantity="reflectance"), tmp_path / "scene.hdr")
    before = listing(tmp_path)
    words = [sys.executable, "-m", "torchspectral", "convert", "scene.hdr", "-o", "o.tif"]
    with subprocess.Popen(words, cwd=tmp_path, stdout=-1, stderr=-1, text=True) as job:
        deadline = time.monotonic() + 30
        while listing(tmp_path) == before and job.poll() is None and time.monotonic() < deadline:
            time.sleep(0.01)
        if job.poll() is None:
            job.send_signal(signal.SIGINT)
        _, err = job.communicate(timeout=60)
    assert job.returncode == 130 and len(err.splitlines()) == 1, err
    assert listing(tmp_path) == before


def test_every_verb_is_listed() -> None:
    assert {v.split()[0] for v, _ in commands()} == set(VERBS)
