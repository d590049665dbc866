"""What the training patches tell before the first step: statistics, class weights, neighbours, features to reuse."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from torchspectral.classification.tuned.network import DENSE, BackboneClassifier
from torchspectral.errors import BadInput, BadSettings
from torchspectral.learn.splits import HELD_OUT, TRAIN
from torchspectral.log import get_logger

BATCH = 4
SAMPLED = 64
"""Pixels of a patch whose values settle the limits on the card."""


@dataclass
class Studies:
    """Findings of `study_patches`.

    Attributes
    ----------
    mean, std : Tensor (bands,)
        In physical units.
    how : str
        Where they are from.
    limits : tuple of float
        0.1 and 99.9 percent of the values.
    weights : Tensor (classes,)
        Of the classes in the loss.
    bank : (Tensor, Tensor) or None
        Labelled features and their classes, for neighbours.
    features : dict of str to list
        For each part the features of each patch, where they are reused; else empty.
    notes : list of str
    """

    mean: torch.Tensor
    std: torch.Tensor
    how: str
    limits: tuple[float, float]
    weights: torch.Tensor
    bank: tuple[torch.Tensor, torch.Tensor] | None = None
    features: dict[str, list[list[np.ndarray]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def give(self, network: BackboneClassifier) -> None:
        """Put statistics and neighbours into a network."""
        network.mean.copy_(self.mean)
        network.std.copy_(self.std)
        if self.bank is not None:
            head: Any = network.head
            head.fill(*self.bank)


def study_patches(recipe: Any, store: Any) -> Studies:
    """Look through the patches of a store.

    Parameters
    ----------
    recipe : BackboneRecipe
    store : PatchStore

    Raises
    ------
    BadInput
        Fewer than two classes train.
    """
    s = recipe.settings
    bands = len(recipe.data.index)
    sums, squares, count = np.zeros(bands), np.zeros(bands), 0.0
    drawn: list[np.ndarray] = []
    rng = np.random.default_rng([5, 1])
    counts = {part: np.zeros(len(recipe.data.classes.numbers)) for part in (TRAIN, HELD_OUT)}
    for part in (TRAIN, HELD_OUT):
        for batch in _batches(store, part):
            counts[part] += _classes_in(recipe, batch)
            if part == HELD_OUT:
                continue
            image = batch["image"].double().movedim(1, 0).flatten(1).numpy()
            seen = batch["valid"].flatten().numpy() > 0 if "valid" in batch else np.ones(image.shape[1], dtype=bool)
            values = image[:, seen]
            sums += values.sum(1)
            squares += np.square(values).sum(1)
            count += values.shape[1]
            if values.shape[1]:
                drawn.append(values[:, rng.integers(values.shape[1], size=SAMPLED)].astype(np.float32))
    if not count:
        raise BadInput("the training patches hold no valid pixel: nothing to learn from")
    notes = _told(recipe, counts)
    limits = np.percentile(np.concatenate(drawn, axis=1), (0.1, 99.9))
    mean, std, how = _statistics(recipe, sums / count, np.sqrt(np.maximum(squares / count - (sums / count) ** 2, 0)))
    made = Studies(
        torch.from_numpy(mean).float(),
        torch.from_numpy(std).float(),
        how,
        (float(limits[0]), float(limits[1])),
        _weights(counts[TRAIN], s.class_weights),
        notes=notes,
    )
    frozen = s.tuning in ("linear", "knn") or (s.tuning == "frozen" and not s.unfrozen)
    if s.tuning == "knn" or (frozen and s.reuse):
        _encode(recipe, store, made)
    return made


def _batches(store: Any, part: str) -> Iterator[dict[str, torch.Tensor]]:
    for start in range(0, store.count(part), BATCH):
        samples = [store.sample(part, i) for i in range(start, min(start + BATCH, store.count(part)))]
        yield {role: torch.from_numpy(np.stack([x[role] for x in samples])) for role in samples[0]}


def _classes_in(recipe: Any, batch: dict[str, torch.Tensor]) -> np.ndarray:
    truth = recipe.truth(batch).numpy()
    count = len(recipe.data.classes.numbers)
    if recipe.settings.task == "multilabel":
        return np.asarray(truth.sum(0), dtype=float)
    known = truth[truth >= 0].astype(np.int64)
    if known.size and known.max() >= count:
        raise BadInput(f"got the class {known.max()}, expected 0 to {count - 1}: labels out of range")
    return np.bincount(known, minlength=count).astype(float)


def _told(recipe: Any, counts: dict[str, np.ndarray]) -> list[str]:
    """What is to be said of classes that one part lacks."""
    names = np.asarray(recipe.data.classes.names, dtype=object)
    here, there = counts[TRAIN] > 0, counts[HELD_OUT] > 0
    if here.sum() < 2:
        raise BadInput(
            f"the training part has labels of {int(here.sum())} class, expected at least two: label more places, or "
            "choose another seed or smaller blocks (block=)"
        )
    said = []
    if (here & ~there).any():
        said.append(f"not tested, for all labels lie in the training part: {', '.join(names[here & ~there])}")
    if (~here & there).any():
        said.append(f"not learnt, for all labels lie in the held-out part: {', '.join(names[~here & there])}")
    for line in said:
        get_logger("classification").warning("%s", line)
    return said


def _statistics(recipe: Any, mean: np.ndarray, std: np.ndarray) -> tuple[np.ndarray, np.ndarray, str]:
    wanted = recipe.settings.statistics
    if wanted != "train" and (sensor := recipe.data.sensor_of_weights(must=wanted == "weights")) is not None:
        return (
            np.array(sensor[0]),
            np.array(sensor[1]),
            "standardised as this sensor was when the weights learnt from it",
        )
    card = recipe.data.start.card if recipe.data.start is not None else None
    own = card is not None and None not in (card.mean, card.std) and len(card.mean or ()) == len(mean)
    if wanted == "weights" and not own:
        raise BadSettings("got statistics=weights, but their card has no mean and std of these bands: choose train")
    if card is not None and own and wanted != "train":
        gain, offset = (np.asarray(v, dtype=float) for v in (card.scale.gain, card.scale.offset))
        return np.array(card.mean) * gain + offset, np.array(card.std) * gain, "standardised as the weights were"
    # A constant band stays constant instead of becoming infinite.
    return mean, np.where(std > 0, std, 1.0), "standardised by the training patches"


def _weights(counts: np.ndarray, rule: str) -> torch.Tensor:
    """Median frequency over each class's own (Eigen, Fergus, ICCV 2015); 1 for classes without labels."""
    seen = counts > 0
    if rule == "none":
        return torch.ones(len(counts))
    found = np.where(seen, np.median(counts[seen]) / np.maximum(counts, 1), 1.0)
    return torch.from_numpy(found).float()


def _encode(recipe: Any, store: Any, made: Studies) -> None:
    """Features of all patches by the frozen backbone: for the bank, and to be reused where they fit in the cache."""
    s = recipe.settings
    network = recipe.fresh().eval()
    network.mean.copy_(made.mean)
    network.std.copy_(made.std)
    kept: dict[str, list[list[np.ndarray]]] = {TRAIN: [], HELD_OUT: []}
    size, most = 0, s.cache << 20
    rows: list[tuple[torch.Tensor, torch.Tensor]] = []
    share = max(s.bank // len(recipe.data.classes.numbers), 1)
    reuse = s.reuse
    if reuse and _bytes(network, recipe, store) > most:
        reuse = False
        made.notes.append(f"features of all patches take more than cache={s.cache} MiB and are computed anew each step")
    parts = (TRAIN, HELD_OUT) if reuse else (TRAIN,) if s.tuning == "knn" else ()
    with torch.no_grad():
        for part in parts:
            for batch in _batches(store, part):
                features = _features(network, batch)
                if s.tuning == "knn" and part == TRAIN:
                    rows.append(_labelled(network, recipe, features, batch, share))
                for n in range(len(batch["image"])) if reuse else ():
                    kept[part].append([f[n].contiguous().numpy() for f in features])
                    size += sum(f[n].numel() * 4 for f in features)
    if reuse:
        made.features = kept
    if s.tuning == "knn":
        made.bank = _bank(rows, len(recipe.data.classes.numbers), share)


def _features(network: BackboneClassifier, batch: dict[str, torch.Tensor]) -> list[torch.Tensor]:
    pairs = [("image", "valid")] + ([("later", "later_valid")] if network.task == "change" else [])
    maps = [network.encode(*network._padded(batch[a], batch.get(b, batch.get("valid")))) for a, b in pairs]
    return maps[0] if len(maps) == 1 else [b - a for a, b in zip(*maps, strict=True)]


def _bytes(network: BackboneClassifier, recipe: Any, store: Any) -> int:
    with torch.no_grad():
        one = {role: torch.from_numpy(np.asarray(a))[None] for role, a in store.sample(TRAIN, 0).items()}
        each = sum(f.numel() * 4 for f in _features(network, one))
    return each * (store.count(TRAIN) + store.count(HELD_OUT))


def _labelled(
    network: BackboneClassifier, recipe: Any, features: list[torch.Tensor], batch: dict[str, torch.Tensor], share: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of labelled places, at most `share` a class and batch, evenly thinned."""
    truth = recipe.truth(batch)
    if network.task in DENSE:
        rows, cols = truth.shape[-2:]
        wide = torch.nn.functional.interpolate(
            features[-1], size=(network._side(rows), network._side(cols)), mode="bilinear", align_corners=False
        )
        flat = wide[..., :rows, :cols].movedim(1, -1).reshape(-1, wide.shape[1])
    else:
        flat = features[0][:, :, 0, 0]
    marks = truth.reshape(-1).long()
    chosen = [_thinned((marks == c).nonzero()[:, 0], share) for c in range(network.classes)]
    index = torch.cat(chosen)
    return flat[index], marks[index]


def _bank(rows: list[tuple[torch.Tensor, torch.Tensor]], classes: int, share: int) -> tuple[torch.Tensor, torch.Tensor]:
    features, labels = (torch.cat([r[i] for r in rows]) for i in (0, 1))
    index = torch.cat([_thinned((labels == c).nonzero()[:, 0], share) for c in range(classes)])
    return features[index], labels[index]


def _thinned(index: torch.Tensor, most: int) -> torch.Tensor:
    if len(index) <= most:
        return index
    return index[torch.linspace(0, len(index) - 1, most).round().long()]
