"""Vectors outside memory: as a tensor's rows, in states, in workers."""

from __future__ import annotations

import pickle

import pytest
import torch

from torchspectral.engine.scratch import Workspace
from torchspectral.engine.shelf import Shelf
from torchspectral.engine.states import load_state, save_state
from torchspectral.errors import BrokenProduct


def make(folder) -> Shelf:
    return Shelf(Workspace(folder).array("shelf-nets", (1, 4, 3), "float32"))


@pytest.mark.parametrize("on_disk", [True, False])
def test_rows_are_those_of_a_tensor(tmp_path, on_disk):
    shelf, like = make(tmp_path if on_disk else None), torch.zeros(4, 3)
    for place, values in ((1, torch.arange(3.0)), (slice(2, 4), torch.ones(2, 3)), (-1, torch.full((3,), 7.0))):
        shelf[place] = values
        like[place] = values
    assert shelf.shape == like.shape and len(shelf) == 4
    for place in (0, 1, -1, slice(1, 3), slice(None)):
        assert torch.equal(shelf[place], like[place])
    for place in (4, -5):
        with pytest.raises(IndexError):
            shelf[place]


def test_a_journaled_state_names_its_shelf_and_any_other_has_its_values(tmp_path):
    shelf = make(tmp_path)
    shelf[2] = torch.ones(3)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    for folder in (tmp_path, elsewhere):
        save_state(folder / "s.state", {"nets": shelf, "place": 2})
    again = load_state(tmp_path / "s.state")["nets"]
    assert isinstance(again, Shelf) and torch.equal(again[:], shelf[:])
    assert torch.equal(pickle.loads(pickle.dumps(again))[2], torch.ones(3))
    assert torch.equal(load_state(elsewhere / "s.state")["nets"], shelf[:])
    (tmp_path / "shelf-nets.raw").unlink()
    with pytest.raises(BrokenProduct, match="damaged"):
        load_state(tmp_path / "s.state")
