"""Layers of detector columns, (layer, 1, x), beside windows of their cube."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from torchspectral import make_cube, make_layers
from torchspectral.geo import place, window
from torchspectral.io.layers import combine


@pytest.mark.parametrize("cut", [(2, 1, 3, 4), (0, 3, 1, 3), (5, 0, 1, 6), (0, 0, 7, 6)])
def test_columns_are_cut_by_columns_alone(cut: tuple[int, int, int, int]) -> None:
    whole = make_cube(np.zeros((2, 7, 6), np.float32))
    columns = make_layers(np.arange(12.0).reshape(2, 1, 6), ["band_1", "band_2"])
    both = combine(window(whole, *cut), whole, {"column_wavelength": columns})
    _, col, height, width = cut
    assert both["cube"].shape == (2, height, width)
    np.testing.assert_array_equal(both["column_wavelength"].values, columns.values[:, :, col : col + width])


def test_a_layer_of_one_row_of_ground_is_no_column_layer() -> None:
    from affine import Affine

    whole = place(make_cube(np.zeros((1, 1, 8))), Affine(10.0, 0, 0, 0, -10.0, 0), 32633)
    pan = place(make_layers(np.arange(32.0).reshape(1, 2, 16), ["pan"]), Affine(5.0, 0, 0, 0, -5.0, 0), 32633)
    both = combine(window(whole, 0, 2, 1, 3), whole, {"pan": pan})
    assert isinstance(both, xr.Dataset) and both["pan"].shape == (1, 2, 6)
