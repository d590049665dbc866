"""Generated land: seasons, coherence, sensors; the same for the same seed."""

from __future__ import annotations

from datetime import date

import numpy as np
import pytest

from torchspectral.errors import BadSettings, UnknownName
from torchspectral.synth.land_cover import COVERS, MATERIALS, material
from torchspectral.synth.patch_sets import GRID, PatchSettings, dates_of, eye, land_patch

SMALL = PatchSettings.make({"size": 24, "holes": 0.0, "grain": 4.0})


@pytest.mark.parametrize("name", MATERIALS)
def test_materials_are_reflectances(name: str) -> None:
    spectrum = material(name, GRID, np.random.default_rng(0))
    assert spectrum.shape == GRID.shape and spectrum.min() >= 0.001 and spectrum.max() <= 0.9
    assert np.abs(np.diff(spectrum)).max() < 0.05


def test_leaves_have_a_red_edge_and_water_absorbs() -> None:
    leaf, water = (material(name, GRID, np.random.default_rng(1)) for name in ("leaf", "water"))
    at = lambda spectrum, wave: float(np.interp(wave, GRID, spectrum))  # noqa: E731
    assert at(leaf, 800) > 5 * at(leaf, 672) and at(leaf, 552) > at(leaf, 672) and at(leaf, 1450) < 0.5 * at(leaf, 1280)
    assert at(water, 560) > 3 * at(water, 900)


def test_enmap_has_the_bands_of_spectralearth() -> None:
    bands = eye("enmap")
    assert bands.wavelength.size == 202 and np.all(np.diff(bands.wavelength) > 0)
    assert np.allclose(bands.weights.sum(1), 1) and np.allclose(bands.weights @ GRID, bands.wavelength, atol=1.5)
    assert eye("sentinel-2a").wavelength.size < 14
    with pytest.raises(UnknownName):
        eye("no such sensor")
    with pytest.raises(BadSettings):
        PatchSettings.make({"second": 2})


def test_the_same_seed_gives_the_same_patch_and_a_season_another() -> None:
    days = date(2022, 2, 10), date(2022, 7, 1)
    settings = PatchSettings.make({**SMALL.model_dump(), "labels": "single"})
    # Place 2 * 8 of a set of single covers is mostly broad-leaved forest.
    winter, summer = (land_patch(16, day, "sentinel-2a", settings, seed=3) for day in days)
    again = land_patch(16, days[0], "sentinel-2a", settings, seed=3)
    assert np.array_equal(winter.values, again.values) and np.array_equal(winter.cover, summer.cover)
    assert COVERS[winter.main].name == "broad-leaved forest" and winter.main in winter.present
    wave = eye("sentinel-2a").wavelength
    red, near = int(np.abs(wave - 665).argmin()), int(np.abs(wave - 833).argmin())
    here = winter.cover == winter.main
    ndvi = [float(((v[near] - v[red]) / (v[near] + v[red]))[here].mean()) for v in (winter.values, summer.values)]
    assert ndvi[1] > ndvi[0] + 0.2


def test_cover_is_coherent_and_holes_are_all_bands() -> None:
    patch = land_patch(3, date(2022, 6, 1), "sentinel-2a", SMALL, seed=0)
    same = (patch.cover[:, 1:] == patch.cover[:, :-1]).mean()
    assert same > 0.8 and np.isfinite(patch.values).all() and patch.values.min() > -0.1
    holed = PatchSettings.make({"size": 24, "holes": 1.0})
    gone = [np.isnan(land_patch(k, date(2022, 6, 1), "sentinel-2a", holed).values) for k in range(4)]
    assert all(np.array_equal(g.any(0), g.all(0)) for g in gone) and sum(g.any() for g in gone) >= 3


def test_second_dates() -> None:
    two = PatchSettings.make({"second": 0.5})
    counts = [len(dates_of(place, two, 0)) for place in range(200)]
    assert 60 < counts.count(2) < 140 and all(d == sorted(d) for d in (dates_of(p, two, 0) for p in range(20)))
