"""Figures: the axes that they promise, shared scales, and the pixels that come out."""

from __future__ import annotations

import io
import sys

import numpy as np
import pytest
from PIL import Image

import torchspectral as ts
from torchspectral.errors import BadCube, BadSettings, GridMismatch, OutputExists
from torchspectral.report import (
    abundance_maps,
    band_curves,
    bars,
    class_map,
    compose_panel,
    error_maps,
    figure_png,
    rgb_panels,
    save_panel,
    spectra_at_pixels,
    spectra_lines,
)

WAVE = np.linspace(420, 2400, 60)


def cube(rows: int = 12, cols: int = 16):
    values = np.random.default_rng(0).random((WAVE.size, rows, cols)).astype(np.float32)
    return ts.make_cube(values, wavelength=WAVE, quantity="reflectance")


def pixels_of(figure) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(figure_png(figure, dpi=100))).convert("RGB"), dtype=float)


def test_no_global_state_of_matplotlib() -> None:
    import matplotlib

    before = dict(matplotlib.rcParams)
    figure = rgb_panels([("a", cube())])
    assert dict(matplotlib.rcParams) == before
    assert type(figure.canvas).__name__ == "FigureCanvasAgg"
    assert figure.number if hasattr(figure, "number") else True
    pyplot = sys.modules.get("matplotlib.pyplot")
    assert pyplot is None or figure not in map(pyplot.figure, pyplot.get_fignums())


def test_pictures_share_the_first_ones_stretch() -> None:
    first, dark = cube(), cube() * 0.5
    figure = rgb_panels([("first", first), ("dark", dark), ("grey", first[3].values)], pixels=[(1, 2)], columns=2)
    shown = [ax for ax in figure.axes if ax.images]
    assert [ax.get_title() for ax in shown] == ["first", "dark", "grey"]
    bright, half = (ax.images[0].get_array()[..., :3].mean() for ax in shown[:2])
    assert half < 0.75 * bright
    assert shown[0].lines[0].get_xydata().tolist() == [[2.5, 1.5]]
    own = rgb_panels([("first", first), ("dark", dark)], share_stretch=False)
    a, b = (ax.images[0].get_array()[..., :3].mean() for ax in own.axes)
    assert a == pytest.approx(b, abs=1e-3)


def test_markers_land_on_the_same_ground_of_finer_images() -> None:
    fine = np.zeros((24, 32, 3))
    figure = rgb_panels([("coarse", cube()), ("fine", fine)], pixels=[(1, 2)])
    assert figure.axes[1].lines[0].get_xydata().tolist() == [[5.0, 3.0]]


def test_error_maps_share_one_scale() -> None:
    small, large = np.full((5, 6), 0.1), np.linspace(0, 2, 30).reshape(5, 6)
    figure = error_maps([("small", small), ("large", large)], unit="K")
    limits = [ax.images[0].get_clim() for ax in figure.axes if ax.images]
    assert limits[0] == limits[1] and limits[0][0] == 0 and 1.5 < limits[0][1] <= 2
    assert figure.axes[-1].get_ylabel() == "absolute error [K]"
    signed = error_maps([("d", large - 1)], signed=True, highest=1.0)
    assert signed.axes[0].images[0].get_clim() == (-1.0, 1.0)
    assert signed.axes[-1].get_ylabel() == "error"
    assert error_maps([("zero", np.zeros((3, 3)))]).axes[0].images[0].get_clim() == (0, 1)
    error_maps([("empty", np.full((3, 3), np.nan))])


def test_spectra_at_pixels() -> None:
    figure = spectra_at_pixels({"clean": cube(), "noisy": cube() + 0.1}, [(1, 2), (3, 4)])
    picture, spectra = figure.axes[:2]
    assert len(picture.lines) == 2 and len(spectra.lines) == 4
    assert spectra.get_xlabel() == "wavelength [nm]" and spectra.get_ylabel() == "reflectance"
    assert [t.get_text() for t in spectra.get_legend().texts] == ["row 1, col 2", "row 3, col 4", "clean", "noisy"]
    np.testing.assert_allclose(spectra.lines[0].get_ydata(), cube().values[:, 1, 2], rtol=1e-6)
    assert spectra.lines[0].get_color() == spectra.lines[2].get_color() != spectra.lines[1].get_color()


def test_layers_classes_spectra_curves_bars() -> None:
    layers = ts.make_layers(np.random.default_rng(0).random((3, 8, 9)), ["a", "b", "c"])
    maps = abundance_maps(layers, columns=2)
    assert [ax.get_title() for ax in maps.axes if ax.images][:3] == ["a", "b", "c"]
    assert maps.axes[0].images[0].get_clim() == (0, 1)
    assert maps.axes[-1].get_ylabel() == "abundance"
    assert abundance_maps(layers * 9, limits=None, label="LMA", unit="g m-2").axes[-1].get_ylabel() == "LMA [g m-2]"
    classes = class_map(np.array([[0, 1], [2, 2]]), {1: "roof", 2: "tree"}, colours={1: "#ff0000"})
    assert [t.get_text() for t in classes.axes[0].get_legend().texts] == ["roof  (1)", "tree  (2)"]
    assert classes.axes[0].images[0].get_array()[0, 1].tolist() == [1, 0, 0, 1]
    spectra = ts.make_spectra(np.random.default_rng(0).random((2, 60)), ["x", "y"], wavelength=WAVE)
    assert [line.get_label() for line in spectra_lines(spectra, offset=0.5).axes[0].lines] == ["x", "y"]
    good = np.ones(60, dtype=bool)
    good[20:25] = False
    curves = band_curves(
        {"m": np.arange(60.0)}, wavelength=WAVE, good=good, label="PSNR", unit="dB", spreads={"m": np.ones(60)}
    )
    assert curves.axes[0].get_ylabel() == "PSNR [dB]" and np.isnan(curves.axes[0].lines[0].get_ydata()).sum() == 5
    assert len(curves.axes[0].patches) == 1 and len(curves.axes[0].collections) == 1
    assert band_curves({"m": np.arange(1.0, 4)}, label="x", log=True).axes[0].get_yscale() == "log"
    chart = bars({"a": 1.0, "b": 3.0, "c": float("nan")}, label="ERGAS", errors={"a": 0.5}, best="min").axes[0]
    assert [t.get_text() for t in chart.texts] == ["1 ± 0.5", "3", "no value"]
    assert chart.patches[0].get_facecolor() != chart.patches[1].get_facecolor()


def test_golden_pixels() -> None:
    """A picture of four flat colours comes out in exactly these colours, in this order."""
    flat = np.zeros((2, 2, 3))
    flat[0, 0], flat[0, 1], flat[1, 0], flat[1, 1] = (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 1)
    figure = rgb_panels([("", flat)], size=3.0)
    image = pixels_of(figure)
    box = figure.axes[0].get_window_extent()
    height = image.shape[0]

    def at(x: float, y: float) -> list[float]:
        return image[int(height - (box.y0 + (1 - y) * box.height)), int(box.x0 + x * box.width)].tolist()

    assert at(0.25, 0.25) == [255, 0, 0] and at(0.75, 0.25) == [0, 255, 0]
    assert at(0.25, 0.75) == [0, 0, 255] and at(0.75, 0.75) == [255, 255, 255]
    assert figure_png(rgb_panels([("", flat)], size=3.0)) == figure_png(rgb_panels([("", flat)], size=3.0))


def test_panels(tmp_path) -> None:
    red = Image.new("RGB", (300, 100), (255, 0, 0))
    buffer = io.BytesIO()
    red.save(buffer, "PNG")
    panel = compose_panel(
        [("one", red), ("two", buffer.getvalue()), ("three", bars({"a": 1.0}, label="x"))], column_width=300
    )
    assert panel.width == 2 * 28 + 2 * 300 + 22
    colours = np.asarray(panel).reshape(-1, 3)
    assert (colours == [255, 0, 0]).all(axis=1).sum() == 2 * 298 * 98
    path = save_panel([("a " * 200, red)], tmp_path / "p.png", title="Title")
    assert Image.open(path).size[0] == 2 * 28 + 900 and [p.name for p in tmp_path.iterdir()] == ["p.png"]
    with pytest.raises(OutputExists):
        save_panel([("a", red)], path, overwrite=False)
    with pytest.raises(BadSettings, match="at least one"):
        compose_panel([])
    with pytest.raises(BadSettings, match="expected a Figure"):
        compose_panel([("a", 5)])
    with pytest.raises(BadSettings, match="expected a Figure"):
        compose_panel([("a", b"no png")])


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: rgb_panels([]), BadSettings, "0 images"),
        (lambda: rgb_panels([("a", np.zeros((2, 3, 4, 5)))]), BadCube, "expected numbers"),
        (lambda: error_maps([]), BadSettings, "no maps"),
        (lambda: spectra_at_pixels({}, [(0, 0)]), BadSettings, "0 cubes"),
        (lambda: spectra_at_pixels({"a": cube()}, [(99, 0)]), GridMismatch, "outside the image"),
        (lambda: abundance_maps(np.zeros((2, 3, 3))), BadCube, "layer, y, x"),
        (lambda: abundance_maps(ts.make_layers(np.zeros((1, 3, 3)), ["a"]), names=["a", "b"]), BadSettings, "2 names"),
        (lambda: spectra_lines(cube()), BadCube, "make_spectra"),
        (lambda: band_curves({"a": [1, 2], "b": [1]}, label="x"), BadSettings, "lengths"),
        (lambda: band_curves({"a": [1, 2]}, wavelength=[1.0], label="x"), BadSettings, "1 wavelengths"),
        (lambda: bars({}, label="x"), BadSettings, "0 bars"),
    ],
)
def test_what_cannot_be_drawn(make, error, message) -> None:
    with pytest.raises(error, match=message):
        make()
