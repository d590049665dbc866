"""On real EnMAP tiles: a trained encoder tells more about land cover, on tiles that it never saw, than at random."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import torchspectral as ts
from torchspectral.io.labels import read_labels
from torchspectral.metrics import representation as r


def pixels(samples: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Reflectance spectra (n, bands), land cover (n,), tile (n,) of the labelled pixels."""
    found = []
    for number, file in enumerate(sorted((samples / "enmap" / "images").glob("*.tif"))):
        cube = ts.open(file, bands="good").values
        classes = read_labels(samples / "enmap" / "labels" / file.name).values
        keep = (classes > 0) & np.isfinite(cube).all(0)
        found.append((cube[:, keep].T, classes[keep], np.full(int(keep.sum()), number)))
    return tuple(np.concatenate(parts) for parts in zip(*found, strict=True))  # type: ignore[return-value]


def encoder(bands: int) -> nn.Module:
    return nn.Sequential(nn.Linear(bands, 128), nn.BatchNorm1d(128), nn.ReLU(), nn.Linear(128, 64))


@pytest.mark.slow
def test_training_tells_more_about_land_cover(samples: Path) -> None:
    # The kernel is as wide as the median distance: training concentrates embeddings, and at a fixed width the entropy
    # that there is to explain shrinks with them.
    spectra, classes, tiles = pixels(samples)
    x = torch.from_numpy((spectra - spectra.mean(0)) / spectra.std(0)).float()
    y = torch.from_numpy(classes.astype(np.int64))
    seen, unseen = np.flatnonzero(tiles % 2 == 0), np.flatnonzero(tiles % 2 == 1)
    fixed = np.random.default_rng(0).choice(unseen, 1000, replace=False)
    gains, probes = [], []
    for seed in range(5):
        torch.manual_seed(seed)
        network, head = encoder(x.shape[1]), nn.Linear(64, 7)
        optimiser = torch.optim.Adam([*network.parameters(), *head.parameters()], 1e-3)

        def measured(network: nn.Module = network) -> tuple[float, float]:
            network.eval()
            with torch.no_grad():
                z = network(x[fixed])
            network.train()
            probe = r.knn_probe(z, classes[fixed], groups=tiles[fixed])["overall"]
            return float(r.dsmi(z, clusters=classes[fixed], sigma="median")), probe

        before = measured()
        draw = np.random.default_rng(seed)
        for _ in range(300):
            some = torch.from_numpy(draw.choice(seen, 128))
            optimiser.zero_grad()
            nn.functional.cross_entropy(head(network(x[some])), y[some]).backward()
            optimiser.step()
        after = measured()
        print(f"seed {seed}: DSMI {before[0]:.3f} -> {after[0]:.3f} bits, kNN {before[1]:.3f} -> {after[1]:.3f}")
        gains.append(after[0] - before[0])
        probes.append(after[1] - before[1])
    assert np.mean(gains) > 0 and np.mean(probes) > 0.05
