"""Several inputs: lists, folders, STAC item collections; names, failures, stops, mosaics, grids."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

import torchspectral as ts
from torchspectral.cli import main
from torchspectral.cli.batch import expand, outputs_for
from torchspectral.cli.options import OutPath, repeat_pairs
from torchspectral.errors import BadSettings, BrokenProduct, Interrupted, ProductNotFound, UnsafeInput
from torchspectral.geo import grid_of, mosaic, orthorectify, place, window
from torchspectral.io.item_collections import products_of, read_items

EMIT = "emit/EMIT_L1B_OBS_001_20220827T060753_9999999_999.nc"


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(w) for w in words])
    return int(stop.value.code or 0)


def rows_of(capfd: pytest.CaptureFixture[str]) -> list[dict]:
    return [json.loads(line) for line in capfd.readouterr().out.splitlines()]


def make_scene(path: Path, seed: int = 0, size: int = 12, left: float = 362175) -> Path:
    rng = np.random.default_rng(seed)
    cube = ts.make_cube(
        rng.random((3, size, size), np.float32),
        wavelength=[450, 550, 650],
        quantity="reflectance",
        attrs={"acquired": "2022-07-24T10:45:26Z"},
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    ts.save(place(cube, Affine(30, 0, left, 0, -30, 5809965), 32633), path)
    return path


def item(href: object, name: str = "one", **more: object) -> dict:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "geometry": None,
        "properties": {"datetime": "2022-07-24T10:45:26Z"},
        "links": [],
        "assets": {
            "thumbnail": {"href": "./no.png", "roles": ["thumbnail"]},
            "data": {"href": href, "roles": ["data"]},
        },
        **more,
    }


def collection(path: Path, *items: dict) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    return path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_names_come_from_folders_where_stems_are_equal(folder: Path) -> None:
    paths = [folder / p for p in ("a/scene.tif", "b/scene.tif", "other.tif", "x/data/t.tif", "y/data/t.tif")]
    names = [str(p) for p in outputs_for(paths, OutPath("out/"), ".tif")]
    want = ["a_scene", "b_scene", "other", "x_data_t", "y_data_t"]
    assert names == [f"out/{n}.tif" for n in want]
    with pytest.raises(BadSettings, match="same name"):
        outputs_for([paths[0], folder / "a/scene.img"], OutPath("out/"), ".tif")
    # Names that differ by case are one on many systems; a name that is taken is not given again.
    cased = outputs_for([folder / "p/Scene.tif", folder / "q/scene.tif"], OutPath("out/"), ".tif")
    assert [n.name for n in cased] == ["p_Scene.tif", "q_scene.tif"]
    taken = outputs_for([folder / p for p in ("a/s.tif", "b/s.tif", "c/a_s.tif")], OutPath("o/"), ".tif")
    assert len({n.name for n in taken}) == 3


@pytest.mark.parametrize("verb", ["convert", "quicklook"])
def test_granules_of_one_name(folder: Path, verb: str, capfd: pytest.CaptureFixture[str]) -> None:
    for number, name in enumerate(("a", "b")):
        make_scene(folder / name / "scene.tif", number)
    assert run(verb, "a/scene.tif", "b/scene.tif", "-o", "out/") == 0
    made = {p.stem for p in Path("out").iterdir() if p.suffix in (".tif", ".png")}
    assert made == {"a_scene", "b_scene"}
    if verb == "convert":
        np.testing.assert_array_equal(ts.open("out/b_scene.tif").values, ts.open("b/scene.tif").values)


def test_item_collections_are_lists_of_products(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_scene(folder / "cat/one/data.tif", 1)
    make_scene(folder / "cat/two words/data.tif", 2)
    listed = collection(folder / "cat/items.geojson", item("./one/data.tif"), item("two%20words/data.tif", "two"))
    assert products_of(listed) == [folder / "cat/one/data.tif", folder / "cat/two words/data.tif"]
    assert run("info", listed, "--json") == 0
    found = rows_of(capfd)
    assert [Path(r["path"]).parent.name for r in found] == ["one", "two words"]
    assert run("convert", "cat/items.geojson", "-o", "out/", "--stac") == 0
    assert [r["status"] for r in rows_of(capfd)] == ["done", "done"]
    assert sorted(p.name for p in Path("out").glob("*.tif")) == ["one_data.tif", "two words_data.tif"]
    # What was written is a folder of products, its items no products beside them, and each item leads to its output.
    assert [p.name for p in expand([Path("out")])] == ["one_data.tif", "two words_data.tif"]
    written = [json.loads(p.read_text()) for p in sorted(Path("out").glob("*.stac.json"))]
    assert expand([collection(Path("out/all.json"), *written)]) == sorted(Path("out").glob("*.tif"))
    # A list may name folders and collections.
    Path("list.txt").write_text("cat/items.geojson\ncat/one\n")
    assert [p.name for p in expand([Path("list.txt")])] == ["data.tif"] * 3
    Path("none.txt").write_text("# nothing yet\n\n")
    assert run("info", "none.txt") == run("convert", "none.txt", "-o", "out/") == 2
    assert capfd.readouterr().err.count("none.txt lists no product") == 2


def test_an_item_is_found_by_its_own_link_or_its_folder(folder: Path) -> None:
    make_scene(folder / "cat/one/data.tif")
    alone = item("./data.tif")
    (folder / "cat/one/item.json").write_text(json.dumps(alone))
    linked = item("one/data.tif", links=[{"rel": "self", "href": "./one/item.json"}])
    found = products_of(collection(folder / "cat/items.json", linked))[0]
    assert ts.open(found).shape == (3, 12, 12)
    away = item("one/data.tif", links=[{"rel": "self", "href": "https://example.org/one.json"}])
    assert products_of(collection(folder / "cat/items.json", away)) == [folder / "cat/one/data.tif"]
    many = item("one/data.tif")
    many["assets"]["more"] = {"href": "one/other.tif", "roles": ["data"]}
    make_scene(folder / "cat/one/other.tif")
    with pytest.raises(BadSettings, match="2 data assets"):
        products_of(collection(folder / "cat/items.json", many))


@pytest.mark.parametrize(
    ("href", "said"),
    [
        ("file:///etc/passwd", "file: address"),
        ("FILE:data.tif", "file: address"),
        ("https://example.org/a.tif", "remote"),
        ("s3://bucket/a.tif", "remote"),
        ("//host/a.tif", "remote"),
        ("/vsicurl/https://example.org/a.tif", "virtual"),
        ("../scene.tif", "upwards"),
        ("a/../../scene.tif", "upwards"),
        ("%2e%2e/scene.tif", "upwards"),
        ("..\\scene.tif", "upwards"),
        ("/etc/passwd", "absolute path"),
        ("%2Fetc/passwd", "absolute path"),
        ("C:\\data\\scene.tif", "absolute path"),
        ("  ", "expected a relative path"),
    ],
)
def test_hrefs_that_lead_elsewhere(folder: Path, href: str, said: str, capfd: pytest.CaptureFixture[str]) -> None:
    make_scene(folder / "scene.tif")
    make_scene(folder / "cat/ok.tif")
    listed = collection(folder / "cat/items.json", item("ok.tif"), item(href, "bad one"))
    with pytest.raises(UnsafeInput, match=f"'bad one'.*{said}"):
        products_of(listed)
    assert run("convert", listed, "-o", "out/") == 2
    assert said in capfd.readouterr().err and not Path("out").exists()


def test_links_out_of_the_folder_and_absolute_paths_inside(folder: Path) -> None:
    make_scene(folder / "scene.tif")
    (folder / "cat").mkdir()
    (folder / "cat/link.tif").symlink_to(folder / "scene.tif")
    with pytest.raises(UnsafeInput, match="is a link"):
        products_of(collection(folder / "cat/items.json", item("link.tif")))
    make_scene(folder / "cat/in.tif")
    assert products_of(collection(folder / "cat/i.json", item(str(folder.resolve() / "cat/in.tif"))))


def test_collections_that_are_none(folder: Path) -> None:
    plain = folder / "plain.geojson"
    plain.write_text(json.dumps({"type": "FeatureCollection", "features": [{"type": "Feature", "geometry": None}]}))
    assert read_items(plain) is None
    with pytest.raises(BrokenProduct, match="no STAC item"):
        products_of(plain)
    (folder / "deep.json").write_text("[" * 200_000)
    assert read_items(folder / "deep.json") is None
    with pytest.raises(BrokenProduct, match=r"item 2 .* no assets"):
        read_items(collection(folder / "half.json", item("a.tif"), {"type": "Feature"}))
    with pytest.raises(ProductNotFound, match=r"asset 'data'.*does not exist"):
        products_of(collection(folder / "gone.json", item("a.tif")))
    with pytest.raises(BadSettings, match="no asset of role 'data'"):
        products_of(
            collection(folder / "thumb.json", {**item("x"), "assets": {"t": {"href": "t.png", "roles": ["thumbnail"]}}})
        )


def test_one_failure_does_not_stop_the_rest(folder: Path, monkeypatch, capfd: pytest.CaptureFixture[str]) -> None:
    import torchspectral.engine.convert as engine

    for number in range(5):
        make_scene(folder / f"in/s{number}.tif", number)
    whole, calls = engine.convert, []

    def convert(source, *rest, **options):
        calls.append(Path(source).name)
        if source.name == "s1.tif":
            raise ZeroDivisionError("inside")
        if source.name == "s3.tif":
            raise MemoryError
        return whole(source, *rest, **options)

    monkeypatch.setattr(engine, "convert", convert)
    assert run("convert", "in", "-o", "out/") == 2
    said = capfd.readouterr()
    found = [json.loads(line) for line in said.out.splitlines()]
    assert [r["status"] for r in found] == ["done", "failed", "done", "failed", "done"]
    assert "bug" in found[1]["error"] and "ZeroDivisionError" in found[1]["error"]
    assert "2 of 5 inputs failed: in/s1.tif, in/s3.tif" in said.err
    # The second time only what is missing is done.
    monkeypatch.setattr(engine, "convert", whole)
    stamps = {p.name: p.stat().st_mtime_ns for p in Path("out").glob("*.tif")}
    assert run("convert", "in", "-o", "out/", "--resume") == 0
    assert [r["status"] for r in rows_of(capfd)] == ["skipped", "done", "skipped", "done", "skipped"]
    assert all(Path("out", name).stat().st_mtime_ns == stamp for name, stamp in stamps.items())


@pytest.mark.parametrize("stop", [KeyboardInterrupt(), Interrupted("stopped; half is kept")])
def test_a_stop_keeps_what_is_finished(folder: Path, monkeypatch, stop, capfd: pytest.CaptureFixture[str]) -> None:
    import torchspectral.engine.convert as engine

    for number in range(4):
        make_scene(folder / f"in/s{number}.tif", number)
    whole = engine.convert

    def convert(source, *rest, **options):
        if source.name == "s2.tif":
            raise stop
        return whole(source, *rest, **options)

    monkeypatch.setattr(engine, "convert", convert)
    assert run("convert", "in", "-o", "out/") == 130
    said = capfd.readouterr()
    assert [json.loads(line)["status"] for line in said.out.splitlines()] == ["done", "done"]
    assert "stopped at s2.tif" in said.err and "2 of 4" in said.err and "--skip-existing" in said.err
    assert sorted(p.name for p in Path("out").glob("*.tif")) == ["s0.tif", "s1.tif"]
    monkeypatch.setattr(engine, "convert", whole)
    assert run("convert", "in", "-o", "out/", "--skip-existing") == 0
    assert [r["status"] for r in rows_of(capfd)] == ["skipped"] * 2 + ["done"] * 2


def test_a_real_ctrl_c(folder: Path) -> None:
    first = make_scene(folder / "in/s00.tif", size=40)
    for number in range(1, 40):
        (folder / f"in/s{number:02}.tif").write_bytes(first.read_bytes())
    command = [sys.executable, "-m", "torchspectral", "convert", "in", "-o", "out/"]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert child.stdout is not None
    for _ in range(2):
        child.stdout.readline()
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=120)
    finished = sorted(Path("out").glob("*.tif"))
    assert child.returncode in (0, 130) and len(finished) >= 2
    if child.returncode == 130:
        assert "of 40 inputs are finished" in said
        assert not list(Path("out").glob(".*"))
    for path in finished[:2]:
        np.testing.assert_array_equal(ts.open(path).values, ts.open(Path("in", path.name)).values)


def test_a_line_over_all_on_a_terminal(folder: Path) -> None:
    for number in range(3):
        make_scene(folder / f"in/s{number}.tif", number)
    (folder / "in/bad.tif").write_bytes(b"II*\x00nothing")
    Path("list.txt").write_text("in/s0.tif\nin/bad.tif\nin/s1.tif\n")
    mother, child = pty.openpty()
    command = [sys.executable, "-m", "torchspectral", "info", "list.txt", "--json"]
    started = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=child, text=True)
    out, _ = started.communicate(timeout=120)
    os.close(child)
    said = b""
    while True:
        try:
            part = os.read(mother, 65536)
        except OSError:
            break
        if not part:
            break
        said += part
    os.close(mother)
    assert b"[1/3] s0.tif" in said and b"[3/3, 1 failed" in said
    assert len(out.splitlines()) == 3 and started.returncode == 2


def test_info_tells_failures_among_facts(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_scene(folder / "a.tif")
    (folder / "bad.tif").write_bytes(b"II*\x00nothing")
    assert run("info", "a.tif", "bad.tif", "--json") == 2
    said = capfd.readouterr()
    lines = [json.loads(line) for line in said.out.splitlines()]
    assert lines[0]["shape"] == [3, 12, 12] and lines[1]["status"] == "failed" and "1 of 2" in said.err
    assert run("info", "a.tif", "bad.tif") == 2
    assert "bad.tif" in capfd.readouterr().out


def test_hundreds_in_constant_memory(folder: Path) -> None:
    """Nothing of a finished granule is kept."""
    import gc
    import weakref

    from torchspectral.cli.batch import Inputs, run_batch
    from torchspectral.result import Report, Result

    scene = make_scene(folder / "s.tif")
    seen: list[weakref.ref] = []

    def work(source: Path, target: OutPath) -> Result:
        if len(seen) == 7:
            gc.collect()
            assert sum(ref() is not None for ref in seen) <= 1
        values = ts.open(scene).load()
        seen.append(weakref.ref(values))
        return Result({"cube": values}, Report(), {})

    run_batch(Inputs([Path(f"g{n}.tif") for n in range(8)]), OutPath("out/"), ".tif", work)
    assert len(seen) == 8


def test_emit_onto_any_map(samples: Path, folder: Path) -> None:
    source = samples / EMIT
    cube = ts.open(source)
    assert run("convert", source, "-o", "glt.tif") == 0
    np.testing.assert_array_equal(ts.open("glt.tif").values, orthorectify(cube).values)
    with rasterio.open("glt.tif") as made:
        gt = [61.6401745, 5.42232520e-04, 0, 36.3916118, 0, -5.42232520e-04]
        np.testing.assert_allclose(made.transform.to_gdal(), gt, rtol=1e-7)
    moves = ["--crs", "EPSG:32641", "--resolution", "60"]
    for how in ("nearest", "bilinear"):
        assert run("convert", source, "-o", f"{how}.tif", *moves, "--resampling", how) == 0
        out = ts.open(f"{how}.tif")
        want = orthorectify(cube, 60.0, how, crs=32641)
        np.testing.assert_array_equal(out.values, want.values)
        assert grid_of(out).resolution == (60.0, 60.0) and grid_of(out).crs.to_epsg() == 32641
        assert run("convert", "-o", f"again_{how}.tif", "--config", f"{how}.tif.run.yaml") == 0
        assert Path(f"again_{how}.tif").read_bytes() == Path(f"{how}.tif").read_bytes()
    for flag in ("--no-ortho", "--keep-geometry"):
        assert run("convert", source, "-o", "kept.zarr", flag, "--overwrite") == 0
        assert grid_of(ts.open("kept.zarr")).kind == "swath"
    assert run("convert", source, "-o", "x.tif", "--no-ortho", *moves) == 2 and not Path("x.tif").exists()


def test_maps_and_rotated_scenes_onto_another_crs(
    samples: Path, folder: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    neon = samples / "neon/neon_sjer_subset.h5"
    assert run("convert", neon, "-o", "n.tif", "--crs", "EPSG:4326", "--bands", "1-3") == 0
    out = ts.open("n.tif")
    assert grid_of(out).crs.to_epsg() == 4326
    west, south, east, north = grid_of(out).bounds
    assert -119.8 < west < east < -119.6 and 37.0 < south < north < 37.3
    turned = make_scene(folder / "plain.tif")
    cube = place(ts.open(turned), Affine(20.0, 7.0, 5e5, 7.0, -20.0, 5.5e6), 32633)
    ts.save(cube, "rotated.hdr")
    assert run("convert", "rotated.hdr", "-o", "same.tif") == 0
    assert grid_of(ts.open("same.tif")).kind == "rotated"
    assert run("convert", "rotated.hdr", "-o", "straight.hdr", "--resolution", "20", "--resampling", "bilinear") == 0
    assert grid_of(ts.open("straight.hdr")).kind == "map"
    capfd.readouterr()
    assert run("convert", "rotated.hdr", "-o", "plan.tif", "--resolution", "20", "--dry-run") == 0
    assert rows_of(capfd)[0]["shape"] == list(ts.open("straight.hdr").shape)
    for bad in (["--crs", "EPSG:999999"], ["--resolution", "-3"], ["--resampling", "magic", "--crs", "EPSG:4326"]):
        assert run("convert", "rotated.hdr", "-o", "bad.tif", *bad) == 2
        assert not Path("bad.tif").exists()


def test_salton_sea_keeps_its_rotation(samples: Path, folder: Path) -> None:
    """The real header's map info, rotation=34, over the real pixels; GDAL's reading of it is the independent path."""
    from scipy.io import loadmat

    known = loadmat(samples / "aviris/salton_sea_roi.mat", simplify_cells=True)
    values = np.ascontiguousarray(np.moveaxis(known["I"][:, :, 20:24], -1, 0).astype(np.float32))
    values.tofile("salton.img")
    Path("salton.hdr").write_text(
        "ENVI\nsamples = 56\nlines = 51\nbands = 4\nheader offset = 0\ndata type = 4\ninterleave = bsq\nbyte order = 0\n"
        f"map info = {known['params']['map_info']}\n"
    )
    with rasterio.open("salton.img") as peer:
        want = peer.transform
    assert want.b != 0
    np.testing.assert_allclose(np.hypot(want.a, want.d), 16.9)
    assert run("convert", "salton.hdr", "-o", "s.hdr") == 0
    assert run("convert", "salton.hdr", "-o", "s.tif") == 0
    for name in ("s.hdr", "s.tif"):
        assert grid_of(ts.open(name)).kind == "rotated"
        np.testing.assert_allclose(grid_of(ts.open(name)).transform, want, atol=1e-6)
        np.testing.assert_array_equal(ts.open(name).values, values)
    assert run("convert", "salton.hdr", "-o", "map.tif", "--crs", "EPSG:32611", "--resolution", "4") == 0
    straight = ts.open("map.tif")
    assert grid_of(straight).kind == "map" and grid_of(straight).crs.to_epsg() == 32611
    for row, col in ((0, 0), (50, 55), (25, 30), (3, 50)):
        x, y = want @ (col + 0.5, row + 0.5) if hasattr(want, "__matmul__") else want * (col + 0.5, row + 0.5)
        assert straight.hsi.at(x=x, y=y).values == pytest.approx(values[:, row, col])


def test_mosaics(samples: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiles = sorted((samples / "enmap/images").glob("*.tif"))
    assert run("convert", *tiles, "--mosaic", "-o", "m.tif", "--stac", "--acquired", "2022-07-24T10:45:26Z") == 0
    out = ts.open("m.tif", raw=True)
    assert out.shape == (224, 192, 160) and out.attrs["packing"]["scale"]
    with rasterio.open("m.tif") as made:
        for tile in tiles:
            x, y = (int(v) for v in tile.stem.split("_")[-2:])
            with rasterio.open(tile) as src:
                part = made.read([1, 100, 224], window=((y, y + 32), (x - 64, x - 32)))
                np.testing.assert_array_equal(part, src.read([1, 100, 224]))
        assert made.transform.to_gdal() == (362175 + 30 * 64, 30, 0, 5809965, 0, -30)
    assert json.loads(Path("m.tif.stac.json").read_text())["properties"]["proj:shape"] == [192, 160]
    base = ts.open(tiles[0]).isel(band=slice(0, 2))
    ts.save(window(base, 0, 0, 20, 32), "top.tif")
    low = window(base, 10, 0, 22, 32)
    ts.save(low.copy(data=low.values + 1), "low.tif")
    for rule in ("first", "last", "mean", "center"):
        assert run("convert", "top.tif", "low.tif", "--mosaic", "--rule", rule, "-o", f"{rule}/") == 0
        want = mosaic([ts.open("top.tif"), ts.open("low.tif")], rule)
        np.testing.assert_array_equal(ts.open(f"{rule}/mosaic.tif").values, want.values)
        again = run("convert", "--config", f"{rule}/mosaic.tif.run.yaml", "-o", f"again_{rule}.tif")
        assert again == 0 and Path(f"again_{rule}.tif").read_bytes() == Path(f"{rule}/mosaic.tif").read_bytes()


def test_mosaics_that_do_not_fit(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    make_scene(folder / "a.tif")
    make_scene(folder / "b.tif", 1, left=362185)
    assert run("convert", "a.tif", "b.tif", "--mosaic", "-o", "m.tif") == 2
    said = capfd.readouterr().err
    assert "0.333 columns" in said and "--resampling nearest" in said and not Path("m.tif").exists()
    assert run("convert", "a.tif", "b.tif", "--mosaic", "-o", "m.tif", "--resampling", "nearest") == 0
    assert ts.open("m.tif").shape == (3, 12, 13)
    assert run("convert", "a.tif", "--rule", "last", "-o", "r.tif") == 2
    assert "without --mosaic" in capfd.readouterr().err
    ts.save(ts.open("a.tif").isel(band=[0, 2]), "two.tif")
    assert run("convert", "a.tif", "two.tif", "--mosaic", "-o", "t.tif") == 2
    assert "has 2 bands" in capfd.readouterr().err
    assert run("convert", "a.tif", "b.tif", "--mosaic", "-o", "p.tif", "--resampling", "nearest", "--dry-run") == 0
    assert rows_of(capfd)[0]["shape"] == [3, 12, 13] and not Path("p.tif").exists()


def test_time_is_asked_for_before_the_work(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    ts.save(ts.open(make_scene(folder / "a.tif")).assign_attrs(acquired=None), "b.tif")
    assert run("convert", "b.tif", "-o", "c.tif", "--stac") == 2
    assert "--acquired" in capfd.readouterr().err and not Path("c.tif").exists()
    assert run("convert", "b.tif", "-o", "c.tif", "--acquired", "2022-07-24") == 2
    assert "without --stac" in capfd.readouterr().err
    started = time.time()
    assert run("convert", "b.tif", "-o", "c.tif", "--stac", "--acquired", "2022-07-24T00:00:00Z", "--json") == 0
    assert rows_of(capfd)[0]["outputs"]["stac"] == "c.tif.stac.json" and time.time() >= started


def test_what_stands_beside_outputs_is_no_input(folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
    scene = make_scene(folder / "a scene.tif")
    beside = Path(f"{scene}.run.yaml")
    beside.write_text("method: convert")
    assert list(expand([scene, beside])) == [scene]
    assert "passed over a scene.tif.run.yaml" in capfd.readouterr().err
    assert list(expand([beside])) == [beside]
    with pytest.raises(ProductNotFound, match="the products themselves"):
        expand([beside, beside])


def test_several_pairs_may_follow_one_option(folder: Path) -> None:
    (folder / "b=2.tif").touch()
    words = ["unmix", "s.tif", "--set", "a=1", "nmf.b=[1, 2]", "c=x=y", "-k", "3", "--open=key=v", "size=4", "d=1"]
    paired = repeat_pairs(words)
    assert paired[2:8] == ["--set", "a=1", "--set", "nmf.b=[1, 2]", "--set", "c=x=y"]
    assert paired[8:] == ["-k", "3", "--open=key=v", "--open", "size=4", "--open", "d=1"]
    assert repeat_pairs(["--set", "a=1", "b=2.tif", "c=3"]) == ["--set", "a=1", "b=2.tif", "c=3"]
    assert repeat_pairs(["--set", "a=1", "--", "b=2"]) == ["--set", "a=1", "--", "b=2"]
    assert repeat_pairs(["--set"]) == ["--set"]
