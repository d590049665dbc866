"""The shipped encoder on real EnMAP tiles: it was pretrained on generated patches and saw none of them."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch

import torchspectral as ts
from torchspectral.metrics.representation import dsmi
from torchspectral.weights import load

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
NAME = "enmap-vit-t.generated"


@pytest.fixture
def study(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    sys.modules.pop("land_cover", None)
    import land_cover

    return land_cover


def test_folds_are_whole_tiles_apart(study: ModuleType, samples: Path) -> None:
    places = [tuple(int(n) // 32 for n in p.stem.split("_")[-2:]) for p in (samples / "enmap" / "images").glob("*.tif")]
    pixels = study.Pixels(np.zeros((14, 1, 4, 4)), np.ones(14), np.array(places))
    tested = []
    for train, test in study.folds(pixels):
        assert len(train) and not any(study.touching(places[i], places[j]) for i in train for j in test)
        tested += test.tolist()
    assert sorted(tested) == list(range(14))


def test_shipped_encoder_tells_land_cover_apart_better_than_random(study: ModuleType, samples: Path) -> None:
    """DSMI with the classes, of pixels of two tiles."""
    encoder: Any = ts.create_model(NAME)
    found = load(NAME, model=encoder)
    assert found.card.quantity == "reflectance" and len(found.card.wavelengths) == 202
    pixels = study.read_tiles(samples / "enmap", most=2)
    some = np.random.default_rng(0).permutation(len(pixels.labels))[:250]
    seen = pixels.spectra.astype(np.float64)
    mean, std = seen.mean(0), seen.std(0)
    bits = []
    for network in (encoder, study.fresh(0), study.fresh(1)):
        x = study.embedded(network, pixels.crops[some], mean, std)
        bits.append(float(dsmi(x, clusters=pixels.labels[some], sigma="median")))
    assert bits[0] > 1.05 * max(bits[1:])


@pytest.mark.slow
def test_pretraining_beats_random_by_two_deviations(study: ModuleType, samples: Path, tmp_path: Path) -> None:
    """The table of docs/backbones.md with three seeds, about five minutes."""
    torch.set_num_threads(1)
    rows = study.study(samples / "enmap", tmp_path, range(3), baselines=("pca-lda",), heads=("20 nearest",))
    apart = study.apart(rows)
    assert min(apart.values()) > 2, apart
    assert 0.5 < rows["pca-lda"][0]["OA"] < 0.6
