"""Cutting, blending weights, memory, devices: the pure parts."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from torchspectral.engine.blend import blend_blocks, tile_weights
from torchspectral.engine.device import parse_device
from torchspectral.engine.filling import fill_margin
from torchspectral.engine.memory import PeakMemory, anonymous_memory, check_fits, free_memory, parse_bytes
from torchspectral.engine.method import Scope
from torchspectral.engine.plan import BLOCK_BYTES, LARGE_BLOCK_BYTES, STRIP_BYTES, batches, cut_scene, make_plan
from torchspectral.engine.running import RunOptions
from torchspectral.errors import BadSettings, TooLarge

SIZES = st.integers(1, 90)


@given(
    scope=st.sampled_from(list(Scope)), rows=SIZES, cols=SIZES, tile=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    halo=st.integers(0, 9), multiple=st.integers(1, 4), overlap=st.integers(0, 3),
)  # fmt: skip
def test_tiles_cover_every_pixel_once(scope, rows, cols, tile, halo, multiple, overlap):
    size = (tile[0] * multiple * 2, tile[1] * multiple * 2)
    overlap = overlap * multiple if overlap * multiple < min(size) else 0
    plan = make_plan(scope, (rows, cols), 8, tile=size, overlap=overlap, halo=halo, multiple=multiple)
    count = np.zeros((rows, cols), int)
    for number, cut in enumerate(plan.fit):
        assert cut.index == number
        count[cut.inner.slices] += 1
        assert cut.window.row <= cut.inner.row and cut.window.col <= cut.inner.col
        assert cut.window.row >= 0 and cut.window.row + cut.window.height <= rows
        if scope in (Scope.LOCAL, Scope.COLUMN):
            missing = cut.inner.col - cut.window.col
            assert missing >= min(halo, cut.inner.col)
        if scope not in (Scope.SCENE, Scope.FRAMES, Scope.COLUMN):
            assert cut.window.row % multiple == 0 and cut.window.col % multiple == 0
    assert (count == 1).all()
    total = np.zeros((rows, cols))
    for cut in plan.apply:
        total[cut.window.slices] += tile_weights(cut, plan.overlap, 1, (rows, cols))
    assert (total > 0).all()
    seen = np.zeros((rows, cols), int)
    for _, block in blend_blocks(plan.apply if scope is Scope.TILE else plan.fit):
        seen[block.slices] += 1
    if scope in (Scope.TILE, Scope.PIXEL):
        assert (seen == 1).all()


@given(length=st.integers(1, 200), tile=st.integers(2, 40), share=st.floats(0, 0.5))
def test_ramps_of_neighbours_sum_to_one(length, tile, share):
    overlap = int(tile * share)
    cuts = cut_scene((length, 1), (tile, 1), overlap=overlap)
    total = np.zeros((length, 1))
    for cut in cuts:
        total[cut.window.slices] += tile_weights(cut, overlap, 1, (length, 1))
    regular = cuts[-1].window.row if len(cuts) > 1 else length
    np.testing.assert_allclose(total[: max(0, regular)], 1)


@pytest.mark.parametrize("scope", [Scope.PIXEL, Scope.LOCAL, Scope.COLUMN, Scope.TILE])
@pytest.mark.parametrize("shape", [(20000, 1000), (300, 60000), (500, 300)])
@pytest.mark.parametrize("depth", [3, 450, 8000])
def test_tiles_hold_a_bounded_number_of_values(scope, shape, depth):
    plan = make_plan(scope, shape, depth)
    largest = max(c.inner.height * c.inner.width for c in plan.fit) * depth * 4
    floor = shape[0] * depth * 4 if scope is Scope.COLUMN else 32 * 32 * depth * 4
    assert largest <= max(BLOCK_BYTES, floor)


def test_a_wide_halo_gets_tiles_that_are_worth_it():
    """159 bands at ratio 6 with a halo of 57 pixels: a tile of 32 pixels would be a twentieth of what is read."""
    depth = 159 + 36 + 159 * 36
    narrow, wide = (make_plan(Scope.LOCAL, (200, 200), depth, halo=halo) for halo in (4, 57))
    assert narrow.tile == (32, 32) and wide.tile == (100, 100) and len(wide.apply) == 4
    for shape in ((200, 200), (1000, 1100), (31, 4000), (5, 5)):
        plan = make_plan(Scope.LOCAL, shape, depth, halo=57, multiple=3)
        assert plan.tile[0] * plan.tile[1] * depth * 4 < 1.1 * LARGE_BLOCK_BYTES
    assert make_plan(Scope.LOCAL, (900, 900), 10, halo=200).tile == (256, 256)
    read = [sum(c.window.height * c.window.width for c in plan.apply) for plan in (narrow, wide)]
    tight = make_plan(Scope.LOCAL, (200, 200), depth, halo=57, tile=(32, 32))
    assert read[1] < 0.25 * sum(c.window.height * c.window.width for c in tight.apply)


def test_strips_follow_tall_chunks():
    plain = make_plan(Scope.PIXEL, (4000, 1000), 200)
    assert plain.tile[1] == 1000 and plain.tile[0] * 1000 * 200 * 4 <= STRIP_BYTES
    assert make_plan(Scope.PIXEL, (4000, 1000), 200, chunks=(256, 256)).tile == (256, 256)
    assert make_plan(Scope.PIXEL, (4000, 1000), 200, chunks=(1, 1000)).tile == plain.tile
    halves = make_plan(Scope.PIXEL, (4000, 1000), 200, chunks=(512, 512)).tile
    assert 512 % halves[0] == 512 % halves[1] == 0 and halves[0] * halves[1] * 800 <= BLOCK_BYTES


def test_batches_hold_tiles_of_one_shape():
    cuts = cut_scene((20, 20), (8, 8), (2, 2))
    for group in batches(cuts, 4):
        assert len({(c.window.height, c.window.width, c.inner.row - c.window.row) for c in group}) == 1
    assert [c.index for group in batches(cuts, 4) for c in group] == list(range(9))


def test_tiles_that_make_no_sense():
    with pytest.raises(BadSettings, match="multiples of 4"):
        make_plan(Scope.LOCAL, (100, 100), 5, tile=(10, 8), multiple=4)
    with pytest.raises(BadSettings, match="overlap"):
        make_plan(Scope.TILE, (100, 100), 5, tile=(8, 8), overlap=8)


def test_fill_margin_reaches_the_nearest_valid_pixel():
    for halo in range(1, 40):
        assert halo + fill_margin(halo) >= halo * np.sqrt(2)
    assert fill_margin(0) == 0


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GB", 4 * 10**9), ("512 MiB", 512 * 2**20), (1000, 1000), ("1_000", 1000), ("1.5k", 1500), (None, None)],
)
def test_sizes_are_read(text, size):
    assert parse_bytes(text) == size


@pytest.mark.parametrize("text", ["much", "-3GB", "0", "4 parsecs", "ib", True])
def test_bad_sizes(text):
    with pytest.raises(BadSettings):
        parse_bytes(text)


def test_memory_is_seen():
    with PeakMemory(interval=0.005) as watch:
        block = np.ones(30_000_000)
        give_up = time.monotonic() + 30  # the watch looks now and then, and a busy machine lets it wait
        while watch.peak < anonymous_memory() and time.monotonic() < give_up:
            time.sleep(0.01)
        held = anonymous_memory()
    assert watch.peak >= 0.9 * held > block.nbytes  # what another thread frees or takes meanwhile is not counted
    assert free_memory() > 1 << 20
    check_fits(10, None, "this")
    with pytest.raises(TooLarge, match=r"needs 2 kB, but 1 kB are allowed by max_memory"):
        check_fits(2000, 1000, "this")


def test_devices():
    assert str(parse_device("cpu")) == "cpu"
    assert parse_device("auto").type in ("cpu", "cuda")
    for name in ("gpu", "cuda:x", "", "cuda:99"):
        with pytest.raises(BadSettings):
            parse_device(name)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tile": 2.5}, "tile=2.5"),
        ({"tile": ["a", 2]}, "tile="),
        ({"bands": ["a"]}, "bands=.*list of band indices"),
        ({"bands": [[0, 1]]}, "bands=.*list of band indices"),
        ({"bands": 3}, "bands=3"),
        ({"dtype": "foo"}, "dtype 'foo'"),
    ],
    ids=str,
)
def test_options_of_the_wrong_kind(options, told):
    with pytest.raises(BadSettings, match=told):
        RunOptions.make(options)


def test_options_from_numpy():
    options = RunOptions(tile=np.int64(4), seed=np.int64(3), bands=np.array([2, 0]))
    assert options.tile == (4, 4) and options.seed == 3
    assert options.changed()["bands"] == [2, 0]
