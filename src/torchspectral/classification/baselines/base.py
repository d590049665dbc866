"""What the baselines share: labelled spectra gathered from a scene, arrays as state, probabilities of pixels.

A further baseline is a class with `learn` and `scores` in a file of its own, a row in ``cards.yaml`` and one in
`trained.METHODS` is not needed: its weights carry the method's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
import xarray as xr

from torchspectral.classification.baselines.held_out import held_out_figures, told
from torchspectral.classification.spectral_angle import MOST_CLASSES, class_colours
from torchspectral.classification.tuned.derived import entropy_share
from torchspectral.engine.method import BandRule, Input, Method, Output, Scope, Size, Source, State, Tile
from torchspectral.errors import BadInput, BadWeights, BandMismatch, MissingDependency, missing_dependency
from torchspectral.settings import Settings, setting
from torchspectral.weights.card import WeightsCard, slug

CHUNK = 8192
"""Pixels that are classified at once."""
WIDEST = 1 << 24
"""Columns of a scene, at most."""
SIDE = 32
"""Pixels a side of the groups that stay together in cross-validation: neighbours are alike."""


class BaselineSettings(Settings):
    """Settings that every baseline has."""

    most: int = setting(5000, "labelled pixels that are learnt from, drawn evenly from the classes; 0: all", ge=0)
    least_probability: float = setting(
        0.0, "pixels without a class as probable as this are unclassified (0)", ge=0, le=1
    )
    check: bool = setting(
        True,
        "also learn from part of the labels and say how many of the others are right, in blocks of ground and at random",
    )


class Baseline(Method):
    """Base of the classifiers of single spectra.

    State
    -----
    Arrays of the classifier, ``class_names``, ``class_numbers``, ``pixels`` (labelled ones behind each class), ``mean``
    and ``std`` of the bands over the labelled pixels.

    Outputs
    -------
    classes : layer, uint8
    probabilities : layers, one a class
    entropy : layer
    """

    Settings: ClassVar[type[Settings]] = BaselineSettings
    inputs = (Input("cube"), Input("labels", fit_only=True, optional=True))
    outputs = (
        Output("classes", kind="layers", names=("class",), dtype="uint8", undo_scale=False),
        Output("probabilities", kind="layers", names="=class_names", undo_scale=False),
        Output("entropy", kind="layers", names=("entropy",), undo_scale=False),
    )
    scope = Scope.PIXEL
    bands = BandRule(least=1)
    name: ClassVar[str] = ""

    def learn(self, x: np.ndarray, y: np.ndarray, groups: np.ndarray, seed: int) -> dict[str, Any]:
        """Arrays of the classifier from standardised spectra (n, bands), class indices and groups (n,)."""
        raise NotImplementedError

    def scores(self, x: torch.Tensor, state: Mapping[str, Any]) -> torch.Tensor:
        """Probabilities (n, classes) of standardised spectra (n, bands)."""
        raise NotImplementedError

    def learn_spectra(
        self, spectra: np.ndarray, labels: np.ndarray, groups: np.ndarray | None = None, seed: int = 0
    ) -> State:
        """Learn from spectra in memory.

        Parameters
        ----------
        spectra : ndarray, shape (n, bands)
        labels : ndarray of int, shape (n,)
            Class numbers from 1.
        groups : ndarray of int, shape (n,), optional
            Spectra of one group stay together in cross-validation.

        Returns
        -------
        State

        Raises
        ------
        BadInput
            Fewer than two classes, or values that are not finite.
        MissingDependency
        """
        spectra, labels = np.asarray(spectra, dtype=np.float64), np.asarray(labels).astype(np.int64)
        if not labels.size:
            raise BadInput("no labelled pixel lies on valid data, expected classes from 1 upwards: check the labels")
        if labels.min() < 1 or labels.max() > MOST_CLASSES:
            wrong = int(labels.max() if labels.max() > MOST_CLASSES else labels.min())
            raise BadInput(f"got class number {wrong}, expected 1 to {MOST_CLASSES}: labels out of range")
        if not np.isfinite(spectra).all():
            raise BadInput("a labelled spectrum has values that are not finite: leave it out")
        numbers, y = np.unique(labels, return_inverse=True)
        if numbers.size < 2:
            raise BadInput(f"all labels are of class {numbers[0]}, expected at least two classes to tell apart")
        where = np.arange(len(y)) if groups is None else np.asarray(groups)
        kept = drawn(y, self.settings.most, seed)
        spectra, y, where = spectra[kept], y[kept], where[kept]
        mean, std = spectra.mean(0), spectra.std(0)
        std = np.where(std > 1e-12 * np.abs(mean).max(initial=1e-30), std, 1.0)
        try:
            arrays = self.learn((spectra - mean) / std, y, where, seed)
        except ModuleNotFoundError as error:
            raise missing_dependency(self.name, error) or MissingDependency(str(error)) from error
        return {
            **{k: torch.as_tensor(v) if isinstance(v, np.ndarray) else v for k, v in arrays.items()},
            "mean": torch.from_numpy(mean),
            "std": torch.from_numpy(std),
            "class_numbers": [int(n) for n in numbers],
            "class_names": [f"class {n}" for n in numbers],
            "pixels": np.bincount(y, minlength=len(numbers)).tolist(),
        }

    def predict(self, spectra: np.ndarray, state: State) -> np.ndarray:
        """Probabilities (n, classes) of spectra (n, bands) in memory."""
        x = torch.as_tensor(np.asarray(spectra, dtype=np.float64))
        return self._probabilities(x, state).numpy()

    def _probabilities(self, x: torch.Tensor, state: State) -> torch.Tensor:
        mean, std = state["mean"].to(x.device), state["std"].to(x.device)
        return torch.cat([self.scores((part.double() - mean) / std, state) for part in x.split(CHUNK)])

    def fit(self, source: Source, seed: int, state: State | None) -> State:
        """Learn from the labelled pixels of the scene."""
        if state is not None and "class_numbers" in state:
            return state
        if "labels" not in next(iter(source.tiles())):
            raise BadInput(
                f"{self.name} learns from labels: give labels= (--labels FILE), or weights of an earlier fit"
            )
        parts = source.reduce(_labelled, lambda a, b: a + b)
        spectra, labels, places = (np.concatenate([p[i] for p in parts]) for i in range(3))
        order = np.argsort(places, kind="stable")  # the same samples in the same order, however the scene was cut
        spectra, labels, places = spectra[order], labels[order], places[order]
        groups = places // WIDEST // SIDE * WIDEST + places % WIDEST // SIDE
        made = self.learn_spectra(spectra, labels, groups, seed)
        names = list(source.info.names.get("labels", ()))
        found = [str(names[n]) if n < len(names) else f"class {n}" for n in made["class_numbers"]]
        made["class_names"] = found if len(set(found)) == len(found) else made["class_names"]
        if self.settings.check:
            made |= held_out_figures(self, spectra, labels, places // WIDEST, places % WIDEST, seed)
        return made

    def chosen_again(self, state: State) -> Baseline:
        """The method with what an earlier fit chose, where it chooses."""
        return self

    def apply(self, tile: Tile, state: State) -> dict[str, torch.Tensor]:
        """Classes, probabilities and entropy of one tile."""
        cube = tile["cube"]
        n, bands, rows, cols = cube.shape
        if "class_numbers" not in state or "mean" not in state:
            raise BadWeights(f"these are no weights of {self.name}")
        if len(state["mean"]) != bands:
            raise BandMismatch(f"{self.name} learnt {len(state['mean'])} bands and the scene has {bands}: resample it")
        flat = cube.movedim(1, -1).reshape(-1, bands)
        p = self._probabilities(flat, state)
        best, index = p.max(1)
        numbers = torch.as_tensor(state["class_numbers"], dtype=torch.uint8, device=cube.device)
        none = torch.zeros((), dtype=torch.uint8, device=cube.device)
        classes = torch.where(best >= self.settings.least_probability, numbers[index], none)
        entropy = torch.from_numpy(entropy_share(p.T.cpu().numpy())).to(cube.device)
        return {
            "classes": classes.reshape(n, 1, rows, cols),
            "probabilities": p.reshape(n, rows, cols, -1).movedim(-1, 1).to(cube.dtype),
            "entropy": entropy.reshape(n, 1, rows, cols).to(cube.dtype),
        }

    def finish(self, outputs: dict[str, Any], state: State) -> dict[str, Any]:
        """Names and colours; keep what was learnt for `save`."""
        self.learnt = state
        numbers = state["class_numbers"]
        names = ["unclassified", *(f"class {n}" for n in range(1, max(numbers) + 1))]
        for number, name in zip(numbers, state["class_names"], strict=True):
            names[number] = name
        if "classes" in outputs:
            outputs["classes"].attrs.update(class_names=names, class_colors=class_colours(len(names)))
        return outputs

    def save(self, path: Path | str, cube: xr.DataArray, *, overwrite: bool = False) -> Path:
        """Keep what was learnt from a scene as weights: arrays and plain values, nothing pickled."""
        from torchspectral.cube import good_bands
        from torchspectral.weights import save

        state = self.learnt
        index = good_bands(cube) if len(state["mean"]) != cube.sizes["band"] else np.arange(cube.sizes["band"])
        wave = np.asarray(cube["wavelength"].values, dtype=float)[index]
        known = bool(np.isfinite(wave).all()) and wave.size == len(state["mean"])
        card = WeightsCard(
            name=f"{self.name}.{slug(Path(path).stem).replace('.', '-')}",
            model=self.name,
            constructor={"method": self.name, "bands": len(state["mean"])},
            wavelengths=wave.tolist() if known else "any",
            quantity=cube.attrs.get("quantity", "any"),
            licence="of whoever trained it",
            trained_on=str(cube.encoding.get("source", "a cube in memory")),
            preprocessing="spectra standardised by the labelled pixels",
        )
        return save(path, state, card, overwrite=overwrite)

    def memory(self, size: Size) -> dict[str, int]:
        """Float64 copies of one chunk."""
        pixels = size.rows * size.cols
        return {"fit": pixels * size.bands * 8, "apply": pixels * (size.bands * 8 + 2000) + 64 * 2**20}

    def figures(self, state: State) -> dict[str, Any]:
        """Labelled pixels behind each class, and what the search chose."""
        found: dict[str, Any] = {"classes": dict(zip(state["class_names"], state["pixels"], strict=True))}
        found |= {k: v for k, v in state.items() if isinstance(v, (int, float, str))}
        return found | {"warnings": told(state)}


def drawn(y: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Indices of at most `most` samples, as many of each class as there are or fit; in order."""
    if not most or len(y) <= most:
        return np.arange(len(y))
    rng = np.random.default_rng([seed, 11])
    left, chosen = most, []
    counts = np.bincount(y)
    for place, c in enumerate(np.argsort(counts, kind="stable")):
        take = min(int(counts[c]), max(left // (len(counts) - place), 1))
        chosen.append(rng.choice(np.flatnonzero(y == c), take, replace=False))
        left -= take
    return np.sort(np.concatenate(chosen))


def _labelled(tile: Tile) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Spectra, class numbers and places of a tile's labelled pixels."""
    pixels = tile.core_pixels("cube")
    labels = tile.core_pixels("labels")[0].to(torch.int64)
    rows = torch.arange(tile.window.row, tile.window.row + tile.window.height, device=labels.device)
    cols = torch.arange(tile.window.col, tile.window.col + tile.window.width, device=labels.device)
    place = (rows[:, None] * WIDEST + cols[None, :])[None, None].expand(tile.valid.shape)
    places = tile.core_pixels(place)[0]
    known = labels > 0
    return [tuple(t.cpu().numpy() for t in (pixels[:, known].T, labels[known], places[known]))]  # type: ignore[list-item]


def grouped_folds(y: np.ndarray, groups: np.ndarray, folds: int, seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Cross-validation that keeps groups of ground together; classes that lie in one group train in every fold.

    Where fewer than two classes lie in two groups, folds with classes in balance.
    """
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    reach = np.array([len(np.unique(groups[y == c])) for c in range(y.max() + 1)])
    tested = np.flatnonzero((reach >= 2)[y])
    if (reach >= 2).sum() < 2:
        most = int(np.bincount(y).min())
        return list(StratifiedKFold(min(folds, most), shuffle=True, random_state=seed).split(y, y)) if most > 1 else []
    alone = np.flatnonzero((reach < 2)[y])
    cut = StratifiedGroupKFold(min(folds, int(reach[reach >= 2].min())), shuffle=True, random_state=seed)
    made = [(np.concatenate([tested[a], alone]), tested[b]) for a, b in cut.split(tested, y[tested], groups[tested])]
    return [(a, b) for a, b in made if len(np.unique(y[a])) == len(reach)]
