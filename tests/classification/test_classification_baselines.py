"""PCA and LDA, support vectors, forests: as scikit-learn has them, from arrays."""

from __future__ import annotations

import numpy as np
import pytest

import torchspectral as ts
from torchspectral.errors import BadInput, BadSettings, BandMismatch, OutputExists
from torchspectral.registry import create

sklearn = pytest.importorskip("sklearn")
NAMES = {"pca-lda": {"components": 8}, "svm": {"c": [1, 10], "gamma": [0.1, 0.01]}, "random-forest": {"trees": 30}}


def spectra(classes: int = 4, n: int = 240, bands: int = 12, seed: int = 0):
    rng = np.random.default_rng(seed)
    pure = rng.random((classes, bands))
    y = np.repeat(np.arange(classes), n // classes)
    return pure[y] * rng.uniform(0.8, 1.2, (len(y), 1)) + 0.12 * rng.standard_normal((len(y), bands)), y * 3 + 1


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", NAMES)
def test_arrays_say_what_scikit_learn_says(name: str, classes: int) -> None:
    x, y = spectra(classes)
    fresh, _ = spectra(classes, seed=0)
    fresh = fresh[::3] + 0.05
    method = create("classification", name, NAMES[name])
    state = method.learn_spectra(x, y, np.arange(len(y)) // 7)
    found = method.predict(fresh, state)
    assert found.shape == (len(fresh), classes) and np.allclose(found.sum(1), 1, atol=1e-6)
    mean, std = x.mean(0), x.std(0)
    a, b = (x - mean) / std, (fresh - mean) / std
    if name == "pca-lda":
        from sklearn.decomposition import PCA
        from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
        from sklearn.pipeline import make_pipeline

        lda = LinearDiscriminantAnalysis(solver="lsqr", shrinkage="auto")
        np.testing.assert_allclose(found, make_pipeline(PCA(8), lda).fit(a, y).predict_proba(b), atol=1e-8)
    elif name == "svm":
        from sklearn.svm import SVC

        model = SVC(C=state["chosen_c"], gamma=state["width"], class_weight="balanced", break_ties=classes > 2).fit(
            a, y
        )
        assert (np.array(state["class_numbers"])[found.argmax(1)] == model.predict(b)).all()
    else:
        from sklearn.ensemble import RandomForestClassifier

        model = RandomForestClassifier(30, class_weight="balanced", random_state=0).fit(a.astype(np.float32), y)
        np.testing.assert_allclose(found, model.predict_proba(b.astype(np.float32)), atol=1e-6)


def scene(rows: int = 40, cols: int = 50, bands: int = 12):
    x, y = spectra(3, n=rows * cols // 3 * 3, bands=bands)
    place = np.argsort(np.argsort(np.add.outer(np.arange(rows), np.arange(cols)).ravel(), kind="stable"), kind="stable")
    order = np.clip(place, 0, len(y) - 1)
    cube = ts.make_cube(
        x[order].T.reshape(bands, rows, cols).astype(np.float32), wavelength=np.linspace(450, 2300, bands),
        quantity="reflectance",
    )  # fmt: skip
    return cube, y[order].reshape(rows, cols)


def layer(values):
    out = ts.make_layers(values[None].astype(np.uint8), ["labels"])
    return out.assign_attrs(class_names=["", "corn", "", "", "hay", "", "", "oats"])


@pytest.mark.parametrize("name", NAMES)
def test_scene_and_weights(tmp_path, name: str) -> None:
    cube, truth = scene()
    labels = layer(np.where(np.random.default_rng(2).random(truth.shape) < 0.15, truth, 0))
    file = tmp_path / "model.safetensors"
    result = ts.classify(cube, method=name, labels=labels, settings=NAMES[name], save_weights=file)
    assert (result["classes"].values[0] == truth).mean() > 0.9
    assert list(result["probabilities"]["layer"].values) == ["corn", "hay", "oats"]
    assert result["entropy"].values.min() >= 0 and result["entropy"].values.max() <= 1
    again = ts.classify(cube, weights=file, tile=(16, 20))
    np.testing.assert_array_equal(again["classes"].values, result["classes"].values)
    assert again["classes"].attrs["class_names"][7] == "oats" and again.report.weights == f"{name}.model"
    assert result.report.figures["areas"]["corn"]["pixels"] == int((result["classes"].values == 1).sum())
    if name == "pca-lda":
        with pytest.raises(OutputExists):
            ts.classify(cube, method=name, labels=labels, save_weights=file)
        with pytest.raises(BandMismatch, match="expect 12"):
            ts.classify(cube[:9], weights=file)
        with pytest.raises(BadSettings, match="leave it out"):
            ts.classify(cube, weights=file, method="sam")
        with pytest.raises(BadInput, match="two classes"):
            ts.classify(cube, method=name, labels=layer(np.where(truth == 1, 1, 0)))
        with pytest.raises(BadInput, match="no labelled pixel"):
            ts.classify(cube, method=name, labels=layer(truth * 0))
        with pytest.raises(BadInput, match="out of range"):
            ts.classify(cube, method=name, labels=layer(truth * 0 + 255))


def fields(side: int = 96, field: int = 12, bands: int = 10):
    """A class for each field, and spectra that differ more between fields of a class than within them."""
    rng = np.random.default_rng(3)
    place = np.add.outer(np.arange(side) // field * (side // field), np.arange(side) // field)
    kind = rng.integers(1, 4, place.max() + 1)
    own = rng.standard_normal((bands, place.max() + 1)) + 0.1 * rng.standard_normal((bands, 4))[:, kind]
    values = own[:, place] + 0.03 * rng.standard_normal((bands, side, side))
    cube = ts.make_cube(values.astype(np.float32), wavelength=np.linspace(450, 2300, bands), quantity="reflectance")
    return cube, kind[place]


def test_held_out_at_random_seems_better_than_in_blocks() -> None:
    cube, truth = fields()
    truth[:12, :12] = 6  # a class of one field
    found = ts.classify(cube, method="random-forest", labels=layer(truth), settings={"trees": 20, "most": 1500})
    figures, notes = found.report.figures, " ".join(found.report.notes)
    assert figures["oa_random"] > 0.9 and figures["oa_blocks"] < figures["oa_random"] - 0.15
    assert "too good" in notes and "not tested, for they lie in one block: class 6" in notes
    plain = ts.classify(cube, method="random-forest", labels=layer(truth), settings={"trees": 5, "check": False})
    assert "oa_blocks" not in plain.report.figures
