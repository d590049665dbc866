"""Spectral angle mapper: angles, thresholds, labels, and the numbers that are written."""

from __future__ import annotations

import numpy as np
import pytest

import torchspectral as ts
from torchspectral.classification.spectral_angle import class_colours
from torchspectral.errors import BadInput, BadSettings
from torchspectral.io.samples import indian_pines


def scene(classes: int = 3, bands: int = 20, rows: int = 18, cols: int = 13, seed: int = 0):
    random = np.random.default_rng(seed)
    spectra = 0.1 + random.random((classes, bands))
    numbers = random.integers(0, classes, (rows, cols))
    bright = random.uniform(0.5, 1.5, (rows, cols))
    values = spectra[numbers].transpose(2, 0, 1) * bright + 0.002 * random.standard_normal((bands, rows, cols))
    cube = ts.make_cube(values.astype(np.float32), wavelength=np.linspace(400, 2400, bands), quantity="reflectance")
    return cube, spectra, numbers + 1


def layers_of(numbers: np.ndarray, names: list[str] | None = None):
    out = ts.make_layers(numbers[None].astype(np.uint8), ["labels"])
    if names:
        out.attrs["class_names"] = names
    return out


def test_library_gives_classes_whatever_the_brightness() -> None:
    cube, spectra, numbers = scene()
    result = ts.classify(cube, library=ts.make_spectra(spectra, ["corn", "hay", "oats"]))
    classes = result["classes"]
    assert classes.dtype == np.uint8 and (classes.values[0] == numbers).all()
    assert classes.attrs["class_names"] == ["unclassified", "corn", "hay", "oats"]
    assert len(classes.attrs["class_colors"]) == 4 and classes.attrs["nodata"] == 255
    angles = result["angles"]
    assert list(angles["layer"].values) == ["corn", "hay", "oats"]
    unit = cube.values / np.linalg.norm(cube.values, axis=0)
    want = np.arccos(np.einsum("kb,byx->kyx", spectra / np.linalg.norm(spectra, axis=1, keepdims=True), unit))
    np.testing.assert_allclose(angles.values, want, atol=1e-4)


def test_threshold_nodata_and_zero_pixels() -> None:
    cube, spectra, numbers = scene()
    cube = cube.copy()
    cube[:, 0, 0] = np.nan
    cube[:, 0, 1] = 0
    cube[:, 0, 2] = np.arange(20)[::-1]
    result = ts.classify(cube, library=ts.make_spectra(spectra, list("abc")), settings={"max_angle": 0.05})
    classes = result["classes"].values[0]
    assert list(classes[0, :3]) == [255, 0, 0]
    assert (classes[1:] == numbers[1:]).all()
    assert np.isnan(result["angles"].values[:, 0, :2]).all()
    assert not any("unclassified" in note for note in result.report.notes)
    strict = ts.classify(cube, library=ts.make_spectra(spectra[:, ::-1], list("abc")), settings={"max_angle": 1e-4})
    assert any(
        "of the pixels are unclassified: they lie farther than max_angle=0.0001" in n for n in strict.report.notes
    )


def test_labels_give_class_means_with_their_own_numbers() -> None:
    cube, _, numbers = scene()
    labels = np.where(np.random.default_rng(1).random(numbers.shape) < 0.3, numbers * 2, 0)
    result = ts.classify(cube, labels=layers_of(labels, ["none", "x", "two", "y", "four", "z", "six"]))
    assert (result["classes"].values[0] == numbers * 2).all()
    assert result["classes"].attrs["class_names"][2::2] == ["two", "four", "six"]
    assert result.report.figures["classes"] == {
        name: int((labels == n).sum()) for n, name in ((2, "two"), (4, "four"), (6, "six"))
    }
    unnamed = ts.classify(cube, labels=layers_of(labels))
    assert list(unnamed["angles"]["layer"].values) == ["class 2", "class 4", "class 6"]


def test_tiled_is_untiled_and_workers_agree() -> None:
    cube, _, numbers = scene()
    labels = layers_of(np.where(numbers > 1, numbers, 0))
    whole = ts.classify(cube, labels=labels)
    tiled = ts.classify(cube, labels=labels, tile=(5, 4), batch=3)
    np.testing.assert_array_equal(whole["classes"].values, tiled["classes"].values)
    np.testing.assert_allclose(whole["angles"].values, tiled["angles"].values, atol=1e-6)


def test_indian_pines() -> None:
    cube, labels = indian_pines()
    result = ts.classify(cube, labels=labels, settings={"max_angle": 3.0})
    truth = labels.values.squeeze()
    right = (result["classes"].values[0] == truth)[truth > 0].mean()
    assert 0.45 < right < 0.55  # class means and raw counts: the floor that everything else must beat
    assert result["classes"].attrs["class_names"][14] == "Woods"


def test_a_state_is_used_again() -> None:
    import torch

    cube, spectra, numbers = scene()
    state = {
        "references": torch.from_numpy(spectra),
        "class_names": list("abc"),
        "class_numbers": [7, 8, 9],
        "pixels": [],
    }
    result = ts.classify(cube, state=state)
    assert (result["classes"].values[0] == numbers + 6).all()


def test_what_cannot_be_classified_says_so() -> None:
    cube, spectra, numbers = scene()
    library = ts.make_spectra(spectra, list("abc"))
    with pytest.raises(BadSettings, match="exactly one"):
        ts.classify(cube)
    with pytest.raises(BadSettings, match="exactly one"):
        ts.classify(cube, library=library, labels=layers_of(numbers))
    with pytest.raises(BadInput, match="no labelled pixel"):
        ts.classify(cube, labels=layers_of(numbers * 0))
    with pytest.raises(BadInput, match="at most 254"):
        ts.classify(cube, labels=layers_of(np.full_like(numbers, 255)))
    with pytest.raises(BadInput, match="zero in all bands"):
        ts.classify(cube, library=ts.make_spectra(np.zeros((1, 20)), ["a"]))
    with pytest.raises(BadInput, match="one layer"):
        ts.classify(cube, labels=ts.make_layers(np.zeros((2, 18, 13), np.uint8), list("ab")))
    with pytest.raises(BadInput, match="fractions"):
        ts.classify(cube, labels=ts.make_layers(np.full((1, 18, 13), 0.5), ["a"]))


def test_colours_differ() -> None:
    colours = class_colours(60)
    assert len({tuple(c) for c in colours}) == 60 and all(0 <= v <= 255 for c in colours for v in c)


def test_written_classes_keep_names_and_colours(tmp_path) -> None:
    import rasterio

    cube, spectra, numbers = scene()
    library = ts.make_spectra(spectra, ["corn", "hay", "oats"])
    result = ts.classify(cube, library=library, out=tmp_path / "classes.tif")
    assert (np.asarray(result["classes"]).squeeze() == numbers).all()
    with rasterio.open(tmp_path / "classes.tif") as file:
        assert file.dtypes == ("uint8",) and file.nodata == 255
        assert file.colormap(1)[1][:3] == tuple(class_colours(4)[1])
    again = ts.open(tmp_path / "classes.tif", layers=("labels",))["labels"]
    assert again.attrs["class_names"] == ["unclassified", "corn", "hay", "oats"]
