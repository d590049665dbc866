"""Files of instruments: acquisitions, recipes, device files, layouts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchspectral.calibration import interferometer as fp
from torchspectral.calibration.interferometer.geometry import off_axis_cosines
from torchspectral.calibration.interferometer.recipes import parse_recipe
from torchspectral.calibration.interferometer.regression import Bounds
from torchspectral.errors import (
    BadInput,
    BadSettings,
    BrokenProduct,
    GridMismatch,
    OutputExists,
    ProductNotFound,
    UnknownName,
    UnsafeInput,
)

PROTOTYPES = {
    "imspoc_uv_1": (216, 101, 0.2),
    "imspoc_uv_2": (319, 451, 0.175),
    "imagaz_1": (79, 343, 0.4),
    "wfai_1": (672, 551, 0.175),
}
LAYOUT = fp.Geometry((40, 60), (6, 8), (8, 9), (4, 5), "vertical", 100.0, 50.0, 6.0, "toy")


def device(count: int = 20, **more) -> fp.Characterization:
    random = np.random.default_rng(0)
    return fp.Characterization(
        random.uniform(1, 20, (count, 1)),
        random.normal(size=(count, 4)) + 5 * np.eye(4)[0],
        0.1 * random.normal(size=(count, 3)),
        random.uniform(0, 6, (count, 1)),
        wavenumber=np.linspace(1, 2, 40),
        **more,
    )


@pytest.mark.parametrize("name", PROTOTYPES)
def test_the_prototypes_are_read(samples: Path, name: str) -> None:
    count, lines, step = PROTOTYPES[name]
    found = fp.read_acquisition(samples / "irca" / name)
    assert found.data.shape == (count, lines) and found.name == name
    assert found.mean.shape == found.data.shape and (found.norm is None) == (name == "wfai_1")
    np.testing.assert_allclose(np.diff(found.nominal_opd), step)
    assert [s.id for s in found.recipe.steps] == ["ml", "gn"] and found.recipe.label == "gn m0 g1"
    ours = fp.published_recipe(name)
    assert [s.model_dump() for s in ours.steps[:1]] == [s.model_dump() for s in found.recipe.steps[:1]]
    for step_name in ("gain", "reflectivity"):
        assert ours.steps[1].degree(step_name) == found.recipe.steps[1].degree(step_name) == 5
    assert set(fp.published_devices()) == set(PROTOTYPES)


def test_the_published_parameters_fit_the_data(samples: Path) -> None:
    folder = samples / "irca" / "imspoc_uv_2"
    found = fp.load_device(folder / "published")
    data = fp.read_acquisition(folder)
    rmse = np.sqrt(((found.transfer(data.wavenumber) - data.data) ** 2).mean(1)) / data.data.mean(1)
    assert found.count == 319 and rmse.mean() == pytest.approx(0.1336, abs=2e-4)
    assert found.mean_opd().min() == pytest.approx(1.788, abs=1e-3)


@pytest.mark.parametrize(
    "more", [{}, {"domain": (1.0, 2.0), "family": "Legendre"}, {"bounds": Bounds(0, 0.9), "waves": 3}]
)
def test_device_files_keep_everything(tmp_path: Path, more: dict) -> None:
    flags = ((), ("large residual", "short path"), *(((),) * 18))
    before = device(
        flags=flags, rmse=np.full(20, 0.1), nominal_opd=np.arange(20.0), name="toy", geometry=LAYOUT, **more
    )
    before = replace(before, opd_error=np.r_[np.nan, np.full(19, 0.01)])
    before.save(tmp_path / "d.json")
    after = fp.load_device(tmp_path / "d.json")
    sigma = np.linspace(1, 2, 30)
    np.testing.assert_array_equal(after.transfer(sigma), before.transfer(sigma))
    assert (after.flags, after.name, after.geometry, after.waves) == (flags, "toy", LAYOUT, before.waves)
    np.testing.assert_array_equal(after.opd_error, before.opd_error)
    np.testing.assert_array_equal(after.good, before.good)
    with pytest.raises(OutputExists, match="overwrite"):
        before.save(tmp_path / "d.json")
    if more.get("bounds") is None:
        before.save(tmp_path / "folder")
        np.testing.assert_allclose(
            fp.load_device(tmp_path / "folder").transfer(sigma), before.transfer(sigma), rtol=1e-8
        )
    else:
        with pytest.raises(BadInput, match="sigmoid"):
            before.save(tmp_path / "folder")
        assert not (tmp_path / "folder").exists()


def test_the_mask_of_a_device_file_can_be_edited(tmp_path: Path) -> None:
    device().save(tmp_path / "d.json")
    values = json.loads((tmp_path / "d.json").read_text())
    values["good"][3] = False
    (tmp_path / "d.json").write_text(json.dumps(values))
    values["used"][4] = False
    values["flags"][5] = ["short path", "large residual"]
    values["good"][5] = False
    (tmp_path / "d.json").write_text(json.dumps(values))
    found = fp.load_device(tmp_path / "d.json")
    assert found.flags[3:6] == (("marked bad",), ("marked bad",), ("short path",))
    assert found.usable[5] and not found.good[5] and not found.usable[[3, 4]].any()


def test_the_table_has_a_row_for_each() -> None:
    rows = device(rmse=np.full(20, 0.1)).table()
    assert len(rows) == 20 and {"opd [um]", "reflectivity", "gain", "phase shift [rad]", "rmse", "flags"} <= set(
        rows[0]
    )
    part = device().rows([3, 5])
    assert part.count == 2 and part.opd[0] == device().opd[3]


def test_recipes_of_all_kinds(tmp_path: Path) -> None:
    steps = [{"id": "ml"}, {"id": "gn", "model": 2, "parameters": {"gain": {"choice": False}}}]
    (tmp_path / "list.json").write_text(json.dumps([steps, {"__root__": steps[:1], "label": "start"}]))
    found = fp.read_options_list(tmp_path / "list.json")
    assert [r.label for r in found] == ["gn m2 g0", "start"]
    assert parse_recipe(found[0].as_list()).label == "gn m2 g0"
    for bad, message in (
        ([{"id": "gn"}], "begins with gn"),
        ([{"id": "xx"}], "id='xx'"),
        ([], "without steps"),
        ("ml", "list of steps"),
        ([{"id": "ml", "modle": 2}], "did you mean model"),
    ):
        with pytest.raises(BadSettings, match=message):
            parse_recipe(bad)
    with pytest.raises(UnknownName, match="imagaz_1"):
        fp.published_recipe("imagaz")


def test_the_snake() -> None:
    down = LAYOUT.corners()
    assert (down[0] == [5, 5]).all() and (down[3] == [23, 5]).all() and (down[4] == [23, 13]).all()
    across = replace(LAYOUT, subimage_arrangement="horizontal").corners()
    assert (across[4] == [5, 37]).all() and (across[5] == [11, 37]).all()
    np.testing.assert_allclose(LAYOUT.nominal_opd[:3], [0.2, 0.3, 0.4])


def test_published_layout(samples: Path) -> None:
    found = fp.read_geometry(samples / "irca" / "imspoc_uv_2" / "device.json")
    assert found.count == 319 and found.nominal_opd[-1] == pytest.approx(318 * 0.175)
    corners = found.corners()
    assert len(np.unique(corners, axis=0)) == 319
    steps = np.abs(np.diff(corners, axis=0)).sum(1)
    assert (steps == 96).all(), "each sub-image stands beside the one before"


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 5), st.sampled_from(["vertical", "horizontal"]), st.integers(0, 1000))
def test_cutting_undoes_assembling(down: int, across: int, way: str, seed: int) -> None:
    layout = fp.Geometry((down * 6 + 4, across * 8 + 4), (6, 8), (5, 6), (down, across), way)
    parts = np.random.default_rng(seed).random((down * across, 6, 8)).astype(np.float32)
    image = layout.assemble(parts)
    np.testing.assert_array_equal(layout.cut(image), parts)
    assert np.isnan(image).sum() == image.size - parts.size
    # The first sub-image lies in the lower left corner.
    np.testing.assert_array_equal(image[-8:-2, 2:10], parts[0])
    with pytest.raises(GridMismatch):
        layout.cut(image[1:])


def test_off_axis_pixels_see_shorter_paths() -> None:
    cosines = off_axis_cosines((7, 9), 10.0)
    assert cosines[3, 4] == 1.0 and cosines[0, 0] == pytest.approx(np.cos(np.deg2rad(10)))
    assert (off_axis_cosines((5, 5), 0.0) == 1).all()
    found = device(waves=2)
    sigma = np.linspace(1, 2, 9)
    shorter = replace(found, opd=found.opd * 0.9)
    np.testing.assert_allclose(found.transfer(sigma, 0.9), shorter.transfer(sigma))


def write(folder: Path, **arrays) -> Path:
    folder.mkdir(exist_ok=True)
    for name, value in arrays.items():
        np.save(folder / f"{name}.npy", value, allow_pickle=True)
    return folder


def test_broken_acquisitions_are_refused(tmp_path: Path) -> None:
    good = {"data": np.ones((3, 5)), "central_wavenumbers": np.linspace(1, 2, 5)}
    cases = [
        (good | {"central_wavenumbers": np.linspace(1, 2, 4)}, BadInput, "4 wavenumbers"),
        (good | {"central_wavenumbers": np.linspace(2, 1, 5)}, BadInput, "do not ascend"),
        (good | {"central_wavenumbers": np.linspace(1e4, 2e4, 5)}, BadInput, "1/um"),
        (good | {"data": np.ones(5)}, BadInput, "shape"),
        (good | {"data": np.full((3, 5), np.nan)}, BadInput, "not finite"),
        (good | {"mean": np.ones((2, 5))}, BadInput, "mean of shape"),
        (good | {"data": np.array([{}, 1], dtype=object)}, UnsafeInput, "pickle"),
        (good | {"data": np.ones((3, 5), dtype=complex)}, BrokenProduct, "complex"),
        ({"data": np.ones((3, 5))}, ProductNotFound, "central_wavenumbers"),
    ]
    for number, (arrays, error, message) in enumerate(cases):
        with pytest.raises(error, match=message):
            fp.read_acquisition(write(tmp_path / str(number), **arrays))
    folder = write(tmp_path / "text", **good)
    (folder / "data.npy").write_bytes(b"\x93NUMPY\x01\x00")
    with pytest.raises(BrokenProduct, match=r"data\.npy"):
        fp.read_acquisition(folder)
    folder = write(tmp_path / "step", **good)
    (folder / "options.json").write_text('{"opd_step": -1}')
    with pytest.raises(BadSettings, match="opd_step"):
        fp.read_acquisition(folder)
    with pytest.raises(ProductNotFound, match="no folder"):
        fp.read_acquisition(folder / "options.json")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no readable JSON"),
        ("[]", "no device file"),
        ('{"format": "torchspectral interferometer"}', "version"),
        ('{"format": "torchspectral interferometer", "version": 1}', "no whole device file"),
        ('{"format": "torchspectral interferometer", "version": 1, "parameters": {"opd": 3}}', "no whole device file"),
    ],
)
def test_broken_device_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(BrokenProduct, match=message):
        fp.load_device(tmp_path / "d.json")


def test_broken_layouts_are_refused(tmp_path: Path) -> None:
    good = LAYOUT.as_dict()
    for change, message in (
        ({"image_size": [3, 60]}, "expected them to lie on it"),
        ({"subimage_amount": [0, 2]}, "two whole numbers"),
        ({"subimage_arrangement": "spiral"}, "spiral"),
        ({"thickness_step": "thin"}, "thickness_step"),
        ({"lens": 3}, "unknown key 'lens'"),
    ):
        (tmp_path / "g.json").write_text(json.dumps(good | change))
        with pytest.raises(BadSettings, match=message):
            fp.read_geometry(tmp_path / "g.json")
