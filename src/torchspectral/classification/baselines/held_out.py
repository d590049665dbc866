"""How far a classifier of spectra can be trusted: labels held out in blocks of ground, and at random beside.

Neighbouring pixels are alike, so pixels that are held out at random, beside others of their field, say little about fields
that nobody labelled. Papers report them all the same; both figures side by side show what they are worth.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from torchspectral.learn.splits import balanced

SHARE = 0.25
SIDES = (32, 16, 8, 4)
ENOUGH = 24
"""Blocks with labels that are looked for before smaller ones are tried."""
MOST = 5000
"""Held-out pixels that are classified."""


def blocks_of(rows: np.ndarray, cols: np.ndarray) -> tuple[np.ndarray, int]:
    """Number of the block of each pixel, and the side of the blocks: large ones where there are enough of them."""
    for side in SIDES:
        pairs = np.column_stack([rows // side, cols // side])
        _, number = np.unique(pairs, axis=0, return_inverse=True)
        if number.max(initial=0) + 1 >= ENOUGH:
            break
    return number.reshape(-1), side


def held_out_figures(
    method: Any, spectra: np.ndarray, labels: np.ndarray, rows: np.ndarray, cols: np.ndarray, seed: int
) -> dict[str, Any]:
    """Share of held-out labels that are right, learnt from the others.

    Parameters
    ----------
    method : Baseline
    spectra : ndarray, shape (n, bands)
    labels, rows, cols : ndarray of int, shape (n,)

    Returns
    -------
    dict
        ``oa_blocks``, ``aa_blocks`` (mean over the classes that were tested), ``oa_random``, ``block`` [pixel],
        ``not_tested`` (class numbers that lie in one block only). Empty where no block can be held out.
    """
    numbers, y = np.unique(labels, return_inverse=True)
    where, side = blocks_of(rows, cols)
    counts = np.zeros((where.max(initial=0) + 1, numbers.size), dtype=np.int64)
    np.add.at(counts, (where, y), 1)
    if len(counts) < 2:
        return {}
    test = np.isin(where, sorted(balanced(counts, SHARE, seed=seed)))
    train = ~test
    test &= np.isin(y, y[train])
    if not test.any() or np.unique(y[train]).size < 2:
        return {}
    rng = np.random.default_rng([seed, 12])
    groups = rows // SIDES[0] * (cols.max() // SIDES[0] + 1) + cols // SIDES[0]
    state = method.learn_spectra(spectra[train], labels[train], groups[train], seed)
    right, seen = _right(method, state, spectra, labels, np.flatnonzero(test), rng)
    each = [right[seen == c].mean() for c in np.unique(seen)]
    chance = np.concatenate([_some(rng, np.flatnonzero(y == c), test) for c in range(numbers.size)])
    rest = np.setdiff1d(np.arange(len(y)), chance)
    quick = method.chosen_again(state)
    again = quick.learn_spectra(spectra[rest], labels[rest], groups[rest], seed)
    easy, _ = _right(quick, again, spectra, labels, chance, rng)
    return {
        "oa_blocks": float(right.mean()),
        "aa_blocks": float(np.mean(each)),
        "oa_random": float(easy.mean()),
        "block": side,
        "not_tested": [int(n) for n in numbers[~np.isin(numbers, labels[test])]],
    }


def _some(rng: np.random.Generator, index: np.ndarray, test: np.ndarray) -> np.ndarray:
    """As many of a class's pixels as the blocks hold out."""
    count = min(int(test[index].sum()), len(index) - 1)
    return rng.choice(index, count, replace=False)


def _right(
    method: Any, state: Any, spectra: np.ndarray, labels: np.ndarray, index: np.ndarray, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Whether each of some pixels gets its class, and the classes."""
    index = index if len(index) <= MOST else rng.choice(index, MOST, replace=False)
    found = np.asarray(state["class_numbers"])[method.predict(spectra[index], state).argmax(1)]
    return found == labels[index], labels[index]


def told(state: Any) -> list[str]:
    """What the figures mean, for the report."""
    if "oa_blocks" not in state:
        return []
    side, hard, easy = state["block"], state["oa_blocks"], state["oa_random"]
    said = [
        f"of labels held out in blocks of {side} x {side} pixels {hard:.0%} are right; held out at random, beside their "
        f"neighbours, {easy:.0%} would seem to be"
        + (", which is too good: expect the first on other ground" if easy > hard + 0.02 else "")
    ]
    names = dict(zip(state["class_numbers"], state["class_names"], strict=True))
    missing = [str(names[n]) for n in state["not_tested"] if n in names]
    return said + ([f"not tested, for they lie in one block: {', '.join(missing)}"] if missing else [])
