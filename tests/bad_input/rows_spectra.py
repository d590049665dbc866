"""Bad input to sensors, spectra, the accessor and reports."""

from __future__ import annotations

import numpy as np
from affine import Affine
from table import Row

import torchspectral as ts
from torchspectral import report, sensors, spectra
from torchspectral.errors import (
    BadCube,
    BadInput,
    BadSettings,
    BandMismatch,
    GridMismatch,
    MissingMetadata,
    OutputExists,
    OutputFailed,
    ProductNotFound,
    UnknownName,
)
from torchspectral.geo.grids import place

WAVE = np.linspace(420, 2400, 40)


def _cube(**facts):
    facts = {"wavelength": WAVE, "quantity": "reflectance", **facts}
    return ts.make_cube(np.full((40, 4, 5), 0.3, np.float32), **facts)


def _yaml(text: str):
    def prepare(folder):
        (folder / "sensor.yaml").write_text(text)
        return folder / "sensor.yaml"

    return prepare


def _existing(folder):
    (folder / "r.html").write_text("mine")
    return folder


NONE_GOOD = np.zeros(40, dtype=bool)
MAP = Affine(30, 0, 5e5, 0, -30, 5e6)

ROWS = [
    Row("sensor-unknown", lambda t: sensors.get("enmop"), UnknownName, "did you mean enmap"),
    Row("sensor-file-missing", lambda t: sensors.from_yaml(t / "no.yaml"), ProductNotFound, "does not exist"),
    Row("sensor-file-not-yaml", sensors.from_yaml, BadSettings, "is not YAML", prepare=_yaml("a: [b")),
    Row("sensor-file-list", sensors.from_yaml, BadSettings, "expected a mapping",
        prepare=_yaml("- 1\n- 2\n")),
    Row("sensor-file-python-tag", sensors.from_yaml, BadSettings, "is not YAML",
        prepare=_yaml("a: !!python/object/apply:os.system ['true']")),
    Row("sensor-file-no-bands", sensors.from_yaml, BadSettings, "bands: Field required",
        prepare=_yaml("name: x\ngsd: 1\n")),
    Row("resample-no-wavelengths", lambda t: ts.resample(_cube(wavelength=None), "emit"), MissingMetadata,
        "wavelength"),
    Row("resample-unknown-target", lambda t: ts.resample(_cube(), "sentinel-3"), UnknownName, "sentinel-2a"),
    Row("resample-micrometres", lambda t: ts.resample(_cube(), [0.45, 0.55]), BandMismatch,
        "convert the units"),
    Row("resample-out-of-range", lambda t: ts.resample(_cube(), [8000.0]), BandMismatch, "cover none"),
    Row("resample-no-good-band", lambda t: ts.resample(_cube(good=NONE_GOOD), "emit"), BandMismatch,
        "no good band"),
    Row("resample-unknown-method", lambda t: ts.resample(_cube(), "emit", method="spline"), BadSettings,
        "expected one of"),
    Row("resample-not-a-cube", lambda t: ts.resample(np.zeros((3, 4, 5)), "emit"), BadCube,
        "expected an xarray.DataArray"),
    Row("resample-packed", lambda t: ts.resample(_cube(attrs={"packing": {"scale": [1e-4]}}), "emit"),
        BadCube, "raw=True"),
    Row("index-unknown", lambda t: _cube().hsi.index("NDVL"), UnknownName, "did you mean"),
    Row("index-no-band-near", lambda t: _cube().isel(band=slice(0, 5)).hsi.index("NBR"), BandMismatch,
        "tolerance="),
    Row("index-needs-reflectance", lambda t: _cube(quantity="radiance").hsi.index("EVI"), BadCube,
        "convert the cube"),
    Row("index-video", lambda t: spectra.spectral_index(
        ts.make_cube(np.zeros((2, 40, 3, 3), np.float32), wavelength=WAVE), "NDVI"), BadCube, "one frame"),
    Row("continuum-range", lambda t: spectra.remove_continuum(_cube(), low=900, high=800), BadSettings,
        "low below high"),
    Row("continuum-too-few", lambda t: spectra.absorption(_cube(), 500, 510), BandMismatch, "three or more"),
    Row("picture-stretch", lambda t: _cube().hsi.rgb(stretch=(50, 50)), BadSettings, "percentiles"),
    Row("picture-no-good-band", lambda t: _cube(good=NONE_GOOD).hsi.rgb(), BandMismatch, "no good band"),
    Row("at-nothing-given", lambda t: _cube().hsi.at(), BadSettings, "one place"),
    Row("at-outside", lambda t: _cube().hsi.at(row=4, col=0), GridMismatch, "4 rows x 5 cols"),
    Row("at-places-nowhere", lambda t: _cube().hsi.at(lon=1, lat=2), GridMismatch, "give row and col"),
    Row("at-other-country", lambda t: place(_cube(), MAP, 32633).hsi.at(lon=-120, lat=10), GridMismatch,
        "spans"),
    Row("window-leaves", lambda t: _cube().hsi.window(row=2, height=9), GridMismatch, "leaves the image"),
    Row("window-both-ways", lambda t: _cube().hsi.window(row=2, bbox=(0, 0, 1, 1)), BadSettings, "either"),
    Row("spectrum-mask-size", lambda t: _cube().hsi.spectrum(np.ones((2, 2), bool)), GridMismatch,
        "mask has shape"),
    Row("spectrum-all-nodata", lambda t: (_cube() * np.nan).hsi.spectrum(), BadInput, "no valid pixel"),
    Row("table-empty", lambda t: report.Table([]), BadSettings, "without rows"),
    Row("html-exists", lambda t: report.write_html(t / "r.html", title="t", sections=[], overwrite=False),
        OutputExists,
        "ask to overwrite", prepare=_existing),
    Row("html-no-folder", lambda t: report.write_html(t / "no/r.html", title="t", sections=[]),
        OutputFailed, "cannot write"),
    Row("html-no-figure",
        lambda t: report.render_html(title="t", sections=[{"title": "s", "figures": [("", 3)]}]),
        BadSettings, "expected a matplotlib Figure"),
    Row("panel-no-picture", lambda t: report.save_panel([("a", b"GIF89a")], t / "p.png"), BadSettings,
        "expected a Figure"),
    Row("layers-not-layers", lambda t: report.abundance_maps(_cube()[0]), BadCube, "layer, y, x"),
]  # fmt: skip
