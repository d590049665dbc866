"""The sensor files: complete, sourced, and recognised from cubes."""

from __future__ import annotations

import json
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import scipy.io
import yaml

from torchspectral import sensors
from torchspectral.cube import make_cube
from torchspectral.errors import BadSettings, ProductNotFound, UnknownName
from torchspectral.sensors import catalog

BANDS = {
    "aviris-3": 284, "aviris-classic": 224, "aviris-ng": 425, "casi-1500": 72, "desis": 235, "emit": 285, "enmap": 224,
    "geoeye-1": 4, "hydice": 210, "hyspex-swir-384": 288, "hyspex-vnir-1800": 186, "ikonos": 4, "imec-4x4": 16,
    "imec-5x5": 25, "landsat-5": 6, "landsat-7": 6, "landsat-8": 8, "landsat-9": 8, "neon-ais": 426, "prisma": 239,
    "quickbird": 4, "rosis": 115, "sentinel-2a": 13, "sentinel-2b": 13, "specim-fx10": 224, "specim-fx17": 224,
    "specim-iq": 204, "worldview-2": 8, "worldview-3": 16,
}  # fmt: skip
SIBLINGS = {"landsat-8", "landsat-9", "quickbird", "worldview-2"}
"""Their bands are those of another, or the first of another."""


def _cube(wavelength, **attrs):
    return make_cube(np.zeros((len(wavelength), 1, 1), np.float32), wavelength=wavelength, attrs=attrs)


def test_all_sensors_are_there() -> None:
    assert BANDS.items() <= {s.name: s.bands for s in sensors.list_sensors()}.items()


@pytest.mark.parametrize("name", BANDS)
def test_every_number_has_a_source(name: str) -> None:
    sensor = sensors.get(name)
    told = {s.of for s in sensor.sources}
    expected = {"bands", "response", "drift", "mtf", "bad_ranges", "rgb", "gsd"} | ({"pan"} if sensor.pan else set())
    assert told == expected
    assert sensor.mtf.shape == sensor.gsd.shape == sensor.fwhm.shape == sensor.wavelength.shape
    assert len(sensor.names) == sensor.bands
    assert 0 < sensor.good.sum() <= sensor.bands
    assert not sensor.wavelength.flags.writeable
    assert ("nominal" in " ".join(s.text for s in sensor.sources)) or not sensor.nominal


@pytest.mark.parametrize("name", ["EnMAP", "enmap hsi", "ENMAP01", "S2", "sentinel_2A", "WV-3", "WorldView3", "Aviris"])
def test_names_and_aliases(name: str) -> None:
    assert sensors.get(name).name in BANDS


def test_aliases_do_not_collide() -> None:
    keys = [catalog._key(w) for s in sensors.list_sensors() for w in {s.name, *s.aliases}]
    per_sensor = {(s.name, catalog._key(w)) for s in sensors.list_sensors() for w in (s.name, *s.aliases)}
    assert len({k for _, k in per_sensor}) == len(per_sensor)
    assert keys


def test_unknown_name_says_the_closest() -> None:
    with pytest.raises(UnknownName, match="prisma"):
        sensors.get("prisms")


def test_values_from_the_specification() -> None:
    prisma, wv3, s2 = sensors.get("prisma"), sensors.get("wv3"), sensors.get("s2a")
    assert prisma.pan is not None and (prisma.pan.mtf, prisma.pan.ratio, prisma.pan.range) == (0.2, 6, (400.0, 700.0))
    assert wv3.pan is not None and wv3.pan.mtf == 0.15
    np.testing.assert_array_equal(wv3.mtf[:8], [0.325, 0.355, 0.36, 0.35, 0.365, 0.36, 0.335, 0.315])
    assert set(prisma.mtf) == {0.3}
    centres = dict(zip(s2.names, zip(np.round(s2.wavelength), s2.fwhm, strict=True), strict=True))
    assert centres["B2"] == (492, 66) and centres["B8A"] == (865, 21) and centres["B12"] == (2202, 175)


def test_response_is_one_at_the_centre_and_half_at_the_edges() -> None:
    for sensor in sensors.list_sensors():
        i = sensor.bands // 2
        c, w = sensor.wavelength[i], sensor.fwhm[i]
        np.testing.assert_allclose(sensor.response_of(i, np.array([c, c - w / 2, c + w / 2])), [1, 0.5, 0.5], rtol=1e-9)
        low, high = sensor.support_of(i)
        assert sensor.response_of(i, np.array([low, high])).max() < 1e-4
    assert sensors.get("s2").response(np.linspace(400, 900, 7)).shape == (13, 7)


def test_own_centres_match_the_real_enmap_tile(samples: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    with rasterio.open(samples / "enmap/images/enmap_potsdam_tile_128_96.tif") as tile:
        centres = [float(tile.tags(i)["wavelength"]) for i in range(1, 225)]
    assert sensors.match(_cube(centres)).name == "enmap"
    np.testing.assert_allclose(centres, sensors.get("enmap").wavelength, atol=1e-6)


def test_enmap_response_is_gaussian_as_its_file_says(samples: Path) -> None:
    """The published response functions, read as a measured table."""
    features = json.loads((samples / "enmap/enmap_potsdam_srf.geojson").read_text())["features"]
    curves = [f["properties"]["profiles"] for f in features]
    centre = [float(np.average(c["x"], weights=c["y"])) for c in curves]
    width = [
        2.3548 * float(np.sqrt(np.average((np.array(c["x"]) - m) ** 2, weights=c["y"])))
        for c, m in zip(curves, centre, strict=False)
    ]
    table = sensors.from_mapping(
        {
            "name": "measured",
            "gsd": 30,
            "bands": {"wavelength": centre, "fwhm": width},
            "response": "table",
            "srf": [{"first": c["x"][0], "step": 1, "values": c["y"]} for c in curves],
        }
    )
    grid = np.arange(405.0, 2470.0)
    gauss = np.exp2(-(((grid[None] - np.array(centre)[:, None]) / (np.array(width)[:, None] / 2)) ** 2))
    assert np.abs(table.response(grid) - gauss).max() < 0.021
    assert table.shape == "table" and table.srf is not None


def test_centres_of_real_products(samples: Path) -> None:
    h5py = pytest.importorskip("h5py")
    with h5py.File(samples / "neon/neon_sjer_subset.h5") as file:
        assert sensors.match(_cube(file["SJER/Reflectance/Metadata/Spectral_Data/Wavelength"][:])).name == "neon-ais"
    radiance = np.loadtxt(next((samples / "aviris/pixels").glob("ang2017*.txt")))
    assert sensors.match(_cube(radiance[:, 0])).name == "aviris-ng"
    campus = scipy.io.loadmat(samples / "casi/an_hsi_image_sub_for_demo.mat")["wavelengths"].ravel()
    assert sensors.match(_cube(campus)).name == "casi-1500"


def test_match_by_wavelengths_of_real_scenes(samples: Path) -> None:
    header = (samples / "unmixing/emit/emit20250324t221005_jpl_unmix_ex.hdr").read_text()
    emit = next(line for line in header.splitlines() if line.startswith("wavelength ="))
    centres = [float(v) for v in emit.split("{")[1].strip(" }").split(",")]
    assert sensors.match(_cube(centres)).name == "emit"
    older = scipy.io.loadmat(samples / "unmixing/jasper/AVIRIS_wavelengths.mat")["AVIRIS_wavlen"].ravel()
    newer = scipy.io.loadmat(samples / "aviris/aviris_vi_demo_90x90x224.mat")["wavelengths"].ravel()
    assert sensors.match(_cube(older)).name == "aviris-classic"
    assert sensors.match(_cube(newer)).name == "aviris-classic"


def test_match_rules() -> None:
    enmap = sensors.get("enmap")
    assert sensors.match(_cube(np.sort(enmap.wavelength))).name == "enmap"
    assert sensors.match(_cube(enmap.wavelength[enmap.good])).name == "enmap"
    assert sensors.match(_cube([500.0, 600.0, 700.0])) is None
    assert sensors.match(_cube(np.linspace(400, 1000, 224))) is None
    assert sensors.match(_cube([500.0], sensor="S2A")).name == "sentinel-2a"
    assert sensors.match(_cube([500.0], sensor="no such", platform="PRISMA")).name == "prisma"
    assert sensors.match(make_cube(np.zeros((3, 1, 1)))) is None
    for sensor in sensors.list_sensors():
        found = sensors.match(_cube(sensor.wavelength))
        assert found is None if sensor.name in SIBLINGS else found.name == sensor.name


def test_plugin_sensors(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    mine = sensors.from_mapping({"name": "mine", "gsd": 1, "bands": {"wavelength": [500], "fwhm": [10]}})

    class Entry:
        name, value = "x", "somewhere"

        def __init__(self, thing):
            self._thing = thing

        def load(self):
            if isinstance(self._thing, Exception):
                raise self._thing
            return self._thing

    found = [Entry(mine), Entry(ImportError("gone")), Entry(sensors.get("emit"))]
    monkeypatch.setattr(metadata, "entry_points", lambda group: found)
    catalog._catalog.cache_clear()
    catalog._names.cache_clear()
    try:
        assert sensors.get("Mine").bands == 1
        assert "skipped: gone" in caplog.text and "hidden by ours" in caplog.text
    finally:
        catalog._catalog.cache_clear()
        catalog._names.cache_clear()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bands": {}}, "exactly one of"),
        ({"bands": {"wavelength": [1, 2], "fwhm": [1]}}, "2 wavelengths but 1 FWHM"),
        ({"bands": {"wavelength": [0.5], "fwhm": [1]}}, "above 100 nm"),
        ({"bands": {"ranges": [[400, 500]]}}, "nominal: true"),
        ({"mtf": [0.3, 0.3]}, "2 values for 1 bands"),
        ({"mtf": 3}, "between 0 and 1"),
        ({"colour": "red"}, "Extra inputs"),
        ({"response": "table"}, "0 curves for 1 bands"),
        ({"response": "table", "srf": [{"first": 400, "step": 1, "values": [0, 0]}]}, "positive peak"),
        ({"gsd": "big"}, "gsd"),
    ],
)
def test_bad_files(tmp_path: Path, change: dict, message: str) -> None:
    values = {"name": "x", "gsd": 30, "bands": {"wavelength": [500.0], "fwhm": [10.0]}, **change}
    file = tmp_path / "x.yaml"
    file.write_text(yaml.safe_dump(values))
    with pytest.raises(BadSettings, match=message) as caught:
        sensors.from_yaml(file)
    assert "\n" not in str(caught.value)


def test_bad_paths(tmp_path: Path) -> None:
    with pytest.raises(ProductNotFound):
        sensors.from_yaml(tmp_path / "no.yaml")
    (tmp_path / "b.yaml").write_text("a: [")
    with pytest.raises(BadSettings, match="not YAML"):
        sensors.from_yaml(tmp_path / "b.yaml")
