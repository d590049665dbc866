"""Spatially disjoint splits, folds and leakage."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from torchspectral.engine.method import Window
from torchspectral.errors import BadInput, BadSettings
from torchspectral.learn.splits import HELD_OUT, TRAIN, Area, block_split, folds, leakage, random_split


def distance(a: Window, b: Window) -> int:
    rows = max(a.row - (b.row + b.height), b.row - (a.row + a.height), 0)
    cols = max(a.col - (b.col + b.width), b.col - (a.col + a.width), 0)
    return max(rows, cols)


def overlap(a: Window, b: Window) -> bool:
    return a.row < b.row + b.height and b.row < a.row + a.height and a.col < b.col + b.width and b.col < a.col + a.width


@settings(max_examples=60, deadline=None)
@given(
    shapes=st.lists(st.tuples(st.integers(40, 200), st.integers(40, 200)), min_size=1, max_size=3),
    block=st.sampled_from([20, 33, 48]),
    guard=st.integers(0, 9),
    reach=st.integers(0, 30),
    seed=st.integers(0, 5),
    share=st.floats(0.05, 0.6),
)
def test_parts_keep_their_distance(shapes, block, guard, reach, seed, share) -> None:
    try:
        areas = block_split(shapes, held_out=share, block=block, guard=guard, reach=reach, least=4, seed=seed)
    except BadInput:
        return
    for a in areas:
        rows, cols = shapes[a.scene]
        assert a.window.row >= 0 and a.window.row + a.window.height <= rows
        assert a.window.col >= 0 and a.window.col + a.window.width <= cols
    train, held = ([a for a in areas if a.part == part] for part in (TRAIN, HELD_OUT))
    assert train and held
    for a in train:
        for b in held:
            if a.scene == b.scene:
                assert distance(a.window, b.window) >= guard
                # What is read to make the patches of one part never lies in the blocks of the other.
                assert not overlap(a.ground, b.window) and not overlap(b.ground, a.window)
    for a in areas:
        assert a.ground.row <= a.window.row and a.ground.col <= a.window.col
        assert a.ground.row + a.ground.height >= a.window.row + a.window.height
        assert a.ground.col + a.ground.width >= a.window.col + a.window.width


def test_default_block_and_guard_suit_the_scene() -> None:
    areas = block_split([(145, 145)], guard=-1, reach=60, least=35)
    assert {a.part for a in areas} == {TRAIN, HELD_OUT} and len(areas) == 9
    large = block_split([(4000, 1000)], guard=-1, reach=60, least=96)
    assert max(a.window.height for a in large) >= 200
    assert block_split([(145, 145)], seed=1) == block_split([(145, 145)], seed=1)
    assert block_split([(145, 145)], seed=1) != block_split([(145, 145)], seed=2)


def test_folds_hold_every_block_out_once() -> None:
    rounds = folds([(100, 100)], 5, block=20, guard=0)
    counts = np.zeros((100, 100), dtype=int)
    for areas in rounds:
        for a in areas:
            if a.part == HELD_OUT:
                counts[a.window.slices] += 1
    assert (counts == 1).all()


def test_patches_lie_on_multiples_and_reach_the_edge() -> None:
    area = Area(0, Window(3, 5, 30, 22), TRAIN, Window(0, 0, 40, 40))
    patches = area.patches(8, 6, 2)
    assert all(w.row % 2 == 0 and w.col % 2 == 0 for w in patches)
    assert min(w.row for w in patches) == 4 and max(w.row for w in patches) == 24
    assert all(w.row + 8 <= 33 and w.col + 8 <= 27 for w in patches)
    assert area.patches(40, 6) == []


def test_random_split_leaks_and_says_so() -> None:
    train, held = random_split([(64, 64)], size=16, stride=8, held_out=0.2, seed=0)
    found = leakage(train, held, guard=4)
    assert found.shared > 0.8 and found.within >= found.shared and "too good" in found.sentence()
    areas = block_split([(96, 96)], block=24, guard=4, least=8)
    parts = [[(a.scene, w) for a in areas if a.part == p for w in a.patches(8, 4)] for p in (TRAIN, HELD_OUT)]
    assert leakage(*parts, guard=4).within == 0
    assert "lie within 4 pixels" in leakage(*parts, guard=4).sentence()
    assert leakage(*parts).sentence() == "0% of the held-out pixels also train"


def test_what_cannot_be_split() -> None:
    with pytest.raises(BadInput, match="smaller patch"):
        block_split([(30, 30)], guard=10, least=20)
    with pytest.raises(BadInput, match="one block"):
        block_split([(30, 30)], block=30)
    with pytest.raises(BadSettings, match="held-out share"):
        block_split([(30, 30)], held_out=1.5)
    with pytest.raises(BadSettings, match="folds"):
        folds([(30, 30)], 1)
    with pytest.raises(BadInput, match="patches"):
        random_split([(8, 8)], size=8, stride=8)
