"""Labels on a cube's pixels, and spectral libraries from text."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine

import torchspectral as ts
from torchspectral.errors import BadInput, BrokenProduct, GridMismatch, MissingMetadata, ProductNotFound
from torchspectral.geo import grid_of, place
from torchspectral.io.labels import labels_on, read_labels
from torchspectral.io.libraries import read_library

TRANSFORM = Affine(10.0, 0, 500000, 0, -10.0, 4000000)
NAMES, COLOURS = ["none", "corn", "hay"], [[0, 0, 0], [255, 200, 0], [0, 99, 1]]


def raster(numbers, transform=TRANSFORM, crs=32633):
    layers = ts.make_layers(
        np.asarray(numbers)[None], ["labels"], attrs={"class_names": NAMES, "class_colors": COLOURS}, name="labels"
    )
    return place(layers, transform, crs)


def cube(rows, cols, transform=TRANSFORM, crs=32633):
    return place(ts.make_cube(np.zeros((2, rows, cols), "f4")), transform, crs)


@pytest.mark.parametrize("suffix", [".tif", ".hdr", ".zarr"])
def test_names_and_colours_come_along(tmp_path, suffix) -> None:
    numbers = np.random.default_rng(0).integers(0, 3, (8, 9)).astype("u1")
    labels = read_labels(ts.save(raster(numbers), tmp_path / f"l{suffix}"))
    assert labels.dims == ("y", "x") and labels.dtype == np.uint8
    np.testing.assert_array_equal(labels.values, numbers)
    assert labels.attrs["class_names"] == NAMES and labels.attrs["class_colors"] == COLOURS
    assert grid_of(labels).transform == TRANSFORM


def test_whole_pixels_are_cut_and_filled_exactly(tmp_path) -> None:
    numbers = (np.arange(80).reshape(8, 10) % 3).astype("u1")
    path = ts.save(raster(numbers), tmp_path / "l.tif")
    inside = read_labels(path, like=cube(4, 5, Affine(10, 0, 500030, 0, -10, 3999980)))
    np.testing.assert_array_equal(inside.values, numbers[2:6, 3:8])
    assert "row 2, column 3" in inside.attrs["history"][-1]
    around = read_labels(path, like=cube(12, 14, Affine(10, 0, 499980, 0, -10, 4000010)))
    np.testing.assert_array_equal(around.values[1:9, 2:12], numbers)
    assert around.values.sum() == numbers.sum()


def test_other_grids_take_the_nearest_label(tmp_path) -> None:
    numbers = np.repeat(np.repeat(np.array([[1, 2], [2, 1]], "u1"), 4, 0), 4, 1)
    path = ts.save(raster(numbers), tmp_path / "l.tif")
    coarse = read_labels(path, like=cube(2, 2, Affine(40, 0, 500000, 0, -40, 4000000)))
    np.testing.assert_array_equal(coarse.values, [[1, 2], [2, 1]])
    assert "nearest" in coarse.attrs["history"][-1]
    with pytest.raises(GridMismatch, match="another scene"):
        read_labels(path, like=cube(3, 3, Affine(10, 0, 900000, 0, -10, 4000000)))


def test_without_georeference_sizes_must_agree(tmp_path) -> None:
    numbers = np.ones((4, 5), "u1")
    path = ts.save(raster(numbers, None), tmp_path / "l.hdr")
    assert read_labels(path, like=cube(4, 5)).shape == (4, 5)
    with pytest.raises(GridMismatch, match="4 x 5 pixels, expected 6 x 5"):
        read_labels(path, like=cube(6, 5))


def test_floats_and_nodata_become_zero(tmp_path) -> None:
    values = np.array([[1, np.nan], [2, 300]], "f4")
    labels = read_labels(ts.save(place(ts.make_layers(values[None], ["l"]), TRANSFORM, 32633), tmp_path / "l.tif"))
    assert labels.dtype == np.uint16
    np.testing.assert_array_equal(labels.values, [[1, 0], [2, 300]])
    marked = ts.make_layers(np.array([[[255, 1]]], "u1"), ["l"], attrs={"nodata": 255})
    np.testing.assert_array_equal(read_labels(ts.save(marked, tmp_path / "n.tif")).values, [[0, 1]])


def test_what_is_no_class_raster(tmp_path) -> None:
    with pytest.raises(BadInput, match="fractions"):
        read_labels(ts.save(ts.make_layers(np.full((1, 2, 2), 0.5, "f4"), ["l"]), tmp_path / "f.tif"))
    with pytest.raises(BadInput, match="one band"):
        read_labels(ts.save(ts.make_cube(np.ones((3, 2, 2), "u1")), tmp_path / "m.tif"))
    with pytest.raises(BadInput, match="-4"):
        read_labels(ts.save(ts.make_cube(np.full((1, 2, 2), -4, "i2")), tmp_path / "neg.tif"))


def test_real_labels_lie_on_the_real_tiles(samples) -> None:
    tile = ts.open(samples / "enmap" / "images" / "enmap_potsdam_tile_96_32.tif")
    own = read_labels(samples / "enmap" / "labels" / "enmap_potsdam_tile_96_32.tif", like=tile)
    whole = read_labels(samples / "enmap" / "enmap_potsdam_landcover.tif", like=tile)
    np.testing.assert_array_equal(own.values, whole.values)
    gt = read_labels(samples / "labels" / "PaviaU_gt.mat")
    assert gt.shape == (610, 340) and set(np.unique(gt)) == set(range(10))


def test_indian_pines_labels_fit_as_they_are() -> None:
    pytest.importorskip("tensorly")
    from torchspectral.io.samples import indian_pines

    scene, labels = indian_pines()
    np.testing.assert_array_equal(labels_on(labels[0], scene).values, labels[0].values)


def test_text_libraries_in_both_orientations(tmp_path) -> None:
    (tmp_path / "a.csv").write_text("# by hand\nwavelength;soil;grass\n0.5;0.1;0.2\n0.6;0.3;\n")
    spectra = read_library(tmp_path / "a.csv")
    np.testing.assert_allclose(spectra["wavelength"].values, [500, 600])
    np.testing.assert_allclose(spectra.values, np.array([[0.1, 0.3], [0.2, np.nan]], "f4"))
    assert any("micrometres" in line for line in spectra.attrs["history"])
    (tmp_path / "b.csv").write_text("name,500,600,700\nsoil,1,2,3\nsoil,4,5,6\n")
    spectra = read_library(tmp_path / "b.csv")
    assert list(spectra["spectrum"].values) == ["soil", "soil 2"] and spectra.shape == (2, 3)
    assert spectra.attrs["quantity"] == "dn"


def test_bad_libraries_are_typed(tmp_path) -> None:
    with pytest.raises(ProductNotFound):
        read_library(tmp_path / "no.csv")
    for text, error in (
        ("a,b\n1,2\n", MissingMetadata),
        ("wavelength,b\n500\n", BrokenProduct),
        ("wavelength,b\n500,x\n", BrokenProduct),
        ("wavelength,b\n", BrokenProduct),
        ("wavelength,b\n5000000,1\n", MissingMetadata),
    ):
        (tmp_path / "x.csv").write_text(text)
        with pytest.raises(error):
            read_library(tmp_path / "x.csv")
    (tmp_path / "x.csv").write_bytes(b"\xff\xfe\x00\x01" * 10)
    with pytest.raises(BrokenProduct, match="not text"):
        read_library(tmp_path / "x.csv")


def test_real_libraries(samples) -> None:
    spectra = read_library(samples / "speclib" / "library_berlin.sli")
    assert spectra.shape == (75, 177)
    leaves = read_library(samples / "traits" / "ely_plsr_data.csv")
    assert leaves.shape == (178, 1901) and leaves["wavelength"].values[0] == 500
