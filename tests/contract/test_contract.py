"""What every registered method owes its users, whatever it computes."""

from __future__ import annotations

import inspect
import re
from dataclasses import dataclass
from functools import wraps
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
from contract_cases import create, cube_of, inputs_of, run, special
from scipy.ndimage import maximum_filter

import torchspectral as ts
from torchspectral import registry
from torchspectral.engine import fitting, job, memory
from torchspectral.engine.method import Method, Scope, Size
from torchspectral.engine.states import load_state, save_state
from torchspectral.errors import Interrupted, TorchspectralError
from torchspectral.geo import grid_of

SEED = 3
CARDS = [card for card in registry.methods() if card.scope != "training"]  # recipes have their own tests
pytestmark = pytest.mark.parametrize("card", CARDS, ids=[f"{c.room}/{c.name}" for c in CARDS])


def outputs_of(method: Method) -> dict:
    return {output.name: output for output in method.outputs}


def numbers(value) -> np.ndarray:
    if isinstance(value, xr.DataArray):
        return value.values
    return value.select_dtypes("number").to_numpy()


def same(a, b, rtol=0.0, atol=0.0):
    assert list(a) == list(b)
    for name in a:
        assert type(a[name]) is type(b[name])
        np.testing.assert_allclose(numbers(a[name]), numbers(b[name]), rtol=rtol, atol=atol, err_msg=name)


def result_or_error(card, cube, **options):
    """The result, or None where the method says in a typed error why it cannot."""
    try:
        return run(card, cube, **options)
    except TorchspectralError as error:
        message = str(error)
        assert message and "\n" not in message
        return None


@dataclass
class Usual:
    """The run with which others are compared, and what was seen of it."""

    method: Method
    cube: xr.DataArray
    inputs: dict[str, xr.DataArray]
    copies: dict[str, xr.DataArray]
    result: Any
    state: dict[str, Any]
    devices: set[str]


_ONCE: dict[tuple[str, ...], Any] = {}


def once(work):
    """Keep what `work` gives for a card and further arguments; nobody may change it."""

    @wraps(work)
    def kept(card, *more):
        key = (work.__name__, card.room, card.name, *map(str, more))
        if key not in _ONCE:
            _ONCE[key] = work(card, *more)
        return _ONCE[key]

    return kept


@once
def usual_run(card) -> Usual:
    """A method over its tiny scene on the CPU."""
    method, cube = create(card), cube_of(special(card).bands)
    inputs = inputs_of(card, method, cube)
    copies = {name: value.copy(deep=True) for name, value in inputs.items()}
    state: dict[str, Any] = {}
    devices: set[str] = set()
    apply = method.apply
    method.apply = lambda tile, state: devices.add(tile.lead.device.type) or apply(tile, state)

    def spy(running):
        state.update(fitting.fit(running))
        return state

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(job, "fit", spy)
        patch.setattr(memory, "free_memory", lambda: 1 << 40)
        result = run(card, cube, method=method, inputs=inputs, seed=SEED, device="cpu")
    return Usual(method, cube, inputs, copies, result, state, devices)


def again(card, **options):
    """The usual run once more."""
    return run(card, cube_of(special(card).bands), seed=SEED, device="cpu", **options)


@once
def in_tiles(card, tile: tuple[int, int]):
    """A method over a larger scene with a hole, in tiles of about this size."""
    method = create(card)
    cube = cube_of(special(card).bands, 40, 36)
    cube.values[:, 15:18, 6:9] = np.nan
    return run(card, cube, tile=tuple(-(-n // method.multiple) * method.multiple for n in tile))


def test_card_and_class_agree(card):
    cls = registry.load_target(card.target)
    method = create(card)
    assert issubclass(cls, Method) and method.scope == Scope(card.scope)
    assert inspect.getdoc(cls) and cls.__doc__ != Method.__doc__
    said = " ".join(card.needs)
    for role in method.inputs:
        assert role.optional or role.role in said, f"needs says nothing of {role.role}"
    for name, field in cls.Settings.model_fields.items():
        assert field.description, f"setting {name} has no description"
    assert method.outputs and len(outputs_of(method)) == len(method.outputs)
    for output in method.outputs:
        assert output.kind in ("cube", "layers", "spectra", "table")
        assert not output.grid or output.grid in {i.role for i in method.inputs}
        np.dtype(output.dtype)
    assert 1900 < card.year < 2100 and card.evidence and card.cost
    assert card.verb in ts.__all__, f"no verb {card.verb!r}"


def test_shapes_types_and_names(card):
    usual = usual_run(card)
    method, cube, inputs, result = usual.method, usual.cube, usual.inputs, usual.result
    declared = outputs_of(method)
    assert next(iter(result)) == method.outputs[0].name
    for name, value in result.items():
        output = declared[name]
        if output.kind == "table":
            assert hasattr(value, "columns")
            continue
        assert isinstance(value, xr.DataArray) and value.dtype == np.dtype(output.dtype)
        if output.kind == "spectra":
            assert value.dims == ("spectrum", "band") and len(set(value["spectrum"].values)) == value.shape[0]
            continue
        like = inputs[output.grid] if output.grid else cube
        zoom = 1 if output.grid else output.zoom
        assert value.shape[-2:] == (like.sizes["y"] * zoom, like.sizes["x"] * zoom)
        assert grid_of(value) == (grid_of(like) if zoom == 1 else grid_of(like).scaled(zoom))
        assert np.isfinite(value.values).all() if output.dtype.startswith("f") else value.attrs["nodata"] is not None
        assert value.attrs["history"]
        if output.kind == "cube":
            assert value.dims == ("band", "y", "x")
            if output.own_bands:
                assert len(np.unique(value["wavelength"])) == value.sizes["band"] and value.attrs["quantity"]
            elif value.sizes["band"] == cube.sizes["band"]:
                np.testing.assert_array_equal(value["wavelength"], cube["wavelength"])
        else:
            assert value.dims == ("layer", "y", "x") and len(set(value["layer"].values)) == value.shape[0]
    for name, value in inputs.items():
        xr.testing.assert_identical(value, usual.copies[name])
    report = result.report
    assert report.method == f"{card.room}/{card.name}" and report.seconds["total"] > 0
    assert report.settings == method.settings.model_dump()
    figures = report.figures
    assert all(isinstance(v, (int, float, str, bool, list, dict, type(None))) for v in figures.values()), figures


def test_same_seed_same_bytes_whatever_memory_is_free(card, monkeypatch):
    first = usual_run(card).result
    monkeypatch.setattr(memory, "free_memory", lambda: 1 << 28)
    same(first, again(card))


def test_nodata_stays_nodata_and_spreads_as_far_as_declared(card):
    cube = cube_of(special(card).bands)
    cube.values[:, 5:9, 3:8] = np.nan
    cube.values[:, 20, 19] = np.nan
    method = create(card)
    result = run(card, cube, method=method)
    hole = maximum_filter(np.isnan(cube.values).all(0), 2 * method.hole_reach + 1)
    assert any("hole_reach" in line for line in result.report.filled) == bool(method.hole_reach)
    for name, value in result.items():
        output = outputs_of(method)[name]
        if output.kind not in ("cube", "layers") or output.from_state:
            continue
        zoom = value.shape[-1] // hole.shape[1]
        wide = np.repeat(np.repeat(hole, zoom, 0), zoom, 1)
        missing = np.isnan(value.values) if value.dtype.kind == "f" else value.values == value.attrs["nodata"]
        np.testing.assert_array_equal(missing, np.broadcast_to(wide, missing.shape), err_msg=name)


def test_bad_bands_come_back_empty_or_repaired(card):
    cube = cube_of(special(card).bands)
    good = np.ones(cube.sizes["band"], bool)
    good[2] = False
    cube = cube.assign_coords(good=("band", good))
    cube.values[2] = 1e6
    method = create(card)
    result = run(card, cube, method=method)
    for name, value in result.items():
        output = outputs_of(method)[name]
        if output.kind == "cube" and not output.own_bands and value.sizes["band"] == good.size:
            assert np.isnan(value.values[2]).all() != method.allows_bad_bands
            assert np.abs(value.values[good]).max() < 1e5, "the bad band leaked into the others"


@pytest.mark.parametrize(
    ("bands", "rows", "cols"), [(1, 24, 20), (2, 24, 20), (8, 1, 1), (8, 2, 3), (8, 1, 40), (8, 40, 1), (8, 7, 33)]
)
def test_odd_sizes_work_or_are_refused(card, bands, rows, cols):
    result = result_or_error(card, cube_of(bands, rows, cols))
    if result is not None:
        for value in result.values():
            if isinstance(value, xr.DataArray) and value.dtype.kind == "f":
                assert np.isfinite(value.values).all()


@pytest.mark.parametrize("value", [0.0, 0.3])
def test_constant_scenes_work_or_are_refused(card, value):
    cube = cube_of(special(card).bands)
    result = result_or_error(card, cube.copy(data=np.full_like(cube.values, value)))
    if result is not None:
        # NaN is an honest answer here (the angle of a zero spectrum); infinity is not.
        for found in result.values():
            assert not isinstance(found, xr.DataArray) or not np.isinf(found.values.astype(float)).any()


@pytest.mark.parametrize("grid", ["rotated", "none"])
def test_grids_are_kept(card, grid):
    method = create(card)
    cube = cube_of(special(card).bands, grid=grid)
    result = run(card, cube, method=method)
    for name, value in result.items():
        output = outputs_of(method)[name]
        if output.kind in ("cube", "layers"):
            here = grid_of(value)
            assert here.kind == grid
            assert here.crs == grid_of(cube).crs
            if not output.grid and output.zoom == 1:
                assert here == grid_of(cube)


@pytest.mark.parametrize("tile", [(8, 16), (12, 20)])
def test_tiled_equals_untiled(card, tile):
    method = create(card)
    if method.scope not in (Scope.PIXEL, Scope.LOCAL, Scope.COLUMN):
        pytest.skip(f"{method.scope} scope does not promise it")
    same(in_tiles(card, (40, 36)), in_tiles(card, tile), rtol=2e-4, atol=2e-5)


def test_memory_is_told_for_every_function(card):
    method = create(card)
    needs = method.memory(Size(50, 100, 80, 2))
    assert needs["apply"] > 0 and all(isinstance(n, int) and n >= 0 for n in needs.values())
    larger = method.memory(Size(50, 200, 80, 2))
    assert larger["apply"] >= needs["apply"]


def test_the_state_is_the_weights(card, tmp_path):
    """A fitted state survives a file, and applying it again gives the same result."""
    usual = usual_run(card)
    save_state(tmp_path / "state", usual.state)
    state = load_state(tmp_path / "state")
    if state:
        same(usual.result, again(card, state=state), rtol=1e-6, atol=1e-6)


def test_killed_and_resumed(card, tmp_path, monkeypatch):
    """Stopped in a round of a long fit, else in the first pass or block that tells of itself, and gone on."""
    method = create(card)
    long = inspect.isgeneratorfunction(type(method).fit)
    monkeypatch.setattr(fitting, "ROUND_SECONDS", 0.0)

    def stop(step):
        in_round = step.stage == "fit" and 0 < step.fraction < 1
        if in_round if long else step.stage.startswith(("fit pass", "apply")):
            raise KeyboardInterrupt

    with pytest.raises(Interrupted):
        again(card, out=f"{tmp_path}/out/", progress=stop)
    same(usual_run(card).result, again(card, out=f"{tmp_path}/out/", resume=True))


def test_device_is_what_was_asked_for(card):
    usual = usual_run(card)
    assert usual.devices <= {"cpu"} and usual.result.report.device == "cpu"


@pytest.mark.gpu
def test_gpu_agrees_with_cpu(card):
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    cube = cube_of(special(card).bands)
    same(run(card, cube, device="cpu"), run(card, cube, device="cuda"), rtol=1e-3, atol=1e-4)


def test_title_and_paper_are_readable(card):
    assert not re.search(r"\s{2,}|\n", card.title) and len(card.title) < 100
    assert re.search(r"\w", card.paper)
